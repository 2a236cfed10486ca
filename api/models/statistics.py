"""Response models of statistics and candles. docs/reference/tables-statistics.md explains each column."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.models.common import Address, Answer, Coin, Day, Decimal, Fees, Instant, Listed, OfInfoApi
from api.parameters import CoinSort, Interval, Order, Period, WalletSort

_PeriodStart = Annotated[Day | None, Field(description="First day of the period. null: the period is the whole range.")]
_Days = Annotated[int, Field(description="Number of days of the period that have a row.")]


class DailyStats(Answer):
    """A row of hl.daily_stats."""

    date: Day
    coin: Coin
    kind: Literal["perp", "spot", "hip3", "outcome"]
    fills: int
    non_market_rows: int
    fees_known: int
    fees_in_quote: Decimal | None
    trades: int
    volume: Decimal | None
    notional: Decimal | None
    buys: int | None
    sells: int | None
    buy_volume: Decimal | None
    sell_volume: Decimal | None
    buy_notional: Decimal | None
    sell_notional: Decimal | None
    liquidations: int | None
    liquidation_notional: Decimal | None
    twap_volume: Decimal | None
    twap_notional: Decimal | None
    builder_volume: Decimal | None
    builder_notional: Decimal | None
    wallets: int
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    fees: Fees
    is_complete: bool | None
    vwap: Decimal | None


class PeriodOfCoin(Answer):
    """A row of hl.daily_stats_by."""

    period_start: _PeriodStart
    days: _Days
    coin: Coin
    kind: Literal["perp", "spot", "hip3", "outcome"]
    fills: int
    non_market_rows: int
    fees_known: int
    fees_in_quote: Decimal | None
    trades: int
    volume: Decimal | None
    notional: Decimal | None
    buys: int | None
    sells: int | None
    buy_volume: Decimal | None
    sell_volume: Decimal | None
    buy_notional: Decimal | None
    sell_notional: Decimal | None
    liquidations: int | None
    liquidation_notional: Decimal | None
    twap_volume: Decimal | None
    twap_notional: Decimal | None
    builder_volume: Decimal | None
    builder_notional: Decimal | None
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    fees: Fees
    is_complete: bool | None
    vwap: Decimal | None


class _Ranked(Listed):
    """Fields of a list of periods."""

    period: Period | None = None
    order: Order | None = None
    top: int | None = None


class DailyStatsList(_Ranked):
    start: Day
    end: Day
    coin: Coin | None
    sort: CoinSort | None = None
    stats: list[DailyStats] | list[PeriodOfCoin]


class UserStats(Answer):
    """A row of hl.user_stats."""

    date: Day
    wallet: Address
    fills: int
    non_market_rows: int
    maker_fills: int | None
    taker_fills: int | None
    maker_notional: Decimal | None
    taker_notional: Decimal | None
    closed_pnl: Decimal | None
    closed_pnl_known: int
    fees_known: int
    fees_in_quote: Decimal | None
    coins: int
    twaps: int
    first_fill: Instant
    last_fill: Instant
    fees: Fees
    sources: list[str]
    is_complete: bool | None


class PeriodOfWallet(Answer):
    """A row of hl.user_stats_by."""

    period_start: _PeriodStart
    days: _Days
    wallet: Address
    fills: int
    non_market_rows: int
    maker_fills: int | None
    taker_fills: int | None
    maker_notional: Decimal | None
    taker_notional: Decimal | None
    notional: Annotated[Decimal | None, Field(description="maker_notional + taker_notional.")]
    closed_pnl: Decimal | None
    closed_pnl_known: int
    fees_known: int
    fees_in_quote: Annotated[
        Decimal | None, Field(description="All fees in the quote currency. null: the value of some fees is unknown.")
    ]
    first_fill: Instant
    last_fill: Instant
    fees: Fees
    is_complete: bool | None


class UserStatsList(_Ranked):
    start: Day
    end: Day
    wallet: Address | None
    sort: WalletSort | None = None
    stats: list[UserStats] | list[PeriodOfWallet]
    info_api: OfInfoApi = None


class Candle(Answer):
    """A row of hl.candles, or several minutes of them added up."""

    coin: Coin
    time: Annotated[Instant, Field(description="Start of the candle.")]
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None
    notional: Decimal | None
    trades: int
    date: Day


class CandleList(Listed):
    coin: Coin
    interval: Interval
    start: Instant
    end: Instant
    candles: list[Candle]
