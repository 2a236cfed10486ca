"""Load one day of fills into PostgreSQL, so that readers see the old day or the new day and never wait for the load.

The day's table is built separately (COPY FREEZE, indexes, and a CHECK on the range so that ATTACH need not scan) and committed.
A transaction of milliseconds then attaches it and updates the ledger. A killed load leaves a table named
`hl.fills_load_YYYYMMDD`, which the next load of that day drops.

New objects of a loaded day are appended to its table, in one transaction with the ledger.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import polars as pl
import psycopg
from psycopg import sql
from psycopg.abc import Query

from hl_pipeline.domain.completeness import DayVerdict, Hour
from hl_pipeline.domain.deduplicate import Deduplicated
from hl_pipeline.domain.records import ObjectVersion
from hl_pipeline.events import emit
from hl_pipeline.formats.fills import DAY_SCHEMA, FILL_KEY
from hl_pipeline.warehouse.copy_binary import write_binary
from hl_pipeline.warehouse.dirty_days import clear_dirty

_log = logging.getLogger(__name__)

# Also the order of the columns in the COPY.
_COPY_SCHEMA = {name: dtype for name, dtype in DAY_SCHEMA.items() if name not in ("local_time_ns", "line", "object")}
_COPY_SCHEMA["object_id"] = pl.Int32()
COLUMNS = list(_COPY_SCHEMA)
_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
_LOCK_TIMEOUT = "250ms"  # the longest that other readers may wait behind us
_RETRY_SECONDS = 0.5

_CREATE = """
DROP TABLE IF EXISTS {table};
CREATE TABLE {table} (
    LIKE hl.fills INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION,
    CONSTRAINT in_day CHECK (time >= {start} AND time < {end})
)
"""
_COPY = "COPY {table} ({columns}) FROM STDIN (FORMAT binary, FREEZE)"
# The index on time is a BRIN: it takes a few kB and is enough to count one hour of a large day.
_FINISH = """
CREATE INDEX {built_by_wallet} ON {table} (wallet, time);
CREATE INDEX {built_by_twap} ON {table} (twap_id) WHERE twap_id IS NOT NULL;
CREATE INDEX {built_by_time} ON {table} USING brin (time);
ANALYZE {table}
"""
_ATTACH = """
ALTER TABLE {table} RENAME TO {final_name};
ALTER INDEX hl.{built_by_wallet} RENAME TO {by_wallet};
ALTER INDEX hl.{built_by_twap} RENAME TO {by_twap};
ALTER INDEX hl.{built_by_time} RENAME TO {by_time};
ALTER TABLE hl.fills ATTACH PARTITION {final} FOR VALUES FROM ({start}) TO ({end});
ALTER TABLE {final} DROP CONSTRAINT in_day
"""
_DETACH = "ALTER TABLE hl.fills DETACH PARTITION {final}; DROP TABLE {final}"
_APPEND = "COPY {final} ({columns}) FROM STDIN (FORMAT binary)"
_CREATE_KEYS = """
CREATE TEMP TABLE IF NOT EXISTS added_keys (time timestamptz, coin text, wallet text, side text, tid bigint) ON COMMIT DROP;
TRUNCATE added_keys
"""
_COPY_KEYS = "COPY added_keys (time, coin, wallet, side, tid) FROM STDIN (FORMAT binary)"
_DELETE_SUPERSEDED = """
DELETE FROM {final} f USING added_keys k
WHERE (f.time, f.coin, f.wallet, f.side, f.tid) = (k.time, k.coin, k.wallet, k.side, k.tid)
RETURNING f.object_id
"""
_RENEW_DAY = """
UPDATE hl.fills_days d SET
    (rows, duplicates) = (SELECT sum(h.rows), sum(h.duplicates) FROM hl.fills_hours h WHERE h.date = d.date),
    state = %s, explanation = %s, edges = %s, loaded_at = now(),
    candles_at = NULL, daily_stats_at = NULL, user_stats_at = NULL, builder_stats_at = NULL,
    twaps_at = NULL
