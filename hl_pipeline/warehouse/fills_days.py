"""What hl.fills_days says of the days that were loaded. Loading them is for `fills_partitions`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import psycopg

_KEPT_DAYS = "SELECT date FROM hl.fills_days WHERE thinned_at IS NULL AND date BETWEEN %s AND %s AND rows > 0 ORDER BY date"
_DAY = "SELECT rows, state, hl.has_bad_lines(date), thinned_at IS NOT NULL FROM hl.fills_days WHERE date = %s"
# A day that was thinned cannot be compared: its rows are in the lake alone.
_DOUBTS = """
SELECT sum(coalesce(h.repeated, 0) + h.conflicts), sum(coalesce(h.crowded, 0)),
       array_agg(h.hour ORDER BY h.hour) FILTER (WHERE h.proven_at IS NULL AND d.thinned_at IS NULL)
FROM hl.fills_days d JOIN hl.fills_hours h USING (date) WHERE date = %s
"""
# What is missing of a day that was not due when it was loaded was judged as pending; until somebody looks again, it stays so.
_PENDING = """
SELECT date FROM hl.fills_days WHERE state = 'pending' AND date <= %s
UNION SELECT date FROM hl.twap_days WHERE state = 'pending' AND date <= %s ORDER BY date
"""


@dataclass(frozen=True, slots=True)
class FillsDay:
    """A day that was loaded: its rows, its verdict (DayState) at that time, whether an object of it has quarantined lines, and
    whether its rows are in the lake alone.
    """

    rows: int
    state: str
    has_bad_lines: bool
    is_thinned: bool


def read_fills_day(connection: psycopg.Connection, day: date) -> FillsDay | None:
    """What is known of a day; None when it was not loaded."""
    row = connection.execute(_DAY, [day]).fetchone()
    return None if row is None else FillsDay(*row)


def list_kept_days(connection: psycopg.Connection, first: date, last: date) -> list[date]:
    """The days from `first` to `last` that hl.fills has rows of."""
    return [row[0] for row in connection.execute(_KEPT_DAYS, [first, last])]


def describe_doubts(connection: psycopg.Connection, day: date) -> list[str]:
    """What was counted of a day's fills that speaks against them, in words; nothing, if nothing does."""
    repeated, crowded, unequal = connection.execute(_DOUBTS, [day]).fetchone() or (0, 0, None)
    doubts = [
        (repeated, f"{repeated} rows repeat a fill or differ from the repeat that was dropped."),
        (crowded, f"{crowded} trades have legs that are no pair."),
        (unequal, f"Lake and hl.fills were not found equal in the hours {', '.join(map(str, unequal or []))}."),
    ]
    return [text for is_wrong, text in doubts if is_wrong]


def read_pending_days(connection: psycopg.Connection, last_of_fills: date, last_of_statuses: date) -> list[date]:
    """The days that were pending when they were loaded, up to the last one whose fills, or whose statuses, are all due by now."""
    return [row[0] for row in connection.execute(_PENDING, [last_of_fills, last_of_statuses])]
