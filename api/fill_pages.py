"""Pages of hl.fills, for whoever asks by wallet, coin or TWAP.

A day may be replaced between two pages, and then its fills may have other places. So a cursor says how many fills of its
millisecond were given, and by a digest which: the next page begins with that millisecond, sees that they are still the first of
it, and leaves them out. If they are not, that is said (409): nothing is left out or repeated.
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
# What identifies a fill of a millisecond.
_KEY = ("coin", "wallet", "side", "tid", "oid", "counterparty_oid")
_POSITION = TypeAdapter(tuple[AwareDatetime, Annotated[int, Field(ge=0, le=MAX_OFFSET)], Text])
_DIGEST_BYTES = 8
# A range is read in parts: the first has _FIRST_DAYS days, each later one _GROWTH times as many as the one before.
_FIRST_DAYS, _GROWTH = 8, 4
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class FillsWanted:
    """The values of a query, which begins at the moment `since`; the first `given` of its rows were given before: `digest`."""

    values: dict[str, Any]
    since: datetime
    given: int
    digest: str


def fills_wanted(
    request: Request, asked: Paged, start: datetime, end: datetime, *, wallet: str | None, coin: str | None, twap_id: int | None
) -> FillsWanted:
    """What is wanted of hl.fills. Raises RequestValidationError for a wrong cursor."""
    since, given, digest = read_cursor(request, asked, _POSITION, (start, 0, _digest_of([])))
    # Not from the start again: the tables of days before the cursor are not touched.
    values = {"wallet": wallet, "coin": coin, "twap_id": twap_id, "start": max(start, since), "end": end, "given": 0}
    return FillsWanted(values, since, given, digest)


async def fills_page(request: Request, connection: AsyncConnection, asked: Paged, wanted: FillsWanted) -> dict[str, Any]:
    """The fields `fills` and `next_cursor` of an answer. Raises HTTPException where fills before it are not what they were."""
    rows, more = await _read_fills(connection, wanted.values, wanted.given + asked.limit)
    _require_given(wanted, rows)
    next_cursor = None
    if more:
        last = rows[-1]["time"]
        of_moment = [row for row in rows if row["time"] == last]
        next_cursor = make_cursor(request, asked, (last, len(of_moment), _digest_of(of_moment)))
    return {"fills": rows[wanted.given :], "next_cursor": next_cursor}


async def values_of_export(connection: AsyncConnection, asked: Paged, wanted: FillsWanted) -> dict[str, Any]:
    """The values of the query of a file, which begins as a page does. Raises HTTPException as for a page."""
    if wanted.given:
        rows, _ = await read_rows(connection, FILLS, wanted.values, wanted.given)
        _require_given(wanted, rows)
    return {**wanted.values, "given": wanted.given, "limit": asked.export_limit}


async def _read_fills(connection: AsyncConnection, values: dict[str, Any], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """At most `limit` fills of the range, and whether there are more.

    PostgreSQL plans for the table of every day of the range, though the first days mostly fill a page: for 365 days that takes
    longer than everything else. So the query begins with a few days, and goes on only while they hold too few fills.
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
            f"the fills of {moment} were loaded again since the page that gave this cursor, and are not the same, or in another "
            f"order: ask again from start={moment} on, without a cursor, and take what you have of that millisecond away",
        )


def _digest_of(rows: Sequence[dict[str, Any]]) -> str:
    # Their order among themselves does not matter: all of them were given.
    keys = sorted(orjson.dumps([row[name] for name in _KEY]) for row in rows)
    return hashlib.blake2b(b"".join(keys), digest_size=_DIGEST_BYTES).hexdigest()
