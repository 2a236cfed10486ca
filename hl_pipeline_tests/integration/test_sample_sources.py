"""Samples of the older datasets, and of hours that two datasets share, read with lz4, json and Decimal: a naive union of all."""

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import lz4.frame
import polars as pl
import pytest

from hl_pipeline.sample.generate import Sample, write_sample
from hl_pipeline.sample.sources import NODE_TRADES_MISSING_DAYS
from hl_pipeline_tests.records.reading import read_record

REAL_TRADES = read_record("node_trades_20250624_2.jsonl").decode()
BY_BLOCK, FILLS, TRADES = SOURCES = ("node_fills_by_block", "node_fills", "node_trades")
NON_MARKET = {"Spot Dust Conversion", "Settlement", "Split Outcome", "Merge Outcome", "Negate Outcome"}
ORDER = (
    *("coin", "px", "sz", "side", "time", "startPosition", "dir", "closedPnl", "hash", "oid", "crossed", "fee"),
    *("builderFee", "tid", "cloid", "liquidation", "feeToken", "builder", "twapId", "deployerFee", "priorityGas"),
)
COLUMNS = [
    *("source", "key", "time", "block_time_ns", "block_number", "coin", "wallet", "side", "px"),
    *("sz", "start_position", "closed_pnl", "fee", "builder_fee", "deployer_fee", "priority_gas"),
    *("dir", "crossed", "oid", "counterparty_oid", "tid", "twap_id"),
    *("fee_token", "builder", "liquidated_user", "liquidation_mark_px", "trade", "is_market"),
]
# First day, hours, fills an hour.
ONLY_TRADES = (date(2025, 4, 1), 2, 300)
FIRST_FILLS = (date(2025, 5, 25), 15, 150)
OVERLAP = (date(2025, 6, 10), 2, 300)
MISSING_TRADES = (date(2025, 6, 14), 1, 300)
LAST_FILLS = (date(2025, 7, 27), 10, 300)
ONLY_BY_BLOCK = (date(2026, 3, 15), 1, 300)

Fill = dict[str, Any]
Leg = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """A sample, and the lines of its objects by key, in the order of the hours."""

    sample: Sample
    lines: dict[str, list[str]]

    def of(self, source: str) -> dict[str, list[Any]]:
        return {key: [json.loads(line) for line in found] for key, found in self.lines.items() if key.startswith(source + "/")}

    @property
    def days(self) -> dict[str, Any]:
        return json.loads((self.sample.truth_dir / "days.json").read_text())

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.sample.truth_dir / f"{name}.parquet")


def hour_of(key: str) -> int:
    _, _, day, name = key.split("/")
    return int(datetime.strptime(day + "+0000", "%Y%m%d%z").timestamp()) // 3600 + int(name.removesuffix(".lz4"))


def nanoseconds(text: str) -> int:
    seconds, fraction = text.split(".")
    assert len(fraction) == 9
    return int(datetime.fromisoformat(seconds + "+00:00").timestamp()) * 10**9 + int(fraction)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text + "+00:00").timestamp() * 1000)


def write(target: Path, first_day: date, hours: int, fills_per_hour: int) -> Written:
    sample = write_sample(target, first_day=first_day, hours=hours, fills_per_hour=fills_per_hour, record_legs=True)
    return read(sample)


def read(sample: Sample) -> Written:
    paths = {str(path.relative_to(sample.node_data_dir)): path for path in sample.node_data_dir.rglob("*.lz4")}
    texts = {key: lz4.frame.decompress(paths[key].read_bytes()).decode() for key in sorted(paths, key=hour_of)}
    assert all(text.endswith("\n") for text in texts.values())
    return Written(sample, {key: text[:-1].split("\n") for key, text in texts.items()})


