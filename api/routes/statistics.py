"""/api/v1/stats and /api/v1/candles: what was made of the fills."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, TypeAdapter

from api.database import read_sql
from api.models.common import ERRORS
from api.models.statistics import CandleList, DailyStatsList, UserStatsList
from api.paging import make_cursor, read_cursor, read_rows
from api.parameters import CandlesAsked, DailyStatsAsked, Text, UserStatsAsked, iso
from api.range_coverage import read_backfill, read_coverage
from api.responses import respond

router = APIRouter(prefix="/api/v1", tags=["Statistics"])

_CANDLES = read_sql("candles")
_DAILY_STATS = read_sql("daily_stats")
_USER_STATS = read_sql("user_stats")
_CANDLE: TypeAdapter[tuple[AwareDatetime | None]] = TypeAdapter(tuple[AwareDatetime])
_DAY_AND_NAME: TypeAdapter[tuple[date, str]] = TypeAdapter(tuple[date, Text])


@router.get("/stats/daily", response_model=DailyStatsList, responses=ERRORS)
async def list_daily_stats(request: Request, asked: Annotated[DailyStatsAsked, Query()]) -> Response:
    """Volume, prices, fees of each day and coin, by day and coin."""
    after_date, after_coin = read_cursor(request, asked, _DAY_AND_NAME, (asked.start, ""))
    values = {"start": asked.start, "end": asked.end, "coin": asked.coin, "after_date": after_date, "after_coin": after_coin}
    async with request.app.state.pool.connection() as connection:
        coverage = await read_coverage(connection, "daily_stats", asked.start, asked.end)
        rows, more = await read_rows(connection, _DAILY_STATS, values, asked.limit)
    next_cursor = make_cursor(request, asked, (rows[-1]["date"], rows[-1]["coin"])) if more else None
    head = {"start": str(asked.start), "end": str(asked.end), "coin": asked.coin}
    return respond({**head, "stats": rows, "next_cursor": next_cursor, "coverage": coverage})


@router.get("/stats/users", response_model=UserStatsList, responses=ERRORS)
async def list_user_stats(request: Request, asked: Annotated[UserStatsAsked, Query()]) -> Response:
    """What each wallet did on each day, by day and wallet."""
    after_date, after_wallet = read_cursor(request, asked, _DAY_AND_NAME, (asked.start, ""))
    values = {
        "start": asked.start,
        "end": asked.end,
        "wallet": asked.wallet,
        "after_date": after_date,
        "after_wallet": after_wallet,
    }
    async with request.app.state.pool.connection() as connection:
        coverage = await read_coverage(connection, "user_stats", asked.start, asked.end)
        known = await read_backfill(connection, asked.wallet, asked.start, asked.end + timedelta(days=1))
        rows, more = await read_rows(connection, _USER_STATS, values, asked.limit)
    next_cursor = make_cursor(request, asked, (rows[-1]["date"], rows[-1]["wallet"])) if more else None
    head = {"start": str(asked.start), "end": str(asked.end), "wallet": asked.wallet}
    return respond({**head, "stats": rows, "next_cursor": next_cursor, "coverage": coverage, **known})


@router.get("/candles", response_model=CandleList, responses=ERRORS)
async def list_candles(request: Request, asked: Annotated[CandlesAsked, Query()]) -> Response:
    """A coin's candles of one minute that begin in the range, oldest first."""
    [after] = read_cursor(request, asked, _CANDLE, (None,))
    values = {"coin": asked.coin, "start": asked.start, "end": asked.end, "after": after or "-infinity"}
    async with request.app.state.pool.connection() as connection:
        coverage = await read_coverage(connection, "candles", asked.start.date(), asked.end.date())
        rows, more = await read_rows(connection, _CANDLES, values, asked.limit)
    next_cursor = make_cursor(request, asked, (rows[-1]["time"],)) if more else None
    head = {"coin": asked.coin, "start": iso(asked.start), "end": iso(asked.end)}
    return respond({**head, "candles": rows, "next_cursor": next_cursor, "coverage": coverage})
