"""Which days of a range are there, so that an empty list is not taken for "nothing happened"."""

from __future__ import annotations

from datetime import date
from typing import Literal

import orjson
from psycopg import AsyncConnection

from api.database import read_sql

Of = Literal["fills", "candles", "daily_stats", "user_stats"]

_TWAPS = read_sql("coverage_of_twaps")
_FILLS = read_sql("coverage_of_fills")


async def coverage_of_twaps(connection: AsyncConnection, first: date, last: date) -> orjson.Fragment:
    """The runs of days from `first` to `last` in hl.twap_statuses, as JSON."""
    return await _fetch(connection, _TWAPS, {"first": first, "last": last})


async def coverage_of_fills(connection: AsyncConnection, what: Of, first: date, last: date) -> orjson.Fragment:
    """The same in hl.fills, or in what is made of them."""
    return await _fetch(connection, _FILLS, {"first": first, "last": last, "what": what})


async def _fetch(connection: AsyncConnection, query: bytes, values: dict[str, object]) -> orjson.Fragment:
    row = await (await connection.execute(query, values)).fetchone()
    assert row is not None
    return row[0]
