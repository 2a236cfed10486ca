"""Files of derived tables for the lake's Iceberg tables: one a day, with the rows and the exact values of PostgreSQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from hl_pipeline.data_dictionary import TABLES, Column
from hl_pipeline.lake.described import describe
from hl_pipeline.lake.iceberg import Catalog, ensure_table, new_data_path, with_field_ids
from hl_pipeline.lake.store import Lake, replacing

# Products of a price and a size, and sums of them, have twenty decimals; all other numbers have ten at most.
_PRODUCTS = ("notional", "fees_in_quote")
_PRECISION = 38
_WITH_BOUNDS = ("date", "wallet", "coin", "time", "begins_at")
_TYPES: dict[str, pa.DataType] = {
    "bigint": pa.int64(),
    "integer": pa.int32(),
    "boolean": pa.bool_(),
    "text": pa.string(),
    "json": pa.string(),
    # Iceberg knows the elements by an id as well, which must not be that of a column.
    "text[]": pa.list_(pa.field("element", pa.string(), metadata={"PARQUET:field_id": "1000"})),
    "timestamptz": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
}


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A written file: path relative to the lake, rows, bytes, values that are NULL because they do not fit, and sha256."""

    path: str
    rows: int
    bytes: int
    unknown: int
    digest: str


def columns_of(table: str) -> tuple[Column, ...]:
    """Return the columns of a derived table in the lake. hl.twaps has its day, too."""
    columns = TABLES[f"hl.{table}"].columns
    if any(column.name == "date" for column in columns):
        return columns
    return (
        Column("date", "date", "UTC", "UTC day on which the TWAP began or, if it has not begun, was placed.", "computed"),
        *columns,
    )


def schema_of(table: str) -> pa.Schema:
    """Return the Arrow schema of a derived table's files: field ids, units and meanings included."""
    columns = columns_of(table)
    empty = pa.schema([(column.name, _type_of(column)) for column in columns]).empty_table()
    return with_field_ids(describe(empty, columns).schema)


def _type_of(column: Column) -> pa.DataType:
    return pa.decimal128(_PRECISION, _scale_of(column)) if column.type == "numeric" else _TYPES[column.type]


def _scale_of(column: Column) -> int:
    return 20 if any(word in column.name for word in _PRODUCTS) else 10


def ensure_published(catalog: Catalog, lake: Lake, table: str, sorted_by: Sequence[str]) -> Table:
    """Return the Iceberg table of a derived table, created if needed. The caller holds its lock."""
    bounds = [column.name for column in columns_of(table) if column.name in _WITH_BOUNDS]
    return ensure_table(catalog, lake, table, schema_of(table), day_of="date", sorted_by=sorted_by, with_bounds=bounds)


def write_published(lake: Lake, table: str, day: date, batches: Iterable[Sequence[Sequence[Any]]]) -> WrittenFile:
    """Write a new file with the rows of a day, in the order of `columns_of`. Memory holds one batch at a time."""
    schema = schema_of(table)
    unknown = rows = 0

    def counted(convert: Callable[[Any], Any], value: Any) -> Any:
        nonlocal unknown
        made = convert(value)
        unknown += made is None
        return made

    converters = [_converter(column) for column in columns_of(table)]
    path = new_data_path(table, day)
    with replacing(lake, path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd", compression_level=3) as writer:
            for batch in batches:
                values = zip(*batch, strict=True)
                arrays = [
                    pa.array([None if value is None else counted(convert, value) for value in column], field.type)
                    for convert, column, field in zip(converters, values, schema, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                rows += len(batch)
        with temporary.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        size = temporary.stat().st_size
    return WrittenFile(path, rows, size, unknown, digest)


def _converter(column: Column) -> Callable[[Any], Any]:
    """Return what makes a value of PostgreSQL one of Arrow, or None if it does not fit."""
    if column.type == "json":
        return lambda value: json.dumps(value, ensure_ascii=False)
    if column.type != "numeric":
        return lambda value: value
    scale = _scale_of(column)
    limit = Decimal(10) ** (_PRECISION - scale)
    return lambda value: value if abs(value) < limit and -value.as_tuple().exponent <= scale else _shortened(value, scale, limit)


def _shortened(value: Decimal, scale: int, limit: Decimal) -> Decimal | None:
    """Return a value without zeros at its end, or None if it still does not fit."""
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return value.normalize() if abs(value) < limit and -exponent <= scale else None