WHERE date = %s
"""
_TAKE_FROM_OBJECT = "UPDATE hl.fills_day_objects SET rows = rows - %s WHERE date = %s AND object_id = %s"
_FORGET_HOURS = "DELETE FROM hl.fills_hours WHERE date = %s AND hour = ANY(%s)"
_RECORD_HOUR = "INSERT INTO hl.fills_hours (date, hour, rows, duplicates, conflicts) VALUES (%s, %s, %s, %s, %s)"
_FIGURES_OF_DAY = """
SELECT sum(rows)::bigint, sum(duplicates)::bigint, sum(conflicts)::bigint FROM hl.fills_hours WHERE date = %s
"""
_ROWS_OF_SOURCES = """
SELECT source, sum(o.rows)::bigint FROM hl.fills_day_objects o JOIN hl.s3_ingest_log USING (object_id)
WHERE o.date = %s GROUP BY source
"""
_OBJECTS_LOADED = """
SELECT object_key, o.etag, o.parser
FROM hl.fills_day_objects o JOIN hl.fills_days d USING (date) JOIN hl.s3_ingest_log USING (object_id)
WHERE date = %s AND d.rows > 0 AND d.thinned_at IS NULL
"""
_FORGET_DAY = "DELETE FROM hl.fills_days WHERE date = %s"
_RECORD_DAY = """
INSERT INTO hl.fills_days (date, rows, duplicates, state, explanation, edges, thinned_at)
VALUES (%s, %s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)
"""
_RECORD_OBJECT = "INSERT INTO hl.fills_day_objects (date, object_id, etag, parser, rows) VALUES (%s, %s, %s, %s, %s)"
_PLACES_OF_DAY = """
SELECT object_key, source, object_date, CASE source WHEN 'api_fills' THEN object_id %% 256 ELSE object_hour END
FROM hl.fills_day_objects o JOIN hl.s3_ingest_log USING (object_id)
WHERE o.date = %s AND o.rows > 0 ORDER BY object_date, object_hour
"""
_RECORD_LOADED = "UPDATE hl.s3_ingest_log SET loaded_at = now() WHERE object_id = ANY(%s)"
_READERS = """
SELECT DISTINCT pid || ' (' || coalesce(nullif(application_name, ''), 'unnamed') || ')'
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'hl.fills'::regclass AND granted AND pid <> pg_backend_pid()
"""


class DayInUseError(RuntimeError):
    """The new day is built but could not be attached, because a query is reading hl.fills. The message names the query."""


@dataclass(frozen=True, slots=True)
class ObjectOfDay:
    """An object in the lake that may have rows of a day."""

    object_id: int
    etag: str
    parser: int


@dataclass(frozen=True, slots=True)
class LoadedDay:
    """The result of loading a day. `hours_made` is 24 if the day was replaced. `is_thinned`: its rows are only in the lake."""

    rows: int
    duplicates: int
    conflicts: int
    rows_of_source: dict[str, int]
    hours_made: int
    copy_seconds: float
    index_seconds: float
    is_thinned: bool


@dataclass(slots=True)
class _Counts:
    """The counts of a day so far: rows by object key, and rows, duplicates and conflicts by hour."""

    of_object: dict[str, int]
    of_hour: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(self.of_object.values())

    def add_rows(self, fills: pl.DataFrame) -> None:
        for key, count in fills["object"].value_counts().iter_rows():
            self.of_object[key] += count

    def add_hour(self, hour: int, deduplicated: Deduplicated) -> None:
        self.of_hour[hour] = deduplicated.fills.height, deduplicated.duplicates, deduplicated.conflicts


def load_day(
    connection: psycopg.Connection,
    day: date,
    hours: Iterable[tuple[int, Deduplicated]],
    sources: Mapping[str, ObjectOfDay],
    verdict: DayVerdict,
    swap_wait_seconds: float,
    *,
    mark: datetime | None = None,
    thin: bool = False,
) -> LoadedDay:
    """Replace `day` in hl.fills with `hours` (0-23, and the fills of each). If `thin`, hl.fills gets no rows of the day.

    `sources` are by object key. The caller holds lock_fills_day. `mark`: the day's mark in hl.dirty_days before the caller read
    the lake's part of the day (dirty_days.read_mark); it is cleared unless it was set again.

    Raises DayInUseError if queries use hl.fills for longer than `swap_wait_seconds`. The old day is then unchanged.
    """
    names = _names(day)
    counts = _Counts(dict.fromkeys(sources, 0))
    started = time.perf_counter()
    if thin:
        deque(_counted(hours, counts, day), maxlen=0)
        copied = indexed = time.perf_counter()
    else:
        copied, indexed = _build(connection, day, names, hours, sources, counts)

    def swap() -> None:
        _detach(connection, day, names)
        connection.execute(_text(_ATTACH if counts.rows and not thin else "DROP TABLE IF EXISTS {table}", names))
        _record(connection, day, counts, sources, verdict, thin=thin)
        if mark is not None:
            clear_dirty(connection, day, mark)
        emit(_log, "day_attaching", day=day, rows=counts.rows)

    try:
        _retry_while_in_use(
            connection, day, swap, swap_wait_seconds, "The lake has the new day, but hl.fills still has the old one"
        )
    except DayInUseError:
        connection.execute(_text("DROP TABLE IF EXISTS {table}", names))
        raise
    return _describe(connection, day, 24, copied - started, indexed - copied, thin=thin)


def append_hours(
    connection: psycopg.Connection,
    day: date,
    hours: Iterable[tuple[int, Deduplicated]],
    sources: Mapping[str, ObjectOfDay],
    new: Collection[str],
    verdict: DayVerdict,
) -> LoadedDay:
    """Append the fills of the `new` keys of `sources` to hl.fills, in one transaction that no reader waits for.

    `hours` have the fills of all objects of the day, deduplicated. The other sources are the result of `read_loaded`. The caller
    holds lock_fills_day.
    """
    names = _names(day)
    counts = _Counts(dict.fromkeys(sources, 0))
    ids = {source.object_id: key for key, source in sources.items()}
    started = time.perf_counter()
    with connection.transaction():
        for hour, deduplicated in hours:
            added = deduplicated.fills.filter(pl.col("object").is_in(new))
            counts.add_hour(hour, deduplicated)
            if deduplicated.duplicates:
                for object_id in _delete_superseded(connection, names, added):
                    counts.of_object[ids[object_id]] -= 1
            _copy(connection, _text(_APPEND, {**names, "columns": _COLUMNS}), [added], sources)
            counts.add_rows(added)
            emit(_log, "hour_copied", day=day, rows=counts.rows)
        connection.execute(_FORGET_HOURS, [day, list(counts.of_hour)])
        with connection.cursor() as cursor:
            taken = [(-counts.of_object[key], day, source.object_id) for key, source in sources.items() if key not in new]
            cursor.executemany(_TAKE_FROM_OBJECT, taken)
        _record_parts(connection, day, counts, {key: source for key, source in sources.items() if key in new})
        connection.execute(_RENEW_DAY, [*_judged(verdict), day])
        emit(_log, "hours_appending", day=day, rows=counts.rows)
    copied = time.perf_counter()
    # Without this, a lookup by any time would read all new pages.
    connection.execute("SELECT brin_summarize_new_values(to_regclass(%s))", [f"hl.fills_{day:%Y%m%d}_time"])
    return _describe(connection, day, len(counts.of_hour), copied - started, time.perf_counter() - copied, thin=False)


def read_loaded(connection: psycopg.Connection, day: date) -> set[ObjectVersion]:
    """Return the objects from which the rows of `day` in hl.fills were loaded. Empty if hl.fills has no rows of the day."""
    return set(connection.execute(_OBJECTS_LOADED, [day]).fetchall())


def read_places(connection: psycopg.Connection, day: date) -> list[tuple[str, Hour]]:
    """Return key and place of the objects from which `day` was loaded, also if it is thinned.

    The place of a shard of the info API has the shard's number instead of the hour.
    """
    return [(key, tuple(place)) for key, *place in connection.execute(_PLACES_OF_DAY, [day])]


def thin_day(connection: psycopg.Connection, day: date, swap_wait_seconds: float) -> None:
    """Remove a day's rows from hl.fills. All other records of the day stay. The caller holds lock_fills_day.

    Raises DayInUseError if queries use hl.fills for longer than `swap_wait_seconds`.
    """

    def drop() -> None:
        _detach(connection, day, _names(day))
        # A killed load may have left this table.
        connection.execute(_text("DROP TABLE IF EXISTS {table}", _names(day)))
        connection.execute("UPDATE hl.fills_days SET thinned_at = now() WHERE date = %s", [day])

    _retry_while_in_use(connection, day, drop, swap_wait_seconds, "The day is still in hl.fills")


def _build(
    connection: psycopg.Connection,
    day: date,
    names: Mapping[str, sql.Composable],
    hours: Iterable[tuple[int, Deduplicated]],
    sources: Mapping[str, ObjectOfDay],
    counts: _Counts,
) -> tuple[float, float]:
    """Build the day's table without attaching it. Returns the times when its rows and its indexes were complete."""
    with connection.transaction():
        connection.execute(_text(_CREATE, names))
    with connection.transaction():
        connection.execute(_text("TRUNCATE {table}", names))
        taken = _copy(connection, _text(_COPY, {**names, "columns": _COLUMNS}), _counted(hours, counts, day), sources)
        if taken not in (counts.rows, -1):
            raise RuntimeError(f"COPY stored {taken} of {counts.rows} rows: the day was left unchanged")
        copied = time.perf_counter()
        emit(_log, "indexes_building", day=day, rows=counts.rows)
        connection.execute(_text(_FINISH, names))
    emit(_log, "day_built", day=day, rows=counts.rows)
    return copied, time.perf_counter()


