"""Objects that somebody has as files already: which object of a bucket a file is, by its path, by what is in it, or by what
the caller says; and its way into the lake, as if it had been downloaded.
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
    "one object of a bucket as it was downloaded, or decompressed: an hour of node_fills_by_block, node_fills or node_trades "
    "(lines of JSON, lz4, gz or plain), or TWAP statuses of a day (Parquet, or lines of JSON)"
)
_MAGIC = {b"\x04\x22\x4d\x18": "lz4", b"\x1f\x8b": "gz", b"PAR1": "parquet"}
_READ_BYTES = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")
_NEAR_HOUR = timedelta(minutes=10)  # beyond an hour that nobody has named


class LocalFileError(ValueError):
    """A file cannot be taken. The message names it, and what is accepted."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file and the object that it is; `codec`: lz4, gz, parquet or plain; `md5` of all its bytes, as the ETag of one that was
    put into S3 at once; `etag_in_directory`: its ETag where it stands, should its directory be the source.
    """

    path: Path
    codec: str
    md5: str
    etag_in_directory: str
    size: int
    place: Place

    def is_same_as(self, known: StoredObject) -> bool:
        """Whether the object's ETag shows that it has the same bytes; one that shows nothing is no."""
        return known.etag in (self.md5, self.etag_in_directory)


def identify(path: Path, given: Place | None, threads: int) -> LocalFile:
    """Which object a file is; `given`: which one the caller says it is. All of it is read. Raises LocalFileError."""
    try:
        codec, md5 = _read_codec_and_md5(path)
        place = given or place_in_path(path.absolute().as_posix())
        dataset = _sniff_dataset(path, codec) or (place.dataset if place else None)
        if dataset is None:
            raise LocalFileError(f"{path}: its content is not recognized. Expected: {ACCEPTED}")
        if place is not None and place.dataset != dataset:
            raise LocalFileError(f"{path}: it holds {dataset}, not {place.dataset} as {place.key} says; see --as")
        if BY_NAME[dataset].is_hourly:
            place = _check_hour(path, codec, dataset, place, threads)
        else:
            place = _check_day(path, codec, place, threads)
    except OSError as error:
        raise LocalFileError(f"{path}: {error.strerror or error}. Expected: {ACCEPTED}") from error
    except UnreadableObjectError as error:
        raise LocalFileError(f"{path}: {error}") from error
    if not days_that_want(place):
        raise LocalFileError(f"{path}: {dataset} has no {place.object_date} {place.hour:02} h; say which object it is with --as")
    stat = path.stat()
    return LocalFile(path, codec, md5, etag_of_file(stat), stat.st_size, place)


def refuse_conflicts(lake: Lake, files: list[LocalFile], *, replace: bool) -> None:
    """Raises LocalFileError when two of the files are one object, or, unless it may be replaced, the lake has one of the objects
    with other bytes, or with bytes of which nobody knows.
    """
    seen: dict[tuple[str, date, int | None, str], Path] = {}
    for file in files:
        place = file.place
        where = place.dataset, place.object_date, place.hour, "" if BY_NAME[place.dataset].is_hourly else place.key
        if where in seen:
            raise LocalFileError(f"{seen[where]} and {file.path} are both {place.key}")
        seen[where] = file.path
        known = find_in_lake(lake, place)
        if known is not None and not file.is_same_as(known) and not replace:
            raise LocalFileError(
                f"{file.path}: the lake has {known.key} already, {_compare(known, file)}. To put the file in its place: --force"
            )


def _compare(known: StoredObject, file: LocalFile) -> str:
    """What the ETag of an object in the lake says of a file that is not known to be the same."""
    sizes = f"it has {known.size:,} bytes, the file {file.size:,}"
    if _MD5.fullmatch(known.etag):
        return f"with other bytes ({sizes}; their MD5s are {known.etag} and {file.md5})"
    if known.size != file.size:
        return f"with other bytes ({sizes})"
    return (
        f"as large as the file ({file.size:,} bytes). Its ETag {known.etag} is no MD5 (it came from a directory, or was put into "
        "S3 in parts), so nothing tells whether they are the same"
    )


def fetch_local_file(file: LocalFile, lake: Lake, connection: psycopg.Connection, threads: int) -> tuple[StoredObject, bool]:
    """The object as the lake has it in the end, in the place of whatever it had of it before; and whether it was written now."""
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
    """The file's codec by its first bytes, and the MD5 of all."""
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        head = stream.read(4)
        md5.update(head)
        while piece := stream.read(_READ_BYTES):
            md5.update(piece)
    return next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), "plain"), md5.hexdigest()


def _sniff_dataset(path: Path, codec: str) -> str | None:
    """The dataset of the first line that tells; None when none does."""
    if codec == "parquet":
        return TWAP_STATUSES.name
    with path.open("rb") as stream:
        for chunk in whole_lines(decompress(stream, codec)):
            for line in chunk.split(b"\n"):
                if (dataset := _dataset_of_line(line)) is not None:
                    return dataset
    return None


def _dataset_of_line(line: bytes) -> str | None:
    """The dataset that has lines like this one; None when that cannot be told (a block without events)."""
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
    """The hour that nearly all of the file's fills are of, by the clock that hours are cut by where the format has it."""
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
        raise LocalFileError(f"{path}: no fill of {dataset} can be read in it. Expected: {ACCEPTED}")
    first, last = min(low for low, _ in spans), max(high for _, high in spans)
    found = place or place_of_hour(dataset, hours.most_common(1)[0][0])
    assert found.hour is not None
    hour = start_of(found.object_date) + found.hour * HOUR
    reach = MORE_HOURS * HOUR if place else _NEAR_HOUR
    if not hour - reach <= first <= last < hour + HOUR + reach:
        which = (
            f"{found.key}, as which it is taken, is the object of {hour:%Y-%m-%d %H} h" if place else "these are several hours"
        )
        raise LocalFileError(
            f"{path}: it has fills from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S}, and {which}. "
            f"Expected: {ACCEPTED}; --as KEY says which object it is"
        )
    return found


def _check_day(path: Path, codec: str, place: Place | None, threads: int) -> Place:
    """The day that most of the file's events are of; a name for it where it has none."""
    with path.open("rb") as stream:
        parts = [part.statuses["time_ns"] for part in STATUS_FORMAT.decode(stream, codec, threads)]
    times = pl.concat(parts) if parts else pl.Series("time_ns", [], pl.Int64)
    if times.is_empty():
        raise LocalFileError(f"{path}: no TWAP status can be read in it. Expected: {ACCEPTED}")
    days = Counter(dict(pl.from_epoch(times, "ns").dt.date().value_counts().iter_rows()))
    day = place.object_date if place else days.most_common(1)[0][0]
    if any(abs((other - day).days) > 1 for other in days):
        raise LocalFileError(
            f"{path}: it has statuses from {min(days)} to {max(days)}, and an object is of one day"
            f"{f' ({place.key}: {day})' if place else ''}. Expected: {ACCEPTED}; --as KEY says which object it is"
        )
    return place or Place(TWAP_STATUSES.name, day, None, f"date={day}/{path.name}")
