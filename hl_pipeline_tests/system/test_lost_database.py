"""The database's directory is deleted during a load: a backup and the lake bring everything back."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hl_pipeline.sample.generate import Sample, write_sample
from hl_pipeline.warehouse.embedded import embedded_url, hold
from hl_pipeline_tests.cli import Done, run_in_process
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.log_events import at_event
from hl_pipeline_tests.naive.fills import event_day, expected_fill, in_order, read_bucket, stored_fills, without
from hl_pipeline_tests.servers.s3 import REGION, S3Server
from hl_pipeline_tests.tools.compare_database import compare_databases

pytestmark = pytest.mark.slow
DAYS = [date(2026, 3, 14), date(2026, 3, 15), date(2026, 3, 16), date(2026, 3, 17)]
_HOLE = "node_fills_by_block/hourly/20260314/10.lz4"
_SPENT = "SELECT id, method, key, status, bytes, dollars FROM hl.s3_requests ORDER BY id"
_ACKNOWLEDGED = "SELECT source, object_date, object_hour, note, at FROM hl.acknowledged"
_RUNS = "SELECT run_id, status, partition, create_timestamp FROM runs ORDER BY id"
_MATERIALIZED = (
    "SELECT id, run_id, asset_key, partition FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY id"
)
_SAME = {f"hl.{table}" for table in ("fills", "candles", "daily_stats", "user_stats", "builder_stats", "twap_statuses", "twaps")}
Hl = Callable[..., Done]


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """Four days, of the first of which an object is missing for ever."""
    made = write_sample(tmp_path / "sample", first_day=DAYS[0], days=4, fills_per_hour=25)
    (made.node_data_dir / _HOLE).unlink()
    return made


@pytest.fixture
def hl(sample: Sample, directory: Path, s3: S3Server) -> Hl:
    """The command line of an installation with the embedded server, which pays for its objects."""
    bucket = f"lost-{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    for path in sample.node_data_dir.rglob("*.lz4"):
        key = str(path.relative_to(sample.node_data_dir))
        s3.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())

    def run(*words: str, **environment: str) -> Done:
        installation = {
            "HL_HOME": str(directory / "home"),
            "HL_NODE_DATA_URL": f"s3://{bucket}",
            "HL_TWAP_DATA_URL": str(sample.node_data_dir.parent / "artemis-hyperliquid-data" / "raw" / "twap_statuses"),
            "HL_S3_BUDGET_USD": "1000",
        }
        return run_in_process(directory, {**os.environ, **s3.environment, **installation, **environment}, *words)

    return run


def _ask(home: Path, query: str, database: str = "hl") -> list[tuple[Any, ...]]:
    with hold(home), psycopg.connect(embedded_url(home, database), options="-c timezone=UTC") as connection:
        return connection.execute(query.encode()).fetchall()


def _lose(home: Path) -> None:
    """What a dead disk does."""
    os.kill(int((home / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    (home / "postgres").rename(home / "gone")
    shutil.rmtree(home / "gone", ignore_errors=True)


def _span(first: date, last: date) -> list[str]:
    return ["--from", str(first), "--to", str(last)]


def test_a_database_lost_in_the_midst_of_a_load_comes_back_from_backup_and_lake(
    hl: Hl, sample: Sample, directory: Path, new_database: NewDatabase
) -> None:
    home = directory / "home"
    assert hl("ingest", *_span(DAYS[0], DAYS[1])).returncode == 3
    note = ["--source", "node_fills_by_block", *_span(DAYS[0], DAYS[0]), "--hour", "10", "--note", "the node was down"]
    assert hl("acknowledge", *note).returncode == 0
    kept = {query: _ask(home, query) for query in (_SPENT, _ACKNOWLEDGED)}
    history = {query: _ask(home, query, "hl_dagster") for query in (_RUNS, _MATERIALIZED)}
    assert len(kept[_SPENT]) > 48
    assert len(history[_RUNS]) == 2

    done = hl("backup", "backups")

    assert done.returncode == 0, done.stderr
    [backup] = (directory / "backups").iterdir()
    assert hl("ingest", *_span(DAYS[2], DAYS[2])).returncode == 0
    with at_event("hour_copied", lambda: _lose(home), count=5):
        lost = hl("ingest", *_span(DAYS[3], DAYS[3]))
    assert lost.returncode == 1
    assert "the database became unreachable during the run; finished work is kept, so run the same command again" in lost.stderr
    assert "Traceback" not in lost.stdout + lost.stderr

    done = hl("restore", str(backup))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 days were loaded: 2026-03-14 to 2026-03-15" in done.stdout
    for query, rows in kept.items():
        assert _ask(home, query) == rows
    for query, rows in history.items():
        assert _ask(home, query, "hl_dagster") == rows
    assert "load again 2026-03-14: restored from a backup" in " ".join(hl("status").stdout.split())

    assert hl("rebuild").returncode == 3
    again = hl("ingest", *_span(DAYS[0], DAYS[3]))

    assert again.returncode == 3, again.stdout + again.stderr
    every = [expected_fill(block, user, fill) for block, user, fill in read_bucket(sample.node_data_dir)]
    undisturbed = new_database("template0")
    assert hl("ingest", *_span(DAYS[0], DAYS[3]), HL_DATABASE_URL=undisturbed, HL_LAKE_URL="other").returncode == 3
    with hold(home) as url:
        assert in_order(without(stored_fills(url), "date")) == in_order([fill for fill in every if event_day(fill) in DAYS])
        compared = [part for part in compare_databases(url, undisturbed, 3) if part.group in _SAME]
        assert [(part.group, what) for part in compared for what in part.differences] == []
        assert {part.group for part in compared} == _SAME
        # Nothing that was in the lake was paid for again.
        gets = [key for (_, method, key, *_) in _ask(home, _SPENT) if method == "GET"]
        assert len(gets) == len(set(gets))
    assert _ask(home, _ACKNOWLEDGED) == kept[_ACKNOWLEDGED]
    assert _ask(home, "SELECT count(*) FROM hl.dirty_days") == [(0,)]
