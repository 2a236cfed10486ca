"""Takes local copies of objects into the lake, as if they had been downloaded. A file's object is identified by its path, its
contents or the caller.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg

from hl_pipeline.domain.completeness import MORE_HOURS
from hl_pipeline.domain.datasets import BY_NAME, HOUR, TWAP_STATUSES, start_of
from hl_pipeline.domain.object_keys import Place, days_that_want, lock_name, place_in_path, place_of_hour
from hl_pipeline.domain.records import StoredObject
from hl_pipeline.formats.framing import UnreadableObjectError, decompress, whole_lines
from hl_pipeline.lake.store import Lake
from hl_pipeline.sources.buckets import etag_of_file
from hl_pipeline.stages.raw_tables import FILL_FORMATS, STATUS_FORMAT, ObjectBytes, find_in_lake, table_of
from hl_pipeline.warehouse.ledger import record_fetched
from hl_pipeline.warehouse.locks import lock_object

ACCEPTED = (
    "one object of a bucket, as downloaded or decompressed: an hour of node_fills_by_block, node_fills or node_trades "
    "(lines of JSON, lz4, gz or plain), or TWAP statuses of a day (Parquet, or lines of JSON)"
)
_MAGIC = {b"\x04\x22\x4d\x18": "lz4", b"\x1f\x8b": "gz", b"PAR1": "parquet"}
_READ_BYTES = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")
_NEAR_HOUR = timedelta(minutes=10)  # tolerance around an hour that was not given


class LocalFileError(ValueError):
    """A file is refused. The message has its path and what is accepted."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file and its object. `codec`: lz4, gz, parquet or plain. `md5`: of all bytes, which is the ETag of an object uploaded to
    S3 in one part. `etag_in_directory`: its ETag if its directory is the source.
    """

    path: Path
    codec: str
    md5: str
    etag_in_directory: str
    size: int
    place: Place

    def is_same_as(self, known: StoredObject) -> bool:
        """Return whether the object's ETag proves that it has the same bytes."""
        return known.etag in (self.md5, self.etag_in_directory)


def identify(path: Path, given: Place | None, threads: int) -> LocalFile:
    """Identify the object of a file, which is read completely. `given`: the object named by the caller. Raises LocalFileError."""
    try:
        codec, md5 = _read_codec_and_md5(path)
        place = given or place_in_path(path.absolute().as_posix())
        dataset = _sniff_dataset(path, codec) or (place.dataset if place else None)
        if dataset is None:
            raise LocalFileError(f"{path}: unknown contents. Expected: {ACCEPTED}")
        if place is not None and place.dataset != dataset:
            raise LocalFileError(f"{path}: it contains {dataset}, but its key {place.key} is of {place.dataset}; use --as")
        if BY_NAME[dataset].is_hourly:
            place = _check_hour(path, codec, dataset, place, threads)
        else:
            place = _check_day(path, codec, place, threads)
    except OSError as error:
        raise LocalFileError(f"{path}: {error.strerror or error}. Expected: {ACCEPTED}") from error
    except UnreadableObjectError as error:
        raise LocalFileError(f"{path}: {error}") from error
    if not days_that_want(place):
        raise LocalFileError(f"{path}: {dataset} has no {place.object_date} {place.hour:02} h; give its object key with --as")
    stat = path.stat()
    return LocalFile(path, codec, md5, etag_of_file(stat), stat.st_size, place)


def refuse_conflicts(lake: Lake, files: list[LocalFile], *, replace: bool) -> None:
    """Raise LocalFileError if two files are the same object or, unless `replace`, if the lake has an object with different or
    unverifiable bytes.
    """
    seen: dict[tuple[str, date, int | None, str], Path] = {}
    for file in files:
        place = file.place
        where = place.dataset, place.object_date, place.hour, "" if BY_NAME[place.dataset].is_hourly else place.key
        if where in seen:
            raise LocalFileError(f"{seen[where]} and {file.path} are both the object {place.key}")
        seen[where] = file.path
        known = find_in_lake(lake, place)
        if known is not None and not file.is_same_as(known) and not replace:
            raise LocalFileError(
                f"{file.path}: the lake already has {known.key}, {_compare(known, file)}. To replace it, use --force"
            )


def _compare(known: StoredObject, file: LocalFile) -> str:
    """Describe how an object in the lake differs, or may differ, from a file, by its size and ETag."""
    sizes = f"it has {known.size:,} bytes, the file {file.size:,}"
    if _MD5.fullmatch(known.etag):
        return f"with different bytes ({sizes}; their MD5s are {known.etag} and {file.md5})"
    if known.size != file.size:
        return f"with different bytes ({sizes})"
    return (
        f"with the size of the file ({file.size:,} bytes). Its ETag {known.etag} is not an MD5 (it came from a directory, or was "
        "uploaded to S3 in parts), so it is unknown whether they are the same"
    )