def _copy(
    connection: psycopg.Connection, statement: Query, fills: Iterable[pl.DataFrame], sources: Mapping[str, ObjectOfDay]
) -> int:
    """Copy frames of fills. Returns the number of rows that COPY reports."""
    ids = {key: source.object_id for key, source in sources.items()}
    object_id = pl.col("object").replace_strict(ids, return_dtype=pl.Int32).alias("object_id")
    frames = (frame.with_columns(object_id).select(COLUMNS) for frame in fills)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        write_binary(copy, _COPY_SCHEMA, frames)
    return cursor.rowcount


def _counted(hours: Iterable[tuple[int, Deduplicated]], counts: _Counts, day: date) -> Generator[pl.DataFrame]:
    """Yield the fills of each hour, and count them after the caller has used them."""
    for hour, deduplicated in hours:
        yield deduplicated.fills
        counts.add_rows(deduplicated.fills)
        if deduplicated.fills.height:
            counts.add_hour(hour, deduplicated)
            emit(_log, "hour_copied", day=day, rows=counts.rows)


def _delete_superseded(connection: psycopg.Connection, names: Mapping[str, sql.Composable], added: pl.DataFrame) -> list[int]:
    """Delete the day's fills that `added` replaces. Returns the object_id of each deleted row."""
    connection.execute(_CREATE_KEYS)
    keys = added.select(FILL_KEY)
    with connection.cursor() as cursor:
        with cursor.copy(_COPY_KEYS) as copy:
            write_binary(copy, keys.schema, [keys])
        cursor.execute("ANALYZE added_keys")
        return [row[0] for row in cursor.execute(_text(_DELETE_SUPERSEDED, names)).fetchall()]


