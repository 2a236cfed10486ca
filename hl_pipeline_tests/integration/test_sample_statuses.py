"""The sample's TWAP statuses, read with only json, lz4 and pyarrow, match the truth and the fills."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import lz4.frame
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hl_pipeline.sample.generate import Sample, write_sample
from hl_pipeline.sample.status_objects import _numbers
from hl_pipeline_tests.records.reading import read_record

REAL = read_record("twap_statuses_node.jsonl").decode()
# A pathed day and an hourly one in August, a dated one, a pathed one in September, and hour 0 of an hourly one.
FIRST_DAY, DAYS = date(2025, 8, 29), 4
PATHED_AUGUST, HOURLY, DATED, PATHED, TAIL = (FIRST_DAY + timedelta(days=i) for i in range(DAYS + 1))
STATUSES = ["waitingForTrigger", "activated", "finished", "terminated", "error"]
LIVES = ("ordinary", "terminated", "error_at_once", "error_after_slices", "running")
DAILY = (*LIVES[:-1], "no_last_status", "no_status", "missing_slices", "waited_for_trigger")
KINDS = {*DAILY, "running", "over_midnight", "three_days", "begun_before", "status_objects"}

Event = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """A sample with its truth, and the events of each of its objects by key, as the truth would have them."""

    sample: Sample
    events: dict[str, list[Event]]
    truth: list[Event]
    twaps: dict[str, Any]
    legs: pl.DataFrame

    def of(self, twap_id: int) -> list[Event]:
        return [event for event in self.truth if event["twap_id"] == twap_id]


@pytest.fixture(scope="module", autouse=True)
def _exact_decimals() -> Iterator[None]:
    with localcontext(prec=76):
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    target = tmp_path_factory.mktemp("statuses")
    return read(write_sample(target, first_day=FIRST_DAY, days=DAYS, fills_per_hour=150, record_legs=True))


@pytest.fixture(scope="module")
def blocks(written: Written) -> dict[int, tuple[str, str]]:
    """Number → block time and local time of the blocks of the fills."""
    lines = (
        json.loads(line)
        for path in written.sample.node_data_dir.rglob("*.lz4")
        for line in lz4.frame.decompress(path.read_bytes()).splitlines()
    )
    return {block["block_number"]: (block["block_time"], block["local_time"]) for block in lines}


@pytest.fixture(scope="module")
def last_slices(written: Written) -> dict[int, tuple[int, int]]:
    """TWAP id → times of its first and last slice that can be had."""
    times = written.legs.drop_nulls("twap_id").group_by("twap_id")
    found = times.agg(first=pl.col("block_time_ns").min(), last=pl.col("block_time_ns").max())
    return {twap_id: (first, last) for twap_id, first, last in found.rows()}


def read(sample: Sample) -> Written:
    keys = [str(path.relative_to(sample.twap_data_dir)) for path in sample.twap_data_dir.rglob("*") if path.is_file()]
    return Written(
        sample,
        {key: read_object(sample.twap_data_dir, key) for key in keys if not key.rsplit("/")[-1].startswith("._")},
        pl.read_parquet(sample.truth_dir / "statuses.parquet").to_dicts(),
        json.loads((sample.truth_dir / "twaps.json").read_text()),
        pl.read_parquet(sample.truth_dir / "legs.parquet"),
    )


def read_object(directory: Path, key: str) -> list[Event]:
    if key.endswith("parquet"):
        rows = read_parquet(directory / key)
        return dated(rows) if "date=" in key else pathed(rows)
    return [node_event(event) for line in json_lines(directory, key) for event in line.get("events", [line])]


def read_parquet(path: Path) -> pa.Table:
    """The file's own columns: `read_table` would add one of the directory's date."""
    return pq.ParquetFile(path).read()


def json_lines(directory: Path, key: str) -> list[dict[str, Any]]:
    content = (directory / key).read_bytes()
    text = (content if key.endswith("jsonl") else lz4.frame.decompress(content)).decode()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [json.dumps(line, separators=(",", ":")) for line in lines] == text.splitlines()
    return lines


def nanoseconds(text: str) -> int:
    seconds, fraction = text.split(".")
    assert len(fraction) == 9
    return int(datetime.fromisoformat(seconds + "+00:00").timestamp()) * 10**9 + int(fraction)


def day_of(time_ns: int) -> date:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).date()


def decimal(text: str) -> Decimal:
    assert re.fullmatch(r"(0|[1-9]\d*)\.(\d|\d{0,9}[1-9])", text)
    return Decimal(text)


def as_event(row: dict[str, Any], status: str, error: str | None, sizes: list[Decimal]) -> Event:
    return {
        **dict(zip(("size_requested", "size_executed", "notional_executed"), sizes, strict=True)),
        **{name: row[f"state_{name}"] for name in ("coin", "side")},
        "twap_id": int(row["twap_id"]),
        "time_ns": row["time"],
        "status": status,
        "error": error,
        "wallet": row["state_user"],
        "duration_minutes": int(row["state_minutes"]),
        "reduce_only": row["state_reduceOnly"],
        "randomize": row["state_randomize"],
        "started_at_ms": row["state_timestamp"],
    }


def node_event(event: dict[str, Any]) -> Event:
    row: dict[str, Any] = {f"state_{name}": value for name, value in event["state"].items()} | {"twap_id": event["twap_id"]}
    status, sizes = event["status"], [decimal(event["state"][name]) for name in ("sz", "executedSz", "executedNtl")]
    row["time"] = nanoseconds(event["time"])
    return as_event(row, "error", status["error"], sizes) if isinstance(status, dict) else as_event(row, status, None, sizes)


def dated(table: pa.Table) -> list[Event]:
    found = []
    for row in table.to_pylist():
        status, _, error = row["status"].partition(": ")
        assert row["time"] == row["block_time"]
        row["time"] = nanoseconds(row["time"])
        sizes = [decimal(row[f"state_{name}"]) for name in ("sz", "executedSz", "executedNtl")]
        found.append(as_event(row, status, error or None, sizes))
    return found


def pathed(table: pa.Table) -> list[Event]:
    found = []
    for row in numbers_of_times(table).to_pylist():
        if row.pop("_metadata"):
            assert set(row.values()) == {None}
            continue
        status, error = row["status"], None
        if status.startswith("{"):
            status, error = "error", json.loads(status)["error"]
        # Ten million seconds since 1970 in ns are a time in ms read as one in ns.
        row["time"] *= 10**6 if row["time"] < 10**16 else 1
        row["state_timestamp"] //= 10**6 if row["state_timestamp"] > 10**16 else 1
        row["state_user"] = row["state_user"].lower()
        sizes = [Decimal(repr(row[f"state_{name}"])) for name in ("sz", "executedSz", "executedNtl")]
        found.append(as_event(row, status, error, sizes))
    return found


def numbers_of_times(table: pa.Table) -> pa.Table:
    for name in ("time", "state_timestamp"):
        assert table.schema.field(name).type == pa.timestamp("ns")
        table = table.set_column(table.schema.names.index(name), name, table[name].cast(pa.int64()))
    return table


def order(event: Event) -> tuple[Any, ...]:
    return event["twap_id"], event["time_ns"], event["status"]


def test_every_status_is_in_the_objects_named_and_in_no_other(written: Written) -> None:
    expected: dict[str, list[Event]] = {key: [] for key in written.twaps["status_objects"]}
    for event in written.truth:
        told = {name: value for name, value in event.items() if name != "keys"}
        assert event["keys"]
        assert len(set(event["keys"])) == len(event["keys"])
        for key in event["keys"]:
            in_ms = "twap_statuses.parquet" in key
            expected[key].append(told | ({"time_ns": told["time_ns"] // 10**6 * 10**6} if in_ms else {}))
        assert event["time_ns"] % 10**6 == 0 or any("twap_statuses.parquet" not in key for key in event["keys"])
    assert written.events.keys() == expected.keys()
    for key, events in written.events.items():
        assert sorted(events, key=order) == sorted(expected[key], key=order)


def test_a_status_is_in_the_objects_of_its_day(written: Written) -> None:
    for event in written.truth:
        day = day_of(event["time_ns"])
        names = {
            DATED: {f"date={day}/part-00000.parquet", f"date={day}/part-00001.parquet"},
            PATHED: {f"{day:%Y/%m/%d}/twap_statuses.parquet"},
            PATHED_AUGUST: {f"{day:%Y/%m/%d}/twap_statuses.parquet"},
        }
        hourly = {key for key in event["keys"] if key.startswith("hourly/")}
        others = set(event["keys"]) - hourly
        assert len(hourly) == (day in (HOURLY, TAIL)) or (hourly == {f"hourly/{day + timedelta(days=1):%Y%m%d}/0.jsonl"})
        if day in names:
            assert len(others & names[day]) == len(others) == 1
        else:
            is_twice = day == HOURLY and 5 <= event["time_ns"] // (3600 * 10**9) % 24 < 7
            assert others == ({f"{day:%Y/%m/%d}/twap_statuses.parquet"} if is_twice else set())


def test_the_table_of_objects_is_that_of_the_bucket(written: Written) -> None:
    for key, contents in written.twaps["status_objects"].items():
        layout = "hourly" if key.startswith("hourly/") else "dated" if key.startswith("date=") else "pathed"
        size = (written.sample.twap_data_dir / key).stat().st_size
        assert contents == {"rows": len(written.events[key]), "layout": layout, "bytes": size}
    junk = [path for path in written.sample.twap_data_dir.rglob("._*") if path.is_file()]
    assert [path.name for path in junk] == ["._part-00000.parquet"]
    assert not junk[0].read_bytes().startswith(b"PAR1")


def test_statuses_are_from_the_first_day_to_the_last_block(written: Written) -> None:
    times = [event["time_ns"] for event in written.truth]
    assert times == sorted(times)
    assert {day_of(time) for time in times} == {PATHED_AUGUST, HOURLY, DATED, PATHED, TAIL}
    assert times[-1] <= written.legs["block_time_ns"].max()  # pyright: ignore[reportOperatorIssue]
    assert len(set(map(order, written.truth))) == len(times)


def test_hours_are_cut_by_local_time_and_all_there(written: Written, blocks: dict[int, tuple[str, str]]) -> None:
    local = {nanoseconds(block): nanoseconds(local) for block, local in blocks.values()}
    hours = {key for key in written.events if key.startswith(f"hourly/{HOURLY:%Y%m%d}/")}
    assert hours == {f"hourly/{HOURLY:%Y%m%d}/{hour}.{'jsonl' if hour < 4 else 'lz4'}" for hour in range(24)}
    for key in (key for key in written.events if key.startswith("hourly/")):
        _, day, name = key.split("/")
        start = int(datetime.strptime(day + "+0000", "%Y%m%d%z").timestamp()) + int(name.split(".")[0]) * 3600
        assert all(start <= local[event["time_ns"]] // 10**9 < start + 3600 for event in written.events[key])
    # The last of the hourly day is in hour 0 of the day after, which is written otherwise.
    assert {day_of(event["time_ns"]) for event in written.events[f"hourly/{DATED:%Y%m%d}/0.jsonl"]} == {HOURLY}


def test_blocks_of_statuses_are_those_of_the_fills(written: Written, blocks: dict[int, tuple[str, str]]) -> None:
    lines = [
        (key, line)
        for key in written.events
        if key.startswith(f"hourly/{HOURLY:%Y%m%d}/")
        for line in json_lines(written.sample.twap_data_dir, key)
    ]
    plain = [key for key, line in lines if "events" not in line]
    assert plain
    assert all(key.endswith(".jsonl") for key in plain)
    in_blocks = [(key, line) for key, line in lines if "events" in line]
    for _, line in in_blocks:
        assert list(line) == ["local_time", "block_time", "block_number", "events"]
        assert (line["block_time"], line["local_time"]) == blocks[line["block_number"]]
        assert all(event["time"] == line["block_time"] for event in line["events"])
    assert max(len(line["events"]) for _, line in in_blocks) > 1
    assert len({line["block_number"] for _, line in in_blocks}) == len(in_blocks)
    for key in {key for key, _ in lines}:
        empty = [not line["events"] for of, line in in_blocks if of == key]
        assert all(empty) if not written.events[key] else not any(empty)
    parts = [read_parquet(written.sample.twap_data_dir / f"date={DATED}/part-0000{i}.parquet") for i in (0, 1)]
    rows = [row for part in parts for row in part.to_pylist()]
    assert all(part.num_rows for part in parts)
    assert all(row["block_time"] == blocks[row["block_number"]][0] for row in rows)


def test_events_have_the_form_of_the_real_ones(written: Written) -> None:
    real = [event for line in map(json.loads, REAL.splitlines()) for event in line.get("events", [line])]
    assert {json.dumps(event["status"]) for event in real} >= {'"activated"', '"finished"'}
    made = [
        event
        for key in written.events
        if key.startswith("hourly/")
        for line in json_lines(written.sample.twap_data_dir, key)
        for event in line.get("events", [line])
    ]
    for event in made:
        state = list(real[0]["state"]) + (["trigger", "stopPx"] if event["status"] == "waitingForTrigger" else [])
        assert (list(event), list(event["state"])) == (list(real[0]), state)
        assert {name: type(event["state"][name]) for name in real[0]["state"]} == {
            name: type(value) for name, value in real[0]["state"].items()
        }
        assert isinstance(event["status"], str) or list(event["status"]) == ["error"]
    assert "waitingForTrigger" in {event["status"] for event in made if isinstance(event["status"], str)}
    assert any(isinstance(event["status"], dict) for event in made)


def test_the_columns_of_dated_and_pathed_objects(written: Written) -> None:
    states = ["user", "coin", "side", "sz", "executedSz", "executedNtl", "minutes", "reduceOnly", "randomize", "timestamp"]
    names = {"twap_id", "time", "status", *(f"state_{name}" for name in states)}
    schemas = [
        pq.read_schema(written.sample.twap_data_dir / key)
        for key in (f"date={DATED}/part-00000.parquet", f"{PATHED:%Y/%m/%d}/twap_statuses.parquet")
    ]
    types = [{field.name: str(field.type) for field in schema} for schema in schemas]
    strings = dict.fromkeys(names, "string") | dict.fromkeys(("state_reduceOnly", "state_randomize"), "bool")
    numbers = dict.fromkeys(("twap_id", "state_minutes", "state_timestamp", "block_number"), "int64")
    assert types[0] == strings | numbers | {"block_time": "string"}
    times = dict.fromkeys(("time", "state_timestamp"), "timestamp[ns]")
    sizes = dict.fromkeys(("state_sz", "state_executedSz", "state_executedNtl"), "double")
    assert types[1] == strings | times | sizes | {"_metadata": "bool"}


@pytest.mark.parametrize("day", [PATHED_AUGUST, HOURLY, PATHED])
def test_pathed_times_read_as_1970_in_august_and_rightly_from_september_on(written: Written, day: date) -> None:
    table = read_parquet(written.sample.twap_data_dir / f"{day:%Y/%m/%d}/twap_statuses.parquet")
    metadata, times = table["_metadata"].to_pylist(), numbers_of_times(table)["time"].to_pylist()
    assert metadata == [True, *[False] * (len(metadata) - 2), True]
    found = {day_of(time) for time in times if time is not None}
    assert found == ({date(1970, 1, 1)} if day < date(2025, 9, 1) else {day})
    wallets = [wallet for wallet in table["state_user"].to_pylist() if wallet]
    assert all(wallet.startswith("0x") and wallet[2:] not in (wallet[2:].lower(), wallet[2:].upper()) for wallet in wallets)


def test_numbers_that_are_no_float_are_decimals() -> None:
    assert _numbers([(12_345_678_901, 0)]) == [(1.2345678901, 0.0)]
    assert _numbers([(10, 0), (10**18 - 1, 0)]) == [(Decimal("1e-9"), Decimal(0)), (Decimal("99999999.9999999999"), Decimal(0))]


def test_what_was_executed_is_the_sum_of_the_slices(written: Written) -> None:
    found = written.legs.drop_nulls("twap_id").group_by("twap_id").agg("px", "sz")
    observed: dict[int, tuple[Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0)))
    for twap_id, px, sz in found.rows():
        observed[twap_id] = (sum(sz, Decimal(0)), sum((p * s for p, s in zip(px, sz, strict=True)), Decimal(0)))
    compared = 0
    for event in written.truth:
        told = (event["size_executed"], event["notional_executed"])
        if event["status"] in STATUSES[:2]:
            assert told == (0, 0)
        elif event["twap_id"] in written.twaps["begun_before"]:
            assert told[0] >= observed[event["twap_id"]][0]
        elif event["twap_id"] not in written.twaps["missing_slices"]:
            assert told == observed[event["twap_id"]]
            compared += 1
        assert event["size_executed"] <= event["size_requested"]
        assert event["status"] != "finished" or event["size_executed"] == event["size_requested"]
    assert compared > 50


def test_of_missing_slices_the_other_legs_alone_are_there(written: Written) -> None:
    alone = written.legs.filter(pl.col("trade").is_not_null() & (pl.len().over("trade") == 1) & ~pl.col("crossed"))
    for twap_id in written.twaps["missing_slices"]:
        own = written.legs.filter(pl.col("twap_id") == twap_id)
        wallet, coin, side, sz = own.select("wallet", "coin", "side", "sz").row(0)
        assert own["wallet"].unique().to_list() == [wallet]
        between = pl.col("block_time_ns").is_between(own["block_time_ns"].min(), own["block_time_ns"].max())
        others = alone.filter(between & (pl.col("coin") == coin) & (pl.col("side") != side) & (pl.col("sz") == sz))
        end = written.of(twap_id)[-1]
        rows = [*own.select("px", "sz").rows(), *others.select("px", "sz").rows()]
        assert len(others)
        assert end["status"] == "finished"
        assert (end["size_executed"], end["notional_executed"]) == (sum(s for _, s in rows), sum(p * s for p, s in rows))


def test_the_statuses_of_each_kind(written: Written) -> None:
    expected = {
        "ordinary": [("activated", "finished")],
        "terminated": [("activated", "terminated")],
        "error_at_once": [("activated", "error"), ("error",)],
        "error_after_slices": [("activated", "error")],
        "running": [("activated",)],
        "no_last_status": [("activated",)],
        "no_status": [()],
        "missing_slices": [("activated", "finished")],
        "waited_for_trigger": [("waitingForTrigger", "activated", "finished")],
    }
    for kind, told in expected.items():
        found = {tuple(event["status"] for event in written.of(twap_id)) for twap_id in written.twaps[kind]}
        assert found == set(told), kind
    ends = {tuple(event["status"] for event in written.of(twap_id)) for twap_id in written.twaps["begun_before"]}
    assert ends <= {(), *((status,) for status in STATUSES[2:])}
    kinds = [set(written.twaps[kind]) for kind in (*LIVES, "no_last_status", "no_status", "missing_slices", "waited_for_trigger")]
    assert len(set().union(*kinds)) == sum(map(len, kinds))
    told = {event["twap_id"] for event in written.truth}
    assert told <= set().union(*kinds, written.twaps["begun_before"])
    assert len(written.twaps["ordinary"]) > sum(map(len, kinds)) / 2
    assert {event["status"] == "error" for event in written.truth if event["error"]} == {True}
    assert all(event["error"] for event in written.truth if event["status"] == "error")


def test_each_kind_is_there_each_day(written: Written, last_slices: dict[int, tuple[int, int]]) -> None:
    assert written.twaps.keys() == KINDS
    begins = {event["twap_id"]: day_of(event["time_ns"]) for event in reversed(written.truth)}
    begins |= {twap_id: day_of(last_slices[twap_id][0]) for twap_id in written.twaps["no_status"]}
    for kind in DAILY:
        days = {begins[twap_id] for twap_id in written.twaps[kind]}
        assert days >= {FIRST_DAY + timedelta(days=i) for i in range(DAYS)}, kind
    for flag in ("reduce_only", "randomize"):
        assert {event[flag] for event in written.truth} == {True, False}
    assert written.twaps["running"]
    assert written.twaps["begun_before"]


def test_a_twap_is_activated_in_its_first_slices_block_and_nothing_follows_its_end(
    written: Written, last_slices: dict[int, tuple[int, int]]
) -> None:
    began = 0
    for event in written.truth:
        first, last = last_slices.get(event["twap_id"], (None, None))
        in_ms = event["time_ns"] % 10**6 == 0
        if event["status"] == "activated" and first:
            assert event["time_ns"] == (first // 10**6 * 10**6 if in_ms else first)
            began += 1
        elif event["status"] in STATUSES[2:] and last:
            assert event["time_ns"] >= (last // 10**6 * 10**6 if in_ms else last)
    assert began > 50


def test_when_it_was_placed_is_the_same_in_all_of_a_twaps_statuses(written: Written) -> None:
    for twap_id in {event["twap_id"] for event in written.truth}:
        events = written.of(twap_id)
        same = ("started_at_ms", "wallet", "coin", "side", "size_requested", "duration_minutes", "reduce_only", "randomize")
        assert len({tuple(event[name] for name in same) for event in events}) == 1
        if twap_id not in written.twaps["begun_before"]:
            assert events[0]["started_at_ms"] == events[0]["time_ns"] // 10**6
        assert 5 <= events[0]["duration_minutes"] <= 4_320
        assert re.fullmatch("0x[0-9a-f]{40}", events[0]["wallet"])
    for twap_id in written.twaps["waited_for_trigger"]:
        waiting, activated, _ = written.of(twap_id)
        assert activated["time_ns"] - waiting["time_ns"] > 60 * 10**9


def test_what_was_asked_for_is_all_slices_of_its_minutes(written: Written) -> None:
    legs = written.legs.drop_nulls("twap_id").group_by("twap_id").agg(pl.col("oid").n_unique(), pl.col("sz").first(), n=pl.len())
    slices = {twap_id: (oids, sz, n) for twap_id, oids, sz, n in legs.rows()}
    for twap_id in written.twaps["ordinary"]:
        (oids, sz, n), event = slices[twap_id], written.of(twap_id)[-1]
        assert event["duration_minutes"] == (oids + 1) // 2
        assert event["size_requested"] == n * sz


def test_twaps_run_over_midnight_and_over_three_days(written: Written, last_slices: dict[int, tuple[int, int]]) -> None:
    days = {
        twap_id: (day_of(last) - day_of(first)).days
        for twap_id, (first, last) in last_slices.items()
        if twap_id not in written.twaps["begun_before"]
    }
    assert set(written.twaps["over_midnight"]) == {twap_id for twap_id, span in days.items() if span >= 1}
    assert set(written.twaps["three_days"]) == {twap_id for twap_id, span in days.items() if span >= 2}
    assert len(written.twaps["three_days"]) >= 2
    for twap_id in written.twaps["three_days"]:
        assert [day_of(event["time_ns"]) for event in written.of(twap_id)] == [FIRST_DAY, FIRST_DAY + timedelta(days=2)]
        assert written.legs.filter(pl.col("twap_id") == twap_id)["oid"].n_unique() > 2_880


@pytest.mark.parametrize("first_day", [FIRST_DAY, HOURLY, DATED])
def test_the_smallest_day_has_each_kind(tmp_path: Path, first_day: date) -> None:
    small = read(write_sample(tmp_path, first_day=first_day, fills_per_hour=1, record_legs=True))
    assert all(small.twaps[kind] for kind in KINDS - {"three_days"})
    kinds = {event["status"] for event in small.truth}
    assert kinds == set(STATUSES)


def test_before_there_were_statuses_there_are_none(tmp_path: Path) -> None:
    old = write_sample(tmp_path / "old", first_day=date(2025, 6, 20), hours=2, fills_per_hour=50, record_legs=True)
    assert old.twap_data_dir == tmp_path / "old/artemis-hyperliquid-data/raw/twap_statuses"
    assert list(old.twap_data_dir.iterdir()) == []
    assert read(old).truth == []
    first = read(write_sample(tmp_path / "first", first_day=date(2025, 8, 16), days=2, fills_per_hour=20, record_legs=True))
    assert {day_of(event["time_ns"]) for event in first.truth} == {date(2025, 8, 17), date(2025, 8, 18)}
    assert first.twaps["begun_before"]


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("one", "same"):
        sample = write_sample(tmp_path / name, first_day=HOURLY, days=2, fills_per_hour=5)
        paths = [path for root in (sample.twap_data_dir, sample.truth_dir) for path in root.rglob("*") if path.is_file()]
        found.append({path.relative_to(tmp_path / name): hashlib.sha256(path.read_bytes()).digest() for path in paths})
    assert found[0] == found[1]
    assert len(found[0]) > 30
