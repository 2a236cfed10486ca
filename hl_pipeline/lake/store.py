"""The lake as files: where it is, atomic writes, listings. What a file holds is for the other modules of `lake`."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Literal

import pyarrow.fs as pa_fs

from hl_pipeline.formats.fills import BadLine

META_KEY = b"hl"


class LakeChangedError(RuntimeError):
    """A file of the lake is not the one that was seen a moment ago: somebody else has brought its object anew."""


@dataclass(frozen=True, slots=True)
class Lake:
    """A directory or an S3 prefix that holds the lake."""

    filesystem: pa_fs.FileSystem
    root: str

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pa_fs.LocalFileSystem)


def open_lake(url: str) -> Lake:
    """The lake at `url`: a directory (made if need be) or `s3://bucket/prefix` (credentials and endpoint as boto3 finds them)."""
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
    )
    return Lake(filesystem, url.removeprefix("s3://").rstrip("/"))


@contextmanager
def replacing(lake: Lake, path: str) -> Generator[Path]:
    """A local file to write; when the block ends well it takes the place of `path` at once, else nothing has happened.

    One writer a path at a time (the callers hold a lock), so that what a killed writer left is overwritten by the next.
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
    """Delete a file; one that is not there is no error."""
    if exists(lake, path):
        lake.filesystem.delete_file(f"{lake.root}/{path}")


def exists(lake: Lake, path: str) -> bool:
    return lake.filesystem.get_file_info(f"{lake.root}/{path}").type == pa_fs.FileType.File


def list_files(lake: Lake, directory: str) -> list[str]:
    """Paths (relative to the lake) of the files in `directory`, sorted; what is being written is left out."""
    names = [info.base_name for info in _look_into(lake, directory) if info.type == pa_fs.FileType.File]
    return [f"{directory}/{name}" for name in sorted(names) if not name.startswith(".")]


def _look_into(lake: Lake, directory: str, *, recursive: bool = False) -> list[pa_fs.FileInfo]:
    """What is in `directory`; nothing where it is not there."""
    selector = pa_fs.FileSelector(f"{lake.root}/{directory}", allow_not_found=True, recursive=recursive)
    try:
        return lake.filesystem.get_file_info(selector)
    except FileNotFoundError:
        # It came between Arrow's two looks: not there to be listed, there to be missed.
        return lake.filesystem.get_file_info(selector)


def write_bad_lines(lake: Lake, path: str, bad: Sequence[BadLine]) -> None:
    """Make `bad` all that stands in the quarantine file at `path`; nothing bad, no file."""
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


def list_days(
    lake: Lake, table: Literal["raw_fills", "api_fills", "fills", "raw_twap_statuses", "api_twap_history", "twap_statuses"]
) -> list[date]:
    """The days (`object_date` of raw objects, `date` of events) that the lake has files of."""
    key = "object_date" if table.startswith("raw_") else "date"
    infos = _look_into(lake, table, recursive=True)
    places = [re.fullmatch(rf"{key}=(\d{{4}}-\d\d-\d\d)/[^.].*\.parquet", "/".join(info.path.split("/")[-2:])) for info in infos]
    return sorted({date.fromisoformat(place[1]) for place in places if place})


def open_file(lake: Lake, path: str) -> BinaryIO:
    """One file as it is now, whatever takes its place meanwhile."""
    if lake.is_local:
        return Path(lake.root, path).open("rb")
    with lake.filesystem.open_input_stream(f"{lake.root}/{path}") as stream:
        return BytesIO(stream.read())
