"""The Parquet lake: its layout, atomic writes, listings and scans. Which rows go where is decided by the assets.

    raw_fills/object_date=2026-03-15/hour=00.node_fills_by_block.parquet      one per source object, lossless, in its order
    raw_fills/object_date=2026-03-15/hour=00.node_fills_by_block.bad.jsonl    what of it could not be taken, if anything
    fills/date=2026-03-15/hour=00.parquet                                     by the hour of the event (UTC), counted once, in the
                                                                              order of time and of the source

What is there of TWAPs: `lake_twaps`; from the info API: `lake_api`; of statistics while a day grows: `lake_partials`.

A file is written under a name that begins with a dot and moved into place whole (on S3: one upload), so a reader sees the old
one or the new one. Everything known of an object stands in its file's Parquet metadata, under the key `hl`; in that of an
hour of fills stand the objects that it was made of.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq

from hl_pipeline.events import emit
from hl_pipeline.formats.decoding import Decoded
from hl_pipeline.formats.fills import FILL_SCHEMA, BadLine, in_fill_schema

if TYPE_CHECKING:
    from hl_pipeline.lake.api_fills import ApiShard

_log = logging.getLogger(__name__)
_ROW_GROUP_ROWS = 150_000
META_KEY = b"hl"
# Of a trial of all options (2 cores, generated fills): 0.42 us and 45 bytes a fill, the writer's defaults 0.64 us and 58 bytes.
_RISING = ("time", "block_number", "block_time_ns", "local_time_ns", "line", "oid", "counterparty_oid", "tid")
_REPEATING = (
    *("coin", "wallet", "side", "dir", "crossed", "fee_token", "builder", "builder_fee", "deployer_fee", "priority_gas"),
    *("twap_id", "liquidated_user", "liquidation_mark_px", "liquidation_method", "object"),
)

ObjectVersion = tuple[str, str, int]
"""An object as it was read: its key, its ETag, the version of the parser."""

NO_FILLS = pl.DataFrame(schema={**FILL_SCHEMA, "object": pl.String()})
"""What a day's fills are when there are none."""


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


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What is known of a source object that is in the lake. Times of blocks in ns, of fills in ms, since 1970 UTC."""

    key: str
    etag: str
    size: int
    source: str
    object_date: str
    hour: int
    parser: int
    rows: int
    lines: int
    bad_lines: int
    blocks: int
    repeated_blocks: int
    first_block: int | None
    last_block: int | None
    first_block_time_ns: int | None
    last_block_time_ns: int | None
    missing_blocks: list[tuple[int, int]]
    first_time_ms: int | None
    last_time_ms: int | None
    fetched_at: str

    @property
    def missing_block_count(self) -> int:
        return sum(last - first + 1 for first, last in self.missing_blocks)


@dataclass(frozen=True, slots=True)
class HourOfFills:
    """What is known of an hour of fills in the lake: an `id` that no other file ever has, and the objects it was made of."""

    id: str
    objects: frozenset[ObjectVersion]


def version_of(meta: ObjectMeta | ApiShard) -> ObjectVersion:
    return meta.key, meta.etag, meta.parser


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


def raw_path(object_date: date, hour: int, source: str) -> str:
    return f"raw_fills/object_date={object_date}/hour={hour:02}.{source}.parquet"


def bad_lines_path(object_date: date, hour: int, source: str) -> str:
    return f"raw_fills/object_date={object_date}/hour={hour:02}.{source}.bad.jsonl"


def fills_path(day: date, hour: int) -> str:
    return f"fills/date={day}/hour={hour:02}.parquet"


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


def write_raw_object(
    lake: Lake,
    decoded: Iterable[Decoded],
    *,
    key: str,
    etag: str,
    size: int,
    source: str,
    object_date: date,
    hour: int,
    parser: int,
) -> ObjectMeta:
    """Write what was decoded of one object, and its bad lines beside it; in memory is one row group at a time."""
    path = raw_path(object_date, hour, source)
    bad: list[BadLine] = []
    numbers: list[np.ndarray] = []
    block_times: list[np.ndarray] = []
    lines = 0
    first_time: int | None = None
    last_time: int | None = None

    def watch(parts: Iterable[Decoded]) -> Generator[pl.DataFrame]:
        nonlocal lines, first_time, last_time
        for part in parts:
            lines += part.lines
            bad.extend(part.bad)
            numbers.append(part.blocks.numbers)
            block_times.append(part.blocks.times_ns)
            if part.fills.height:
                low, high = (
                    part.fills.select(pl.col("time").min().alias("a"), pl.col("time").max().alias("b"))
                    .select(pl.all().cast(pl.Int64))
                    .row(0)
                )
                first_time = low if first_time is None else min(low, first_time)
                last_time = high if last_time is None else max(high, last_time)
            yield part.fills

    with replacing(lake, path) as temporary:
        with _parquet_writer(temporary, FILL_SCHEMA) as writer:
            rows = 0
            for group in _row_groups(watch(decoded)):
                writer.write_table(as_arrow(group), row_group_size=group.height)
                rows += group.height
                emit(_log, "row_group_written", level=logging.DEBUG, key=key, rows=rows)
            blocks = np.concatenate(numbers) if numbers else np.empty(0, np.int64)
            times = np.concatenate(block_times) if block_times else np.empty(0, np.int64)
            distinct = np.unique(blocks)
            meta = ObjectMeta(
                key=key,
                etag=etag,
                size=size,
                source=source,
                object_date=str(object_date),
                hour=hour,
                parser=parser,
                rows=rows,
                lines=lines,
                bad_lines=len(bad),
                blocks=len(distinct),
                repeated_blocks=len(blocks) - len(distinct),
                first_block=int(distinct[0]) if len(distinct) else None,
                last_block=int(distinct[-1]) if len(distinct) else None,
                first_block_time_ns=int(times.min()) if len(times) else None,
                last_block_time_ns=int(times.max()) if len(times) else None,
                missing_blocks=find_gaps(distinct),
                first_time_ms=first_time,
                last_time_ms=last_time,
                fetched_at=datetime.now(UTC).isoformat(),
            )
            writer.add_key_value_metadata({META_KEY: json.dumps(asdict(meta)).encode()})
        # Before the rows, so that rows never stand without what is missing from them.
        write_bad_lines(lake, bad_lines_path(object_date, hour, source), bad)
        emit(_log, "lake_file_written", level=logging.DEBUG, key=key, rows=rows)
    return meta


def find_gaps(numbers: np.ndarray) -> list[tuple[int, int]]:
    """The first and last number of each hole in sorted distinct `numbers`."""
    after = np.flatnonzero(np.diff(numbers) > 1)
    return [(int(numbers[i]) + 1, int(numbers[i + 1]) - 1) for i in after]


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


def read_object_meta(lake: Lake, path: str) -> ObjectMeta | None:
    """What is known of the object at `path`; None when it is not in the lake, or the file there is none of ours."""
    if not exists(lake, path):
        return None
    try:
        with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
            return _object_meta(file)
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        emit(_log, "lake_file_unreadable", level=logging.WARNING, path=f"{lake.root}/{path}", error=error)
        return None


def _object_meta(file: pa.NativeFile | BinaryIO) -> ObjectMeta:
    record = json.loads(pq.read_metadata(file).metadata[META_KEY])
    record["missing_blocks"] = [(first, last) for first, last in record["missing_blocks"]]
    return ObjectMeta(**record)


def list_days(
    lake: Lake, table: Literal["raw_fills", "api_fills", "fills", "raw_twap_statuses", "api_twap_history", "twap_statuses"]
) -> list[date]:
    """The days (`object_date` of raw objects, `date` of events) that the lake has files of."""
    key = "object_date" if table.startswith("raw_") else "date"
    infos = _look_into(lake, table, recursive=True)
    places = [re.fullmatch(rf"{key}=(\d{{4}}-\d\d-\d\d)/[^.].*\.parquet", "/".join(info.path.split("/")[-2:])) for info in infos]
    return sorted({date.fromisoformat(place[1]) for place in places if place})


def list_raw_objects(lake: Lake, object_date: date) -> list[ObjectMeta]:
    """The objects of one day of the bucket that are in the lake, by path."""
    paths = [path for path in list_files(lake, f"raw_fills/object_date={object_date}") if path.endswith(".parquet")]
    metas = [read_object_meta(lake, path) for path in paths]
    return [meta for meta in metas if meta is not None]


def read_raw_fills(lake: Lake, meta: ObjectMeta) -> pl.DataFrame:
    """The fills of one object: FILL_SCHEMA and `object`, its key. Raises LakeChangedError when `meta` is of another."""
    path = raw_path(date.fromisoformat(meta.object_date), meta.hour, meta.source)
    with open_file(lake, path) as file:
        if _object_meta(file).etag != meta.etag:
            raise LakeChangedError(f"{path} was replaced while it was being read; run again")
        file.seek(0)
        frame = pl.read_parquet(file, hive_partitioning=False)
    # What an earlier version of the parser did not write is not known.
    return in_fill_schema(frame).with_columns(pl.lit(meta.key).alias("object"))


def write_fills_hour(lake: Lake, day: date, hour: int, fills: pl.DataFrame, made_of: Iterable[ObjectMeta | ApiShard]) -> None:
    """Make `fills` (FILL_SCHEMA and `object`) all that the lake has of that hour; no rows, no file."""
    path = fills_path(day, hour)
    if fills.is_empty():
        remove(lake, path)
        return
    with replacing(lake, path) as temporary, _parquet_writer(temporary, fills.schema) as writer:
        writer.write_table(as_arrow(fills), row_group_size=_ROW_GROUP_ROWS)
        known = {"id": uuid.uuid4().hex, "objects": [version_of(meta) for meta in made_of]}
        writer.add_key_value_metadata({META_KEY: json.dumps(known).encode()})


def read_hours_of_fills(lake: Lake, day: date) -> dict[int, HourOfFills]:
    """What is known of each hour (0-23) of a day that has fills in the lake; of one that an earlier version wrote, nothing."""
    known: dict[int, HourOfFills] = {}
    for path in list_files(lake, f"fills/date={day}"):
        with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
            metadata = pq.read_metadata(file).metadata or {}
        if META_KEY in metadata:
            record = json.loads(metadata[META_KEY])
            hour = int(path.rpartition("hour=")[2].removesuffix(".parquet"))
            known[hour] = HourOfFills(record["id"], frozenset((key, etag, parser) for key, etag, parser in record["objects"]))
    return known


def read_fills_hour(lake: Lake, day: date, hour: int, columns: Sequence[str]) -> pl.DataFrame:
    """Columns (of FILL_SCHEMA and `object`) of one hour of a day's fills as the lake has them. Empty when there are none."""
    path = fills_path(day, hour)
    if not exists(lake, path):
        return NO_FILLS.select(columns)
    with open_file(lake, path) as file:
        there = set(pq.read_schema(file).names)
        file.seek(0)
        frame = pl.read_parquet(file, columns=[name for name in columns if name in there], hive_partitioning=False)
    # What an earlier version did not write is not known.
    return frame.select(pl.col(n) if n in there else pl.lit(None, NO_FILLS.schema[n]).alias(n) for n in columns)


