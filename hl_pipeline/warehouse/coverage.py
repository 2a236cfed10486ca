"""hl.coverage, the judged state of each hour, and hl.acknowledged, the notes of users about holes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import psycopg
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from hl_pipeline.domain.completeness import Acknowledged, HourState
from hl_pipeline.domain.datasets import BY_NAME, TWAP_STATUSES
from hl_pipeline.domain.status_completeness import StatusHour

_RECORD = """
INSERT INTO hl.coverage (source, object_date, object_hour, expected, found, note, why, object_key, etag, rows, bad_lines,
                         first_block, last_block, missing_ranges, missing_blocks, fetched_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::int8multirange, %s, %s)
ON CONFLICT (source, object_date, object_hour) DO UPDATE SET
    expected = EXCLUDED.expected, found = EXCLUDED.found, note = EXCLUDED.note, why = EXCLUDED.why,
    object_key = EXCLUDED.object_key, etag = EXCLUDED.etag, rows = EXCLUDED.rows, bad_lines = EXCLUDED.bad_lines,
    first_block = EXCLUDED.first_block, last_block = EXCLUDED.last_block, missing_ranges = EXCLUDED.missing_ranges,
    missing_blocks = EXCLUDED.missing_blocks, fetched_at = EXCLUDED.fetched_at, judged_at = now()
"""
_FORGET_STATUSES = "DELETE FROM hl.coverage WHERE source = %s AND object_date = %s"
_ACKNOWLEDGED = "SELECT source, object_date, object_hour, note FROM hl.acknowledged WHERE object_date BETWEEN %s AND %s"

# Days with a hole: an hour that is a hole, or an edge of a day of fills, which the object of hour 0, or the first object of a
# dataset, should cross.
_FIND_HOLES = """
SELECT DISTINCT object_date FROM hl.coverage
WHERE source = %(source)s AND object_date BETWEEN %(first)s AND %(last)s AND is_hole
  AND (%(hour)s::int IS NULL OR object_hour = %(hour)s)
UNION
SELECT object_date FROM hl.coverage c JOIN hl.fills_days d ON d.edges <> '{}' AND (
    object_hour = 0 AND d.date IN (object_date, object_date - 1)
    OR d.date = object_date AND object_date + object_hour * interval '1 hour' = %(begins)s::timestamp)
WHERE source = %(source)s AND source <> 'twap_statuses' AND object_date BETWEEN %(first)s AND %(last)s
  AND (%(hour)s::int IS NULL OR object_hour = %(hour)s)
ORDER BY 1
"""
_ACKNOWLEDGE = """
INSERT INTO hl.acknowledged (source, object_date, object_hour, note) VALUES (%s, %s, %s, %s)
ON CONFLICT (source, object_date, object_hour) DO UPDATE SET note = EXCLUDED.note, at = now()
"""
_UNDO = """
DELETE FROM hl.acknowledged WHERE source = %(source)s AND object_date BETWEEN %(first)s AND %(last)s
  AND object_hour IS NOT DISTINCT FROM %(hour)s::int RETURNING object_date
"""
# The note of an hour takes precedence over the note of its day.
_NOTE_AGAIN = """
UPDATE hl.coverage c SET note = (
    SELECT note FROM hl.acknowledged a
    WHERE a.source = c.source AND a.object_date = c.object_date AND (a.object_hour IS NULL OR a.object_hour = c.object_hour)
    ORDER BY a.object_hour NULLS LAST LIMIT 1)
WHERE source = %(source)s AND object_date BETWEEN %(first)s AND %(last)s
"""


def record_hours(connection: psycopg.Connection, hours: Sequence[HourState]) -> None:
    """Write the states of hours of fills datasets, in one transaction. The caller must hold lock_judging."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_RECORD, [_row(hour) for hour in hours])


def _row(hour: HourState) -> list[object]:
    meta = hour.meta
    why = "; ".join([hour.why] * bool(hour.why) + [f"{h.first}-{h.last} {h.where}" for h in hour.holes[:3]])
    known = [None] * 6 if meta is None else [meta.key, meta.etag, meta.rows, meta.bad_lines, meta.first_block, meta.last_block]
    ranges = Multirange([Range(hole.first, hole.last + 1) for hole in hour.holes])
    count = sum(hole.last - hole.first + 1 for hole in hour.holes)
    place = [hour.source.name, hour.hour.date(), hour.hour.hour]
    return [*place, hour.expected, hour.found, hour.note, why, *known, ranges, count, meta.fetched_at if meta else None]


def record_status_hours(connection: psycopg.Connection, day: date, hours: Sequence[StatusHour]) -> None:
    """Replace the rows of a day of statuses in hl.coverage. The caller must hold lock_judging_statuses."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_FORGET_STATUSES, [TWAP_STATUSES.name, day])
        cursor.executemany(_RECORD, [_status_row(day, hour) for hour in hours])


def _status_row(day: date, hour: StatusHour) -> list[object]:
    metas = hour.objects
    known: list[object] = [None] * 4
    if metas:
        keys, etags = (", ".join(values) for values in zip(*((meta.key, meta.etag) for meta in metas), strict=True))
        known = [keys, etags, sum(meta.rows for meta in metas), sum(meta.bad_lines for meta in metas)]
    fetched = max((meta.fetched_at for meta in metas), default=None)
    place = [TWAP_STATUSES.name, day, hour.hour]
    return [*place, True, hour.found, hour.note, hour.why, *known, None, None, Multirange(), 0, fetched]


def read_acknowledged(connection: psycopg.Connection, first: date, last: date) -> Acknowledged:
    """Return the acknowledged holes on these days of the bucket."""
    rows = connection.execute(_ACKNOWLEDGED, [first, last]).fetchall()
    return {(source, object_date, hour): note for source, object_date, hour, note in rows}


def acknowledge_holes(
    connection: psycopg.Connection, source: str, first: date, last: date, hour: int | None, note: str
) -> list[date]:
    """Acknowledge the hole in an hour (None: in all hours) of these days. Returns the days that have a hole there."""
    begins = BY_NAME[source].first.replace(tzinfo=None)
    span = {"source": source, "first": first, "last": last, "hour": hour, "begins": begins}
    with connection.transaction(), connection.cursor() as cursor:
        days = [row[0] for row in cursor.execute(_FIND_HOLES, span)]
        cursor.executemany(_ACKNOWLEDGE, [(source, day, hour, note) for day in days])
        cursor.execute(_NOTE_AGAIN, span)
    return days


def undo_acknowledge(connection: psycopg.Connection, source: str, first: date, last: date, hour: int | None) -> list[date]:
    """Remove acknowledgements. Returns the days that had one."""
    span = {"source": source, "first": first, "last": last, "hour": hour}
    with connection.transaction(), connection.cursor() as cursor:
        days = [row[0] for row in cursor.execute(_UNDO, span)]
        cursor.execute(_NOTE_AGAIN, span)
    return sorted(days)
