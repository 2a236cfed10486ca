"""The lake is enough to rebuild the database. Days can be removed from hl.fills and restored. Disk space is checked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from dagster import DagsterInstance, ExecuteInProcessResult, materialize

from hl_pipeline.definitions import ASSETS, DERIVED, build_resources
from hl_pipeline.formats.fills import NO_FILLS
from hl_pipeline.lake.fills import read_fills_hour
from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.disk_space import NoSpaceError
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.embedded import binary
from hl_pipeline_tests.cli import Done, run_in_process, run_program
from hl_pipeline_tests.conftest import NewDatabase, World

FIRST, LAST = date(2025, 7, 26), date(2025, 7, 27)
_TABLES = (
    "hl.fills",
    "hl.candles",
    "hl.daily_stats",
    "hl.user_stats",
    "hl.builder_stats",
    "hl.fills_day_objects",
    "hl.twaps",
    "hl.twap_slice_days",
)
_LEDGER = """
SELECT object_id, object_key, etag, size_bytes, parser, rows, bad_lines, first_block, last_block, missing_blocks, fetched_at
FROM hl.s3_ingest_log ORDER BY object_id
"""
_DAYS = "SELECT date, rows, duplicates, state, explanation FROM hl.fills_days ORDER BY date"
_HOURS = """
SELECT date, hour, rows, duplicates, conflicts, repeated, trades, single_legs, crowded FROM hl.fills_hours ORDER BY date, hour
"""
_DATES = "SELECT DISTINCT (time AT TIME ZONE 'UTC')::date FROM hl.fills"
Hl = Callable[..., Done]
Bring = Callable[..., ExecuteInProcessResult]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days, the second of which two formats share; rows of the days before and after stand in their objects too."""
    return write_sample(tmp_path_factory.mktemp("two"), first_day=FIRST, days=2, fills_per_hour=80).node_data_dir


