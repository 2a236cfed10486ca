"""`hl status --from --to`: formats hl.coverage as a calendar, one line per day and dataset, one glyph per hour. No queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import psycopg
from rich.markup import escape

from hl_pipeline.domain.completeness import MORE_HOURS, show_hours
from hl_pipeline.domain.datasets import FILL_DATASETS, HOUR, TWAP_STATUSES, is_needed, start_of
from hl_pipeline.warehouse.status_queries import (
    CoveredHour,
    Days,
    LoadedDay,
    read_fills_verdicts,
    read_hours,
    read_status_verdicts,
)

GLYPHS = {
    "present": ("#", "green", "present, no missing blocks"),
    "unprovable": ("=", "green", "present; its format cannot prove that no row is missing"),
    "not due": (".", "dim", "not due yet"),
    "missing": ("X", "red", "missing"),
    "failed": ("E", "red", "failed"),
    "blocks missing": ("B", "red", "present, but blocks are missing in it or before it"),
    "acknowledged": ("a", "yellow", "acknowledged hole"),
    "never asked for": ("?", "dim", "never asked for"),
    "none": ("-", "dim", "not in the dataset, or not needed"),
}
"""For each state: its glyph, colour and meaning."""

_INDENT = " " * 12
_COLOURS = {"whole": "green", "unprovable": "green", "incomplete": "red", "no source": "dim", "never asked for": "dim"}


def read_calendar(connection: psycopg.Connection, first: date, last: date) -> list[str]:
    """Return the lines of the calendar with its legend, as rich markup."""
    hours = read_hours(connection, first, last)
    fills, statuses = read_fills_verdicts(connection, first, last), read_status_verdicts(connection, first, last)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    shown = [line for day in days for line in show_day(day, [h for h in hours if h.object_date == day], fills, statuses)]
    legend = [f"  [{colour}]{glyph}[/] {says}" for glyph, colour, says in GLYPHS.values()]
    ruler = f"{'':<10}  {'hour of the object':<19}  0      6      12     18"
    return [
        ruler,
        *shown,
        "",
        *legend,
        "A day's last fills are in the first object of the next day, so both objects decide whether a day is whole.",
    ]


def show_day(day: date, hours: Sequence[CoveredHour], fills: Days, statuses: Days) -> list[str]:
    """Return the lines of a day: per dataset its hours and verdict, then what is missing and why."""
    lines: list[str] = []
    for source in FILL_DATASETS:
        own = {hour.object_hour: hour for hour in hours if hour.source == source.name}
        needed = [is_needed(source, start_of(day) + HOUR * hour) for hour in range(24)]
        if own or any(needed):
            states = [_state_of(own.get(hour), is_needed=needed[hour]) for hour in range(24)]
            # The first hours may have been fetched for the previous day.
            was_asked = any(hour > MORE_HOURS for hour in own if hour is not None)
            lines += [_line(day, source.name, states, fills.get(day), was_asked=was_asked), *_explain(day, own.values())]
    edges = fills[day].edges if day in fills else []
    lines += [f"{_INDENT}{escape(edge)}" for edge in edges]
    own = {hour.object_hour: hour for hour in hours if hour.source == TWAP_STATUSES.name}
    if own or day >= TWAP_STATUSES.first.date():
        # An object that covers the whole day counts for every hour.
        states = [_state_of(own.get(hour, own.get(None)), is_needed=True) for hour in range(24)]
        lines += [_line(day, TWAP_STATUSES.name, states, statuses.get(day), was_asked=bool(own)), *_explain(day, own.values())]
    return lines or [f"{day}  no source has this day"]


def _state_of(hour: CoveredHour | None, *, is_needed: bool) -> str:
    if hour is None:
        return "never asked for" if is_needed else "none"
    return "none" if hour.state == "missing" and not hour.expected else hour.state


def _line(day: date, source: str, states: Sequence[str], loaded: LoadedDay | None, *, was_asked: bool) -> str:
    glyphs = [f"[{GLYPHS[state][1]}]{GLYPHS[state][0]}[/]" for state in states]
    groups = " ".join("".join(glyphs[n : n + 6]) for n in range(0, 24, 6))
    judged = (loaded.state if loaded else None) or ("not loaded" if was_asked else "never asked for")
    return f"{day}  {source:<19}  {groups}  [{_COLOURS.get(judged, 'yellow')}]{judged}[/]"


def _explain(day: date, hours: Iterable[CoveredHour]) -> list[str]:
    """List what is missing and why; hours with the same reason share a line."""
    alike: dict[tuple[str, str], list[CoveredHour]] = {}
    for hour in hours:
        if hour.state in ("failed", "blocks missing", "acknowledged") or (hour.state == "missing" and hour.expected):
            noted = f" ({hour.note})" if hour.note else ""
            alike.setdefault((hour.state, f"{hour.state}{noted}: {hour.why}"), []).append(hour)
    lines: list[str] = []
    for (state, reason), same in alike.items():
        moments = [start_of(day) + HOUR * hour.object_hour for hour in same if hour.object_hour is not None]
        which = show_hours(moments).replace(f"{day} ", "") if moments else "all day"
        lines.append(f"{_INDENT}[{GLYPHS[state][1]}]{which}[/] {escape(reason)}")
    return lines
