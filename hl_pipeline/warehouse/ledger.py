"""hl.s3_ingest_log: one row per source object. The load of a day records which objects the day has rows of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any, overload

import psycopg

from hl_pipeline.domain.completeness import first_ns, last_ns
from hl_pipeline.domain.datasets import API_TWAP_HISTORY, Dataset
from hl_pipeline.domain.due_days import Loaded, Taken
from hl_pipeline.domain.object_keys import FIRST_SHARD_ID, Place, object_id_of, shard_object_id
from hl_pipeline.domain.records import ApiShard, ObjectMeta, StatusObject, StoredObject

# Values that a dataset does not have (size of a shard, blocks of statuses) are always NULL.
_RECORD = """
INSERT INTO hl.s3_ingest_log (object_id, object_key, source, object_date, object_hour, etag, size_bytes, parser, rows, bad_lines,
                              first_block, last_block, missing_blocks, first_time, last_time, fetched_at)
VALUES (%(object_id)s, %(key)s, %(dataset)s, %(object_date)s, %(hour)s, %(etag)s, %(size)s, %(parser)s, %(rows)s, %(bad_lines)s,
        %(first_block)s, %(last_block)s, %(missing_blocks)s, %(first_time)s, %(last_time)s, %(fetched_at)s)
ON CONFLICT ({identity}) DO UPDATE SET
    object_key = EXCLUDED.object_key, etag = EXCLUDED.etag, size_bytes = EXCLUDED.size_bytes, parser = EXCLUDED.parser,
    rows = EXCLUDED.rows, bad_lines = EXCLUDED.bad_lines, first_block = EXCLUDED.first_block, last_block = EXCLUDED.last_block,
    missing_blocks = EXCLUDED.missing_blocks, first_time = EXCLUDED.first_time, last_time = EXCLUDED.last_time,
    fetched_at = EXCLUDED.fetched_at,
    error = CASE WHEN %(keep_error)s THEN s3_ingest_log.error END,
    error_at = CASE WHEN %(keep_error)s THEN s3_ingest_log.error_at END,
    reset_of = CASE WHEN s3_ingest_log.reset_of = EXCLUDED.fetched_at THEN s3_ingest_log.reset_of END
"""

_FAILED = """
INSERT INTO hl.s3_ingest_log (object_id, object_key, source, object_date, object_hour, error, error_at)
VALUES (%s, %s, %s, %s, %s, %s, now())
ON CONFLICT ({identity}) DO UPDATE SET error = EXCLUDED.error, error_at = EXCLUDED.error_at
"""

_BY_NUMBER, _BY_KEY = "object_id", "source, object_key"
"""The identity of an object: its object_id or, if its dataset has none, its key. The key of an hour's object can change."""

_ERRORS = """
SELECT source, object_date, object_hour, object_key, error FROM hl.s3_ingest_log
WHERE source = ANY(%s) AND object_date BETWEEN %s AND %s AND error IS NOT NULL
"""

_STATUSES_ELSEWHERE = """
SELECT DISTINCT object_date FROM hl.s3_ingest_log
WHERE source = 'twap_statuses' AND fetched_at IS NOT NULL AND object_date NOT BETWEEN %(day)s::date - 1 AND %(day)s::date + 1
  AND first_time < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC' AND last_time >= %(day)s::date::timestamp AT TIME ZONE 'UTC'
"""

_RESET = "UPDATE hl.s3_ingest_log SET reset_of = fetched_at WHERE source = %s AND object_key = %s"
_READ_RESET = "SELECT source, object_key FROM hl.s3_ingest_log WHERE reset_of IS NOT NULL"
_IS_RESET = "SELECT FROM hl.s3_ingest_log WHERE source = %s AND object_key = %s AND reset_of = %s"
_UNDO_RESET = "UPDATE hl.s3_ingest_log SET reset_of = NULL WHERE source = %s AND object_key = %s AND reset_of IS NOT NULL"

_DAYS_BEGUN = """
SELECT date FROM hl.fills_days UNION SELECT date FROM hl.twap_days
UNION SELECT object_date FROM hl.s3_ingest_log WHERE object_id IS NOT NULL AND object_hour > 0
"""

# A day without source has nothing to fetch. For other days, an own object shows that the day was requested; an object of hour 0
# alone was fetched for the previous day.
_OF_API_ALONE = """
SELECT date FROM hl.fills_days d
WHERE state <> 'no source'
  AND NOT EXISTS (SELECT FROM hl.s3_ingest_log l WHERE l.object_date = d.date AND l.object_id IS NOT NULL AND l.object_hour > 0)
  AND (EXISTS (SELECT FROM hl.fills_day_objects o WHERE o.date = d.date AND o.object_id >= %s)
       OR EXISTS (SELECT FROM hl.twap_statuses s WHERE s.date = d.date AND s.object LIKE %s))
"""

