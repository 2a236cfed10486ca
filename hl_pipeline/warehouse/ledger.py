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
    missing_blocks = EXCLUDED.missing_blocks, fetched_at = EXCLUDED.fetched_at, error = NULL, error_at = NULL
RETURNING object_id
"""

_FAILED = """
INSERT INTO hl.s3_ingest_log (object_key, source, object_date, object_hour, error, error_at)
VALUES (%s, %s, %s, %s, %s, now())
ON CONFLICT (object_key) DO UPDATE SET error = EXCLUDED.error, error_at = EXCLUDED.error_at
"""


def record_fetched(connection: psycopg.Connection, meta: ObjectMeta) -> int:
    """Write what the lake knows of an object, and clear its error; its object_id. The same again changes nothing."""
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
        ],
    ).fetchone()
    assert row is not None
    return row[0]


def record_error(
    connection: psycopg.Connection, key: str, source: str, object_date: date, hour: int, error: str
) -> None:
    """Write why an object could not be had; what is known of an older form of it stays."""
    connection.execute(_FAILED, [key, source, object_date, hour, error])
