"""A wallet's year for its accounts: a line for each TWAP and each fill outside TWAPs, or for each fill. Layouts of other programs
are in tax_layouts.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Literal, TypeAlias

import orjson
from psycopg import AsyncConnection

from api.batches import Batches
from api.export import Opened, find_days
from api.file_formats import BATCH, Columns, Row, Source
from api.fill_pages import FIELDS, FILLS
from api.lake import Lake
from api.parameters import TaxLines
from api.range_coverage import Range, describe_range

NO_TRADE_DIRS = ("Spot Dust Conversion", "Net Child Vaults", "Settlement")
NO_TRADE_BEGINNINGS = ("Split ", "Merge ", "Negate ")
"""The same bookings as in the statistics: they are no trades, and have no part in the volume."""
# From here on the statistics know no product either.
_LARGEST_PRODUCT = 10**12
_EXACT = Context(prec=100)
_TEN_DIGITS = Decimal("1e-10")

COLUMNS: Columns = (
    ("line", "text"),
    ("first_time", "timestamptz"),
    ("last_time", "timestamptz"),
    ("coin", "text"),
    ("side", "text"),
    ("is_trade", "bool"),
    ("size", "numeric"),
    ("vwap", "numeric"),
    ("notional", "numeric"),
    ("closed_pnl", "numeric"),
    ("fee", "numeric"),
    ("fee_token", "text"),
    ("fees", "json"),
    ("fills", "int8"),
    ("twap_id", "text"),
    ("dir", "text"),
    ("tid", "int8"),
    ("oid", "int8"),
    ("hash", "text"),
    ("note", "text"),
)

# Its fields are those of a model, so a type checker cannot know them.
_Fill: Any = namedtuple("_Fill", FIELDS)


@dataclass(slots=True, kw_only=True)
class Line:
    """A fill, or the fills of a TWAP in the year added up. A sum that includes an unknown value is None."""

    line: Literal["twap", "fill"]
    first_time: str
    last_time: str
    coin: str
    side: str
    is_trade: bool
    size: Decimal
    px: Decimal
    notional: Decimal | None
    closed_pnl: Decimal | None
    fees: dict[str, Decimal] | None
    fills: int = 1
    twap_id: str | None = None
    dir: str | None = None
    tid: str | None = None
    oid: str | None = None
    hash: str | None = None

    @property
    def vwap(self) -> Decimal | None:
        """The price: that of a fill, or the average of a TWAP to ten decimals."""
        if self.line == "fill" or self.notional is None or not self.size:
            return self.px if self.line == "fill" else None
        return _EXACT.divide(self.notional, self.size).quantize(_TEN_DIGITS, ROUND_HALF_UP, _EXACT)


LineWriter: TypeAlias = Callable[[Line], list[Row]]
"""Returns the rows of a line."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How lines are written: the columns, and whether the days that are missing have rows of their own."""

    columns: Columns
    write: LineWriter
    has_missing_days: bool = field(default=False, kw_only=True)


def year_range(wallet: str, year: int) -> Range:
    """Return the range of a year (UTC)."""
    start = datetime(year, 1, 1, tzinfo=UTC)
    return Range(of="fills", start=start, end=datetime(year, 12, 31, 23, 59, 59, 999999, UTC), wallet=wallet)


async def open_tax(
    stack: AsyncExitStack,
    connection: AsyncConnection,
    lake: Lake,
    seconds: float,
    of: Range,
    lines: TaxLines,
    layout: Layout,
) -> Opened:
    """Open the lines of a wallet's year (`of`), in order of their last fill. Days that are in the lake alone are read from it."""
    days, fault = await find_days(lake, connection, of)
    facts: dict[str, Any] = orjson.loads(orjson.dumps(await describe_range(connection, of, fault)))
    values = {"wallet": of.wallet, "coin": None, "twap_id": None, "start": of.start, "end": of.end, "limit": None, "given": 0}

    def read() -> Source:
        batches = Batches(connection, FILLS)
        return batches.of_fills(lake, values, days, seconds) if days else batches.of_table(values)

    source = _write(read, lines, layout, missing_runs(facts) if layout.has_missing_days else [])
    stack.push_async_callback(source.aclose)
    return Opened(facts, await anext(source, []), source, layout.columns, {})


