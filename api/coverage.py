"""Which days of a range are there and what they lack, so that an empty list is not taken for "nothing happened"."""

from __future__ import annotations

from datetime import date
from typing import Literal

import orjson
from psycopg import AsyncConnection

from api.database import read_sql

Of = Literal["twaps", "fills", "candles", "daily_stats", "user_stats"]

_COVERAGE = read_sql("coverage")


async def read_coverage(connection: AsyncConnection, what: Of, first: date, last: date) -> orjson.Fragment:
    """The runs of days from `first` to `last` in hl.twap_statuses, hl.fills, or what is made of these, as JSON."""
    row = await (await connection.execute(_COVERAGE, {"first": first, "last": last, "what": what})).fetchone()
    assert row is not None
    return row[0]
