"""Reads rows of PostgreSQL and, for fills, of the lake, in batches of texts. How they are written is not decided here."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from psycopg import AsyncConnection, AsyncCursor, AsyncServerCursor

from api.file_formats import BATCH, Row, Source
from api.lake import Lake
from api.lake_files import DayInLake, parts_by_day, parts_by_tier


class Batches:
    """The rows of a query in batches, on a connection of exports."""

    def __init__(self, connection: AsyncConnection, query: bytes) -> None:
        self._connection, self._query = connection, query
        self._columns: list[tuple[str, str]] = []

    async def of_table(self, values: dict[str, Any]) -> Source:
        """Yield the rows of the query."""
        async with self._connection.cursor("export") as cursor:
            await cursor.execute(self._query, values)
            self._note(cursor)
            while rows := await cursor.fetchmany(BATCH):
                yield rows

    async def of_fills(self, lake: Lake, values: dict[str, Any], days: list[DayInLake], seconds: float) -> Source:
        """Yield fills of hl.fills and, for `days`, of the lake, in order of time. Memory holds the rows of a day at most."""
        left: int | None = values["limit"]
        # Rows to skip are all of the first moment.
        given: int = values["given"]
        for part in parts_by_tier(values["start"], values["end"], days):
            for piece in parts_by_day(part):
                of_piece = {**values, "start": piece.start, "end": piece.end, "limit": left, "given": given}
                given = 0
                source = (
                    lake.read(piece.days, of_piece, left, batch=BATCH, seconds=seconds) if piece.days else self.of_table(of_piece)
                )
                async with aclosing(source):
                    async for rows in source:
                        left = None if left is None else left - len(rows)
                        yield [tuple(map(_as_text, row)) for row in rows] if piece.days else rows
                if left == 0:
                    return

    async def find_columns(self, values: dict[str, Any]) -> list[tuple[str, str]]:
        """Return name and type of each column."""
        if not self._columns:
            async with self._connection.cursor() as cursor:
                await cursor.execute(self._query, {**values, "limit": 0, "given": 0})
                self._note(cursor)
        return self._columns

    def _note(self, cursor: AsyncServerCursor[Any] | AsyncCursor[Any]) -> None:
        known = self._connection.adapters.types
        infos = [(one.name, known[one.type_code], one.type_code) for one in cursor.description or ()]
        self._columns = [(name, info.name + ("[]" if code == info.array_oid else "")) for name, info, code in infos]


async def chunked(rows: list[Row]) -> Source:
    """Yield rows that were read already."""
    for first in range(0, len(rows), BATCH):
        yield rows[first : first + BATCH]


def _as_text(value: Any) -> str | None:
    """Return a value of the lake as a connection of exports returns one of PostgreSQL."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