@pytest.fixture
def bring(world: World, made: Path, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Bring:
    """Materialize days of the generated bucket; with `from_lake` what needs no bucket."""
    monkeypatch.setenv("HL_NODE_DATA_URL", str(made))
    del world

    def run(*days: date, from_lake: bool = False) -> ExecuteInProcessResult:
        results = [
            materialize(
                ASSETS,
                selection=DERIVED if from_lake else ASSETS,
                partition_key=str(day),
                instance=instance,
                resources=build_resources(Settings()),
            )
            for day in days
        ]
        return results[-1]

    return run


@pytest.fixture
def hl(world: World) -> Hl:
    """The command line in that world; the bucket it has is one that nobody may ask."""

    def run(*words: str, call: Callable[..., Done] = run_in_process, **environment: str) -> Done:
        whole = {**world.environment, "HL_NODE_DATA_URL": "s3://nobody-may-ask-here", **environment}
        return call(Path.cwd(), whole, *words)

    return run


def _span(first: date = FIRST, last: date = LAST) -> list[str]:
    return ["--from", str(first), "--to", str(last)]


def _dump(url: str) -> bytes:
    """The rows of the data's tables, as pg_dump writes them."""
    tables = [word for table in _TABLES for word in ("-t", f"{table}*" if table == "hl.fills" else table)]
    without = ["-T", "hl.fills_days", "-T", "hl.fills_hours", "--restrict-key=same"]
    done = subprocess.run([binary("pg_dump"), "--data-only", *tables, *without, url], capture_output=True, check=True)
    return done.stdout


def _ask(url: str, query: str) -> list[tuple[Any, ...]]:
    with connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.mark.slow
def test_a_database_made_again_from_the_lake_alone_has_the_same_bytes(
    bring: Bring, hl: Hl, world: World, new_database: NewDatabase
) -> None:
    bring(FIRST, LAST)
    rebuilt = new_database("template0")

    done = hl("rebuild", call=run_program, HL_DATABASE_URL=rebuilt)

    assert done.returncode == 3, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [[str(FIRST), "unprovable"], [str(LAST), "unprovable"]]
    assert _dump(rebuilt) == _dump(world.database_url)
    assert len(_dump(rebuilt)) > 1_000_000
    for query in (_LEDGER, _DAYS, _HOURS):
        assert _ask(rebuilt, query) == _ask(world.database_url, query)


@pytest.mark.slow
def test_a_rebuild_of_a_full_database_changes_nothing_and_lists_gaps_of_the_lake(bring: Bring, hl: Hl, world: World) -> None:
    bring(FIRST, LAST)
    before = sorted(_dump(world.database_url).splitlines())
    with connect(world.database_url) as connection:
        connection.execute("INSERT INTO hl.fills_days (date, rows, duplicates) VALUES ('2026-01-01', 5, 0)")

    done = hl("rebuild")

    assert "1 days are in the database but not in the lake, and were left unchanged: 2026-01-01" in done.stdout
    assert sorted(_dump(world.database_url).splitlines()) == before


@pytest.mark.slow
def test_days_that_are_dropped_leave_hl_fills_and_nothing_else_and_come_back(bring: Bring, hl: Hl, world: World) -> None:
    bring(FIRST, LAST)
    before = _dump(world.database_url)
    shown_before = hl("show", "fills", "--day", str(FIRST), "--csv").stdout
    files = [*Path(world.environment["HL_LAKE_URL"]).rglob("*.parquet")]
    lake = {path: path.stat().st_mtime_ns for path in files}
    derived = [_ask(world.database_url, f"SELECT * FROM {table} ORDER BY 1, 2") for table in _TABLES[1:4]]

    assert hl("drop", *_span()).returncode == 1, "nobody has said yes"
    assert _dump(world.database_url) == before
    done = hl("drop", *_span(FIRST, FIRST), "--yes", call=run_program)

    assert done.returncode == 0, done.stderr
    assert "1 days, 2025-07-26 to 2025-07-26" in done.stdout
    assert _ask(world.database_url, _DATES) == [(LAST,)]
    assert [_ask(world.database_url, f"SELECT * FROM {table} ORDER BY 1, 2") for table in _TABLES[1:4]] == derived
    assert {path: path.stat().st_mtime_ns for path in files} == lake
    assert "only in the lake" in hl("status").stdout
    assert hl("show", "fills", "--day", str(FIRST), "--csv").stdout == shown_before

    bring(FIRST, from_lake=True)
    assert sorted(_dump(world.database_url).splitlines()) == sorted(before.splitlines())
    assert _ask(world.database_url, "SELECT count(thinned_at) FROM hl.fills_days") == [(0,)]


@pytest.mark.slow
def test_half_a_lake_is_neither_dropped_for_nor_rebuilt_from(
    bring: Bring, hl: Hl, world: World, new_database: NewDatabase
) -> None:
    bring(FIRST, LAST)
    lake = Path(world.environment["HL_LAKE_URL"])
    other = hl("drop", *_span(), "--yes", HL_LAKE_URL=str(lake.parent / "nowhere"))
    assert (other.returncode, "there is no lake in" in other.stderr) == (1, True)
    (lake.parent / "empty").mkdir()
    other = hl("drop", *_span(), "--yes", HL_LAKE_URL=str(lake.parent / "empty"))
    assert (other.returncode, "does not have 2 of those days (2025-07-26, ...): they would be lost" in other.stderr) == (1, True)
    assert _ask(world.database_url, f"SELECT count(*) FROM ({_DATES}) days") == [(2,)]
    files = sorted((lake / "fills").rglob("*.parquet"))
    (lake / "raw_fills/object_date=2025-07-26/hour=07.node_fills.parquet").unlink()

    done = hl("rebuild", *_span(FIRST, FIRST), HL_DATABASE_URL=new_database())

    assert done.returncode == 1
    assert f"1 objects with rows in {lake}/fills/date={FIRST} are missing from {lake}/raw_fills (" in " ".join(
        done.stdout.split()
    )
    assert sorted((lake / "fills").rglob("*.parquet")) == files


@pytest.mark.slow
def test_what_a_killed_load_left_goes_when_its_day_is_dropped(bring: Bring, hl: Hl, world: World) -> None:
    bring(FIRST)
    with connect(world.database_url) as connection:
        connection.execute("CREATE TABLE hl.fills_load_20250726 (LIKE hl.fills)")
    assert hl("drop", *_span(), "--yes").returncode == 0
    assert _ask(world.database_url, "SELECT relname FROM pg_class WHERE relname LIKE 'fills%2025%'") == []


@pytest.mark.slow
def test_a_lake_of_an_earlier_version_has_unknown_columns_not_none_at_all(bring: Bring, world: World) -> None:
    bring(LAST)
    before = _ask(world.database_url, "SELECT * FROM hl.daily_stats ORDER BY 1, 2")
    for path in Path(world.environment["HL_LAKE_URL"]).glob("*fills/*/*.parquet"):
        known = pq.read_metadata(path).metadata
        table = pl.read_parquet(path, hive_partitioning=False).drop("counterparty_oid").to_arrow()
        pq.write_table(table.replace_schema_metadata(known), path)

    result = bring(LAST, from_lake=True)

    assert {check.check_name for check in result.get_asset_check_evaluations() if not check.passed} == {"day_is_whole"}
    assert _ask(world.database_url, "SELECT * FROM hl.daily_stats ORDER BY 1, 2") == before


def test_what_cannot_be_dropped_or_rebuilt_is_said(hl: Hl) -> None:
    wrong = hl("drop", *_span(LAST, FIRST), "--yes")
    assert (wrong.returncode, "--to 2025-07-26 is before --from 2025-07-27" in wrong.stderr) == (2, True)
    assert "hl.fills has no rows from 2025-07-26 to 2025-07-27: nothing to do" in hl("drop", *_span(), "--yes").stdout
    done = hl("rebuild", *_span(LAST, FIRST))
    assert (done.returncode, "--to 2025-07-26 is before --from 2025-07-27" in done.stderr) == (2, True)
    done = hl("rebuild")
    assert (done.returncode, "there is no lake in" in done.stderr) == (1, True)


@pytest.mark.slow
def test_only_the_days_that_are_to_be_kept_are_in_hl_fills(bring: Bring, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(FIRST, LAST)
    rows = dict(_ask(world.database_url, "SELECT date, rows FROM hl.fills_days"))
    stats = _ask(world.database_url, "SELECT * FROM hl.user_stats ORDER BY 1, 2")
    # So many days that the second one is kept and the first one is not.
    monkeypatch.setenv("HL_FILLS_KEEP_DAYS", str((datetime.now(UTC).date() - LAST).days + 1))

    bring(LAST)

    assert _ask(world.database_url, _DATES) == [(LAST,)]
    assert _ask(world.database_url, "SELECT date FROM hl.fills_days WHERE thinned_at IS NOT NULL") == [(FIRST,)]

    # A day that is too old is loaded into the lake, not into hl.fills.
    result = bring(FIRST, from_lake=True)

    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert checks["lake_equals_database"].passed
    assert "removed from hl.fills by HL_FILLS_KEEP_DAYS" in (checks["lake_equals_database"].description or "")
    assert _ask(world.database_url, _DATES) == [(LAST,)]
    assert dict(_ask(world.database_url, "SELECT date, rows FROM hl.fills_days")) == rows
    assert _ask(world.database_url, "SELECT * FROM hl.user_stats ORDER BY 1, 2") == stats
    lake = open_lake(world.environment["HL_LAKE_URL"])
    assert sum(read_fills_hour(lake, FIRST, hour, NO_FILLS.columns).height for hour in range(24)) == rows[FIRST]


@pytest.mark.slow
def test_a_day_for_which_there_is_no_room_fails_before_anything_is_fetched(
    bring: Bring, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HL_DISK_RESERVE_GB", "1e9")
    with pytest.raises(NoSpaceError, match=r"2025-07-26 needs about 0\.0 GB at .*hl drop, HL_FILLS_KEEP_DAYS"):
        bring(FIRST)
    assert [path for path in Path(world.environment["HL_LAKE_URL"]).rglob("*") if path.is_file()] == []

    monkeypatch.setenv("HL_DISK_RESERVE_GB", "0")
    bring(FIRST)
    before = _dump(world.database_url)
    monkeypatch.setenv("HL_DISK_RESERVE_GB", "1e9")
    with pytest.raises(NoSpaceError):
        bring(FIRST, from_lake=True)
    assert _dump(world.database_url) == before
