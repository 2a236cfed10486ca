"""Loads TWAPs into PostgreSQL: a day's statuses, and the rows of hl.twaps that depend on a day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg
from psycopg import sql

from hl_pipeline.domain.deduplicate_statuses import DeduplicatedStatuses
from hl_pipeline.domain.errors import LakeLacksError
from hl_pipeline.domain.status_completeness import StatusVerdict
from hl_pipeline.formats.fills import SLICE_COLUMNS
from hl_pipeline.warehouse.copy_binary import write_binary
from hl_pipeline.warehouse.locks import lock_twaps_in_transaction

_STATUS_COLUMNS = (
    *("twap_id", "time", "status", "error", "wallet", "coin", "side", "size_requested", "size_executed", "notional_executed"),
    *("duration_minutes", "reduce_only", "randomize", "started_at", "object", "time_ns", "raw"),
)
_CREATE_EVENTS = """
CREATE TEMP TABLE events (LIKE hl.twap_statuses) ON COMMIT DROP;
ALTER TABLE events ADD COLUMN raw text, ALTER COLUMN raw_payload DROP NOT NULL, ALTER COLUMN inserted_at DROP NOT NULL,
    ALTER COLUMN date DROP NOT NULL, ALTER COLUMN place DROP NOT NULL;
"""
_COPY_EVENTS = sql.SQL("COPY events ({}) FROM STDIN").format(sql.SQL(", ").join(map(sql.Identifier, _STATUS_COLUMNS)))
# JSON that jsonb rejects (a NUL, half a surrogate pair, a number out of range) is stored as a string.
_INSERT_EVENTS = """
INSERT INTO hl.twap_statuses (twap_id, time, status, error, wallet, coin, side, size_requested, size_executed, notional_executed,
                              duration_minutes, reduce_only, randomize, started_at, object, raw_payload, time_ns, date)
SELECT twap_id, time, status, error, wallet, coin, side, size_requested, size_executed, notional_executed,
       duration_minutes, reduce_only, randomize, started_at, object,
       CASE WHEN pg_input_is_valid(raw, 'jsonb') THEN raw::jsonb ELSE jsonb_build_object('_raw', raw) END, time_ns, %s
FROM events
"""
_RECORD_DAY = """
INSERT INTO hl.twap_days (date, state, explanation, objects, rows, duplicates, conflicts) VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (date) DO UPDATE SET state = EXCLUDED.state, explanation = EXCLUDED.explanation, objects = EXCLUDED.objects,
    rows = EXCLUDED.rows, duplicates = EXCLUDED.duplicates, conflicts = EXCLUDED.conflicts, loaded_at = now(), twaps_at = NULL
"""
_RECORD_OBJECTS = """
WITH gone AS (DELETE FROM hl.twap_day_objects WHERE date = %(day)s AND object_key <> ALL (%(keys)s::text[]))
INSERT INTO hl.twap_day_objects SELECT %(day)s, * FROM unnest(%(keys)s::text[], %(etags)s::text[])
ON CONFLICT (date, object_key) DO UPDATE SET etag = EXCLUDED.etag
"""
_RECORD_LOADED = """
UPDATE hl.s3_ingest_log SET loaded_at = now() WHERE source = 'twap_statuses' AND object_key = ANY(%s)
"""
_CREATE_TOUCHED = (
    "CREATE TEMP TABLE touched_twaps (twap_id bigint PRIMARY KEY) ON COMMIT DROP",
    "CREATE TEMP TABLE twap_slices (twap_id bigint, time timestamptz, wallet text, coin text, side text, px numeric, sz numeric, "
    "oid bigint, crossed boolean, fee numeric, fee_token text, closed_pnl numeric) ON COMMIT DROP",
)
_FIND_TOUCHED = """
INSERT INTO touched_twaps
SELECT twap_id FROM hl.twap_statuses WHERE date = %(day)s
UNION SELECT twap_id FROM hl.twap_slice_days WHERE date = %(day)s
UNION SELECT twap_id FROM hl.twaps WHERE seen_from < %(end)s AND seen_to >= %(start)s
"""
_DAYS_OF_TOUCHED = "SELECT DISTINCT date FROM hl.twap_slice_days JOIN touched_twaps USING (twap_id) ORDER BY date"
_COPY_SLICES = sql.SQL("COPY twap_slices ({}) FROM STDIN (FORMAT binary)").format(
    sql.SQL(", ").join(map(sql.Identifier, SLICE_COLUMNS))
)
_MAKE_TWAPS = (Path(__file__).parent / "twaps.sql").read_bytes()

_VERDICTS = """
SELECT verdict, count(*) FROM hl.twaps WHERE ended_at >= %(start)s AND ended_at < %(end)s GROUP BY verdict ORDER BY verdict
"""
_COUNTS = """
SELECT count(*) FILTER (WHERE begins_at >= %(start)s AND begins_at < %(end)s),
       count(*) FILTER (WHERE statuses = 0 AND last_slice_at >= %(start)s AND first_slice_at < %(end)s
                        AND NOT EXISTS (SELECT FROM hl.twap_days WHERE date = %(day)s AND state = 'no source'))
