"""The queries of `hl status`, `hl demo` and `hl drop`: days, objects, wallets, hours. They only read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

import psycopg
from psycopg.rows import class_row

_FILLS_DAYS = """
SELECT date, rows, duplicates, loaded_at, state, explanation, thinned_at IS NOT NULL AS is_thinned,
       num_nulls(candles_at, daily_stats_at, user_stats_at, builder_stats_at, twaps_at) > 0 AS lacks_statistics
FROM hl.fills_days ORDER BY date
"""
_STATUS_DAYS = "SELECT date, rows, state, explanation, twaps_at IS NULL AS lacks_twaps FROM hl.twap_days ORDER BY date"
_FAILED_OBJECTS = "SELECT object_key, error FROM hl.s3_ingest_log WHERE error IS NOT NULL"
_STALE = "SELECT date, object_key FROM hl.fills_day_objects o JOIN hl.s3_ingest_log l USING (object_id) WHERE o.etag <> l.etag"
_LOADED_DAYS = "SELECT date FROM hl.fills_days WHERE date BETWEEN %s AND %s"
# Days that were complete when loaded and did not change since.
_FINISHED_DAYS = """
SELECT date FROM hl.fills_days f JOIN hl.twap_days t USING (date)
WHERE date BETWEEN %(first)s AND %(last)s AND f.state IN ('whole', 'unprovable', 'no source')
  AND (t.state = 'unprovable' OR (t.state = 'no source' AND date < %(statuses_from)s))
  AND num_nulls(candles_at, daily_stats_at, user_stats_at, builder_stats_at, f.twaps_at) = 0 AND t.twaps_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM hl.dirty_days d WHERE d.date = f.date)
  AND NOT EXISTS (SELECT FROM hl.fills_day_objects o JOIN hl.s3_ingest_log l USING (object_id)
                  WHERE o.date = f.date AND (o.etag <> l.etag OR l.reset_of IS NOT NULL))
  AND NOT EXISTS (SELECT FROM hl.twap_day_objects o JOIN hl.s3_ingest_log l USING (object_key)
                  WHERE o.date = f.date AND l.source = 'twap_statuses' AND (o.etag <> l.etag OR l.reset_of IS NOT NULL))
"""
_SOUND_DAYS = """
SELECT date, least(f.loaded_at, t.loaded_at) FROM hl.fills_days f JOIN hl.twap_days t USING (date)
WHERE date BETWEEN %s AND %s AND t.conflicts = 0
  AND NOT EXISTS (SELECT FROM hl.fills_hours h WHERE h.date = f.date
                  AND (h.conflicts > 0 OR coalesce(h.repeated, 0) > 0 OR coalesce(h.crowded, 0) > 0
                       OR (h.proven_at IS NULL AND h.rows > 0 AND f.thinned_at IS NULL)))
