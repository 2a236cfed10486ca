"""The lake's Iceberg tables as a whole: which files they have, whether these are there, and where a moved lake has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat

import psycopg
from pyiceberg.io import load_file_io
from pyiceberg.table import StaticTable, Table

from hl_pipeline.lake.adopt import find_newer_metadata
from hl_pipeline.lake.fills import changing_path, list_changing_days
from hl_pipeline.lake.iceberg import TABLES, Catalog, find_table
from hl_pipeline.lake.relocate import relocate_metadata
from hl_pipeline.lake.snapshots import DataFile, count_rows, find_snapshot, list_data_files
from hl_pipeline.lake.store import Lake, exists, list_below
from hl_pipeline.stages.day_hours import find_missing_hours
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.warehouse.lake_days import list_current_days
from hl_pipeline.warehouse.lake_tables import LedgerDay, read_ledger_days, read_locations, replace_locations
from hl_pipeline.warehouse.locks import lock_iceberg_table
from hl_pipeline.warehouse.status_queries import read_fills_days

_ADOPT = "`hl rebuild` and `hl lake vacuum` let the catalog point to the newest state in the lake"


class NothingCompactedError(LookupError):
    """A table is not in the catalog yet. The message says what to do."""


class LakeMovedError(RuntimeError):
    """The catalog describes files of another lake. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What `hl lake verify` found. `is_lost`: something cannot be read, or is not what the catalog says."""

    table: str
    path: str
    what: str
    is_lost: bool


def require_place(connection: psycopg.Connection, lake: Lake) -> None:
    """Raise LakeMovedError if the catalog has tables of another lake."""
    for location in read_locations(connection).values():
        _within(lake, location)


def open_table(catalog: Catalog, name: str) -> Table:
    """Return a table of the catalog. Raises NothingCompactedError."""
    if (table := find_table(catalog, name)) is None:
        raise NothingCompactedError(
            f"hl.{name} is not in the lake's catalog, because no day was compacted yet. A day is compacted "
            "HL_COMPACT_AFTER_HOURS after its last change"
        )
    return table


def files_as_of(
    connection: psycopg.Connection, lake: Lake, as_of: datetime | None, names: Sequence[str] = TABLES
) -> dict[str, list[str]]:
    """Return the paths of each table's files at a time, or now. Tables without a snapshot of that time are left out.

    Raises NothingCompactedError and NoSnapshotError if that is every table.
    """
    found: dict[str, list[str]] = {}
    failed: LookupError | None = None
    with opened_catalog(connection, lake) as catalog:
        for name in names:
            try:
                table = open_table(catalog, name)
                files = list_data_files(table, find_snapshot(table, as_of))
            except LookupError as error:
                # That a table has no snapshot of the time says more than that another was never compacted.
                failed = error if failed is None or isinstance(failed, NothingCompactedError) else failed
                continue
            found[name] = [f"{lake.root}/{_within(lake, file.path)}" for file in files]
    if not found:
        assert failed is not None
        raise failed
    return {name: files for name, files in found.items() if files}


def _within(lake: Lake, location: str) -> str:
    """Return a location of the catalog as a path within the lake. Raises LakeMovedError."""
    if not location.startswith(f"{lake.url}/"):
        raise LakeMovedError(f"the catalog has {location}, but the lake is {lake.url}: if it was moved, run `hl lake relocate`")
    return location.removeprefix(f"{lake.url}/")


def verify_lake(connection: psycopg.Connection, lake: Lake) -> tuple[int, list[Fault]]:
    """Compare the files of each table with the catalog and the ledger. Returns the number of files, and what is wrong."""
    faults: list[Fault] = []
    count = 0
    ledger = read_ledger_days(connection)
    with opened_catalog(connection, lake) as catalog:
        known = [name for name in TABLES if name in read_locations(connection)]
        for name in known:
            try:
                table = open_table(catalog, name)
                current, others = _files_of(table)
            except FileNotFoundError as error:
                faults.append(Fault(name, "", f"metadata of the table is missing: {error}. {_ADOPT}", is_lost=True))
                continue
            if newer := find_newer_metadata(catalog, lake, name, read_locations(connection)[name]):
                faults.append(
                    Fault(name, _within(lake, newer), f"the catalog does not have this newer state. {_ADOPT}", is_lost=True)
                )
            days = [day for day in ledger if day.table_name == name]
            there = list_below(lake, f"iceberg/{name}/data")
            count += len(there)
            faults += _compare_files(lake, name, current, there, "")
            faults += _compare_files(lake, name, others, there, " of an earlier snapshot")
            faults += _compare_ledger(lake, name, current, days)
            referenced = {_within(lake, file.path) for file in (*current, *others)}
            faults += [
                Fault(name, path, "no snapshot has it; `hl lake vacuum` removes it after a day", is_lost=False)
                for path in sorted(there.keys() - referenced)
            ]
    lost = sorted({day.table_name for day in ledger} - {*known})
    faults += [
        Fault(name, "", f"the ledger has days of it, but the catalog does not have the table. {_ADOPT}", is_lost=True)
        for name in lost
    ]
    faults += _find_lost_hours(connection, lake)
    faults += [
        Fault(
            "fills",
            changing_path(day),
            f"{day} is being loaded, or a load was killed: `hl ingest --from {day} --to {day}` ends it",
            is_lost=False,
        )
        for day in list_changing_days(lake)
    ]
    return count, faults


def _find_lost_hours(connection: psycopg.Connection, lake: Lake) -> Iterator[Fault]:
    """Find hours of fills that are not in the lake, and not in a current compacted file either."""
    current = list_current_days(connection)
    for day in read_fills_days(connection):
        if day.rows and day.date not in current and (hours := find_missing_hours(day.date, lake, connection)):
            what = f"the hours {hours} are missing: run `hl rebuild --from {day.date} --to {day.date}`"
            yield Fault("fills", f"fills/date={day.date}", what, is_lost=True)


def _files_of(table: Table) -> tuple[list[DataFile], list[DataFile]]:
    """Return the files of the current snapshot, and those that only earlier ones have."""
    snapshot = table.current_snapshot()
    current = [] if snapshot is None else list_data_files(table, snapshot)
    manifests = {manifest.manifest_path: manifest for one in table.snapshots() for manifest in one.manifests(table.io)}
    every = {
        entry.data_file.file_path: DataFile(
            entry.data_file.file_path, entry.data_file.record_count, entry.data_file.file_size_in_bytes
        )
        for manifest in manifests.values()
        for entry in manifest.fetch_manifest_entry(table.io)
    }
    now = {file.path for file in current}
    return current, [file for path, file in sorted(every.items()) if path not in now]


def _compare_files(lake: Lake, name: str, files: list[DataFile], there: dict[str, int], where: str) -> Iterator[Fault]:
    """Compare the files' sizes and row counts with the catalog's."""
    present: list[tuple[str, DataFile]] = []
    for file in files:
        path = _within(lake, file.path)
        size = there.get(path)
        if size is None:
            yield Fault(name, path, f"the file{where} is missing", is_lost=True)
        elif size != file.bytes:
            yield Fault(name, path, f"the file{where} has {size:,} bytes, but the catalog says {file.bytes:,}", is_lost=True)
        else:
            present.append((path, file))
    with ThreadPoolExecutor(8, thread_name_prefix="footer") as pool:
        for (path, file), rows in zip(present, pool.map(count_rows, repeat(lake), (path for path, _ in present)), strict=True):
            if rows != file.rows:
                says = rows if isinstance(rows, str) else f"has {rows:,} rows"
                yield Fault(name, path, f"the file{where} {says}, but the catalog says {file.rows:,} rows", is_lost=True)


def _compare_ledger(lake: Lake, name: str, current: list[DataFile], days: list[LedgerDay]) -> Iterator[Fault]:
    """Compare the ledger's days with the files of the current snapshot."""
    rows = {_within(lake, file.path): file.rows for file in current}
    named: set[str] = set()
    for day in days:
        named.update(day.files)
        if absent := [path for path in day.files if path not in rows]:
            what = f"the ledger has it for {day.date}, but the current snapshot does not"
            yield from (Fault(name, path, what, is_lost=True) for path in absent)
        elif (found := sum(rows[path] for path in day.files)) != day.rows:
            what = f"{day.date} has {found:,} rows, but the ledger says {day.rows:,}"
            yield Fault(name, day.files[0] if day.files else "", what, is_lost=True)
    yield from (
        Fault(name, path, "the current snapshot has it, but the ledger has no day with it", is_lost=True)
        for path in sorted(rows.keys() - named)
    )


def relocate_lake(connection: psycopg.Connection, lake: Lake) -> list[str]:
    """Let the catalog point to the lake where it is now. Returns the names of the tables that had another place.

    All tables change in one transaction. Raises FileNotFoundError if a file is not where the lake is now.
    """
    moved: dict[str, str] = {}
    with ExitStack() as opened:
        catalog = opened.enter_context(opened_catalog(connection, lake))
        for name in read_locations(connection):
            opened.enter_context(lock_iceberg_table(connection, name))
        for name, location in read_locations(connection).items():
            old = location.partition("/iceberg/")[0]
            if old != lake.url:
                moved[name] = relocate_metadata(load_file_io(dict(catalog.properties), lake.url), location, old, lake.url)
                _require_files(lake, moved[name], catalog)
        replace_locations(connection, moved)
    return sorted(moved)


def _require_files(lake: Lake, location: str, catalog: Catalog) -> None:
    """Raise FileNotFoundError if a file of the current snapshot is not in the lake."""
    table = StaticTable.from_metadata(location, dict(catalog.properties))
    current, _ = _files_of(table)
    for file in current:
        if not exists(lake, path := _within(lake, file.path)):
            raise FileNotFoundError(path)