@pytest.fixture(scope="module", autouse=True)
def _exact_decimals() -> Iterator[None]:
    with localcontext(prec=76):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[date, Written]:
    kinds = (ONLY_TRADES, FIRST_FILLS, OVERLAP, MISSING_TRADES, LAST_FILLS, ONLY_BY_BLOCK)
    return {kind[0]: write(tmp_path_factory.mktemp("made"), *kind) for kind in kinds}


every_kind = pytest.mark.parametrize(
    "first_day",
    [
        pytest.param(ONLY_TRADES[0], id="only_trades"),
        pytest.param(FIRST_FILLS[0], id="first_fills"),
        pytest.param(OVERLAP[0], id="overlap"),
        pytest.param(MISSING_TRADES[0], id="missing_trades"),
        pytest.param(LAST_FILLS[0], id="last_fills"),
        pytest.param(ONLY_BY_BLOCK[0], id="only_by_block"),
    ],
)


def leg_of_fill(source: str, key: str, wallet: str, fill: Fill) -> Leg:
    def number(name: str) -> Decimal | None:
        return Decimal(fill[name]) if name in fill else None

    liquidation = fill.get("liquidation", {})
    return {
        "source": source,
        "key": key,
        "wallet": wallet,
        "block_number": None,
        "counterparty_oid": None,
        **{name: fill[name] for name in ("time", "coin", "side", "dir", "crossed", "oid", "tid")},
        **{name: number(name) for name in ("px", "sz", "fee")},
        "start_position": number("startPosition"),
        "closed_pnl": number("closedPnl"),
        "builder_fee": number("builderFee"),
        "deployer_fee": number("deployerFee"),
        "priority_gas": number("priorityGas"),
        "twap_id": fill.get("twapId"),
        "fee_token": fill["feeToken"],
        "builder": fill.get("builder"),
        "liquidated_user": liquidation.get("liquidatedUser"),
        "liquidation_mark_px": Decimal(liquidation["markPx"]) if liquidation else None,
        "is_market": fill["dir"] not in NON_MARKET,
    }


def legs_of_trade(key: str, trade: dict[str, Any]) -> tuple[Leg, Leg]:
    def leg(side: str, own: Fill, other: Fill) -> Leg:
        return {
            **dict.fromkeys(COLUMNS),
            "source": TRADES,
            "key": key,
            "time": nanoseconds(trade["time"]) // 10**6,
            "coin": trade["coin"],
            "block_time_ns": nanoseconds(trade["time"]),
            "wallet": own["user"],
            "side": side,
            "oid": own["oid"],
            "px": Decimal(trade["px"]),
            "sz": Decimal(trade["sz"]),
            "start_position": Decimal(own["start_pos"]),
            "crossed": trade["side"] == side,
            "counterparty_oid": other["oid"],
            "twap_id": own["twap_id"],
            "is_market": True,
        }

    buyer, seller = trade["side_info"]
    return leg("B", buyer, seller), leg("A", seller, buyer)


def likeness(leg: Leg) -> tuple[Any, ...]:
    """What tells whether a leg of node_trades is one of the fills."""
    return tuple(leg[name] for name in ("time", "coin", "wallet", "side", "oid", "start_position", "px", "sz"))


def naive_union(written: Written) -> dict[str, list[Leg]]:
    """What can be had, each leg once from its best source: by object, in the order of the file."""
    found: dict[str, list[Leg]] = {}
    seen = set()
    for key, blocks in written.of(BY_BLOCK).items():
        found[key] = [
            leg_of_fill(BY_BLOCK, key, wallet, fill)
            | {"block_number": block["block_number"], "block_time_ns": nanoseconds(block["block_time"])}
            for block in blocks
            for wallet, fill in block["events"]
        ]
        seen |= {(leg["time"], leg["coin"], leg["tid"], leg["wallet"], leg["side"]) for leg in found[key]}
    for key, fills in written.of(FILLS).items():
        legs = [leg_of_fill(FILLS, key, wallet, fill) for wallet, fill in fills]
        found[key] = [leg for leg in legs if (leg["time"], leg["coin"], leg["tid"], leg["wallet"], leg["side"]) not in seen]
    had = Counter(likeness(leg) for legs in found.values() for leg in legs)
    for key, trades in written.of(TRADES).items():
        found[key] = []
        for leg in (leg for trade in trades for leg in legs_of_trade(key, trade)):
            if had[likeness(leg)]:
                had[likeness(leg)] -= 1
            else:
                found[key].append(leg)
    return found


