"""A day that grows object by object equals the day loaded at once, in any order and wherever a run is killed."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from itertools import permutations
from pathlib import Path
from random import Random

import lz4.frame
import polars as pl
import psycopg
import pytest
from dagster import DagsterInstance, materialize
from pydantic import SecretStr

from hl_pipeline.definitions import ASSETS, build_resources
from hl_pipeline.events import is_event
from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import Sample, write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.fetch import fetch_day
from hl_pipeline.stages.load_fills import load_objects
from hl_pipeline.stages.raw_tables import RAW_FILLS
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.fills_partitions import LoadedDay
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.killable_runs import Death, Place, ingest, run
from hl_pipeline_tests.naive.fills import event_day, expected_fill, in_order, read_bucket, stored_fills, without
from hl_pipeline_tests.profiles import few

DAY, LEGACY_DAY = date(2026, 3, 15), date(2025, 6, 10)
START = datetime(2026, 3, 15, tzinfo=UTC)
_TABLES = (
    "fills",
    "candles",
    "daily_stats",
    "user_stats",
    "builder_stats",
    "twaps",
    "twap_slice_days",
    "fills_days",
    "fills_hours",
    "fills_day_objects",
)
_MADE_BY_THE_CLOCK_OR_A_CHECK = [
    *("loaded_at", "proven_at", "candles_at", "daily_stats_at", "user_stats_at", "builder_stats_at", "twaps_at"),
    *("repeated", "trades", "single_legs", "crowded"),
]
_MADE_AT = """
SELECT bool_and(candles_at IS NOT NULL) FROM hl.fills_hours UNION ALL
SELECT bool_and(num_nulls(candles_at, daily_stats_at, user_stats_at, builder_stats_at, twaps_at) = 0) FROM hl.fills_days
"""
Contents = tuple[dict[str, list[str]], dict[str, pl.DataFrame]]
NewPlace = Callable[..., Place]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Two hours and the beginning of a third. The second object repeats the last blocks of the first."""
    sample = write_sample(tmp_path_factory.mktemp("hours"), first_day=DAY, hours=2, fills_per_hour=400)
    first, second, _ = _objects(sample.node_data_dir)
    _rewrite(second, [*_lines(first)[-8:], *_lines(second)])
    return sample


@pytest.fixture(scope="module")
def new_place(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> NewPlace:
    """An empty bucket, lake and database for a sample."""

    def make(sample: Sample) -> Place:
        home = tmp_path_factory.mktemp("place")
        return Place(home / "bucket", home / "lake", new_database(), sample.twap_data_dir)

    return make


@pytest.fixture(scope="module")
def at_once(made: Sample, new_place: NewPlace) -> Contents:
    """What a day has that was loaded at once."""
    return _loaded_at_once(made, new_place(made))


def _loaded_at_once(sample: Sample, place: Place) -> Contents:
    for path in _objects(sample.node_data_dir):
        _put(sample, place, path)
    ingest(place, DAY)
    return _contents(place)


def _objects(bucket: Path) -> list[Path]:
    return sorted(bucket.rglob("*.lz4"), key=lambda path: (path.parent.name, int(path.stem)))


def _lines(path: Path) -> list[bytes]:
    return lz4.frame.decompress(path.read_bytes()).splitlines(keepends=True)


def _rewrite(path: Path, lines: Sequence[bytes]) -> None:
    path.write_bytes(lz4.frame.compress(b"".join(lines)))


def _put(sample: Sample, place: Place, path: Path) -> Path:
    """Lay an object of the sample into the bucket of the place, with its time: its ETag follows from that."""
    there = place.bucket / path.relative_to(sample.node_data_dir)
    there.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(path, there))


def _load(place: Place, day: date = DAY) -> LoadedDay:
    """The day's objects into the lake, and its fills."""
    lake = open_lake(str(place.lake))
    settings = Settings(database_url=SecretStr(place.database_url), lake_url=str(place.lake), node_data_url=str(place.bucket))
    with connect(place.database_url, "test") as connection:
        fetch_day(RAW_FILLS, day, lake, settings)
        return load_objects(day, lake, connection, settings)[0]


def _contents(place: Place) -> Contents:
    """Every row of the day's tables, and the lake's files of it."""
    with psycopg.connect(place.database_url, options="-c timezone=UTC") as connection:
        rows = {
            table: sorted(row[0] for row in connection.execute(f"SELECT {_columns(table)} FROM hl.{table} t".encode()))
            for table in _TABLES
        }
        assert connection.execute(_MADE_AT).fetchall() == [(True,), (True,)]
    paths = sorted([*place.lake.glob("fills/*/*"), *place.lake.glob("twap_slices/*/*")])
    return rows, {str(path.relative_to(place.lake)): pl.read_parquet(path, hive_partitioning=False) for path in paths}


