"""Reads and writes the fills in the lake. The stages decide which rows go where.

    raw_fills/object_date=2026-03-15/hour=00.node_fills_by_block.parquet      one per source object, lossless, in its order
    raw_fills/object_date=2026-03-15/hour=00.node_fills_by_block.bad.jsonl    its bad lines, if any
    fills/date=2026-03-15/hour=00.parquet                                     by the hour of the event (UTC), deduplicated, sorted
                                                                              by time, block, object and ordinal
    changing.date=2026-03-15                                                  only while hours of the day are replaced

TWAPs: `lake.twaps`. Fills from the info API: `lake.api_fills`. Statistics while a day grows: `lake.partials`.

A file is written under a name that begins with a dot and then moved into place (on S3: one upload), so a reader sees either the
old file or the new one. The metadata of an object's file has everything known about the object (`store`). The metadata of an
hour of fills lists the objects that it was made from.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from hl_pipeline.domain.records import ApiShard, HourOfFills, ObjectMeta, ObjectVersion, version_of
from hl_pipeline.events import emit
from hl_pipeline.formats.arrow import as_arrow
from hl_pipeline.formats.decoding import Decoded
from hl_pipeline.formats.fills import DAY_SCHEMA, FILL_SCHEMA, NO_FILLS, BadLine, in_fill_schema
from hl_pipeline.lake.described import LAKE_FILL_COLUMNS, describe
from hl_pipeline.lake.store import (
    META_KEY,
    Lake,
    as_metadata,
    exists,
    list_files,
    list_metas,
    open_file,
    open_rows,
    remove,
    replacing,
    replacing_object,
)

_CHANGING = "changing.date="
_log = logging.getLogger(__name__)
_ROW_GROUP_ROWS = 150_000
# The best of all options tried (2 cores, generated fills): 0.42 us and 45 bytes per fill. Writer's defaults: 0.64 us, 58 bytes.
_RISING = ("time", "block_number", "block_time_ns", "local_time_ns", "line", "oid", "counterparty_oid", "tid", "ordinal")
_REPEATING = (
    *("coin", "wallet", "side", "dir", "crossed", "fee_token", "builder", "builder_fee", "deployer_fee", "priority_gas"),
    *("twap_id", "liquidated_user", "liquidation_mark_px", "liquidation_method", "object"),
)


def raw_path(object_date: date, hour: int, source: str) -> str:
    """Return the path of an object's rows, relative to the lake's root."""
    return f"raw_fills/object_date={object_date}/hour={hour:02}.{source}.parquet"


def fills_path(day: date, hour: int) -> str:
    """Return the path of an hour's fills, relative to the lake's root."""
    return f"fills/date={day}/hour={hour:02}.parquet"


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
    """Write one decoded object and, next to it, its bad lines. Memory holds one row group at a time. Returns its metadata."""
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

    with replacing_object(lake, raw_path(object_date, hour, source), bad) as temporary:
        with _parquet_writer(temporary, FILL_SCHEMA) as writer:
            rows = 0
            for group in join_frames(watch(decoded)):
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
            writer.add_key_value_metadata(as_metadata(meta))
        emit(_log, "lake_file_written", level=logging.DEBUG, key=key, rows=rows)
    return meta


def find_gaps(numbers: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and last missing number of each gap in sorted distinct `numbers`."""
    after = np.flatnonzero(np.diff(numbers) > 1)
    return [(int(numbers[i]) + 1, int(numbers[i + 1]) - 1) for i in after]


def list_raw_objects(lake: Lake, object_date: date) -> list[ObjectMeta]:
    """Return the lake's objects of one day of the bucket, sorted by path."""
    return list_metas(lake, f"raw_fills/object_date={object_date}", ObjectMeta)


def read_fills(lake: Lake, meta: ObjectMeta | ApiShard) -> pl.DataFrame:
    """Return the fills of one object, or of one shard of the info API on a day (DAY_SCHEMA).

    An object's file, from any version, has its fills in the object's order. In a shard's file, `line` has the order in which the
    API returned the fills; earlier versions did not record it.

    Raises LakeChangedError if the file is not the version that `meta` describes.
    """
    with _open(lake, meta) as file:
        frame = pl.read_parquet(file, hive_partitioning=False)
    return _as_day(frame, meta)


