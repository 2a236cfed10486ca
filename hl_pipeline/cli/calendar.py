"""`hl status --from --to`: hl.coverage as a calendar, a line a day and dataset, a glyph an hour. Its text alone is made here."""

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
    "present": ("#", "green", "there, no block missing"),
    "unprovable": ("=", "green", "there; nothing can prove that it lacks no row"),
    "not due": (".", "dim", "not due yet"),
    "missing": ("X", "red", "missing"),
    "failed": ("E", "red", "failed"),
    "blocks missing": ("B", "red", "there, blocks missing in it or before it"),
    "acknowledged": ("a", "yellow", "a hole that was acknowledged"),
    "never asked for": ("?", "dim", "never asked for"),
    "none": ("-", "dim", "the dataset has no such hour, or it is not needed"),
}
"""Of each state its sign, its colour and what it says."""

_INDENT = " " * 12
_COLOURS = {"whole": "green", "unprovable": "green", "incomplete": "red", "no source": "dim", "never asked for": "dim"}


def read_calendar(connection: psycopg.Connection, first: date, last: date) -> list[str]:
    """The lines of the calendar (rich markup), its legend below."""
    hours = read_hours(connection, first, last)
    fills, statuses = read_fills_verdicts(connection, first, last), read_status_verdicts(connection, first, last)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    shown = [line for day in days for line in show_day(day, [h for h in hours if h.object_date == day], fills, statuses)]
    legend = [f"  [{colour}]{glyph}[/] {says}" for glyph, colour, says in GLYPHS.values()]
    ruler = f"{'':<10}  {'hour of the object':<19}  0      6      12     18"
    return [ruler, *shown, "", *legend, "A day's last fills stand in the first object of the next day: a day is judged by both."]


def show_day(day: date, hours: Sequence[CoveredHour], fills: Days, statuses: Days) -> list[str]:
    """The lines of a day: of each dataset its hours and how the day was judged, below it what lacks and why."""
    lines: list[str] = []
    for source in FILL_DATASETS:
        own = {hour.object_hour: hour for hour in hours if hour.source == source.name}
        needed = [is_needed(source, start_of(day) + HOUR * hour) for hour in range(24)]
        if own or any(needed):
            states = [_state_of(own.get(hour), is_needed=needed[hour]) for hour in range(24)]
            # The first hours may have been brought for the day before.
            was_asked = any(hour > MORE_HOURS for hour in own if hour is not None)
            lines += [_line(day, source.name, states, fills.get(day), was_asked=was_asked), *_explain(day, own.values())]
    edges = fills[day].edges if day in fills else []
    lines += [f"{_INDENT}{escape(edge)}" for edge in edges]
    own = {hour.object_hour: hour for hour in hours if hour.source == TWAP_STATUSES.name}
    if own or day >= TWAP_STATUSES.first.date():
        # Objects of the whole day stand for every hour.
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
    """What lacks and why, hours that are alike together."""
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
