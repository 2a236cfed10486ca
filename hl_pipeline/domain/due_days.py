"""Which days are to be fetched (again), now that the buckets are listed: pure decisions. What is present is the ledger's to tell,
so a tick that was lost, a run that failed and a daemon that was away lose nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from hl_pipeline.domain.datasets import BY_NAME, start_of
from hl_pipeline.domain.records import SourceObject
from hl_pipeline.domain.wanted_objects import Listing, wanted_objects


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


def last_due_day(now: datetime, lag: timedelta, hours_after: int = 1) -> date:
    """The last day of which every object is due: the one of the hour after its end too, or `hours_after` hours after it."""
    return (now - lag - timedelta(hours=hours_after)).date() - timedelta(days=1)


def find_due_days(days: Iterable[date], listings: Mapping[str, Listing], taken: Mapping[str, Taken], loaded: Loaded) -> list[Due]:
    """The days that have an object which is new, has changed, could not be had, or came to the lake with another day, by the
    listings of the datasets that are loaded together. Where objects are not hourly, those of a neighbour count as far as it is
    known that they have events of the day.
    """
    due: list[Due | None] = []
    for day in sorted(days):
        own: list[SourceObject] = []
        neighbours: list[SourceObject] = []
        for name, listing in listings.items():
            dataset = BY_NAME[name]
            for place, item in wanted_objects(dataset, [day], listing).items():
                if item is not None:
                    (own if dataset.is_hourly or place.object_date == day else neighbours).append(item)
        due.append(_judge(day, own, neighbours, taken, loaded.get(day, {})))
    return [day for day in due if day is not None]


def _judge(
    day: date, own: list[SourceObject], neighbours: list[SourceObject], taken: Mapping[str, Taken], loaded: Mapping[str, str]
) -> Due | None:
    new = [item for item in own if item.key not in taken or taken[item.key].etag is None]
    changed = [item for item in own if item not in new and taken[item.key].etag != item.etag]
    others = [item for item in own + neighbours if item.key in taken and item not in new + changed]
    behind = [item for item in others if _is_behind(day, item.key, taken[item.key], loaded)]
    if not (new or changed or behind):
        return None
    counts = {"new": len(new), "changed": len(changed), "behind": len(behind)}
    why = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    states = "\n".join(sorted(f"{item.key} {item.etag}" for item in own + neighbours))
    return Due(day, f"objects: {why}", hashlib.sha256(states.encode()).hexdigest()[:16])


def _is_behind(day: date, key: str, taken: Taken, loaded: Mapping[str, str]) -> bool:
    """Whether the day is missing what the lake has of the object, or has what an older form of it had."""
    return (taken.reaches_into(day) or key in loaded) and loaded.get(key) != taken.etag
