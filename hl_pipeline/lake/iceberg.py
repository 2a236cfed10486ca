"""The lake's Apache Iceberg tables: open the catalog, create a table, publish a day, expire snapshots, find unreferenced files.

    iceberg/<table>/data/date=2026-03-15/<UTC time>-<random>.parquet     never changed after it was published
    iceberg/<table>/metadata/                                            snapshots and manifests

The caller hands in the connection to the catalog and holds the table's lock for each commit (`warehouse.locks`). Which rows a
file has is not decided here.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyiceberg.catalog import MetastoreCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import parquet_file_to_data_file, pyarrow_to_schema
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.table.update.snapshot import ExpireSnapshots, _ManifestMergeManager, _OverwriteFiles
from pyiceberg.transforms import DayTransform, IdentityTransform

from hl_pipeline.lake.store import Lake, list_tree, remove

if TYPE_CHECKING:
    from sqlalchemy import Engine

CATALOG = "hl"
NAMESPACE = "hl"
TABLES = ("fills", "twaps", "candles", "daily_stats", "user_stats")
"""The tables that may be in the catalog. Those with a day at rest are."""
SAFE_AGE = timedelta(hours=24)
"""Younger files are never removed: a running compaction or commit may be about to refer to them."""

_DIRECTORY = "iceberg"
_EPOCH = date(1970, 1, 1)
_MANIFESTS_TO_MERGE = 8
_MANIFEST_BYTES = 8 << 20
_METADATA_KEPT = 20


class Catalog(SqlCatalog):
    """pyiceberg's catalog on an engine that it did not make, whose tables a migration has created."""

    def __init__(self, engine: Engine, properties: Mapping[str, str]) -> None:
        # Not SqlCatalog's: it connects by a URL without our session settings, and creates missing tables.
        MetastoreCatalog.__init__(self, CATALOG, **properties)
        self.engine = engine
        self._schema_version = "v1"

    @staticmethod
    def _write_metadata(metadata: TableMetadata, io: FileIO, metadata_path: str) -> None:
        """Write the table's new metadata. On a disk, everything it refers to is durable before the catalog refers to it."""
        SqlCatalog._write_metadata(metadata, io, metadata_path)
        if not metadata_path.startswith("file://"):
            return
        written = [metadata_path]
        if (snapshot := metadata.current_snapshot()) is not None:
            manifests = [one.manifest_path for one in snapshot.manifests(io) if one.added_snapshot_id == snapshot.snapshot_id]
            written += [snapshot.manifest_list, *manifests]
        for location in written:
            with Path(location.removeprefix("file://")).open("rb") as file:
                os.fsync(file.fileno())


class _ReplaceFiles(_OverwriteFiles):
    """One snapshot that deletes and adds data files, and merges small manifests, which pyiceberg does for appends alone."""

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        return _ManifestMergeManager(
            target_size_bytes=_MANIFEST_BYTES,
            min_count_to_merge=_MANIFESTS_TO_MERGE,
            merge_enabled=True,
            snapshot_producer=self,
        ).merge_manifests(manifests)


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A data file of the current snapshot: path relative to the lake, rows, bytes, and the snapshot that added it."""

    path: str
    rows: int
    bytes: int
    snapshot_id: int


def data_directory(table: str, day: date) -> str:
    """Return the directory of a day's data files, relative to the lake."""
    return f"{_DIRECTORY}/{table}/data/date={day}"


def new_data_path(table: str, day: date) -> str:
    """Return a path for a new data file of a day, relative to the lake. No two calls return the same."""
    return f"{data_directory(table, day)}/{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:16]}.parquet"


def spill_directory(table: str) -> str:
    """Return the directory of files that a sort of a day may need for a while, relative to the lake."""
    return f"{_DIRECTORY}/{table}/spill"


def open_catalog(engine: Engine, lake: Lake) -> Catalog:
    """Open the catalog of the lake's tables. Raises ValueError if a path of the lake could not be read back from a URL."""
    if lake.is_local and (bad := [sign for sign in "?#%" if sign in lake.root]):
        raise ValueError(f"{lake.root}: the lake's tables need a directory without {' '.join(bad)} in its path; move the lake")
    properties = {"warehouse": f"{lake.url}/{_DIRECTORY}", "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO", **lake.access}
    return Catalog(engine, properties)


def find_table(catalog: Catalog, name: str) -> Table | None:
    """Return a table as it is now, or None if nothing was ever published in it."""
    try:
        return catalog.load_table((NAMESPACE, name))
    except NoSuchTableError:
        return None


def ensure_table(
    catalog: Catalog,
    lake: Lake,
    name: str,
    schema: pa.Schema,
    *,
    day_of: str,
    sorted_by: Sequence[str],
    with_bounds: Sequence[str],
) -> Table:
    """Return a table, created if needed. The caller holds its lock.

    `schema`: has field ids (`with_field_ids`). `day_of`: the timestamp or date whose UTC day is the partition. `with_bounds`:
    the columns whose minimum and maximum stand in the manifests; `day_of` must be one.
    """
    if (table := find_table(catalog, name)) is not None:
        return table
    iceberg = pyarrow_to_schema(schema)
    transform = IdentityTransform() if pa.types.is_date(schema.field(day_of).type) else DayTransform()
    spec = PartitionSpec(PartitionField(iceberg.find_field(day_of).field_id, 1000, transform, f"{day_of}_day"))
    order = SortOrder(*(SortField(iceberg.find_field(column).field_id, IdentityTransform()) for column in sorted_by))
    properties = {
        TableProperties.FORMAT_VERSION: "2",
        TableProperties.DEFAULT_NAME_MAPPING: iceberg.name_mapping.model_dump_json(),
        TableProperties.METADATA_PREVIOUS_VERSIONS_MAX: str(_METADATA_KEPT),
        TableProperties.DEFAULT_WRITE_METRICS_MODE: "none",
        **{f"{TableProperties.METRICS_MODE_COLUMN_CONF_PREFIX}.{column}": "full" for column in with_bounds},
    }
    with suppress(NamespaceAlreadyExistsError):
        catalog.create_namespace(NAMESPACE)
    try:
        return catalog.create_table(
            (NAMESPACE, name),
            iceberg,
            f"{lake.url}/{_DIRECTORY}/{name}",
            partition_spec=spec,
            sort_order=order,
            properties=properties,
        )
    except TableAlreadyExistsError:
        return catalog.load_table((NAMESPACE, name))


