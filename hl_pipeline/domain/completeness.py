"""Decides which objects a day needs and whether it is whole, from the lake and the ledger. Pure.

The node's local time decides the hour of an object, so a day's last fills are in the first object of the next day. A day
therefore needs the objects of its 24 hours and of the hour after. If their contents do not reach over a midnight of the day, up
to three more objects are needed on that side. Each source is judged separately, and the worst verdict counts. The state of an
hour does not depend on the day that needs it: two days share the hour between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from hl_pipeline.domain.datasets import FILL_DATASETS, HOUR, Dataset, is_needed, start_of, wanted_hours
from hl_pipeline.domain.records import ObjectMeta

MORE_HOURS = 3
_NEAR = MORE_HOURS * HOUR
# The chain makes 12 to 14 blocks per second. If the first block is later than this, some blocks may be missing undetectably.
_AT_MIDNIGHT = timedelta(seconds=1)


Hour = tuple[str, date, int]
"""A place in the bucket: the source, and date and hour of the object."""

Errors = Mapping[Hour, str]
"""The error of each object that could not be fetched, by hour."""

FoundHours = Mapping[datetime, ObjectMeta]
"""The objects of one source in the lake, by hour."""

Acknowledged = Mapping[tuple[str, date, int | None], str]
"""Notes of acknowledged holes by source, date and hour of the object. Hour None: all hours of the date."""

NOTHING: Acknowledged = MappingProxyType({})

State = Literal["present", "not due", "missing", "failed"]
Found = Literal["present", "unprovable", "not due", "missing", "failed", "blocks missing"]
"""The states of an hour in hl.coverage. unprovable: present, but its format cannot prove that no row is missing."""
DayState = Literal["whole", "unprovable", "pending", "incomplete", "no source"]
"""whole: proven by block numbers. unprovable: all objects are present, but nothing proves more (no block numbers, or the source
begins at the day's midnight). pending: the missing objects are not due yet. incomplete: objects, blocks or an edge are missing.
"""


@dataclass(frozen=True, slots=True)
class Hole:
    """Missing block numbers from `first` to `last`, within the object of `hour` or before it."""

    first: int
    last: int
    where: str
    hour: datetime


@dataclass(frozen=True, slots=True)
class HourState:
    """The state of one object. `why`: the reason if it is not present. `holes`: blocks missing in it or before it. `note`: set if
    the hole is acknowledged.
    """

    source: Dataset
    hour: datetime
    state: State
    why: str
    meta: ObjectMeta | None
    holes: list[Hole]
    note: str | None

    @property
    def expected(self) -> bool:
        """Whether a missing object is a hole."""
        return is_needed(self.source, self.hour)

    @property
    def found(self) -> Found:
        if self.state != "present":
            return self.state
        if self.holes:
            return "blocks missing"
        return "present" if self.source.has_blocks else "unprovable"

    @property
    def is_hole(self) -> bool:
        return self.found in ("failed", "blocks missing") or (self.found == "missing" and self.expected)


@dataclass(frozen=True, slots=True)
class Edge:
    """A midnight of the day that no object crosses. `hour`: of the object that should cross it. `follows`: that object is
    missing, so this is no separate fault. `note`: as in HourState.
    """

    hour: datetime
    finding: str
    follows: bool
    note: str | None


@dataclass(frozen=True, slots=True)
class DayVerdict:
    """Whether a day is whole: its sources, their hours, holes in the block numbers, and edges that no object crosses.

    `hours`: those that the day needs or has. `coverage`: all judged hours, including neighbours in the lake, whose state may have
    changed with this day. `unproven`: a message if the start of the day cannot be proven complete. `of_api_fills`: a message
    about fills from the info API.
    """

    day: date
    sources: list[Dataset]
    hours: list[HourState]
    holes: list[Hole]
    edges: list[Edge]
    coverage: list[HourState]
    unproven: str = ""
    of_api_fills: str = ""

    @property
    def state(self) -> DayState:
        missing = {h.state for h in self.hours} - {"present"}
        if not self.sources:
            return "no source"
        if self.holes or missing - {"not due"} or any(not edge.follows for edge in self.edges):
            return "incomplete"
        if missing:
            return "pending"
        return "whole" if self._has_all_blocks and not self.unproven else "unprovable"

    @property
    def is_whole(self) -> bool:
        return self.state == "whole"

    @property
    def is_harmless(self) -> bool:
        """Whether every known gap is acknowledged or not due. The day may still not be proven whole."""
        return self.hours_are_harmless and self.holes_are_harmless and all(e.follows or e.note is not None for e in self.edges)

    @property
    def hours_are_harmless(self) -> bool:
        """Whether every missing object is acknowledged or not due yet."""
        return all(hour.state in ("present", "not due") or hour.note is not None for hour in self.hours)

    @property
    def holes_are_harmless(self) -> bool:
        """Whether every hole in the block numbers is acknowledged."""
        notes = {hour.hour: hour.note for hour in self.hours if hour.source.has_blocks}
        return all(notes[hole.hour] is not None for hole in self.holes)

    @property
    def missing_blocks(self) -> int:
        return sum(hole.last - hole.first + 1 for hole in self.holes)

    @property
    def source_names(self) -> str:
        """The datasets with objects of the day, present or missing."""
        return " + ".join(dict.fromkeys(hour.source.name for hour in self.hours)) or "none"

    @property
    def _has_all_blocks(self) -> bool:
        start, end = start_of(self.day), start_of(self.day) + timedelta(days=1)
        return all(
            source.has_blocks
            for source in self.sources
            if source.first < end and (source.needed_until is None or source.needed_until + HOUR > start)
        )

    def explain(self) -> str:
        """Describe the verdict in one or more sentences."""
        return self._explain_objects() + self.of_api_fills

    def _explain_objects(self) -> str:
        if not self.sources:
            return "No S3 source has this day."
        if self.state == "whole":
            return f"Whole: {len(self.hours)} objects, no block missing."
        if self.state == "unprovable":
            present = f"All {len(self.hours)} objects are present ({self.source_names})"
            if self._has_all_blocks:
                return f"{present}, no block missing between them. {self.unproven}"
            return f"{present}, but without block numbers they cannot be proven complete."
        sentences: list[str] = []
        for state in ("missing", "failed", "not due"):
            hours = [h for h in self.hours if h.state == state]
            if hours:
                reasons = sorted({h.why for h in hours})
                which = show_hours([h.hour for h in hours])
                sentences.append(f"{len(hours)} of {len(self.hours)} objects {state}: {which} ({'; '.join(reasons[:3])})")
        if self.holes:
            where = "; ".join(f"{h.first}-{h.last} {h.where}" for h in self.holes[:3])
            sentences.append(f"{self.missing_blocks} blocks missing: {where}")
        sentences += [edge.finding for edge in self.edges]
        notes = {hour.note: None for hour in self.hours if hour.is_hole} | {edge.note: None for edge in self.edges}
        if acknowledged := [note for note in notes if note is not None]:
            part = "Acknowledged" if self.is_harmless else "Acknowledged in part"
            sentences.append(f"{part}: {'; '.join(acknowledged)}")
        return ". ".join(sentences) + "."


def extra_hours(day: date, source: Dataset, found: FoundHours) -> list[datetime]:
    """Return the hours beyond `wanted_hours` that are needed because the objects in `found` do not cross a midnight of the day.

    Call again after fetching them.
    """
    start, end = start_of(day), start_of(day) + timedelta(days=1)
    hours: list[datetime] = []
    for hour in (end + HOUR * n for n in range(1, MORE_HOURS + 1)):
        before = found.get(hour - HOUR)
        if before is None or last_ns(before) is None or _reaches(last_ns(before), end):
            break
        hours.append(hour)
    for hour in (start - HOUR * n for n in range(1, MORE_HOURS + 1)):
        after = found.get(hour + HOUR)
        if hour < source.first or after is None or not _reaches(first_ns(after), start):
            break
        hours.append(hour)
    return [hour for hour in hours if source.last is None or hour <= source.last]


def judge_day(
    day: date,
    metas: Sequence[ObjectMeta],
    errors: Errors,
    now: datetime,
    lag: timedelta,
    acknowledged: Acknowledged = NOTHING,
    datasets: Sequence[Dataset] = FILL_DATASETS,
) -> DayVerdict:
    """Judge a day by its objects in the lake (`metas`, including adjacent days), errors by hour, the current time and
    acknowledged holes. `datasets`: the hourly datasets, oldest first, each beginning where the previous one ends.
    """
    sources = [source for source in datasets if wanted_hours(day, source)]
    found = {source.name: {hour_of(meta): meta for meta in metas if meta.source == source.name} for source in sources}
    hours: list[HourState] = []
    holes: list[Hole] = []
    edges: list[Edge] = []
    coverage: list[HourState] = []
    unproven: list[str] = []
    for source in sources:
        present = found[source.name]
        used = sorted({*wanted_hours(day, source), *extra_hours(day, source, present)})
        neighbours = [hour for hour in present if hour not in used and used[0] - _NEAR <= hour <= used[-1] + _NEAR]
        missing = find_holes(list(present.values()))
        states = [
            HourState(
                source,
                hour,
                *_state_of(source, hour, present.get(hour), errors, now, lag),
                present.get(hour),
                [hole for hole in missing if hole.hour == hour],
                find_note(acknowledged, source.name, hour.date(), hour.hour),
            )
            for hour in [*used, *neighbours]
        ]
        coverage += states
        own = states[: len(used)]
        if doubt := _find_unproven_start(day, source, own):
            unproven.append(doubt)
            own = [state for state in own if state.hour >= start_of(day) or state.meta is not None]
        hours += [state for state in own if state.state not in ("missing", "not due") or state.expected]
        # Blocks before the first object are not of this day: the object begins before midnight, or an edge is reported.
        first = present[used[0]].first_block if used[0] in present else None
        holes += [hole for state in own for hole in state.holes if hole.hour > used[0] or first is None or hole.first > first]
        edges += [edge for edge in _find_edges(day, source, own, acknowledged) if not (doubt and edge.hour == start_of(day))]
    for poorer, better in pairwise(sources):
        edges += _find_seam(day, poorer, better, found, hours, acknowledged)
    return DayVerdict(day, sources, hours, holes, edges, coverage, " ".join(unproven))


def find_note(acknowledged: Acknowledged, source: str, object_date: date, hour: int | None) -> str | None:
    """Return the note of an acknowledged hour, or of its whole day."""
    return acknowledged.get((source, object_date, hour), acknowledged.get((source, object_date, None)))


def _state_of(
    source: Dataset, hour: datetime, meta: ObjectMeta | None, errors: Errors, now: datetime, lag: timedelta
) -> tuple[State, str]:
    failed = errors.get((source.name, hour.date(), hour.hour))
    if failed is not None:
        return "failed", failed
    if meta is not None and not (meta.blocks if source.has_blocks else meta.rows):
        return "failed", f"{meta.key}: the object exists but has no {'blocks' if source.has_blocks else 'fills'}"
    if meta is not None and (strays := _find_strays(meta)):
        return "failed", strays
    if meta is not None:
        return "present", ""
    if now < hour + HOUR + lag:
        return "not due", f"due at {hour + HOUR + lag:%Y-%m-%d %H:%M} UTC"
    return "missing", f"no such object in {source.name}"


def _find_strays(meta: ObjectMeta) -> str:
    """Describe fills so far from the object's hour that no day would find them, or return an empty string."""
    if meta.first_time_ms is None or meta.last_time_ms is None:
        return ""
    hour = hour_of(meta)
    first, last = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (meta.first_time_ms, meta.last_time_ms))
    if hour - (MORE_HOURS + 1) * HOUR <= first and last <= hour + (MORE_HOURS + 2) * HOUR:
        return ""
    return f"{meta.key}: has fills from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}, far from its hour; check the object"


