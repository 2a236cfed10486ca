"""Which objects make up a day, and whether the day is whole: pure judgements over what the lake and the ledger know.

Hours are cut by the node's local time, so a day's last fills stand in the first object of the next day: a day wants the objects
of its 24 hours and the one after. While the blocks seen do not reach over an edge of the day, up to three more objects are
asked for on that side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Literal

from hl_pipeline.lake import ObjectMeta

HOUR = timedelta(hours=1)
MORE_HOURS = 3


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset of the bucket and the hours (UTC, by object) that it has; `last` is None while it goes on."""

    name: str
    first: datetime
    last: datetime | None


BY_BLOCK = Source("node_fills_by_block", datetime(2025, 7, 27, 8, tzinfo=UTC), None)

Errors = Mapping[tuple[date, int], str]
"""Why the objects of an hour (date and hour of the bucket) could not be had."""

State = Literal["present", "not due", "missing", "failed"]


@dataclass(frozen=True, slots=True)
class HourState:
    """What became of one object: `why` says more of what is not there."""

    hour: datetime
    state: State
    why: str
    meta: ObjectMeta | None


@dataclass(frozen=True, slots=True)
class Hole:
    """Block numbers that are missing, from `first` to `last`, within an object or before it."""

    first: int
    last: int
    where: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a day is whole: its hours, the holes in the block numbers, and the edges that the blocks do not reach."""

    day: date
    hours: list[HourState]
    holes: list[Hole]
    edges: list[str]
    has_source: bool

    @property
    def is_whole(self) -> bool:
        return self.has_source and not self.holes and not self.edges and all(h.state == "present" for h in self.hours)

    @property
    def is_pending(self) -> bool:
        """Not whole yet, but nothing is known to be wrong: what lacks is not due."""
        lacking = {h.state for h in self.hours} - {"present"}
        return not self.is_whole and not self.holes and lacking <= {"not due"} and (not self.edges or bool(lacking))

    def explain(self) -> str:
        """One sentence for people."""
        if not self.has_source:
            return "No S3 source has this day."
        if self.is_whole:
            return f"Whole: {len(self.hours)} objects, no block missing."
        said: list[str] = []
        for state in ("missing", "failed", "not due"):
            hours = [h for h in self.hours if h.state == state]
            if hours:
                reasons = sorted({h.why for h in hours})
                said.append(f"{len(hours)} {state} ({_show_hours([h.hour for h in hours])}): {'; '.join(reasons[:3])}")
        if self.holes:
            count = sum(hole.last - hole.first + 1 for hole in self.holes)
            said.append(f"{count} blocks missing: " + "; ".join(f"{h.first}-{h.last} {h.where}" for h in self.holes[:3]))
        return ". ".join(said + self.edges) + "."


def start_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def wanted_hours(day: date, source: Source) -> list[datetime]:
    """The hours whose objects a day wants in any case; none when the source does not have the day."""
    start = start_of(day)
    hours = [start + HOUR * n for n in range(25)]
    return [hour for hour in hours if source.first <= hour and (source.last is None or hour <= source.last)]


def extra_hours(day: date, source: Source, found: dict[datetime, ObjectMeta]) -> list[datetime]:
    """The hours beyond `wanted_hours` whose objects are wanted because the blocks of their neighbours in `found` do not reach
    over an edge of the day. Ask again with what has come of them.
    """
    start, end = start_of(day), start_of(day) + timedelta(days=1)
    hours: list[datetime] = []
    for hour in (end + HOUR * n for n in range(1, MORE_HOURS + 1)):
        before = found.get(hour - HOUR)
        if before is None or before.last_block_time_ns is None or _reaches(before.last_block_time_ns, end):
            break
        hours.append(hour)
    for hour in (start - HOUR * n for n in range(1, MORE_HOURS + 1)):
        after = found.get(hour + HOUR)
        if hour < source.first or after is None or not _reaches(after.first_block_time_ns, start):
            break
        hours.append(hour)
    return [hour for hour in hours if source.last is None or hour <= source.last]


def judge_day(
    day: date,
    source: Source,
    metas: Iterable[ObjectMeta],
    errors: Errors,
    now: datetime,
    lag: timedelta,
) -> Judgement:
    """Judge a day by the objects in the lake (`metas`, of the days around it too), the errors by hour, and the time it is."""
    found = {hour_of(meta): meta for meta in metas if meta.source == source.name}
    wanted = wanted_hours(day, source)
    if not wanted:
        return Judgement(day, [], [], [], has_source=False)
    used = sorted({*wanted, *extra_hours(day, source, found)})
    states = [_state_of(hour, found.get(hour), errors, now, lag) for hour in used]
    present = [state.meta for state in states if state.meta is not None]
    return Judgement(day, states, find_holes(present), _find_edges(day, source, found, used), has_source=True)


def _state_of(hour: datetime, meta: ObjectMeta | None, errors: Errors, now: datetime, lag: timedelta) -> HourState:
    failed = errors.get((hour.date(), hour.hour))
    if failed is not None:
        return HourState(hour, "failed", failed, meta)
    if meta is not None and not meta.blocks:
        return HourState(hour, "failed", f"{meta.key}: the object is there but has no blocks", meta)
    if meta is not None:
        return HourState(hour, "present", "", meta)
    if now < hour + HOUR + lag:
        return HourState(hour, "not due", f"due at {hour + HOUR + lag:%Y-%m-%d %H:%M} UTC", None)
    return HourState(hour, "missing", "no such object in the bucket", None)


def find_holes(metas: Sequence[ObjectMeta]) -> list[Hole]:
    """Block numbers missing within the objects, and between those of hours that follow each other, that no object has."""
    filled = [meta for meta in metas if meta.first_block is not None]
    holes = [Hole(first, last, f"in {meta.key}") for meta in filled for first, last in meta.missing_blocks]
    for before, after in pairwise(filled):
        assert before.last_block is not None
        assert after.first_block is not None
        if hour_of(after) - hour_of(before) == HOUR and after.first_block > before.last_block + 1:
            holes.append(Hole(before.last_block + 1, after.first_block - 1, f"between {before.key} and {after.key}"))
    there = [run for meta in filled for run in _block_runs(meta)]
    left = [Hole(first, last, hole.where) for hole in holes for first, last in _without(hole.first, hole.last, there)]
    return sorted(left, key=lambda hole: hole.first)


def _block_runs(meta: ObjectMeta) -> list[tuple[int, int]]:
    """The runs of block numbers that an object has, first and last."""
    assert meta.first_block is not None
    assert meta.last_block is not None
    starts = [meta.first_block, *(last + 1 for _, last in meta.missing_blocks)]
    ends = [*(first - 1 for first, _ in meta.missing_blocks), meta.last_block]
    return list(zip(starts, ends, strict=True))


def _without(first: int, last: int, runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of `first` to `last` without the runs."""
    left = [(first, last)]
    for start, end in runs:
        if start <= last and end >= first:
            parts = [((low, min(high, start - 1)), (max(low, end + 1), high)) for low, high in left]
            left = [part for pair in parts for part in pair if part[0] <= part[1]]
    return left


