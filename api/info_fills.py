"""Fills in the form of Hyperliquid's info API: read by wallet, aggregated by time. Requests and headers do not belong here."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from api.database import read_sql
from api.info_requests import to_instant

PAGE = 2_000
"""The most fills of an answer of Hyperliquid's."""

_FILLS = read_sql("info_fills")
_LEFT_OUT = read_sql("info_fills_left_out")
# The order of fills.sql, and its exact reverse.
_OLDEST_FIRST = b"""ORDER BY time, block_number, object_id, ordinal,
    coin COLLATE "C", side COLLATE "C", tid, oid, counterparty_oid"""
_NEWEST_FIRST = b"""ORDER BY hl.fills.time DESC, block_number DESC, object_id DESC, ordinal DESC,
    coin COLLATE "C" DESC, side COLLATE "C" DESC, tid DESC, oid DESC, counterparty_oid DESC"""
# A range is read in parts, as in fill_pages: planning for the tables of all days would take longer than reading a page.
_FIRST_DAYS, _GROWTH = 8, 4
_MICROSECOND = timedelta(microseconds=1)
# Keys of `extra` that are no members of a fill.
_OUR_NAMES = ("_missing", "_block", "_slice", "_trade")
# Members that the sums of a group replace. The rest is that of its first fill.
_ADDED = ("closedPnl", "fee", "builderFee", "deployerFee", "priorityGas")
_EXACT = Context(prec=100, rounding=ROUND_HALF_UP)
_SMALLEST_STEP = Decimal("1e-10")

Fill = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FillsAsked:
    """A wallet's fills in a range: its TWAP slices, or all others."""

    wallet: str
    start: datetime
    end: datetime
    of_twaps: bool
    newest_first: bool
    aggregate: bool


@dataclass(frozen=True, slots=True)
class FillsRead:
    """At most PAGE fills. `left_out`: fills among them whose source does not know every member. `more`: the range has more."""

    fills: list[Fill]
    left_out: int
    more: bool


async def read_info_fills(connection: AsyncConnection, asked: FillsAsked) -> FillsRead:
    """Return the first fills of the range."""
    groups: dict[Any, list[Fill]] = {}
    moment: int | None = None
    more = False
    # Closed here: otherwise its cursor would be closed later, in the transaction of another request.
    async with aclosing(_scan(connection, asked)) as rows:
        async for row in rows:
            fill = _as_fill(row)
            # A group is whole when the next millisecond begins.
            if len(groups) >= PAGE and (not asked.aggregate or fill["time"] != moment):
                more = True
                break
            moment = fill["time"]
            groups.setdefault(_group_of(fill) if asked.aggregate else len(groups), []).append(fill)
    fills = [_combine(group) for group in groups.values()]
    more, fills = more or len(fills) > PAGE, fills[:PAGE]
    start, end = asked.start, asked.end
    if more:
        last = to_instant(fills[-1]["time"])
        start, end = (last, end) if asked.newest_first else (start, last)
    return FillsRead(fills, await _count_left_out(connection, asked, start, end), more)


async def _scan(connection: AsyncConnection, asked: FillsAsked) -> AsyncGenerator[dict[str, Any], None]:
    query = _FILLS + (_NEWEST_FIRST if asked.newest_first else _OLDEST_FIRST.replace(b"BY time", b"BY hl.fills.time"))
    for since, until in _parts(asked.start, asked.end, newest_first=asked.newest_first):
        async with connection.cursor("info", row_factory=dict_row) as cursor:
            await cursor.execute(query, {"wallet": asked.wallet, "of_twaps": asked.of_twaps, "start": since, "end": until})
            while rows := await cursor.fetchmany(PAGE + 1):
                for row in rows:
                    yield row


async def _count_left_out(connection: AsyncConnection, asked: FillsAsked, start: datetime, end: datetime) -> int:
    count = 0
    for since, until in _parts(start, end, newest_first=asked.newest_first):
        values = {"wallet": asked.wallet, "of_twaps": asked.of_twaps, "start": since, "end": until}
        row = await (await connection.execute(_LEFT_OUT, values)).fetchone()
        assert row is not None
        count += row[0]
    return count