def find_holes(metas: Sequence[ObjectMeta]) -> list[Hole]:
    """Return block numbers missing within objects, or between objects of consecutive hours, that no nearby object has."""
    filled = {hour_of(meta): meta for meta in metas if meta.first_block is not None}
    holes: list[Hole] = []
    for hour, meta in filled.items():
        missing = [(first, last, f"in {meta.key}") for first, last in meta.missing_blocks]
        before = filled.get(hour - HOUR)
        if before is not None and before.last_block is not None and meta.first_block is not None:
            missing.append((before.last_block + 1, meta.first_block - 1, f"between {before.key} and {meta.key}"))
        near = [other for step in range(-MORE_HOURS, MORE_HOURS + 1) if (other := filled.get(hour + HOUR * step)) is not None]
        present = [run for other in near for run in _block_runs(other)] if missing else []
        holes += [Hole(*left, where, hour) for first, last, where in missing for left in _without(first, last, present)]
    return sorted(holes, key=lambda hole: hole.first)


def _block_runs(meta: ObjectMeta) -> list[tuple[int, int]]:
    """Return the runs of block numbers in an object, each with first and last."""
    assert meta.first_block is not None
    assert meta.last_block is not None
    starts = [meta.first_block, *(last + 1 for _, last in meta.missing_blocks)]
    ends = [*(first - 1 for first, _ in meta.missing_blocks), meta.last_block]
    return list(zip(starts, ends, strict=True))