def fetch_local_file(file: LocalFile, lake: Lake, connection: psycopg.Connection, threads: int) -> tuple[StoredObject, bool]:
    """Write the file to the lake, replacing an earlier version of its object. Returns the object and whether it was written."""
    with lock_object(connection, lock_name(file.place)):
        known = find_in_lake(lake, file.place)
        if known is not None and file.is_same_as(known):
            return known, False
        with file.path.open("rb") as stream:
            content = ObjectBytes(stream, file.codec, file.md5, file.size)
            meta = table_of(file.place.dataset).write(lake, file.place, content, threads)
        record_fetched(connection, meta)
        return meta, True


def _read_codec_and_md5(path: Path) -> tuple[str, str]:
    """Return the codec by the first bytes, and the MD5 of the file."""
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        head = stream.read(4)
        md5.update(head)
        while piece := stream.read(_READ_BYTES):
            md5.update(piece)
    return next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), "plain"), md5.hexdigest()


def _sniff_dataset(path: Path, codec: str) -> str | None:
    """Return the dataset identified by the first distinctive line, or None."""
    if codec == "parquet":
        return TWAP_STATUSES.name
    with path.open("rb") as stream:
        for chunk in whole_lines(decompress(stream, codec)):
            for line in chunk.split(b"\n"):
                if (dataset := _dataset_of_line(line)) is not None:
                    return dataset
    return None


def _dataset_of_line(line: bytes) -> str | None:
    """Return the dataset with lines of this form, or None if it is ambiguous (a block without events)."""
    with suppress(ValueError, RecursionError):
        match json.loads(line or b"null"):
            case {"block_number": _, "events": [[_, dict()], *_]}:
                return "node_fills_by_block"
            case {"events": [{"twap_id": _}, *_]} | {"twap_id": _, "status": _}:
                return TWAP_STATUSES.name
            case {"side_info": _, "coin": _}:
                return "node_trades"
            case [str(), {"coin": _, "px": _}] | {"user": _, "coin": _, "px": _}:
                return "node_fills"
            case _:
                pass
    return None


def _check_hour(path: Path, codec: str, dataset: str, place: Place | None, threads: int) -> Place:
    """Check that almost all fills belong to one hour, by the node's local time if the format has it. Returns the object."""
    hours: Counter[datetime] = Counter()
    spans: list[tuple[datetime, datetime]] = []
    with path.open("rb") as stream:
        for part in FILL_FORMATS[dataset].decode(stream, codec, threads):
            cut_by = pl.coalesce(pl.from_epoch("local_time_ns", "ns").dt.replace_time_zone("UTC").dt.cast_time_unit("ms"), "time")
            times = part.fills.select(cut_by.alias("time"))["time"]
            if times.len():
                spans.append((times.min(), times.max()))  # type: ignore[arg-type]
                hours.update(dict(times.dt.truncate("1h").value_counts().iter_rows()))
    if not hours:
        raise LocalFileError(f"{path}: no readable fill of {dataset}. Expected: {ACCEPTED}")
    first, last = min(low for low, _ in spans), max(high for _, high in spans)
    found = place or place_of_hour(dataset, hours.most_common(1)[0][0])
    assert found.hour is not None
    hour = start_of(found.object_date) + found.hour * HOUR
    reach = MORE_HOURS * HOUR if place else _NEAR_HOUR
    if not hour - reach <= first <= last < hour + HOUR + reach:
        which = f"its key {found.key} is of {hour:%Y-%m-%d %H} h" if place else "these are several hours"
        raise LocalFileError(
            f"{path}: it has fills from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S}, but {which}. "
            f"Expected: {ACCEPTED}; give its object key with --as KEY"
        )
    return found


def _check_day(path: Path, codec: str, place: Place | None, threads: int) -> Place:
    """Check that the events belong to one day. Returns the object, with a generated key if none was given."""
    with path.open("rb") as stream:
        parts = [part.statuses["time_ns"] for part in STATUS_FORMAT.decode(stream, codec, threads)]
    times = pl.concat(parts) if parts else pl.Series("time_ns", [], pl.Int64)
    if times.is_empty():
        raise LocalFileError(f"{path}: no readable TWAP status. Expected: {ACCEPTED}")
    days = Counter(dict(pl.from_epoch(times, "ns").dt.date().value_counts().iter_rows()))
    day = place.object_date if place else days.most_common(1)[0][0]
    if any(abs((other - day).days) > 1 for other in days):
        raise LocalFileError(
            f"{path}: it has statuses from {min(days)} to {max(days)}, but an object covers one day"
            f"{f' ({place.key}: {day})' if place else ''}. Expected: {ACCEPTED}; give its object key with --as KEY"
        )
    return place or Place(TWAP_STATUSES.name, day, None, f"date={day}/{path.name}")
