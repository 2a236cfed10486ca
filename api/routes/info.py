"""POST /info: the questions of Hyperliquid's info API, answered from this database in the same form."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from api.access import INFO_PATH
from api.coins import UnknownCoinError
from api.database import read_sql
from api.export import as_headers
from api.info_fills import PAGE, FillsAsked, FillsRead, decimal_text, read_info_fills
from api.info_requests import RefusedError, read_asked, to_instant
from api.info_universe import Listed, make_meta, make_spot_meta
from api.models.info import CandleSnapshot, Meta, SpotMeta, TwapHistory, UserFills, UserFillsByTime
from api.parameters import FIRST
from api.range_coverage import IN_LAKE_ALONE, Range, describe_range
from api.responses import respond

INFO_HEADERS = {
    "X-Left-Out": "Number of rows left out because their source does not know every member.",
    "X-More": "`true`: there are more rows than an answer has.",
    "X-Synthetic": "`true`: a universe made from the coins that were seen.",
}
router = APIRouter()

_FIRST_DAY = read_sql("info_first_day")
_TWAP_HISTORY = read_sql("info_twap_history")
_CANDLES = read_sql("info_candles")
_COINS = read_sql("info_coins")
_MOST_CANDLES = 5_000
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_SYNTHETIC = {"X-Synthetic": "true"}


# Its schema is Hyperliquid's.
@router.post(INFO_PATH, include_in_schema=False)
async def post_info(request: Request) -> Response:
    """Answer a question of Hyperliquid's info API. Errors are plain text, as there."""
    try:
        asked = await read_asked(request)
        if isinstance(asked, Meta | SpotMeta):
            return await _answer_universe(request, asked)
        async with request.app.state.pool.connection() as connection:
            if isinstance(asked, CandleSnapshot):
                return await _answer_candles(connection, asked)
            if isinstance(asked, TwapHistory):
                return await _answer_history(connection, asked)
            return await _answer_fills(connection, asked)
    except RefusedError as error:
        return Response(str(error), error.status, media_type="text/plain")
    except UnknownCoinError as error:
        return Response(str(error), 422, media_type="text/plain")


async def _answer_fills(connection: AsyncConnection, asked: UserFills | UserFillsByTime) -> Response:
    row = await (await connection.execute(_FIRST_DAY)).fetchone()
    first = FIRST if row is None or row[0] is None else datetime.fromisoformat(row[0])
    by_time = isinstance(asked, UserFillsByTime)
    start, end = (to_instant(asked.start_time), to_instant(asked.end_time)) if by_time else (first, to_instant(None))
    of_twaps = asked.type.startswith("userTwap")
    wanted = FillsAsked(
        wallet=asked.user,
        start=max(start, first),
        end=end,
        of_twaps=of_twaps,
        newest_first=bool(asked.reversed) if by_time else True,
        aggregate=bool(asked.aggregate_by_time),
    )
    read = await read_info_fills(connection, wanted)
    if read.more and not by_time:
        start = to_instant(read.fills[-1]["time"])
    headers = await _describe(connection, Range(of="fills", start=start, end=end, wallet=asked.user))
    answer = [{"fill": fill, "twapId": fill["twapId"]} for fill in read.fills] if of_twaps else read.fills
    return _respond(answer, read, headers)


async def _answer_history(connection: AsyncConnection, asked: TwapHistory) -> Response:
    cursor = connection.cursor(row_factory=dict_row)
    rows = await (await cursor.execute(_TWAP_HISTORY, {"wallet": asked.user, "limit": PAGE + 1})).fetchall()
    events = [event for row in rows[:PAGE] if (event := _as_event(row)) is not None]
    more = len(rows) > PAGE
    start = to_instant(rows[PAGE - 1]["time"] * 1000) if more else FIRST
    headers = await _describe(connection, Range(of="twaps", start=start, end=to_instant(None), wallet=asked.user))
    return _respond(events, FillsRead([], len(rows[:PAGE]) - len(events), more), headers)


def _as_event(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return a row in the members of the API. None: its source does not know them all."""
    state = {
        "coin": row["coin"],
        "user": row["wallet"],
        "side": row["side"],
        **{name: row[column] and decimal_text(row[column]) for name, column in _SIZES},
        "minutes": row["duration_minutes"],
        "reduceOnly": row["reduce_only"],
        "randomize": row["randomize"],
        "timestamp": row["placed"],
    }
    if None in state.values():
        return None
    # Events of older sources do not have these members at all.
    state |= {name: row[column] for name, column in (("trigger", "trigger"), ("stopPx", "stop_px")) if row[column] is not None}
    status = {"status": row["status"], **({} if row["error"] is None else {"description": row["error"]})}
    return {"time": row["time"], "state": state, "status": status, "twapId": row["twap_id"]}


_SIZES = (("sz", "sz"), ("executedSz", "executed_sz"), ("executedNtl", "executed_ntl"))


async def _answer_candles(connection: AsyncConnection, asked: CandleSnapshot) -> Response:
    req = asked.req
    start, end = to_instant(req.start_time), to_instant(req.end_time)
    if start > end:
        return respond([])
    step = f"{req.interval[:-1]} {_UNITS[req.interval[-1]]}"
    values = {"coin": req.coin, "start": start, "end": end, "step": step, "limit": _MOST_CANDLES + 1}
    cursor = connection.cursor(row_factory=dict_row)
    rows = await (await cursor.execute(_CANDLES, values)).fetchall()
    more, rows = len(rows) > _MOST_CANDLES, rows[-_MOST_CANDLES:]
    candles = [_as_candle(row, req.coin, req.interval) for row in rows if row["v"] is not None]
    start = to_instant(rows[0]["t"]) if more else start
    headers = await _describe(connection, Range(of="candles", start=start, end=end, coin=req.coin))
    return _respond(candles, FillsRead([], len(rows) - len(candles), more), headers)


def _as_candle(row: dict[str, Any], coin: str, interval: str) -> dict[str, Any]:
    prices = {name: decimal_text(row[name]) for name in "ochlv"}
    return {"t": row["t"], "T": row["T"], "s": coin, "i": interval, **prices, "n": row["n"]}


async def _answer_universe(request: Request, asked: Meta | SpotMeta) -> Response:
    snapshot = request.app.state.universe
    if snapshot is not None and (isinstance(asked, SpotMeta) or not asked.dex):
        return respond(snapshot[asked.type])
    async with request.app.state.pool.connection() as connection:
        cursor = connection.cursor(row_factory=class_row(Listed))
        seen = await (await cursor.execute(_COINS)).fetchall()
    made = make_spot_meta(seen) if isinstance(asked, SpotMeta) else make_meta(seen, asked.dex or "")
    return respond(made, headers=_SYNTHETIC)


async def _describe(connection: AsyncConnection, of: Range) -> dict[str, str]:
    """Return the coverage of a range as headers. An empty range has none."""
    return {} if of.start > of.end else as_headers(await describe_range(connection, of, IN_LAKE_ALONE))


def _respond(answer: list[dict[str, Any]], read: FillsRead, headers: dict[str, str]) -> Response:
    more = {"X-More": "true"} if read.more else {}
    return respond(answer, headers={**headers, **more, "X-Left-Out": str(read.left_out), "Cache-Control": "no-store"})
