"""The API's values as people read them: numbers, times, verdicts, coverage. Everything returns text or plain values, not HTML."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

_MOST_RUNS = 6
UNKNOWN = "unknown"
# Of docs/twaps.md: how a reader may take it, and what it means.
VERDICTS = {
    "match": ("good", "The slices add up to what the node reported."),
    "running": ("plain", "It had not ended, as far as the loaded days tell."),
    "waiting": ("plain", "It waits for its trigger, and has no slices."),
    "failed": ("plain", "It ended with an error, and executed nothing."),
    "unreported": ("warn", "It has ended, and the node did not report its size."),
    "status_missing": ("warn", "No status tells how it ended."),
    "hole": ("warn", "Slices are missing, and so is data of its days."),
    "missing_fills": ("bad", "The slices are less than the node reported."),
    "excess_fills": ("bad", "The slices are more than the node reported."),
    "conflict": ("bad", "Statuses and slices disagree on wallet, coin or side."),
}
STATES = {
    "whole": ("good", "everything is present, proved by block numbers"),
    "unprovable": ("plain", "every object is present; nothing proves that no row is missing"),
    "partial": ("warn", "something is missing"),
    "absent": ("bad", "nothing is present"),
}
SIDES = {"B": "buy", "A": "sell"}


@dataclass(frozen=True, slots=True)
class Covered:
    """Coverage in words: how a reader may take it, a sentence, and one for each run of days that is not whole."""

    kind: str
    summary: str
    runs: list[str]
    left_out: int


def number(value: str | int | Decimal | None, digits: int | None = None) -> str:
    """Return a number with separators: exact, or rounded to `digits` decimals."""
    if value is None:
        return UNKNOWN
    exact = Decimal(value)
    return f"{exact:,f}" if digits is None else f"{exact:,.{digits}f}"


def rounded(value: str | Decimal, digits: int) -> str:
    """Return a number rounded to `digits` decimals, without trailing zeros."""
    text = number(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text else text


def price(value: str | None) -> str:
    """Return a price with at most eight digits that count, and all digits before the point."""
    if value is None:
        return UNKNOWN
    exact = Decimal(value)
    return rounded(exact, max(0, 7 - exact.adjusted()) if exact else 0)


def percent(value: str | None, digits: int = 2) -> str:
    """Return a share as a percentage."""
    return UNKNOWN if value is None else f"{Decimal(value) * 100:,.{digits}f} %"


def share(part: str | None, whole: str | None) -> Decimal | None:
    """Return part / whole. None: one of them is unknown, or there is no whole."""
    return Decimal(part) / Decimal(whole) if part is not None and whole is not None and Decimal(whole) else None


def instant(text: str | None, *, seconds: bool = True) -> str:
    """Return a time of the API as `2025-11-03 12:30:00`."""
    return UNKNOWN if text is None else f"{text[:10]} {text[11 : 19 if seconds else 16]}"


def minutes(count: int | None) -> str:
    """Return a duration as `2 h 30 min`."""
    if count is None:
        return UNKNOWN
    hours, left = divmod(count, 60)
    return " ".join(part for part in (f"{hours} h" if hours else "", f"{left} min" if left or not hours else "") if part)


def short(address: str) -> str:
    """Return the beginning and end of an address."""
    return f"{address[:6]}…{address[-4:]}"


def covered(runs: list[dict[str, Any]]) -> Covered:
    """Return the coverage of an answer in words."""
    days = dict.fromkeys(STATES, 0)
    for run in runs:
        days[run["state"]] += _days(run)
    total = sum(days.values())
    present = days["whole"] + days["unprovable"]
    told = [_tell(run) for run in runs if run["state"] != "whole" and days["unprovable"] < total]
    if days["whole"] == total:
        summary = "The day is whole." if total == 1 else f"All {total} days are whole."
    elif days["unprovable"] == total:
        summary = f"{_count(total)} present, and nothing can prove that no row is missing."
    else:
        summary = f"{days['whole']} of {total} days whole" + "".join(
            f", {count} {state}" for state, count in days.items() if count and state != "whole"
        )
        summary += "."
    kind = "good" if days["whole"] == total else "plain" if present == total else "warn"
    return Covered(kind, summary, told[:_MOST_RUNS], max(0, len(told) - _MOST_RUNS))


def _count(days: int) -> str:
    return "The day is" if days == 1 else f"All {days} days are"


def _days(run: dict[str, Any]) -> int:
    return (date.fromisoformat(run["to"]) - date.fromisoformat(run["from"])).days + 1


def _tell(run: dict[str, Any]) -> str:
    days = run["from"] if run["from"] == run["to"] else f"{run['from']} to {run['to']}"
    told = f"{days}: {run['state']}"
    told += f" – {run['note'].rstrip('.')}" if run.get("note") else f" – {STATES[run['state']][1]}"
    if run.get("holes") and not run.get("note"):
        told += f", {run['holes']} hour{'s' if run['holes'] > 1 else ''} with a hole"
    if run.get("acknowledged"):
        told += f", {run['acknowledged']} acknowledged"
    return told
