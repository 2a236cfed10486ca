"""The lake as files: location, atomic writes, listings, and objects with their metadata in Parquet under the key `hl`. The other
modules of `lake` have schemas and paths.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq

from hl_pipeline.domain.records import ApiShard, ObjectMeta, StatusObject
from hl_pipeline.events import emit
from hl_pipeline.formats.fills import BadLine

META_KEY = b"hl"

Meta = TypeVar("Meta", ObjectMeta, StatusObject, ApiShard)
"""The metadata of an object in the lake."""

_log = logging.getLogger(__name__)


class LakeChangedError(RuntimeError):
    """A file of the lake changed after it was listed: another process has fetched its object again."""


@dataclass(frozen=True, slots=True)
class Lake:
    """The directory or S3 prefix of the lake. `access`: how other libraries open the S3 prefix, secrets included."""

    filesystem: pa_fs.FileSystem
    root: str
    access: dict[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pa_fs.LocalFileSystem)

    @property
    def url(self) -> str:
        return f"file://{self.root}" if self.is_local else f"s3://{self.root}"


def open_lake(url: str) -> Lake:
    """Open the lake at `url`: a directory (created if needed) or `s3://bucket/prefix` (credentials and endpoint from boto3)."""
    if not url.startswith("s3://"):
        root = Path(url).absolute()
        root.mkdir(parents=True, exist_ok=True)
        return Lake(pa_fs.LocalFileSystem(), str(root))
    import boto3

    session = boto3.Session()
    credentials = session.get_credentials()
    if credentials is None:
        raise ValueError(f"{url}: no AWS credentials found; set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    client = session.client("s3")
    endpoint = client.meta.endpoint_url
    filesystem = pa_fs.S3FileSystem(
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.token,
        region=client.meta.region_name,
        endpoint_override=endpoint.split("://")[1],
        scheme=endpoint.split("://")[0],
        # Arrow's own 3 seconds would fail a run whose bucket stalls for ten.
        connect_timeout=10,
        request_timeout=30,
        retry_strategy=pa_fs.AwsStandardS3RetryStrategy(max_attempts=5),
    )
    access = {
        "s3.access-key-id": credentials.access_key,
        "s3.secret-access-key": credentials.secret_key,
        "s3.session-token": credentials.token,
        "s3.region": client.meta.region_name,
        "s3.endpoint": endpoint,
    }
    known = {name: value for name, value in access.items() if value is not None}
    return Lake(filesystem, url.removeprefix("s3://").rstrip("/"), known)


@contextmanager
def replacing(lake: Lake, path: str) -> Generator[Path]:
    """Yield a local file to write. If the block succeeds, the file atomically replaces `path`; otherwise nothing changes.

    One writer per path at a time (the callers hold a lock), so the next writer overwrites the file of a killed one.
    """
    target = f"{lake.root}/{path}"
    if lake.is_local:
        final = Path(target)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.tmp")
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        return
    with TemporaryDirectory(prefix="hl-lake-") as directory:
        temporary = Path(directory) / "upload"
        yield temporary
        pa_fs.copy_files(
            str(temporary), target, source_filesystem=pa_fs.LocalFileSystem(), destination_filesystem=lake.filesystem
        )


def remove(lake: Lake, path: str) -> None:
    """Delete a file. A missing file is not an error."""
    if exists(lake, path):
        lake.filesystem.delete_file(f"{lake.root}/{path}")


def exists(lake: Lake, path: str) -> bool:
    """Return whether the lake has a file at `path`."""
    return lake.filesystem.get_file_info(f"{lake.root}/{path}").type == pa_fs.FileType.File


def list_files(lake: Lake, directory: str) -> list[str]:
    """Return the sorted paths (relative to the lake) of the files in `directory`, without unfinished ones."""
    names = [info.base_name for info in _look_into(lake, directory) if info.type == pa_fs.FileType.File]
    return [f"{directory}/{name}" for name in sorted(names) if not name.startswith(".")]


def list_below(lake: Lake, directory: str) -> dict[str, int]:
    """Return the paths (relative to the lake) and sizes of all files below `directory`, without unfinished ones."""
    infos = _look_into(lake, directory, recursive=True)
    files = [info for info in infos if info.type == pa_fs.FileType.File and not info.base_name.startswith(".")]
    return {info.path.removeprefix(f"{lake.root}/"): info.size for info in files}


def _look_into(lake: Lake, directory: str, *, recursive: bool = False) -> list[pa_fs.FileInfo]:
    """List `directory`; empty if it does not exist."""
    selector = pa_fs.FileSelector(f"{lake.root}/{directory}", allow_not_found=True, recursive=recursive)
    try:
        return lake.filesystem.get_file_info(selector)
    except FileNotFoundError:
        # The directory appeared between Arrow's two checks, so it counts as missing.
        return lake.filesystem.get_file_info(selector)


@contextmanager
def replacing_object(lake: Lake, path: str, bad: Sequence[BadLine]) -> Generator[Path]:
    """Like `replacing`, for the rows of an object. The lines in `bad` at the end of the block go to its quarantine file."""
    with replacing(lake, path) as temporary:
        yield temporary
        # Written before the rows, so that rows never appear without their quarantine file.
        write_bad_lines(lake, path.removesuffix(".parquet") + ".bad.jsonl", bad)


def as_metadata(known: Meta | dict[str, Any]) -> dict[bytes, bytes]:
    """Return an object's metadata as Parquet metadata."""
    return {META_KEY: json.dumps(known if isinstance(known, dict) else asdict(known)).encode()}