_TAKEN = """
SELECT object_key, etag, first_time, last_time FROM hl.s3_ingest_log
WHERE source = ANY(%s) AND object_date BETWEEN %s AND %s
"""

_FILLS_OF = """
SELECT date, object_key, o.etag
FROM hl.fills_days d LEFT JOIN hl.fills_day_objects o USING (date)
    LEFT JOIN hl.s3_ingest_log l ON l.object_id = o.object_id AND l.source <> 'api_fills'
WHERE date BETWEEN %s AND %s
"""

_STATUSES_OF = """
SELECT date, object_key, etag FROM hl.twap_days LEFT JOIN hl.twap_day_objects USING (date) WHERE date BETWEEN %s AND %s
"""

_UNFINISHED = """
SELECT date FROM hl.fills_days
WHERE num_nulls(candles_at, daily_stats_at, user_stats_at, builder_stats_at, twaps_at) > 0 ORDER BY date
"""

_NEWEST_HOUR = """
SELECT max((object_date + (object_hour + 1) * interval '1 hour') AT TIME ZONE 'UTC') FROM hl.s3_ingest_log
WHERE source = 'node_fills_by_block' AND loaded_at IS NOT NULL
"""

_FIRST_FETCH = "SELECT min(fetched_at) FROM hl.s3_ingest_log WHERE source = 'node_fills_by_block'"

# If keys sort by day, this is the last key of the days before.
_LAST_STATUSES_KEY = """
SELECT max(object_key COLLATE "C") FILTER (WHERE object_date < %(day)s),
       min(object_key COLLATE "C") FILTER (WHERE object_date >= %(day)s)
FROM hl.s3_ingest_log WHERE source = 'twap_statuses'
"""


@overload
def record_fetched(connection: psycopg.Connection, meta: ObjectMeta | ApiShard, *, keep_error: bool = False) -> int: ...
@overload
def record_fetched(connection: psycopg.Connection, meta: StoredObject | ApiShard, *, keep_error: bool = False) -> int | None: ...
def record_fetched(connection: psycopg.Connection, meta: StoredObject | ApiShard, *, keep_error: bool = False) -> int | None:
    """Write an object's metadata and clear its error, unless a later version failed. Returns its object_id."""
    known = _known_of(meta)
    identity = _BY_KEY if known["object_id"] is None else _BY_NUMBER
    connection.execute(_RECORD.replace("{identity}", identity), {**known, "keep_error": keep_error})
    return known["object_id"]


def _known_of(meta: StoredObject | ApiShard) -> dict[str, Any]:
    """Return the values of an object in the ledger."""
    known = dict.fromkeys(("hour", "size", "bad_lines", "first_block", "last_block", "missing_blocks"))
    known |= {"key": meta.key, "dataset": meta.dataset, "etag": meta.etag, "parser": meta.parser, "rows": meta.rows}
    known |= {"fetched_at": meta.fetched_at}
    if isinstance(meta, ApiShard):
        span = meta.first_time_ms * 1_000_000, meta.last_time_ms * 1_000_000
        known |= {"object_id": shard_object_id(date.fromisoformat(meta.date), meta.shard), "object_date": meta.date}
    else:
        known |= {"object_id": object_id_of(meta.dataset, date.fromisoformat(meta.object_date), meta.hour)}
        known |= {"object_date": meta.object_date, "hour": meta.hour, "size": meta.size, "bad_lines": meta.bad_lines}
        span = (meta.first_time_ns, meta.last_time_ns) if isinstance(meta, StatusObject) else (first_ns(meta), last_ns(meta))
    if isinstance(meta, ObjectMeta):
        blocks = {"first_block": meta.first_block, "last_block": meta.last_block, "missing_blocks": meta.missing_block_count}
        known |= blocks
    return known | {"first_time": _moment(span[0]), "last_time": _moment(span[1])}


def record_error(connection: psycopg.Connection, place: Place, error: str) -> None:
    """Record the error of an object. The metadata of an older version stays."""
    object_id = object_id_of(place.dataset, place.object_date, place.hour)
    identity = _BY_KEY if object_id is None else _BY_NUMBER
    row = [object_id, place.key, place.dataset, place.object_date, place.hour, error]
    connection.execute(_FAILED.replace("{identity}", identity), row)


