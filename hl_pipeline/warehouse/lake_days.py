"""hl.lake_days: the days in the lake's Iceberg tables. The catalog is the truth; this ledger makes it cheap to ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

import psycopg
from psycopg.rows import class_row

from hl_pipeline.domain.records import ObjectVersion

_COLUMNS = "date, files, rows, bytes, snapshot_id, state, made_from, loaded_at, notional, notional_unknown"
_READ = f"SELECT {_COLUMNS} FROM hl.lake_days WHERE table_name = %s"
_RECORD = f"""
INSERT INTO hl.lake_days (table_name, {_COLUMNS}, compacted_at)
VALUES (%(table)s, %(date)s, %(files)s, %(rows)s, %(bytes)s, %(snapshot_id)s, %(state)s, %(made_from)s, %(loaded_at)s,
        %(notional)s, %(notional_unknown)s, now())
ON CONFLICT (table_name, date) DO UPDATE SET
    files = EXCLUDED.files, rows = EXCLUDED.rows, bytes = EXCLUDED.bytes, snapshot_id = EXCLUDED.snapshot_id,
    state = EXCLUDED.state, made_from = EXCLUDED.made_from, loaded_at = EXCLUDED.loaded_at, notional = EXCLUDED.notional,
    notional_unknown = EXCLUDED.notional_unknown, compacted_at = EXCLUDED.compacted_at
"""
_RENEW = "UPDATE hl.lake_days SET loaded_at = %s, state = %s WHERE table_name = %s AND date = %s"
_FORGET = "DELETE FROM hl.lake_days WHERE table_name = %s AND date = ANY(%s)"
_CURRENT = """
SELECT d.date FROM hl.lake_days l JOIN hl.fills_days d ON d.date = l.date AND d.loaded_at = l.loaded_at AND d.rows = l.rows
WHERE l.table_name = 'fills'
"""
_DUE = """
SELECT d.date FROM hl.fills_days d LEFT JOIN hl.lake_days l ON l.date = d.date AND l.table_name = 'fills'
WHERE d.state <> 'pending' AND d.loaded_at <= now() - make_interval(secs => %s)
  AND l.loaded_at IS DISTINCT FROM d.loaded_at AND (d.rows > 0 OR l.date IS NOT NULL)
  AND NOT EXISTS (SELECT FROM hl.dirty_days y WHERE y.date = d.date)
ORDER BY d.date
"""
_DAY_OF_FILLS = "SELECT rows, state, loaded_at, thinned_at IS NOT NULL FROM hl.fills_days WHERE date = %s"

_HOURS = "SELECT hour, rows, duplicates, conflicts FROM hl.fills_hours WHERE date = %s AND rows > 0"
_VERSIONS = """
SELECT object_key, o.etag, o.parser FROM hl.fills_day_objects o JOIN hl.s3_ingest_log USING (object_id) WHERE o.date = %s
"""


@dataclass(frozen=True, slots=True)
class LakeDay:
    """A day in an Iceberg table. `files` are relative to the lake. `made_from`: digest of the versions of its objects.

    `loaded_at`: the load whose rows the files have. `notional_unknown`: rows whose notional does not fit its column.
    """

    date: date
    files: list[str]
    rows: int
    bytes: int
    snapshot_id: int
    state: str
    made_from: str
    loaded_at: datetime
    notional: Decimal | None
    notional_unknown: int | None


@dataclass(frozen=True, slots=True)
class DayToCompact:
    """A loaded day of fills: rows, verdict, when it was loaded, and whether its rows are only in the lake."""

    rows: int
    state: str
    loaded_at: datetime
    is_thinned: bool


def read_lake_days(connection: psycopg.Connection, table: str) -> Mapping[date, LakeDay]:
    """Return the recorded days of a table."""
    with connection.cursor(row_factory=class_row(LakeDay)) as cursor:
        return {day.date: day for day in cursor.execute(_READ.encode(), [table])}


def record_lake_day(connection: psycopg.Connection, table: str, day: LakeDay) -> None:
    """Record a published day."""
    values = {name: getattr(day, name) for name in LakeDay.__dataclass_fields__}
    connection.execute(_RECORD.encode(), {"table": table, **values})


def renew_lake_day(connection: psycopg.Connection, table: str, day: date, loaded_at: datetime, state: str) -> None:
    """Record that the day was loaded again from the same objects, so that its files are current."""
    connection.execute(_RENEW, [loaded_at, state, table, day])


def forget_lake_days(connection: psycopg.Connection, table: str, days: list[date]) -> None:
    """Remove the records of days that the table no longer has."""
    connection.execute(_FORGET, [table, days])


def list_current_days(connection: psycopg.Connection) -> set[date]:
    """Return the days whose compacted fills are what was loaded last."""
    return {row[0] for row in connection.execute(_CURRENT)}


def list_days_to_compact(connection: psycopg.Connection, at_rest_hours: float) -> list[date]:
    """Return the days of fills that are not pending, have not changed for `at_rest_hours`, and are not compacted as they are."""
    return [row[0] for row in connection.execute(_DUE, [at_rest_hours * 3600])]


def read_day_to_compact(connection: psycopg.Connection, day: date) -> DayToCompact | None:
    """Return what is known of a loaded day, or None if it is not loaded."""
    row = connection.execute(_DAY_OF_FILLS, [day]).fetchone()
    return None if row is None else DayToCompact(*row)


def read_counts_of_hours(connection: psycopg.Connection, day: date) -> dict[int, tuple[int, int, int]]:
    """Return rows, duplicates and conflicts of the hours with fills of a loaded day, as they were loaded last."""
    return {hour: (rows, *others) for hour, rows, *others in connection.execute(_HOURS, [day])}


def read_versions_of_day(connection: psycopg.Connection, day: date) -> set[ObjectVersion]:
    """Return the versions of the objects from which a day of fills was loaded last, also if it is thinned."""
    return set(connection.execute(_VERSIONS, [day]).fetchall())