def write_table(path: Path, table: pa.Table, known: Meta | dict[str, Any] | None, *, compression_level: int) -> None:
    """Write a whole table, with metadata if given."""
    if known is not None:
        table = table.replace_schema_metadata(as_metadata(known))
    pq.write_table(table, path, compression="zstd", compression_level=compression_level)


def find_meta(lake: Lake, path: str, type_: type[Meta]) -> Meta | None:
    """Return the metadata of the object at `path`, or None if there is none or, with a warning, a foreign file."""
    if not exists(lake, path):
        return None
    try:
        return read_meta(lake, path, type_)
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        emit(_log, "lake_file_unreadable", level=logging.WARNING, path=f"{lake.root}/{path}", error=error)
        return None


def read_meta(lake: Lake, path: str, type_: type[Meta]) -> Meta:
    """Return the metadata of the object at `path`, which must exist."""
    with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
        return _meta_of(file, type_)


def list_metas(lake: Lake, directory: str, type_: type[Meta]) -> list[Meta]:
    """Return the metadata of the objects in `directory`, ordered by path, without foreign files (see `find_meta`)."""
    paths = [path for path in list_files(lake, directory) if path.endswith(".parquet")]
    metas = [find_meta(lake, path, type_) for path in paths]
    return [meta for meta in metas if meta is not None]


def read_rows(lake: Lake, path: str, meta: Meta) -> pl.DataFrame:
    """Return the rows of the object at `path`. Raises LakeChangedError if the file has another version than `meta`."""
    with open_rows(lake, path, meta) as file:
        return pl.read_parquet(file, hive_partitioning=False)


def open_rows(lake: Lake, path: str, meta: Meta) -> BinaryIO:
    """Open the file of the object at `path`. Raises LakeChangedError if it has another version than `meta`."""
    file = open_file(lake, path)
    if _meta_of(file, type(meta)).etag != meta.etag:
        file.close()
        raise LakeChangedError(f"{path} was replaced while it was being read; run again")
    file.seek(0)
    return file


def _meta_of(file: pa.NativeFile | BinaryIO, type_: type[Meta]) -> Meta:
    known: dict[str, Any] = json.loads(pq.read_metadata(file).metadata[META_KEY])
    if "missing_blocks" in known:
        # JSON has no tuples.
        known["missing_blocks"] = [(first, last) for first, last in known["missing_blocks"]]
    return type_(**known)


def write_bad_lines(lake: Lake, path: str, bad: Sequence[BadLine]) -> None:
    """Replace the quarantine file at `path` by `bad`; without bad lines, remove it."""
    if not bad:
        remove(lake, path)
        return
    with replacing(lake, path) as temporary, temporary.open("w", encoding="ascii") as file:
        for line in bad:
            record: dict[str, object] = {"line": line.line, "event": line.event, "reason": line.reason}
            try:
                record["text"] = line.text.decode("utf-8")
            except UnicodeDecodeError:
                record["base64"] = base64.b64encode(line.text).decode()
            file.write(json.dumps(record) + "\n")


def list_days(lake: Lake, table: str) -> list[date]:
    """Return the days with files in a table (`object_date` of raw objects, `date` of events)."""
    key = "object_date" if table.startswith("raw_") else "date"
    infos = _look_into(lake, table, recursive=True)
    places = [re.fullmatch(rf"{key}=(\d{{4}}-\d\d-\d\d)/[^.].*\.parquet", "/".join(info.path.split("/")[-2:])) for info in infos]
    return sorted({date.fromisoformat(place[1]) for place in places if place})


def list_tree(lake: Lake, directory: str) -> list[tuple[str, datetime]]:
    """Return every file under `directory`, unfinished ones too: its path relative to the lake, and when it was last changed."""
    infos = [info for info in _look_into(lake, directory, recursive=True) if info.type == pa_fs.FileType.File]
    return sorted((info.path.removeprefix(f"{lake.root}/"), info.mtime or datetime.now(UTC)) for info in infos)


@contextmanager
def local_copies(lake: Lake, paths: Sequence[str], directory: Path) -> Generator[list[Path]]:
    """Yield local files with the contents of `paths`: the files themselves, or downloads in `directory`, deleted at the end."""
    if lake.is_local:
        yield [Path(lake.root, path) for path in paths]
        return
    copies = [directory / f"{number}-{Path(path).name}" for number, path in enumerate(paths)]
    try:
        for path, copy in zip(paths, copies, strict=True):
            pa_fs.copy_files(
                f"{lake.root}/{path}",
                str(copy),
                source_filesystem=lake.filesystem,
                destination_filesystem=pa_fs.LocalFileSystem(),
            )
        yield copies
    finally:
        for copy in copies:
            copy.unlink(missing_ok=True)


def open_file(lake: Lake, path: str) -> BinaryIO:
    """Open the current version of a file; replacing it meanwhile does not affect the reader."""
    if lake.is_local:
        return Path(lake.root, path).open("rb")
    with lake.filesystem.open_input_stream(f"{lake.root}/{path}") as stream:
        return BytesIO(stream.read())
