"""The formats of lists: JSON, and files written from batches of rows in bounded memory. Which rows is not decided here."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, get_args

import orjson

from api.parameters import Format

if TYPE_CHECKING:
    import pyarrow as pa

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}
FILE_FORMATS: tuple[Format, ...] = tuple(one for one in get_args(Format) if one != "json")
BATCH = 1_000
"""Rows of a batch."""
_ROW_GROUP = 50_000

Row = tuple[str | None, ...]
"""The values of a row, as texts: JSON as it is stored, `true` and `false`, times as in JSON answers."""
Source = AsyncGenerator[list[Row], None]
Columns = Sequence[tuple[str, str]]
"""Name and PostgreSQL type of each column; `text[]` is a list."""

_INTEGERS = ("int2", "int4", "int8")
# Their texts are JSON as they are.
_RAW = (*_INTEGERS, "bool", "json", "jsonb", "text[]")


def encode(chosen: Format, source: Source, rows: list[Row], columns: Columns, facts: dict[str, Any]) -> AsyncIterator[bytes]:
    """Yield the parts of a file of `rows` and, after them, those of `source`.

    Parquet and Arrow have `facts`, each as JSON, in the metadata of their schema.
    """
    if chosen == "csv":
        return _csv(source, rows, columns)
    if chosen == "ndjson":
        return _ndjson(source, rows, columns)
    return _parquet(source, rows, columns, facts) if chosen == "parquet" else _arrow(source, rows, columns, facts)


def as_json_rows(rows: Sequence[Row], columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield rows as the JSON answer has them, with JSON passed on unchanged."""
    names, raw = [name for name, _ in columns], [number for number, (_, kind) in enumerate(columns) if kind in _RAW]
    for row in rows:
        values: list[Any] = [*row]
        for number in raw:
            if (text := values[number]) is not None:
                values[number] = orjson.Fragment(text)
        yield dict(zip(names, values, strict=True))


def as_positions(rows: Sequence[Row], columns: Columns) -> list[dict[str, Any]]:
    """Return rows for cursors: as those of JSON, with integers as numbers."""
    integers = {name for name, kind in columns if kind in _INTEGERS}
    named = (dict(zip((name for name, _ in columns), row, strict=True)) for row in rows)
    return [
        {name: int(value) if name in integers and value is not None else value for name, value in one.items()} for one in named
    ]


async def _csv(source: Source, rows: list[Row], columns: Columns) -> AsyncIterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([name for name, _ in columns])
    yield text.getvalue().encode()
    while rows:
        text.seek(0)
        text.truncate()
        writer.writerows(rows)
        yield text.getvalue().encode()
        rows = await anext(source, [])


async def _ndjson(source: Source, rows: list[Row], columns: Columns) -> AsyncIterator[bytes]:
    while rows:
        yield b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in as_json_rows(rows, columns))
        rows = await anext(source, [])


async def _parquet(source: Source, rows: list[Row], columns: Columns, facts: dict[str, Any]) -> AsyncIterator[bytes]:
    # Imported here because it takes half a second and 50 MB, and few requests need it.
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema, sink = _schema(columns, facts), io.BytesIO()
    writer = ParquetWriter(sink, schema, compression="zstd")
    group: list[pa.RecordBatch] = []
    while rows:
        group.append(_record_batch(rows, schema))
        rows = await anext(source, [])
        if len(group) * BATCH >= _ROW_GROUP or not rows:
            await asyncio.to_thread(writer.write_table, pa.Table.from_batches(group))
            group = []
            yield _take(sink)
    writer.close()
    yield _take(sink)


async def _arrow(source: Source, rows: list[Row], columns: Columns, facts: dict[str, Any]) -> AsyncIterator[bytes]:
    import pyarrow as pa

    schema, sink = _schema(columns, facts), io.BytesIO()
    # Closed without an error, the stream has its end mark.
    with closing(pa.ipc.new_stream(sink, schema)) as writer:
        yield _take(sink)
        while rows:
            writer.write_batch(_record_batch(rows, schema))
            yield _take(sink)
            rows = await anext(source, [])
    yield _take(sink)


def _take(sink: io.BytesIO) -> bytes:
    """Return what was written since the last call."""
    written = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return written


def _schema(columns: Columns, facts: dict[str, Any]) -> pa.Schema:
    import pyarrow as pa

    metadata = {name: json.dumps(value) for name, value in facts.items()}
    return pa.schema([(name, _arrow_type(name, kind)) for name, kind in columns], metadata)


def _record_batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    values = zip(*rows, strict=True)
    return pa.record_batch([pa.array(v, pa.string()).cast(f.type) for v, f in zip(values, schema, strict=True)], schema)


def _arrow_type(name: str, kind: str) -> pa.DataType:
    import pyarrow as pa

    # In JSON they are strings, because a JavaScript number may not hold them.
    if name in ("twap_id", "block_time_ns"):
        return pa.int64()
    # Products of two decimals with ten digits, such as a fee in the coin times its px.
    if kind == "numeric":
        return pa.decimal128(38, 20 if "notional" in name or name in ("fees_in_quote", "net_pnl") else 10)
    if kind == "timestamptz":
        # Fills have milliseconds, as in the lake.
        return pa.timestamp("ms" if name == "time" else "us", "UTC")
    return {"int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "bool": pa.bool_(), "date": pa.date32()}.get(
        kind, pa.string()
    )
