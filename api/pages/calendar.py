"""The calendar of coverage: for each day and hour of a month, the state of the object and why it is missing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

HOURS = range(24)
DATASETS = {"fills": "Fills", "twap_statuses": "TWAP statuses"}
# What a cell shows, worst first: the sign of a state is not its color alone.
SIGNS = {
    "missing": ("bad", "×"),
    "failed": ("bad", "!"),
    "blocks missing": ("bad", "▪"),
    "acknowledged": ("warn", "a"),
    "not due": ("plain", "…"),
    "present": ("good", ""),
    "unprovable": ("plain", "~"),
    "not expected": ("none", ""),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """The state of an hour, over all datasets of the calendar. No `state`: it was not requested."""

    state: str | None
    why: str

    @property
    def kind(self) -> str:
        """How a reader may take it."""
        return SIGNS[self.state][0] if self.state else "none"

    @property
    def sign(self) -> str:
        """What the cell shows."""
        return SIGNS[self.state][1] if self.state else ""


@dataclass(frozen=True, slots=True)
class Day:
    """A row of the calendar: the verdict on the day and its hours. `whole`: the object that has no hour."""

    date: str
    state: str
    explanation: str
    cells: list[Cell]
    whole: Cell | None


def make_calendar(of: str, days: list[dict[str, Any]], hours: list[dict[str, Any]]) -> list[Day]:
    """Return the days of a month, of fills or of TWAP statuses, from the answers of /api/v1/coverage."""
    by_hour: dict[tuple[str, int | None], list[dict[str, Any]]] = defaultdict(list)
    for hour in hours:
        if (hour["source"] == "twap_statuses") == (of == "twap_statuses"):
            by_hour[hour["object_date"], hour["object_hour"]].append(hour)
    return [
        Day(
            day["date"],
            day["state"],
            day["explanation"] or "",
            [_cell(by_hour[day["date"], hour]) for hour in HOURS],
            _cell(by_hour[day["date"], None]) if by_hour[day["date"], None] else None,
        )
        for day in days
        if day["what"] == of
    ]


def state_of(hour: dict[str, Any]) -> str:
    """Return the state of an object as the calendar names it: what nobody expects is not missing."""
    return "not expected" if hour["state"] == "missing" and not hour["is_hole"] else hour["state"]


def _cell(hours: list[dict[str, Any]]) -> Cell:
    if not hours:
        return Cell(None, "never asked for")
    order = [*SIGNS]
    worst = min(hours, key=lambda hour: order.index(state_of(hour)))
    whys = [f"{hour['source']}: {hour['state']}" + (f", {hour['why']}" if hour["why"] else "") for hour in hours]
    return Cell(state_of(worst), "; ".join(whys))


def month_of(text: str) -> tuple[date, date]:
    """Return the first and last day of a month like 2025-11. Raises ValueError."""
    if len(text) != 7:
        raise ValueError(text)
    first = date.fromisoformat(f"{text}-01")
    return first, (first + timedelta(32)).replace(day=1) - timedelta(1)


def next_month(first: date, months: int) -> str:
    """Return the month before (-1) or after (1) one."""
    return str(first - timedelta(1) if months < 0 else first + timedelta(32))[:7]
