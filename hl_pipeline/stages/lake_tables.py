"""The lake's Iceberg tables as a whole: which files they have, whether these are there, and where a moved lake has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import psycopg
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import load_file_io
from pyiceberg.table import Table

from hl_pipeline.lake.relocate import relocate_metadata
from hl_pipeline.lake.snapshots import DataFile, find_snapshot, list_data_files
from hl_pipeline.lake.store import Lake, list_below
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.warehouse.lake_tables import LedgerDay, read_ledger_days, read_locations, replace_locations

TABLES = ("fills", "twaps", "candles", "daily_stats", "user_stats")
"""The tables that may be in the catalog. Those with a day at rest are."""


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


def open_table(catalog: Catalog, name: str) -> Table:
    """Return a table of the catalog. Raises NothingCompactedError."""
    try:
        return catalog.load_table(("hl", name))
    except NoSuchTableError:
        raise NothingCompactedError(
            f"hl.{name} is not in the lake's catalog: no day was compacted yet. A day is compacted HL_COMPACT_AFTER_HOURS after its "
            "last change, or at once when you materialize its compaction"
        ) from None


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
                failed = failed or error
                continue
            found[name] = [path_within(lake, file.path) for file in files]
    if not found:
        assert failed is not None
        raise failed
    return {name: files for name, files in found.items() if files}


def path_within(lake: Lake, location: str) -> str:
    """Return a location of the catalog as a path of the lake's file system. Raises LakeMovedError."""
    path = location.removeprefix("file://").removeprefix("s3://")
    if not path.startswith(f"{lake.root}/"):
        raise LakeMovedError(f"the catalog has {location}, but the lake is {lake.root}: if it was moved, run `hl lake relocate`")
    return path


def verify_lake(connection: psycopg.Connection, lake: Lake) -> tuple[int, list[Fault]]:
    """Compare the files of each table with the catalog and the ledger. Returns the number of files, and what is wrong."""
    faults: list[Fault] = []
    count = 0
    ledger = read_ledger_days(connection)
    with opened_catalog(connection, lake) as catalog:
        known = [name for name in TABLES if catalog.table_exists(("hl", name))]
        for name in known:
            table = open_table(catalog, name)
            days = [day for day in ledger if day.table_name == name]
            current, others = _files_of(table)
            there = list_below(lake, f"iceberg/{name}/data")
            count += len(there)
            faults += _compare_files(lake, name, current, there, "")
            faults += _compare_files(lake, name, others, there, " of an earlier snapshot")
            faults += _compare_ledger(lake, name, current, days)
            referenced = {path_within(lake, file.path) for file in (*current, *others)}
            faults += [
                Fault(name, path, "no snapshot has it; `hl lake vacuum` removes it after a day", is_lost=False)
                for path in sorted({f"{lake.root}/{path}" for path in there} - referenced)
            ]
    lost = sorted({day.table_name for day in ledger} - {*known})
    faults += [
        Fault(name, "", "the ledger has days of it, but the catalog does not have the table", is_lost=True) for name in lost
    ]
    return count, faults


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
        path = path_within(lake, file.path)
        size = there.get(path.removeprefix(f"{lake.root}/"))
        if size is None:
            yield Fault(name, path, f"the file{where} is missing", is_lost=True)
        elif size != file.bytes:
            yield Fault(name, path, f"the file{where} has {size:,} bytes, but the catalog says {file.bytes:,}", is_lost=True)
        else:
            present.append((path, file))
    with ThreadPoolExecutor(8, thread_name_prefix="footer") as pool:
        for (path, file), rows in zip(present, pool.map(lambda one: _count_rows(lake, one[0]), present), strict=True):
            if rows != file.rows:
                says = rows if isinstance(rows, str) else f"has {rows:,} rows"
                yield Fault(name, path, f"the file{where} {says}, but the catalog says {file.rows:,} rows", is_lost=True)


def _count_rows(lake: Lake, path: str) -> int | str:
    """Return the number of rows in the footer of a file, or what is wrong with it."""
    try:
        with lake.filesystem.open_input_file(path) as file:
            return pq.read_metadata(file).num_rows
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"


def _compare_ledger(lake: Lake, name: str, current: list[DataFile], days: list[LedgerDay]) -> Iterator[Fault]:
    """Compare the ledger's days with the files of the current snapshot."""
    rows = {path_within(lake, file.path): file.rows for file in current}
    named: set[str] = set()
    for day in days:
        paths = [f"{lake.root}/{path}" for path in day.files]
        named.update(paths)
        if absent := [path for path in paths if path not in rows]:
            what = f"the ledger has it for {day.date}, but the current snapshot does not"
            yield from (Fault(name, path, what, is_lost=True) for path in absent)
        elif (found := sum(rows[path] for path in paths)) != day.rows:
            what = f"{day.date} has {found:,} rows, but the ledger says {day.rows:,}"
            yield Fault(name, paths[0] if paths else "", what, is_lost=True)
    yield from (
        Fault(name, path, "the current snapshot has it, but the ledger has no day with it", is_lost=True)
        for path in sorted(rows.keys() - named)
    )


def relocate_lake(connection: psycopg.Connection, lake: Lake) -> list[str]:
    """Let the catalog point to the lake where it is now. Returns the names of the tables that had another place.

    All tables change in one transaction. Raises FileNotFoundError if a file is not where the lake is now.
    """
    moved: dict[str, str] = {}
    with opened_catalog(connection, lake) as catalog:
        for name, location in read_locations(connection).items():
            old = location.partition("/iceberg/")[0]
            new = lake.root if lake.is_local else f"s3://{lake.root}"
            new = f"file://{new}" if old.startswith("file://") and lake.is_local else new
            if old != new:
                io = load_file_io(dict(catalog.properties), new)
                moved[name] = relocate_metadata(io, location, old, new)
    replace_locations(connection, moved)
    return sorted(moved)


@dataclass(frozen=True, slots=True)
class Tier:
    """What one way to keep fills takes. `days`: those that it has."""

    name: str
    bytes: int
    days: int

    @property
    def bytes_a_year(self) -> int | None:
        """What a year of such days would take, or None if there is no day."""
        return round(self.bytes / self.days * 365) if self.days else None


def measure_lake(lake: Lake) -> list[Tier]:
    """Return the sizes of the hot hours, the compacted days and the raw objects."""
    tiers: list[Tier] = []
    for name, directories in (
        ("hot hours", ("fills",)),
        ("compacted", ("iceberg/fills/data",)),
        ("raw", ("raw_fills", "api_fills", "raw_twap_statuses", "api_twap_history")),
    ):
        files = {path: size for directory in directories for path, size in list_below(lake, directory).items()}
        days = {part for path in files for part in path.split("/") if part.partition("=")[0] in ("date", "object_date")}
        tiers.append(Tier(name, sum(files.values()), len({day.partition("=")[2] for day in days})))
    return tiers
