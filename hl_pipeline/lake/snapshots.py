"""What an Iceberg table of the lake holds: its snapshots, and the files of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow.parquet as pq
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from hl_pipeline.lake.store import Lake


class NoSnapshotError(LookupError):
    """The table has no snapshot, or none that is old enough. The message says which times it has."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a snapshot, as the catalog describes it. `path` is absolute, or a URL."""

    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TableVersion:
    """A snapshot with its totals. `facts`: what hl-pipeline recorded in it, like the day and its verdict."""

    snapshot_id: int
    at: datetime
    is_current: bool
    rows: int
    files: int
    bytes: int
    facts: dict[str, str]


def list_versions(table: Table) -> list[TableVersion]:
    """Return the table's snapshots, newest first."""
    current = table.current_snapshot()
    versions = [_version(snapshot, snapshot == current) for snapshot in table.snapshots()]
    return sorted(versions, key=lambda version: version.at, reverse=True)


def _version(snapshot: Snapshot, is_current: bool) -> TableVersion:
    summary = {} if snapshot.summary is None else snapshot.summary.additional_properties
    return TableVersion(
        snapshot_id=snapshot.snapshot_id,
        at=_time_of(snapshot),
        is_current=is_current,
        rows=int(summary.get("total-records", 0)),
        files=int(summary.get("total-data-files", 0)),
        bytes=int(summary.get("total-files-size", 0)),
        facts={name.removeprefix("hl."): value for name, value in summary.items() if name.startswith("hl.")},
    )


def _time_of(snapshot: Snapshot) -> datetime:
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)


def find_snapshot(table: Table, as_of: datetime | None) -> Snapshot:
    """Return the snapshot that was current at a time, or the current one. Raises NoSnapshotError."""
    name = ".".join(table.name())
    current = table.current_snapshot()
    if current is None:
        raise NoSnapshotError(f"{name} has no snapshot: no day was compacted yet")
    if as_of is None:
        return current
    found = table.snapshot_as_of_timestamp(int(as_of.timestamp() * 1000))
    known = None if found is None else table.snapshot_by_id(found.snapshot_id)
    if known is None:
        times = sorted(_time_of(snapshot) for snapshot in table.snapshots())
        raise NoSnapshotError(
            f"{name} has no snapshot of {as_of:%Y-%m-%dT%H:%M:%SZ}; the oldest is of {times[0]:%Y-%m-%dT%H:%M:%S.%fZ}, "
            f"the newest of {times[-1]:%Y-%m-%dT%H:%M:%S.%fZ}: give a time from the oldest on"
        )
    return known


def list_data_files(table: Table, snapshot: Snapshot) -> list[DataFile]:
    """Return the files of a snapshot, ordered by path."""
    files = [task.file for task in table.scan(snapshot_id=snapshot.snapshot_id).plan_files()]
    return sorted((DataFile(f.file_path, f.record_count, f.file_size_in_bytes) for f in files), key=lambda file: file.path)


def count_rows(lake: Lake, path: str) -> int | str:
    """Return the number of rows in the footer of a file (`path` within the lake), or what is wrong with it."""
    try:
        with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
            return pq.read_metadata(file).num_rows
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
