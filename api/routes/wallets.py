"""/api/v1/wallets and the flow of TWAPs in a coin: summaries of one wallet, and of one moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from api.answer_cache import CachedRoute
from api.asked.figures import TwapFlowAsked, WalletAsked
from api.database import read_sql
from api.models.common import ERRORS, UNKNOWN_COIN
from api.models.leaderboards import TwapFlow, WalletSummary
from api.parameters import FIRST, CoinInPath, WalletInPath, iso
from api.range_coverage import Range, describe_range, read_coverage
from api.responses import respond

router = APIRouter(prefix="/api/v1", tags=["Wallets"], route_class=CachedRoute)

_SPAN = read_sql("loaded_span")
_STATS = read_sql("wallet")
_TWAPS = read_sql("wallet_twaps")
_RUNNING = read_sql("twap_flow_running")
_SINCE = _RUNNING + read_sql("twap_flow_since")
_FLOW = _RUNNING + read_sql("twap_flow")
_LONGEST_TWAP = timedelta(days=3)


@router.get("/wallets/{wallet}", response_model=WalletSummary, responses=ERRORS)
async def get_wallet(request: Request, wallet: WalletInPath, asked: Annotated[WalletAsked, Query()]) -> Response:
    """Summarize a wallet: first and last fill, volume, profit, fees and TWAPs. Default range: all days that are loaded."""
    async with request.app.state.pool.connection() as connection:
        start, end = await _find_days(connection, asked)
        first, last = datetime.combine(start, time.min, UTC), datetime.combine(end, time.max, UTC)
        facts = await describe_range(connection, Range(of="user_stats", start=first, end=last, wallet=wallet))
        of_twaps = await read_coverage(connection, "twaps", start, end)
        values = {"wallet": wallet, "start": start, "end": end}
        [stats] = await _read(connection, _STATS, values)
        [twaps, *by_coin] = await _read(connection, _TWAPS, values)
    del twaps["coin"]
    head = {"wallet": wallet, "start": str(start), "end": str(end)}
    return respond({**head, **stats, "twaps": {**twaps, "coins": by_coin}, **facts, "coverage_of_twaps": of_twaps})


@router.get("/coins/{coin:path}/twap-flow", response_model=TwapFlow, responses={**ERRORS, **UNKNOWN_COIN}, tags=["TWAPs"])
async def get_twap_flow(request: Request, coin: CoinInPath, asked: Annotated[TwapFlowAsked, Query()]) -> Response:
    """Sum up the TWAPs of a coin that run at a moment. What they executed, and what their schedules still bring."""
    of = Range(of="twaps", start=max(asked.at - _LONGEST_TWAP, FIRST), end=asked.at, coin=coin)
    async with request.app.state.pool.connection() as connection:
        facts = await describe_range(connection, of)
        values: dict[str, Any] = {"coin": coin, "at": asked.at}
        [since] = await _read(connection, _SINCE, values)
        rows = await _read(connection, _FLOW, {**values, "since": since["min"] or asked.at})
    head = {"coin": coin, "at": iso(asked.at), **{name: rows[0][name] for name in ("px", "buys", "sells")}}
    flows = {row["what"]: {name: row[name] for name in row if name not in ("what", "px", "buys", "sells")} for row in rows}
    return respond({**head, **flows, **facts})


async def _find_days(connection: AsyncConnection, asked: WalletAsked) -> tuple[date, date]:
    """Return the range: by default from the first to the last loaded day, or today if none is loaded."""
    row = await (await connection.execute(_SPAN)).fetchone()
    first, last = row if row is not None and row[0] is not None else [str(datetime.now(UTC).date())] * 2
    start = asked.start or date.fromisoformat(first)
    end = asked.end or max(date.fromisoformat(last), start)
    return min(start, end), end


async def _read(connection: AsyncConnection, query: bytes, values: dict[str, Any]) -> list[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    return await (await cursor.execute(query, values)).fetchall()
