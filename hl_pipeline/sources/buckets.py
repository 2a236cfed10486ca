"""Where objects come from: a bucket, and what is in one. A directory of a bucket's layout is here; S3 is in `s3`.

Keys of hourly datasets are `<dataset>/hourly/YYYYMMDD/H.lz4`, H from 0 to 23 without a leading zero; in the directory of a node
`H`, and in mirrors also `H.jsonl` and the like. Others have the day in them, in any of several forms. What an object holds is for
the formats.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from hl_pipeline.domain.datasets import Dataset
from hl_pipeline.domain.errors import BucketDeniedError, BucketError
from hl_pipeline.domain.object_keys import day_in_key
from hl_pipeline.domain.records import IgnoredObject, SourceObject
from hl_pipeline.domain.wanted_objects import Listing
from hl_pipeline.events import emit

_log = logging.getLogger(__name__)
_LINES = (".jsonl", ".json", ".ndjson", ".lz4", ".gz")
_DAYS_LISTED_EACH = 20
_RANKS = {"lz4": 2, "gz": 1}


class Bucket(Protocol):
    """What the pipeline needs of a bucket; `url` is what people call it."""

    @property
    def url(self) -> str: ...

    def list_objects(self, prefix: str, *, deep: bool = False, after: str = "") -> list[SourceObject]:
        """Objects whose key is `prefix` (ending in a slash, or empty) and a name; `deep`: or anything. Of these only the ones
        whose key comes `after` another, byte by byte. Raises BucketError.
        """
        ...

    def open(self, found: SourceObject) -> AbstractContextManager[BinaryIO]:
        """The bytes of `found` as it was listed, within a `with`. Raises BucketError when they cannot be had whole."""
        ...


def open_bucket(url: str, open_s3: Callable[[], Bucket], setting: str = "HL_NODE_DATA_URL") -> Bucket:
    """The bucket at `url`: by `open_s3` where that begins with s3://, else a directory. Raises BucketError for what is neither,
    naming the `setting` that says so.
    """
    if url.startswith("s3://"):
        return open_s3()
    if not Path(url).is_dir():
        raise BucketError(f"{setting}: {url} is neither s3://bucket/prefix nor a directory that is there")
    return DirectoryBucket(url)


def list_dataset(
    bucket: Bucket, dataset: Dataset, first: date, last: date, ignored: list[IgnoredObject] | None = None
) -> Listing:
    """The objects of a dataset with a day from `first` to `last` in their key; where objects are not hourly, of all days. What is
    not understood by its name is logged, and added to `ignored`. Raises BucketError.
    """
    if not dataset.is_hourly:
        return list_twap_objects(bucket, ignored=ignored)
    days = list_days(bucket, dataset.name, first, last, ignored)
    return {day: list(hours.values()) for day, hours in days.items()}


def list_hours(bucket: Bucket, dataset: str, day: date, ignored: list[IgnoredObject] | None = None) -> dict[int, SourceObject]:
    """The objects of one day of an hourly dataset, by hour. What is not named like an hour is no object. Of several for an hour
    `.lz4` goes before `.gz`, and that before plain lines.
    """
    prefix = f"{dataset}/hourly/{day:%Y%m%d}/"
    return _by_hour(prefix, bucket.list_objects(prefix), ignored)


def list_days(
    bucket: Bucket, dataset: str, first: date, last: date, ignored: list[IgnoredObject] | None = None
) -> dict[date, dict[int, SourceObject]]:
    """`list_hours` of each day from `first` to `last` that has any. More than 20 days come from one deep listing of the whole
    dataset: its requests have 1,000 objects each, those of a day 24.
    """
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    if len(days) <= _DAYS_LISTED_EACH:
        hours = {day: list_hours(bucket, dataset, day, ignored) for day in days}
        return {day: found for day, found in hours.items() if found}
    above = f"{dataset}/hourly/"
    named = {f"{above}{day:%Y%m%d}/": day for day in days}
    listed: dict[str, list[SourceObject]] = {}
    for found in bucket.list_objects(above, deep=True):
        prefix = above + found.key.removeprefix(above).partition("/")[0] + "/"
        if prefix in named:
            listed.setdefault(prefix, []).append(found)
    hours = {named[prefix]: _by_hour(prefix, objects, ignored) for prefix, objects in sorted(listed.items())}
    return {day: found for day, found in hours.items() if found}


def _by_hour(prefix: str, listed: Iterable[SourceObject], ignored: list[IgnoredObject] | None) -> dict[int, SourceObject]:
    hours: dict[int, SourceObject] = {}
    # Shorter names last: where `9.lz4` and `09.lz4` both stand, the first is the form that the bucket is known by.
    for found in sorted(listed, key=lambda found: (_RANKS.get(found.codec, 0), -len(found.key), found.key)):
        if found.hour is None or "/" in found.key.removeprefix(prefix):
            _ignore(found, "not named like an hour (9.lz4, 9.gz, 9.jsonl, 9.json or 9)", ignored)
        else:
            hours[found.hour] = found
    return dict(sorted(hours.items()))


def list_twap_objects(
    bucket: Bucket, after: str = "", ignored: list[IgnoredObject] | None = None
) -> dict[date, list[SourceObject]]:
    """The objects of a bucket of TWAP statuses (those whose key comes `after` another) by the day in their key; what has no day,
    or is of no known kind, is logged, added to `ignored` and left out.
    """
    days: dict[date, list[SourceObject]] = {}
    try:
        listed = bucket.list_objects("", deep=True, after=after)
    except BucketDeniedError as error:
        raise BucketDeniedError(f"{error}. Or do without: HL_TWAP_DATA_URL=none") from error
    for found in sorted(listed, key=lambda found: found.key):
        day = day_in_key(found.key)
        if _is_hidden(found.key) or not (found.is_parquet or found.key.endswith(_LINES) or found.hour is not None):
            _ignore(found, "neither Parquet nor JSON lines by its name", ignored)
        elif day is None:
            _ignore(found, "no day in its key (YYYY/MM/DD, date=YYYY-MM-DD or YYYYMMDD)", ignored)
        else:
            days.setdefault(day, []).append(found)
    return days


def _ignore(found: SourceObject, reason: str, ignored: list[IgnoredObject] | None) -> None:
    """Log that an object is not taken. What is hidden (.DS_Store, _SUCCESS, a folder's own entry) was never meant as data."""
    emit(_log, "object_ignored", key=found.key, reason=reason)
    if ignored is not None and not _is_hidden(found.key):
        ignored.append(IgnoredObject(found.key, reason))


def _is_hidden(key: str) -> bool:
    name = key.rpartition("/")[2]
    return not name or name.startswith((".", "_"))


def etag_of_file(stat: os.stat_result) -> str:
    """The ETag of a file in a directory: its size and time of change."""
    return f"{stat.st_size:x}-{stat.st_mtime_ns:x}"


@dataclass(frozen=True, slots=True)
class DirectoryBucket:
    """A directory of the bucket's layout."""

    url: str

    def list_objects(self, prefix: str, *, deep: bool = False, after: str = "") -> list[SourceObject]:
        directory = Path(self.url) / prefix
        if not directory.is_dir():
            return []
        found: list[SourceObject] = []
        for path in directory.rglob("*") if deep else directory.iterdir():
            key = prefix + path.relative_to(directory).as_posix()
            if key.encode() > after.encode() and path.is_file():
                stat = path.stat()
                modified = datetime.fromtimestamp(stat.st_mtime, UTC)
                found.append(SourceObject(key, etag_of_file(stat), stat.st_size, modified))
        return found

    @contextmanager
    def open(self, found: SourceObject) -> Generator[BinaryIO]:
        try:
            file = (Path(self.url) / found.key).open("rb")
        except OSError as error:
            raise BucketError(f"{found.key}: {error.strerror} in {self.url}") from error
        with file:
            yield file