"""
_THINNED_DAYS = "SELECT date FROM hl.fills_days WHERE thinned_at IS NOT NULL AND date = coalesce(%s, date) ORDER BY date"
_SIZE = "SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0) FROM unnest(%s::text[]) name"
_BUSIEST = """
SELECT coin, sum(trades), sum(notional) FROM hl.daily_stats GROUP BY coin ORDER BY 3 DESC NULLS LAST LIMIT %s
"""
_HOURS = """
SELECT source, object_date, object_hour, state, expected, why, note FROM hl.coverage WHERE object_date BETWEEN %s AND %s
ORDER BY object_date, object_hour NULLS LAST
"""
# The last fills of a day are in the first object of the next day.
_DAYS_WITH_HOLES = """
SELECT object_date, CASE source WHEN 'twap_statuses' THEN source ELSE 'fills' END FROM hl.coverage
WHERE is_hole AND state <> 'acknowledged'
UNION
SELECT object_date - 1, 'fills' FROM hl.coverage
WHERE is_hole AND state <> 'acknowledged' AND source <> 'twap_statuses' AND object_hour = 0
"""
_WALLETS = "SELECT state, count(*) FROM hl.backfill_progress GROUP BY 1 ORDER BY 1"
_FILLS_VERDICTS = "SELECT date, state, edges FROM hl.fills_days WHERE date BETWEEN %s AND %s"
_STATUS_VERDICTS = "SELECT date, state, '{}'::text[] FROM hl.twap_days WHERE date BETWEEN %s AND %s"


@dataclass(frozen=True, slots=True)
class FillsDayStatus:
    """A day in hl.fills_days. `is_thinned`: its fills are only in the lake. `lacks_statistics`: derived rows are outdated."""

    date: date
    rows: int
    duplicates: int
    loaded_at: datetime
    state: str | None
    explanation: str | None
    is_thinned: bool
    lacks_statistics: bool


@dataclass(frozen=True, slots=True)
class StatusDay:
    """A day in hl.twap_days. `lacks_twaps`: the rows of hl.twaps are outdated."""

    date: date
    rows: int
    state: str
    explanation: str
    lacks_twaps: bool


@dataclass(frozen=True, slots=True)
class CoveredHour:
    """A row of hl.coverage."""

    source: str
    object_date: date
    object_hour: int | None
    state: str
    expected: bool
    why: str
    note: str | None


@dataclass(frozen=True, slots=True)
class LoadedDay:
    """The verdict on a day when it was loaded, and its edges that no object crosses."""

    state: str | None
    edges: list[str]


Days = Mapping[date, LoadedDay]


def read_fills_days(connection: psycopg.Connection) -> list[FillsDayStatus]:
    """Return all days of hl.fills_days for `hl status`."""
    with connection.cursor(row_factory=class_row(FillsDayStatus)) as cursor:
        return cursor.execute(_FILLS_DAYS).fetchall()


def read_status_days(connection: psycopg.Connection) -> list[StatusDay]:
    """Return all days of hl.twap_days for `hl status`."""
    with connection.cursor(row_factory=class_row(StatusDay)) as cursor:
        return cursor.execute(_STATUS_DAYS).fetchall()


def read_failed_objects(connection: psycopg.Connection) -> list[tuple[str, str]]:
    """Return the keys and errors of objects that could not be fetched or loaded."""
    return connection.execute(_FAILED_OBJECTS).fetchall()


def read_stale_objects(connection: psycopg.Connection) -> list[tuple[date, str]]:
    """Return days with the keys of objects that were fetched again after the day was loaded."""
    return connection.execute(_STALE).fetchall()


def read_loaded_days(connection: psycopg.Connection, first: date, last: date) -> set[date]:
    """Return the days of a range (inclusive) in hl.fills_days."""
    return {day for (day,) in connection.execute(_LOADED_DAYS, [first, last])}


def read_finished_days(connection: psycopg.Connection, first: date, last: date, statuses_from: date) -> set[date]:
    """Return the complete days of a range (inclusive), which need no reload unless a bucket has changed. From `statuses_from` on,
    a day must have statuses.
    """
    span = {"first": first, "last": last, "statuses_from": statuses_from}
    return {day for (day,) in connection.execute(_FINISHED_DAYS, span)}


def read_sound_days(connection: psycopg.Connection, first: date, last: date) -> dict[date, datetime]:
    """Return the days of a range (inclusive) whose fills and statuses passed their checks, each with the earlier of its two load
    times.
    """
    return dict(connection.execute(_SOUND_DAYS, [first, last]).fetchall())


def read_thinned_days(connection: psycopg.Connection, day: date | None = None) -> list[date]:
    """Return the days (or only `day`) whose fills are only in the lake, in order."""
    return [date for (date,) in connection.execute(_THINNED_DAYS, [day])]


def measure_fills(connection: psycopg.Connection, days: Iterable[date]) -> int:
    """Return the bytes of the days' tables and indexes in hl.fills."""
    [(size,)] = connection.execute(_SIZE, [[f"hl.fills_{day:%Y%m%d}" for day in days]]).fetchall()
    return int(size)


def read_busiest_coins(connection: psycopg.Connection, limit: int) -> list[tuple[str, int, Decimal | None]]:
    """Return the coins with the most notional (USD) over all days, with their trades and notional."""
    return connection.execute(_BUSIEST, [limit]).fetchall()


def read_hours(connection: psycopg.Connection, first: date, last: date) -> list[CoveredHour]:
    """Return the rows of hl.coverage for a range of days (inclusive), by day and hour."""
    with connection.cursor(row_factory=class_row(CoveredHour)) as cursor:
        return cursor.execute(_HOURS, [first, last]).fetchall()


def read_days_with_holes(connection: psycopg.Connection) -> set[tuple[date, str]]:
    """Return days, each with `fills` or `twap_statuses`, that currently have a hole without acknowledgement."""
    return set(connection.execute(_DAYS_WITH_HOLES).fetchall())


def count_wallets_by_state(connection: psycopg.Connection) -> dict[str, int]:
    """Return the number of wallets by state."""
    return dict(connection.execute(_WALLETS).fetchall())


def read_fills_verdicts(connection: psycopg.Connection, first: date, last: date) -> Days:
    """Return the verdicts on the fills of a range of days (inclusive) when they were loaded."""
    return {day: LoadedDay(state, edges) for day, state, edges in connection.execute(_FILLS_VERDICTS, [first, last])}


def read_status_verdicts(connection: psycopg.Connection, first: date, last: date) -> Days:
    """Return the verdicts on the TWAP statuses, like `read_fills_verdicts`."""
    return {day: LoadedDay(state, edges) for day, state, edges in connection.execute(_STATUS_VERDICTS, [first, last])}
