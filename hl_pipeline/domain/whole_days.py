"""The overall verdict on a day: its fills, its TWAP statuses, and the counts of its checks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.domain.status_completeness import StatusVerdict

VERDICT_TAG = "hl/verdict"
"""The tag of a run that did all its work and then failed because data is missing."""

WholeDayState = Literal["whole", "unprovable", "acknowledged", "no source", "pending", "not loaded", "incomplete"]
"""acknowledged: all missing data is acknowledged. pending: the missing data is not due yet. not loaded: the database does not
have all of the day's data in the lake. incomplete: data that is due is missing, or a count is wrong. Others:
completeness.DayState.
"""

_GOOD = ("whole", "unprovable", "acknowledged", "no source")


@dataclass(frozen=True, slots=True)
class WholeDay:
    """The state of a day with an explanation. `seconds`: how long judging took."""

    state: WholeDayState
    explanation: str
    seconds: float = 0.0
    checks: Sequence[Check] = ()

    @property
    def is_good(self) -> bool:
        """Whether the day needs no further action."""
        return self.state in _GOOD

    @property
    def is_hole(self) -> bool:
        """Whether due data is missing or wrong and not acknowledged."""
        return self.state == "incomplete"


def judge_whole_day(fills: DayVerdict, statuses: StatusVerdict, doubts: Sequence[str]) -> WholeDay:
    """Judge a day by the verdicts on its fills and statuses. `doubts`: failed checks of its counts, in words."""
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
