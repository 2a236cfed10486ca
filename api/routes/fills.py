"""/api/v1/fills: the fills of a wallet or a coin."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.answer_cache import CachedRoute
from api.conditional import keep_if_whole
from api.export import choose_format, export
from api.fill_pages import FILLS, fills_page, fills_wanted, values_of_export
from api.models.common import CHANGED, ERRORS, EXPORTS, UNKNOWN_COIN
from api.models.fills import FillList
from api.parameters import FillsAsked, iso
from api.range_coverage import Range, describe_range
from api.responses import respond

router = APIRouter(prefix="/api/v1", tags=["Fills"], route_class=CachedRoute)


@router.get("/fills", response_model=FillList, responses={**ERRORS, **EXPORTS, **UNKNOWN_COIN, **CHANGED})
async def list_fills(request: Request, asked: Annotated[FillsAsked, Query()]) -> Response:
    """List the fills of a wallet, of a coin, or of a wallet in a coin, oldest first.

    Fills of the same millisecond keep the order of the source. A coin without a wallet scans whole days, so use a short range.
    """
    wanted = fills_wanted(request, asked, asked.start, asked.end, wallet=asked.wallet, coin=asked.coin, twap_id=None)
    of = Range(of="fills", start=asked.start, end=asked.end, wallet=asked.wallet, coin=asked.coin)
    chosen = choose_format(request, asked.format)
    if chosen != "json":
        who = "-".join(part for part in (asked.wallet, asked.coin) if part)
        name = f"fills-{who}-{asked.start:%Y%m%d}-{asked.end:%Y%m%d}"
        async with request.app.state.pool.connection() as connection:
            values = await values_of_export(connection, asked, wanted)
        return await export(request, chosen, name, FILLS, values, of)
    async with request.app.state.pool.connection() as connection:
        facts = await describe_range(connection, of)
        page = await fills_page(request, connection, asked, wanted)
    head = {"wallet": asked.wallet, "coin": asked.coin, "start": iso(asked.start), "end": iso(asked.end)}
    return respond({**head, **page, **facts}, headers=keep_if_whole(of.end, facts["coverage"]))
