"""Partial statistics of one hour, cached in the lake and merged later, so that a growing day does not read its hours again.

    partials/daily_stats/date=2026-03-15/hour=13.parquet      the part of an hour of fills/date=2026-03-15/ in that table

A partial is valid only for the file of fills that it was computed from. Whole days have none. `figures` computes them.
"""

from __future__ import annotations

import json
from datetime import date

import polars as pl
import pyarrow.parquet as pq

from hl_pipeline.domain.records import HourOfFills
from hl_pipeline.formats.arrow import as_arrow
from hl_pipeline.lake.store import META_KEY, Lake, exists, list_files, open_file, remove, replacing

PARTIALS_VERSION = 2
"""The version of partials; those with another version are computed again."""


def write_partial(lake: Lake, table: str, day: date, hour: int, rows: pl.DataFrame, of: HourOfFills) -> None:
    """Store the part of the hour `of` fills in a table. One writer per table and day at a time."""
    with replacing(lake, _path(table, day, hour)) as temporary:
        metadata = {META_KEY: json.dumps({"of": of.id, "version": PARTIALS_VERSION}).encode()}
        pq.write_table(as_arrow(rows).replace_schema_metadata(metadata), temporary, compression="zstd", compression_level=1)


def read_partial(lake: Lake, table: str, day: date, hour: int, of: HourOfFills) -> pl.DataFrame | None:
    """Return the stored part of an hour, or None if there is none or it is from other fills."""
    path = _path(table, day, hour)
    if not exists(lake, path):
        return None
    with open_file(lake, path) as file:
        if json.loads(pq.read_metadata(file).metadata[META_KEY]) != {"of": of.id, "version": PARTIALS_VERSION}:
            return None
        file.seek(0)
        return pl.read_parquet(file, hive_partitioning=False)


def remove_partials(lake: Lake, table: str, day: date) -> None:
    """Remove a day's partials of a table."""
    for path in list_files(lake, f"partials/{table}/date={day}"):
        remove(lake, path)


def _path(table: str, day: date, hour: int) -> str:
    return f"partials/{table}/date={day}/hour={hour:02}.parquet"
