"""hl.dirty_days: days whose fills in hl.fills are older than what the lake has. Whoever puts fills into the lake without loading
them notes their days.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import psycopg

_NOTE = """
INSERT INTO hl.dirty_days (date, reason, noted_at) SELECT day, %s, clock_timestamp() FROM unnest(%s::date[]) day
ON CONFLICT (date) DO UPDATE SET reason = EXCLUDED.reason, noted_at = EXCLUDED.noted_at
"""


def note_dirty(connection: psycopg.Connection, days: Iterable[date], reason: str) -> None:
    """Note days as to be loaded again. To be called when what makes them so is in the lake."""
    # In one order for all, so that two of these at once do not wait for each other for ever.
    connection.execute(_NOTE, [reason, sorted(set(days))])
