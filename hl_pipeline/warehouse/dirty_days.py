"""hl.dirty_days: days whose fills in hl.fills are older than what the lake has. Whoever puts fills into the lake without loading
them notes their days; the load of a day takes its note away.
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
_CLEAR = "DELETE FROM hl.dirty_days WHERE date = %s AND noted_at < %s"


def note_dirty(connection: psycopg.Connection, days: Iterable[date], reason: str) -> None:
    """Note days as to be loaded again. To be called when what makes them so is in the lake: a load that began before does not
    take the note away, one that begins after has read it.
    """
    # In one order for all, so that two of these at once do not wait for each other for ever.
    connection.execute(_NOTE, [reason, sorted(set(days))])


def read_dirty(connection: psycopg.Connection) -> dict[date, str]:
    """The days that are noted, in order, and why."""
    return dict(connection.execute(_READ).fetchall())


def read_dirty_span(connection: psycopg.Connection) -> tuple[int, date, date] | None:
    """How many days are noted, the first and the last of them; None: none is."""
    return connection.execute(_SPAN).fetchone()


def clear_dirty(connection: psycopg.Connection, day: date, began: datetime) -> None:
    """Take the note of a day away unless it was made after `began`, when the load of the day began to read (`read_clock`)."""
    connection.execute(_CLEAR, [day, began])


def read_clock(connection: psycopg.Connection) -> datetime:
    """The time of the database's clock, by which days are noted."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return row[0]
