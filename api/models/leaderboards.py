"""Response models of leaderboards, builders, wallets and the flow of TWAPs. docs/rest has a page for each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.models.common import Address, Answer, Coin, Day, Decimal, Fees, Instant, Listed, OfInfoApi, Run
from api.parameters import BuilderSort, FeesSort, LastDays, Order, PnlSort, TwapSort, VolumeSort, WalletBoard

_Rank = Annotated[int | None, Field(description="1 plus the number of larger values. null: the value is unknown.")]
_Days = Annotated[int, Field(description="Number of days of the range that have a row.")]
_FeesInQuote = Annotated[
    Decimal | None, Field(description="All fees in the quote currency. null: the value of some fees is unknown.")
]
_NetPnl = Annotated[Decimal | None, Field(description="closed_pnl - fees_in_quote.")]


class RankedWallet(Answer):
    """The days of a wallet in hl.user_stats, added up."""

    rank: _Rank
    wallet: Address
    days: _Days
    fills: int
    maker_notional: Decimal | None
    taker_notional: Decimal | None
    notional: Annotated[Decimal | None, Field(description="maker_notional + taker_notional: each fill counts for its wallet.")]
    closed_pnl: Decimal | None
    fees_in_quote: _FeesInQuote
    net_pnl: _NetPnl
    first_fill: Instant
    last_fill: Instant
    is_complete: bool | None
    fees: Fees


class TwapsOfWallet(Answer):
    """The TWAPs of a wallet that began in the range, added up. Each counts as a whole, with what it did after the range."""

    rank: _Rank
    wallet: Address
    twaps: int
    coins: int
    fills: int
    slices: int
    notional: Annotated[Decimal, Field(description="Sum of px × sz of their fills.")]
    closed_pnl: Decimal | None
    first_begins_at: Instant
    last_begins_at: Instant
    is_complete: bool | None
    fees: Fees


class Builder(Answer):
    """The days of a builder in hl.builder_stats, added up."""

    builder: Annotated[Address | None, Field(description="null: fees of builders whose address the source does not have.")]
    days: Annotated[int, Field(description="Number of days of the range with a fill.")]
    coins: int
    fills: int
    non_market_rows: int
    fills_with_fee: int
    notional: Decimal | None
    fees_in_quote: _FeesInQuote
    is_complete: bool | None
    fees: Annotated[Fees, Field(description="The builder's fees by token. null: a fee, or its token, is unknown.")]


class RankedBuilder(Builder):
    rank: _Rank


class _Leaderboard(Listed):
    period: Annotated[LastDays | None, Field(description="As requested. null: `start` and `end` were given.")]
    start: Day
    end: Day
    order: Order
    top: int | None


class WalletLeaderboard(_Leaderboard):
    leaderboard: WalletBoard
    sort: VolumeSort | PnlSort | FeesSort
    ranking: list[RankedWallet]


class TwapLeaderboard(_Leaderboard):
    leaderboard: Literal["twaps"]
    coin: Coin | None
    sort: TwapSort
    ranking: list[TwapsOfWallet]


class BuilderLeaderboard(_Leaderboard):
    leaderboard: Literal["builders"]
    coin: Coin | None
    sort: BuilderSort
    ranking: list[RankedBuilder]


class BuilderList(Listed):
    start: Day
    end: Day
    coin: Coin | None
    builders: list[Builder]


class SumOfTwaps(Answer):
    twaps: int
    not_begun: Annotated[int, Field(description="TWAPs without a known beginning.")]
    running: Annotated[int, Field(description="TWAPs whose latest status is not an end, as far as the loaded days tell.")]
    fills: int
    slices: int
    notional: Annotated[Decimal, Field(description="Sum of px × sz of their fills.")]
    closed_pnl: Decimal | None
    first_begins_at: Instant | None
    last_begins_at: Instant | None
    fees: Fees


class SumOfTwapsInCoin(SumOfTwaps):
    coin: Coin


class TwapsOfSummary(SumOfTwaps):
    coins: Annotated[list[SumOfTwapsInCoin], Field(description="The same by coin, most TWAPs first.")]


class WalletSummary(Answer):
    """What a wallet did in the range. A wallet without rows did nothing on the days that `coverage` shows as loaded."""

    wallet: Address
    start: Day
    end: Day
    first_fill: Instant | None
    last_fill: Instant | None
    days: _Days
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
    fees_in_quote: _FeesInQuote
    net_pnl: _NetPnl
    fees: Fees
    most_coins_in_a_day: int
    is_complete: bool | None
    twaps: TwapsOfSummary
    coverage: Annotated[list[Run], Field(description="Which days of the range are in the statistics, without gaps.")]
    coverage_of_twaps: Annotated[list[Run], Field(description="Which days of the range have TWAP statuses, without gaps.")]
    info_api: OfInfoApi = None


class Flow(Answer):
    """Sizes of the running TWAPs. Sizes are in the coin, notionals in its quote."""

    unknown: Annotated[int, Field(description="Number of running TWAPs whose size here is unknown.")]
    known_buy_size: Annotated[Decimal, Field(description="Sum over the buying TWAPs whose size is known.")]
    known_sell_size: Annotated[Decimal, Field(description="Sum over the selling TWAPs whose size is known.")]
    net_size: Annotated[Decimal | None, Field(description="Bought less sold. null: unknown for some TWAP.")]
    gross_size: Annotated[Decimal | None, Field(description="Bought plus sold. null: unknown for some TWAP.")]
    net_notional: Decimal | None
    gross_notional: Decimal | None


class TwapFlow(Answer):
    coin: Coin
    at: Instant
    px: Annotated[
        Decimal | None, Field(description="Price for notionals still to come: the last close in the hour before. null: none.")
    ]
    buys: Annotated[int, Field(description="Number of running TWAPs that buy.")]
    sells: Annotated[int, Field(description="Number of running TWAPs that sell.")]
    executed: Annotated[Flow, Field(description="What they executed until then.")]
    next_1h: Annotated[Flow, Field(description="What their schedules bring in the next hour.")]
    next_24h: Annotated[Flow, Field(description="What their schedules bring in the next 24 hours.")]
    until_end: Annotated[Flow, Field(description="What their schedules bring until their planned ends.")]
    coverage: Annotated[list[Run], Field(description="Which days of TWAP statuses are loaded, of the three days before.")]
