"""What hl.fills_days says of the days that were loaded. Loading them is for `fills_partitions`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import psycopg

_KEPT_DAYS = "SELECT date FROM hl.fills_days WHERE thinned_at IS NULL AND date BETWEEN %s AND %s AND rows > 0 ORDER BY date"
_DAY = "SELECT rows, state, hl.has_bad_lines(date), thinned_at IS NOT NULL FROM hl.fills_days WHERE date = %s"


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
