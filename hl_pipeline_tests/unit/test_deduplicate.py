"""Each fill is kept once, from the best source that has it: hand-made cases, and random sources made from known trades."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, permutations
from random import Random
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from hl_pipeline.domain.deduplicate import MATCH_KEY, Deduplicated, deduplicate
from hl_pipeline.formats.fills import DAY_SCHEMA, FILL_KEY, FILL_SCHEMA

BY_BLOCK, FILLS, TRADES = SOURCES = ("node_fills_by_block", "node_fills", "node_trades")
API, API_KEY = "api_fills", "api_fills/date=2025-06-10/shard=07.parquet"
START = datetime(2025, 6, 10, 7, tzinfo=UTC)
UNKNOWN_TO_TRADES = ("dir", "closed_pnl", "fee", "fee_token", "builder")

Row = dict[str, Any]


def frame(rows: Iterable[Row]) -> pl.DataFrame:
    """The rows, those of each object in its order unless they say which they are."""
    ordinals = defaultdict[str, Iterator[int]](count)
    return pl.DataFrame([{"ordinal": next(ordinals[row["object"]]), **row} for row in rows], DAY_SCHEMA, orient="row")


def deduplicated(rows: Iterable[Row]) -> Deduplicated:
    return deduplicate(frame(rows))


def leg(n: int = 1, *, side: str = "B", source: str = BY_BLOCK, ms: int = 0, line: int = 1, **other: Any) -> Row:
    """A leg of trade `n`: the buyer is 0xb with order 100 + n, the seller 0xa with order 200 + n; 0xb takes."""
    own, met = (100 + n, 200 + n) if side == "B" else (200 + n, 100 + n)
    values: Row = {
        **dict.fromkeys(FILL_SCHEMA),
        "time": START + timedelta(milliseconds=ms),
        "block_time_ns": None,
        "coin": "BTC",
        "wallet": "0xb" if side == "B" else "0xa",
        "side": side,
        "px": Decimal(7),
        "sz": Decimal(n),
        "start_position": Decimal(0),
        "dir": "Open Long" if side == "B" else "Open Short",
        "closed_pnl": Decimal(0),
        "oid": own,
        "crossed": side == "B",
        "fee": Decimal("0.5"),
        "fee_token": "USDC",
        "tid": 1000 + n,
        "line": line,
        "object": API_KEY if source == API else f"{source}/hourly/20250610/7.lz4",
    }
    if source == BY_BLOCK:
        values |= {"block_number": 5, "block_time_ns": 6}
    if source == TRADES:
        values |= dict.fromkeys(UNKNOWN_TO_TRADES) | {"tid": None, "counterparty_oid": met, "block_time_ns": 6}
    return values | other


def source_of(row: Row) -> str:
    return row["object"].partition("/")[0]


def of_source(done: Deduplicated) -> list[str]:
    return [source_of(row) for row in done.fills.to_dicts()]


def test_repeats_within_a_source_go_and_are_no_conflict_when_they_say_the_same() -> None:
    for source in SOURCES:
        rows = [leg(1, source=source), leg(1, side="A", source=source)]
        repeats = [leg(1, source=source, line=9), leg(1, side="A", source=source, line=9)]
        done = deduplicated(rows + repeats)
        assert (done.duplicates, done.conflicts) == (2, 0)
        assert done.fills.equals(frame(rows))


def test_what_is_there_once_stays_as_it_is() -> None:
    rows = [leg(1), leg(1, side="A"), leg(2), leg(3, side="A", source=FILLS)]
    done = deduplicated(rows)
    assert (done.duplicates, done.conflicts) == (0, 0)
    assert done.fills.equals(frame(rows))


def test_nothing_is_of_nothing() -> None:
    done = deduplicated([])
    assert (done.fills.height, done.duplicates, done.conflicts) == (0, 0, 0)
    assert done.fills.schema == frame([]).schema


def test_by_block_counts_before_node_fills_and_both_before_node_trades() -> None:
    rows = [leg(1, source=source) for source in SOURCES]
    for order in permutations(rows):
        done = deduplicated(order)
        assert (of_source(done), done.duplicates, done.conflicts) == ([BY_BLOCK], 2, 0)
    done = deduplicated([leg(1, source=TRADES), leg(1, source=FILLS)])
    assert (of_source(done), done.duplicates, done.conflicts) == ([FILLS], 1, 0)


def test_the_api_counts_after_both_node_fills_and_before_node_trades() -> None:
    for source, kept in [(BY_BLOCK, BY_BLOCK), (FILLS, FILLS), (TRADES, API)]:
        done = deduplicated([leg(1, source=source), leg(1, source=API)])
        assert (of_source(done), done.duplicates, done.conflicts) == ([kept], 1, 0)
        assert done.fills["fee"].to_list() == [Decimal("0.5")]


def test_legs_that_differ_in_wallet_side_or_tid_alone_all_stay() -> None:
    rows = [leg(1), leg(1, side="A", wallet="0xb"), leg(1, wallet="0xc"), leg(1, tid=5), leg(1, tid=0), leg(1, coin="btc")]
    done = deduplicated(rows)
    assert (done.fills.height, done.duplicates) == (6, 0)


def test_legs_of_node_trades_that_differ_in_an_order_alone_all_stay() -> None:
    rows = [leg(1, source=TRADES), leg(1, source=TRADES, counterparty_oid=5), leg(1, source=TRADES, oid=5)]
    done = deduplicated(rows)
    assert (done.fills.height, done.duplicates) == (3, 0)


def test_of_two_alike_legs_one_stays_when_node_fills_has_one() -> None:
    alike = [leg(1, source=TRADES, line=1), leg(1, source=TRADES, line=2, counterparty_oid=5)]
    done = deduplicated([*alike, leg(1, source=FILLS)])
    assert (sorted(of_source(done)), done.duplicates, done.conflicts) == ([FILLS, TRADES], 1, 0)
    both = deduplicated([*alike, leg(1, source=FILLS), leg(1, source=FILLS, tid=5)])
    assert (of_source(both), both.duplicates, both.conflicts) == ([FILLS, FILLS], 2, 0)


def test_a_leg_gets_the_tid_of_its_trades_other_leg() -> None:
    done = deduplicated([leg(1, source=TRADES), leg(1, side="A", source=TRADES), leg(1, side="A", source=FILLS)])
    assert (done.duplicates, done.conflicts) == (1, 0)
    assert sorted(done.fills.select("side", "tid", "counterparty_oid").rows()) == [("A", 1001, None), ("B", 1001, 201)]


def test_a_leg_has_no_tid_where_no_better_source_has_the_other() -> None:
    rows = [leg(n, side=side, source=TRADES, line=n) for n in (1, 2) for side in "BA"]
    done = deduplicated([*rows, leg(1, source=FILLS), leg(1, side="A", source=FILLS)])
    assert sorted(done.fills.select("oid", "tid").rows()) == [(101, 1001), (102, None), (201, 1001), (202, None)]


def test_a_leg_like_one_in_node_fills_is_kept_with_the_tid_of_its_own_trade() -> None:
    """Two takings alike of one order: node_fills has both makers, and the taker's leg of the second trade alone."""
    taker = {"oid": 100, "sz": Decimal(3)}
    in_trades = [
        row
        for n in (1, 2)
        for row in (
            leg(n, source=TRADES, line=n, **taker),
            leg(n, side="A", source=TRADES, line=n, sz=Decimal(3), counterparty_oid=100),
        )
    ]
    makers = [leg(n, side="A", source=FILLS, sz=Decimal(3)) for n in (1, 2)]
    for taken in (1, 2):
        done = deduplicated([*in_trades, *makers, leg(taken, source=FILLS, **taker)])
        assert (done.fills.height, done.duplicates, done.conflicts) == (4, 3, 0)
        assert sorted(done.fills.select("side", "tid").rows()) == [("A", 1001), ("A", 1002), ("B", 1001), ("B", 1002)]


