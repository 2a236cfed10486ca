"""HL_LOG_FORMAT=json: every line of every program is a JSON object that says when, where and what for."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from hl_pipeline.ops.json_lines import as_json_line
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.api import serving, serving_process

_DAY = "2026-03-15"
_RUN = "48435549-6490-4428-b73b-81a7f400f1ba"
_CRASH = "/api/v1/candles?coin=SOL&start=2025-11-03&end=2025-11-03"


def _lines(text: str) -> list[dict[str, Any]]:
    """Return the objects of a log. Fails on a line that is none, or lacks what every line has."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "message"} <= {*line}
        assert line["time"].endswith("Z")
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
    return lines


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (
            f"2026-11-28 05:21:28 +0200 - dagster - ERROR - ingest_days - {_RUN} - 20125 - fills - STEP_FAILURE - it failed",
            {"time": "2026-11-28T03:21:28.000Z", "level": "ERROR", "logger": "dagster", "run_id": _RUN},
        ),
        (
            f"2026-11-28 05:21:28 +0000 - dagster - INFO - days - {_RUN} - raw_fills - object_fetched day={_DAY} key=a/0.lz4",
            {"run_id": _RUN, "day": _DAY, "object": "a/0.lz4"},
        ),
        ('ERROR:    [Errno 98] "address" in use', {"level": "ERROR", "message": '[Errno 98] "address" in use'}),
        ("error: no database", {"level": "ERROR", "message": "no database"}),
        ('  File "x.py", line 3', {"level": "INFO", "logger": "daemon", "message": '  File "x.py", line 3'}),
        ('{"a": 1}', {"level": "INFO", "message": '{"a": 1}'}),
        ('{"level": "WARNING", "time": "t", "logger": "api"}', {"level": "WARNING", "time": "t", "logger": "api"}),
    ],
)
def test_whatever_a_service_prints_becomes_one_object(printed: str, expected: dict[str, str]) -> None:
    line = as_json_line("daemon", printed)
    assert "\n" not in line
    assert json.loads(line).items() >= {**expected, "service": "daemon"}.items()


def test_an_ingest_that_fails_writes_json_with_its_day_and_run(world: World, tmp_path: Path) -> None:
    environment = world.environment | {"HL_LOG_FORMAT": "json", "HL_NODE_DATA_URL": "/nowhere", "HL_WRONG": "1"}
    done = run_in_process(tmp_path, environment, "ingest", "--from", _DAY, "--to", _DAY)
    assert done.returncode == 1
    lines = _lines(done.stderr)
    assert any(line["level"] == "WARNING" and "HL_WRONG is not a setting" in line["message"] for line in lines)
    wrong = run_in_process(tmp_path, environment, "ingest", "--no-such-option")
    [line] = _lines(wrong.stderr)
    assert (wrong.returncode, line["level"]) == (2, "ERROR")
    assert "no-such-option" in line["message"]
    # The next command in this process is told nothing of it.
    assert run_in_process(tmp_path, world.environment, "ingest", "--no-such-option").stderr.startswith("error: ")


@pytest.mark.slow
def test_the_events_of_an_ingest_name_day_object_and_run(world: World, tmp_path: Path) -> None:
    bucket = write_sample(tmp_path / "sample", first_day=datetime.fromisoformat(_DAY).date(), days=1, fills_per_hour=20)
    environment = world.environment | {"HL_LOG_FORMAT": "json", "HL_NODE_DATA_URL": str(bucket.node_data_dir)}
    done = run_in_process(tmp_path, environment, "ingest", "--from", _DAY, "--to", _DAY)
    assert done.returncode == 0, done.stderr
    events = [line for line in _lines(done.stderr) if "event" in line]
    objects = {line["object"] for line in events if line["event"] == "object_fetched"}
    assert objects == {str(path.relative_to(bucket.node_data_dir)) for path in bucket.node_data_dir.rglob("*.lz4")}
    [run] = {line["run_id"] for line in events}
    assert len(run) == 36
    assert {line["day"] for line in events if "day" in line} <= {_DAY, "2026-03-16"}


def test_every_answer_has_a_request_id_and_a_sane_one_is_kept(database_url: str) -> None:
    with serving(database_url) as api:
        for given, kept in [
            ("a-Proxy.1_2", True),
            ("x" * 64, True),
            ("x" * 65, False),
            ("a b", False),
            ('a"', False),
            ("", False),
        ]:
            answer = requests.get(f"{api.url}/healthz", headers={"X-Request-ID": given}, timeout=10)
            assert (answer.headers["X-Request-ID"] == given) == kept
        ids = {requests.get(f"{api.url}/none", timeout=10).headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3


def test_the_log_of_the_api_is_json_with_the_id_of_each_request(database_url: str, tmp_path: Path) -> None:
    with connect(database_url, "test") as connection:
        connection.execute("ALTER TABLE hl.candles ALTER COLUMN open TYPE boolean USING true")
    with serving_process(database_url, tmp_path, HL_LOG_FORMAT="json") as api:
        for path in ("/healthz", "/none?wallet=0xab", "/api/v1/fills", _CRASH):
            answer = requests.get(f"{api.url}{path}", headers={"X-Request-ID": f"id{path.count('/')}-{len(path)}"}, timeout=10)
            assert answer.headers["X-Request-ID"] == f"id{path.count('/')}-{len(path)}"
        wait_until(lambda: "Traceback" in api.program.output, 10, "uvicorn logs the error, after the answer")
        lines = _lines(api.program.output)
    asked = {(line["path"], line["status"], line["request_id"]) for line in lines if line.get("event") == "request_answered"}
    crash = f"id3-{len(_CRASH)}"
    assert {("/none", 404, "id1-17"), ("/api/v1/fills", 422, "id3-13"), ("/api/v1/candles", 500, crash)} <= asked
    [traceback] = [line for line in lines if "Traceback" in line.get("error", "")]
    assert (traceback["level"], traceback["request_id"], traceback["logger"]) == ("ERROR", crash, "uvicorn.error")
    [said] = [line for line in lines if line["message"].startswith("internal error")]
    assert said["request_id"] == crash
