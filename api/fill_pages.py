"""Pages of fills, by wallet, coin or TWAP: of hl.fills and, for days that are not in it, of the lake.

A day may be reloaded between two pages, and its fills may then have another order. A cursor therefore has the number of fills of
its millisecond that were already returned, and their digest. The next page begins with that millisecond and skips these fills
if they are still its first. Otherwise the request fails with 409, so no fill is ever skipped or repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any

import orjson
from fastapi import HTTPException, Request
from pydantic import AwareDatetime, Field, TypeAdapter

from api.database import read_sql
from api.export import NextPage
from api.lake import History
from api.lake_files import DayInLake, Part, parts_by_tier
from api.models.fills import Fill
from api.paging import make_cursor, read_cursor, read_rows
from api.parameters import MAX_OFFSET, Paged, Text, iso

FILLS = read_sql("fills")
FIELDS = tuple(Fill.model_fields)
# The columns that identify a fill within a millisecond.
_KEY = ("coin", "wallet", "side", "tid", "oid", "counterparty_oid")
_POSITION = TypeAdapter(tuple[AwareDatetime, Annotated[int, Field(ge=0, le=MAX_OFFSET)], Text])
_DIGEST_BYTES = 8
# A range is read in parts. The first has _FIRST_DAYS days, and each later part has _GROWTH times as many as the previous one.
_FIRST_DAYS, _GROWTH = 8, 4
# A day of the lake takes longer than one of hl.fills, and a query as long as two days. So few rows begin with fewer days.
_FEW_ROWS, _FIRST_DAYS_IN_LAKE = 250, 2
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class FillsWanted:
    """The values of a query that begins at `since`. Its first `given` rows, with the digest `digest`, were already returned."""

    values: dict[str, Any]
    since: datetime
    given: int
    digest: str


def fills_wanted(
    request: Request, asked: Paged, start: datetime, end: datetime, *, wallet: str | None, coin: str | None, twap_id: int | None
) -> FillsWanted:
    """Return the query values for a request. Raises RequestValidationError for an invalid cursor."""
    since, given, digest = read_cursor(request, asked, _POSITION, (start, 0, _digest_of([])))
    # Begin at the cursor, so that tables of earlier days are not read.
    values = {"wallet": wallet, "coin": coin, "twap_id": twap_id, "start": max(start, since), "end": end, "given": 0}
    return FillsWanted(values, since, given, digest)


async def fills_page(
    request: Request, history: History, asked: Paged, wanted: FillsWanted, days: Sequence[DayInLake]
) -> dict[str, Any]:
    """Return the fields `fills` and `next_cursor` of a response. `days`: those of the range that are in the lake alone.

    Raises HTTPException (409) if earlier fills have changed.
    """
    rows, more = await _read_fills(history, wanted.values, wanted.given + asked.limit, days)
    _require_given(wanted, rows)
    return {"fills": rows[wanted.given :], "next_cursor": _next_cursor(request, asked, rows) if more else None}


@dataclass(frozen=True, slots=True)
class FillsFile:
    """The values of the query for an export, which begins where a page would, and what makes the cursor after its page."""

    values: dict[str, Any]
    next_page: NextPage


async def fills_file(
    request: Request, history: History, asked: Paged, wanted: FillsWanted, days: Sequence[DayInLake]
) -> FillsFile:
    """Return what an export begins with. Raises HTTPException (409) like a page."""
    before: list[dict[str, Any]] = []
    if wanted.given:
        before, _ = await _read_fills(history, wanted.values, wanted.given, days)
        _require_given(wanted, before)
    values = {**wanted.values, "given": wanted.given, "limit": asked.export_limit}
    return FillsFile(values, lambda rows: _next_cursor(request, asked, [*before, *rows]))


def _next_cursor(request: Request, asked: Paged, rows: Sequence[dict[str, Any]]) -> str:
    last = rows[-1]["time"]
    of_moment = [row for row in rows if row["time"] == last]
    return make_cursor(request, asked, (last, len(of_moment), _digest_of(of_moment)))


async def _read_fills(
    history: History, values: dict[str, Any], limit: int, in_lake: Sequence[DayInLake]
) -> tuple[list[dict[str, Any]], bool]:
    """Return at most `limit` fills of the range, and whether there are more.

    PostgreSQL plans for the table of every day in the range, although the first days usually fill a page. For 365 days, planning
    takes longer than everything else. So the query begins with a few days, and continues only if they have too few fills.
    """
    rows: list[dict[str, Any]] = []
    since, days = values["start"], _FIRST_DAYS
    while True:
        midnight = datetime.combine(since.date() + timedelta(days), time.min, UTC)
        until = min(midnight - _MICROSECOND, values["end"])
        now = [day for day in in_lake if since.date() <= day.date <= until.date()]
        for part in parts_by_tier(since, until, now):
            more = await _read_part(history, part, values, limit, rows)
            if more:
                return rows, True
        if until == values["end"]:
            return rows, False
        since, days = midnight, days * _GROWTH


async def _read_part(history: History, part: Part, values: dict[str, Any], limit: int, rows: list[dict[str, Any]]) -> bool:
    """Append fills of a part until there are `limit`. Returns whether there are more."""
    left, of_part = limit - len(rows), {**values, "start": part.start, "end": part.end}
    if not part.days:
        found, more = await read_rows(history.connection, FILLS, of_part, left)
        rows += found
        return more
    for days in _groups(part.days, _FIRST_DAYS_IN_LAKE if left <= _FEW_ROWS else _FIRST_DAYS):
        left = limit - len(rows)
        found = [dict(zip(FIELDS, row, strict=True)) for row in await history.read(days, of_part, left + 1)]
        for fill in found:
            if fill["extra"] is not None:
                fill["extra"] = orjson.Fragment(fill["extra"])
        rows += found[:left]
        if len(found) > left:
            return True
    return False


def _groups(days: Sequence[DayInLake], count: int) -> Iterator[Sequence[DayInLake]]:
    """Yield the first `count` days, then _GROWTH times as many, and so on."""
    since = 0
    while since < len(days):
        yield days[since : since + count]
        since, count = since + count, count * _GROWTH


def _require_given(wanted: FillsWanted, rows: Sequence[dict[str, Any]]) -> None:
    before = [row for row in rows[: wanted.given] if row["time"] == iso(wanted.since)]
    if len(before) < wanted.given or _digest_of(before) != wanted.digest:
        moment = iso(wanted.since)
        raise HTTPException(
            409,
            f"the fills of {moment} were reloaded after the page that returned this cursor, and they or their order changed: "
            f"discard the fills that you have of that millisecond, and request again with start={moment} and no cursor",
        )


def _digest_of(rows: Sequence[dict[str, Any]]) -> str:
    # Their order does not matter, because all of them were returned.
    keys = sorted(orjson.dumps([row[name] for name in _KEY]) for row in rows)
    return hashlib.blake2b(b"".join(keys), digest_size=_DIGEST_BYTES).hexdigest()
