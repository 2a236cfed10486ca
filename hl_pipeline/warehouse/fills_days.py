"""Reads hl.fills_days, the loaded days of fills. `fills_partitions` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import psycopg

_KEPT_DAYS = "SELECT date FROM hl.fills_days WHERE thinned_at IS NULL AND date BETWEEN %s AND %s AND rows > 0 ORDER BY date"
_DAY = "SELECT rows, state, hl.has_bad_lines(date), thinned_at IS NOT NULL FROM hl.fills_days WHERE date = %s"
# A thinned day cannot be compared, because its rows are only in the lake.
_DOUBTS = """
SELECT sum(coalesce(h.repeated, 0) + h.conflicts), sum(coalesce(h.crowded, 0)),
       array_agg(h.hour ORDER BY h.hour) FILTER (WHERE h.proven_at IS NULL AND d.thinned_at IS NULL)
FROM hl.fills_days d JOIN hl.fills_hours h USING (date) WHERE date = %s
"""
# A day whose missing objects were not due when it was loaded stays pending until it is judged again.
_PENDING = """
SELECT date FROM hl.fills_days WHERE state = 'pending' AND date <= %s
UNION SELECT date FROM hl.twap_days WHERE state = 'pending' AND date <= %s ORDER BY date
"""


@dataclass(frozen=True, slots=True)
class FillsDay:
    """A loaded day: its number of rows, its verdict (DayState) at that time, whether one of its objects has quarantined lines,
    and whether its rows are only in the lake.
    """

    rows: int
    state: str
    has_bad_lines: bool
    is_thinned: bool


def read_fills_day(connection: psycopg.Connection, day: date) -> FillsDay | None:
    """Return the row of a day, or None if it is not loaded."""
    row = connection.execute(_DAY, [day]).fetchone()
    return None if row is None else FillsDay(*row)


def list_kept_days(connection: psycopg.Connection, first: date, last: date) -> list[date]:
    """Return the days from `first` to `last` with rows in hl.fills."""
    return [row[0] for row in connection.execute(_KEPT_DAYS, [first, last])]


def describe_doubts(connection: psycopg.Connection, day: date) -> list[str]:
    """Describe failed counts of a day's fills; an empty list if there are none."""
    repeated, crowded, unequal = connection.execute(_DOUBTS, [day]).fetchone() or (0, 0, None)
    doubts = [
        (repeated, f"{repeated} rows repeat a fill or differ from a dropped duplicate."),
        (crowded, f"{crowded} trades have legs that do not form a pair."),
        (unequal, f"The lake and hl.fills are not verified to be equal in the hours {', '.join(map(str, unequal or []))}."),
    ]
    return [text for is_wrong, text in doubts if is_wrong]


def read_pending_days(connection: psycopg.Connection, last_of_fills: date, last_of_statuses: date) -> list[date]:
    """Return the days that were pending when loaded, up to the last day whose fills, or whose statuses, are all due now."""
    return [row[0] for row in connection.execute(_PENDING, [last_of_fills, last_of_statuses])]
