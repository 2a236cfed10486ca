"""TWAPs through the pipeline: every status and every column of hl.twaps equals the reference (naive/twaps.py)."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import permutations
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from psycopg.conninfo import conninfo_to_dict

from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.days import make_day
from hl_pipeline_tests.naive import twaps as naive_twaps
from hl_pipeline_tests.naive.statistics import Row, grouped, read_legs
from hl_pipeline_tests.naive.twap_examples import STATUS
from hl_pipeline_tests.naive.twaps import Status
from hl_pipeline_tests.twap_days import (
    FROM_LAKE,
    RAW,
    Place,
    Written,
    assert_equal,
    environment_of,
    make_twap_day,
    query,
    status_key,
    stored_twaps,
)

DAYS = (date(2025, 9, 2), date(2025, 9, 3), date(2025, 9, 4))
IN_1970 = (date(2025, 8, 29), date(2025, 8, 30))
VERDICTS = {
    "ordinary": {"match"},
    "terminated": {"match"},
    "error_at_once": {"failed"},
    "error_after_slices": {"match"},
    "running": {"running"},
    "over_midnight": {"match", "running"},
    "three_days": {"match"},
    "no_last_status": {"status_missing"},
    "no_status": {"status_missing"},
    "missing_slices": {"missing_fills"},
    "waited_for_trigger": {"match"},
}
Copy = Callable[[Place], Place]


def _write(directory: Path, days: tuple[date, ...], fills_per_hour: int, seed: int) -> Written:
    sample = write_sample(
        directory, first_day=days[0], days=len(days), fills_per_hour=fills_per_hour, seed=seed, record_legs=True
    )
    legs = [leg for day in days for leg in read_legs(sample.truth_dir, day)]
    told = pl.read_parquet(sample.truth_dir / "statuses.parquet").to_dicts()
    kinds = json.loads((sample.truth_dir / "twaps.json").read_text())
    return Written(days, sample.node_data_dir, sample.twap_data_dir, legs, told, kinds)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return _write(tmp_path_factory.mktemp("twaps"), DAYS, 200, 5)


@pytest.fixture(scope="module")
def new_place(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Place]:
    return lambda: Place(tmp_path_factory.mktemp("lake"), new_database())


@pytest.fixture(scope="module")
def copy(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The same lake and database again, to go another way from there."""

    def make(place: Place) -> Place:
        lake = tmp_path_factory.mktemp("lake")
        shutil.copytree(place.lake, lake, dirs_exist_ok=True)
        return Place(lake, new_database(str(conninfo_to_dict(place.database_url)["dbname"])))

    return make


@pytest.fixture(scope="module")
def in_order(written: Written, new_place: Callable[[], Place]) -> Place:
    """All days through all stages, one after the other."""
    place = new_place()
    for day in DAYS:
        make_twap_day(place, written, day)
    return place


@pytest.fixture(scope="module")
def raw(written: Written, new_place: Callable[[], Place]) -> Place:
    """All objects in the lake, and nothing made of them."""
    place = new_place()
    for day in DAYS:
        make_twap_day(place, written, day, RAW)
    return place


def test_every_column_of_every_twap_is_what_the_second_way_gives(written: Written, in_order: Place) -> None:
    assert_equal(stored_twaps(in_order), written.naive(DAYS))


def test_every_status_is_there_once_with_every_value(written: Written, in_order: Place) -> None:
    assert_equal(*stored_and_expected(in_order, written))


