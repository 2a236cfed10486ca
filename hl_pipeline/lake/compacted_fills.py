"""Writes a compacted day of fills: every row of the day's hours, sorted so that one wallet is cheap to read, in one file.

DuckDB sorts, and spills to disk what exceeds its memory, so a day of any size fits. pyarrow writes, because only its writer has
bloom filters of our choice. Publishing the file is not done here (`lake.iceberg`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, localcontext
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hl_pipeline.domain.records import HourOfFills
from hl_pipeline.formats.arrow import as_arrow
from hl_pipeline.formats.fills import DAY_SCHEMA, NO_FILLS
from hl_pipeline.lake.described import COMPACTED_FILL_COLUMNS, describe
from hl_pipeline.lake.iceberg import Catalog, Table, ensure_table, new_data_path, spill_directory, with_field_ids
from hl_pipeline.lake.store import META_KEY, Lake, list_files, local_copies, replacing

TABLE = "fills"
_SORTED_BY = ("wallet", "time")
_WITH_BOUNDS = ("time", "wallet", "coin", "twap_id", "block_number", "tid", "oid", "notional")
ORDER = ("wallet", "time", "block_number", "object", "ordinal", "coin", "side", "tid", "oid", "counterparty_oid")
"""The order of rows: by wallet and time, then as their source has them, then by the fill's key."""

_compute: Any = import_module("pyarrow.compute")  # its functions are made at import, so type checkers do not see them
_FORMAT = 2
"""To be raised when the same objects give another file: all days are then compacted again."""
_ROW_GROUP_ROWS = 50_000
_NOTIONAL = pa.decimal128(38, 20)
_NOTIONAL_BELOW = 10**18
_MULTIPLIED_BELOW = Decimal(10**18)
_REPEATING = (
    *("wallet", "coin", "side", "px", "sz", "dir", "crossed", "fee_token", "builder", "builder_fee", "deployer_fee"),
    *("priority_gas", "twap_id", "liquidated_user", "liquidation_mark_px", "liquidation_method", "object"),
)
_DELTAS = ("time", "block_number", "block_time_ns", "local_time_ns", "line", "oid", "counterparty_oid", "tid", "ordinal")
_BLOOM = {"wallet": {"ndv": 5_000, "fpp": 0.01}, "coin": {"ndv": 500, "fpp": 0.01}, "twap_id": {"ndv": 2_000, "fpp": 0.01}}


def _schema() -> pa.Schema:
    fields: list[pa.Field] = []
    for field in as_arrow(NO_FILLS).schema:
        type_ = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(field.type, field.type)
        fields.append(pa.field(field.name, pa.timestamp("us", "UTC") if field.name == "time" else type_))
    empty = pa.schema([*fields, pa.field("notional", _NOTIONAL)]).empty_table()
    return with_field_ids(describe(empty, COMPACTED_FILL_COLUMNS).schema)


SCHEMA = _schema()
"""The columns of a compacted file: DAY_SCHEMA and `notional`, px * sz exactly, NULL where that does not fit."""


@dataclass(frozen=True, slots=True)
class CompactedFile:
    """A written file, not published yet. `path` is relative to the lake; `equals_hours`: every row is in both, the same often."""

    path: str
    rows: int
    bytes: int
    notional: Decimal
    notional_unknown: int
    equals_hours: bool


def ensure_fills_table(catalog: Catalog, lake: Lake) -> Table:
    """Return the Iceberg table of compacted days, created if needed. The caller holds its lock."""
    return ensure_table(catalog, lake, TABLE, SCHEMA, day_of="time", sorted_by=_SORTED_BY, with_bounds=_WITH_BOUNDS)


def digest_of(hours: Mapping[int, HourOfFills], files: int) -> str:
    """Return a digest of what a day's hours were made from, the same for the same rows. `files`: the number of its hour files.

    If an hour has no record of its objects, the digest equals no other.
    """
    if len(hours) < files:
        return f"unknown-{uuid.uuid4().hex}"
    known = [_FORMAT, [[hour, sorted(hours[hour].objects)] for hour in sorted(hours)]]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def list_hour_files(lake: Lake, day: date) -> list[str]:
    """Return the paths of the day's hours, relative to the lake."""
    return list_files(lake, f"fills/date={day}")


