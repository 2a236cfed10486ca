"""Counts and sums of a day in hl.fills, to be held against the lake's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import psycopg

from hl_pipeline.formats.fills import SUMMED_BELOW

_TOTALS = """
SELECT extract(hour FROM time)::int, count(*), coalesce(sum(sz) FILTER (WHERE sz < %(below)s), 0), coalesce(sum(oid), 0),
       count(twap_id)
FROM hl.fills
WHERE time >= %(day)s::date::timestamp AT TIME ZONE 'UTC' AND time < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'
GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class HourTotals:
    """Rows, the sum of sz (below SUMMED_BELOW) and of oid, and the rows with a TWAP, of one hour."""

    rows: int
    sz: Decimal
    oid: Decimal
    twap_rows: int


def read_totals(connection: psycopg.Connection, day: date) -> dict[int, HourTotals]:
    """What hl.fills has of `day`, by hour (UTC); hours without rows are left out."""
    rows = connection.execute(_TOTALS, {"day": day, "below": SUMMED_BELOW}).fetchall()
    return {row[0]: HourTotals(*row[1:]) for row in rows}