def _detach(connection: psycopg.Connection, day: date, names: Mapping[str, sql.Composable]) -> None:
    old = connection.execute("SELECT to_regclass(%s)", [f"hl.fills_{day:%Y%m%d}"]).fetchone()
    if old != (None,):
        connection.execute(_text(_DETACH, names))


def _record(
    connection: psycopg.Connection,
    day: date,
    counts: _Counts,
    sources: Mapping[str, ObjectOfDay],
    verdict: DayVerdict,
    *,
    thin: bool,
) -> None:
    connection.execute(_FORGET_DAY, [day])
    duplicates = sum(duplicates for _, duplicates, _ in counts.of_hour.values())
    connection.execute(_RECORD_DAY, [day, counts.rows, duplicates, *_judged(verdict), thin])
    _record_parts(connection, day, counts, sources)


def _judged(verdict: DayVerdict) -> tuple[str, str, list[str]]:
    return verdict.state, verdict.explain(), [edge.finding for edge in verdict.edges]


def _record_parts(connection: psycopg.Connection, day: date, counts: _Counts, sources: Mapping[str, ObjectOfDay]) -> None:
    given = [(day, source.object_id, source.etag, source.parser, counts.of_object[key]) for key, source in sources.items()]
    with connection.cursor() as cursor:
        cursor.executemany(_RECORD_OBJECT, given)
        cursor.executemany(_RECORD_HOUR, [(day, hour, *figures) for hour, figures in counts.of_hour.items() if figures[0]])
    connection.execute(_RECORD_LOADED, [[source.object_id for source in sources.values()]])


