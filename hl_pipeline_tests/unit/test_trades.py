"""What counts as a trade when its legs are unusual."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_pipeline.domain.tallies import HourTally
from hl_pipeline.figures.tally import TALLY_COLUMNS, tally_hour
from hl_pipeline.figures.trades import TRADE_COLUMNS, trades_of
from hl_pipeline.formats.exact_decode import fills_frame, parse_fill
from hl_pipeline.formats.fills import FILL_SCHEMA

_SCHEMA = {**FILL_SCHEMA, "object": pl.String()}


def _leg(side: str, crossed: bool | None, px: int, **other: Any) -> dict[str, Any]:
    known = {"time": datetime(2026, 3, 15, tzinfo=UTC), "coin": "BTC", "wallet": f"0x{px}", "side": side, "crossed": crossed}
    return {**known, "px": Decimal(px), "sz": Decimal(1), "tid": 7, "object": "node_fills/1", **other}


def _trades(*legs: dict[str, Any]) -> list[dict[str, Any]]:
    schema = {name: _SCHEMA[name] for name in TRADE_COLUMNS}
    return trades_of(pl.DataFrame([*legs], schema, orient="row")).to_dicts()


@pytest.mark.parametrize(
    ("first", "second", "px", "taker_side"),
    [
        (_leg("B", True, 5), _leg("A", False, 6), 5, "B"),
        (_leg("B", False, 5), _leg("A", True, 6), 6, "A"),
        (_leg("B", None, 5), _leg("A", False, 6), 5, "B"),
        (_leg("B", None, 5), _leg("A", True, 6), 6, "A"),
        (_leg("B", None, 5), _leg("A", None, 6), 5, None),
    ],
)
def test_price_and_taker_are_the_same_in_whatever_order_the_legs_come(
    first: dict[str, Any], second: dict[str, Any], px: int, taker_side: str | None
) -> None:
    [trade] = _trades(first, second)
    assert (trade["px"], trade["taker_side"], trade["legs"]) == (px, taker_side, 2)
    [other] = _trades(second, first)
    assert other["taker_side"] == taker_side
    assert other["px"] == px or taker_side is None


def test_a_leg_alone_tells_who_took() -> None:
    assert [trade["taker_side"] for trade in _trades(_leg("B", False, 5))] == ["A"]
    assert [trade["taker_side"] for trade in _trades(_leg("B", True, 5))] == ["B"]
    assert [trade["taker_side"] for trade in _trades(_leg("B", None, 5))] == [None]


def test_without_a_tid_the_two_orders_make_the_trade() -> None:
    legs = [
        _leg("B", True, 5, tid=None, oid=1, counterparty_oid=2),
        _leg("A", False, 5, tid=None, oid=2, counterparty_oid=1),
        _leg("B", True, 5, tid=None, oid=1, counterparty_oid=3),
        _leg("B", True, 5, tid=0),
    ]
    assert [trade["legs"] for trade in _trades(*legs)] == [2, 1]


ADDRESS = "0x" + 40 * "c"
WHOLE_LIQUIDATION = {"liquidatedUser": ADDRESS, "markPx": "99.5", "method": "market"}


def _decoded(fill: dict[str, Any], source: str = "node_fills") -> pl.DataFrame:
    """A fill of the source as `trades_of` gets it, with these fields beside those that each one has."""
    usual = {"coin": "BTC", "px": "100", "sz": "2", "side": "B", "time": 1_773_576_000_000, "tid": 7, "crossed": True, "fee": "0"}
    row = parse_fill(usual | fill, ADDRESS)
    frame = fills_frame([row | {"line": 1}])
    return frame.with_columns(object=pl.lit(f"{source}/1")).select(TRADE_COLUMNS)


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        (WHOLE_LIQUIDATION, True),
        *(
            ({name: value for name, value in WHOLE_LIQUIDATION.items() if name != left_out}, True)
            for left_out in WHOLE_LIQUIDATION
        ),
        *(({name: value}, True) for name, value in WHOLE_LIQUIDATION.items()),
        (dict.fromkeys(WHOLE_LIQUIDATION), True),
        ({}, True),
        ({"new": {"a": 1}}, True),
        (None, False),
    ],
)
def test_a_liquidation_is_one_whichever_of_its_members_are_missing(said: dict[str, Any] | None, is_one: bool) -> None:
    assert trades_of(_decoded({"liquidation": said}))["is_liquidation"].to_list() == [is_one]


def test_a_fill_that_names_no_liquidation_or_only_within_something_new_is_none() -> None:
    assert trades_of(_decoded({}))["is_liquidation"].to_list() == [False]
    assert trades_of(_decoded({"new": {"liquidation": {}, "builder": ADDRESS}}))["is_liquidation"].to_list() == [False]
    assert trades_of(_decoded({"new": {"liquidation": {}, "builder": ADDRESS}}))["has_builder"].to_list() == [False]


def test_beside_a_number_beyond_a_double_a_liquidation_is_still_one() -> None:
    # As the exact decoder keeps it: to the last digit.
    frame = _decoded({"liquidation": {}}).with_columns(extra=pl.lit('{"liquidation":{},"new":1e400,"text":"\\ud800"}'))
    assert trades_of(frame)["is_liquidation"].to_list() == [True]


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        ({"builder": ADDRESS, "builderFee": "0.1"}, True),
        ({"builder": ADDRESS}, True),
        ({"builderFee": "0.1"}, True),
        ({"builder": {"address": ADDRESS, "fee": 10}}, True),
        ({"builder": None}, False),
        ({"builderFee": None}, False),
        ({}, False),
    ],
)
def test_a_builder_is_one_whether_its_address_or_its_fee_is_missing(said: dict[str, Any], is_one: bool) -> None:
    assert trades_of(_decoded(said))["has_builder"].to_list() == [is_one]


def test_of_node_trades_nobody_knows_of_a_liquidation_or_a_builder() -> None:
    [trade] = trades_of(_decoded({}, "node_trades")).to_dicts()
    assert (trade["is_liquidation"], trade["has_builder"]) == (None, None)


_MIDNIGHT = datetime(2026, 3, 15, tzinfo=UTC)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "time": st.integers(0, 2).map(lambda ms: _MIDNIGHT + timedelta(milliseconds=ms)),
    "coin": st.sampled_from(["BTC", "@107"]),
    "side": st.sampled_from("AB"),
    "crossed": st.sampled_from([True, False, None]),
    "px": st.integers(1, 9).map(Decimal),
    "sz": st.sampled_from([Decimal(0), Decimal("0.5"), Decimal(10**18)]),
    "tid": st.sampled_from([None, 0, 7, 8]),
    "oid": st.sampled_from([None, 1, 2]),
    "counterparty_oid": st.sampled_from([None, 1, 2]),
    "twap_id": st.sampled_from([None, 5]),
    "builder": st.sampled_from([None, ADDRESS]),
    "liquidation_method": st.sampled_from([None, "market"]),
    "dir": st.sampled_from([None, "Buy", "Settlement"]),
    "object": st.sampled_from(["node_fills/1", "node_trades/1"]),
}
_LEGS = st.fixed_dictionaries(_VALUES)
_OWN = st.fixed_dictionaries({name: _VALUES[name] for name in ("coin", "side", "crossed", "px", "builder", "object")})
_PAIRS = st.builds(lambda leg, tid, *own: [leg | {"tid": tid} | of_leg for of_leg in own], _LEGS, st.integers(10, 20), _OWN, _OWN)


@given(st.lists(st.one_of(_LEGS.map(lambda leg: [leg]), _PAIRS), max_size=8), st.data())
def test_trades_are_the_same_whether_their_legs_stand_side_by_side_or_not(
    trades: list[list[dict[str, Any]]], data: st.DataObject
) -> None:
    legs = [leg for trade in trades for leg in trade]
    repeated = data.draw(st.lists(st.sampled_from(legs), max_size=3)) if legs else []
    for order in (legs, legs + repeated, data.draw(st.permutations(legs + repeated))):
        assert _trades(*order) == _trades_one_by_one(order)
        frame = pl.DataFrame(order, {name: _SCHEMA[name] for name in TALLY_COLUMNS}, orient="row")
        assert tally_hour(frame) == _tally_one_by_one(order)


def _tally_one_by_one(legs: list[dict[str, Any]]) -> HourTally:
    keys = {
        repr(
            [leg[name] for name in ("time", "coin", "side", "tid", *(("oid", "counterparty_oid") if leg["tid"] is None else ()))]
        )
        for leg in legs
    }
    sides = [[leg["side"] for leg in of_trade] for of_trade in _legs_by_key(legs)]
    return HourTally(
        rows=len(legs),
        repeated=len(legs) - len(keys),
        trades=len(sides),
        single_legs=sum(len(of_trade) == 1 for of_trade in sides),
        not_a_pair=sum(len(of_trade) > 1 and sorted(of_trade) != ["A", "B"] for of_trade in sides),
    )


def _trades_one_by_one(legs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `trades_of` says of the legs, by dict and Decimal."""
    return [_trade_of(of_trade) for of_trade in _legs_by_key(legs)]


