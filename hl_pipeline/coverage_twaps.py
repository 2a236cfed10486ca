"""Whether the statuses of a day's TWAPs are there, as far as that can be told: nothing numbers them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from hl_pipeline.coverage import HOUR, show_hours, start_of
from hl_pipeline.lake_twaps import StatusObject

FIRST_DAY = date(2025, 8, 17)
"""The first day that the bucket of statuses is known to have."""

StatusDayState = Literal["unprovable", "pending", "incomplete", "no source"]
"""unprovable: objects are there, and nothing can show that they lack no row; pending: what lacks is not due yet."""


@dataclass(frozen=True, slots=True)
class StatusJudgement:
    """How a day of statuses was judged, and in words for people."""

    state: StatusDayState
    explanation: str


def judge_status_day(
    day: date,
    objects: Sequence[StatusObject],
    errors: Mapping[str, str],
    now: datetime,
    lag: timedelta,
    *,
    is_wanted: bool = True,
) -> StatusJudgement:
    """Judge a day by the objects in the lake (`objects`, of the next day too), why others could not be had (`errors`, by key),
    and the time it is; `is_wanted` is false where no source is set.
    """
    own = [meta for meta in objects if meta.object_date == str(day)]
    if errors:
        said = "; ".join(f"{key}: {error}" for key, error in sorted(errors.items())[:3])
        return StatusJudgement("incomplete", f"{len(errors)} objects could not be had: {said}.")
    if not own and (not is_wanted or day < FIRST_DAY):
        reason = f"statuses begin on {FIRST_DAY}" if is_wanted else "HL_TWAP_DATA_URL is none"
        return StatusJudgement("no source", f"No source has the statuses of this day: {reason}.")
    lacking = _lacking(day, own, objects)
    if not lacking:
        rows = sum(meta.rows for meta in own)
        return StatusJudgement("unprovable", f"{len(own)} objects with {rows} rows; nothing can prove them complete.")
    due = start_of(day) + timedelta(days=1) + lag
    if now < due:
        return StatusJudgement("pending", f"{lacking}; due at {due:%Y-%m-%d %H:%M} UTC.")
    return StatusJudgement("incomplete", f"{lacking}.")


def _lacking(day: date, own: Sequence[StatusObject], objects: Sequence[StatusObject]) -> str:
    """What is known to lack: any object at all or, where there is one an hour (cut by the node's own time), some hours."""
    if not own:
        return "No object of statuses has this day in its key"
    hours = {meta.hour for meta in own if meta.hour is not None}
    # Hour 0 may be there for the last events of the day before alone, beside objects of another layout.
    if hours <= {0} and len(own) > len(hours):
        return ""
    next_day = day + timedelta(days=1)
    lacking = [start_of(day) + hour * HOUR for hour in range(24) if hour not in hours]
    if not any(meta.object_date == str(next_day) for meta in objects):
        lacking.append(start_of(next_day))
    return f"{len(lacking)} of 25 hourly objects of statuses lack: {show_hours(lacking)}" if lacking else ""


def find_strays(objects: Sequence[StatusObject]) -> list[str]:
    """Objects with events more than a day from the day in their key, where nobody would look for them, in words."""
    said: list[str] = []
    for meta in objects:
        if meta.first_time_ns is None or meta.last_time_ns is None:
            continue
        own = start_of(date.fromisoformat(meta.object_date))
        first, last = (datetime.fromtimestamp(ns // 10**9, UTC) for ns in (meta.first_time_ns, meta.last_time_ns))
        if first < own - timedelta(days=1) or last >= own + timedelta(days=2):
            said.append(
                f"{meta.key} has events from {first:%Y-%m-%d} to {last:%Y-%m-%d}: materialize twap_statuses of those days"
            )
    return said
