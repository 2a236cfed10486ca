"""Which days are to be brought (again), now that the buckets are listed: pure decisions. What is there is the ledger's to say, so
a tick that was lost, a run that failed and a daemon that was away lose nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from hl_pipeline.domain.datasets import SOURCES, start_of, wanted_hours
from hl_pipeline.domain.records import SourceObject

Listed = Mapping[str, Mapping[date, Mapping[int, SourceObject]]]
"""What a bucket of fills has: by source, date and hour of the object."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An object as the ledger has it: the ETag with which it is in the lake (None: it could not be had), and from when to when
    its rows go (None: it has none).
    """

    etag: str | None
    first_time: datetime | None
    last_time: datetime | None

    def reaches_into(self, day: date) -> bool:
        return (
            self.first_time is not None
            and self.last_time is not None
            and self.first_time < start_of(day + timedelta(days=1))
            and self.last_time >= start_of(day)
        )


Loaded = Mapping[date, Mapping[str, str]]
"""The days that are loaded: by key the ETag of each object that they were made of."""


@dataclass(frozen=True, slots=True)
class Due:
    """A day to run: why, in a few words, and a mark that is the same as long as the bucket has the same objects of it."""

    day: date
    why: str
    mark: str


def due_fills(days: Iterable[date], listed: Listed, taken: Mapping[str, Taken], loaded: Loaded) -> list[Due]:
    """The days of fills that have an object which is new, has changed, could not be had, or came to the lake with another day."""
    due = (_judge(day, _objects_of_fills(day, listed), [], taken, loaded.get(day, {})) for day in sorted(days))
    return [day for day in due if day is not None]


def due_statuses(
    days: Iterable[date], listed: Mapping[date, Iterable[SourceObject]], taken: Mapping[str, Taken], loaded: Loaded
) -> list[Due]:
    """The same of days of TWAP statuses: by their own objects, and by those of the days beside as far as it is known that they
    have events of the day.
    """
    due: list[Due | None] = []
    for day in sorted(days):
        beside = [found for step in (-1, 1) for found in listed.get(day + timedelta(days=step), [])]
        due.append(_judge(day, [*listed.get(day, [])], beside, taken, loaded.get(day, {})))
    return [day for day in due if day is not None]


def _objects_of_fills(day: date, listed: Listed) -> list[SourceObject]:
    return [
        found
        for source in SOURCES
        for hour in wanted_hours(day, source)
        if (found := listed.get(source.name, {}).get(hour.date(), {}).get(hour.hour)) is not None
    ]


def _judge(
    day: date, own: list[SourceObject], beside: list[SourceObject], taken: Mapping[str, Taken], loaded: Mapping[str, str]
) -> Due | None:
    new = [found for found in own if found.key not in taken or taken[found.key].etag is None]
    changed = [found for found in own if found not in new and taken[found.key].etag != found.etag]
    others = [found for found in own + beside if found.key in taken and found not in new + changed]
    behind = [found for found in others if _is_behind(day, found.key, taken[found.key], loaded)]
    if not (new or changed or behind):
        return None
    counts = {"new": len(new), "changed": len(changed), "behind": len(behind)}
    why = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    states = "\n".join(sorted(f"{found.key} {found.etag}" for found in own + beside))
    return Due(day, f"objects: {why}", hashlib.sha256(states.encode()).hexdigest()[:16])


def _is_behind(day: date, key: str, taken: Taken, loaded: Mapping[str, str]) -> bool:
    """Whether the day lacks what the lake has of the object, or has what an older form of it had."""
    return (taken.reaches_into(day) or key in loaded) and loaded.get(key) != taken.etag
