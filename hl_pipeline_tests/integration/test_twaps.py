"""TWAPs through the pipeline: every status and every column of hl.twaps against the second way (naive_twaps)."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import psycopg
import pytest
from dagster import AssetsDefinition, DagsterInstance, ExecuteInProcessResult, materialize
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.raw_fills import raw_fills
from hl_pipeline.assets.raw_twap_statuses import raw_twap_statuses
from hl_pipeline.assets.statistics import candles
from hl_pipeline.assets.twap_statuses import twap_statuses
from hl_pipeline.assets.twaps import twaps
from hl_pipeline.definitions import ASSETS, build_resources
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.naive import twaps as naive_twaps
from hl_pipeline_tests.naive.fills import write_object
from hl_pipeline_tests.naive.statistics import Leg, Row, grouped, read_legs
from hl_pipeline_tests.naive.twaps import MINUTE, Days, Loaded, Status
from hl_pipeline_tests.unit.test_naive_twaps import OTHER, OWNER, STATUS, ms, numbers, trade

DAYS = (date(2025, 9, 2), date(2025, 9, 3), date(2025, 9, 4))
IN_1970 = (date(2025, 8, 29), date(2025, 8, 30))
RAW = [raw_fills, raw_twap_statuses]
FROM_LAKE = [fills, candles, twap_statuses, twaps]
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


@dataclass(frozen=True, slots=True)
class Written:
    """A generated bucket of each kind, and what it was made of."""

    days: tuple[date, ...]
    fills: Path
    statuses: Path
    legs: list[Leg]
    told: list[Status]
    kinds: dict[str, list[int]]
    found: dict[frozenset[date], dict[int, Row]] = field(default_factory=dict)

    def naive(self, days: Iterable[date]) -> dict[int, Row]:
        """The TWAPs as they are when these days are loaded; made once."""
        key = frozenset(days)
        if key not in self.found:
            self.found[key] = naive_twaps.twaps(self.told, self.legs, dict.fromkeys(key, Loaded()))
        return self.found[key]


@dataclass(frozen=True, slots=True)
class Place:
    """A lake and a database."""

    lake: Path
    database_url: str


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
def in_order(written: Written, new_place: Callable[[], Place], instance: DagsterInstance) -> Place:
    """All days through all assets, one after the other."""
    place = new_place()
    for day in DAYS:
        _materialize(place, written, day, instance)
    return place


@pytest.fixture(scope="module")
def raw(written: Written, new_place: Callable[[], Place], instance: DagsterInstance) -> Place:
    """All objects in the lake, and nothing made of them."""
    place = new_place()
    for day in DAYS:
        _materialize(place, written, day, instance, RAW)
    return place


def _environment(place: Place, written: Written) -> dict[str, str]:
    return {
        "HL_HOME": str(place.lake.with_name("home")),
        "HL_DATABASE_URL": place.database_url,
        "HL_LAKE_URL": str(place.lake),
        "HL_NODE_DATA_URL": str(written.fills),
        "HL_TWAP_DATA_URL": str(written.statuses),
    }


def _materialize(
    place: Place, written: Written, day: date, instance: DagsterInstance, assets: Sequence[AssetsDefinition] = ASSETS
) -> ExecuteInProcessResult:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _environment(place, written).items():
            patch.setenv(name, value)
        resources = build_resources(Settings())
        return materialize(ASSETS, selection=[*assets], partition_key=str(day), instance=instance, resources=resources)


def _query(place: Place, query: str) -> list[Row]:
    with psycopg.connect(place.database_url, options="-c timezone=UTC") as connection:
        return connection.cursor(row_factory=dict_row).execute(query.encode()).fetchall()


def _stored(place: Place) -> dict[int, Row]:
    rows = _query(place, "SELECT * FROM hl.twaps ORDER BY twap_id")
    return {row.pop("twap_id"): row for row in rows}


def _assert_equal(stored: dict[Any, Row], expected: dict[Any, Row]) -> None:
    assert sorted(stored) == sorted(expected)
    assert all(row.keys() == expected[twap_id].keys() for twap_id, row in stored.items())
    both = [(twap_id, name, row[name], expected[twap_id][name]) for twap_id, row in stored.items() for name in row]
    assert [found for found in both if found[2] != found[3]] == []


def test_every_column_of_every_twap_is_what_the_second_way_gives(written: Written, in_order: Place) -> None:
    _assert_equal(_stored(in_order), written.naive(DAYS))


def test_every_status_is_there_once_with_every_value(written: Written, in_order: Place) -> None:
    _assert_equal(*_statuses(in_order, written))


def _statuses(place: Place, written: Written) -> tuple[dict[Any, Row], dict[Any, Row]]:
    """Those that are stored and those that are expected, by what identifies them."""
    rows = _query(place, "SELECT * FROM hl.twap_statuses")
    stored = {_key(row): row for row in rows}
    assert len(stored) == len(rows)
    told = {_key(told): told for told in written.told if naive_twaps.day_at(told["time_ns"] // 10**6) in written.days}
    unlike = [key for key, row in stored.items() if key in told and row["object"] not in told[key]["keys"]]
    assert unlike == []
    for row in rows:
        for name in ("raw_payload", "inserted_at", "object"):
            del row[name]
    return stored, {key: _as_stored(one) for key, one in told.items()}


def _key(status: Row) -> Any:
    return status["twap_id"], status["time_ns"], status["status"]


def _as_stored(told: Status) -> Row:
    """The row of hl.twap_statuses that a status becomes."""
    time = naive_twaps.at_microsecond(told["time_ns"] // 1000)
    started_at = naive_twaps.at(told["started_at_ms"])
    values = {name: value for name, value in told.items() if name not in ("started_at_ms", "keys")}
    place = naive_twaps.PLACES.get(told["status"], 2)
    return {**values, "time": time, "date": time.date(), "started_at": started_at, "place": place}


@pytest.mark.parametrize("kind", VERDICTS)
def test_the_verdicts_are_what_the_twaps_were_made_to_be(written: Written, in_order: Place, kind: str) -> None:
    stored = _stored(in_order)
    end_later = {told["twap_id"] for told in written.told if naive_twaps.day_at(told["time_ns"] // 10**6) not in DAYS}
    verdicts = {twap_id: stored[twap_id]["verdict"] for twap_id in written.kinds[kind] if twap_id in stored}
    assert {verdict for twap_id, verdict in verdicts.items() if twap_id not in end_later} == VERDICTS[kind]
    assert {verdict for twap_id, verdict in verdicts.items() if twap_id in end_later} <= {"running"}


@pytest.mark.parametrize("order", [*permutations(DAYS)][1::2], ids=lambda order: "-".join(str(day.day) for day in order))
def test_the_order_of_the_days_does_not_matter_and_each_step_is_what_the_days_so_far_give(
    written: Written, in_order: Place, raw: Place, copy: Copy, instance: DagsterInstance, order: tuple[date, ...]
) -> None:
    place = copy(raw)
    for number, day in enumerate(order, start=1):
        _materialize(place, written, day, instance, FROM_LAKE)
        _assert_equal(_stored(place), written.naive(order[:number]))
    assert _stored(place) == _stored(in_order)


@pytest.mark.parametrize("round_", range(3))
def test_days_that_are_made_at_once_give_the_same(written: Written, in_order: Place, raw: Place, copy: Copy, round_: int) -> None:
    place = copy(raw)
    processes = [_start(place, written, day) for day in (*DAYS[round_:], *DAYS[:round_])]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert _stored(place) == _stored(in_order)


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["hl_pipeline_tests.killable_runs", "hl_pipeline_tests.integration.test_twaps"])


def _start(place: Place, written: Written, day: date) -> BaseProcess:
    process = _context.Process(target=_run, args=(_environment(place, written), day))
    process.start()
    return process


def _run(environment: dict[str, str], day: date) -> None:
    os.environ.update(environment)
    with DagsterInstance.ephemeral() as instance:
        materialize(ASSETS, selection=FROM_LAKE, partition_key=str(day), instance=instance, resources=build_resources(Settings()))


def test_a_day_that_lacks_is_a_hole_until_it_is_there(
    written: Written, in_order: Place, new_place: Callable[[], Place], instance: DagsterInstance
) -> None:
    first, lacking, last = DAYS
    place = new_place()
    for day in (first, last):
        _materialize(place, written, day, instance)
    stored = _stored(place)
    _assert_equal(stored, written.naive((first, last)))
    assert {(stored[twap_id]["verdict"], stored[twap_id]["market_volume"]) for twap_id in written.kinds["three_days"]} == {
        ("hole", None)
    }
    _materialize(place, written, lacking, instance)
    assert _stored(place) == _stored(in_order)


def test_materializing_again_changes_nothing(written: Written, in_order: Place, copy: Copy, instance: DagsterInstance) -> None:
    place = copy(in_order)
    before = [_query(place, query) for query in EVERYTHING]
    for day in DAYS:
        _materialize(place, written, day, instance, [twaps])
    assert [_query(place, query) for query in EVERYTHING] == before
    _materialize(place, written, DAYS[1], instance)
    assert [_query(place, query) for query in EVERYTHING] == before


STATUSES = ", ".join(("object", "raw_payload::text AS raw_payload", *STATUS, "time_ns", "status")).replace("_at_ms", "_at")
EVERYTHING = (
    "SELECT * FROM hl.twaps ORDER BY twap_id",
    f"SELECT {STATUSES} FROM hl.twap_statuses ORDER BY twap_id, time_ns, status",
)


@pytest.fixture(scope="module")
def in_1970(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return _write(tmp_path_factory.mktemp("1970"), IN_1970, 100, 7)


def test_days_whose_statuses_read_as_1970_are_what_the_second_way_gives(
    in_1970: Written, new_place: Callable[[], Place], instance: DagsterInstance
) -> None:
    place = new_place()
    times = [
        time for path in in_1970.statuses.rglob("twap_statuses.parquet") for time in pl.read_parquet(path)["time"].drop_nulls()
    ]
    assert {time.year for time in times} == {1970}
    for day in IN_1970:
        _materialize(place, in_1970, day, instance)
    _assert_equal(_stored(place), in_1970.naive(IN_1970))
    _assert_equal(*_statuses(place, in_1970))


def test_statuses_that_an_object_has_no_more_disappear_with_all_that_followed_from_them(
    written: Written, in_order: Place, copy: Copy, instance: DagsterInstance, tmp_path: Path
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
    told = [{**status, **({"size_executed": Decimal(10**6)} if _key(status)[0] == larger else {})} for status in told]
    for path in bucket.glob(f"date={DAYS[1]}/part-*.parquet"):
        rows = [row for row in pl.read_parquet(path).to_dicts() if is_left(row)]
        pl.DataFrame(
            [{**row, **({"state_executedSz": "1000000.0"} if row["twap_id"] == larger else {})} for row in rows]
        ).write_parquet(path)
    _materialize(place, spoilt, DAYS[1], instance)
    stored = _stored(place)
    _assert_equal(stored, replace(spoilt, told=told, found={}).naive(DAYS))
    assert failed not in stored
    verdicts = [stored[twap_id]["verdict"] for twap_id in (without_end, without_any, larger)]
    assert verdicts == ["status_missing", "status_missing", "missing_fills"]

    _materialize(place, written, DAYS[1], instance)
    assert _stored(place) == _stored(in_order)


def test_statuses_of_an_object_that_the_bucket_has_no_more_stay_as_the_lake_has_them(
    written: Written, in_order: Place, copy: Copy, instance: DagsterInstance, tmp_path: Path
) -> None:
    place, bucket = copy(in_order), tmp_path / "statuses"
    shutil.copytree(written.statuses, bucket)
    (bucket / f"date={DAYS[1]}/part-00001.parquet").unlink()
    _materialize(place, replace(written, statuses=bucket), DAYS[1], instance, [raw_twap_statuses, twap_statuses, twaps])
    assert _stored(place) == _stored(in_order)
    _assert_equal(*_statuses(place, written))


def _of_one_object(written: Written, day: date) -> list[int]:
    """The TWAPs all of whose statuses are in one object of `day`."""
    keys = {
        twap_id: {key for one in told for key in one["keys"]}
        for twap_id, told in grouped(written.told, lambda told: told["twap_id"]).items()
    }
    return [twap_id for twap_id, of_twap in keys.items() if len(of_twap) == 1 and min(of_twap).startswith(f"date={day}/")]


# Odd ones: of all that a TWAP may be, at random, on days of all kinds; moments that lie on, before and after an edge.

ODD_DAYS = tuple(date(2025, 10, 10) + timedelta(days=number) for number in range(5))
LACKS_AN_HOUR, WITHOUT_CANDLES, QUARANTINED, WITHOUT_STATUSES = ODD_DAYS[1:]
ODD: Days = {
    ODD_DAYS[0]: Loaded(),
    LACKS_AN_HOUR: Loaded("incomplete"),
    WITHOUT_CANDLES: Loaded(candles=False),
    QUARANTINED: Loaded(quarantined=True),
    WITHOUT_STATUSES: Loaded(statuses=None),
}
ODD_BEGIN, ODD_END = (ms("00:00:00", day) for day in (ODD_DAYS[0], ODD_DAYS[-1] + timedelta(days=1)))
HOUR = 60 * MINUTE
EVERY_VERDICT = set(
    "conflict waiting status_missing running unreported failed match excess_fills hole missing_fills".split()  # noqa: SIM905
)
SEQUENCES = (
    *(
        "activated finished",
        "activated finished",
        "activated terminated",
        "activated error",
        "waitingForTrigger activated finished",
    ),
    *("activated", "error", "error", "finished", "waitingForTrigger", "waitingForTrigger terminated", "activated newKind", ""),
    *("activated activated finished", "activated finished finished", "waitingForTrigger activated"),
)
UNKNOWN = (
    "size_requested",
    "duration_minutes",
    "reduce_only",
    "randomize",
    "started_at_ms",
    "size_executed",
    "notional_executed",
)


def _odd_twap(random: Random, twap_id: int) -> tuple[list[Status], list[Leg]]:
    owner = {"wallet": random.choice((OWNER, OTHER)), "coin": random.choice(("BTC", "ETH", "@107")), "side": random.choice("AB")}
    day = random.randrange(ODD_BEGIN, ODD_END, naive_twaps.DAY)
    begin = max(
        ODD_BEGIN, day + random.choice((0, 30_000, -30_000, random.randrange(1440) * MINUTE)) + random.choice((0, 0, 1, -1, 500))
    )
    minutes = random.choice((5, 5, 7, 30, 1440, 4320))
    runs = random.choice(
        (0, 1, 29_999, 30_000, MINUTE - 1, MINUTE, 2 * MINUTE + 1, *4 * (minutes * MINUTE,), random.randrange(minutes * MINUTE))
    )
    requested = random.choice((Decimal(10), Decimal("0.0000000007"), Decimal(0), Decimal("7000")))
    slices = [leg for at in _odd_moments(random, begin, runs) for leg in _odd_slice(random, owner, twap_id, at, requested)]
    asked = {**owner, "twap_id": twap_id, "duration_minutes": minutes, "size_requested": requested}
    placed = random.choice((begin, begin - 1, begin - HOUR, None))
    told = _odd_statuses(random, {**asked, "started_at_ms": placed}, begin, begin + runs, slices)
    return told, _spoilt(random, slices) if random.random() < 0.2 else slices


def _odd_moments(random: Random, begin: int, runs: int) -> list[int]:
    """When its slices go out: on time or a little beside it, or over the whole of its time, and now and then before it."""
    apart = random.choice((30_000, max(30_000, runs // 10)))
    moments = [
        begin + apart * number + random.choice((0, 0, 0, 1, -1, 29_999)) for number in range(random.choice((0, 1, 5, 10, 10, 12)))
    ]
    if random.random() < 0.1:
        moments.append(begin - random.choice((1, MINUTE, HOUR + 1)))
    return [at for at in moments if ODD_BEGIN <= at < ODD_END and random.random() < 0.95]


def _odd_slice(random: Random, owner: Row, twap_id: int, at: int, requested: Decimal) -> list[Leg]:
    sz = (requested / 10 or Decimal(1)).quantize(Decimal("1e-10")) or Decimal("1e-10")
    order = {**owner, "oid": next(numbers), "twap_id": twap_id, "sz": sz}
    moments = [at + random.choice((0, 0, 1)) for _ in range(random.choice((1, 1, 2)))]
    return [
        _leg_at(moment, _odd_px(random), **order, crossed=random.choice((True, False))) for moment in moments if moment < ODD_END
    ]


def _odd_px(random: Random) -> Decimal:
    return Decimal(random.choice(("100", "101", "99.9999999999", "0.01", "123.456789")))


def _leg_at(moment: int, px: Decimal, **other: Any) -> Leg:
    return {**trade("00:00:00", "1"), "time": moment, "px": px, **other}


def _spoilt(random: Random, slices: list[Leg]) -> list[Leg]:
    """Fills of which one says too little or other things than the first."""
    oddities: tuple[Row, ...] = (
        *({"fee": None}, {"fee_token": None}, {"closed_pnl": None}, {"crossed": None}, {"dir": "Settlement"}),
        *({"fee": Decimal("-0.5"), "fee_token": "HYPE"}, {"closed_pnl": Decimal("-3.0000000001")}),
        *({"wallet": "0x" + 40 * "c"}, {"coin": "SOL"}, {"side": "A"}),
    )
    first = min((leg["time"] for leg in slices), default=0)
    return [{**leg, **(random.choice(oddities) if leg["time"] > first and random.random() < 0.3 else {})} for leg in slices]


def _odd_statuses(random: Random, asked: Row, begin: int, end: int, slices: list[Leg]) -> list[Status]:
    names = random.choice(SEQUENCES).split()
    size, notional = naive_twaps.sums(slices)
    reported = random.choice((size, size, size, size + 1, size / 2, Decimal(0))).quantize(Decimal("1e-10"))
    told: list[Status] = []
    for number, name in enumerate(names):
        is_last = number == len(names) - 1 and name != "activated"
        at = end if is_last else begin - random.choice((0, MINUTE)) if name == "waitingForTrigger" else begin + number
        executed = {"size_executed": reported, "notional_executed": notional.quantize(Decimal("1e-10"))} if is_last else {}
        unknown = dict.fromkeys(random.sample(UNKNOWN, 2)) if random.random() < 0.15 else {}
        odd = {"coin": "SOL"} if random.random() < 0.02 else {}
        time_ns = at * 10**6 + random.choice((0, 999_999, 123_456))
        told.append({**STATUS, **asked, "time_ns": time_ns, "status": name, **executed, **unknown, **odd})
    return list({_key(status): status for status in told if status["time_ns"] // 10**6 < ODD_END}.values())


def _odd_market(random: Random, legs: list[Leg]) -> list[Leg]:
    """The other legs of the slices, and trades of others around them, on the minutes' edges too."""
    found = [
        {**leg, "wallet": "0x" + 40 * "d", "side": "AB"[leg["side"] == "A"], "twap_id": None, "crossed": not leg["crossed"]}
        for leg in legs
        if leg["tid"]
    ]
    for leg in random.sample(legs, len(legs) // 2):
        at = leg["time"] + random.choice((0, MINUTE, -MINUTE, -HOUR, -HOUR - 1, 1 - HOUR, random.randrange(-HOUR, HOUR)))
        at = random.choice((at, at // MINUTE * MINUTE, at // MINUTE * MINUTE - 1))
        if ODD_BEGIN <= at < ODD_END and leg["coin"] != "@107":
            found.append(
                _leg_at(at, _odd_px(random), coin=leg["coin"], sz=Decimal(random.choice(("1", "0.0000000001", "12345.6"))))
            )
    return found


def _write_fills(bucket: Path, legs: list[Leg]) -> list[Leg]:
    """As the node would: blocks in objects by hour, cut 50 ms late. The legs that are in an object."""
    frame = {
        moment for start in range(ODD_BEGIN - HOUR, ODD_END + HOUR, HOUR) for moment in (start - 20, start + 5, start + HOUR // 2)
    }
    by_moment = grouped(legs, lambda leg: leg["time"])
    blocks = [(moment, by_moment.get(moment, [])) for moment in sorted(frame | by_moment.keys())]
    lines: dict[datetime, list[bytes]] = {}
    left: list[Leg] = []
    for number, (moment, of_block) in enumerate(blocks):
        hour = naive_twaps.at_microsecond((moment + 50) // HOUR * HOUR * 1000)
        if (hour.date(), hour.hour) != (LACKS_AN_HOUR, 13):
            events: list[Any] = [[leg["wallet"], _fill_json(leg)] for leg in of_block]
            events += [["0x12", {}]] if (hour.date(), hour.hour) == (QUARANTINED, 14) else []
            block = {"local_time": _iso((moment + 50) * 10**6), "block_time": _iso(moment * 10**6 + 5), "block_number": number}
            lines.setdefault(hour, []).append(json.dumps({**block, "events": events}).encode() + b"\n")
            left += of_block
    for hour, of_hour in lines.items():
        write_object(bucket, hour, b"".join(of_hour))
    return left


def _fill_json(leg: Leg) -> Row:
    usual = {"startPosition": "0.0", "hash": "0x" + 64 * "0", "time": leg["time"], "twapId": leg["twap_id"]}
    names = {"closed_pnl": "closedPnl", "fee_token": "feeToken"}
    said = {
        names.get(name, name): leg[name] for name in ("coin", "px", "sz", "side", "dir", "oid", "tid", "crossed", "fee", *names)
    }
    return {**usual, **_as_text({name: value for name, value in said.items() if value is not None})}


def _write_statuses(bucket: Path, told: list[Status]) -> None:
    names = {"coin": "coin", "user": "wallet", "side": "side", "sz": "size_requested", "executedSz": "size_executed"}
    names |= {"executedNtl": "notional_executed", "minutes": "duration_minutes", "reduceOnly": "reduce_only"}
    names |= {"randomize": "randomize", "timestamp": "started_at_ms"}
    for day, of_day in grouped(told, lambda status: naive_twaps.day_at(status["time_ns"] // 10**6)).items():
        path = bucket / f"{day:%Y/%m/%d}" / "statuses.jsonl"
        path.parent.mkdir(parents=True)
        with path.open("w") as file:
            for status in of_day:
                state = {name: status[column] for name, column in names.items() if status[column] is not None}
                event = {"time": _iso(status["time_ns"]), "twap_id": status["twap_id"], "status": status["status"]}
                file.write(json.dumps({**event, "state": _as_text(state)}) + "\n")


def _as_text(values: Row) -> Row:
    return {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in values.items()}


def _iso(time_ns: int) -> str:
    return f"{naive_twaps.at_microsecond(time_ns // 1000):%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09}"


def test_odd_twaps_on_days_of_all_kinds_are_what_the_second_way_gives(
    new_place: Callable[[], Place], instance: DagsterInstance, tmp_path: Path
) -> None:
    random = Random(1)
    made = [_odd_twap(random, twap_id) for twap_id in range(1, 301)]
    told, slices = [status for of_twap, _ in made for status in of_twap], [leg for _, of_twap in made for leg in of_twap]
    legs = _write_fills(tmp_path / "fills", [*slices, *_odd_market(random, slices)])
    _write_statuses(tmp_path / "statuses", told)
    odd = Written(ODD_DAYS, tmp_path / "fills", tmp_path / "statuses", legs, told, {})
    place = new_place()
    for day in random.sample(ODD_DAYS, len(ODD_DAYS)):
        without = {WITHOUT_CANDLES: [candles], WITHOUT_STATUSES: [raw_twap_statuses, twap_statuses]}.get(day, [])
        _materialize(place, odd, day, instance, [asset for asset in (*RAW, *FROM_LAKE) if asset not in without])
    stored, expected = _stored(place), naive_twaps.twaps(told, legs, ODD)
    _assert_equal(stored, expected)
    assert {row["verdict"] for row in stored.values()} == EVERY_VERDICT
    assert {row["is_complete"] for row in stored.values()} == {True, False}