def _columns(table: str) -> str:
    """A row as text; of the ledger's tables without what is different each time."""
    is_ledger = table.startswith("fills_")
    return f"(to_jsonb(t) - '{{{','.join(_MADE_BY_THE_CLOCK_OR_A_CHECK)}}}'::text[])::text" if is_ledger else "t::text"


def _assert_same(contents: Contents, expected: Contents) -> None:
    rows, files = contents
    for table in _TABLES:
        assert rows[table] == expected[0][table], table
    assert files.keys() == expected[1].keys()
    for path, frame in files.items():
        assert frame.equals(expected[1][path]), path


def _naive_fills(bucket: Path) -> list[dict[str, object]]:
    """Each fill of the day once, from the first object that has it."""
    once: dict[tuple[object, ...], dict[str, object]] = {}
    for path in _objects(bucket):
        for block, user, fill in read_bucket(bucket):
            if block["object"] == str(path.relative_to(bucket)):
                row = expected_fill(block, user, fill)
                once.setdefault((row["time"], row["coin"], row["user"], row["side"], row["tid"]), row)
    return in_order([fill for fill in once.values() if event_day(fill) == DAY])


@pytest.mark.parametrize("order", [*permutations(range(3))])
@pytest.mark.slow
def test_in_any_order_of_objects_the_day_ends_as_the_one_loaded_at_once(
    order: tuple[int, ...], made: Sample, new_place: NewPlace, at_once: Contents
) -> None:
    place = new_place(made)
    for number in order:
        _put(made, place, _objects(made.node_data_dir)[number])
        ingest(place, DAY)
    _assert_same(_contents(place), at_once)
    stored = in_order(without(stored_fills(place.database_url), "date"))
    assert stored == _naive_fills(made.node_data_dir)


@pytest.mark.slow
def test_a_day_of_25_increments_in_a_random_order_is_the_day_loaded_at_once(tmp_path: Path, new_place: NewPlace) -> None:
    sample = write_sample(tmp_path, first_day=DAY, fills_per_hour=40)
    objects = _objects(sample.node_data_dir)
    Random(3).shuffle(objects)
    place = new_place(sample)
    hours_made: list[int] = []
    for number, path in enumerate(objects):
        _put(sample, place, path)
        if number in (12, 24):
            ingest(place, DAY)
        else:
            hours_made.append(_load(place).hours_made)
    _assert_same(_contents(place), _loaded_at_once(sample, new_place(sample)))
    truth = pl.read_parquet(sample.truth_dir / "fills.parquet").filter(pl.col("date") == DAY)
    assert len(_contents(place)[0]["fills"]) == truth["rows"].sum()
    assert hours_made[0] == 24
    assert set(hours_made[1:]) == {1, 2}
    assert not [*place.lake.glob("partials/*/*/*")], "a whole day has no use for partials"


@pytest.mark.parametrize(
    "death",
    few(
        [
            pytest.param(Death("hour_copied", 2), id="in-copy"),
            pytest.param(Death("hours_appending"), id="before-the-commit"),
            pytest.param(Death("day_loaded"), id="after-the-commit"),
            pytest.param(Death("table_loaded", 2), id="between-the-statistics"),
        ],
        1,
    ),
)
def test_killed_in_an_increment_the_next_one_ends_with_the_same_rows(
    death: Death, made: Sample, new_place: NewPlace, at_once: Contents
) -> None:
    place = new_place(made)
    first, second, third = _objects(made.node_data_dir)
    _put(made, place, first)
    ingest(place, DAY)
    _put(made, place, second)
    assert run(place, DAY, death) == -9
    _put(made, place, third)
    ingest(place, DAY)
    _assert_same(_contents(place), at_once)


@pytest.mark.slow
def test_what_a_killed_increment_left_of_an_object_that_is_rewritten_then_goes(
    made: Sample, new_place: NewPlace, at_once: Contents
) -> None:
    place = new_place(made)
    first, second, third = _objects(made.node_data_dir)
    _put(made, place, first)
    _put(made, place, third)
    ingest(place, DAY)
    there = _put(made, place, second)
    lines = _lines(second)
    # A block of the hour before that no other object has: after the run that is killed it is in the lake's file of that hour.
    [(at, early)] = [(n, line) for n, line in enumerate(lines) if b"T00:59:59" in line and b'"tid"' in line][-1:]
    _rewrite(there, [*lines[:at], early.replace(b'"tid":', b'"tid":7'), *lines[at:]])
    assert run(place, DAY, Death("hours_appending")) == -9
    _put(made, place, second)
    ingest(place, DAY)
    _assert_same(_contents(place), at_once)


