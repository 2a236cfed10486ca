"""How to load a day of fills, decided from what lake and database have of it. Pure: facts in, a plan out.

A day is replaced as a whole, or hours of it are made again and the rows of new objects appended, or it is refused: a wrong lake,
or half a lake, must not empty anything. Reading the facts and applying the plan is for `stages.load_fills`.
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
    """What lake and database have of a day before it is loaded.

    In the lake (`lake` is its root, for messages): `objects_around`, the objects of the day and of its neighbours; `shards` and
    `api_wallets`, what the info API gave and of whom; `keys_in_fills`, the keys of the objects that its fills of the day come
    from; `hour_files`, for each hour (0-23) the objects that its file of fills was made of.

    In the database: `places_in_database`, key and place of each object that gave hl.fills rows of the day; `loaded`, the versions
    of the objects that its rows are from, none when it has no rows; `is_dirty`, whether hl.dirty_days has the day. `is_thin`:
    HL_FILLS_KEEP_DAYS keeps the day out of hl.fills.
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
        """The objects that have fills of the day, in the order of their hours."""
        return overlapping(self.day, self.objects_around)


@dataclass(frozen=True, slots=True)
class Replace:
    """Make the whole day again from its objects, all of which are `new`; `is_thin`: in the lake alone."""

    new: Sequence[ObjectMeta | ApiShard]
    is_thin: bool


@dataclass(frozen=True, slots=True)
class Append:
    """Make `hours` (0-23, rising) again in the lake, and append to hl.fills what the `new` objects have of them."""

    hours: list[int]
    new: Sequence[ObjectMeta]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Load nothing. `reason` names what the lake has lost, and says how to load what it has anyway."""

    reason: str


def plan_load(facts: DayFacts) -> Replace | Append | Refuse:
    """Decide how a day is loaded."""
    if (reason := find_lost_objects(facts)) is not None:
        return Refuse(reason)
    # A note in hl.dirty_days says that something other than a new object has come; and rows of the info API can take the place of
    # others, or others theirs, in any hour.
    if facts.is_thin or facts.shards or facts.is_dirty:
        hours = None
    else:
        hours = hours_to_append(facts.day, facts.objects, facts.loaded, facts.hour_files)
    if hours is None:
        return Replace([*facts.objects, *facts.shards], facts.is_thin)
    return Append(hours, [meta for meta in facts.objects if version_of(meta) not in facts.loaded])


def find_lost_objects(facts: DayFacts) -> str | None:
    """The objects that gave hl.fills, or the lake's own fills, rows of the day, and are gone from the lake; None: none are."""
    day, lake = facts.day, facts.lake
    places: set[Hour] = {(meta.source, hour_of(meta).date(), meta.hour) for meta in facts.objects_around}
    places |= {(API_FILLS, day, int(meta.shard, 16)) for meta in facts.shards}
    if lost := [key for key, place in facts.places_in_database if place not in places]:
        return (
            f"{day}: the lake ({lake}) lacks {len(lost)} objects that hl.fills has rows of ({lost[0]}, ...). "
            f"Is HL_LAKE_URL right, and mounted? "
            f"To load what is there all the same: DELETE FROM hl.fills_day_objects WHERE date = '{day}', run again"
        )
    if lost := sorted(key for key in facts.keys_in_fills if _place_of_key(key) not in places):
        table = "raw_fills" if shard_of_key(lost[0]) is None else "api_fills"
        return (
            f"{day}: {lake}/{table} lacks {len(lost)} objects that {lake}/fills/date={day} has rows of ({lost[0]}, ...). "
            f"Is the lake whole? To load what is there all the same, delete fills/date={day} in it, run again"
        )
    return None


def hours_to_append(
    day: date,
    metas: Sequence[ObjectMeta],
    loaded: AbstractSet[ObjectVersion],
    hour_files: Mapping[int, AbstractSet[ObjectVersion]],
) -> list[int] | None:
    """The hours of `day` (0-23) to be made again so that it has the fills of `metas`, its objects; None: make the whole day.

    `loaded` are the objects that gave hl.fills its rows, `hour_files` those that each hour's file in the lake was made of.
    Hours are enough when all objects are by_block and those that are loaded are what they were. When nothing is new the whole
    day is made again (that mends it); so it is when more is new than is loaded, since an index that is built whole costs less.
    """
    versions = {version_of(meta) for meta in metas}
    new = [meta for meta in metas if version_of(meta) not in loaded]
    if not new or len(new) > len(loaded) or not loaded <= versions or any(meta.source != BY_BLOCK.name for meta in metas):
        return None
    wanted = {hour: {version_of(meta) for meta in metas if hour in hours_of(day, meta)} for hour in range(24)}
    # What a killed run has left may be of objects that were rewritten since.
    stale = {hour for hour, of_hour in wanted.items() if hour_files.get(hour, set()) != of_hour}
    return sorted(stale.union(*(hours_of(day, meta) for meta in new)))


def hours_of(day: date, meta: ObjectMeta | ApiShard) -> range:
    """The hours of `day` (0-23) that the object's fills may be of."""
    if meta.first_time_ms is None or meta.last_time_ms is None:
        return range(0)
    start = int(start_of(day).timestamp() * 1000)
    return range(max((meta.first_time_ms - start) // _HOUR_MS, 0), min((meta.last_time_ms - start) // _HOUR_MS, 23) + 1)


def _place_of_key(key: str) -> Hour:
    """Source, date and hour of an object by its key, like node_fills/hourly/20250610/7.lz4; or of a shard of the info API."""
    if (place := shard_of_key(key)) is not None:
        return place
    source, _, day, name = key.split("/")
    return source, datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date(), int(name.partition(".")[0])