def test_a_leg_whose_start_position_node_trades_does_not_say_is_still_the_same_leg() -> None:
    nowhere: Row = {"start_position": None}
    in_trades = [leg(1, source=TRADES, **nowhere), leg(1, side="A", source=TRADES, **nowhere)]
    done = deduplicated([*in_trades, leg(1, source=FILLS), leg(1, side="A", source=FILLS)])
    assert (of_source(done), done.duplicates, done.conflicts) == ([FILLS, FILLS], 2, 0)
    half = [leg(1, source=TRADES), leg(1, side="A", source=TRADES, **nowhere)]
    done = deduplicated([*half, leg(1, source=FILLS), leg(1, side="A", source=FILLS)])
    assert (of_source(done), done.duplicates, done.conflicts) == ([FILLS, FILLS], 2, 0)


def test_a_trade_with_two_different_start_positions_is_kept_once_as_a_conflict() -> None:
    in_trades = [leg(1, source=TRADES), leg(1, side="A", source=TRADES)]
    in_fills = [leg(1, side=side, source=FILLS, start_position=Decimal("0.0000000001")) for side in "BA"]
    done = deduplicated([*in_trades, *in_fills])
    assert (of_source(done), done.duplicates, done.conflicts) == ([FILLS, FILLS], 2, 2)


