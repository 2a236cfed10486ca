"""The verdict on a whole day follows from the verdicts on its parts: each state, from plain values."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from hl_pipeline.domain.completeness import Acknowledged, judge_day
from hl_pipeline.domain.due_days import last_due_day
from hl_pipeline.domain.status_completeness import StatusDayState, StatusVerdict
from hl_pipeline.domain.whole_days import judge_whole_day

DAY = date(2026, 3, 15)
LATER = datetime(2026, 4, 1, tzinfo=UTC)
LAG = timedelta(hours=3)


def _state(
    statuses: StatusDayState,
    *,
    now: datetime = LATER,
    day: date = DAY,
    is_harmless: bool = True,
    acknowledged: Acknowledged | None = None,
    doubts: tuple[str, ...] = (),
) -> str:
    """Of a day without any object."""
    fills = judge_day(day, [], {}, now, LAG, acknowledged or {})
    return judge_whole_day(fills, StatusVerdict(statuses, "so", [], is_harmless), doubts).state


_KNOWN: Acknowledged = {
    ("node_fills_by_block", DAY, None): "lost",
    ("node_fills_by_block", DAY + timedelta(days=1), 0): "lost",
}
_NO_SOURCE = date(2024, 1, 1)
_SAME_DAY = datetime(2026, 3, 15, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (_state("unprovable"), "incomplete"),
        (_state("unprovable", acknowledged=_KNOWN), "acknowledged"),
        (_state("unprovable", now=_SAME_DAY), "pending"),
        (_state("unprovable", day=_NO_SOURCE), "no source"),
        (_state("no source", day=_NO_SOURCE), "no source"),
        (_state("pending", day=_NO_SOURCE), "pending"),
        (_state("incomplete", day=_NO_SOURCE), "acknowledged"),
        (_state("incomplete", day=_NO_SOURCE, is_harmless=False), "incomplete"),
        (_state("pending", acknowledged=_KNOWN), "pending"),
        (_state("unprovable", acknowledged=_KNOWN, doubts=("rows differ",)), "incomplete"),
    ],
)
def test_a_day_is_as_good_as_the_worst_of_its_parts(state: str, expected: str) -> None:
    assert state == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        # With a lag of 3 h, the object of hour 0 of the day after is due at 04:00.
        (datetime(2026, 3, 16, 3, 59, 59, tzinfo=UTC), date(2026, 3, 14)),
        (datetime(2026, 3, 16, 4, 0, tzinfo=UTC), date(2026, 3, 15)),
        (datetime(2026, 3, 16, 23, 59, tzinfo=UTC), date(2026, 3, 15)),
    ],
)
def test_the_last_due_day_is_the_one_whose_25_objects_are_all_due(now: datetime, expected: date) -> None:
    assert last_due_day(now, LAG) == expected