def objects_of_fills(lake: Lake, day: date) -> set[str]:
    """The keys of the objects that the lake's fills of a day came from."""
    keys: set[str] = set()
    for path in list_files(lake, f"fills/date={day}"):
        # Of a lake on S3 that one column is read, not the day.
        with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
            column = pq.ParquetFile(file, read_dictionary=["object"]).read(["object"])["object"]
        keys.update(column.unique().to_pylist())
    return keys


def open_file(lake: Lake, path: str) -> BinaryIO:
    """One file as it is now, whatever takes its place meanwhile."""
    if lake.is_local:
        return Path(lake.root, path).open("rb")
    with lake.filesystem.open_input_stream(f"{lake.root}/{path}") as stream:
        return BytesIO(stream.read())


def _row_groups(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """`frames` joined until a row group is full: many small ones cost a reader dearly."""
    pending: list[pl.DataFrame] = []
    rows = 0
    for frame in frames:
        pending.append(frame)
        rows += frame.height
        if rows >= _ROW_GROUP_ROWS:
            yield pl.concat(pending)
            pending, rows = [], 0
    if rows:
        yield pl.concat(pending)


def _parquet_writer(path: Path, schema: Mapping[str, pl.DataType]) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        as_arrow(pl.DataFrame(schema=schema)).schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in _REPEATING if name in schema],  # pyright: ignore[reportArgumentType]
        column_encoding=dict.fromkeys(_RISING, "DELTA_BINARY_PACKED"),
        write_statistics=["time", "block_number"],  # pyright: ignore[reportArgumentType]
    )


def as_arrow(frame: pl.DataFrame) -> pa.Table:
    """An Arrow table of types that every reader knows."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
