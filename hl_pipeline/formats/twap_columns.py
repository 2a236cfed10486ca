"""Reads Parquet with any columns and types as rows of JSON values; `twap_statuses` interprets them.

All values are JSON (`dump_json` accepts them). Types that JSON does not have become strings or numbers of classes in
`twap_values` that keep the original type. A float becomes the Decimal of its shortest text.
"""

# pyarrow has no types of its own.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false
from __future__ import annotations

import base64
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hl_pipeline.formats.exact_decode import Json
from hl_pipeline.formats.framing import UnreadableObjectError
from hl_pipeline.formats.twap_values import DecimalText, HalfFloat, NotText, ShortFloat, Stamp

BATCH_ROWS = 4096
_BUFFER_BYTES = 1 << 20
_MOST_SHOWN = 2000  # characters of the names of columns in a message


def open_parquet(file: BinaryIO) -> pq.ParquetFile:
    """Open a Parquet file. Raises UnreadableObjectError if it is not Parquet, or if a column or member name occurs twice."""
    with _arrow_errors():
        # pre_buffer would read a whole row group into memory; without it, columns are read through a buffer.
        parquet = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
        schema = parquet.schema_arrow
    _refuse_doubled_names(schema)
    return parquet


def read_rows(parquet: pq.ParquetFile) -> Iterator[list[dict[str, Json]]]:
    """Yield all rows in order, in batches. Raises UnreadableObjectError if the file is incomplete."""
    batches = parquet.iter_batches(BATCH_ROWS)
    count = 0
    while True:
        with _arrow_errors():
            batch = next(batches, None)
            if batch is None:
                break
            columns = [[_json_value(scalar) for scalar in column] for column in batch.columns]
        count += batch.num_rows
        yield [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]
    if count != parquet.metadata.num_rows:
        raise UnreadableObjectError(
            f"incomplete Parquet file: it has {count} of {parquet.metadata.num_rows} rows; fetch it again"
        )


def column_paths(parquet: pq.ParquetFile) -> list[tuple[str, ...]]:
    """Return the column names and, for structs, their members as (column, member)."""
    schema = parquet.schema_arrow
    members = [(field.name, member.name) for field in schema if pa.types.is_struct(field.type) for member in field.type]
    return [(name,) for name in schema.names] + members


def show_paths(paths: Iterable[tuple[str, ...]]) -> str:
    """Format the names for a message; structs are shown by their members."""
    names = [".".join(path) for path in paths]
    text = ", ".join(name for name in names if not any(other.startswith(f"{name}.") for other in names))
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def _refuse_doubled_names(fields: Iterable[pa.Field], where: str = "") -> None:
    names: set[str] = set()
    for field in fields:
        if field.name in names:
            raise UnreadableObjectError(f"the column {where}{field.name} occurs twice")
        names.add(field.name)
        if pa.types.is_struct(field.type):
            _refuse_doubled_names(field.type, f"{where}{field.name}.")


@contextmanager
def _arrow_errors() -> Generator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # An error with an errno is the system's: the file could not be read, which says nothing about its bytes.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableObjectError(f"no whole Parquet file: {error}; fetch it again or report it to its owner") from None


def _json_value(scalar: pa.Scalar) -> Json:
    """Convert an Arrow scalar: lists and structs to lists and objects, a map to a list of {"key", "value"}."""
    if isinstance(scalar, pa.DictionaryScalar | pa.ExtensionScalar):
        scalar = scalar.value
    if scalar is None or not scalar.is_valid:
        return None
    kind = scalar.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return scalar.as_py()
    if isinstance(scalar, pa.StructScalar):
        return {field.name: _json_value(scalar[index]) for index, field in enumerate(kind)}
    if isinstance(scalar, pa.ListScalar):  # lists of every kind, and maps
        return [_json_value(item) for item in scalar.values]
    if pa.types.is_floating(kind):
        return _float(scalar.as_py(), kind.bit_width)
    if pa.types.is_decimal(kind):
        return DecimalText(f"{scalar.as_py():f}")
    if pa.types.is_temporal(kind):
        return _temporal(scalar.value, kind)
    if hasattr(scalar, "as_buffer"):
        return _text(scalar.as_buffer().to_pybytes())
    return str(scalar)


def _float(value: float, bits: int) -> Json:
    if not np.isfinite(value):
        return str(value)
    if bits == 64:
        return Decimal(repr(value))
    return ShortFloat(str(np.float32(value))) if bits == 32 else HalfFloat(str(np.float16(value)))


def _temporal(value: int, kind: pa.DataType) -> str:
    """Format a time as ISO text with all digits of its unit, and a duration as number and unit."""
    if pa.types.is_duration(kind):
        return f"{value} {kind.unit}"
    if pa.types.is_date32(kind):  # the only kind of date that Parquet has
        return _iso(value, "D")
    if pa.types.is_time(kind):
        return _iso(value, kind.unit).partition("T")[2]
    stamp = Stamp(_iso(value, kind.unit) + ("" if kind.tz is None else "Z"))
    stamp.value, stamp.unit = value, kind.unit
    return stamp


def _iso(value: int, unit: str) -> str:
    return str(np.datetime_as_string(np.datetime64(value, unit)))  # pyright: ignore[reportArgumentType, reportCallIssue]


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return NotText(base64.b64encode(content).decode())
