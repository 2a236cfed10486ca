"""Which days of an answer are present, so that an empty list is not taken for "nothing happened"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

State = Literal["whole", "unprovable", "partial", "absent"]
# From the worst to the best.
_ORDER: tuple[State, ...] = ("absent", "partial", "unprovable", "whole")
_NO_SOURCE = "no source has it"
_MOST_SHOWN = 5
# The verdicts of /api/v1/coverage/days in the words of the other lists.
_OF_VERDICT: dict[str, State] = {"whole": "whole", "unprovable": "unprovable", "pending": "partial", "incomplete": "partial"}


@dataclass(frozen=True, slots=True)
class Days:
    """Consecutive UTC days with the same state; both ends are inclusive."""

    first: date
    last: date
    state: State
    note: str = ""
    tier: str = "postgresql"
    holes: int = 0
    acknowledged: int = 0
    hours: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is known to be missing. An acknowledged hole is missing all the same."""
        return self.state in ("whole", "unprovable") and not self.holes and not self.acknowledged

    def __str__(self) -> str:
        """Return the days, what is wrong with them and why, in one line."""
        days = str(self.first) if self.first == self.last else f"{self.first} to {self.last}"
        counts = ((self.holes, "hole"), (self.acknowledged, "acknowledged hole"))
        holes = [f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count]
        return f"{days}: {self.state}" + "".join(f", {part}" for part in (self.note.rstrip("."), *holes) if part)


@dataclass(frozen=True, slots=True)
class Coverage:
    """The state of each day of a range."""

    days: tuple[Days, ...]

    @property
    def missing(self) -> tuple[Days, ...]:
        """The days on which something is missing."""
        return tuple(run for run in self.days if not run.is_complete)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.missing

    @property
    def is_proved(self) -> bool:
        """Whether block numbers prove that nothing is missing. No source of TWAP statuses can."""
        return self.is_complete and all(run.state == "whole" for run in self.days)

    def __str__(self) -> str:
        """Return what is missing in one line."""
        if self.is_complete:
            return "complete"
        more = len(self.missing) - _MOST_SHOWN
        return "; ".join(map(str, self.missing[:_MOST_SHOWN])) + (f"; and {more} more" if more > 0 else "")

    def with_backfill(self, info_api: Mapping[str, Any] | None) -> Coverage:
        """Return the coverage of a wallet's fills, given its backfill: days that no bucket has are complete if it covers them."""
        if info_api is None or info_api["state"] != "complete":
            return self
        begin, end = (datetime.fromisoformat(info_api[name]) for name in ("from", "to"))

        def covers(run: Days) -> bool:
            return run.note == _NO_SOURCE and begin.date() <= run.first and run.last < end.date()

        return Coverage(
            tuple(
                Days(run.first, run.last, "unprovable", "from the info API", run.tier) if covers(run) else run
                for run in self.days
            )
        )

    def as_json(self) -> list[dict[str, Any]]:
        """Return the coverage as the API writes it."""
        return [
            {
                "from": str(run.first),
                "to": str(run.last),
                "state": run.state,
                **({"tier": run.tier} if run.tier != "postgresql" else {}),
                **({"note": run.note} if run.note else {}),
                **({"holes": run.holes} if run.holes else {}),
                **({"acknowledged": run.acknowledged} if run.acknowledged else {}),
                **({"hours": list(run.hours)} if run.hours else {}),
            }
            for run in self.days
        ]


def read_coverage(runs: Iterable[Mapping[str, Any]]) -> Coverage:
    """Return the field `coverage` of an answer."""
    return Coverage(
        tuple(
            Days(
                date.fromisoformat(run["from"]),
                date.fromisoformat(run["to"]),
                run["state"],
                run.get("note", ""),
                run.get("tier", "postgresql"),
                run.get("holes", 0),
                run.get("acknowledged", 0),
                tuple(run.get("hours", ())),
            )
            for run in runs
        )
    )


def read_verdicts(rows: Iterable[Mapping[str, Any]]) -> Coverage:
    """Return the coverage that rows of /api/v1/coverage/days say: of each day the worse of fills and statuses."""
    found = [
        Days(
            row["date"],
            row["date"],
            _OF_VERDICT.get(row["state"], "absent"),
            f"{row['what']}: {row['explanation'] or row['state']}" if row["state"] != "whole" else "",
            holes=row["holes"],
            acknowledged=row["acknowledged"],
        )
        for row in rows
    ]
    return worst(Coverage((one,)) for one in found)


def worst(coverages: Iterable[Coverage]) -> Coverage:
    """Return the worst that any of them says of each day. Answers of several moments may differ."""
    distinct = list(dict.fromkeys(coverages))
    if len(distinct) == 1:
        return distinct[0]
    by_day: dict[date, Days] = {}
    for run in (run for coverage in distinct for run in coverage.days):
        for number in range((run.last - run.first).days + 1):
            day = run.first + timedelta(number)
            if day not in by_day or _badness(run) < _badness(by_day[day]):
                by_day[day] = Days(day, day, run.state, run.note, run.tier, run.holes, run.acknowledged, run.hours)
    return Coverage(tuple(by_day[day] for day in sorted(by_day)))


def _badness(run: Days) -> tuple[bool, int, int]:
    return run.is_complete, _ORDER.index(run.state), -run.holes
