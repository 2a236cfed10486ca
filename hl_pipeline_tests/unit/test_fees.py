"""The value of a fee in the quote of its coin, and which sums stay known: a term of 0 never makes a sum unknown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from hl_pipeline.figures.daily_stats import daily_partial, merge_daily
from hl_pipeline.figures.sums import SUM_COLUMNS, sums_of
from hl_pipeline.figures.trades import TRADE_COLUMNS, trades_of
from hl_pipeline.figures.user_stats import merge_user, user_partial
from hl_pipeline.formats.fills import FILL_SCHEMA

_SCHEMA = {**FILL_SCHEMA, "object": pl.String()}
_USUAL: dict[str, Any] = {
    "time": datetime(2026, 3, 15, tzinfo=UTC),
    "coin": "BTC",
    "wallet": "0xa",
    "side": "B",
    "crossed": True,
    "dir": "Buy",
    "tid": 7,
    "px": "0.5",
    "sz": "2",
    "fee": "0",
    "fee_token": "USDC",
    "closed_pnl": "0",
    "object": "node_fills/1",
}
_DECIMALS = ("px", "sz", "fee", "closed_pnl")


def _fills(*fills: dict[str, Any]) -> pl.DataFrame:
    rows = [{**_USUAL, "tid": tid, **fill} for tid, fill in enumerate(fills, 1)]
    for row in rows:
        row.update({name: None if row[name] is None else Decimal(row[name]) for name in _DECIMALS})
    return pl.DataFrame(rows, {**_SCHEMA}, orient="row")


def _of_coin(*fills: dict[str, Any]) -> dict[str, Any]:
    frame = _fills(*fills)
    partial = daily_partial(sums_of(frame.select(SUM_COLUMNS)), trades_of(frame.select(TRADE_COLUMNS)))
    [row] = merge_daily([partial]).to_dicts()
    return row


def _of_wallet(*fills: dict[str, Any]) -> dict[str, Any]:
    [row] = merge_user([_partial_of_wallets(_fills(*fills))]).to_dicts()
    return row


def _partial_of_wallets(fills: pl.DataFrame) -> pl.DataFrame:
    fills = fills.select(SUM_COLUMNS)
    return user_partial(fills, sums_of(fills))


def _fee(coin: str, fee: str, token: str | None, side: str = "B") -> dict[str, Any]:
    """At a price of 0.5."""
    return {"coin": coin, "fee": fee, "fee_token": token, "side": side}


@pytest.mark.parametrize(
    ("fill", "worth"),
    [
        (_fee("BTC", "0.3", "USDC"), "0.3"),
        (_fee("xyz:TSLA", "0.3", "USDH"), "0.3"),
        (_fee("HYPE", "0.3", "HYPE"), "0.15"),
        (_fee("#1890", "0.3", "USDC"), "0.3"),
        (_fee("#1890", "0.3", "+1890"), "0.15"),
        (_fee("#1890", "-0.3", "+1890"), "-0.15"),
        (_fee("#1890", "0.3", "#1890"), "0.15"),
        # The value of its sibling, or of any other token, is unknown.
        (_fee("#1890", "0.3", "+1891"), None),
        (_fee("#1890", "0.3", "HYPE"), None),
        (_fee("#1890", "0.3", None), None),
        # Of nothing the token does not matter.
        (_fee("#1890", "0", "+1891"), "0"),
        (_fee("#1890", "0.0", "HYPE"), "0"),
        (_fee("#1890", "0", None), "0"),
        (_fee("@107", "0", None), "0"),
        # Spot: in what was received, a rebate in what was given; what the pair's name says comes first.
        (_fee("@107", "0.3", "HYPE"), "0.15"),
        (_fee("@107", "0.3", "USDC", "A"), "0.3"),
        (_fee("@107", "-0.3", "HYPE", "A"), "-0.15"),
        (_fee("PURR/USDC", "0.3", "PURR"), "0.15"),
        (_fee("PURR/USDC", "0.3", "PURR", "A"), "0.15"),
        (_fee("PURR/USDC", "0.3", "USDC"), "0.3"),
        (_fee("PURR/USDC", "0.3", "USDC", "A"), "0.3"),
    ],
)
def test_a_fee_in_quote_by_hand(fill: dict[str, Any], worth: str | None) -> None:
    expected = None if worth is None else Decimal(worth)
    assert _of_coin(fill)["fees_in_quote"] == expected
    assert _of_wallet(fill)["fees_in_quote"] == expected


def test_a_wallet_pays_in_all_its_coins_together() -> None:
    fills = [_fee("BTC", "1", "USDC"), _fee("#1890", "0.3", "+1890"), _fee("@107", "0.2", "HYPE"), _fee("#2", "0", "+3")]
    assert _of_wallet(*fills)["fees_in_quote"] == Decimal("1.25")
    assert _of_wallet(*fills, _fee("#1890", "0.1", "HYPE"))["fees_in_quote"] is None
    assert _of_wallet(*fills, {"fee": None})["fees_in_quote"] is None


def test_what_hours_add_to_a_wallet_is_summed_or_unknown() -> None:
    hours = [_fills(_fee("BTC", "1", "USDC")), _fills(_fee("HYPE", "1", "HYPE")), _fills(_fee("#1", "1", "HYPE"))]
    partials = [_partial_of_wallets(hour) for hour in hours]
    assert merge_user(partials[:2])["fees_in_quote"].to_list() == [Decimal("1.5")]
    assert merge_user(partials)["fees_in_quote"].to_list() == [None]


@pytest.mark.parametrize(
    ("fills", "fees"),
    [
        ([_fee("BTC", "0", None)], {}),
        ([_fee("BTC", "0", None), _fee("BTC", "0.5", "USDC")], {"USDC": "0.5"}),
        ([_fee("BTC", "0.1", None), _fee("BTC", "0.5", "USDC")], None),
        ([{"fee": None}], None),
    ],
)
def test_a_fee_of_nothing_in_no_token_leaves_the_fees_by_token_known(
    fills: list[dict[str, Any]], fees: dict[str, str] | None
) -> None:
    for row in (_of_coin(*fills), _of_wallet(*fills)):
        assert row["fees"] is None if fees is None else json.loads(row["fees"]) == fees


def test_trades_of_nothing_leave_amounts_known_whatever_else_is_unknown_of_them() -> None:
    known = {"side": "A", "crossed": True, "builder": "0xb", "liquidation_method": "market"}
    unknown = {"crossed": None, "object": "node_trades/1", "closed_pnl": None, "fee": None, "tid": 9}
    row = _of_coin(known, {**unknown, "sz": "0"})
    assert {name: row[name] for name in ("sell_volume", "builder_volume")} == dict.fromkeys(("sell_volume", "builder_volume"), 2)
    assert {row[name] for name in ("sell_notional", "liquidation_notional", "builder_notional", "notional")} == {Decimal(1)}
    assert {row[name] for name in ("buy_volume", "buy_notional")} == {Decimal(0)}
    # How many they are stays unknown.
    assert [row[name] for name in ("buys", "sells", "liquidations")] == [None] * 3
    # At a price of 0 the volume is unknown, the notional is not.
    row = _of_coin(known, {**unknown, "px": "0"})
    assert [row[name] for name in ("sell_volume", "builder_volume")] == [None, None]
    assert {row[name] for name in ("sell_notional", "builder_notional")} == {Decimal(1)}
    row = _of_wallet(known, {**unknown, "sz": "0"})
    assert (row["maker_notional"], row["taker_notional"], row["maker_fills"]) == (Decimal(0), Decimal(1), None)


def test_a_price_beyond_all_sums_times_nothing_is_nothing() -> None:
    row = _of_coin({"px": "1" + 27 * "0", "sz": "0"}, {"px": "2", "sz": "1"})
    assert (row["volume"], row["notional"]) == (Decimal(1), Decimal(2))
    assert _of_coin({"px": "1" + 27 * "0", "sz": "1"})["notional"] is None
