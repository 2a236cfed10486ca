"""Whether what is new to a day that is loaded can be added to it, hour by hour. Pure: what there is in, hours to make out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date

from hl_pipeline.domain.datasets import BY_BLOCK, start_of
from hl_pipeline.domain.records import ApiShard, ObjectMeta, ObjectVersion, version_of

_HOUR_MS = 3_600_000


def hours_to_append(
    day: date,
    metas: Sequence[ObjectMeta],
    loaded: AbstractSet[ObjectVersion],
    in_lake: Mapping[int, AbstractSet[ObjectVersion]],
) -> list[int] | None:
    """The hours of `day` (0-23) to be made anew so that it has the fills of `metas`, its objects; None: make the whole day.

    `loaded` are the objects that gave hl.fills its rows, `in_lake` of each hour those that its file in the lake was made of.
    Hours are enough when all objects are by_block and those that are loaded are what they were. When nothing is new the whole
    day is asked for (that mends it); so it is when more is new than is loaded, since an index that is built whole costs less.
    """
    there = {version_of(meta) for meta in metas}
    new = [meta for meta in metas if version_of(meta) not in loaded]
    if not new or len(new) > len(loaded) or not loaded <= there or any(meta.source != BY_BLOCK.name for meta in metas):
        return None
    of_hours = {hour: {version_of(meta) for meta in metas if hour in hours_of(day, meta)} for hour in range(24)}
    # What a killed run has left may be of objects that were rewritten since.
    stale = {hour for hour, versions in of_hours.items() if in_lake.get(hour, set()) != versions}
    return sorted(stale.union(*(hours_of(day, meta) for meta in new)))


def hours_of(day: date, meta: ObjectMeta | ApiShard) -> range:
    """The hours of `day` (0-23) that the object's fills may be of."""
    if meta.first_time_ms is None or meta.last_time_ms is None:
        return range(0)
    start = int(start_of(day).timestamp() * 1000)
    return range(max((meta.first_time_ms - start) // _HOUR_MS, 0), min((meta.last_time_ms - start) // _HOUR_MS, 23) + 1)