def _parts(start: datetime, end: datetime, *, newest_first: bool) -> Iterator[tuple[datetime, datetime]]:
    """Return the parts of a range, of a few days at first, in the order in which they are read."""
    days = _FIRST_DAYS
    while start <= end:
        if newest_first:
            since = max(start, datetime.combine(end.date() - timedelta(days - 1), time.min, UTC))
            yield since, end
            end = since - _MICROSECOND
        else:
            until = min(end, datetime.combine(start.date() + timedelta(days), time.min, UTC) - _MICROSECOND)
            yield start, until
            start = until + _MICROSECOND
        days *= _GROWTH


def decimal_text(number: str) -> str:
    """Return a number in Hyperliquid's form, which always has a decimal: `1` is `1.0`."""
    return number if "." in number else f"{number}.0"


def _as_fill(row: dict[str, Any]) -> Fill:
    """Return a row in the members of the API, in its order."""
    fill: Fill = {
        "coin": row["coin"],
        "px": decimal_text(row["px"]),
        "sz": decimal_text(row["sz"]),
        "side": row["side"],
        "time": row["time"],
        "startPosition": decimal_text(row["start_position"]),
        "dir": row["dir"],
        "closedPnl": decimal_text(row["closed_pnl"]),
        "hash": row["hash"],
        "oid": row["oid"],
        "crossed": row["crossed"],
        "fee": decimal_text(row["fee"]),
    }
    if row["builder_fee"] is not None:
        fill["builderFee"] = decimal_text(row["builder_fee"])
    fill["tid"] = row["tid"]
    if row["cloid"] is not None:
        fill["cloid"] = row["cloid"]
    if row["liquidation_mark_px"] is not None or row["liquidation_method"] is not None:
        fill["liquidation"] = {
            "liquidatedUser": row["liquidated_user"],
            "markPx": None if row["liquidation_mark_px"] is None else decimal_text(row["liquidation_mark_px"]),
            "method": row["liquidation_method"],
        }
    fill["feeToken"] = row["fee_token"]
    if row["builder"] is not None:
        fill["builder"] = row["builder"]
    for name, column in (("deployerFee", "deployer_fee"), ("priorityGas", "priority_gas")):
        if row[column] is not None:
            fill[name] = decimal_text(row[column])
    fill["twapId"] = row["twap_id"]
    if row["extra"] is not None:
        _add_extra(fill, row["extra"])
    return fill


def _add_extra(fill: Fill, text: str) -> None:
    """Add the members that have no column, and remove the one that the source did not have."""
    # Numbers stay as they are written.
    extra = json.loads(text, parse_float=_as_written, parse_int=_as_written)
    if "twapId" in extra.get("_missing", ()) and fill["twapId"] is None:
        del fill["twapId"]
    fill.update({name: value for name, value in extra.items() if name not in _OUR_NAMES})


def _as_written(number: str) -> orjson.Fragment:
    return orjson.Fragment(number)


def _group_of(fill: Fill) -> tuple[Any, ...]:
    """Return what the fills of one order in one block have in common. A fill that turns a position has another `dir`."""
    return tuple(fill.get(name) for name in ("time", "coin", "oid", "side", "dir", "crossed", "feeToken", "twapId"))


def _combine(fills: Sequence[Fill]) -> Fill:
    """Return several fills as one: sizes and fees added, the price weighted by size, all else of the first one."""
    if len(fills) == 1:
        return fills[0]
    sizes = [Decimal(fill["sz"]) for fill in fills]
    size = sum(sizes, Decimal(0))
    notional = sum((_EXACT.multiply(Decimal(fill["px"]), own) for fill, own in zip(fills, sizes, strict=True)), Decimal(0))
    px = _EXACT.divide(notional, size).quantize(_SMALLEST_STEP, context=_EXACT) if size else Decimal(fills[0]["px"])
    sums = {name: _add(fill[name] for fill in fills if name in fill) for name in _ADDED if any(name in fill for fill in fills)}
    return {**fills[0], "px": _plain(px), "sz": _plain(size), **sums}


def _add(numbers: Iterator[str]) -> str:
    return _plain(sum(map(Decimal, numbers), Decimal(0)))


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return decimal_text(text.rstrip("0").rstrip(".") if "." in text else text)