def _legs_by_key(legs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The legs of each trade wherever they stand, the trades by the first of them."""
    by_key: dict[Any, list[dict[str, Any]]] = {}
    for leg in legs:
        orders = sorted(oid for oid in (leg["oid"], leg["counterparty_oid"]) if oid is not None)
        ends = (orders[:1], orders[-1:]) if leg["tid"] is None else ()
        if leg["tid"] != 0 and leg["dir"] != "Settlement":
            by_key.setdefault(repr((leg["time"], leg["coin"], leg["tid"], ends)), []).append(leg)
    return list(by_key.values())


def _trade_of(legs: list[dict[str, Any]]) -> dict[str, Any]:
    by_role = {crossed: [leg for leg in legs if leg["crossed"] is crossed] for crossed in (True, None, False)}
    leg = (by_role[True] + by_role[None] + by_role[False])[0]
    takes = leg["crossed"] if leg["crossed"] is not None else True if by_role[False] else None
    side = {True: leg["side"], False: "AB"[leg["side"] == "A"], None: None}[takes]
    known = [each for each in legs if each["object"] != "node_trades/1"]
    built = any(each["builder"] for each in known)
    too_large = leg["sz"] >= 10**18
    return {
        "time": leg["time"],
        "coin": leg["coin"],
        "px": leg["px"],
        "sz": None if too_large else leg["sz"],
        "notional": None if too_large else leg["px"] * leg["sz"],
        "taker_side": side,
        "legs": len(legs),
        "has_twap": any(each["twap_id"] is not None for each in legs),
        "has_builder": True if built else False if len(known) == len(legs) else None,
        "is_liquidation": any(each["liquidation_method"] for each in known) if known else None,
    }
