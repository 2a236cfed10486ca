"""What is written beside the lake's values: unit and meaning of each column, in every Parquet file and in `datapackage.json`.

The file is a Data Package of the Frictionless standard (datapackage.org). Its resources are the lake's tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from hl_pipeline.data_dictionary import FILL_COLUMNS, LAKE_ONLY, NOTIONAL, ORDINAL, STATUS_COLUMNS, STATUS_LAKE_ONLY, Column
from hl_pipeline.lake.store import Lake, exists, open_file, replacing

DATAPACKAGE = "datapackage.json"

RAW_COLUMNS = tuple(column for column in (*FILL_COLUMNS, *LAKE_ONLY) if column.name != "object")
LAKE_FILL_COLUMNS = (*FILL_COLUMNS, ORDINAL, *LAKE_ONLY)
COMPACTED_FILL_COLUMNS = (*LAKE_FILL_COLUMNS, NOTIONAL)
RAW_STATUS_COLUMNS = (*STATUS_COLUMNS, *STATUS_LAKE_ONLY)
LAKE_STATUS_COLUMNS = (*RAW_STATUS_COLUMNS, next(column for column in LAKE_ONLY if column.name == "object"))

_TABLES: dict[str, tuple[str, str, tuple[Column, ...]]] = {
    "fills": ("fills/date=*/*.parquet", "Each fill once, by the day and hour (UTC) of the event.", LAKE_FILL_COLUMNS),
    "raw_fills": ("raw_fills/object_date=*/*.parquet", "The source's objects, one per file, lossless.", RAW_COLUMNS),
    "api_fills": ("api_fills/date=*/*.parquet", "Fills from the info API, by day and shard of the wallet.", RAW_COLUMNS),
    "twap_statuses": ("twap_statuses/date=*/*.parquet", "Each TWAP event once, by its day (UTC).", LAKE_STATUS_COLUMNS),
    "raw_twap_statuses": (
        "raw_twap_statuses/object_date=*/*.parquet",
        "The source's objects of TWAP statuses, one per file, lossless.",
        RAW_STATUS_COLUMNS,
    ),
}
"""The name of each table, its files, its meaning and its columns."""

# PostgreSQL's type -> type and format of a field in a Table Schema. Parquet has JSON as text.
_TYPES = {
    "numeric": ("number", None),
    "bigint": ("integer", None),
    "integer": ("integer", None),
    "smallint": ("integer", None),
    "boolean": ("boolean", None),
    "text": ("string", None),
    "json": ("string", None),
    "bytea": ("string", "binary"),
    "timestamptz": ("datetime", None),
    "date": ("date", None),
}


def describe(table: pa.Table, columns: Iterable[Column]) -> pa.Table:
    """Return the table with the unit and the meaning of each of these columns as metadata of its field."""
    known = {column.name: column for column in columns}
    fields = [field.with_metadata(_notes(known[field.name])) if field.name in known else field for field in table.schema]
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, table.schema.metadata))


def _notes(column: Column) -> dict[str, str]:
    return {"unit": column.unit, "meaning": column.meaning} if column.unit else {"meaning": column.meaning}


def build_datapackage() -> dict[str, Any]:
    """Return the Data Package of the lake. It depends only on the version of hl-pipeline, not on the data."""
    return {
        "$schema": "https://datapackage.org/profiles/2.0/datapackage.json",
        "name": "hyperliquid-trading-history",
        "title": "Hyperliquid's trading history",
        "description": "Paths have wildcards, because a table has many files. `unit` of a field is the unit of its values.",
        "version": version("hl-pipeline"),
        "resources": [_resource(name, *table) for name, table in _TABLES.items()],
    }


def _resource(name: str, path: str, meaning: str, columns: tuple[Column, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "path": path,
        "description": meaning,
        "format": "parquet",
        "mediatype": "application/vnd.apache.parquet",
        "schema": {
            "$schema": "https://datapackage.org/profiles/2.0/tableschema.json",
            "fields": [_field(column) for column in columns],
        },
    }


def _field(column: Column) -> dict[str, str]:
    kind, form = _TYPES[column.type]
    field = {"name": column.name, "type": kind, "description": column.meaning}
    return field | ({"format": form} if form else {}) | ({"unit": column.unit} if column.unit else {})


def write_datapackage(lake: Lake) -> bool:
    """Write `datapackage.json` to the lake's root if it is missing or differs. Returns whether it was written.

    One writer at a time: the caller must hold a lock.
    """
    text = json.dumps(build_datapackage(), indent=1, ensure_ascii=False) + "\n"
    if exists(lake, DATAPACKAGE):
        with open_file(lake, DATAPACKAGE) as file:
            if file.read() == text.encode():
                return False
    with replacing(lake, DATAPACKAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True
