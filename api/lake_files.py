"""Which files of the lake hold a day's fills, and whether they are those that the ledger describes. Nothing here reads a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from api.database import read_sql

LAKE_DAYS = read_sql("lake_days")
"""The values of every DayInLake. Parameters: first, last."""


class LakeChangedError(Exception):
    """Files of the lake are not those of the ledger: they vanished, or a day is being replaced. A new snapshot may fit."""


class LakeUnreadableError(Exception):
    """The lake cannot be read at all."""


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
    day, rows, hours, rows_of_hours, versions = row
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
            raise LakeChangedError(f"{path} has {count} fills, and the ledger {known[path]}: the day is being loaded again")
        objects = json.loads(metadata[path])["objects"] if path in metadata else []
        if not day.versions.issuperset(f"{etag} {parser}" for _, etag, parser in objects):
            raise LakeChangedError(f"{path} is from objects that the ledger does not have yet: the day is being loaded again")
