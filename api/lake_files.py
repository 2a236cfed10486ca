"""Which files of the lake hold a day's fills, and whether they are those that the ledger describes. Nothing here reads a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any

from api.database import read_sql

LAKE_DAYS = read_sql("lake_days")
"""The values of every DayInLake. Parameters: first, last."""


_MICROSECOND = timedelta(microseconds=1)


class LakeChangedError(Exception):
    """Files of the lake are not those of the ledger: they vanished, or a day is being replaced. A new snapshot may fit."""


class LakeUnreadableError(Exception):
    """The lake cannot be read at all."""


class LakeRefusedError(Exception):
    """A file of the lake cannot be opened or fetched: access is denied, or S3 does not answer. The message names the file."""


class LakeCorruptError(Exception):
    """A file of the lake is there, but it is not Parquet that can be read. `path`: relative to the lake."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}")
        self.path = path


class LakeBusyError(Exception):
    """All requests that may read the lake at once do so."""


class LakeSlowError(TimeoutError):
    """A query of the lake took too long and was interrupted."""


class LakeMemoryError(Exception):
    """A query of the lake needs more memory or disk than it may have."""


@dataclass(frozen=True, slots=True)
class HourFile:
    """A file with the fills of an hour. `rows`: as the ledger knows, or None for days of early versions."""

    path: str
    hour: int
    rows: int | None


@dataclass(frozen=True, slots=True)
class DayInLake:
    """A day whose fills are not in hl.fills. A day at rest has `compacted` files, any other day has `hours`.

    `versions`: ETag and parser of each object that the day was loaded from.
    """

    date: date
    rows: int
    compacted: tuple[str, ...]
    hours: tuple[HourFile, ...]
    versions: frozenset[str]

    def files(self, start: datetime, end: datetime) -> list[str]:
        """Return the paths, relative to the lake, of the files that may have fills from `start` to `end`."""
        if self.compacted:
            return [*self.compacted]
        first = start.hour if start.date() == self.date else 0
        last = end.hour if end.date() == self.date else 23
        return [one.path for one in self.hours if first <= one.hour <= last]


def day_of_row(row: Sequence[Any]) -> DayInLake:
    """Return a day from a row of LAKE_DAYS."""
    day, rows, compacted, hours, rows_of_hours, versions = row
    if compacted:
        return DayInLake(day, rows, tuple(compacted), (), frozenset())
    # Days that an early version loaded have no record of their hours.
    known: list[tuple[int, int | None]] = [*zip(hours, rows_of_hours, strict=True)] if hours else [(h, None) for h in range(24)]
    files = tuple(HourFile(f"fills/date={day}/hour={hour:02}.parquet", hour, count) for hour, count in known)
    return DayInLake(day, rows, (), files, frozenset(version for version in versions or () if version is not None))


def check_hours(day: DayInLake, rows: Mapping[str, int], metadata: Mapping[str, bytes]) -> None:
    """Check files of hours, by relative path: their numbers of rows, and their metadata. Raises LakeChangedError.

    A file is replaced before the transaction that records it. Until then it has other rows or other objects than the ledger.
    """
    known = {one.path: one.rows for one in day.hours}
    for path, count in rows.items():
        if known[path] not in (None, count):
            raise LakeChangedError(f"{path} has {count} fills, and the ledger {known[path]}: {_being_loaded(day)}")
        objects = json.loads(metadata[path])["objects"] if path in metadata else []
        if not day.versions.issuperset(f"{etag} {parser}" for _, etag, parser in objects):
            raise LakeChangedError(f"{path} is from objects that the ledger does not have yet: {_being_loaded(day)}")


def _being_loaded(day: DayInLake) -> str:
    return (
        f"the day is being loaded again. If no load runs, one was interrupted, and "
        f"`hl ingest --from {day.date} --to {day.date}` finishes it. "
        "A compacted day can be read meanwhile"
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a range of time: of hl.fills or, with `days`, of the lake."""

    start: datetime
    end: datetime
    days: tuple[DayInLake, ...]


def parts_by_tier(start: datetime, end: datetime, days: Sequence[DayInLake]) -> list[Part]:
    """Split a range into parts of hl.fills and parts of the lake, in order."""
    parts: list[Part] = []
    since = start
    for _, run in groupby(enumerate(days), key=lambda one: one[1].date.toordinal() - one[0]):
        of_run = tuple(day for _, day in run)
        first, after = _midnight(of_run[0].date), _midnight(of_run[-1].date + timedelta(1))
        if after <= start or first > end:
            continue
        if since < first:
            parts.append(Part(since, first - _MICROSECOND, ()))
        parts.append(Part(max(start, first), min(end, after - _MICROSECOND), of_run))
        since = after
    if since <= end:
        parts.append(Part(since, end, ()))
    return parts


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def parts_by_day(part: Part) -> Iterator[Part]:
    """Split a part of the lake by day. A part of hl.fills stays whole."""
    if not part.days:
        yield part
    for day in part.days:
        after = _midnight(day.date + timedelta(1))
        yield Part(max(part.start, _midnight(day.date)), min(part.end, after - _MICROSECOND), (day,))
