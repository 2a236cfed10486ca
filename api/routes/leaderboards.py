"""/api/v1/leaderboards and /api/v1/builders: wallets and builders ranked by what they did over days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter

from api.answer_cache import CachedRoute
from api.asked.figures import BuilderRankingAsked, BuildersAsked, FeesAsked, PnlAsked, TwapRankingAsked, VolumeAsked
from api.conditional import keep_if_whole
from api.database import read_sql
from api.export import choose_format, export
from api.models.common import ERRORS, EXPORTS, UNKNOWN_COIN
from api.models.leaderboards import BuilderLeaderboard, BuilderList, TwapLeaderboard, WalletLeaderboard
from api.paging import make_cursor, read_cursor, read_rows
from api.parameters import LastDays, Text, wrong
from api.range_coverage import Range, describe_range
from api.responses import respond

router = APIRouter(prefix="/api/v1", tags=["Leaderboards"], route_class=CachedRoute)

_SHOWN = read_sql("leaderboard_shown")
_SUMMED = read_sql("builders_summed")
_BUILDERS = _SUMMED + read_sql("builders")
_NEWEST_DAY = read_sql("newest_day")
_DAYS: dict[LastDays, int] = {"1d": 1, "7d": 7, "30d": 30, "90d": 90}
# The range, so that all pages of a period have the same days; the value, and the wallet or builder ('': unknown).
_Number = Annotated[str, Field(pattern=r"^-?\d+(\.\d+)?$")]
_POSITION: TypeAdapter[tuple[date, date, str | None, str | None]] = TypeAdapter(tuple[date, date, _Number | None, Text])
_NAME: TypeAdapter[tuple[str | None]] = TypeAdapter(tuple[Text])

_Asked = VolumeAsked | PnlAsked | FeesAsked | TwapRankingAsked | BuilderRankingAsked


@dataclass(frozen=True, slots=True)
class _Board:
    """What is ranked: the table whose days are covered, the column of the name, and the query."""

    of: Literal["user_stats", "twaps", "builder_stats"]
    name: Literal["wallet", "builder"]
    query: bytes


_OF_WALLETS = _Board(
    "user_stats", "wallet", read_sql("leaderboard_of_wallets") + _SHOWN + read_sql("leaderboard_rows_of_wallets")
)
_OF_TWAPS = _Board("twaps", "wallet", read_sql("leaderboard_of_twaps") + _SHOWN + read_sql("leaderboard_rows_of_twaps"))
_OF_BUILDERS = _Board(
    "builder_stats",
    "builder",
    _SUMMED + read_sql("leaderboard_of_builders") + _SHOWN + read_sql("leaderboard_rows_of_builders"),
)


@router.get("/leaderboards/volume", response_model=WalletLeaderboard, responses={**ERRORS, **EXPORTS})
async def rank_by_volume(request: Request, asked: Annotated[VolumeAsked, Query()]) -> Response:
    """Rank wallets by volume. Each fill counts for its wallet, so a trade counts for both of its sides."""
    return await _rank(request, asked, "volume", _OF_WALLETS)


@router.get("/leaderboards/pnl", response_model=WalletLeaderboard, responses={**ERRORS, **EXPORTS})
async def rank_by_pnl(request: Request, asked: Annotated[PnlAsked, Query()]) -> Response:
    """Rank wallets by realized profit, with or without fees. With `order=asc`, the largest losses come first."""
    return await _rank(request, asked, "pnl", _OF_WALLETS)


@router.get("/leaderboards/fees", response_model=WalletLeaderboard, responses={**ERRORS, **EXPORTS})
async def rank_by_fees(request: Request, asked: Annotated[FeesAsked, Query()]) -> Response:
    """Rank wallets by fees paid. With `order=asc`, those with the largest rebates come first."""
    return await _rank(request, asked, "fees", _OF_WALLETS)


@router.get("/leaderboards/twaps", response_model=TwapLeaderboard, responses={**ERRORS, **EXPORTS, **UNKNOWN_COIN})
async def rank_by_twaps(request: Request, asked: Annotated[TwapRankingAsked, Query()]) -> Response:
    """Rank wallets by their TWAPs that began in the range. Each TWAP counts as a whole."""
    return await _rank(request, asked, "twaps", _OF_TWAPS)


@router.get("/leaderboards/builders", response_model=BuilderLeaderboard, responses={**ERRORS, **EXPORTS, **UNKNOWN_COIN})
async def rank_builders(request: Request, asked: Annotated[BuilderRankingAsked, Query()]) -> Response:
    """Rank builders by the fees they earned, or by what was traded through them."""
    return await _rank(request, asked, "builders", _OF_BUILDERS)


@router.get("/builders", response_model=BuilderList, responses={**ERRORS, **EXPORTS, **UNKNOWN_COIN})
async def list_builders(request: Request, asked: Annotated[BuildersAsked, Query()]) -> Response:
    """List builders with what went through them in the range, ordered by address."""
    [after] = read_cursor(request, asked, _NAME, (None,))
    of = _range("builder_stats", asked.start, asked.end, asked.coin)

    def next_page(rows: Sequence[dict[str, Any]]) -> str:
        return make_cursor(request, asked, (rows[-1]["builder"] or "",))

    values = {"start": asked.start, "end": asked.end, "coin": asked.coin, "after_name": after}
    chosen = choose_format(request, asked.format)
    if chosen != "json":
        name = f"builders-{asked.coin or 'all'}-{asked.start:%Y%m%d}-{asked.end:%Y%m%d}"
        return await export(request, chosen, name, _BUILDERS, {**values, "limit": asked.export_limit}, of, next_page=next_page)
    async with request.app.state.pool.connection() as connection:
        facts = await describe_range(connection, of)
        rows, more = await read_rows(connection, _BUILDERS, values, asked.limit)
    next_cursor = next_page(rows) if more else None
    head = {"start": str(asked.start), "end": str(asked.end), "coin": asked.coin}
    return respond(
        {**head, "builders": rows, "next_cursor": next_cursor, **facts}, headers=keep_if_whole(of.end, facts["coverage"])
    )


async def _rank(request: Request, asked: _Asked, name: str, board: _Board) -> Response:
    coin = asked.coin if isinstance(asked, TwapRankingAsked | BuilderRankingAsked) else None
    first, last, after_value, after_name = read_cursor(request, asked, _POSITION, (date.min, date.min, None, None))
    start, end = await _find_days(request, asked, board.of) if after_name is None else (first, last)
    of = _range(board.of, start, end, coin)

    def next_page(rows: Sequence[dict[str, Any]]) -> str:
        value = rows[-1][asked.sort]
        return make_cursor(request, asked, (start, end, None if value is None else str(value), rows[-1][board.name] or ""))

    ranking = {"sort": asked.sort, "order": asked.order, "top": asked.top}
    values = {"start": start, "end": end, "coin": coin, **ranking, "after_value": after_value, "after_name": after_name}
    chosen = choose_format(request, asked.format)
    if chosen != "json":
        file = f"leaderboard-{name}-{coin or 'all'}-{start:%Y%m%d}-{end:%Y%m%d}"
        return await export(request, chosen, file, board.query, {**values, "limit": asked.export_limit}, of, next_page=next_page)
    async with request.app.state.pool.connection() as connection:
        facts = await describe_range(connection, of)
        rows, more = await read_rows(connection, board.query, values, asked.limit)
    next_cursor = next_page(rows) if more else None
    head: dict[str, Any] = {"leaderboard": name, "period": asked.period, "start": str(start), "end": str(end)}
    head |= {} if board.of == "user_stats" else {"coin": coin}
    # Another day may be loaded at any time, and then the period is another one.
    headers = {} if asked.period else keep_if_whole(of.end, facts["coverage"])
    return respond({**head, **ranking, "ranking": rows, "next_cursor": next_cursor, **facts}, headers=headers)


async def _find_days(request: Request, asked: _Asked, what: str) -> tuple[date, date]:
    """Return the first and last day of the range. Raises RequestValidationError for a period if no day is loaded."""
    if asked.start is not None and asked.end is not None:
        return asked.start, asked.end
    assert asked.period is not None
    async with request.app.state.pool.connection() as connection:
        row = await (await connection.execute(_NEWEST_DAY, {"what": what})).fetchone()
    if row is None or row[0] is None:
        raise wrong("period", "no day is loaded yet: give start and end", asked.period)
    newest = date.fromisoformat(row[0])
    return newest - timedelta(_DAYS[asked.period] - 1), newest


def _range(of: Literal["user_stats", "twaps", "builder_stats"], start: date, end: date, coin: str | None) -> Range:
    return Range(
        of=of, start=datetime.combine(start, time.min, UTC), end=datetime.combine(end, time.max, UTC), wallet=None, coin=coin
    )
