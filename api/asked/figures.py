"""The parameters of statistics, candles, leaderboards and summaries. Types are in api/parameters.py."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from api.parameters import (
    INSTANT_SCHEMA,
    OPTIONAL,
    SPAN,
    BuilderSort,
    CoinSort,
    FeesSort,
    InFormat,
    InRange,
    Interval,
    LastDays,
    OfCoin,
    OnDays,
    Order,
    Paged,
    Parameters,
    PerhapsOfCoin,
    PerhapsOfWallet,
    PerhapsOnDays,
    Period,
    PnlSort,
    Top,
    TwapSort,
    VolumeSort,
    WalletSort,
    first_instant,
)


class _StatsAsked(Paged, OnDays):
    period: Annotated[
        Period | None,
        OPTIONAL,
        Field(
            description="Aggregate the days of each period; weeks begin on Monday. Default: `day`, or `all` with `sort` or `top`."
        ),
    ] = None
    order: Annotated[Order | None, OPTIONAL, Field(description="Sort order. Default: `desc`, the largest first.")] = None
    top: Annotated[Top | None, OPTIONAL, Field(description="Maximum number of rows per period, the first by `sort`.")] = None
    format: InFormat = None


class DailyStatsAsked(_StatsAsked, PerhapsOfCoin):
    """Of /api/v1/stats/daily."""

    sort: Annotated[
        CoinSort | None,
        OPTIONAL,
        Field(description="Column that sorts the coins of a period, largest first. Default: the name; with `top`, notional."),
    ] = None


class UserStatsAsked(_StatsAsked, PerhapsOfWallet):
    """Of /api/v1/stats/users."""

    sort: Annotated[
        WalletSort | None,
        OPTIONAL,
        Field(
            description="Column that sorts the wallets of a period, largest first. Default: the address; with `top`, notional."
        ),
    ] = None


class CandlesAsked(Paged, InRange, OfCoin):
    """Of /api/v1/candles."""

    interval: Annotated[
        Interval, Field(description="Length of a candle. Candles start at multiples of it from midnight (UTC).")
    ] = "1m"
    format: InFormat = None


class _RankingAsked(Paged, PerhapsOnDays):
    order: Annotated[Order, Field(description="`desc`: the largest first.")] = "desc"
    top: Annotated[Top | None, OPTIONAL, Field(description="Maximum number of rows of all pages together.")] = None
    format: InFormat = None
    period: Annotated[
        LastDays | None,
        OPTIONAL,
        Field(
            description="Instead of `start` and `end`: this number of UTC days, ending with the newest loaded day that is over.",
            validate_default=True,
        ),
    ] = None

    @field_validator("period")
    @classmethod
    def _is_the_only_range(cls, period: LastDays | None, info: ValidationInfo) -> LastDays | None:
        if {"start", "end"} <= info.data.keys():
            given = [name for name in ("start", "end") if info.data[name] is not None]
            if period is not None and given:
                raise PydanticCustomError("period", "cannot be combined with start or end")
            if period is None and len(given) < 2:
                raise PydanticCustomError("missing", "give start and end, or a period")
        return period


class VolumeAsked(_RankingAsked):
    """Of /api/v1/leaderboards/volume."""

    sort: Annotated[VolumeSort, Field(description="Column that ranks the wallets.")] = "notional"


class PnlAsked(_RankingAsked):
    """Of /api/v1/leaderboards/pnl."""

    sort: Annotated[PnlSort, Field(description="Column that ranks the wallets.")] = "closed_pnl"


class FeesAsked(_RankingAsked):
    """Of /api/v1/leaderboards/fees."""

    sort: Annotated[FeesSort, Field(description="Column that ranks the wallets.")] = "fees_in_quote"


class TwapRankingAsked(_RankingAsked, PerhapsOfCoin):
    """Of /api/v1/leaderboards/twaps."""

    sort: Annotated[TwapSort, Field(description="Column that ranks the wallets.")] = "twaps"


class BuilderRankingAsked(_RankingAsked, PerhapsOfCoin):
    """Of /api/v1/leaderboards/builders."""

    sort: Annotated[BuilderSort, Field(description="Column that ranks the builders.")] = "fees_in_quote"


class BuildersAsked(Paged, OnDays, PerhapsOfCoin):
    """Of /api/v1/builders."""

    format: InFormat = None


class WalletAsked(PerhapsOnDays):
    """Of /api/v1/wallets/{wallet}."""


class TwapFlowAsked(Parameters):
    """Of /api/v1/coins/{coin}/twap-flow."""

    at: Annotated[
        datetime,
        BeforeValidator(first_instant),
        WithJsonSchema(INSTANT_SCHEMA),
        Field(description=f"The moment: an instant (UTC if it has no zone), or the beginning of a day, {SPAN}."),
    ]
