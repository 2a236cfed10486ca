"""A day of a derived table into PostgreSQL: what was there of the day gives way to what is new, in one transaction."""

from __future__ import annotations

from datetime import date

import polars as pl
import psycopg
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import sql

_BATCH_ROWS = 20_000  # what pgpq encodes at a time: 100,000 is slower


def replace_day(connection: psycopg.Connection, table: str, day: date, rows: pl.DataFrame) -> None:
    """Make `rows` all that hl.`table` has of `day`; the columns are those of the table (all but `date` and what is computed).

    Two at once: the later one waits, and its rows are those that stay.
    """
    name = sql.Identifier("hl", table)
    dated = rows.with_columns(date=pl.lit(day, pl.Date))
    arrow = dated.to_arrow(compat_level=pl.CompatLevel.oldest())
    columns = sql.SQL(", ").join(map(sql.Identifier, dated.columns))
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s), %s)", [f"hl.{table}", day.toordinal()])
        cursor.execute(sql.SQL("DELETE FROM {} WHERE date = %s").format(name), [day])
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(name, columns)) as copy:
            write_binary(copy, arrow)


def write_binary(copy: psycopg.Copy, arrow: pa.Table) -> None:
    """All of COPY BINARY for one Arrow table."""
    encoder = ArrowToPostgresBinaryEncoder(arrow.schema)
    copy.write(encoder.write_header())
    for batch in arrow.to_batches(max_chunksize=_BATCH_ROWS):
        copy.write(encoder.write_batch(batch))
    copy.write(encoder.finish())
