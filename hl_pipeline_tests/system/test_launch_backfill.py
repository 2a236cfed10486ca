"""`hl up --backfill-from`: days are queued, run concurrently up to a limit, and survive a SIGKILL of the daemon."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import psutil
import psycopg
import pytest

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.embedded import embedded_url
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.processes import free_port, users_environment, wait_until
from hl_pipeline_tests.services import Up, up_in

_FIRST = date(2025, 9, 1)
_DAYS = int(os.environ.get("BACKFILL_TEST_DAYS", "4"))
_AT_ONCE = 3
_RUNS = """
SELECT t.value, r.status, r.start_time, r.end_time FROM runs r JOIN run_tags t USING (run_id) WHERE t.key = 'dagster/partition'
"""
_SUMS = "SELECT time::date, coin, wallet, count(*), sum(sz), sum(fee) FROM hl.fills GROUP BY 1, 2, 3"


def _loaded(up: Up) -> int:
    with psycopg.connect(embedded_url(up.home)) as connection:
        row = connection.execute("SELECT count(*) FROM hl.fills_days").fetchone()
    assert row is not None
    return row[0]


def _runs(up: Up) -> list[tuple[str, str, float, float]]:
    """Each run's day, status, start and end in seconds since 1970."""
    with psycopg.connect(embedded_url(up.home, "hl_dagster")) as connection:
        return connection.execute(_RUNS).fetchall()


def _in_work(up: Up) -> set[str]:
    return {status for _, status, _, _ in _runs(up)} & {"STARTING", "STARTED"}


def _backfills(up: Up) -> list[str]:
    with psycopg.connect(embedded_url(up.home, "hl_dagster")) as connection:
        return [status for (status,) in connection.execute("SELECT status FROM bulk_actions").fetchall()]


@pytest.mark.waits
@pytest.mark.slow
def test_a_span_is_filled_once_by_so_many_runs_at_once_though_the_daemon_is_killed(directory: Path) -> None:
    sample = write_sample(directory / "sample", first_day=_FIRST, days=_DAYS, fills_per_hour=40)
    last = _FIRST + timedelta(days=_DAYS - 1)
    span = ("--backfill-from", str(_FIRST), "--backfill-to", str(last))
    settings = {"HL_NODE_DATA_URL": str(sample.node_data_dir), "HL_TWAP_DATA_URL": "none", "HL_RUNS_AT_ONCE": str(_AT_ONCE)}
    ports = (free_port(), free_port())
    with ExitStack() as killed:
        up = killed.enter_context(up_in(directory, None, span, ports, **settings))
        wait_until(
            lambda: f"{_DAYS} days, {_FIRST} to {last}; 0 days are loaded" in up.program.output, 60, "the days are asked for"
        )
        # One that is just starting would be known to be gone after 90 s only.
        wait_until(lambda: _loaded(up) >= 1 and _in_work(up) == {"STARTED"}, 120, "a day is loaded, another one in work")
        services = psutil.Process(up.program.process.pid).children()
        next(service for service in services if "dagster-daemon" in service.cmdline()[1]).kill()
        wait_until(lambda: "daemon was killed by SIGKILL; restarting" in up.program.output, 30, "its death is noticed")
        assert up.program.interrupt(30) == 0

    with up_in(directory, None, span, ports, **settings) as up:
        wait_until(lambda: "backfill: nothing to launch" in up.program.output, 60, "nothing is asked for twice")
        wait_until(lambda: _backfills(up) != ["REQUESTED"], 150 + 30 * _DAYS, "the backfill has ended")

        runs = _runs(up)
        assert _backfills(up) == ["COMPLETED_SUCCESS"], (runs, up.program.output)
        days = [str(_FIRST + timedelta(days=n)) for n in range(_DAYS)]
        assert sorted(day for day, status, _, _ in runs if status == "SUCCESS") == days
        spans = [(start, end) for _, _, start, end in runs if start is not None]
        # Small days may be done before as many have begun.
        assert 1 < max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) <= _AT_ONCE
        _assert_the_days_equal(sample.truth_dir, embedded_url(up.home))


def _assert_the_days_equal(truth: Path, url: str) -> None:
    days = [_FIRST + timedelta(days=n) for n in range(_DAYS)]
    expected = pl.read_parquet(truth / "fills.parquet").filter(pl.col("date").is_in(days))
    rows = json.loads((truth / "days.json").read_text())["days"]
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        sums = connection.execute(_SUMS).fetchall()
        loaded = connection.execute("SELECT date, rows FROM hl.fills_days ORDER BY date").fetchall()
    assert sorted(sums) == expected.select("date", "coin", "wallet", "rows", "sz_sum", "fee_sum").sort(pl.all()).rows()
    assert loaded == [(day, rows[str(day)]["rows"]) for day in days]


def test_days_that_cannot_be_asked_for_are_refused_before_anything_starts(tmp_path: Path) -> None:
    answers = {
        ("--backfill-to", "2025-09-01"): "--backfill-to needs --backfill-from",
        ("--backfill-from", "2025-09-02", "--backfill-to", "2025-09-01"): "is before --backfill-from",
        ("--backfill-from", "2020-01-01"): "days must be from 2023-02-26 to",
        ("--backfill-from", "2025-02-30"): "is not a day like",
    }
    for options, said in answers.items():
        done = run_in_process(tmp_path, users_environment(), "up", *options)
        assert (done.returncode, said in " ".join(done.stderr.split())) == (2, True), done.stderr
    assert not [*tmp_path.iterdir()]
