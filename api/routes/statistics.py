"""/api/v1/stats and /api/v1/candles: data derived from fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, Field, TypeAdapter

from api.answer_cache import CachedRoute
from api.asked.figures import CandlesAsked, DailyStatsAsked, UserStatsAsked
from api.conditional import keep_if_whole
from api.database import read_sql
from api.export import choose_format, export
from api.models.common import ERRORS, EXPORTS, UNKNOWN_COIN
from api.models.statistics import CandleList, DailyStatsList, UserStatsList
from api.paging import make_cursor, read_cursor, read_rows
from api.parameters import Text, iso
from api.range_coverage import Range, describe_range
from api.responses import respond

router = APIRouter(prefix="/api/v1", tags=["Statistics"], route_class=CachedRoute)

_CANDLES = read_sql("candles")
_CANDLES_BY = read_sql("candles_by")
_STEPS = {"5m": "5 minutes", "15m": "15 minutes", "1h": "1 hour", "4h": "4 hours", "1d": "24 hours"}
_CANDLE: TypeAdapter[tuple[AwareDatetime | None]] = TypeAdapter(tuple[AwareDatetime])
_DAY_AND_NAME: TypeAdapter[tuple[date, str]] = TypeAdapter(tuple[date, Text])
# The first day of a period (None for `all`), the sort value, and the coin or wallet.
_Number = Annotated[str, Field(pattern=r"^-?\d+(\.\d+)?$")]
_PERIOD_VALUE_NAME: TypeAdapter[tuple[date | None, str | None, str | None]] = TypeAdapter(
    tuple[date | None, _Number | None, Text]
)


@dataclass(frozen=True, slots=True)
class _Table:
    """Statistics per day and coin or wallet: the stored ones and the aggregated ones."""

    of: Literal["daily_stats", "user_stats"]
    name: Literal["coin", "wallet"]
    by_day: bytes
    by_period: bytes


_DAILY = _Table("daily_stats", "coin", read_sql("daily_stats"), read_sql("daily_stats_by"))
_USERS = _Table("user_stats", "wallet", read_sql("user_stats"), read_sql("user_stats_by"))


@router.get(
    "/stats/daily",
    response_model=DailyStatsList,
    responses={**ERRORS, **EXPORTS, **UNKNOWN_COIN},
    summary="Volume and trades per coin",
)
async def list_daily_stats(request: Request, asked: Annotated[DailyStatsAsked, Query()]) -> Response:
    """List volume, prices and fees per day and coin, ordered by day and coin.

    With `period`, `sort` or `top`, the days of each period are aggregated, and the largest coins come first.
    """
    return await _list_stats(request, asked, _DAILY)


@router.get(
    "/stats/users", response_model=UserStatsList, responses={**ERRORS, **EXPORTS}, summary="Volume, pnl and fees per wallet"
)
async def list_user_stats(request: Request, asked: Annotated[UserStatsAsked, Query()]) -> Response:
    """List volume, pnl and fees per day and wallet, ordered by day and wallet.

    With `period`, `sort` or `top`, the days of each period are aggregated, and the largest wallets come first. For example,
    `sort=fees_in_quote&top=10` returns the wallets that paid the most fees.
    """
    return await _list_stats(request, asked, _USERS)


@router.get(
    "/candles",
    response_model=CandleList,
    responses={**ERRORS, **EXPORTS, **UNKNOWN_COIN},
    summary="Candles of a coin",
)
async def list_candles(request: Request, asked: Annotated[CandlesAsked, Query()]) -> Response:
    """List the candles of a coin that begin in the range, oldest first. Longer candles are aggregated from one-minute candles."""
    [after] = read_cursor(request, asked, _CANDLE, (None,))
    values: dict[str, Any] = {"coin": asked.coin, "start": asked.start, "end": asked.end, "after": after or "-infinity"}
    query = _CANDLES
    if asked.interval != "1m":
        query, values = _CANDLES_BY, {**values, "step": _STEPS[asked.interval]}
    of = Range(of="candles", start=asked.start, end=asked.end, coin=asked.coin)

    def next_page(rows: Sequence[dict[str, Any]]) -> str:
        return make_cursor(request, asked, (rows[-1]["time"],))

    chosen = choose_format(request, asked.format)
    if chosen != "json":
        name = f"candles-{asked.coin}-{asked.interval}-{asked.start:%Y%m%d}-{asked.end:%Y%m%d}"
        return await export(request, chosen, name, query, {**values, "limit": asked.export_limit}, of, next_page=next_page)
    async with request.app.state.pool.connection() as connection:
        facts = await describe_range(connection, of)
        rows, more = await read_rows(connection, query, values, asked.limit)
    next_cursor = next_page(rows) if more else None
    head = {"coin": asked.coin, "interval": asked.interval, "start": iso(asked.start), "end": iso(asked.end)}
    return respond(
        {**head, "candles": rows, "next_cursor": next_cursor, **facts}, headers=keep_if_whole(of.end, facts["coverage"])
    )


async def _list_stats(request: Request, asked: DailyStatsAsked | UserStatsAsked, table: _Table) -> Response:
    one = asked.coin if isinstance(asked, DailyStatsAsked) else asked.wallet
    start, end = datetime.combine(asked.start, time.min, UTC), datetime.combine(asked.end, time.max, UTC)
    of = Range(of=table.of, start=start, end=end, **{table.name: one})

    def next_page(rows: Sequence[dict[str, Any]]) -> str:
        return make_cursor(request, asked, _position(asked, rows[-1], table.name))

    values: dict[str, Any] = {"start": asked.start, "end": asked.end, table.name: one}
    head: dict[str, Any] = {"start": str(asked.start), "end": str(asked.end), table.name: one}
    if _adds_up(asked):
        query = table.by_period
        ranking = {"period": asked.period or "all", "sort": _ranks_by(asked), "order": asked.order or "desc", "top": asked.top}
        after_start, after_value, after_name = read_cursor(request, asked, _PERIOD_VALUE_NAME, (None, None, None))
        values |= {**ranking, "after_start": after_start or "-infinity", "after_value": after_value}
        values |= {f"after_{table.name}": after_name}
        head |= ranking
    else:
        query = table.by_day
        after_date, after_day_name = read_cursor(request, asked, _DAY_AND_NAME, (asked.start, ""))
        values |= {"after_date": after_date, f"after_{table.name}": after_day_name}
    chosen = choose_format(request, asked.format)
    if chosen != "json":
        name = f"{table.of}-{one or 'all'}-{asked.start:%Y%m%d}-{asked.end:%Y%m%d}"
        return await export(request, chosen, name, query, {**values, "limit": asked.export_limit}, of, next_page=next_page)
    async with request.app.state.pool.connection() as connection:
        facts = await describe_range(connection, of)
        rows, more = await read_rows(connection, query, values, asked.limit)
    next_cursor = next_page(rows) if more else None
    return respond({**head, "stats": rows, "next_cursor": next_cursor, **facts}, headers=keep_if_whole(of.end, facts["coverage"]))


def _ranks_by(asked: DailyStatsAsked | UserStatsAsked) -> str | None:
    """Return the column that sorts the rows of a period, or None to sort by name."""
    return asked.sort or ("notional" if asked.order or asked.top else None)


def _adds_up(asked: DailyStatsAsked | UserStatsAsked) -> bool:
    """Return whether the rows are aggregated over periods instead of the stored days."""
    return asked.period not in (None, "day") or _ranks_by(asked) is not None


def _position(asked: DailyStatsAsked | UserStatsAsked, row: dict[str, Any], name: str) -> tuple[Any, ...]:
    if not _adds_up(asked):
        return row["date"], row[name]
    figure = _ranks_by(asked)
    value = None if figure is None else row[figure]
    return row["period_start"], None if value is None else str(value), row[name]