def test_a_reader_sees_the_day_without_the_new_hour_until_all_of_it_is_there(made: Sample, new_place: NewPlace) -> None:
    place = new_place(made)
    first, second, _ = _objects(made.node_data_dir)
    _put(made, place, first)
    before = _load(place).rows
    _put(made, place, second)
    seen: list[tuple[int, int]] = []

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if is_event(record) and record.event in ("hour_copied", "hours_appending"):
                with psycopg.connect(place.database_url) as reader:
                    row = reader.execute("SELECT count(*), (SELECT sum(rows)::int FROM hl.fills_hours) FROM hl.fills").fetchone()
                assert row is not None
                seen.append(row)

    logger, handler = logging.getLogger("hl_pipeline"), Reader()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        after = _load(place)
    finally:
        logger.removeHandler(handler)
    assert seen == [(before, before)] * 3
    assert (after.rows > before, after.hours_made) == (True, 2)


@pytest.mark.slow
def test_a_rewritten_object_replaces_the_day_though_another_is_new(made: Sample, new_place: NewPlace, at_once: Contents) -> None:
    place = new_place(made)
    first, second, third = _objects(made.node_data_dir)
    _rewrite(_put(made, place, first), _lines(first)[:-200])
    _put(made, place, second)
    _load(place)
    for path in (first, third):
        _put(made, place, path)
    assert _load(place).hours_made == 24
    ingest(place, DAY)
    _assert_same(_contents(place), at_once)


def test_where_nothing_is_new_the_day_is_made_anew_which_mends_it(made: Sample, new_place: NewPlace, at_once: Contents) -> None:
    place = new_place(made)
    _loaded_at_once(made, place)
    with psycopg.connect(place.database_url) as connection:
        connection.execute("DELETE FROM hl.fills WHERE side = 'A'")
        connection.execute("UPDATE hl.candles SET trades = trades + 1")
        connection.execute("DELETE FROM hl.daily_stats")
    ingest(place, DAY)
    _assert_same(_contents(place), at_once)


def test_a_day_of_older_formats_is_replaced(tmp_path: Path, new_place: NewPlace) -> None:
    sample = write_sample(tmp_path, first_day=LEGACY_DAY, hours=2, fills_per_hour=60)
    place = new_place(sample)
    paths = _objects(sample.node_data_dir)
    for hour in (0, 1):
        for path in paths:
            if path.stem == str(hour):
                _put(sample, place, path)
        loaded = _load(place, LEGACY_DAY)
    assert loaded.hours_made == 24
    assert loaded.rows_of_source.keys() == {"node_trades", "node_fills"}


@pytest.mark.slow
def test_an_increment_passes_the_checks_of_the_whole_day_and_keeps_failed_ones(
    made: Sample, world: World, instance: DagsterInstance
) -> None:
    place = Place(world.bucket, Path(world.environment["HL_LAKE_URL"]), world.database_url)

    def checked() -> tuple[dict[str, object], set[str]]:
        result = materialize(ASSETS, partition_key=str(DAY), instance=instance, resources=build_resources(Settings()))
        [event] = result.asset_materializations_for_node("fills")
        failed = {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
        compared = next(c for c in result.get_asset_check_evaluations() if c.check_name == "lake_equals_database")
        figures = {**event.metadata, **compared.metadata}
        return {name: value.value for name, value in figures.items()}, failed & {
            "key_unique",
            "legs_pair",
            "lake_equals_database",
        }

    first, second, third = _objects(made.node_data_dir)
    # A block that is there twice, once with another price.
    lines = _lines(first)
    block = json.loads(next(line for line in lines if b'"tid"' in line and b"T00:2" in line))
    block["events"][0][1]["px"] = "12345"
    _rewrite(_put(made, place, first), [*lines, json.dumps(block).encode() + b"\n"])
    _put(made, place, second)
    before, failed = checked()
    assert failed == {"key_unique"}

    _put(made, place, third)
    after, failed = checked()

    assert failed == {"key_unique"}
    assert (before["hours_made"], after["hours_made"]) == (24, 2)
    rows = len(_naive_fills(made.node_data_dir))
    assert (after["dagster/partition_row_count"], after["rows_in_lake"], after["rows_in_database"]) == (rows, rows, rows)
    again, _ = checked()
    same = ("trades", "trades_with_one_leg", "duplicates_dropped", "rows_in_lake", "rows_in_database")
    assert again["hours_made"] == 24
    assert [after[name] for name in same] == [again[name] for name in same]
