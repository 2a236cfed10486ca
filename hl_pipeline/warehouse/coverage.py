"""hl.coverage, hour by hour what was judged to be present, and hl.acknowledged, what people have noted of its holes."""

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

# The days that have a hole there: an hour that is one, or an edge of a day of fills, which the object of hour 0 should cross, or
# the first one of a dataset.
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
# What is said of one hour goes before what is said of its day.
_NOTE_AGAIN = """
UPDATE hl.coverage c SET note = (
    SELECT note FROM hl.acknowledged a
    WHERE a.source = c.source AND a.object_date = c.object_date AND (a.object_hour IS NULL OR a.object_hour = c.object_hour)
    ORDER BY a.object_hour NULLS LAST LIMIT 1)
WHERE source = %(source)s AND object_date BETWEEN %(first)s AND %(last)s
"""


def record_hours(connection: psycopg.Connection, hours: Sequence[HourState]) -> None:
    """Write what was found of hours of datasets of fills, all at once. The caller holds lock_judging."""
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
    """Make this all that hl.coverage says of a day of statuses. The caller holds lock_judging_statuses."""
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
    """What people have acknowledged on these days of the bucket."""
    rows = connection.execute(_ACKNOWLEDGED, [first, last]).fetchall()
    return {(source, object_date, hour): note for source, object_date, hour, note in rows}


def acknowledge_holes(
    connection: psycopg.Connection, source: str, first: date, last: date, hour: int | None, note: str
) -> list[date]:
    """Note of an hour (None: of all hours) of those days that have a hole there that it is known; which days these are."""
    begins = BY_NAME[source].first.replace(tzinfo=None)
    span = {"source": source, "first": first, "last": last, "hour": hour, "begins": begins}
    with connection.transaction(), connection.cursor() as cursor:
        days = [row[0] for row in cursor.execute(_FIND_HOLES, span)]
        cursor.executemany(_ACKNOWLEDGE, [(source, day, hour, note) for day in days])
        cursor.execute(_NOTE_AGAIN, span)
    return days


def undo_acknowledge(connection: psycopg.Connection, source: str, first: date, last: date, hour: int | None) -> list[date]:
    """Take such notes back; of which days there was one."""
    span = {"source": source, "first": first, "last": last, "hour": hour}
    with connection.transaction(), connection.cursor() as cursor:
        days = [row[0] for row in cursor.execute(_UNDO, span)]
        cursor.execute(_NOTE_AGAIN, span)
    return sorted(days)