def test_repeats_that_say_other_things_are_counted_as_conflicts() -> None:
    assert deduplicated([leg(1), leg(1, px=Decimal(8))]).conflicts == 1
    assert deduplicated([leg(1), leg(1, fee=None)]).conflicts == 1
    assert deduplicated([leg(1), leg(1, extra='{"new":1}')]).conflicts == 1
    assert deduplicated([leg(1), leg(1, px=Decimal(8)), leg(1), leg(1, px=Decimal(9))]).conflicts == 2
    assert deduplicated([leg(1), leg(1, source=FILLS, px=Decimal(8))]).conflicts == 1
    assert deduplicated([leg(1, source=TRADES), leg(1, source=TRADES, twap_id=3)]).conflicts == 1


def test_what_node_trades_says_otherwise_of_a_fill_is_a_conflict() -> None:
    in_trades = [leg(1, source=TRADES), leg(1, side="A", source=TRADES)]
    done = deduplicated([*in_trades, leg(1, source=FILLS), leg(1, side="A", source=FILLS, start_position=Decimal(3))])
    assert (of_source(done), done.duplicates, done.conflicts) == ([FILLS, FILLS], 2, 1)
    assert deduplicated([leg(1, source=TRADES, twap_id=4), leg(1, source=FILLS, twap_id=5)]).conflicts == 1


def test_sources_do_not_contradict_each_other_where_one_knows_nothing() -> None:
    assert deduplicated([leg(1), leg(1, source=FILLS, dir=None, builder=None, block_number=None)]).conflicts == 0
    assert deduplicated([leg(1), leg(1, source=FILLS, extra='{"_missing":["twapId"]}')]).conflicts == 0
    assert deduplicated([leg(1), leg(1, source=FILLS, line=77)]).conflicts == 0


def test_the_order_of_time_is_kept_and_within_a_moment_that_of_the_source() -> None:
    rows = [leg(n, ms=ms) for n, ms in ((1, 0), (2, 5), (3, 5), (4, 9))]
    repeated = [*rows[2:], *rows[:2], leg(2, ms=5)]
    done = deduplicated(repeated)
    assert done.fills["time"].is_sorted()
    assert done.fills["tid"].to_list() == [1001, 1003, 1002, 1004]