def _describe(
    connection: psycopg.Connection, day: date, hours_made: int, copy_seconds: float, index_seconds: float, *, thin: bool
) -> LoadedDay:
    rows, duplicates, conflicts = connection.execute(_FIGURES_OF_DAY, [day]).fetchall()[0]
    emit(_log, "day_loaded", day=day, rows=rows or 0, duplicates=duplicates or 0)
    of_source = dict(connection.execute(_ROWS_OF_SOURCES, [day]).fetchall())
    figures = (rows or 0, duplicates or 0, conflicts or 0)
    return LoadedDay(*figures, of_source, hours_made, copy_seconds, index_seconds, is_thinned=thin)


def _retry_while_in_use(
    connection: psycopg.Connection, day: date, swap: Callable[[], None], wait_seconds: float, left: str
) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(_LOCK_TIMEOUT))
                swap()
            return
        except psycopg.errors.LockNotAvailable:
            readers = [row[0] for row in connection.execute(_READERS)]
            emit(_log, "day_in_use", day=day, readers=readers)
        if time.monotonic() > deadline:
            raise DayInUseError(
                f"{day}: hl.fills was in use for {wait_seconds:.0f} s by {', '.join(readers) or 'others'}. {left}. End those "
                "queries (SELECT pg_cancel_backend(pid)) and run again"
            )
        time.sleep(_RETRY_SECONDS)


def _names(day: date) -> dict[str, sql.Composable]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    final, built = f"fills_{day:%Y%m%d}", f"fills_load_{day:%Y%m%d}"
    return {
        "table": sql.Identifier("hl", built),
        "built_by_wallet": sql.Identifier(f"{built}_wallet_time"),
        "built_by_twap": sql.Identifier(f"{built}_twap_id"),
        "built_by_time": sql.Identifier(f"{built}_time"),
        "final": sql.Identifier("hl", final),
        "final_name": sql.Identifier(final),
        "by_wallet": sql.Identifier(f"{final}_wallet_time"),
        "by_twap": sql.Identifier(f"{final}_twap_id"),
        "by_time": sql.Identifier(f"{final}_time"),
        "start": sql.Literal(start.isoformat()),
        "end": sql.Literal((start + timedelta(days=1)).isoformat()),
    }


def _text(query: str, names: Mapping[str, sql.Composable]) -> Query:
    return sql.SQL(query).format(**names)  # type: ignore[arg-type]