def stored_and_expected(place: Place, written: Written) -> tuple[dict[Any, Row], dict[Any, Row]]:
    """Those that are stored and those that are expected, by what identifies them."""
    rows = query(place, "SELECT * FROM hl.twap_statuses")
    stored = {status_key(row): row for row in rows}
    assert len(stored) == len(rows)
    told = {status_key(told): told for told in written.told if naive_twaps.day_at(told["time_ns"] // 10**6) in written.days}
    unlike = [key for key, row in stored.items() if key in told and row["object"] not in told[key]["keys"]]
    assert unlike == []
    for row in rows:
        for name in ("raw_payload", "inserted_at", "object"):
            del row[name]
    return stored, {key: _as_stored(one) for key, one in told.items()}


def _as_stored(told: Status) -> Row:
    """The row of hl.twap_statuses that a status becomes."""
    time = naive_twaps.at_microsecond(told["time_ns"] // 1000)
    started_at = naive_twaps.at(told["started_at_ms"])
    values = {name: value for name, value in told.items() if name not in ("started_at_ms", "keys")}
    place = naive_twaps.PLACES.get(told["status"], 2)
    return {**values, "time": time, "date": time.date(), "started_at": started_at, "place": place}


@pytest.mark.parametrize("kind", VERDICTS)
def test_the_verdicts_are_what_the_twaps_were_made_to_be(written: Written, in_order: Place, kind: str) -> None:
    stored = stored_twaps(in_order)
    end_later = {told["twap_id"] for told in written.told if naive_twaps.day_at(told["time_ns"] // 10**6) not in DAYS}
    verdicts = {twap_id: stored[twap_id]["verdict"] for twap_id in written.kinds[kind] if twap_id in stored}
    assert {verdict for twap_id, verdict in verdicts.items() if twap_id not in end_later} == VERDICTS[kind]
    assert {verdict for twap_id, verdict in verdicts.items() if twap_id in end_later} <= {"running"}


@pytest.mark.slow
@pytest.mark.parametrize("order", [*permutations(DAYS)][1::2], ids=lambda order: "-".join(str(day.day) for day in order))
def test_days_in_any_order_give_at_each_step_the_twaps_of_the_days_so_far(
    written: Written, in_order: Place, raw: Place, copy: Copy, order: tuple[date, ...]
) -> None:
    place = copy(raw)
    for number, day in enumerate(order, start=1):
        make_twap_day(place, written, day, FROM_LAKE)
        assert_equal(stored_twaps(place), written.naive(order[:number]))
    assert stored_twaps(place) == stored_twaps(in_order)


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(3))
def test_days_that_are_made_at_once_give_the_same(written: Written, in_order: Place, raw: Place, copy: Copy, round_: int) -> None:
    place = copy(raw)
    processes = [_start(place, written, day) for day in (*DAYS[round_:], *DAYS[:round_])]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert stored_twaps(place) == stored_twaps(in_order)


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["hl_pipeline_tests.killable_runs", "hl_pipeline_tests.integration.test_twaps"])


def _start(place: Place, written: Written, day: date) -> BaseProcess:
    process = _context.Process(target=_run, args=(environment_of(place, written), day))
    process.start()
    return process


def _run(environment: dict[str, str], day: date) -> None:
    make_day(environment, day, FROM_LAKE)


@pytest.mark.slow
def test_a_day_that_lacks_is_a_hole_until_it_is_there(written: Written, in_order: Place, new_place: Callable[[], Place]) -> None:
    first, lacking, last = DAYS
    place = new_place()
    for day in (first, last):
        make_twap_day(place, written, day)
    stored = stored_twaps(place)
    assert_equal(stored, written.naive((first, last)))
    assert {(stored[twap_id]["verdict"], stored[twap_id]["market_volume"]) for twap_id in written.kinds["three_days"]} == {
        ("hole", None)
    }
    make_twap_day(place, written, lacking)
    assert stored_twaps(place) == stored_twaps(in_order)


@pytest.mark.slow
def test_materializing_again_changes_nothing(written: Written, in_order: Place, copy: Copy) -> None:
    place = copy(in_order)
    before = [query(place, sql) for sql in EVERYTHING]
    for day in DAYS:
        make_twap_day(place, written, day, ["twaps"])
    assert [query(place, sql) for sql in EVERYTHING] == before
    make_twap_day(place, written, DAYS[1])
    assert [query(place, sql) for sql in EVERYTHING] == before


STATUSES = ", ".join(("object", "raw_payload::text AS raw_payload", *STATUS, "time_ns", "status")).replace("_at_ms", "_at")
EVERYTHING = (
    "SELECT * FROM hl.twaps ORDER BY twap_id",
    f"SELECT {STATUSES} FROM hl.twap_statuses ORDER BY twap_id, time_ns, status",
)


@pytest.fixture(scope="module")
def in_1970(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return _write(tmp_path_factory.mktemp("1970"), IN_1970, 100, 7)


@pytest.mark.slow
def test_days_whose_statuses_read_as_1970_are_what_the_second_way_gives(in_1970: Written, new_place: Callable[[], Place]) -> None:
    place = new_place()
    times = [
        time for path in in_1970.statuses.rglob("twap_statuses.parquet") for time in pl.read_parquet(path)["time"].drop_nulls()
    ]
    assert {time.year for time in times} == {1970}
    for day in IN_1970:
        make_twap_day(place, in_1970, day)
    assert_equal(stored_twaps(place), in_1970.naive(IN_1970))
    assert_equal(*stored_and_expected(place, in_1970))


@pytest.mark.slow
def test_statuses_removed_from_an_object_disappear_with_all_that_followed_from_them(
    written: Written, in_order: Place, copy: Copy, tmp_path: Path
) -> None:
    place, bucket = copy(in_order), tmp_path / "statuses"
    shutil.copytree(written.statuses, bucket)
    spoilt = replace(written, statuses=bucket)
    of_day = _of_one_object(written, DAYS[1])
    [failed] = [twap_id for twap_id in of_day if twap_id in written.kinds["error_at_once"]][:1]
    without_end, without_any, larger = [twap_id for twap_id in of_day if twap_id in written.kinds["ordinary"]][:3]

    def is_left(status: Row) -> bool:
        gone = status["twap_id"] in (failed, without_any) or (status["twap_id"], status["status"]) == (without_end, "finished")
        return not gone

    told = [status for status in written.told if is_left(status)]
    told = [{**status, **({"size_executed": Decimal(10**6)} if status_key(status)[0] == larger else {})} for status in told]
    for path in bucket.glob(f"date={DAYS[1]}/part-*.parquet"):
        rows = [row for row in pl.read_parquet(path).to_dicts() if is_left(row)]
        pl.DataFrame(
            [{**row, **({"state_executedSz": "1000000.0"} if row["twap_id"] == larger else {})} for row in rows]
        ).write_parquet(path)
    make_twap_day(place, spoilt, DAYS[1])
    stored = stored_twaps(place)
    assert_equal(stored, replace(spoilt, told=told, found={}).naive(DAYS))
    assert failed not in stored
    verdicts = [stored[twap_id]["verdict"] for twap_id in (without_end, without_any, larger)]
    assert verdicts == ["status_missing", "status_missing", "missing_fills"]

    make_twap_day(place, written, DAYS[1])
    assert stored_twaps(place) == stored_twaps(in_order)


def test_statuses_of_an_object_that_the_bucket_has_no_more_stay_as_the_lake_has_them(
    written: Written, in_order: Place, copy: Copy, tmp_path: Path
) -> None:
    place, bucket = copy(in_order), tmp_path / "statuses"
    shutil.copytree(written.statuses, bucket)
    (bucket / f"date={DAYS[1]}/part-00001.parquet").unlink()
    make_twap_day(place, replace(written, statuses=bucket), DAYS[1], ["raw_twap_statuses", "twap_statuses", "twaps"])
    assert stored_twaps(place) == stored_twaps(in_order)
    assert_equal(*stored_and_expected(place, written))


def _of_one_object(written: Written, day: date) -> list[int]:
    """The TWAPs all of whose statuses are in one object of `day`."""
    keys = {
        twap_id: {key for one in told for key in one["keys"]}
        for twap_id, told in grouped(written.told, lambda told: told["twap_id"]).items()
    }
    return [twap_id for twap_id, of_twap in keys.items() if len(of_twap) == 1 and min(of_twap).startswith(f"date={day}/")]
