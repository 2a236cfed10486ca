"""Remove what the lake's Iceberg tables no longer need: old snapshots, then the files that nothing refers to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from hl_pipeline.lake.store import Lake
from hl_pipeline.settings import Settings
from hl_pipeline.stages.adopt_tables import adopt_tables
from hl_pipeline.stages.compact import repair_ledger
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.warehouse.locks import lock_iceberg_table


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What vacuum removed from a table: snapshots by id, and files relative to the lake."""

    table: str
    snapshots: list[int]
    files: list[str]


def vacuum(lake: Lake, connection: psycopg.Connection, settings: Settings, *, dry_run: bool = False) -> list[Vacuumed]:
    """Expire the snapshots that were replaced HL_SNAPSHOTS_KEEP_DAYS ago, and remove files of the tables that no snapshot has.

    A file younger than a day (`iceberg.SAFE_AGE`) is never removed. `dry_run`: changes nothing, and does not list the files of
    snapshots that would expire.
    """
    # Imported here: pyiceberg takes a second.
    from hl_pipeline.lake.iceberg import (
        NAMESPACE,
        SAFE_AGE,
        TABLES,
        expire_snapshots,
        find_table,
        find_unreferenced,
        remove_files,
    )

    now = datetime.now(UTC)
    done: list[Vacuumed] = []
    with opened_catalog(connection, lake) as catalog:
        # Otherwise files that only newer metadata than the catalog's refers to would count as unneeded.
        adopt_tables(connection, lake, catalog, TABLES)
        repair_ledger(connection, catalog, lake)
        names = [name for _, name in catalog.list_tables(NAMESPACE)] if catalog.namespace_exists(NAMESPACE) else []
        for name in sorted({*names, "fills"}):
            with lock_iceberg_table(connection, name):
                expired: list[int] = []
                if (table := find_table(catalog, name)) is not None and not dry_run:
                    expired = expire_snapshots(table, now - timedelta(days=settings.snapshots_keep_days))
                    table = find_table(catalog, name)
                files = find_unreferenced(table, name, lake, now - SAFE_AGE)
                if not dry_run:
                    remove_files(lake, files)
            done.append(Vacuumed(name, expired, files))
    return done
