"""Judges whether the TWAP statuses of a day are complete. They have no numbers, so nothing can prove it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from hl_pipeline.domain.completeness import NOTHING, Acknowledged, Found, find_note, show_hours
from hl_pipeline.domain.datasets import HOUR, TWAP_STATUSES, start_of
from hl_pipeline.domain.records import StatusObject

StatusDayState = Literal["unprovable", "pending", "incomplete", "no source"]
"""unprovable: objects are present, but nothing proves that no row is missing. pending: the missing objects are not due yet."""


StatusErrors = Mapping[tuple[str, int | None], str]
"""The errors of objects that could not be fetched, by key and hour (None: no hour in the key)."""


@dataclass(frozen=True, slots=True)
class StatusHour:
    """The state of the objects of an hour or, if `hour` is None, of those with only a day in their key. `why` and `note`: as in
    completeness.HourState.
    """

    hour: int | None
    found: Found
    why: str
    objects: list[StatusObject]
    note: str | None


@dataclass(frozen=True, slots=True)
class StatusVerdict:
    """The verdict on a day of statuses, with explanation and hours. `is_harmless`: every gap is acknowledged or not due."""

    state: StatusDayState
    explanation: str
    hours: list[StatusHour]
    is_harmless: bool


def judge_status_day(
    day: date,
    objects: Sequence[StatusObject],
    errors: StatusErrors,
    now: datetime,
    lag: timedelta,
    *,
    is_wanted: bool = True,
    acknowledged: Acknowledged = NOTHING,
) -> StatusVerdict:
    """Judge a day by its objects in the lake (`objects`, including the next day), the errors, the current time and acknowledged
    holes. `is_wanted`: false if no source is configured.
    """
    own = [meta for meta in objects if meta.object_date == str(day)]
    due = start_of(day) + timedelta(days=1) + lag
    if not own and not errors and (not is_wanted or start_of(day) < TWAP_STATUSES.first):
        reason = f"statuses begin on {TWAP_STATUSES.first:%Y-%m-%d}" if is_wanted else "HL_TWAP_DATA_URL is none"
        return StatusVerdict("no source", f"No source has the statuses of this day: {reason}.", [], is_harmless=True)
    hours = _judge_hours(day, own, errors, now, due, acknowledged)
    notes = [hour.note for hour in hours if hour.found in ("missing", "failed")]
    missing = "" if errors else _describe_missing(day, own, objects)
    if missing and _misses_next(day, own, objects):
        notes.append(find_note(acknowledged, TWAP_STATUSES.name, day + timedelta(days=1), 0))
    if not errors and not missing:
        rows = sum(meta.rows for meta in own)
        message = f"{len(own)} objects with {rows} rows; they cannot be proven complete."
        return StatusVerdict("unprovable", message, hours, is_harmless=True)
    if not errors and now < due:
        return StatusVerdict("pending", f"{missing}; due at {due:%Y-%m-%d %H:%M} UTC.", hours, is_harmless=True)
    message = f"{missing}."
    if errors:
        first = "; ".join(f"{key}: {error}" for (key, _), error in sorted(errors.items(), key=lambda item: item[0][0])[:3])
        message = f"{len(errors)} objects failed: {first}."
    is_harmless = all(note is not None for note in notes)
    if known := list(dict.fromkeys(note for note in notes if note is not None)):
        message += f" {'Acknowledged' if is_harmless else 'Acknowledged in part'}: {'; '.join(known)}."
    return StatusVerdict("incomplete", message, hours, is_harmless)


def _judge_hours(
    day: date, own: Sequence[StatusObject], errors: StatusErrors, now: datetime, due: datetime, acknowledged: Acknowledged
) -> list[StatusHour]:
    """Judge every hour if there is one object per hour, and the day (None) if objects have no hour or there are none."""
    hours = {meta.hour for meta in own} | {hour for _, hour in errors}
    if _is_hourly(own):
        hours |= set(range(24))

    def judge_hour(hour: int | None) -> StatusHour:
        metas = [meta for meta in own if meta.hour == hour]
        failed = [f"{key}: {error}" for (key, of), error in sorted(errors.items(), key=lambda item: item[0][0]) if of == hour]
        found: Found = "failed" if failed else "unprovable" if metas else "not due" if now < due else "missing"
        why = {
            "failed": "; ".join(failed),
            "not due": f"due at {due:%Y-%m-%d %H:%M} UTC",
            "missing": f"no such object in {TWAP_STATUSES.name}",
        }
        return StatusHour(hour, found, why.get(found, ""), metas, find_note(acknowledged, TWAP_STATUSES.name, day, hour))

    return [judge_hour(hour) for hour in sorted(hours or {None}, key=lambda hour: 24 if hour is None else hour)]


def _describe_missing(day: date, own: Sequence[StatusObject], objects: Sequence[StatusObject]) -> str:
    """Describe what is missing: all objects or, if there is one per hour (by the node's own time), some hours."""
    if not own:
        return "No object of statuses has this day in its key"
    hours = {meta.hour for meta in own if meta.hour is not None}
    missing = [start_of(day) + hour * HOUR for hour in range(24) if _is_hourly(own) and hour not in hours]
    if _misses_next(day, own, objects):
        missing.append(start_of(day + timedelta(days=1)))
    return f"{len(missing)} of 25 hourly objects of statuses are missing: {show_hours(missing)}" if missing else ""


def _is_hourly(own: Sequence[StatusObject]) -> bool:
    """Return whether a day has one object per hour. Hour 0 alone, beside another layout, has the previous day's last events."""
    hours = {meta.hour for meta in own if meta.hour is not None}
    return bool(hours) and not (hours == {0} and len(own) > 1)


def _misses_next(day: date, own: Sequence[StatusObject], objects: Sequence[StatusObject]) -> bool:
    """Return whether the last events of a day with hourly objects may be missing: they are in the next day's first object."""
    return _is_hourly(own) and not any(meta.object_date == str(day + timedelta(days=1)) for meta in objects)


def find_strays(objects: Sequence[StatusObject]) -> list[str]:
    """Describe objects with events more than a day away from the day in their key, which no other day would read."""
    messages: list[str] = []
    for meta in objects:
        if meta.first_time_ns is None or meta.last_time_ns is None:
            continue
        own = start_of(date.fromisoformat(meta.object_date))
        first, last = (datetime.fromtimestamp(ns // 10**9, UTC) for ns in (meta.first_time_ns, meta.last_time_ns))
        if first < own - timedelta(days=1) or last >= own + timedelta(days=2):
            messages.append(
                f"{meta.key} has events from {first:%Y-%m-%d} to {last:%Y-%m-%d}: materialize twap_statuses of those days"
            )
    return messages
