"""CSV and Parquet exports: stream the rows of a query as a file, in bounded memory."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from psycopg import AsyncConnection, AsyncCursor, AsyncServerCursor
from starlette.types import Receive, Scope, Send

from api.keys import EXPORTS, IN_SCOPE, Key
from api.lake import Lake, list_lake_days, retrying
from api.lake_files import (
    DayInLake,
    LakeChangedError,
    LakeCorruptError,
    LakeMemoryError,
    LakeRefusedError,
    parts_by_day,
    parts_by_tier,
)
from api.parameters import Format
from api.range_coverage import Range, describe_range

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger(__name__)
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
COVERAGE_HEADERS = {
    "X-Coverage": "`coverage` of the JSON, without its `hours`.",
    "X-Coverage-Left-Off": "Number of runs of days that did not fit into the header. Parquet metadata has all runs.",
    "X-Info-Api": "`info_api` of the JSON, if present.",
}
# Servers and proxies accept 8 KB of headers in total.
_MOST_COVERAGE_BYTES = 4_000
_BATCH = 1_000
_ROW_GROUP = 50_000

_Row = tuple[str | None, ...]
_Source = AsyncGenerator[list[_Row], None]


def choose_format(request: Request, asked: Format | None) -> Format:
    """The requested format; otherwise the supported one that `Accept` weights highest; otherwise JSON.

    Raises HTTPException (403) for a file if the key of the request may not export.
    """
    chosen = asked or _preferred_format(request)
    key: Key | None = request.scope.get(IN_SCOPE)
    if chosen != "json" and key is not None and not key.may_export:
        raise HTTPException(
            403, f"key {key.name} lacks the scope {EXPORTS}, which CSV and Parquet need; `hl api-key --exports` adds it"
        )
    return chosen


def _preferred_format(request: Request) -> Format:
    weights = {"application/json": 0.0}
    for part in request.headers.get("accept", "").lower().split(","):
        name, _, options = part.partition(";")
        weight = re.search(r"\bq=(\d(?:\.\d+)?)", options)
        weights[name.strip()] = float(weight[1]) if weight else 1.0
    return max(MEDIA_TYPES, key=lambda one: weights.get(MEDIA_TYPES[one], 0.0))


async def export(
    request: Request, chosen: Format, name: str, query: bytes, values: dict[str, Any], of: Range | None = None
) -> Response:
    """Stream the rows of `query` as a file called `name`. The coverage of its range (`of`) goes into the headers and, in Parquet,
    into the metadata.

    An error before the first row is answered like any other. A later error aborts the transfer, so a partial file never looks
    complete.
    """
    headers = {"Content-Disposition": f'attachment; filename="{re.sub(r"[^0-9A-Za-z_.-]", "_", name)}.{chosen}"'}

    async def begin() -> Response:
        return await _begin(request, chosen, headers, query, values, of)

    return await retrying(begin)


async def _begin(
    request: Request, chosen: Format, headers: dict[str, str], query: bytes, values: dict[str, Any], of: Range | None
) -> Response:
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(request.app.state.exports.connection())
        days, fault = ([], None) if of is None or of.of != "fills" else await _find_days(request, connection, of)
        facts = {} if of is None else orjson.loads(orjson.dumps(await describe_range(connection, of, fault)))
        headers |= as_headers(facts)
        if request.scope.get("headers_only"):
            response = Response(headers=headers, media_type=MEDIA_TYPES[chosen])
            # How long the file will be is not known.
            del response.headers["Content-Length"]
            return response
        seconds: float = request.app.state.settings.api_export_timeout_seconds
        batches = _Batches(connection, query)
        source = batches.of_fills(request.app.state.lake, values, days, seconds) if days else batches.of_table(values)
        stack.push_async_callback(source.aclose)
        rows = await anext(source, [])
        columns = await batches.find_columns(values)
        body = _csv(source, rows, columns) if chosen == "csv" else _parquet(source, rows, columns, facts)
        return _Export(stack.pop_all(), seconds, body, headers, chosen)


async def _find_days(request: Request, connection: AsyncConnection, of: Range) -> tuple[list[DayInLake], str | None]:
    days = await list_lake_days(connection, of.start.date(), of.end.date())
    fault = await request.app.state.lake.find_fault() if days else None
    return ([] if fault else days), fault


class _Batches:
    """The rows of a query in batches, as texts."""

    def __init__(self, connection: AsyncConnection, query: bytes) -> None:
        self._connection, self._query = connection, query
        self._columns: list[tuple[str, str]] = []

    async def of_table(self, values: dict[str, Any]) -> _Source:
        """Yield the rows of the query."""
        async with self._connection.cursor("export") as cursor:
            await cursor.execute(self._query, values)
            self._note(cursor)
            while rows := await cursor.fetchmany(_BATCH):
                yield rows

    async def of_fills(self, lake: Lake, values: dict[str, Any], days: list[DayInLake], seconds: float) -> _Source:
        """Yield fills of hl.fills and, for `days`, of the lake, in order of time. Memory holds the rows of a day at most."""
        left: int | None = values["limit"]
        # Rows to skip are all of the first moment.
        given: int = values["given"]
        for part in parts_by_tier(values["start"], values["end"], days):
            for piece in parts_by_day(part):
                of_piece = {**values, "start": piece.start, "end": piece.end, "limit": left, "given": given}
                given = 0
                source = (
                    lake.read(piece.days, of_piece, left, batch=_BATCH, seconds=seconds)
                    if piece.days
                    else self.of_table(of_piece)
                )
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
        self._columns = [(one.name, known[one.type_code].name) for one in cursor.description or ()]


def _as_text(value: Any) -> str | None:
    """Return a value of the lake as a connection of exports returns one of PostgreSQL."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_headers(facts: dict[str, Any]) -> dict[str, str]:
    """Return the coverage of a range as COVERAGE_HEADERS: ASCII, cut to the size of a header."""
    if not facts:
        return {}
    facts = orjson.loads(orjson.dumps(facts))
    runs = [json.dumps({name: value for name, value in run.items() if name != "hours"}) for run in facts["coverage"]]
    shown = runs
    while len(", ".join(shown)) > _MOST_COVERAGE_BYTES:
        shown = shown[:-1]
    headers = {"X-Coverage": f"[{', '.join(shown)}]"}
    headers |= {"X-Coverage-Left-Off": str(len(runs) - len(shown))} if len(shown) < len(runs) else {}
    return headers | ({"X-Info-Api": json.dumps(facts["info_api"])} if "info_api" in facts else {})


