"""Counts and sums of a day in hl.fills, to be held against the lake's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import psycopg

_TOTALS = """
SELECT extract(hour FROM time)::int, count(*), sum(sz), sum(oid), count(twap_id)
FROM hl.fills
WHERE time >= %(day)s::date::timestamp AT TIME ZONE 'UTC' AND time < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'
GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class HourTotals:
    """Rows, the sum of sz and of oid, and the rows with a TWAP, of one hour."""

    rows: int
    sz: Decimal
    oid: Decimal
    twap_rows: int


def read_totals(connection: psycopg.Connection, day: date) -> dict[int, HourTotals]:
    """What hl.fills has of `day`, by hour (UTC); hours without rows are left out."""
    rows = connection.execute(_TOTALS, {"day": day}).fetchall()
    return {row[0]: HourTotals(*row[1:]) for row in rows}