def _open(lake: Lake, meta: ObjectMeta | ApiShard) -> BinaryIO:
    if isinstance(meta, ApiShard):
        return open_rows(lake, meta.key, meta)
    return open_rows(lake, raw_path(date.fromisoformat(meta.object_date), meta.hour, meta.source), meta)


def _as_day(frame: pl.DataFrame, meta: ObjectMeta | ApiShard, first_row: int = 0) -> pl.DataFrame:
    """Return rows of the file of `meta`, which begin at `first_row` of the file, with the columns of DAY_SCHEMA."""
    place = pl.col("line") - 1 if isinstance(meta, ApiShard) else pl.int_range(first_row, first_row + pl.len())
    # Columns that an earlier version of the parser did not write become NULL.
    return in_fill_schema(frame).with_columns(
        pl.lit(meta.key).alias("object"), place.cast(DAY_SCHEMA["ordinal"]).alias("ordinal")
    )


class FillsReader:
    """Reads the fills of one object (DAY_SCHEMA) by row group, in the order of their first times. Reads a shard in one part.

    Raises LakeChangedError if the file is not the version that `meta` describes.
    """

    def __init__(self, lake: Lake, meta: ObjectMeta | ApiShard) -> None:
        self._meta = meta
        self._file = _open(lake, meta)
        self._parts = deque(sorted(_parts_of(self._file, meta)))

    @property
    def next_ms(self) -> int | None:
        """The first time (ms since 1970, UTC) of the next part, or None if all parts were read."""
        return self._parts[0].first_ms if self._parts else None

    def read(self) -> pl.DataFrame:
        """Read the next part."""
        part = self._parts.popleft()
        rows = pl.scan_parquet(self._file, hive_partitioning=False).slice(part.first_row, part.rows).collect()
        fills = _as_day(rows, self._meta, part.first_row)
        times = fills.select(pl.col("time").min().alias("first"), pl.col("time").max().alias("last")).cast(pl.Int64).row(0)
        assert times == (part.first_ms, part.last_ms), f"{self._meta.key}: the fills' times differ from the file's statistics"
        if not self._parts:
            self._file.close()
        return fills


class _Part(NamedTuple):
    first_ms: int
    last_ms: int
    first_row: int
    rows: int


def _parts_of(file: BinaryIO, meta: ObjectMeta | ApiShard) -> Iterator[_Part]:
    """Yield the row groups of an object that has fills, with the times in each.

    Yields one part for the whole file if it is a shard's or has no statistics.
    """
    whole = _Part(meta.first_time_ms or 0, meta.last_time_ms or 0, 0, meta.rows)
    known = pq.read_metadata(file)
    file.seek(0)
    groups = [known.row_group(index) for index in range(known.num_row_groups)]
    column = known.schema.names.index("time")
    statistics = [group.column(column).statistics for group in groups]
    if isinstance(meta, ApiShard) or not all(times and times.has_min_max for times in statistics):
        yield whole
        return
    first_row = 0
    for group, times in zip(groups, statistics, strict=True):
        # Raw, in the column's milliseconds: `min` and `max` import pandas, which takes 0.3 s.
        yield _Part(times.min_raw, times.max_raw, first_row, group.num_rows)
        first_row += group.num_rows


def write_fills_hour(lake: Lake, day: date, hour: int, fills: pl.DataFrame, made_of: Iterable[ObjectMeta | ApiShard]) -> None:
    """Replace an hour in the lake with `fills` (DAY_SCHEMA). Without rows, the file is removed."""
    write_fills_of_versions(lake, day, hour, fills, [version_of(meta) for meta in made_of])


def write_fills_of_versions(lake: Lake, day: date, hour: int, fills: pl.DataFrame, made_of: Iterable[ObjectVersion]) -> None:
    """Like `write_fills_hour`, for the versions of the objects that the fills were made of."""
    path = fills_path(day, hour)
    if fills.is_empty():
        remove(lake, path)
        return
    with replacing(lake, path) as temporary, _parquet_writer(temporary, fills.schema) as writer:
        for group in fills.iter_slices(_ROW_GROUP_ROWS):
            writer.write_table(as_arrow(group), row_group_size=group.height)
        known = {"id": uuid.uuid4().hex, "objects": [*made_of]}
        writer.add_key_value_metadata(as_metadata(known))


