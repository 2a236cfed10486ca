"""Writes the metadata of an Iceberg table again after its lake has moved: Iceberg keeps absolute paths.

Nothing that exists is changed. The new files have names of their own, and the caller lets the catalog point to them.
"""

from __future__ import annotations

import json
import uuid
from copy import copy
from typing import Any

from pyiceberg.io import FileIO
from pyiceberg.manifest import DATA_FILE_TYPE, ManifestFile, read_manifest_list, write_manifest, write_manifest_list
from pyiceberg.serializers import FromInputFile
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil
from pyiceberg.table.snapshots import Snapshot

_COMPRESSION = "deflate"
_MANIFEST_PATH, _MANIFEST_LENGTH = 0, 1
_DATA_FILE_PATH = [field.name for field in DATA_FILE_TYPE[2].fields].index("file_path")


def relocate_metadata(io: FileIO, metadata_location: str, old: str, new: str) -> str:
    """Write the metadata of a table again, with `new` in place of `old` at the beginning of each path.

    `metadata_location`: the table's metadata in the catalog, still below `old`. All files are read below `new`. Returns the
    location of the new metadata. Raises FileNotFoundError if a file of a snapshot is not there.
    """
    moved = _moved(metadata_location, old, new)
    known: TableMetadata = FromInputFile.table_metadata(io.new_input(moved))
    base, _, name = moved.rpartition("/")
    manifests: dict[str, ManifestFile] = {}
    lists = {snapshot.snapshot_id: _write_list(io, snapshot, known, manifests, base, old, new) for snapshot in known.snapshots}
    with io.new_input(moved).open() as file:
        plain: dict[str, Any] = _walk(json.loads(file.read()), old, new)
    for snapshot in plain.get("snapshots", []):
        snapshot["manifest-list"] = lists[snapshot["snapshot-id"]]
    target = f"{base}/{int(name.split('-')[0]) + 1:05}-{uuid.uuid4()}.metadata.json"
    text = json.dumps(plain)
    # Refuses what pyiceberg could not read again.
    TableMetadataUtil.parse_raw(text)
    with io.new_output(target).create() as out:
        out.write(text.encode())
    return target


def _moved(path: str, old: str, new: str) -> str:
    return new + path.removeprefix(old) if path == old or path.startswith(f"{old}/") else path


def _walk(value: Any, old: str, new: str) -> Any:
    """Return a value of JSON with each path below `old` moved."""
    match value:
        case dict():
            return {name: _walk(inner, old, new) for name, inner in value.items()}
        case list():
            return [_walk(inner, old, new) for inner in value]
        case str():
            return _moved(value, old, new)
        case _:
            return value


def _write_list(
    io: FileIO, snapshot: Snapshot, known: TableMetadata, manifests: dict[str, ManifestFile], base: str, old: str, new: str
) -> str:
    """Write the list of a snapshot's manifests, and those manifests that no earlier snapshot has. Returns the list's path."""
    of_snapshot: list[ManifestFile] = []
    for manifest in read_manifest_list(io.new_input(_moved(snapshot.manifest_list, old, new))):
        if manifest.manifest_path not in manifests:
            manifests[manifest.manifest_path] = _write_manifest(io, manifest, known, base, old, new)
        of_snapshot.append(manifests[manifest.manifest_path])
    path = f"{base}/snap-{snapshot.snapshot_id}-0-{uuid.uuid4()}.avro"
    with write_manifest_list(
        known.format_version,
        io.new_output(path),
        snapshot.snapshot_id,
        snapshot.parent_snapshot_id,
        snapshot.sequence_number,
        _COMPRESSION,
    ) as writer:
        writer.add_manifests(of_snapshot)
    return path


def _write_manifest(io: FileIO, manifest: ManifestFile, known: TableMetadata, base: str, old: str, new: str) -> ManifestFile:
    source = copy(manifest)
    source[_MANIFEST_PATH] = _moved(manifest.manifest_path, old, new)
    output = io.new_output(f"{base}/{uuid.uuid4()}-m0.avro")
    assert manifest.added_snapshot_id is not None
    spec = known.specs()[manifest.partition_spec_id]
    with write_manifest(known.format_version, spec, known.schema(), output, manifest.added_snapshot_id, _COMPRESSION) as writer:
        for entry in source.fetch_manifest_entry(io, discard_deleted=False):
            entry.data_file[_DATA_FILE_PATH] = _moved(entry.data_file.file_path, old, new)
            writer.add_entry(entry)
    # Counts, bounds and sequence numbers stay; only the place and the size are new.
    written = copy(manifest)
    written[_MANIFEST_PATH], written[_MANIFEST_LENGTH] = output.location, len(output)
    return written
