"""Rows as data frames of polars, pandas and pyarrow, with the same columns and types in each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Context, Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hl_client.columns import KINDS, Row, Type, as_flat_row, decimal_scale, type_of

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_DIGITS = 38
# More digits than any value has, so that normalizing one never rounds.
_EXACT = Context(prec=1_000)


def make_polars(kind: str, rows: Sequence[Row]) -> pl.DataFrame:
    """Return the rows as a polars frame. Raises ValueError for a decimal that does not fit."""
    import polars as pl

    types: dict[Type, Any] = {
        "text": pl.String,
        "json": pl.String,
        "integer": pl.Int64,
        "boolean": pl.Boolean,
        "day": pl.Date,
        "instant": pl.Datetime("us", "UTC"),
    }

    def make(name: str, values: list[Any]) -> pl.Series:
        kind = type_of(name)
        dtype = pl.Decimal(_DIGITS, decimal_scale(name)) if kind == "decimal" else types[kind]
        return pl.Series(name, values, dtype=dtype, strict=True)

    return pl.DataFrame([make(name, values) for name, values in _columns(kind, rows).items()])


def make_arrow(kind: str, rows: Sequence[Row], facts: dict[str, Any]) -> pa.Table:
    """Return the rows as an Arrow table with `facts` in its metadata. Raises ValueError for a decimal that does not fit."""
    import pyarrow as pa

    types: dict[Type, Any] = {
        "text": pa.string(),
        "json": pa.string(),
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "day": pa.date32(),
        "instant": pa.timestamp("us", "UTC"),
    }
    columns = _columns(kind, rows)
    fields = [
        (name, pa.decimal128(_DIGITS, decimal_scale(name)) if type_of(name) == "decimal" else types[type_of(name)])
        for name in columns
    ]
    schema = pa.schema(fields, {name: json.dumps(value) for name, value in facts.items()})
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def make_pandas(kind: str, rows: Sequence[Row], facts: dict[str, Any]) -> pd.DataFrame:
    """Return the rows as a pandas frame with `facts` in its `attrs`. Decimals stay Decimal objects, so that they are exact."""
    import pandas as pd

    types: dict[Type, Any] = {
        "text": "string",
        "json": "string",
        "integer": "Int64",
        "boolean": "boolean",
        "decimal": "object",
        "day": "object",
        "instant": "datetime64[us, UTC]",
    }
    columns = _columns(kind, rows)
    frame = pd.DataFrame({name: pd.Series(values, dtype=types[type_of(name)]) for name, values in columns.items()})
    frame.attrs.update(facts)
    return frame


def check_installed(library: str, use: str) -> None:
    """Raise ImportError that says how to install a library if it is missing."""
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise ImportError(f"{use} needs {library}: pip install 'hl-client[{library}]'") from error


def _columns(kind: str, rows: Sequence[Row]) -> dict[str, list[Any]]:
    flat = [as_flat_row(kind, row) for row in rows]
    # A newer API may have more.
    names = dict.fromkeys([*KINDS[kind], *(name for row in flat for name in row)])
    return {name: [_cell(name, row.get(name)) for row in flat] for name in names}


def _cell(name: str, value: Any) -> Any:
    if value is None:
        return None
    kind = type_of(name)
    if kind == "decimal":
        return _checked(name, value)
    if name == "fees":
        return _as_json({token: format(fee, "f") for token, fee in value.items()})
    if kind == "json" or (kind == "text" and not isinstance(value, str)):
        return _as_json(value)
    return value


def _checked(name: str, value: Decimal) -> Decimal:
    """Return a decimal that a frame holds exactly. Some libraries round one that is too long, without a word."""
    scale = decimal_scale(name)
    _, digits, exponent = value.normalize(_EXACT).as_tuple()
    assert isinstance(exponent, int)
    if -exponent > scale or len(digits) + exponent > _DIGITS - scale:
        raise ValueError(f"{name}: {value} does not fit decimal({_DIGITS}, {scale}); read it from the rows")
    return value


def _as_json(value: Any) -> str:
    """Return JSON in which decimals keep every digit."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_as_json(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_as_json, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)
