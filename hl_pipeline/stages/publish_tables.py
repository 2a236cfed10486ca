"""Publishes a day of hl.twaps, hl.candles, hl.daily_stats and hl.user_stats in the lake's Iceberg tables."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

import psycopg

from hl_pipeline.lake.iceberg import publish_day
from hl_pipeline.lake.published import columns_of, ensure_published, write_published
from hl_pipeline.lake.store import Lake
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.warehouse.fills_days import read_fills_day
from hl_pipeline.warehouse.lake_days import LakeDay, read_day_to_compact, record_lake_day
from hl_pipeline.warehouse.locks import lock_iceberg_table
from hl_pipeline.warehouse.publish_queries import ORDER, read_published_rows


@dataclass(frozen=True, slots=True)
class PublishedTables:
    """The rows of a day in each table. `unknown`: values that are NULL in the lake because they do not fit."""

    rows: dict[str, int]
    unknown: int
    seconds: float


def publish_tables(
    day: date, lake: Lake, connection: psycopg.Connection, tables: Collection[str] = ORDER.keys()
) -> PublishedTables:
    """Publish the day's rows of some of these tables as they are in PostgreSQL now. A table is one snapshot."""
    began = time.perf_counter()
    loaded = read_day_to_compact(connection, day)
    state = read_fills_day(connection, day)
    rows: dict[str, int] = {}
    unknown = 0
    with opened_catalog(connection, lake) as catalog:
        for name in (name for name in ORDER if name in tables):
            with lock_iceberg_table(connection, name):
                columns = [column.name for column in columns_of(name)]
                made = write_published(lake, name, day, read_published_rows(connection, name, day, columns))
                table = ensure_published(catalog, lake, name, ORDER[name])
                facts = {"state": "" if state is None else state.state, "rows": str(made.rows), "unknown": str(made.unknown)}
                snapshot = publish_day(table, lake, day, [made.path] if made.rows else [], facts)
                if loaded is not None:
                    record_lake_day(
                        connection,
                        name,
                        LakeDay(
                            date=day,
                            files=[made.path] if made.rows else [],
                            rows=made.rows,
                            bytes=made.bytes,
                            snapshot_id=snapshot,
                            state=loaded.state,
                            made_from=hashlib.sha256(str(loaded.loaded_at).encode()).hexdigest(),
                            loaded_at=loaded.loaded_at,
                            notional=None,
                            notional_unknown=made.unknown,
                        ),
                    )
            rows[name] = made.rows
            unknown += made.unknown
    return PublishedTables(rows, unknown, time.perf_counter() - began)