def with_field_ids(schema: pa.Schema) -> pa.Schema:
    """Return `schema` with the ids 1, 2, … by which Iceberg knows columns, in Parquet files too."""
    return pa.schema(
        [
            field.with_metadata({**(field.metadata or {}), b"PARQUET:field_id": str(number).encode()})
            for number, field in enumerate(schema, start=1)
        ]
    )


def publish_day(table: Table, lake: Lake, day: date, paths: Iterable[str], summary: Mapping[str, str]) -> int:
    """Make `paths` (relative to the lake) the day's only data files, in one snapshot. Returns its id.

    `summary`: facts about the day for the snapshot's summary. The caller holds the table's lock and loaded the table under it.
    Every reader sees the old day or the new one.
    """
    old = [file for file, _ in _live_files(table) if _day_of(file) == day]
    with table.transaction() as transaction:
        producer = _ReplaceFiles(
            operation=Operation.OVERWRITE if old else Operation.APPEND,
            transaction=transaction,
            io=table.io,
            snapshot_properties={f"hl.{name}": value for name, value in {"day": str(day), **summary}.items()},
        )
        for file in old:
            producer.delete_data_file(file)
        for path in paths:
            new = parquet_file_to_data_file(table.io, transaction.table_metadata, f"{lake.url}/{path}")
            assert _day_of(new) == day, f"{path} has rows of another day than {day}"
            producer.append_data_file(new)
        producer.commit()
    return producer.snapshot_id


def files_by_day(table: Table | None, lake: Lake) -> dict[date, list[PublishedFile]]:
    """Return the data files of the current snapshot by day."""
    found: dict[date, list[PublishedFile]] = {}
    for file, snapshot_id in _live_files(table) if table is not None else ():
        path = file.file_path.removeprefix(f"{lake.url}/")
        found.setdefault(_day_of(file), []).append(PublishedFile(path, file.record_count, file.file_size_in_bytes, snapshot_id))
    return found


def expire_snapshots(table: Table, superseded_before: datetime) -> list[int]:
    """Expire the snapshots that were current until `superseded_before` at the latest. Returns their ids.

    Not by their own age: a snapshot may have been current for a year until a moment ago, and is still being read. The caller
    holds the table's lock.
    """
    history = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
    limit_ms = superseded_before.timestamp() * 1000
    expired = [old.snapshot_id for old, new in pairwise(history) if new.timestamp_ms <= limit_ms]
    protected = {ref.snapshot_id for ref in table.metadata.refs.values()}
    expired = [number for number in expired if number not in protected]
    if expired:
        with table.transaction() as transaction:
            ExpireSnapshots(transaction).by_ids(expired).commit()
    return expired


def find_unreferenced(table: Table | None, name: str, lake: Lake, changed_before: datetime) -> list[str]:
    """Return the files of a table that neither a snapshot nor its metadata refers to, last changed before `changed_before`.

    The paths are relative to the lake. The caller holds the table's lock.
    """
    referenced = _referenced(table, lake) if table is not None else set[str]()
    return [
        path for path, changed in list_tree(lake, f"{_DIRECTORY}/{name}") if path not in referenced and changed < changed_before
    ]


def remove_files(lake: Lake, paths: Collection[str]) -> None:
    """Delete files of the lake, and the directories on a disk that became empty."""
    for path in paths:
        remove(lake, path)
    if lake.is_local:
        for parent in {Path(lake.root, path).parent for path in paths}:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _referenced(table: Table, lake: Lake) -> set[str]:
    """Return the files that the table's metadata and its snapshots refer to, relative to the lake."""
    metadata = table.metadata
    locations = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    locations |= {file.statistics_path for file in [*metadata.statistics, *metadata.partition_statistics]}
    manifests: dict[str, ManifestFile] = {}
    for snapshot in metadata.snapshots:
        locations.add(snapshot.manifest_list)
        manifests |= {manifest.manifest_path: manifest for manifest in snapshot.manifests(table.io)}
    for path, manifest in manifests.items():
        locations.add(path)
        locations |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)}
    return {location.removeprefix(f"{lake.url}/") for location in locations}


def _live_files(table: Table) -> list[tuple[DataFile, int]]:
    """Return the data files of the current snapshot, each with the snapshot that added it."""
    if (snapshot := table.metadata.current_snapshot()) is None:
        return []
    return [
        (entry.data_file, entry.snapshot_id or snapshot.snapshot_id)
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    ]


def _day_of(file: DataFile) -> date:
    value: Any = file.partition[0]
    return value if isinstance(value, date) else _EPOCH + timedelta(days=value)
