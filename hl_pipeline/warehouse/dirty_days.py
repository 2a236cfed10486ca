"""hl.dirty_days: days whose fills in hl.fills are older than the lake. Code that writes fills to the lake without loading them
adds their days; loading a day removes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime

import psycopg

_NOTE = """
INSERT INTO hl.dirty_days (date, reason, noted_at) SELECT day, %s, clock_timestamp() FROM unnest(%s::date[]) day
ON CONFLICT (date) DO UPDATE SET reason = EXCLUDED.reason, noted_at = EXCLUDED.noted_at
"""
_READ = "SELECT date, reason FROM hl.dirty_days ORDER BY date"
_SPAN = "SELECT count(*), min(date), max(date) FROM hl.dirty_days HAVING count(*) > 0"
_MARK = "SELECT noted_at FROM hl.dirty_days WHERE date = %s"
# Equal, not earlier: the clock may have gone back meanwhile.
_CLEAR = "DELETE FROM hl.dirty_days WHERE date = %s AND noted_at = %s"


def note_dirty(connection: psycopg.Connection, days: Iterable[date], reason: str) -> None:
    """Mark days as dirty. Call it after the new data is in the lake: a load that began before does not remove the mark, and a
    load that begins after reads the new data.
    """
    # A fixed order prevents deadlocks between concurrent calls.
    connection.execute(_NOTE, [reason, sorted(set(days))])


def read_dirty(connection: psycopg.Connection) -> dict[date, str]:
    """Return the dirty days in order, with their reasons."""
    return dict(connection.execute(_READ).fetchall())


def read_dirty_span(connection: psycopg.Connection) -> tuple[int, date, date] | None:
    """Return the number of dirty days and the first and last of them, or None if there are none."""
    return connection.execute(_SPAN).fetchone()


def read_mark(connection: psycopg.Connection, day: date) -> datetime | None:
    """Return the mark of a day (when it was set), or None. A load of the day reads it first, and clears it in the end."""
    row = connection.execute(_MARK, [day]).fetchone()
    return None if row is None else row[0]


def clear_dirty(connection: psycopg.Connection, day: date, mark: datetime) -> None:
    """Remove the mark of a day unless it was set again since it was read (`read_mark`)."""
    connection.execute(_CLEAR, [day, mark])