def write_compacted_day(
    lake: Lake, day: date, facts: Mapping[str, Any], *, memory: str = "1GB", row_group_rows: int = _ROW_GROUP_ROWS
) -> CompactedFile:
    """Write all fills of the day's hours to a new file. `facts` go into its metadata, with rows and notional. `memory`: DuckDB's.

    The caller holds a lock under which the hours do not change.
    """
    path = new_data_path(TABLE, day)
    with (
        workplace(lake) as directory,
        local_copies(lake, list_hour_files(lake, day), directory) as hours,
        duckdb.connect(config={"threads": 2, "memory_limit": memory, "temp_directory": str(directory / "sort")}) as engine,
        replacing(lake, path) as temporary,
    ):
        engine.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET enable_progress_bar = false")
        source = _select(engine, hours)
        order = ", ".join(f"{name} NULLS LAST" for name in ORDER)
        batches = engine.sql(f"SELECT * FROM ({source}) ORDER BY {order}").to_arrow_reader(row_group_rows)
        rows, unknown, notional = write_sorted(temporary, batches, facts, row_group_rows)
        size = temporary.stat().st_size
        # Read back what was written, before anyone can see it.
        equal = _checksum(engine, source) == _checksum(engine, _select(engine, [temporary]))
    return CompactedFile(path, rows, size, notional, unknown, equal)


def read_facts(lake: Lake, path: str) -> dict[str, Any]:
    """Return the facts in a compacted file's metadata."""
    with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
        return json.loads(pq.read_metadata(file).metadata[META_KEY])


def equals_hours(lake: Lake, path: str, day: date, rows: int) -> bool:
    """Return whether a compacted file has `rows` rows, and those of each of the day's hours that is in the lake.

    Rows are compared as after compaction: by their number and by sums of hashes. The caller holds the day's lock.
    """
    hours = list_hour_files(lake, day)
    with (
        workplace(lake) as directory,
        local_copies(lake, [path, *hours], directory) as (compacted, *copies),
        duckdb.connect(config={"threads": 2, "memory_limit": "1GB", "temp_directory": str(directory / "sort")}) as engine,
    ):
        engine.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        whole = _select(engine, [compacted])
        if engine.execute(f"SELECT count(*) FROM ({whole})").fetchone() != (rows,):
            return False
        numbers = ", ".join(str(_hour_of(hour)) for hour in hours)
        of_hours = f"SELECT * FROM ({whole}) WHERE (epoch_us(time) // 3600000000) % 24 IN ({numbers})"
        return not hours or _checksum(engine, of_hours) == _checksum(engine, _select(engine, copies))


def _hour_of(path: str) -> int:
    return int(path.rpartition("hour=")[2].removesuffix(".parquet"))


