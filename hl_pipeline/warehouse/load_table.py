"""Replaces a day of a derived table in PostgreSQL in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import psycopg
from psycopg import sql

from hl_pipeline.warehouse.copy_binary import write_binary
from hl_pipeline.warehouse.locks import lock_table_in_transaction

_HOURS_WITH_CANDLES = "SELECT hour, candles_at IS NOT NULL FROM hl.fills_hours WHERE date = %s"
_DELETE_CANDLES = "DELETE FROM hl.candles WHERE date = %s AND extract(hour FROM time AT TIME ZONE 'UTC') = ANY(%s)"
_RECORD_CANDLES = "UPDATE hl.fills_hours SET candles_at = now() WHERE date = %s AND hour = ANY(%s)"
_CANDLES_OF_DAY = """
SELECT count(*), count(DISTINCT coin), coalesce(sum(trades), 0)::bigint,
       count(*) FILTER (WHERE NOT (open BETWEEN low AND high AND close BETWEEN low AND high))
FROM hl.candles WHERE date = %s
"""


@dataclass(frozen=True, slots=True)
class CandlesOfDay:
    """Counts of a day in hl.candles. `out_of_order`: candles whose open or close is not between low and high."""

    rows: int
    coins: int
    trades: int
    out_of_order: int


def replace_day(connection: psycopg.Connection, table: str, day: date, rows: pl.DataFrame) -> None:
    """Replace `day` in hl.`table` by `rows`, and record when. `rows` has all columns of the table except `date` and computed
    ones.

    If two calls run at once, the later one waits and its rows stay.
    """
    with connection.transaction(), connection.cursor() as cursor:
        lock_table_in_transaction(cursor, table, day)
        cursor.execute(sql.SQL("DELETE FROM {} WHERE date = %s").format(sql.Identifier("hl", table)), [day])
        _copy(cursor, table, day, rows)


def read_hours_without_candles(connection: psycopg.Connection, day: date) -> list[int]:
    """Return the hours (0-23) of a day without candles of the loaded fills, or all hours if every hour has candles."""
    made = dict(connection.execute(_HOURS_WITH_CANDLES, [day]).fetchall())
    return [hour for hour in range(24) if all(made.values()) or not made.get(hour)]


def replace_candles(connection: psycopg.Connection, day: date, hours: Sequence[int], rows: pl.DataFrame) -> CandlesOfDay:
    """Replace some hours of a day in hl.candles, like `replace_day`. Returns the counts of the whole day afterwards."""
    with connection.transaction(), connection.cursor() as cursor:
        lock_table_in_transaction(cursor, "candles", day)
        cursor.execute(_DELETE_CANDLES, [day, hours])
        _copy(cursor, "candles", day, rows)
        cursor.execute(_RECORD_CANDLES, [day, hours])
        return CandlesOfDay(*cursor.execute(_CANDLES_OF_DAY, [day]).fetchall()[0])


def _copy(cursor: psycopg.Cursor, table: str, day: date, rows: pl.DataFrame) -> None:
    dated = rows.with_columns(date=pl.lit(day, pl.Date))
    columns = sql.SQL(", ").join(map(sql.Identifier, dated.columns))
    copying = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier("hl", table), columns)
    with cursor.copy(copying) as copy:
        write_binary(copy, dated.schema, [dated])
    # Loading the day's fills again clears this column, because these rows are then outdated.
    made_at = sql.SQL("UPDATE hl.fills_days SET {} = now() WHERE date = %s").format(sql.Identifier(f"{table}_at"))
    cursor.execute(made_at, [day])
