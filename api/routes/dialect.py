"""Paths and parameters in the names of another TWAP API: /trades, /twap/{id}, /wallets/{wallet}/twaps, /status, /health."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.asked.events import TradesAsked, WalletTwapsAsked
from api.conditional import ConditionalRoute
from api.database import read_sql, read_version
from api.export import choose_format, export
from api.fill_pages import FILLS
from api.models.common import ERRORS, EXPORTS, INVALID, NOT_FOUND, UNKNOWN_COIN
from api.models.dialect import Status, TradeList, WalletTwapList
from api.models.service import Health
from api.models.twaps import Twap
from api.paging import read_rows
from api.parameters import Parameters, TwapId, Wallet, iso
from api.range_coverage import IN_LAKE_ALONE, Range, describe_range
from api.responses import respond
from api.routes.service import read_health
from api.twap_pages import TWAPS_FILE, read_twap, read_twaps, twap_values

# Not cached: without an `end_date`, an answer depends on the clock.
router = APIRouter(tags=["Dialect"], route_class=ConditionalRoute)

_TRADES = read_sql("trades")
_FIRST_DAY = read_sql("info_first_day")
_LOADED_DAYS = read_sql("loaded_days")
_Nothing = Annotated[Parameters, Query()]


@router.get("/api/v1/trades", response_model=TradeList, responses={**ERRORS, **EXPORTS, **UNKNOWN_COIN})
async def list_trades(request: Request, asked: Annotated[TradesAsked, Query()]) -> Response:
    """List the fills of wallets, of a coin or of a TWAP, oldest first. The rows are those of /api/v1/fills."""
    wallets, end = asked.wallets, asked.end
    wallet = wallets[0] if len(wallets) == 1 else None
    of = Range(of="fills", start=asked.start_date, end=end, wallet=wallet, coin=asked.asset)
    query = _TRADES if len(wallets) > 1 else FILLS
    values = {"end": end, "coin": asked.asset, "twap_id": asked.twap_id, "given": asked.offset}
    values |= {"wallet": wallet, "wallets": wallets}
    chosen = choose_format(request, asked.format)
    async with request.app.state.pool.connection() as connection:
        # Fewer tables to plan for.
        [first] = await (await connection.execute(_FIRST_DAY)).fetchone() or (None,)
        start = asked.start_date if first is None else max(asked.start_date, datetime.fromisoformat(first).replace(tzinfo=UTC))
        values |= {"start": start}
        if chosen == "json":
            facts = await describe_range(connection, of, IN_LAKE_ALONE)
            rows, more = await read_rows(connection, query, values, asked.limit)
            return respond({"trades": rows, **_page(asked, more=more), **facts})
    values |= {"limit": asked.export_limit}
    return await export(
        request, chosen, "trades", query, values, of, next_offset=asked.offset + asked.limit, lake_fault=IN_LAKE_ALONE
    )


@router.get("/api/v1/twap/{twap_id}", response_model=Twap, responses={**ERRORS, **NOT_FOUND})
async def get_twap(request: Request, twap_id: TwapId, _asked: _Nothing) -> Response:
    """Answer like /api/v1/twaps/{twap_id}: all events of a TWAP, newest first."""
    async with request.app.state.pool.connection() as connection:
        rows, analytics = await read_twap(connection, twap_id)
    return respond({"twap_id": str(twap_id), "rows": rows, "analytics": analytics})


@router.get("/api/v1/wallets/{wallet}/twaps", response_model=WalletTwapList, responses={**ERRORS, **EXPORTS, **UNKNOWN_COIN})
async def list_wallet_twaps(request: Request, wallet: Wallet, asked: Annotated[WalletTwapsAsked, Query()]) -> Response:
    """List the TWAPs of a wallet, newest first. The rows are those of /api/v1/twaps."""
    start, end = asked.start_date, asked.end
    of = Range(of="twaps", start=start, end=end, wallet=wallet, coin=asked.asset)
    values = twap_values(wallet, asked.asset, start, end, offset=asked.offset)
    chosen = choose_format(request, asked.format)
    if chosen != "json":
        name, values = f"twaps-{wallet}", {**values, "limit": asked.export_limit}
        return await export(request, chosen, name, TWAPS_FILE, values, of, next_offset=asked.offset + asked.limit, hidden=1)
    async with request.app.state.pool.connection() as connection:
        facts = await describe_range(connection, of)
        twaps, position = await read_twaps(connection, values, asked.limit)
    head = {"wallet": wallet, "start_date": iso(start), "end_date": iso(end)}
    return respond({**head, "twaps": twaps, **_page(asked, more=position is not None), **facts})


@router.get("/api/v1/status", response_model=Status, responses=ERRORS)
async def get_status(request: Request, _asked: _Nothing) -> Response:
    """Report what /healthz reports, the version, and which days are loaded."""
    health = await read_health(request.app)
    fills = twaps = None
    if health["status"] == "healthy":
        async with request.app.state.pool.connection() as connection:
            fills, twaps = await (await connection.execute(_LOADED_DAYS)).fetchall()
    return respond({**health, "version": read_version(), "fills": _days(fills), "twap_statuses": _days(twaps)})


@router.get("/health", response_model=Health, responses=INVALID)
async def get_health(request: Request, _asked: _Nothing) -> Response:
    """Answer like /healthz: whether the database answers and what was last ingested. Always 200, and without a key."""
    return respond(await read_health(request.app))


def _page(asked: TradesAsked | WalletTwapsAsked, *, more: bool) -> dict[str, Any]:
    next_offset = asked.offset + asked.limit if more else None
    return {"limit": asked.limit, "offset": asked.offset, "next_offset": next_offset}


def _days(row: tuple[Any, ...] | None) -> dict[str, Any] | None:
    return None if row is None else dict(zip(("first", "last", "days", "whole_days"), row, strict=True))
