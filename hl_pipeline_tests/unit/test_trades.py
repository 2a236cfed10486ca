"""What a trade is, where its legs are odd."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

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
