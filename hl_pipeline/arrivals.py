"""Which days are to be brought (again), now that the buckets are listed: pure decisions. What is there is the ledger's to say, so
a tick that was lost, a run that failed and a daemon that was away lose nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from hl_pipeline.coverage import SOURCES, start_of, wanted_hours
from hl_pipeline.sources.buckets import SourceObject

Listed = Mapping[str, Mapping[date, Mapping[int, SourceObject]]]
"""What a bucket of fills has: by source, date and hour of the object."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An object as the ledger has it: the ETag with which it is in the lake (None: it could not be had), when it was fetched, and
    from when to when its rows go (None: it has none).
    """

    etag: str | None
    fetched_at: datetime | None
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
"""The days of hl.fills: by key the ETag of each object whose rows they have."""


@dataclass(frozen=True, slots=True)
class Due:
    """A day to run: why, in a few words, and a mark that is the same as long as the bucket has the same objects of it."""

    day: date
    why: str
    mark: str


def due_fills(days: Iterable[date], listed: Listed, taken: Mapping[str, Taken], loaded: Loaded) -> list[Due]:
    """The days of fills that have an object which is new, has changed, could not be had, or came to the lake with another day."""
    due = (_judge_fills(day, _objects_of_fills(day, listed), taken, loaded.get(day)) for day in sorted(days))
    return [day for day in due if day is not None]


def due_statuses(
    days: Iterable[date],
    listed: Mapping[date, Iterable[SourceObject]],
    taken: Mapping[str, Taken],
    loaded: Mapping[date, datetime],
) -> list[Due]:
    """The days of TWAP statuses of which the same is true, or of which an object of a day beside has events; `loaded`: when."""
    due = (_judge_statuses(day, listed, taken, loaded.get(day)) for day in sorted(days))
    return [day for day in due if day is not None]


def _objects_of_fills(day: date, listed: Listed) -> list[SourceObject]:
    return [
        found
        for source in SOURCES
        for hour in wanted_hours(day, source)
        if (found := listed.get(source.name, {}).get(hour.date(), {}).get(hour.hour)) is not None
    ]


def _judge_fills(
    day: date, objects: list[SourceObject], taken: Mapping[str, Taken], loaded: Mapping[str, str] | None
) -> Due | None:
    new, changed = _unlike(objects, taken)
    behind = [
        found
        for found in objects
        if found not in new + changed
        and taken[found.key].reaches_into(day)
        and (loaded is None or loaded.get(found.key) != found.etag)
    ]
    return _due(day, objects, new=len(new), changed=len(changed), behind=len(behind))


def _judge_statuses(
    day: date, listed: Mapping[date, Iterable[SourceObject]], taken: Mapping[str, Taken], loaded_at: datetime | None
) -> Due | None:
    own = [*listed.get(day, [])]
    beside = [found for step in (-1, 1) for found in listed.get(day + timedelta(days=step), [])]
    new, changed = _unlike(own, taken)
    behind = [
        found
        for found in own + beside
        if (known := taken.get(found.key)) is not None
        and known.etag == found.etag
        and known.fetched_at is not None
        and known.reaches_into(day)
        and (loaded_at is None or known.fetched_at > loaded_at)
    ]
    return _due(day, own + beside, new=len(new), changed=len(changed), behind=len(behind))


def _unlike(objects: list[SourceObject], taken: Mapping[str, Taken]) -> tuple[list[SourceObject], list[SourceObject]]:
    """The objects that the lake does not have, and those that it has in another form."""
    etags = {found.key: taken[found.key].etag if found.key in taken else None for found in objects}
    new = [found for found in objects if etags[found.key] is None]
    return new, [found for found in objects if etags[found.key] not in (None, found.etag)]


def _due(day: date, objects: list[SourceObject], **counts: int) -> Due | None:
    if not any(counts.values()):
        return None
    states = "\n".join(sorted(f"{found.key} {found.etag}" for found in objects))
    why = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return Due(day, f"{why} of {len(objects)} objects", hashlib.sha256(states.encode()).hexdigest()[:16])
