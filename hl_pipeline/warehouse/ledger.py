"""hl.s3_ingest_log: one row per source object. What a day holds of them is written where the day is loaded."""

from __future__ import annotations

from datetime import date

import psycopg

from hl_pipeline.lake import ObjectMeta

_FETCHED = """
INSERT INTO hl.s3_ingest_log (object_key, source, object_date, object_hour, etag, size_bytes, parser, rows, bad_lines,
                              first_block, last_block, missing_blocks, fetched_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (object_key) DO UPDATE SET
    etag = EXCLUDED.etag, size_bytes = EXCLUDED.size_bytes, parser = EXCLUDED.parser, rows = EXCLUDED.rows,
    bad_lines = EXCLUDED.bad_lines, first_block = EXCLUDED.first_block, last_block = EXCLUDED.last_block,
    missing_blocks = EXCLUDED.missing_blocks, fetched_at = EXCLUDED.fetched_at,
    error = CASE WHEN %s THEN s3_ingest_log.error END, error_at = CASE WHEN %s THEN s3_ingest_log.error_at END
RETURNING object_id
"""

_FAILED = """
INSERT INTO hl.s3_ingest_log (object_key, source, object_date, object_hour, error, error_at)
VALUES (%s, %s, %s, %s, %s, now())
ON CONFLICT (object_key) DO UPDATE SET error = EXCLUDED.error, error_at = EXCLUDED.error_at
"""

# An hour may come under another name (09.lz4, 9.gz) than the one that failed.
_MENDED = """
UPDATE hl.s3_ingest_log SET error = NULL, error_at = NULL
WHERE source = %s AND object_date = %s AND object_hour = %s AND error IS NOT NULL
"""

_ERRORS = """
SELECT object_date, object_hour, error FROM hl.s3_ingest_log
WHERE source = %s AND object_date BETWEEN %s AND %s AND error IS NOT NULL
"""


def record_fetched(connection: psycopg.Connection, meta: ObjectMeta, *, keep_error: bool = False) -> int:
    """Write what the lake knows of an object, and clear its error (unless a later form of it failed); its object_id."""
    row = connection.execute(
        _FETCHED,
        [
            meta.key,
            meta.source,
            meta.object_date,
            meta.hour,
            meta.etag,
            meta.size,
            meta.parser,
            meta.rows,
            meta.bad_lines,
            meta.first_block,
            meta.last_block,
            meta.missing_block_count,
            meta.fetched_at,
            keep_error,
            keep_error,
        ],
    ).fetchone()
    assert row is not None
    if not keep_error:
        connection.execute(_MENDED, [meta.source, meta.object_date, meta.hour])
    return row[0]


def record_error(connection: psycopg.Connection, key: str, source: str, object_date: date, hour: int, error: str) -> None:
    """Write why an object could not be had; what is known of an older form of it stays."""
    connection.execute(_FAILED, [key, source, object_date, hour, error])


def read_errors(connection: psycopg.Connection, source: str, first: date, last: date) -> dict[tuple[date, int], str]:
    """Why objects of these days of the bucket could not be had, by date and hour."""
    rows = connection.execute(_ERRORS, [source, first, last]).fetchall()
    return {(object_date, hour): error for object_date, hour, error in rows}