def read_errors(connection: psycopg.Connection, datasets: Iterable[Dataset], first: date, last: date) -> dict[Place, str]:
    """Return the errors of objects of these datasets with a day from `first` to `last` in their key."""
    rows = connection.execute(_ERRORS, [[dataset.name for dataset in datasets], first, last])
    return {Place(name, object_date, hour, key): error for name, object_date, hour, key, error in rows}


def read_taken(connection: psycopg.Connection, datasets: Iterable[Dataset], first: date, last: date) -> dict[str, Taken]:
    """Return the objects of these datasets with a day from `first` to `last` in their key, by key."""
    rows = connection.execute(_TAKEN, [[dataset.name for dataset in datasets], first, last])
    return {key: Taken(*known) for key, *known in rows}


def read_loaded_fills(connection: psycopg.Connection, first: date, last: date) -> Loaded:
    """Return the objects, with their ETags, that hl.fills has for these days."""
    return _by_day(connection.execute(_FILLS_OF, [first, last]))


def read_loaded_statuses(connection: psycopg.Connection, first: date, last: date) -> Loaded:
    """Return the objects, with their ETags, that hl.twap_statuses has for these days."""
    return _by_day(connection.execute(_STATUSES_OF, [first, last]))


def _by_day(rows: Iterable[tuple[date, str | None, str | None]]) -> Loaded:
    days: dict[date, dict[str, str]] = {}
    for day, key, etag in rows:
        objects = days.setdefault(day, {})
        if key is not None and etag is not None:
            objects[key] = etag
    return days


def read_unfinished_days(connection: psycopg.Connection) -> list[date]:
    """Return the days whose candles, statistics or TWAPs are older than the loaded fills."""
    return [row[0] for row in connection.execute(_UNFINISHED)]


def read_newest_hour(connection: psycopg.Connection) -> datetime | None:
    """Return the end of the newest hour whose object is in hl.fills."""
    row = connection.execute(_NEWEST_HOUR).fetchone()
    return row[0] if row else None


def read_first_fetch(connection: psycopg.Connection) -> datetime | None:
    """Return when the first object of node_fills_by_block in the ledger was fetched."""
    row = connection.execute(_FIRST_FETCH).fetchone()
    return row[0] if row else None


def last_statuses_key_before(connection: psycopg.Connection, day: date) -> str:
    """Return the last key before the objects of `day`, or an empty string if keys do not sort by day."""
    before, since = connection.execute(_LAST_STATUSES_KEY, {"day": day}).fetchone() or (None, None)
    return before if before is not None and (since is None or since > before) else ""


def reset_object(connection: psycopg.Connection, meta: StoredObject) -> None:
    """Mark the current version of an object in the lake to be fetched again. It stays until the new version is fetched."""
    record_fetched(connection, meta, keep_error=True)
    connection.execute(_RESET, [meta.dataset, meta.key])


def undo_reset(connection: psycopg.Connection, meta: StoredObject) -> bool:
    """Remove the mark of `reset_object`. Returns whether there was one."""
    return connection.execute(_UNDO_RESET, [meta.dataset, meta.key]).rowcount > 0


def is_reset(connection: psycopg.Connection, meta: StoredObject) -> bool:
    """Return whether this version of an object is marked to be fetched again."""
    return connection.execute(_IS_RESET, [meta.dataset, meta.key, meta.fetched_at]).fetchone() is not None


def read_reset(connection: psycopg.Connection) -> set[tuple[str, str]]:
    """Return dataset and key of all objects marked to be fetched again."""
    return {(source, key) for source, key in connection.execute(_READ_RESET)}


def days_begun(connection: psycopg.Connection) -> set[date]:
    """Return the days that are loaded or have fetched objects. An object of hour 0 alone was fetched for the previous day."""
    return {row[0] for row in connection.execute(_DAYS_BEGUN)} - days_of_api_alone(connection)


def days_of_api_alone(connection: psycopg.Connection) -> set[date]:
    """Return the days loaded only from the info API whose objects in a bucket were never requested. Fetching them automatically
    would cost money that nobody agreed to spend.
    """
    return {row[0] for row in connection.execute(_OF_API_ALONE, [FIRST_SHARD_ID, f"{API_TWAP_HISTORY}/%"])}


def days_of_stray_statuses(connection: psycopg.Connection, day: date) -> list[date]:
    """Return the days in the keys of objects that may have events of `day` although their own day is not near it."""
    return [row[0] for row in connection.execute(_STATUSES_ELSEWHERE, {"day": day})]


def _moment(time_ns: int | None) -> datetime | None:
    return None if time_ns is None else datetime.fromtimestamp(time_ns // 10**9, UTC)
