"""The verdict of a day as a whole: its fills, its TWAP statuses, and what was counted while they were loaded. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.domain.status_completeness import StatusVerdict

VERDICT_TAG = "hl/verdict"
"""The tag of a run that did all its work and then failed, since something is missing."""

WholeDayState = Literal["whole", "unprovable", "acknowledged", "no source", "pending", "not loaded", "incomplete"]
"""acknowledged: somebody has acknowledged everything that is missing; pending: what is missing is not due yet; not loaded: the
database does not have what the lake has of the day; incomplete: something that is due is missing, or a count is wrong. The others
as of fills (completeness.DayState).
"""

_GOOD = ("whole", "unprovable", "acknowledged", "no source")


@dataclass(frozen=True, slots=True)
class WholeDay:
    """The state of a day, and why, in words; `seconds`: how long judging took."""

    state: WholeDayState
    explanation: str
    seconds: float = 0.0
    checks: Sequence[Check] = ()

    @property
    def is_good(self) -> bool:
        """Whether nothing more is to be done about the day."""
        return self.state in _GOOD

    @property
    def is_hole(self) -> bool:
        """Whether something is missing or wrong now, and nobody has acknowledged it."""
        return self.state == "incomplete"


def judge_whole_day(fills: DayVerdict, statuses: StatusVerdict, doubts: Sequence[str]) -> WholeDay:
    """Judge a day by the verdicts on its fills and statuses; `doubts`: what the counts of its rows say against it."""
    explanation = " ".join([fills.explain(), f"TWAP statuses: {statuses.explanation}", *doubts])
    return WholeDay(_state_of(fills, statuses, has_doubts=bool(doubts)), explanation)


def _state_of(fills: DayVerdict, statuses: StatusVerdict, *, has_doubts: bool) -> WholeDayState:
    if has_doubts or not fills.is_harmless or not statuses.is_harmless:
        return "incomplete"
    if statuses.state == "pending" or any(hour.state == "not due" for hour in fills.hours):
        return "pending"
    if "incomplete" in (fills.state, statuses.state):
        return "acknowledged"
    return fills.state
