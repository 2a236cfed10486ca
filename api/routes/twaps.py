"""/api/v1/twaps: TWAPs of a wallet with their events, slices and analytics."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import TypeAdapter

from api.answer_cache import CachedRoute
from api.conditional import keep_if_whole, never_keep
from api.database import read_sql
from api.export import choose_format, export
from api.fill_pages import fills_page, fills_wanted
from api.lake import History, find_lake_days, read_history
from api.models.common import CHANGED, ERRORS, EXPORTS, NOT_FOUND, UNKNOWN_COIN
from api.models.fills import TwapFillList
from api.models.twaps import Analytics, Twap, TwapList
from api.paging import make_cursor, read_cursor
from api.parameters import Int64, Paged, Parameters, TwapId, TwapsAsked, iso
from api.range_coverage import Range, describe_range, read_coverage
from api.responses import respond
from api.twap_pages import LISTED, NEWEST, not_found, read_twap, read_twaps, twap_values

router = APIRouter(prefix="/api/v1/twaps", tags=["TWAPs"], route_class=CachedRoute)

_EXPORT = LISTED + read_sql("export_twaps")
_DAYS = read_sql("twap_days")
_POSITION: TypeAdapter[tuple[int, int]] = TypeAdapter(tuple[Int64, Int64])


@router.get("", response_model=TwapList, responses={**ERRORS, **EXPORTS, **UNKNOWN_COIN})
async def list_twaps(request: Request, asked: Annotated[TwapsAsked, Query()]) -> Response:
    """List a wallet's TWAPs that have an event in the range or a window that overlaps it: latest event each, newest first."""
    values = twap_values(
        asked.wallet,
        asked.asset,
        asked.start,
        asked.end,
        before=read_cursor(request, asked, _POSITION, NEWEST),
        offset=asked.offset,
        all_rows=not asked.latest_per_twap,
    )
    of = Range(of="twaps", start=asked.start, end=asked.end, wallet=asked.wallet, coin=asked.asset)
    chosen = choose_format(request, asked.format)
    if chosen != "json":
        limit = asked.limit if "limit" in asked.model_fields_set else None
        name = f"twaps-{asked.wallet}-{asked.start:%Y%m%d}-{asked.end:%Y%m%d}"
        return await export(request, chosen, name, _EXPORT, {**values, "limit": limit}, of)
    async with request.app.state.pool.connection() as connection:
        facts = await describe_range(connection, of)
        twaps, position = await read_twaps(connection, values, asked.limit)
    next_cursor = None if position is None else make_cursor(request, asked, position)
    head = {"wallet": asked.wallet, "start": iso(asked.start), "end": iso(asked.end)}
    return respond(
        {**head, "twaps": twaps, "next_cursor": next_cursor, **facts}, headers=keep_if_whole(of.end, facts["coverage"])
    )


@router.get("/{twap_id}", response_model=Twap, responses={**ERRORS, **NOT_FOUND})
async def get_twap(request: Request, twap_id: TwapId, _asked: Annotated[Parameters, Query()]) -> Response:
    """List all events of a TWAP, newest first."""
    async with request.app.state.pool.connection() as connection:
        rows, analytics = await read_twap(connection, twap_id)
    return respond({"twap_id": str(twap_id), "rows": rows, "analytics": analytics})


@router.get("/{twap_id}/analytics", response_model=Analytics, responses={**ERRORS, **NOT_FOUND})
async def get_analytics(request: Request, twap_id: TwapId, _asked: Annotated[Parameters, Query()]) -> Response:
    """Return requested, reported and observed sizes of a TWAP, and its slippage (docs/twaps.md)."""
    async with request.app.state.pool.connection() as connection:
        _, analytics = await read_twap(connection, twap_id)
    if analytics is None:
        raise HTTPException(404, f"TWAP ID {twap_id} has no analytics yet: they were not computed for its days")
    return respond(analytics)


@router.get("/{twap_id}/fills", response_model=TwapFillList, responses={**ERRORS, **NOT_FOUND, **CHANGED})
async def list_twap_fills(request: Request, twap_id: TwapId, asked: Annotated[Paged, Query()]) -> Response:
    """List the fills of a TWAP's slices, oldest first. `coverage` shows which days of the TWAP are absent."""

    async def read(history: History) -> tuple[dict[str, Any], dict[str, str]]:
        connection = history.connection
        days = await (await connection.execute(_DAYS, {"twap_id": twap_id})).fetchone()
        if days is None or days[0] is None:
            raise not_found(twap_id)
        first, last = date.fromisoformat(days[0]), date.fromisoformat(days[1])
        start, end = datetime.combine(first, time.min, UTC), datetime.combine(last, time.max, UTC)
        in_lake, fault = await find_lake_days(history, start, end)
        wanted = fills_wanted(request, asked, start, end, wallet=None, coin=None, twap_id=twap_id)
        coverage = await read_coverage(connection, "fills", first, last, fault)
        page = await fills_page(request, history, asked, wanted, in_lake)
        return {**page, "coverage": coverage}, keep_if_whole(end, coverage) | never_keep(fault)

    answer, headers = await read_history(request, read)
    return respond({"twap_id": str(twap_id), **answer}, headers=headers)
