"""A day of a derived table into PostgreSQL: what was there of the day gives way to what is new, in one transaction."""

from __future__ import annotations

from datetime import date

import polars as pl
import psycopg
from psycopg import sql

from hl_pipeline.warehouse.copy_binary import write_binary


def replace_day(connection: psycopg.Connection, table: str, day: date, rows: pl.DataFrame) -> None:
    """Make `rows` all that hl.`table` has of `day`, and note when; the columns are those of the table, all but
    `date` and what is computed.

    Two at once: the later one waits, and its rows are those that stay.
    """
    name = sql.Identifier("hl", table)
    dated = rows.with_columns(date=pl.lit(day, pl.Date))
    columns = sql.SQL(", ").join(map(sql.Identifier, dated.columns))
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s), %s)", [f"hl.{table}", day.toordinal()])
        cursor.execute(sql.SQL("DELETE FROM {} WHERE date = %s").format(name), [day])
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(name, columns)) as copy:
            write_binary(copy, dated.schema, [dated])
        # Gone when the day's fills are loaded anew: then what stands here is of older ones.
        made_at = sql.SQL("UPDATE hl.fills_days SET {} = now() WHERE date = %s").format(sql.Identifier(f"{table}_at"))
        cursor.execute(made_at, [day])
