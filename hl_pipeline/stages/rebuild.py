"""The work of `hl rebuild`: which days can be rebuilt from the lake, and which cannot."""

from __future__ import annotations

from datetime import date

import psycopg

from hl_pipeline.lake.api_fills import read_api_progress, read_api_shards
from hl_pipeline.lake.fills import list_raw_objects
from hl_pipeline.lake.store import Lake, list_below, list_days
from hl_pipeline.stages.adopt_tables import adopt_tables
from hl_pipeline.stages.compact import repair_ledger
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.stages.raw_tables import TABLES
from hl_pipeline.warehouse.backfill_progress import restore_done
from hl_pipeline.warehouse.ledger import record_fetched


def days_in_lake(lake: Lake, first: date = date.min, last: date = date.max) -> list[date]:
    """Return the days from `first` to `last` with fills, objects, info API fills or TWAP statuses in the lake. A day with only
    the object of hour 0 does not count: it was fetched for the previous day.
    """
    of_events = [list_days(lake, table) for table in ("fills", "api_fills", "twap_statuses", "api_twap_history")]
    made = {day for days in of_events for day in days}
    raw = [day for day in list_days(lake, "raw_fills") if first <= day <= last and day not in made]
    present = made.union(day for day in raw if any(meta.hour for meta in list_raw_objects(lake, day)))
    return sorted(day for day in present if first <= day <= last)


def record_objects(connection: psycopg.Connection, lake: Lake) -> None:
    """Write the metadata of the lake's objects to the ledger, and restore the backfill progress of wallets."""
    for table in TABLES:
        for object_date in list_days(lake, table.name):
            for meta in table.list_objects(lake, object_date):
                record_fetched(connection, meta, keep_error=True)
    for day in list_days(lake, "api_fills"):
        shards, _ = read_api_shards(lake, day)
        for meta in shards:
            record_fetched(connection, meta)
    for wallets, bad in read_api_progress(lake):
        restore_done(connection, wallets, bad)


def adopt_lake(connection: psycopg.Connection, lake: Lake) -> list[str]:
    """Register the newest states of the lake's Iceberg tables, and record their days. Returns the names of the changed tables."""
    if not list_below(lake, "iceberg"):
        return []
    # Imported here: pyiceberg takes a second.
    from hl_pipeline.lake.iceberg import TABLES

    with opened_catalog(connection, lake) as catalog:
        adopted = adopt_tables(connection, lake, catalog, TABLES)
        repair_ledger(connection, catalog, lake)
    return adopted


def days_left_alone(connection: psycopg.Connection, days: list[date]) -> list[date]:
    """Return the days with fills in the database that are not in `days`."""
    rows = connection.execute("SELECT date FROM hl.fills_days WHERE rows > 0 AND date <> ALL(%s) ORDER BY date", [days])
    return [row[0] for row in rows]
