"""Under load, `hl up` needs as many PostgreSQL connections as docs/operations/connections.md says. A backup runs concurrently."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import psycopg
import pytest
import requests

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.embedded import embedded_url
from hl_pipeline_tests.cli import run_program
from hl_pipeline_tests.processes import PROJECT, users_environment, wait_until
from hl_pipeline_tests.servers.s3 import REGION, S3Server
from hl_pipeline_tests.services import launch_backfill, look_at_backfill, up_in

pytestmark = [pytest.mark.waits, pytest.mark.slow]
DAYS = [date(2026, 3, 14), date(2026, 3, 15)]
_CLIENTS, _RUNS = 32, 2
_SESSIONS = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> 'test' GROUP BY 1
"""
_GROUPS = {
    "API worker": r"hl api",
    "webserver": r"dagster in dagster-webserver",
    "daemon": r"dagster in dagster-daemon",
    "code servers and runs, for Dagster": r"dagster in (dagster|__main__\.py|python.*|-c|-m)",
    "runs, for the data": r"hl (migrate|raw_|fills|statistics|twap|whole|spending).*",
    "`hl up`": r"dagster in hl|hl up|hl|",
    "sensors and schedules": r"hl (sensor|reconcile|fresh|thin runs)",
}


def _group(name: str) -> str:
    return next((group for group, pattern in _GROUPS.items() if re.fullmatch(pattern, name)), f"other: {name!r}")


class _Meter:
    """The most sessions of each group, and of all together, seen at one moment."""

    def __init__(self, url: str) -> None:
        self.most: Counter[str] = Counter()
        self._url, self._stop = url, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with psycopg.connect(self._url, autocommit=True, application_name="test") as connection:
            while not self._stop.wait(0.05):
                now: Counter[str] = Counter()
                for name, count in connection.execute(_SESSIONS):
                    now[_group(name)] += count
                now["all"] = now.total()
                self.most |= now


def _stated() -> dict[str, int]:
    """The bounds of the table in docs/operations/connections.md, with the default settings."""
    text = (PROJECT / "docs" / "operations" / "connections.md").read_text()
    [section] = re.findall(r"^## How many connections\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    return {
        name.strip(): int(most) for name, most in re.findall(r"^\| ([^|]+?) \| [^|]+ \| (\d+) \| \d+ \|$", section, re.MULTILINE)
    }


def test_connections_stay_within_the_stated_numbers(directory: Path, s3: S3Server) -> None:
    made = write_sample(directory / "sample", first_day=DAYS[0], days=2, fills_per_hour=60).node_data_dir
    bucket = f"connections-{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    for path in made.rglob("*.lz4"):
        s3.client().put_object(Bucket=bucket, Key=str(path.relative_to(made)), Body=path.read_bytes())
    settings = {
        "HL_NODE_DATA_URL": f"s3://{bucket}",
        "HL_TWAP_DATA_URL": "none",
        "HL_S3_BUDGET_USD": "1000",
        "HL_RUNS_AT_ONCE": str(_RUNS),
        "HL_SENSOR_SECONDS": "30",
    }
    stop = threading.Event()

    def ask(api: str) -> set[int]:
        statuses: set[int] = set()
        with requests.Session() as session:
            while not stop.wait(0.1):
                asked = {"coin": "BTC", "start": str(DAYS[0]), "end": str(DAYS[1])}
                statuses.add(session.get(f"{api}/api/v1/fills", params=asked, timeout=60).status_code)
                statuses.add(session.get(f"{api}/api/v1/fills", params=asked | {"format": "csv"}, timeout=60).status_code)
        return statuses

    with up_in(directory, s3.environment, (), None, **settings) as up:
        with _Meter(embedded_url(up.home)) as meter, ThreadPoolExecutor(_CLIENTS) as threads:
            asking = [threads.submit(ask, up.api) for _ in range(_CLIENTS)]
            try:
                backfill = launch_backfill(up.ui, [str(day) for day in DAYS])
                ended = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED"}
                wait_until(lambda: look_at_backfill(up.ui, backfill)["status"] in ended, 240, "the backfill ends")
            finally:
                stop.set()
            assert {code for one in asking for code in one.result()} <= {200, 404, 503}
        # It does not stand in the way of a backup, but of a restore.
        done = run_program(directory, users_environment(**s3.environment), "backup", "backups")
        assert done.returncode == 0, done.stderr
        [backup] = (directory / "backups").iterdir()
        done = run_program(directory, users_environment(**s3.environment), "restore", str(backup), "--overwrite")
        assert done.returncode == 1
        assert "other programs are connected to the database: " in done.stderr
    print(f"\nmost connections seen at once: {dict(meter.most)}; load {os.getloadavg()}")  # noqa: T201 - for the docs

    stated = _stated()
    assert set(meter.most) <= set(stated), meter.most
    assert {group: count for group, count in meter.most.items() if count > stated[group]} == {}
    assert meter.most["API worker"] >= 6
    assert meter.most["runs, for the data"] >= 8