@contextmanager
def workplace(lake: Lake) -> Generator[Path]:
    """Yield a directory for copies and for what the sort spills. In a lake on a disk, vacuum removes that of a killed process."""
    if not lake.is_local:
        with TemporaryDirectory(prefix="hl-compact-") as name:
            yield Path(name)
        return
    directory = Path(lake.root, spill_directory(TABLE), uuid.uuid4().hex)
    directory.mkdir(parents=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _select(engine: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> str:
    """Return a query for the columns of DAY_SCHEMA. Columns that an earlier version did not write are NULL."""
    names = "[" + ", ".join("'" + str(file).replace("'", "''") + "'" for file in files) + "]"
    source = f"read_parquet({names}, union_by_name = true, hive_partitioning = false)"
    present = {row[0] for row in engine.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    empty = as_arrow(NO_FILLS)
    engine.register("empty", empty)
    types = {row[0]: row[1] for row in engine.execute("DESCRIBE SELECT * FROM empty").fetchall()} | {"time": "TIMESTAMPTZ"}
    columns = (f'{chr(34) + n + chr(34) if n in present else "NULL"}::{types[n]} AS "{n}"' for n in DAY_SCHEMA)
    return f"SELECT {', '.join(columns)} FROM {source}"


def _checksum(engine: duckdb.DuckDBPyConnection, source: str) -> tuple[Any, ...] | None:
    """Return a number of rows and sums of hashes of them, the same for the same rows in any order."""
    columns = ", ".join(f'"{name}"' for name in DAY_SCHEMA)
    return engine.execute(
        f"SELECT count(*), sum(h::HUGEINT), bit_xor(h) FROM (SELECT hash({columns}) AS h FROM ({source}))"
    ).fetchone()


def write_sorted(
    path: Path, batches: pa.RecordBatchReader, facts: Mapping[str, Any], row_group_rows: int = _ROW_GROUP_ROWS
) -> tuple[int, int, Decimal]:
    """Write sorted fills with their notional. Returns the rows, those without notional, and the sum of notional."""
    rows = unknown = 0
    total = Decimal(0)
    with (
        pq.ParquetWriter(
            path,
            SCHEMA,
            compression="zstd",
            compression_level=3,
            use_dictionary=list(_REPEATING),  # pyright: ignore[reportArgumentType]
            column_encoding=dict.fromkeys(_DELTAS, "DELTA_BINARY_PACKED"),
            bloom_filter_options=_BLOOM,
        ) as writer,
        localcontext() as exact,
    ):
        exact.prec = 100
        for table in _row_groups(batches, row_group_rows):
            notional = multiply_exactly(table["px"], table["sz"])
            rows += table.num_rows
            unknown += notional.null_count
            total += _compute.sum(notional.cast(pa.decimal256(76, 20))).as_py() or 0
            columns = [*table.columns, notional]
            arrays = [column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), row_group_size=row_group_rows)
        known = {**facts, "rows": rows, "notional": format(total, "f"), "notional_unknown": unknown}
        writer.add_key_value_metadata({META_KEY: json.dumps(known, default=_as_text).encode()})
    return rows, unknown, total


def _as_text(value: object) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} has no JSON form")


def _row_groups(batches: pa.RecordBatchReader, size: int) -> Generator[pa.Table]:
    """Yield tables of `size` rows, the last one perhaps smaller."""
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        while rows >= size:
            table = pa.Table.from_batches(pending)
            yield table.slice(0, size)
            rest = table.slice(size)
            pending, rows = rest.to_batches(), rest.num_rows
    if rows:
        yield pa.Table.from_batches(pending)


def multiply_exactly(px: pa.ChunkedArray, sz: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return px * sz as decimal(38, 20), NULL where the product does not fit. Both have ten decimals."""
    fits = _compute.and_(_is_below(px), _is_below(sz))
    none = pa.scalar(None, px.type)
    # 28 digits times 28 digits fit in 76.
    factors = [_compute.if_else(fits, column, none).cast(pa.decimal256(28, 10)) for column in (px, sz)]
    product = _compute.multiply(*factors)
    limit = pa.scalar(Decimal(_NOTIONAL_BELOW), product.type)
    found = _compute.if_else(_compute.less(_compute.abs(product), limit), product, pa.scalar(None, product.type)).cast(_NOTIONAL)
    if _compute.all(fits).as_py() is not False:
        return found
    # A huge price of a tiny size may fit. Such rows are rare.
    values = found.to_pylist()
    for index, is_small in enumerate(fits.to_pylist()):
        if is_small is False:
            values[index] = _multiply(px[index].as_py(), sz[index].as_py())
    return pa.chunked_array([pa.array(values, _NOTIONAL)])


def _multiply(px: Decimal, sz: Decimal) -> Decimal | None:
    with localcontext() as exact:
        exact.prec = 100
        product = px * sz
        return product if abs(product) < _NOTIONAL_BELOW else None


def _is_below(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return _compute.less(_compute.abs(column), pa.scalar(_MULTIPLIED_BELOW, column.type))
