"""Decides from listings which days to fetch, or fetch again. Pure. The ledger shows what is present, so a lost tick, a failed run
or a stopped daemon loses nothing.
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
    """An object in the ledger: its ETag in the lake (None: fetching failed) and the time range of its rows (None: no rows)."""

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
"""The loaded days, each with the ETags of its objects by key."""


@dataclass(frozen=True, slots=True)
class Due:
    """A day to run, with the reason, and a mark that changes only when its objects in the bucket change."""

    day: date
    why: str
    mark: str


def last_due_day(now: datetime, lag: timedelta, hours_after: int = 1) -> date:
    """Return the last day whose objects are all due, including those of `hours_after` hours after its end."""
    return (now - lag - timedelta(hours=hours_after)).date() - timedelta(days=1)


def find_due_days(days: Iterable[date], listings: Mapping[str, Listing], taken: Mapping[str, Taken], loaded: Loaded) -> list[Due]:
    """Return the days with an object that is new, has changed, failed, or was fetched with another day, by the listings of the
    datasets that are loaded together. Objects of adjacent days that are not hourly count only if they have events of the day.
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
    """Return whether the day is loaded without the object, or from an older version of it."""
    return (taken.reaches_into(day) or key in loaded) and loaded.get(key) != taken.etag
