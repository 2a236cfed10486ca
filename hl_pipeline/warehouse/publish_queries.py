"""The rows of a day in the derived tables, as they are published to the lake."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import date
from typing import Any

import psycopg
from psycopg import sql

_BATCH = 50_000
# A TWAP that has not begun is dated by its placement, or else by its first status, as in `hl show twaps`.
_DAY_OF_TWAP = "(coalesce(begins_at, started_at, seen_from + interval '60 minutes') AT TIME ZONE 'UTC')::date"
ORDER: dict[str, tuple[str, ...]] = {
    "twaps": ("wallet", "begins_at", "twap_id"),
    "candles": ("coin", "time"),
    "daily_stats": ("coin",),
    "user_stats": ("wallet",),
}
"""The published tables, and the columns that their files are sorted by."""


def read_published_rows(
    connection: psycopg.Connection, table: str, day: date, columns: Sequence[str]
) -> Generator[Sequence[tuple[Any, ...]]]:
    """Yield the rows of a day in batches, as of one moment."""
    of_day = sql.SQL(_DAY_OF_TWAP) if table == "twaps" else sql.Identifier("date")  # pyright: ignore[reportArgumentType]
    query = sql.SQL("SELECT {} FROM hl.{} WHERE {} = %s ORDER BY {}").format(
        sql.SQL(", ").join(of_day if name == "date" else sql.Identifier(name) for name in columns),
        sql.Identifier(table),
        of_day,
        sql.SQL(", ").join(
            sql.SQL('{} COLLATE "C"').format(sql.Identifier(n)) if n in ("wallet", "coin") else sql.Identifier(n)
            for n in ORDER[table]
        ),
    )
    with connection.transaction(), connection.cursor("published") as cursor:
        cursor.itersize = _BATCH
        cursor.execute(query, [day])
        while rows := cursor.fetchmany(_BATCH):
            yield rows
