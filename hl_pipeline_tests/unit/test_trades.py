"""What a trade is, where its legs are odd."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from hl_pipeline.figures.trades import TRADE_COLUMNS, trades_of
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
