"""Lets the catalog point to the newest metadata in the lake, after the database was lost or restored, or a commit was killed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from hl_pipeline.events import emit
from hl_pipeline.lake.store import Lake
from hl_pipeline.warehouse.lake_days import LakeDay, forget_lake_days, read_lake_days, record_lake_day
from hl_pipeline.warehouse.lake_tables import read_locations, replace_locations
from hl_pipeline.warehouse.locks import lock_iceberg_table

if TYPE_CHECKING:
    from hl_pipeline.lake.iceberg import Catalog, Table

_log = logging.getLogger(__name__)
_UNKNOWN = "unknown"


def adopt_tables(connection: psycopg.Connection, lake: Lake, catalog: Catalog, names: Iterable[str]) -> list[str]:
    """Register the newest metadata of these tables, and record the days of derived tables. Returns the names of the changed ones.

    `compact.repair_ledger` records the days of fills. A catalog of another place is left to `hl lake relocate`.
    """
    # Imported here: pyiceberg takes a second.
    from pyiceberg.exceptions import NamespaceAlreadyExistsError

    from hl_pipeline.lake.adopt import find_newer_metadata
    from hl_pipeline.lake.iceberg import NAMESPACE, find_table

    changed: list[str] = []
    for name in names:
        with lock_iceberg_table(connection, name):
            known = read_locations(connection).get(name)
            if known is not None and not known.startswith(f"{lake.url}/"):
                continue
            newest = find_newer_metadata(catalog, lake, name, known)
            if newest is None:
                continue
            if known is None:
                with suppress(NamespaceAlreadyExistsError):
                    catalog.create_namespace(NAMESPACE)
                catalog.register_table((NAMESPACE, name), newest)
            else:
                replace_locations(connection, {name: newest})
            changed.append(name)
            emit(_log, "table_adopted", level=logging.WARNING, table=name, metadata=newest)
            table = find_table(catalog, name)
            if name != "fills" and table is not None:
                _record_days(connection, lake, table, name)
    return changed


def _record_days(connection: psycopg.Connection, lake: Lake, table: Table, name: str) -> None:
    """Make hl.lake_days say what the current snapshot has. What a day was made from is unknown if its snapshot has expired."""
    from hl_pipeline.lake.iceberg import files_by_day
    from hl_pipeline.lake.snapshots import list_versions

    versions = {version.snapshot_id: version for version in list_versions(table)}
    published, known = files_by_day(table, lake), read_lake_days(connection, name)
    forget_lake_days(connection, name, sorted(known.keys() - published.keys()))
    newest = max(versions.values(), key=lambda version: version.at, default=None)
    for day, files in published.items():
        paths = [file.path for file in files]
        if (day in known and known[day].files == paths) or newest is None:
            continue
        version = versions.get(files[-1].snapshot_id, newest)
        facts = version.facts if version.facts.get("day") == str(day) else {}
        found = LakeDay(
            date=day,
            files=paths,
            rows=sum(file.rows for file in files),
            bytes=sum(file.bytes for file in files),
            snapshot_id=files[-1].snapshot_id,
            state=facts.get("state", _UNKNOWN),
            made_from=facts.get("made_from", _UNKNOWN),
            loaded_at=version.at,
            notional=None,
            notional_unknown=None,
        )
        record_lake_day(connection, name, found)