def missing_runs(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of days whose fills are missing, wholly or in part."""
    return [run for run in facts["coverage"] if run["state"] in ("absent", "partial")]


async def _write(read: Callable[[], Source], lines: TaxLines, layout: Layout, missing: list[dict[str, Any]]) -> Source:
    waiting: list[Row] = [_missing_row(run) for run in missing]
    twaps = await _add_up_twaps(read()) if lines == "twaps" else []
    async with aclosing(_in_order(read(), twaps, skips_slices=lines == "twaps")) as ordered:
        async for line in ordered:
            waiting += layout.write(line)
            if len(waiting) >= BATCH:
                yield waiting
                waiting = []
    if waiting:
        yield waiting


async def _add_up_twaps(fills: Source) -> list[Line]:
    """Return a line per TWAP, in order of the last fill."""
    twaps: dict[tuple[str, str, str], Line] = {}
    async for rows in fills:
        for row in rows:
            fill = _Fill._make(row)
            if fill.twap_id is None:
                continue
            line = _line_of(fill)
            known = twaps.setdefault((fill.twap_id, fill.coin, fill.side), line)
            if known is line:
                line.line, line.tid, line.oid, line.hash = "twap", None, None, None
            else:
                _add(known, line)
    return sorted(twaps.values(), key=lambda line: _moment(line.last_time))


async def _in_order(fills: Source, twaps: list[Line], *, skips_slices: bool) -> AsyncGenerator[Line]:
    """Yield the lines of fills, with those of TWAPs at their places."""
    waiting = iter(twaps)
    twap = next(waiting, None)
    async with aclosing(fills):
        async for rows in fills:
            for row in rows:
                fill = _Fill._make(row)
                if skips_slices and fill.twap_id is not None:
                    continue
                while twap is not None and _moment(twap.last_time) < _moment(fill.time):
                    yield twap
                    twap = next(waiting, None)
                yield _line_of(fill)
    while twap is not None:
        yield twap
        twap = next(waiting, None)


def _moment(time: str) -> str:
    """Return what orders times: without the Z, a whole second comes before its milliseconds."""
    return time.removesuffix("Z")


def _line_of(fill: Any) -> Line:
    px, sz = Decimal(fill.px), Decimal(fill.sz)
    is_trade = _is_trade(fill.dir, fill.tid)
    notional = _EXACT.multiply(px, sz)
    fees = None
    if fill.fee is not None:
        fee = Decimal(fill.fee)
        # A fee of 0 is known, whatever its token.
        fees = {fill.fee_token: fee} if fill.fee_token is not None else None if fee else {}
    return Line(
        line="fill",
        first_time=fill.time,
        last_time=fill.time,
        coin=fill.coin,
        side=fill.side,
        is_trade=is_trade,
        size=sz,
        px=px,
        notional=notional if is_trade and notional < _LARGEST_PRODUCT else None,
        closed_pnl=None if fill.closed_pnl is None else Decimal(fill.closed_pnl),
        fees=fees,
        twap_id=fill.twap_id,
        dir=fill.dir,
        tid=fill.tid,
        oid=fill.oid,
        hash=fill.hash,
    )


def _is_trade(direction: str | None, tid: str | None) -> bool:
    is_booking = direction is not None and (direction in NO_TRADE_DIRS or direction.startswith(NO_TRADE_BEGINNINGS))
    return not is_booking and tid != "0"


def _add(twap: Line, slice_: Line) -> None:
    twap.last_time = slice_.last_time
    twap.size = _EXACT.add(twap.size, slice_.size)
    twap.notional = _sum(twap.notional, slice_.notional)
    twap.closed_pnl = _sum(twap.closed_pnl, slice_.closed_pnl)
    twap.is_trade &= slice_.is_trade
    twap.fills += 1
    twap.dir = twap.dir if twap.dir == slice_.dir else None
    if twap.fees is None or slice_.fees is None:
        twap.fees = None
        return
    for token, fee in slice_.fees.items():
        twap.fees[token] = _EXACT.add(twap.fees.get(token, Decimal(0)), fee)


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else _EXACT.add(one, other)


def plain(number: Decimal | None) -> str | None:
    """Return a number without exponent or trailing zeros."""
    return None if number is None else f"{number.normalize(_EXACT):f}" if number else "0"


def _own_row(line: Line) -> list[Row]:
    fee_token, fee = next(iter(line.fees.items())) if line.fees is not None and len(line.fees) == 1 else (None, None)
    fees = None if line.fees is None else json.dumps({token: plain(line.fees[token]) for token in sorted(line.fees)})
    return [
        (
            *(line.line, line.first_time, line.last_time, line.coin, line.side, "true" if line.is_trade else "false"),
            *(plain(line.size), plain(line.vwap), plain(line.notional), plain(line.closed_pnl), plain(fee), fee_token, fees),
            *(str(line.fills), line.twap_id, line.dir, line.tid, line.oid, line.hash, None),
        )
    ]


def _missing_row(run: dict[str, Any]) -> Row:
    """Return the row of days that are missing."""
    note = f"{run['state']}: {run['note']}" if run.get("note") else run["state"]
    named = {
        "line": "missing",
        "first_time": f"{date.fromisoformat(run['from'])}T00:00:00Z",
        "last_time": f"{date.fromisoformat(run['to'])}T23:59:59.999Z",
        "note": note,
    }
    return tuple(named.get(name) for name, _ in COLUMNS)


OWN_LAYOUT = Layout(COLUMNS, _own_row, has_missing_days=True)
