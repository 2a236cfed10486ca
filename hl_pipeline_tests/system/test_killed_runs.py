"""A run is killed anywhere: a second run finishes the job with the same rows. Two concurrent runs also give the same rows."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import psycopg
import pytest

from hl_pipeline.lake.store import Lake, list_files
from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.killable_runs import Death, Place, run, start
from hl_pipeline_tests.profiles import scaled

pytestmark = pytest.mark.slow
DAY = date(2026, 3, 15)
_ROWS = """
SELECT count(*), md5(string_agg(ROW(time, coin, wallet, side, tid, px, sz, start_position, closed_pnl, fee, fee_token, dir, hash,
    oid, crossed, twap_id, cloid, builder, builder_fee, deployer_fee, priority_gas, liquidated_user, extra::text, block_number,
    object_key)::text, '|' ORDER BY time, coin, wallet, side, tid))
FROM hl.fills JOIN hl.s3_ingest_log USING (object_id)
"""
_LEFT_OVER = "SELECT relname FROM pg_class WHERE relname LIKE 'fills%load%'"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("killed"), first_day=DAY, days=1, fills_per_hour=2_500).node_data_dir


@pytest.fixture
def new_place(bucket: Path, tmp_path: Path, new_database: NewDatabase) -> Callable[[], Place]:
    """A new lake and a new database for that bucket."""

    def make() -> Place:
        return Place(bucket, tmp_path / str(uuid.uuid4()), new_database())

    return make


def _rows(place: Place) -> tuple[int, str]:
    """How many rows the database has and what they are; the lake must have as many, and nothing may be left over."""
    with psycopg.connect(place.database_url, options="-c timezone=UTC") as connection:
        found = connection.execute(_ROWS).fetchone()
        assert found is not None
        assert connection.execute(_LEFT_OVER).fetchall() == []
    assert pl.scan_parquet(place.lake / "fills/date=*/*.parquet").select(pl.len()).collect().item() == found[0]
    assert [path for path in place.lake.rglob(".*") if path.is_file()] == []
    return found[0], found[1]


@pytest.fixture(scope="module")
def never_killed(bucket: Path, tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> tuple[int, str, float]:
    """The rows of a run that nothing disturbed, and its seconds."""
    place = Place(bucket, tmp_path_factory.mktemp("lake"), new_database())
    assert run(place, DAY) == 0  # the first also imports
    started = time.monotonic()
    assert run(Place(bucket, tmp_path_factory.mktemp("again"), place.database_url), DAY) == 0
    return *_rows(place), time.monotonic() - started


def test_a_run_that_is_not_killed_has_the_rows_of_the_generators_truth(
    never_killed: tuple[int, str, float], bucket: Path
) -> None:
    truth = pl.read_parquet(bucket.parent / "truth" / "fills.parquet").filter(pl.col("date") == DAY)
    assert never_killed[0] == truth["rows"].sum() > 50_000


@pytest.mark.parametrize(
    "death",
    [
        pytest.param(Death("hour_copied", 7), id="in-copy"),
        pytest.param(Death("day_attaching"), id="attached-and-not-committed"),
        pytest.param(Death("object_fetched", 3), id="after-fetch"),
        pytest.param(Death("row_group_written", 2), id="in-the-lake-write"),
        pytest.param(Death("lake_file_written", 4), id="before-the-lake-file-is-moved-into-place"),
        pytest.param(Death("object_done", 5), id="between-objects"),
        pytest.param(Death("indexes_building"), id="before-the-index-build"),
        pytest.param(Death("indexes_building", seconds=0.02), id="in-the-index-build"),
        pytest.param(Death("day_built"), id="before-attach"),
        pytest.param(Death("day_loaded"), id="after-attach"),
    ],
)
def test_killed_at_a_step_a_second_run_ends_with_the_same_rows(
    death: Death, new_place: Callable[[], Place], never_killed: tuple[int, str, float]
) -> None:
    place = new_place()
    assert run(place, DAY, death) == -9
    assert run(place, DAY) == 0
    assert _rows(place) == never_killed[:2]


@pytest.mark.random
@pytest.mark.parametrize("seed", range(scaled(20)))
def test_killed_at_a_random_moment_a_second_run_ends_with_the_same_rows(
    seed: int, new_place: Callable[[], Place], never_killed: tuple[int, str, float]
) -> None:
    place = new_place()
    moment = random.Random(seed).uniform(0.05, 1.0) * never_killed[2]
    assert run(place, DAY, Death(None, seconds=moment)) in (-9, 0)
    assert run(place, DAY) == 0
    assert _rows(place) == never_killed[:2]


@pytest.mark.slow
def test_killed_in_a_reload_the_old_day_is_there_until_the_new_one_is(
    new_place: Callable[[], Place], never_killed: tuple[int, str, float]
) -> None:
    place = new_place()
    assert run(place, DAY) == 0
    for death in (Death("hour_copied", 3), Death("day_built"), Death("day_attaching")):
        assert run(place, DAY, death) == -9
        with psycopg.connect(place.database_url) as connection:
            assert connection.execute("SELECT count(*) FROM hl.fills").fetchone() == (never_killed[0],)
    assert run(place, DAY) == 0
    assert _rows(place) == never_killed[:2]


def test_two_runs_of_one_day_at_once_give_the_same_rows(
    new_place: Callable[[], Place], never_killed: tuple[int, str, float]
) -> None:
    place = new_place()
    runs = [start(place, DAY), start(place, DAY)]
    for process in runs:
        process.join(120)
    assert [process.exitcode for process in runs] == [0, 0]
    assert _rows(place) == never_killed[:2]


def test_neighbouring_days_at_once_that_want_the_same_object_are_both_right(
    new_place: Callable[[], Place], never_killed: tuple[int, str, float]
) -> None:
    place = new_place()
    runs = [start(place, day) for day in (DAY, date(2026, 3, 16))]
    for process in runs:
        process.join(120)
    assert [process.exitcode for process in runs] == [0, 0]
    with psycopg.connect(place.database_url, options="-c timezone=UTC") as connection:
        days = connection.execute("SELECT date, rows FROM hl.fills_days ORDER BY date").fetchall()
    assert days[0] == (DAY, never_killed[0])
    assert days[1][1] > 0


def test_a_directory_of_the_lake_that_another_run_makes_meanwhile_is_no_error(lake: Lake) -> None:
    for n in range(300):
        made = Path(lake.root) / str(n)
        other = threading.Thread(target=made.mkdir)
        other.start()
        while other.is_alive():
            assert list_files(lake, str(n)) == []
        other.join()
