"""Pages of hl.fills, by wallet, coin or TWAP.

A day may be reloaded between two pages, and its fills may then have another order. A cursor therefore has the number of fills of
its millisecond that were already returned, and their digest. The next page begins with that millisecond and skips these fills
if they are still its first. Otherwise the request fails with 409, so no fill is ever skipped or repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any

import orjson
from fastapi import HTTPException, Request
from psycopg import AsyncConnection
from pydantic import AwareDatetime, Field, TypeAdapter

from api.database import read_sql
from api.paging import make_cursor, read_cursor, read_rows
from api.parameters import MAX_OFFSET, Paged, Text, iso

FILLS = read_sql("fills")
# The columns that identify a fill within a millisecond.
_KEY = ("coin", "wallet", "side", "tid", "oid", "counterparty_oid")
_POSITION = TypeAdapter(tuple[AwareDatetime, Annotated[int, Field(ge=0, le=MAX_OFFSET)], Text])
_DIGEST_BYTES = 8
# A range is read in parts. The first has _FIRST_DAYS days, and each later part has _GROWTH times as many as the previous one.
_FIRST_DAYS, _GROWTH = 8, 4
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


async def fills_page(request: Request, connection: AsyncConnection, asked: Paged, wanted: FillsWanted) -> dict[str, Any]:
    """Return the fields `fills` and `next_cursor` of a response. Raises HTTPException (409) if earlier fills have changed."""
    rows, more = await _read_fills(connection, wanted.values, wanted.given + asked.limit)
    _require_given(wanted, rows)
    next_cursor = None
    if more:
        last = rows[-1]["time"]
        of_moment = [row for row in rows if row["time"] == last]
        next_cursor = make_cursor(request, asked, (last, len(of_moment), _digest_of(of_moment)))
    return {"fills": rows[wanted.given :], "next_cursor": next_cursor}


async def values_of_export(connection: AsyncConnection, asked: Paged, wanted: FillsWanted) -> dict[str, Any]:
    """Return the query values for an export, which begins where a page would. Raises HTTPException (409) like a page."""
    if wanted.given:
        rows, _ = await read_rows(connection, FILLS, wanted.values, wanted.given)
        _require_given(wanted, rows)
    return {**wanted.values, "given": wanted.given, "limit": asked.export_limit}


async def _read_fills(connection: AsyncConnection, values: dict[str, Any], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Return at most `limit` fills of the range, and whether there are more.

    PostgreSQL plans for the table of every day in the range, although the first days usually fill a page. For 365 days, planning
    takes longer than everything else. So the query begins with a few days, and continues only if they have too few fills.
    """
    rows: list[dict[str, Any]] = []
    since, days = values["start"], _FIRST_DAYS
    while True:
        midnight = datetime.combine(since.date() + timedelta(days), time.min, UTC)
        until = min(midnight - _MICROSECOND, values["end"])
        part, more = await read_rows(connection, FILLS, {**values, "start": since, "end": until}, limit - len(rows))
        rows += part
        if more or until == values["end"]:
            return rows, more
        since, days = midnight, days * _GROWTH


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