FROM hl.twaps WHERE seen_from < %(end)s AND seen_to >= %(start)s
"""


@dataclass(frozen=True, slots=True)
class TwapCounts:
    """Counts of a day: recomputed rows of hl.twaps, TWAPs that begin on it, TWAPs with slices on it but no status although a
    source of statuses exists, and the verdicts on TWAPs that ended on it.
    """

    made: int
    begun: int
    without_status: int
    verdicts: dict[str, int]


def refuse_lost_status_objects(connection: psycopg.Connection, day: date, keys: set[str], lake: str) -> None:
    """Raise LakeLacksError if an object with rows of `day` in hl.twap_statuses is not in `keys`, the keys in the lake."""
    rows = connection.execute("SELECT DISTINCT object FROM hl.twap_statuses WHERE date = %s", [day]).fetchall()
    if lost := sorted({key for (key,) in rows} - keys):
        raise LakeLacksError(
            f"{day}: {len(lost)} objects with rows in hl.twap_statuses are missing from the lake {lake} ({lost[0]}, ...). "
            f"Check that HL_LAKE_URL is right and mounted. "
            f"To load the day without them: DELETE FROM hl.twap_statuses WHERE date = '{day}', then run again"
        )


def load_statuses(
    connection: psycopg.Connection,
    day: date,
    deduplicated: DeduplicatedStatuses,
    verdict: StatusVerdict,
    made_of: Mapping[str, str],
) -> None:
    """Replace `day` in hl.twap_statuses by these events, in one transaction with the row of the day. `made_of`: the ETags of its
    objects by key.
    """
    objects = deduplicated.statuses["object"].unique().to_list()
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_CREATE_EVENTS)
        with cursor.copy(_COPY_EVENTS) as copy:
            for row in deduplicated.statuses.iter_rows(named=True):
                timed = row | {"time": _moment(row["time_ns"])}
                copy.write_row([timed[name] for name in _STATUS_COLUMNS])
        cursor.execute("DELETE FROM hl.twap_statuses WHERE date = %s", [day])
        cursor.execute(_INSERT_EVENTS, [day])
        figures = [len(objects), deduplicated.statuses.height, deduplicated.duplicates, deduplicated.conflicts]
        cursor.execute(_RECORD_DAY, [day, verdict.state, verdict.explanation, *figures])
        cursor.execute(_RECORD_OBJECTS, {"day": day, "keys": [*made_of], "etags": [*made_of.values()]})
        cursor.execute(_RECORD_LOADED, [objects])
    # Autovacuum would do this only a minute later; until then, the planner uses old statistics.
    connection.execute("ANALYZE hl.twap_statuses")


def _moment(time_ns: int) -> datetime:
    """Convert to microseconds, rounded down."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC) + timedelta(microseconds=time_ns % 10**9 // 1000)


def make_twaps(
    connection: psycopg.Connection,
    day: date,
    take_slices: Callable[[], pl.Series],
    read_slices: Callable[[date, pl.Series], pl.DataFrame],
) -> TwapCounts:
    """Recompute every row of hl.twaps that depends on `day`, in one transaction, one day at a time. Then the result depends
    neither on the order of days nor on concurrency.

    `take_slices` returns the IDs of TWAPs with slices on the day, `read_slices` the slices (SLICE_COLUMNS) of TWAPs on a day.
    """
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    span = {"day": day, "start": start, "end": start + timedelta(days=1)}
    with connection.transaction(), connection.cursor() as cursor:
        lock_twaps_in_transaction(cursor)
        ids = take_slices()
        cursor.execute("DELETE FROM hl.twap_slice_days WHERE date = %s", [day])
        cursor.execute(
            "INSERT INTO hl.twap_slice_days (twap_id, date) SELECT unnest(%s::bigint[]), %s", [ids.unique().to_list(), day]
        )
        for statement in _CREATE_TOUCHED:
            cursor.execute(statement)
        cursor.execute(_FIND_TOUCHED, span)
        touched = pl.Series([row[0] for row in cursor.execute("SELECT twap_id FROM touched_twaps")], dtype=pl.Int64)
        days = [row[0] for row in cursor.execute(_DAYS_OF_TOUCHED).fetchall()]
        _copy_slices(cursor, (read_slices(other, touched) for other in days))
        cursor.execute("ANALYZE touched_twaps, twap_slices")
        cursor.execute("DELETE FROM hl.twaps USING touched_twaps WHERE twaps.twap_id = touched_twaps.twap_id")
        made = cursor.execute(_MAKE_TWAPS).rowcount
        for table in ("fills_days", "twap_days"):
            cursor.execute(sql.SQL("UPDATE hl.{} SET twaps_at = now() WHERE date = %s").format(sql.Identifier(table)), [day])
        verdicts = dict(cursor.execute(_VERDICTS, span).fetchall())
        begun, without_status = cursor.execute(_COUNTS, span).fetchall()[0]
    return TwapCounts(made, begun, without_status, verdicts)


def _copy_slices(cursor: psycopg.Cursor, frames: Iterable[pl.DataFrame]) -> None:
    for frame in frames:
        slices = frame.select(SLICE_COLUMNS)
        with cursor.copy(_COPY_SLICES) as copy:
            write_binary(copy, slices.schema, [slices])
