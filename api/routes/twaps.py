"""/api/v1/twaps: TWAPs of a wallet with their events, slices and analytics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import TypeAdapter

from api.answer_cache import CachedRoute
from api.asked.events import TwapFillsAsked, TwapsAsked
from api.conditional import keep_if_whole, never_keep
from api.database import read_sql
from api.export import choose_format, export
from api.fill_pages import FILLS, FillsFile, FillsWanted, fills_file, fills_page, fills_wanted
from api.lake import History, find_lake_days, read_history
from api.lake_files import DayInLake
from api.models.common import CHANGED, ERRORS, EXPORTS, NOT_FOUND, UNKNOWN_COIN
from api.models.fills import TwapFillList
from api.models.twaps import Analytics, Twap, TwapList
from api.paging import make_cursor, read_cursor
from api.parameters import Int64, Parameters, TwapId, iso
from api.range_coverage import Range, describe_range, read_coverage
from api.responses import respond
from api.twap_pages import NEWEST, TWAPS_FILE, not_found, read_twap, read_twaps, twap_values

router = APIRouter(prefix="/api/v1/twaps", tags=["TWAPs"], route_class=CachedRoute)

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

    def next_page(rows: Sequence[dict[str, Any]]) -> str:
        return make_cursor(request, asked, (rows[-1]["time_ns"], int(rows[-1]["twap_id"])))

    chosen = choose_format(request, asked.format)
    if chosen != "json":
        name = f"twaps-{asked.wallet}-{asked.start:%Y%m%d}-{asked.end:%Y%m%d}"
        values |= {"limit": asked.export_limit}
        return await export(request, chosen, name, TWAPS_FILE, values, of, next_page=next_page, hidden=1)
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


@router.get("/{twap_id}/fills", response_model=TwapFillList, responses={**ERRORS, **EXPORTS, **NOT_FOUND, **CHANGED})
async def list_twap_fills(request: Request, twap_id: TwapId, asked: Annotated[TwapFillsAsked, Query()]) -> Response:
    """List the fills of a TWAP's slices, oldest first. `coverage` shows which days of the TWAP are absent."""

    async def find(history: History) -> tuple[Range, FillsWanted, list[DayInLake], str | None]:
        days = await (await history.connection.execute(_DAYS, {"twap_id": twap_id})).fetchone()
        if days is None or days[0] is None:
            raise not_found(twap_id)
        start = datetime.combine(date.fromisoformat(days[0]), time.min, UTC)
        end = datetime.combine(date.fromisoformat(days[1]), time.max, UTC)
        wanted = fills_wanted(request, asked, start, end, wallet=None, coin=None, twap_id=twap_id)
        return Range(of="fills", start=start, end=end), wanted, *await find_lake_days(history, start, end)

    async def begin_file(history: History) -> tuple[Range, FillsFile]:
        of, wanted, in_lake, _ = await find(history)
        return of, await fills_file(request, history, asked, wanted, in_lake)

    async def read(history: History) -> tuple[dict[str, Any], dict[str, str]]:
        of, wanted, in_lake, fault = await find(history)
        coverage = await read_coverage(history.connection, "fills", of.start.date(), of.end.date(), fault)
        page = await fills_page(request, history, asked, wanted, in_lake)
        return {**page, "coverage": coverage}, keep_if_whole(of.end, coverage) | never_keep(fault)

    chosen = choose_format(request, asked.format)
    if chosen != "json":
        of, file = await read_history(request, begin_file)
        return await export(request, chosen, f"twap-{twap_id}-fills", FILLS, file.values, of, next_page=file.next_page)
    answer, headers = await read_history(request, read)
    return respond({"twap_id": str(twap_id), **answer}, headers=headers)
