"""Parquet as rows of JSON values, of whatever columns and types: what each means is the matter of `twap_statuses`.

Everything is JSON (`dump_json` takes it); what JSON does not have is a text or a number that still knows what it was, see
`twap_values`. A float is the Decimal of its shortest text.
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
    """Raises UnreadableObjectError when `file` is no Parquet, or has a column, or a member of a struct, of one name twice."""
    with _arrow_errors():
        # Without pre_buffer, column by column through a buffer: with it a whole row group is in memory.
        parquet = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
        schema = parquet.schema_arrow
    _refuse_doubled_names(schema)
    return parquet


def read_rows(parquet: pq.ParquetFile) -> Iterator[list[dict[str, Json]]]:
    """All rows in their order, some at a time. Raises UnreadableObjectError where the bytes are not whole."""
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
        raise UnreadableObjectError(f"no whole Parquet file: has {count} of its {parquet.metadata.num_rows} rows; fetch it again")


def column_paths(parquet: pq.ParquetFile) -> list[tuple[str, ...]]:
    """The names of the columns and, as (column, member), of the members of those that are structs."""
    schema = parquet.schema_arrow
    members = [(field.name, member.name) for field in schema if pa.types.is_struct(field.type) for member in field.type]
    return [(name,) for name in schema.names] + members


def show_paths(paths: Iterable[tuple[str, ...]]) -> str:
    """The names for a message: a struct by its members."""
    names = [".".join(path) for path in paths]
    text = ", ".join(name for name in names if not any(other.startswith(f"{name}.") for other in names))
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def _refuse_doubled_names(fields: Iterable[pa.Field], where: str = "") -> None:
    names: set[str] = set()
    for field in fields:
        if field.name in names:
            raise UnreadableObjectError(f"the column {where}{field.name} stands twice")
        names.add(field.name)
        if pa.types.is_struct(field.type):
            _refuse_doubled_names(field.type, f"{where}{field.name}.")


@contextmanager
def _arrow_errors() -> Generator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # One with a number is the system's: the file could not be read, and nothing is known of its bytes.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableObjectError(f"no whole Parquet file: {error}; fetch it again or report it to its owner") from None


def _json_value(scalar: pa.Scalar) -> Json:
    """The value of a scalar of Arrow; lists and structs as lists and objects, a map as a list of {"key", "value"}."""
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
    """ISO text with all the digits of the unit; a duration as its number and unit."""
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