def changing_path(day: date) -> str:
    """Return the path of the mark of `changing_hours`. Some engines read every file of a table's directory, so it is in none."""
    return f"{_CHANGING}{day}"


def list_changing_days(lake: Lake) -> list[date]:
    """Return the days with the mark of `changing_hours`."""
    names = [path.removeprefix("/") for path in list_files(lake, "")]
    return [date.fromisoformat(name.removeprefix(_CHANGING)) for name in names if name.startswith(_CHANGING)]


@contextmanager
def changing_hours(lake: Lake, day: date, why: Literal["load", "removal", "restoration"]) -> Generator[None]:
    """Mark a day while its hours are written or removed, for those who read them. The caller holds lock_fills_day.

    If the block fails, or the process is killed, the mark stays: some hours may be new and others old. Then a load or a removal
    takes it away. A restoration of removed hours does so too, unless a load left the mark.
    """
    path = changing_path(day)
    is_half_loaded = why == "restoration" and _read_text(lake, path) == "load"
    if not is_half_loaded:
        with replacing(lake, path) as temporary:
            temporary.write_text(why)
    yield
    if not is_half_loaded:
        remove(lake, path)


def _read_text(lake: Lake, path: str) -> str | None:
    if not exists(lake, path):
        return None
    with open_file(lake, path) as file:
        return file.read().decode()


def read_hours_of_fills(lake: Lake, day: date) -> dict[int, HourOfFills]:
    """Return the records of a day's hours (0-23) in the lake. Hours without fills, or from an earlier version, are left out."""
    hours = {hour: _hour_of(file) for hour, file in _open_hours(lake, day)}
    return {hour: known for hour, known in hours.items() if known is not None}


def read_origin_of_fills(lake: Lake, day: date) -> tuple[set[str], dict[int, HourOfFills]]:
    """Return the keys of the objects that the lake's fills of a day came from, and the result of `read_hours_of_fills`."""
    keys: set[str] = set()
    hours: dict[int, HourOfFills] = {}
    for hour, file in _open_hours(lake, day):
        # From a lake on S3, this reads one column instead of the whole day.
        keys.update(file.read(["object"])["object"].unique().to_pylist())
        if (known := _hour_of(file)) is not None:
            hours[hour] = known
    return keys, hours


def _open_hours(lake: Lake, day: date) -> Iterator[tuple[int, pq.ParquetFile]]:
    for path in list_files(lake, f"fills/date={day}"):
        with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
            yield int(path.rpartition("hour=")[2].removesuffix(".parquet")), pq.ParquetFile(file, read_dictionary=["object"])


def _hour_of(file: pq.ParquetFile) -> HourOfFills | None:
    metadata = file.metadata.metadata or {}
    if META_KEY not in metadata:
        return None
    record = json.loads(metadata[META_KEY])
    return HourOfFills(record["id"], frozenset((key, etag, parser) for key, etag, parser in record["objects"]))


def read_fills_hour(lake: Lake, day: date, hour: int, columns: Sequence[str]) -> pl.DataFrame:
    """Return columns (of DAY_SCHEMA) of one hour of the lake's fills. Empty if there are none."""
    path = fills_path(day, hour)
    if not exists(lake, path):
        return NO_FILLS.select(columns)
    with open_file(lake, path) as file:
        present = set(pq.read_schema(file).names)
        file.seek(0)
        frame = pl.read_parquet(file, columns=[name for name in columns if name in present], hive_partitioning=False)
    # Columns that an earlier version did not write become NULL.
    return frame.select(pl.col(n) if n in present else pl.lit(None, NO_FILLS.schema[n]).alias(n) for n in columns)


def join_frames(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Join `frames` into frames of at least _ROW_GROUP_ROWS rows, because many small ones are slow to write and to read."""
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
        describe(as_arrow(pl.DataFrame(schema=schema)), LAKE_FILL_COLUMNS).schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in _REPEATING if name in schema],  # pyright: ignore[reportArgumentType]
        column_encoding={name: "DELTA_BINARY_PACKED" for name in _RISING if name in schema},
        write_statistics=["time", "block_number"],  # pyright: ignore[reportArgumentType]
    )