def _find_edges(day: date, source: Source, found: dict[datetime, ObjectMeta], used: list[datetime]) -> list[str]:
    start, end = start_of(day), start_of(day) + timedelta(days=1)
    used_metas = [found[hour] for hour in used if hour in found]
    edges: list[str] = []
    firsts = [meta.first_block_time_ns for meta in used_metas if meta.first_block_time_ns is not None]
    lasts = [meta.last_block_time_ns for meta in used_metas if meta.last_block_time_ns is not None]
    if start < source.first:
        edges.append(f"what was before {source.name} begins ({source.first:%Y-%m-%d %H} h) stands in older formats, not read yet")
    if firsts and start > source.first and _reaches(min(firsts), start):
        edges.append(f"no block before {start:%Y-%m-%d %H:%M} was seen, so the first fills of the day may lack")
    if lasts and not _reaches(max(lasts), end):
        edges.append(f"no block from {end:%Y-%m-%d %H:%M} on was seen, so the last fills of the day may lack")
    return edges


def overlapping(day: date, metas: Iterable[ObjectMeta]) -> list[ObjectMeta]:
    """The objects that have fills of `day`, in the order of their hours."""
    first = int(start_of(day).timestamp() * 1000)
    last = first + 86_400_000
    with_fills = [
        meta
        for meta in metas
        if meta.first_time_ms is not None and meta.last_time_ms is not None
        if meta.first_time_ms < last and meta.last_time_ms >= first
    ]
    return sorted(with_fills, key=hour_of)


def hour_of(meta: ObjectMeta) -> datetime:
    return start_of(date.fromisoformat(meta.object_date)) + HOUR * meta.hour


def _reaches(time_ns: int | None, moment: datetime) -> bool:
    return time_ns is not None and time_ns >= int(moment.timestamp()) * 1_000_000_000


def _show_hours(hours: Sequence[datetime]) -> str:
    """`00-04, 07 h` of the first day, with the date where it changes."""
    runs: list[list[datetime]] = []
    for hour in hours:
        if runs and hour - runs[-1][-1] == HOUR and hour.date() == runs[-1][-1].date():
            runs[-1].append(hour)
        else:
            runs.append([hour])
    return ", ".join(f"{r[0]:%m-%d %H}-{r[-1]:%H} h" if len(r) > 1 else f"{r[0]:%m-%d %H} h" for r in runs)
