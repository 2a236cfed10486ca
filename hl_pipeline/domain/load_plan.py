"""Decides how to load a day of fills from its state in the lake and the database. Pure: facts in, a plan out.

A plan replaces the whole day, appends rows of new objects and rewrites their hours in the lake, or refuses: a wrong or partial
lake must never empty anything. `stages.load_fills` reads the facts and applies the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime

from hl_pipeline.domain.completeness import Hour, hour_of, overlapping
from hl_pipeline.domain.datasets import API_FILLS, BY_BLOCK, start_of
from hl_pipeline.domain.object_keys import shard_of_key
from hl_pipeline.domain.records import ApiShard, ObjectMeta, ObjectVersion, version_of

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class DayFacts:
    """The state of a day in the lake and the database before loading.

    In the lake (`lake` is its root, for messages): `objects_around`, the objects of the day and of adjacent days; `shards` and
    `api_wallets`, fills from the info API and their wallets; `keys_in_fills`, the keys of the source objects of the day's fills;
    `hour_files`, for each hour (0-23) the source objects of its file of fills.

    In the database: `places_in_database`, key and place of each object with rows of the day in hl.fills; `loaded`, the versions
    of these objects, empty without rows; `is_dirty`, whether the day is in hl.dirty_days. `is_thin`: HL_FILLS_KEEP_DAYS keeps the
    day out of hl.fills.
    """

    day: date
    lake: str
    objects_around: Sequence[ObjectMeta]
    shards: Sequence[ApiShard]
    api_wallets: Sequence[str]
    keys_in_fills: AbstractSet[str]
    hour_files: Mapping[int, AbstractSet[ObjectVersion]]
    places_in_database: Sequence[tuple[str, Hour]]
    loaded: AbstractSet[ObjectVersion]
    is_dirty: bool
    is_thin: bool

    @property
    def objects(self) -> list[ObjectMeta]:
        """The objects with fills of the day, ordered by hour."""
        return overlapping(self.day, self.objects_around)


@dataclass(frozen=True, slots=True)
class Replace:
    """Write the whole day again from its objects, all of which are `new`. `is_thin`: only in the lake."""

    new: Sequence[ObjectMeta | ApiShard]
    is_thin: bool


@dataclass(frozen=True, slots=True)
class Append:
    """Write `hours` (0-23, ascending) again in the lake, and append the fills of the `new` objects to hl.fills."""

    hours: list[int]
    new: Sequence[ObjectMeta]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Load nothing. `reason` names the objects missing from the lake and says how to load the day anyway."""

    reason: str


def plan_load(facts: DayFacts) -> Replace | Append | Refuse:
    """Decide how a day is loaded."""
    if (reason := find_lost_objects(facts)) is not None:
        return Refuse(reason)
    # A day in hl.dirty_days has changes other than new objects. Rows of the info API can replace others, or be replaced, in any
    # hour.
    if facts.is_thin or facts.shards or facts.is_dirty:
        hours = None
    else:
        hours = hours_to_append(facts.day, facts.objects, facts.loaded, facts.hour_files)
    if hours is None:
        return Replace([*facts.objects, *facts.shards], facts.is_thin)
    return Append(hours, [meta for meta in facts.objects if version_of(meta) not in facts.loaded])


def find_lost_objects(facts: DayFacts) -> str | None:
    """Describe objects with rows in hl.fills or in the lake's fills that are missing from the lake, or return None."""
    day, lake = facts.day, facts.lake
    places: set[Hour] = {(meta.source, hour_of(meta).date(), meta.hour) for meta in facts.objects_around}
    places |= {(API_FILLS, day, int(meta.shard, 16)) for meta in facts.shards}
    if lost := [key for key, place in facts.places_in_database if place not in places]:
        return (
            f"{day}: {len(lost)} objects with rows in hl.fills are missing from the lake {lake} ({lost[0]}, ...). "
            f"Check that HL_LAKE_URL is right and mounted. "
            f"To load the day without them: DELETE FROM hl.fills_day_objects WHERE date = '{day}', then run again"
        )
    if lost := sorted(key for key in facts.keys_in_fills if _place_of_key(key) not in places):
        table = "raw_fills" if shard_of_key(lost[0]) is None else "api_fills"
        return (
            f"{day}: {len(lost)} objects with rows in {lake}/fills/date={day} are missing from {lake}/{table} ({lost[0]}, ...). "
            f"Check that the lake is complete. To load the day without them, delete fills/date={day} in it and run again"
        )
    return None


def hours_to_append(
    day: date,
    metas: Sequence[ObjectMeta],
    loaded: AbstractSet[ObjectVersion],
    hour_files: Mapping[int, AbstractSet[ObjectVersion]],
) -> list[int] | None:
    """Return the hours of `day` (0-23) to write again to add the fills of its objects `metas`, or None for the whole day.

    `loaded`: the objects with rows in hl.fills. `hour_files`: the source objects of each hour's file in the lake. Hours suffice
    if all objects are by_block and the loaded ones are unchanged. If nothing is new, the whole day is written again, which
    repairs it. The same if more is new than loaded, because building an index at once is cheaper.
    """
    versions = {version_of(meta) for meta in metas}
    new = [meta for meta in metas if version_of(meta) not in loaded]
    if not new or len(new) > len(loaded) or not loaded <= versions or any(meta.source != BY_BLOCK.name for meta in metas):
        return None
    wanted = {hour: {version_of(meta) for meta in metas if hour in hours_of(day, meta)} for hour in range(24)}
    # Files of a killed run may come from objects that were rewritten since.
    stale = {hour for hour, of_hour in wanted.items() if hour_files.get(hour, set()) != of_hour}
    return sorted(stale.union(*(hours_of(day, meta) for meta in new)))


def hours_of(day: date, meta: ObjectMeta | ApiShard) -> range:
    """Return the hours of `day` (0-23) for which the object may have fills."""
    if meta.first_time_ms is None or meta.last_time_ms is None:
        return range(0)
    start = int(start_of(day).timestamp() * 1000)
    return range(max((meta.first_time_ms - start) // _HOUR_MS, 0), min((meta.last_time_ms - start) // _HOUR_MS, 23) + 1)


def _place_of_key(key: str) -> Hour:
    """Return source, date and hour of an object from its key, like node_fills/hourly/20250610/7.lz4, or of an info API shard."""
    if (place := shard_of_key(key)) is not None:
        return place
    source, _, day, name = key.split("/")
    return source, datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date(), int(name.partition(".")[0])