class _Export(StreamingResponse):
    """Returns its connection to the pool when it is sent, aborted or too slow."""

    def __init__(
        self, stack: AsyncExitStack, seconds: float, body: AsyncIterator[str | bytes], headers: dict[str, str], chosen: Format
    ) -> None:
        super().__init__(body, headers=headers, media_type=MEDIA_TYPES[chosen])
        self._stack, self._seconds = stack, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._stack, asyncio.timeout(self._seconds):
                await super().__call__(scope, receive, send)
        except (psycopg.Error, TimeoutError, LakeChangedError, LakeMemoryError, LakeRefusedError, LakeCorruptError) as error:
            _log.error("export aborted: %s", str(error).partition("\n")[0] or f"it took longer than {self._seconds:g} s")
            # Raising here makes the server close the connection without the end of the file.
            raise


async def _csv(source: _Source, rows: list[_Row], columns: list[tuple[str, str]]) -> AsyncIterator[str | bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([name for name, _ in columns])
    yield text.getvalue()
    while rows:
        text.seek(0)
        text.truncate()
        writer.writerows(rows)
        yield text.getvalue()
        rows = await anext(source, [])


async def _parquet(
    source: _Source, rows: list[_Row], columns: list[tuple[str, str]], facts: dict[str, Any]
) -> AsyncIterator[str | bytes]:
    # Imported here because it takes half a second and 50 MB, and few requests need it.
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    metadata = {name: json.dumps(value) for name, value in facts.items()}
    schema = pa.schema([(name, _arrow_type(name, type_name)) for name, type_name in columns], metadata)
    sink = io.BytesIO()
    writer = ParquetWriter(sink, schema, compression="zstd")
    group: list[pa.RecordBatch] = []
    while rows:
        values = zip(*rows, strict=True)
        group.append(
            pa.record_batch([pa.array(v, pa.string()).cast(f.type) for v, f in zip(values, schema, strict=True)], schema)
        )
        rows = await anext(source, [])
        if len(group) * _BATCH >= _ROW_GROUP or not rows:
            await asyncio.to_thread(writer.write_table, pa.Table.from_batches(group))
            group = []
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    writer.close()
    yield sink.getvalue()


def _arrow_type(name: str, type_name: str) -> pa.DataType:
    import pyarrow as pa

    # In JSON they are strings, because a JavaScript number may not hold them.
    if name in ("twap_id", "block_time_ns"):
        return pa.int64()
    # Products of two decimals with ten digits, such as a fee in the coin times its px.
    if type_name == "numeric":
        return pa.decimal128(38, 20 if "notional" in name or name in ("fees_in_quote", "net_pnl") else 10)
    if type_name == "timestamptz":
        # Fills have milliseconds, as in the lake.
        return pa.timestamp("ms" if name == "time" else "us", "UTC")
    return {"int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "bool": pa.bool_(), "date": pa.date32()}.get(
        type_name, pa.string()
    )
