"""When a TWAP began, if it did: examples worked out by hand. A waiting TWAP has no window, and so no market figures."""

from __future__ import annotations

from typing import Any

import pytest

from hl_pipeline_tests.naive import twaps as naive_twaps
from hl_pipeline_tests.naive.twap_examples import DAY, NEXT, a_slice, a_status, an_end, assert_has, ms, the_twap, trade, utc
from hl_pipeline_tests.naive.twaps import Loaded, Status

PLACED = ms("12:00:00")


@pytest.mark.parametrize(
    ("statuses", "placed", "begin"),
    [
        ([("12:00:01", "waitingForTrigger"), ("12:00:02", "activated"), ("12:00:03", "activated")], PLACED, "12:00:02"),
        # One that had to wait did not begin when it was placed.
        ([("12:00:01", "waitingForTrigger"), ("12:00:02", "finished")], PLACED, "12:00:30"),
        ([("12:00:01", "waitingForTrigger")], PLACED, "12:00:30"),
        ([("12:00:02", "finished")], PLACED, "12:00:00"),
        ([("12:00:02", "finished")], None, "12:00:30"),
        ([], None, "12:00:30"),
    ],
)
def test_a_twap_begins_with_its_first_activated_or_else_as_its_slices_say(
    statuses: list[tuple[str, str]], placed: int | None, begin: str
) -> None:
    said = [a_status(*each, started_at_ms=placed) for each in statuses]
    assert_has(the_twap(said, [a_slice("12:00:31", "100"), a_slice("12:00:30", "100")]), begins_at=utc(begin))


NOT_BEGUN: dict[str, Any] = dict.fromkeys(("begins_at", "planned_end", "slices_due", "schedule_deviation", *naive_twaps.MARKET))
TRIGGER = {"px": "101.5", "above": True}


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([a_status("12:00:00", "waitingForTrigger", started_at_ms=PLACED)], {"verdict": "waiting", "ended_at": None}),
        (
            [a_status("12:00:00", "waitingForTrigger", started_at_ms=PLACED), an_end("13:00:00", 0, "terminated")],
            {"verdict": "match", "ended_at": utc("13:00:00"), "seen_from": utc("11:00:00"), "seen_to": utc("13:00:00")},
        ),
        # Refused at once; what it was asked for stays.
        (
            [an_end("12:00:01", 0, "error", started_at_ms=PLACED)],
            {"verdict": "failed", "duration_minutes": 5, "size_requested": "10", "started_at": utc("12:00:00")},
        ),
        ([an_end("12:00:01", None, "error", started_at_ms=PLACED)], {"verdict": "unreported"}),
        # It executed something, and when it began is in no status.
        ([an_end("12:00:01", 1, trigger=TRIGGER, started_at_ms=PLACED)], {"verdict": "missing_fills"}),
        ([an_end("12:00:01", 1)], {"verdict": "missing_fills"}),
    ],
)
def test_a_twap_that_has_not_begun_has_no_window_and_no_market(statuses: list[Status], expected: dict[str, Any]) -> None:
    legs = [trade("11:59:00", "100"), trade("12:01:30", "100")]
    row = the_twap(statuses, legs)
    assert_has(row, **NOT_BEGUN, **expected)
    assert_has(row, size_observed="0", fees={}, closed_pnl=0, first_slice_at=None, is_complete=True)
    assert_has(row, slippage_bps=None, slippage_without_own_bps=None, slippage_arrival_bps=None)


def test_without_a_window_the_days_are_those_from_its_placing_to_its_last_status() -> None:
    statuses = [a_status("12:00:00", "waitingForTrigger"), an_end("12:00:00", 0, "terminated", day=NEXT)]
    for second, complete in (("whole", True), ("incomplete", False), ("unprovable", None)):
        assert_has(the_twap(statuses, [], {DAY: Loaded(), NEXT: Loaded(second)}), is_complete=complete)


def test_one_that_executed_something_began_when_it_was_placed_unless_it_had_a_trigger() -> None:
    said = an_end("12:05:00", 1, started_at_ms=PLACED)
    assert_has(the_twap([said], []), begins_at=utc("12:00:00"), slices_due=10)
    late = a_slice("12:03:00", "100")
    assert_has(the_twap([{**said, "trigger": TRIGGER}], [late]), begins_at=utc("12:03:00"), slices_due=5)