@every_kind
def test_the_legs_recorded_are_the_union_of_the_objects(made: dict[date, Written], first_day: date) -> None:
    written = made[first_day]
    table = written.table("legs")
    assert table.columns == COLUMNS
    recorded = defaultdict(list)
    for leg in table.to_dicts():
        recorded[leg["key"]].append(leg)
    union = {key: legs for key, legs in naive_union(written).items() if legs}
    assert recorded.keys() == union.keys()
    # The true tid and the generator's number are beyond what node_trades tells, the nanoseconds beyond node_fills.
    for key, legs in union.items():
        for is_, expected in zip(recorded[key], legs, strict=True):
            unknown = {"trade"} | ({"tid"} if expected["source"] == TRADES else set())
            assert {name: is_[name] for name in expected.keys() - unknown} == {
                name: expected[name] for name in expected.keys() - unknown
            }


@every_kind
def test_legs_are_in_the_order_of_time_and_typed(made: dict[date, Written], first_day: date) -> None:
    table = made[first_day].table("legs")
    assert table["block_time_ns"].is_sorted()
    assert table["time"].equals((table["block_time_ns"] // 10**6).alias("time"))
    decimals = [name for name, dtype in table.schema.items() if dtype == pl.Decimal(38, 10)]
    money = ["px", "sz", "start_position", "closed_pnl", "fee", "builder_fee", "deployer_fee", "priority_gas"]
    assert decimals == [*money, "liquidation_mark_px"]
    integers = [name for name, dtype in table.schema.items() if dtype == pl.Int64]
    assert integers == ["time", "block_time_ns", "block_number", "oid", "counterparty_oid", "tid", "twap_id", "trade"]
    assert made[first_day].sample.fills == len(table)


@every_kind
def test_a_trade_has_a_number_and_a_tid_of_its_own(made: dict[date, Written], first_day: date) -> None:
    table = made[first_day].table("legs")
    assert table["trade"].is_null().equals((~table["is_market"]).alias("trade"))
    market = table.filter("is_market")
    trades = market.group_by("trade").agg(
        pl.len(), pl.col("tid", "coin", "time", "px", "sz").n_unique(), pl.col("side").n_unique().alias("sides")
    )
    assert trades.select(pl.col("tid", "coin", "time", "px", "sz").max()).row(0) == (1, 1, 1, 1, 1)
    assert trades.select(pl.col("len").max()).item() == 2
    assert trades["len"].equals(trades["sides"].alias("len"))
    assert market["tid"].n_unique() == len(trades)
    assert 0 not in market["tid"]


@every_kind
def test_the_sums_are_those_of_the_union_and_leave_out_what_is_unknown(made: dict[date, Written], first_day: date) -> None:
    written = made[first_day]
    sums: dict[tuple[date, str, str], Counter[str]] = defaultdict(Counter)
    fees: dict[tuple[date, str, str, str], list[Any]] = defaultdict(lambda: [0, 0])
    for leg in (leg for legs in naive_union(written).values() for leg in legs):
        key = (datetime.fromtimestamp(leg["time"] // 1000, UTC).date(), leg["coin"], leg["wallet"])
        values = {
            "rows": 1,
            "taker_rows": leg["crossed"],
            "twap_rows": leg["twap_id"] is not None,
            "liquidation_rows": leg["liquidated_user"] is not None,
            "non_market_rows": not leg["is_market"],
            "sz_sum": leg["sz"],
            "taker_sz_sum": leg["sz"] * leg["crossed"],
            "notional_sum": leg["px"] * leg["sz"],
            **{f"{name}_sum": leg[name] or 0 for name in ("start_position", "closed_pnl", "fee", "builder_fee", "tid", "oid")},
        }
        for name, value in values.items():
            sums[key][name] += value
        if leg["fee_token"]:
            of_token = fees[*key, leg["fee_token"]]
            of_token[0] += 1
            of_token[1] += leg["fee"]
    keys = ["date", "coin", "wallet"]
    assert {tuple(line.pop(key) for key in keys): line for line in written.table("fills").to_dicts()} == sums
    assert {line[:4]: list(line[4:]) for line in written.table("fees").rows()} == fees


@every_kind
def test_the_counts_by_day_are_those_of_the_union(made: dict[date, Written], first_day: date) -> None:
    written = made[first_day]
    fills = {
        (time, fill["coin"], fill["tid"], wallet, fill["side"]): fill
        for source in (BY_BLOCK, FILLS)
        for object_ in written.of(source).values()
        for line in object_
        for wallet, fill in (line["events"] if source == BY_BLOCK else [line])
        for time in [fill["time"]]
    }
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    times, twaps, trades = defaultdict(list), defaultdict(set), defaultdict(lambda: defaultdict(list))
    for legs in naive_union(written).values():
        for leg in legs:
            day = str(datetime.fromtimestamp(leg["time"] // 1000, UTC).date())
            fill = fills.get((leg["time"], leg["coin"], leg["tid"], leg["wallet"], leg["side"]), {})
            counts[day].update(
                {
                    "rows": 1,
                    "dust_rows": leg["dir"] == "Spot Dust Conversion",
                    "twap_rows": leg["twap_id"] is not None,
                    "liquidation_rows": leg["liquidated_user"] is not None,
                    "non_market_rows": not leg["is_market"],
                    "unknown_dir_rows": leg["dir"] == "Frobnicate Outcome",
                    "unknown_field_rows": not fill.keys() <= set(ORDER),
                    "missing_twap_key_rows": bool(fill) and "twapId" not in fill,
                }
            )
            times[day].append(leg["time"])
            twaps[day] |= {leg["twap_id"]} - {None}
    # The legs of a trade, put together by tid; by the order ids where one comes from node_trades.
    oids = defaultdict[Any, deque[frozenset[int]]](deque)
    for trade_legs in (legs_of_trade(key, trade) for key, found in written.of(TRADES).items() for trade in found):
        for leg in trade_legs:
            # A wallet that trades with itself is where it was: its legs may be alike, and stand in their order.
            oids[likeness(leg)].append(frozenset((leg["oid"], leg["counterparty_oid"])))
    in_trades = {hour_of(key) for key in written.of(TRADES)}
    for key, legs in naive_union(written).items():
        for leg in (leg for leg in legs if leg["is_market"]):
            day = str(datetime.fromtimestamp(leg["time"] // 1000, UTC).date())
            name = oids[likeness(leg)].popleft() if hour_of(key) in in_trades else leg["tid"]
            trades[day][leg["time"], leg["coin"], name, leg["px"], leg["sz"]].append(leg)
    for day, by_trade in trades.items():
        # Trades of one order with one other may be alike in all but tid.
        both = [legs for legs in by_trade.values() if len(legs) % 2 == 0]
        alone = len(by_trade) - len(both)
        own = sum(legs[0]["wallet"] == legs[1]["wallet"] for legs in both)
        counts[day].update({"trades": sum(len(legs) // 2 for legs in both) + alone, "single_leg_tids": alone, "self_trades": own})
    assert written.days["days"] == {
        day: {
            **dict.fromkeys(("trades", "single_leg_tids", "self_trades"), 0),
            **found,
            "twaps": len(twaps[day]),
            "first_time_ms": min(times[day]),
            "last_time_ms": max(times[day]),
        }
        for day, found in counts.items()
    }


@every_kind
def test_the_table_of_objects_is_that_of_the_bucket(made: dict[date, Written], first_day: date) -> None:
    written = made[first_day]
    size = {key: (written.sample.node_data_dir / key).stat().st_size for key in written.lines}
    lines = {key: len(found) for key, found in written.lines.items()}
    objects = written.days["objects"]
    assert objects.keys() == size.keys()
    assert {key: contents["bytes"] for key, contents in objects.items()} == size
    assert written.sample.objects == len(objects)
    for key in written.of(FILLS):
        assert objects[key] == {"rows": lines[key], "lines": lines[key], "bytes": size[key]}
    for key in written.of(TRADES):
        assert objects[key] == {"rows": 2 * lines[key], "lines": lines[key], "bytes": size[key]}
    for key, blocks in written.of(BY_BLOCK).items():
        assert (objects[key]["blocks"], objects[key]["first_block"]) == (len(blocks), blocks[0]["block_number"])


def test_a_line_of_node_fills_is_a_pair_in_the_order_of_the_blocks(made: dict[date, Written]) -> None:
    written = made[MISSING_TRADES[0]]
    for key, pairs in written.of(FILLS).items():
        assert [json.dumps(pair, separators=(",", ":")) for pair in pairs] == written.lines[key]
        for wallet, fill in pairs:
            assert len(wallet) == 42
            assert [name for name in fill if name in ORDER] == [name for name in ORDER if name in fill]
        times = [fill["time"] for _, fill in pairs]
        assert times == sorted(times)


def test_a_line_of_node_trades_has_the_form_of_the_real_ones(made: dict[date, Written]) -> None:
    real = [json.loads(line) for line in REAL_TRADES.splitlines()]
    assert [json.dumps(trade, separators=(",", ":")) for trade in real] == REAL_TRADES.splitlines()
    for first_day in (ONLY_TRADES[0], OVERLAP[0]):
        written = made[first_day]
        for key, trades in written.of(TRADES).items():
            assert [json.dumps(trade, separators=(",", ":")) for trade in trades] == written.lines[key]
            for trade in trades:
                assert list(trade) == list(real[0])
                assert [list(leg) for leg in trade["side_info"]] == [list(leg) for leg in real[0]["side_info"]]
                assert {type(leg["cloid"]) for leg in trade["side_info"]} <= {str, type(None)}
                assert all(len(leg["cloid"] or 34 * "x") == 34 and len(leg["user"]) == 42 for leg in trade["side_info"])
                assert trade["trade_dir_override"] == "Na"
                assert len(trade["hash"]) == 66


def test_node_trades_say_what_the_fills_say_and_have_the_legs_that_those_lost(made: dict[date, Written]) -> None:
    written = made[OVERLAP[0]]
    fills = {
        (fill["time"], fill["oid"], wallet, fill["side"], fill["startPosition"]): fill
        for pairs in written.of(FILLS).values()
        for wallet, fill in pairs
        if fill["dir"] not in NON_MARKET
    }
    lost = 0
    for trade in (trade for trades in written.of(TRADES).values() for trade in trades):
        time = nanoseconds(trade["time"]) // 10**6
        found = []
        for side, leg in zip("BA", trade["side_info"], strict=True):
            fill = fills.pop((time, leg["oid"], leg["user"], side, leg["start_pos"]), None)
            if fill:
                found.append(fill)
                assert [fill[name] for name in ("coin", "px", "sz", "hash")] == [
                    trade[name] for name in ("coin", "px", "sz", "hash")
                ]
                assert (fill.get("cloid"), fill.get("twapId")) == (leg["cloid"], leg["twap_id"])
                assert fill["crossed"] == (trade["side"] == side)
        assert found
        lost += 2 - len(found)
    assert not fills
    assert lost > 0


def test_node_fills_begin_within_an_hour(made: dict[date, Written]) -> None:
    found = made[FIRST_FILLS[0]].of(FILLS)
    keys = list(found)
    assert keys == ["node_fills/hourly/20250525/14.lz4", "node_fills/hourly/20250525/15.lz4"]
    times = [fill["time"] for _, fill in found[keys[0]]]
    assert ms("2025-05-25T14:21:17") <= min(times) < ms("2025-05-25T14:25:00")


def test_the_last_hour_of_node_fills_is_whole_in_neither_prefix(made: dict[date, Written]) -> None:
    written = made[LAST_FILLS[0]]
    fills, blocks = written.of(FILLS), written.of(BY_BLOCK)
    assert [key.split("/", 1)[1] for key in fills] == [f"hourly/20250727/{hour}.lz4" for hour in range(9)]
    assert [key.split("/", 1)[1] for key in blocks] == [f"hourly/20250727/{hour}.lz4" for hour in (8, 9, 10)]
    old = {(wallet, json.dumps(fill)): fill["time"] for wallet, fill in fills["node_fills/hourly/20250727/8.lz4"]}
    first = blocks["node_fills_by_block/hourly/20250727/8.lz4"]
    new = {(wallet, json.dumps(fill)): fill["time"] for block in first for wallet, fill in block["events"]}
    assert min(old.values()) < ms("2025-07-27T08:01:00")
    assert ms("2025-07-27T08:50:00") < max(old.values()) < ms("2025-07-27T08:55:03")
    assert min(nanoseconds(block["block_time"]) for block in first) >= ms("2025-07-27T08:50:10.270") * 10**6
    assert max(new.values()) > ms("2025-07-27T08:58:00")
    shared = old.keys() & new.keys()
    assert shared
    assert all(row in shared for row, time in old.items() if time >= ms("2025-07-27T08:50:10.271"))
    assert all(row in shared for row, time in new.items() if time < ms("2025-07-27T08:55:03"))
    numbers = [block["block_number"] for of_object in blocks.values() for block in of_object]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_26_days_of_node_trades_are_missing() -> None:
    days = NODE_TRADES_MISSING_DAYS
    assert len(days) == 26
    assert date(2025, 3, 22) < min(days) <= max(days) < date(2025, 6, 21)
    assert sum(day > date(2025, 5, 25) for day in days) >= 2


@pytest.mark.parametrize(
    ("first_day", "missing", "others"),
    [
        (date(2025, 5, 29), date(2025, 5, 30), 24),
        (date(2025, 4, 3), date(2025, 4, 4), 0),
        (date(2025, 6, 21), date(2025, 6, 22), 24),
    ],
)
def test_a_day_without_node_trades_has_no_object_of_it(tmp_path: Path, first_day: date, missing: date, others: int) -> None:
    keys = read(write_sample(tmp_path, first_day=first_day, days=2, fills_per_hour=10, record_legs=True)).lines
    assert sum(f"node_trades/hourly/{first_day:%Y%m%d}/" in key for key in keys) == 24
    assert not any(f"node_trades/hourly/{missing:%Y%m%d}/" in key for key in keys)
    assert sum(f"node_fills/hourly/{missing:%Y%m%d}/" in key for key in keys) == others


@pytest.mark.parametrize(
    ("first_day", "possible"),
    [(date(2024, 12, 31), "2025-03-22"), (date(2025, 3, 21), "2025-03-22"), (date(2025, 4, 12), "2025-04-18")],
)
def test_a_sample_that_would_begin_with_nothing_is_refused(tmp_path: Path, first_day: date, possible: str) -> None:
    with pytest.raises(ValueError, match=possible):
        write_sample(tmp_path, first_day=first_day, fills_per_hour=10)
    assert not list(tmp_path.rglob("*.lz4"))


def test_legs_are_recorded_when_asked_for_alone(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, first_day=date(2026, 3, 15), hours=1, fills_per_hour=10)
    statuses = {"statuses.parquet", "twaps.json"}
    assert {path.name for path in sample.truth_dir.iterdir()} == {"fills.parquet", "fees.parquet", "days.json"} | statuses
