"""/api/v1/fills: the fills of a wallet or a coin."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.answer_cache import CachedRoute
from api.asked.events import FillsAsked
from api.conditional import keep_if_whole, never_keep
from api.export import choose_format, export
from api.fill_pages import FILLS, FillsFile, fills_file, fills_page, fills_wanted
from api.lake import History, find_lake_days, read_history
from api.models.common import CHANGED, ERRORS, EXPORTS, UNKNOWN_COIN
from api.models.fills import FillList
from api.parameters import iso
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

        async def find_start(history: History) -> FillsFile:
            days, _ = await find_lake_days(history, of.start, of.end)
            return await fills_file(request, history, asked, wanted, days)

        file = await read_history(request, find_start)
        return await export(request, chosen, name, FILLS, file.values, of, next_page=file.next_page)

    async def read(history: History) -> tuple[dict[str, Any], dict[str, Any], str | None]:
        days, fault = await find_lake_days(history, of.start, of.end)
        facts = await describe_range(history.connection, of, fault)
        return facts, await fills_page(request, history, asked, wanted, days), fault

    facts, page, fault = await read_history(request, read)
    head = {"wallet": asked.wallet, "coin": asked.coin, "start": iso(asked.start), "end": iso(asked.end)}
    return respond({**head, **page, **facts}, headers=keep_if_whole(of.end, facts["coverage"]) | never_keep(fault))
