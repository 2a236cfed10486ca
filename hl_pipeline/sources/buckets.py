"""Buckets and their listings. A directory with a bucket's layout is here; S3 is in `s3`.

Keys of hourly datasets are `<dataset>/hourly/YYYYMMDD/H.lz4`, H from 0 to 23 without a leading zero. A node's own directory has
`H`, and mirrors also `H.jsonl` and similar. Other keys contain the day in one of several forms. `formats` reads the contents.
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
    """The interface of a bucket. `url` names it in messages."""

    @property
    def url(self) -> str: ...

    def list_objects(self, prefix: str, *, deep: bool = False, after: str = "") -> list[SourceObject]:
        """List objects whose key is `prefix` (ending in a slash, or empty) plus a name; with `deep`, plus any path. Only keys
        that sort `after` the given one, byte by byte. Raises BucketError.
        """
        ...

    def open(self, found: SourceObject) -> AbstractContextManager[BinaryIO]:
        """Open the bytes of `found` as listed, as a context manager. Raises BucketError if they cannot be read completely."""
        ...


def open_bucket(url: str, open_s3: Callable[[], Bucket], setting: str = "HL_NODE_DATA_URL") -> Bucket:
    """Open the bucket at `url`: with `open_s3` if it begins with s3://, otherwise a directory. Raises BucketError for anything
    else, naming the `setting`.
    """
    if url.startswith("s3://"):
        return open_s3()
    if not Path(url).is_dir():
        raise BucketError(f"{setting}: {url} is neither s3://bucket/prefix nor an existing directory")
    return DirectoryBucket(url)


def list_dataset(
    bucket: Bucket, dataset: Dataset, first: date, last: date, ignored: list[IgnoredObject] | None = None
) -> Listing:
    """List the objects of a dataset with a day from `first` to `last` in their key or, if not hourly, of all days. Objects with
    unknown names are logged and added to `ignored`. Raises BucketError.
    """
    if not dataset.is_hourly:
        return list_twap_objects(bucket, ignored=ignored)
    days = list_days(bucket, dataset.name, first, last, ignored)
    return {day: list(hours.values()) for day, hours in days.items()}


def list_hours(bucket: Bucket, dataset: str, day: date, ignored: list[IgnoredObject] | None = None) -> dict[int, SourceObject]:
    """List the objects of a day of an hourly dataset, by hour. Names that are not an hour are ignored. If an hour has several
    objects, `.lz4` takes precedence over `.gz`, and `.gz` over plain lines.
    """
    prefix = f"{dataset}/hourly/{day:%Y%m%d}/"
    return _by_hour(prefix, bucket.list_objects(prefix), ignored)


def list_days(
    bucket: Bucket, dataset: str, first: date, last: date, ignored: list[IgnoredObject] | None = None
) -> dict[date, dict[int, SourceObject]]:
    """Call `list_hours` for each day from `first` to `last` and return those with objects. More than 20 days use one deep listing
    of the whole dataset: its requests return 1,000 objects each, those of a day 24.
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
    # Shorter names last: if both `9.lz4` and `09.lz4` exist, the first is the bucket's usual form.
    for found in sorted(listed, key=lambda found: (_RANKS.get(found.codec, 0), -len(found.key), found.key)):
        if found.hour is None or "/" in found.key.removeprefix(prefix):
            _ignore(found, "not named like an hour (9.lz4, 9.gz, 9.jsonl, 9.json or 9)", ignored)
        else:
            hours[found.hour] = found
    return dict(sorted(hours.items()))


def list_twap_objects(
    bucket: Bucket, after: str = "", ignored: list[IgnoredObject] | None = None
) -> dict[date, list[SourceObject]]:
    """List the objects of TWAP statuses (keys that sort `after` the given one) by the day in their key. Objects without a day or
    of an unknown kind are logged, added to `ignored` and skipped.
    """
    days: dict[date, list[SourceObject]] = {}
    try:
        listed = bucket.list_objects("", deep=True, after=after)
    except BucketDeniedError as error:
        raise BucketDeniedError(f"{error}. To run without TWAP statuses, set HL_TWAP_DATA_URL=none") from error
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
    """Log an ignored object. Hidden ones (.DS_Store, _SUCCESS, a folder's own entry) are not data and are not logged."""
    emit(_log, "object_ignored", key=found.key, reason=reason)
    if ignored is not None and not _is_hidden(found.key):
        ignored.append(IgnoredObject(found.key, reason))


def _is_hidden(key: str) -> bool:
    name = key.rpartition("/")[2]
    return not name or name.startswith((".", "_"))


def etag_of_file(stat: os.stat_result) -> str:
    """Return the ETag of a file in a directory: its size and modification time."""
    return f"{stat.st_size:x}-{stat.st_mtime_ns:x}"


@dataclass(frozen=True, slots=True)
class DirectoryBucket:
    """A directory with the bucket's layout."""

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