def test_a_source_adds_to_a_better_one_only_what_that_lacks_in_the_order_of_time() -> None:
    fills = [leg(n, ms=n, source=FILLS) for n in (1, 3, 5)]
    trades = [leg(n, ms=n, side=side, source=TRADES, line=n) for n in range(1, 7) for side in "BA"]
    done = deduplicated([*trades, *fills])
    assert done.fills["time"].is_sorted()
    kept = {(n, side): FILLS if side == "B" and n in (1, 3, 5) else TRADES for n in range(1, 7) for side in "BA"}
    assert {
        (int(sz), side): name.partition("/")[0] for sz, side, name in done.fills.select("sz", "side", "object").rows()
    } == kept
    assert done.fills.height == 12
    assert done.duplicates == 3


def place(row: Row) -> tuple[Any, ...]:
    """Return the sort key of a fill, independently of the code: a missing block or ordinal comes last."""
    date, name = row["object"].split("/")[-2:]
    if source_of(row) == API:
        source, hour = 9, int(name[6:8], 16)
    else:
        source, hour = {TRADES: 1, FILLS: 2, BY_BLOCK: 3}[source_of(row)], int(name.partition(".")[0])
    unknown = tuple((row[name] is None, row[name] or 0) for name in ("block_number", "ordinal"))
    return row["time"], unknown[0], source, date, hour, unknown[1]


def test_fills_of_a_moment_stand_by_block_object_and_ordinal_whatever_came_first() -> None:
    rows = [
        leg(1, block_number=5, ordinal=9, object=f"{BY_BLOCK}/hourly/20250610/10.lz4"),
        leg(2, block_number=5, ordinal=1, object=f"{BY_BLOCK}/hourly/20250610/9.lz4"),
        leg(3, block_number=5, ordinal=2, object=f"{BY_BLOCK}/hourly/20250610/9.lz4"),
        leg(4, block_number=4, ordinal=8, object=f"{BY_BLOCK}/hourly/20250610/10.lz4"),
        leg(5, source=FILLS, ordinal=4),
        leg(6, source=API, ordinal=0),
        leg(7, source=API, ordinal=None),
        leg(8, source=API, ordinal=None),
        leg(9, ms=-1, block_number=3, ordinal=1, object=f"{BY_BLOCK}/hourly/20250610/10.lz4"),
    ]
    for seed in range(20):
        mixed = Random(seed).sample(rows, len(rows))
        assert [row["tid"] - 1000 for row in deduplicated(mixed).fills.to_dicts()] == [9, 4, 2, 3, 1, 5, 6, 7, 8]


def test_of_repeats_the_first_of_the_earliest_object_stays_whatever_came_first() -> None:
    earlier, later = (f"{BY_BLOCK}/hourly/20250610/{hour}.lz4" for hour in (9, 10))
    rows = [leg(1, object=later, ordinal=0), leg(1, object=earlier, ordinal=7), leg(1, object=earlier, ordinal=3), leg(2, ms=1)]
    for order in permutations(rows):
        done = deduplicated(order)
        assert done.fills.select("object", "ordinal").row(0) == (earlier, 3)
        assert (done.fills.height, done.duplicates) == (2, 2)


# Trades that happened, with little to tell them apart, and of each leg which sources have it.
amounts = st.sampled_from([Decimal(1), Decimal("2.5")])
Drawn = tuple[list[Row], list[list[Row]]]


