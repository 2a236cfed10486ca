"""Publishes a day of hl.twaps, hl.candles, hl.daily_stats and hl.user_stats in the lake's Iceberg tables."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import psycopg

from hl_pipeline.lake.store import Lake, remove
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.warehouse.lake_days import LakeDay, read_day_to_compact, read_lake_days, record_lake_day
from hl_pipeline.warehouse.locks import lock_iceberg_table
from hl_pipeline.warehouse.publish_queries import ORDER, read_published_rows

if TYPE_CHECKING:
    from hl_pipeline.lake.iceberg import Catalog

# The longest TWAP. One that began so many days before may have changed with this day's fills.
_TWAP_DAYS = 3


@dataclass(frozen=True, slots=True)
class PublishedTables:
    """The rows of a day in each table. `unknown`: values that are NULL in the lake because they do not fit."""

    rows: dict[str, int]
    unknown: int
    seconds: float


def publish_tables(
    day: date, lake: Lake, connection: psycopg.Connection, tables: Collection[str] = ORDER.keys()
) -> PublishedTables:
    """Publish the day's rows of some of these tables as they are in PostgreSQL now, each in one snapshot.

    Also the TWAPs of days before that are published already, because their TWAPs may have ended on this day. Nothing is
    published twice: equal rows make an equal file.
    """
    began = time.perf_counter()
    rows: dict[str, int] = {}
    unknown = 0
    with opened_catalog(connection, lake) as catalog:
        for name in (name for name in ORDER if name in tables):
            made = _publish(name, day, lake, connection, catalog)
            rows[name] = made.rows
            unknown += made.notional_unknown or 0
        if "twaps" in tables:
            known = read_lake_days(connection, "twaps")
            for before in (day - timedelta(days=back) for back in range(1, _TWAP_DAYS + 1)):
                if before in known:
                    _publish("twaps", before, lake, connection, catalog)
    return PublishedTables(rows, unknown, time.perf_counter() - began)


def _publish(name: str, day: date, lake: Lake, connection: psycopg.Connection, catalog: Catalog) -> LakeDay:
    """Publish a day of a table, unless the published file is the same."""
    # Imported here: pyiceberg takes a second.
    from hl_pipeline.lake.iceberg import files_by_day, publish_day
    from hl_pipeline.lake.published import columns_of, ensure_published, write_published

    loaded = read_day_to_compact(connection, day)
    if loaded is None:
        raise LookupError(f"{day} is not loaded")
    with lock_iceberg_table(connection, name):
        columns = [column.name for column in columns_of(name)]
        made = write_published(lake, name, day, read_published_rows(connection, name, day, columns))
        table = ensure_published(catalog, lake, name, ORDER[name])
        there = files_by_day(table, lake).get(day, [])
        old = read_lake_days(connection, name).get(day)
        files = [made.path] if made.rows else []
        if old is not None and old.made_from == made.digest and old.files == [file.path for file in there]:
            remove(lake, made.path)
            return old
        if not made.rows:
            remove(lake, made.path)
        facts = {"state": loaded.state, "rows": str(made.rows), "made_from": made.digest}
        snapshot_id = publish_day(table, lake, day, files, facts) if files or there else 0
        day_in_lake = LakeDay(
            date=day,
            files=files,
            rows=made.rows,
            bytes=made.bytes if files else 0,
            snapshot_id=snapshot_id,
            state=loaded.state,
            made_from=made.digest,
            loaded_at=loaded.loaded_at,
            notional=None,
            notional_unknown=made.unknown,
        )
        record_lake_day(connection, name, day_in_lake)
        return day_in_lake
