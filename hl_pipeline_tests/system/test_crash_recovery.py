"""`hl up` after SIGKILL and after a power loss: leftover runs are ended, reported and repeated."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import psycopg
import pytest

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.embedded import embedded_url
from hl_pipeline_tests.marked_secrets import SECRET
from hl_pipeline_tests.processes import (
    free_port,
    program,
    started,
    still_there,
    users_environment,
    wait_until,
)
from hl_pipeline_tests.services import Up, processes_of, up_in

pytestmark = [pytest.mark.waits, pytest.mark.slow]

_DAY = date(2025, 9, 1)
_RUNS = """
SELECT r.status, coalesce(o.value, 'the UI'), n.value
FROM runs r
LEFT JOIN run_tags o ON o.run_id = r.run_id AND o.key = 'hl/started_by'
LEFT JOIN run_tags n ON n.run_id = r.run_id AND n.key = 'dagster/retry_number'
ORDER BY r.id
"""
_SAID = "SELECT event FROM event_logs WHERE dagster_event_type = 'PIPELINE_FAILURE' ORDER BY id"


def _runs(up: Up) -> list[tuple[str, str, str | None]]:
    """Each run's status, who started it, and which attempt it is of one that was tried again."""
    with psycopg.connect(embedded_url(up.home, "hl_dagster")) as connection:
        return connection.execute(_RUNS).fetchall()


def _why_failed(up: Up) -> list[str]:
    with psycopg.connect(embedded_url(up.home, "hl_dagster")) as connection:
        return [json.loads(event)["dagster_event"]["message"] for (event,) in connection.execute(_SAID)]


def test_runs_cut_off_by_a_kill_or_power_loss_fail_with_a_reason_and_are_done_again(directory: Path) -> None:
    sample = write_sample(directory / "sample", first_day=_DAY, days=1, fills_per_hour=100)
    ports = (free_port(), free_port())
    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as killed:
        silent.settimeout(90)
        endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        s3 = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": SECRET} | endpoint
        up = killed.enter_context(up_in(directory, s3, ports=ports, HL_NODE_DATA_URL="s3://bucket"))
        up.ui.launch("ingest_days", str(_DAY))
        # The run has asked for something, and never gets an answer.
        killed.enter_context(silent.accept()[0])
        before = [process for process in processes_of(up.home) if "python" in process.name()]
        up.program.process.kill()
        up.program.process.wait()
        assert still_there(before) == before

        up = killed.enter_context(up_in(directory, s3, ports=ports, HL_NODE_DATA_URL="s3://bucket"))
        assert "stopping processes left by a killed hl up: webserver, daemon, api" in up.program.output
        assert not still_there(before)
        killed.enter_context(silent.accept()[0])
        assert _runs(up) == [("FAILURE", "the UI", None), ("STARTED", "the UI", "1")]
        ingest = [program("hl"), "ingest", "--from", "2025-09-02", "--to", "2025-09-02"]
        killed.enter_context(started(ingest, users_environment(**s3), directory, directory / "ingest.log"))
        killed.enter_context(silent.accept()[0])
        _lose_power(up)

    with up_in(directory, ports=ports, HL_NODE_DATA_URL=str(sample.node_data_dir), HL_TWAP_DATA_URL="none") as up:
        wait_until(lambda: _runs(up)[-1][::2] == ("SUCCESS", "2"), 90, "the day is done at the third attempt")
        assert _runs(up) == [
            ("FAILURE", "the UI", None),
            ("FAILURE", "the UI", "1"),
            ("FAILURE", "hl ingest", None),
            ("SUCCESS", "the UI", "2"),
        ]
        interrupted, *dead = _why_failed(up)
        assert "interrupted" in interrupted
        assert len(dead) == 2
        assert all("is gone without a result: it was killed, or the machine lost power" in why for why in dead)
        rows = json.loads((sample.truth_dir / "days.json").read_text())["days"][str(_DAY)]["rows"]
        with psycopg.connect(embedded_url(up.home)) as connection:
            assert connection.execute("SELECT date, rows FROM hl.fills_days").fetchall() == [(_DAY, rows)]


def _lose_power(up: Up) -> None:
    """Nothing of the installation gets to say a word."""
    working = processes_of(up.home)
    for process in working:
        process.suspend()
    for process in working:
        process.kill()
    wait_until(lambda: not still_there(working), 10, "everything is gone")