@st.composite
def sources_of_trades(draw: st.DrawFn) -> Drawn:
    """The legs that any source has, each from the best one and with its tid; and the rows of the three sources, some doubled.

    node_trades has all trades or none; no two of one moment are between the same orders.
    """
    in_trades = draw(st.booleans())
    orders = draw(st.lists(st.tuples(*[st.integers(0, 2)] * 3), max_size=8, unique=True))
    known: list[Row] = []
    rows: list[list[Row]] = [[], [], []]
    for number, (bought, sold, ms) in enumerate(orders):
        shared = {"px": draw(amounts), "sz": draw(amounts), "ms": ms, "line": number}
        for side, own, met in (("B", bought, sold), ("A", sold, bought)):
            has = [draw(st.booleans()), draw(st.booleans()), in_trades]
            values = {**shared, "oid": 100 * (side == "A") + own, "tid": 1000 + number, "wallet": f"0x{own % 2}"}
            values["start_position"] = draw(amounts)
            of = [leg(side=side, source=source, **values) for source in SOURCES]
            of[2] |= {"tid": None, "counterparty_oid": 100 * (side == "B") + met}
            for source, row in enumerate(of):
                rows[source].extend([row] * (has[source] * draw(st.integers(1, 2))))
            if any(has):
                known.append(of[has.index(True)] | {"tid": 1000 + number})
    return known, [sorted(of, key=lambda row: row["time"]) for of in rows]


def likeness(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in MATCH_KEY)


@given(sources_of_trades())
def test_every_leg_of_any_source_is_there_exactly_once(drawn: Drawn) -> None:
    known, rows = drawn
    done = deduplicated(row for of in rows for row in of)
    assert Counter(map(likeness, done.fills.to_dicts())) == Counter(map(likeness, known))
    assert (done.duplicates, done.conflicts) == (sum(map(len, rows)) - len(known), 0)
    assert done.fills.columns == frame([]).columns
    assert done.fills["time"].is_sorted()


@given(sources_of_trades())
def test_each_leg_is_from_the_best_source_that_has_it_as_that_has_it(drawn: Drawn) -> None:
    known, rows = drawn
    kept = deduplicated(row for of in rows for row in of).fills.drop("ordinal").to_dicts()
    assert Counter(source_of(row) for row in kept) == Counter(source_of(row) for row in known)
    assert _in_order(row for row in kept if source_of(row) != TRADES) == _in_order(
        row for row in known if source_of(row) != TRADES
    )


@given(sources_of_trades())
def test_a_tid_that_is_known_of_either_leg_is_on_both(drawn: Drawn) -> None:
    known, rows = drawn
    kept = deduplicated(row for of in rows for row in of).fills.to_dicts()
    told = {row["tid"] for of in rows[:2] for row in of}
    assert max(Counter((row["tid"], row["side"]) for row in kept if row["tid"] is not None).values(), default=1) == 1
    # Of legs that are alike to others nobody may be able to say which is whose.
    alike = {like for like, count in Counter(map(likeness, known)).items() if count > 1}
    doubtful = {row["tid"] for row in known if likeness(row) in alike}
    tids = {likeness(row): row["tid"] for row in kept}
    for row in known:
        if row["tid"] not in doubtful:
            assert tids[likeness(row)] == (row["tid"] if row["tid"] in told else None)


def _in_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: tuple(row[name] for name in FILL_KEY))


def test_of_one_moment_the_better_source_comes_first_in_whatever_order_they_come() -> None:
    rows = [leg(1), leg(2, source=FILLS)]
    for order in permutations(rows):
        assert deduplicated(order).fills.equals(frame(rows))


@given(sources_of_trades())
def test_it_does_not_matter_in_which_order_the_sources_come(drawn: Drawn) -> None:
    _, rows = drawn
    first, *others = (deduplicated(row for of in order for row in of) for order in permutations(rows))
    for other in others:
        assert (other.duplicates, other.conflicts) == (first.duplicates, first.conflicts)
        assert other.fills.equals(first.fills)


@given(sources_of_trades(), st.randoms(use_true_random=False))
def test_nor_does_the_order_of_rows_which_are_then_in_that_of_their_sources(drawn: Drawn, chance: Random) -> None:
    _, rows = drawn
    whole = frame(row for of in rows for row in of)
    done = deduplicate(whole[chance.sample(range(whole.height), whole.height)])
    assert done.fills.equals(deduplicate(whole).fills)
    places = [place(row) for row in done.fills.to_dicts()]
    assert places == sorted(places)