def _without(first: int, last: int, runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the parts of `first` to `last` outside the runs."""
    left = [(first, last)] if first <= last else []
    for start, end in runs:
        if start <= last and end >= first:
            parts = [((low, min(high, start - 1)), (max(low, end + 1), high)) for low, high in left]
            left = [part for pair in parts for part in pair if part[0] <= part[1]]
    return left


def _find_unproven_start(day: date, source: Dataset, own: list[HourState]) -> str:
    """Describe what is unproven about a source that begins at the day's midnight, such as a node's directory or a mirror. Only
    the previous hour could prove that no block is missing between.

    Returns an empty string if that hour is present, failed or not due, or if the first block is well after midnight.
    """
    start = start_of(day)
    before = [state for state in own if state.hour < start]
    firsts = [first for state in own if state.meta is not None and (first := first_ns(state.meta)) is not None]
    if not before or before[0].state != "missing" or not firsts or _reaches(min(firsts), start + _AT_MIDNIGHT):
        return ""
    first = f"{datetime.fromtimestamp(min(firsts) / 10**9, UTC):%H:%M:%S.%f}"
    return (
        f"{source.name} has no object for {show_hours([before[0].hour])}, and the first {_unit(source)} is at {first}, "
        "so an earlier one on this day cannot be ruled out."
    )


def _unit(source: Dataset) -> str:
    return "block" if source.has_blocks else "fill"


def _find_edges(day: date, source: Dataset, own: list[HourState], acknowledged: Acknowledged) -> list[Edge]:
    start, end = start_of(day), start_of(day) + timedelta(days=1)
    what = _unit(source)
    edges: list[Edge] = []
    firsts = [first for state in own if state.meta is not None and (first := first_ns(state.meta)) is not None]
    lasts = [last for state in own if state.meta is not None and (last := last_ns(state.meta)) is not None]
    if firsts and start > source.first and is_needed(source, start) and _reaches(min(firsts), start):
        message = f"no {what} before {start:%Y-%m-%d %H:%M} was found, so the first fills of the day may be missing"
        follows = any(state.state != "present" for state in own if state.hour <= start)
        edges.append(Edge(start, message, follows, find_note(acknowledged, source.name, day, 0)))
    if lasts and (source.last is None or end <= source.last) and is_needed(source, end) and not _reaches(max(lasts), end):
        message = f"no {what} from {end:%Y-%m-%d %H:%M} on was found, so the last fills of the day may be missing"
        follows = any(state.state != "present" for state in own if state.hour >= end)
        edges.append(Edge(end, message, follows, find_note(acknowledged, source.name, end.date(), 0)))
    return edges


def _find_seam(
    day: date,
    poorer: Dataset,
    better: Dataset,
    found: Mapping[str, FoundHours],
    hours: Sequence[HourState],
    acknowledged: Acknowledged,
) -> list[Edge]:
    """On the day when `better` begins, check that the previous source reaches its start."""
    before, after = found[poorer.name], found[better.name]
    last = max((ns for meta in before.values() if (ns := last_ns(meta)) is not None), default=None)
    first = first_ns(after[better.first]) if better.first in after else None
    # Fills have milliseconds, blocks have nanoseconds.
    if better.first.date() != day or last is None or first is None or last // 10**6 >= first // 10**6:
        return []
    message = (
        f"the older format ends at {_show_ns(last)} and {better.name} begins at {_show_ns(first)}; the fills between are missing"
    )
    follows = any(state.state != "present" for state in hours if state.hour == better.first)
    return [Edge(better.first, message, follows, find_note(acknowledged, better.name, day, better.first.hour))]


def first_ns(meta: ObjectMeta) -> int | None:
    """Return the earliest time in an object, of its blocks or, without blocks, of its fills, in ns since 1970."""
    if meta.first_block_time_ns is not None or meta.first_time_ms is None:
        return meta.first_block_time_ns
    return meta.first_time_ms * 1_000_000


def last_ns(meta: ObjectMeta) -> int | None:
    """Return the latest time in an object, as `first_ns`."""
    if meta.last_block_time_ns is not None or meta.last_time_ms is None:
        return meta.last_block_time_ns
    return meta.last_time_ms * 1_000_000


def overlapping(day: date, metas: Iterable[ObjectMeta]) -> list[ObjectMeta]:
    """Return the objects with fills of `day`, ordered by hour."""
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
    """Return the hour in an object's key, in UTC."""
    return start_of(date.fromisoformat(meta.object_date)) + HOUR * meta.hour


def _reaches(time_ns: int | None, moment: datetime) -> bool:
    return time_ns is not None and time_ns >= int(moment.timestamp()) * 1_000_000_000


def _show_ns(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%H:%M:%S}"


def show_hours(hours: Sequence[datetime]) -> str:
    """Format hours like `2026-03-15 00-04 h, 2026-03-15 07 h`."""
    runs: list[list[datetime]] = []
    for hour in hours:
        if runs and hour - runs[-1][-1] == HOUR and hour.date() == runs[-1][-1].date():
            runs[-1].append(hour)
        else:
            runs.append([hour])
    return ", ".join(f"{r[0]:%Y-%m-%d %H}-{r[-1]:%H} h" if len(r) > 1 else f"{r[0]:%Y-%m-%d %H} h" for r in runs)
