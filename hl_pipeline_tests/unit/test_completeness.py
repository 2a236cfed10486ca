"""Which objects a day needs, and when it is whole: plain values in, plain verdicts out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from hl_pipeline.domain.completeness import Acknowledged, DayVerdict, extra_hours, find_holes, hour_of, judge_day
from hl_pipeline.domain.datasets import BY_BLOCK, HOUR, NODE_FILLS, NODE_TRADES, Dataset, start_of, wanted_hours
from hl_pipeline.domain.records import ObjectMeta
from hl_pipeline.lake.fills import find_gaps

DAY = date(2026, 3, 15)
START = start_of(DAY)
NOW = datetime(2026, 4, 1, tzinfo=UTC)
LAG = timedelta(hours=3)
BLOCKS_AN_HOUR = 1000


def _meta(hour: datetime, *, late: timedelta = timedelta(milliseconds=-200), **changed: object) -> ObjectMeta:
    """The object of an hour, its blocks from `late` after the hour begins to `late` after it ends, numbered through."""
    first_block = int((hour - START) / HOUR) * BLOCKS_AN_HOUR + 100_000
    first_ns, last_ns = (int(moment.timestamp() * 1000) * 10**6 for moment in (hour + late, hour + HOUR + late))
    values: dict[str, object] = {
        "key": f"node_fills_by_block/hourly/{hour:%Y%m%d}/{hour.hour}.lz4",
        "etag": "e",
        "size": 1,
        "source": "node_fills_by_block",
        "object_date": str(hour.date()),
        "hour": hour.hour,
        "parser": 1,
        "rows": 1,
        "lines": BLOCKS_AN_HOUR,
        "bad_lines": 0,
        "blocks": BLOCKS_AN_HOUR,
        "repeated_blocks": 0,
        "first_block": first_block,
        "last_block": first_block + BLOCKS_AN_HOUR - 1,
        "first_block_time_ns": first_ns,
        "last_block_time_ns": last_ns,
        "missing_blocks": [],
        "first_time_ms": first_ns // 10**6,
        "last_time_ms": last_ns // 10**6,
        "fetched_at": "",
    }
    return ObjectMeta(**{**values, **changed})  # type: ignore[arg-type]


def _day(late: timedelta = timedelta(milliseconds=-200)) -> list[ObjectMeta]:
    return [_meta(START + HOUR * n, late=late) for n in range(25)]


def _judge(metas: list[ObjectMeta], errors: dict[tuple[str, date, int], str] | None = None, now: datetime = NOW) -> DayVerdict:
    return judge_day(DAY, metas, errors or {}, now, LAG)


def test_a_day_wants_its_24_hours_and_the_one_after() -> None:
    hours = wanted_hours(DAY, BY_BLOCK)
    assert hours == [START + HOUR * n for n in range(25)]


def test_a_source_is_wanted_for_the_hours_that_it_has_and_no_day_before_it_wants_any() -> None:
    assert wanted_hours(date(2025, 7, 27), BY_BLOCK)[0] == datetime(2025, 7, 27, 8, tzinfo=UTC)
    assert wanted_hours(date(2025, 7, 27), NODE_FILLS)[-1] == datetime(2025, 7, 27, 8, tzinfo=UTC)
    assert wanted_hours(date(2025, 7, 26), BY_BLOCK) == []
    assert len(wanted_hours(date(2025, 7, 26), NODE_FILLS)) == 25
    judged = judge_day(date(2025, 3, 20), [], {}, NOW, LAG)
    assert (judged.state, judged.explain()) == ("no source", "No S3 source has this day.")
    # The first object of the first source has the last fills of the day before, which are not that day.
    before = judge_day(date(2025, 3, 21), [_old(NODE_TRADES, start_of(date(2025, 3, 22)))], {}, NOW, LAG)
    assert before.state == "no source"


def _old(source: Dataset, hour: datetime, **changed: object) -> ObjectMeta:
    """The object of an hour in a format without blocks."""
    without = ("blocks", "first_block", "last_block", "first_block_time_ns", "last_block_time_ns")
    key = f"{source.name}/hourly/{hour:%Y%m%d}/{hour.hour}.lz4"
    values: dict[str, Any] = {"key": key, "source": source.name, **dict.fromkeys(without), "blocks": 0, **changed}
    return _meta(hour, **values)


def _old_day(source: Dataset, day: date) -> list[ObjectMeta]:
    return [_old(source, hour) for hour in wanted_hours(day, source)]


def test_a_day_of_a_format_without_block_numbers_is_never_called_whole() -> None:
    day = date(2025, 7, 1)
    judged = judge_day(day, _old_day(NODE_FILLS, day), {}, NOW, LAG)
    assert (judged.state, judged.is_harmless) == ("unprovable", True)
    assert (
        judged.explain() == "All 25 objects are present (node_fills), but without block numbers they cannot be proven complete."
    )
    judged = judge_day(day, _old_day(NODE_FILLS, day)[:-1], {}, NOW, LAG)
    assert (judged.state, judged.is_harmless) == ("incomplete", False)
    assert "1 of 25 objects missing: 2025-07-02 00 h (no such object in node_fills)" in judged.explain()
    assert "no fill from 2025-07-02 00:00 on was found" in judged.explain()


def test_node_trades_is_needed_until_node_fills_begins_and_welcome_after() -> None:
    before = date(2025, 4, 12)
    assert judge_day(before, [], {}, NOW, LAG).state == "incomplete"
    overlap = date(2025, 6, 14)
    judged = judge_day(overlap, _old_day(NODE_FILLS, overlap), {}, NOW, LAG)
    assert (judged.state, judged.source_names) == ("unprovable", "node_fills")
    judged = judge_day(overlap, _old_day(NODE_FILLS, overlap) + _old_day(NODE_TRADES, overlap)[:7], {}, NOW, LAG)
    assert (judged.state, judged.source_names, len(judged.hours)) == ("unprovable", "node_trades + node_fills", 32)
    judged = judge_day(overlap, _old_day(NODE_TRADES, overlap), {}, NOW, LAG)
    assert judged.state == "incomplete"


def test_on_the_days_of_transition_both_sources_are_needed_and_must_meet() -> None:
    for day, poorer, better in ((date(2025, 5, 25), NODE_TRADES, NODE_FILLS), (date(2025, 7, 27), NODE_FILLS, BY_BLOCK)):
        make = _meta if better is BY_BLOCK else lambda hour, **changed: _old(NODE_FILLS, hour, **changed)
        after = [make(hour) for hour in wanted_hours(day, better)]
        before = [meta for meta in _old_day(poorer, day) if hour_of(meta) <= better.first]
        assert judge_day(day, before + after, {}, NOW, LAG).state == "unprovable"
        without_seam = judge_day(day, before[:-1] + after, {}, NOW, LAG)
        assert without_seam.state == "incomplete"
        assert f"objects missing: {better.first:%Y-%m-%d %H} h" in without_seam.explain()
        began = int(better.first.timestamp() * 1000)
        late = [_old(poorer, better.first, last_time_ms=began + 600_000)]
        first: dict[str, Any] = {"first_time_ms": began + 1_200_000, "first_block_time_ns": (began + 1_200_000) * 10**6}
        if better is NODE_FILLS:
            del first["first_block_time_ns"]
        gap = judge_day(day, before[:-1] + late + [make(better.first, **first)] + after[1:], {}, NOW, LAG)
        assert f"the older format ends at {better.first.hour:02}:10:00 and {better.name} begins at" in gap.explain()


def test_a_day_with_all_objects_and_all_blocks_is_whole() -> None:
    judged = _judge(_day())
    assert judged.is_whole
    assert judged.explain() == "Whole: 25 objects, no block missing."


@pytest.mark.parametrize(("late_hours", "more"), [(-0.1, 0), (-1.1, 1), (-2.1, 2), (-3.1, 3), (-5, 3)])
def test_more_objects_are_wanted_after_midnight_until_the_blocks_reach_over_it(late_hours: float, more: int) -> None:
    late = timedelta(hours=late_hours)
    found = {hour_of(meta): meta for meta in _day(late=late)}
    while asked := [hour for hour in extra_hours(DAY, BY_BLOCK, found) if hour not in found]:
        found |= {hour: _meta(hour, late=late) for hour in asked}
    assert sorted(found)[25:] == [START + HOUR * (25 + n) for n in range(more)]


@pytest.mark.parametrize(("late_hours", "more"), [(-0.1, 0), (0.1, 1), (1.1, 2), (5, 3)])
def test_more_objects_are_wanted_before_midnight_until_the_blocks_begin_before_it(late_hours: float, more: int) -> None:
    late = timedelta(hours=late_hours)
    found = {hour_of(meta): meta for meta in _day(late=late)}
    while asked := [hour for hour in extra_hours(DAY, BY_BLOCK, found) if hour not in found]:
        found |= {hour: _meta(hour, late=late) for hour in asked}
    assert sorted(found)[:-25] == [START - HOUR * n for n in range(more, 0, -1)]


def test_an_edge_that_no_object_crosses_is_said_and_the_day_is_not_whole() -> None:
    late = timedelta(hours=-5)
    judged = _judge([_meta(START + HOUR * n, late=late) for n in range(-3, 28)])
    assert not judged.is_whole
    assert "no block from 2026-03-16 00:00 on was found" in judged.explain()


@pytest.mark.parametrize(
    ("first_ms", "state", "lacks"),
    [
        (-1, "whole", ""),
        (0, "unprovable", "no object for 2026-03-14 23 h, and the first block is at 00:00:00.000000"),
        (999, "unprovable", "no object for 2026-03-14 23 h, and the first block is at 00:00:00.999000"),
        (1000, "incomplete", "1 of 26 objects missing: 2026-03-14 23 h"),
    ],
)
def test_a_source_that_begins_at_midnight_is_unprovable_one_that_begins_later_incomplete(
    first_ms: int, state: str, lacks: str
) -> None:
    first_ns = (int(START.timestamp() * 1000) + first_ms) * 10**6
    metas = [_meta(START, first_block_time_ns=first_ns, first_time_ms=first_ns // 10**6), *_day()[1:]]
    judged = _judge(metas)
    assert (judged.state, judged.is_harmless) == (state, state != "incomplete")
    assert lacks in judged.explain()
    # Of the hour before nothing is forgiven: it is missing, and the day has it neither failed nor still to come.
    before = (BY_BLOCK.name, DAY - timedelta(days=1), 23)
    assert (_judge(metas, {before: "truncated"}).state == "whole") == (first_ms < 0)
    assert _judge(metas, now=START + HOUR * 2).state != "unprovable"


def test_a_missing_object_is_a_hole_after_the_lag_and_not_due_before() -> None:
    metas = [meta for meta in _day() if hour_of(meta) != START + HOUR * 24]
    for now, state, of_day in ((START + HOUR * 27, "not due", "pending"), (START + HOUR * 28, "missing", "incomplete")):
        judged = _judge(metas, now=now)
        assert [(h.hour, h.state) for h in judged.hours if h.state != "present"] == [(START + HOUR * 24, state)]
        assert judged.state == of_day


def test_an_object_that_failed_is_told_with_its_reason() -> None:
    metas = _day()
    lost = metas.pop(3)
    judged = _judge(metas, {(BY_BLOCK.name, DAY, 3): f"{lost.key}: truncated"})
    assert judged.explain() == f"1 of 25 objects failed: 2026-03-15 03 h ({lost.key}: truncated)."
    assert [hour.found for hour in judged.coverage].count("failed") == 1
    assert judged.state == "incomplete"


def test_an_acknowledged_day_is_harmless_but_not_whole_and_every_fault_needs_a_note() -> None:
    metas = _day()
    del metas[3]
    metas[8] = _meta(START + HOUR * 9, missing_blocks=[(109_010, 109_012)])
    by_hour: Acknowledged = {(BY_BLOCK.name, DAY, 3): "down"}
    by_day: Acknowledged = {(BY_BLOCK.name, DAY, None): "the whole day"}
    cases: list[tuple[Acknowledged, tuple[bool, bool, bool]]] = [
        ({}, (False, False, False)),
        (by_hour, (True, False, False)),
        ({(BY_BLOCK.name, DAY, 9): "lost"}, (False, True, False)),
        (by_day, (True, True, True)),
        ({(NODE_FILLS.name, DAY, None): "of another dataset"}, (False, False, False)),
    ]
    for known, harmless in cases:
        judged = judge_day(DAY, metas, {}, NOW, LAG, known)
        assert judged.state == "incomplete"
        assert (judged.hours_are_harmless, judged.holes_are_harmless, judged.is_harmless) == harmless
    judged = judge_day(DAY, metas, {}, NOW, LAG, {**by_hour, **by_day})
    assert judged.explain().endswith("Acknowledged: down; the whole day.")
    assert judge_day(DAY, _day(), {}, NOW, LAG, by_day).is_whole


def test_an_edge_is_acknowledged_only_by_the_hour_that_should_have_crossed_it() -> None:
    slow = timedelta(hours=-3.9)
    ends = int((START + HOUR * 24).timestamp()) * 10**9 - 1
    late = [_meta(START + HOUR * n, late=slow) for n in range(-3, 27)]
    late.append(_meta(START + HOUR * 27, late=slow, last_block_time_ns=ends, last_time_ms=ends // 10**6))
    for hour, harmless in ((DAY, False), (DAY + timedelta(days=1), True)):
        judged = judge_day(DAY, late, {}, NOW, LAG, {(BY_BLOCK.name, hour, 0): "the node was late"})
        assert [(edge.hour, edge.follows) for edge in judged.edges] == [(START + HOUR * 24, False)]
        assert (judged.state, judged.is_harmless) == ("incomplete", harmless)
    # Where the object of the edge lacks, that one is acknowledged, and the edge with it; a hole elsewhere excuses no edge.
    without = _judge(_day()[:-1])
    assert [edge.follows for edge in without.edges] == [True]
    elsewhere = judge_day(DAY, [m for m in late if m.hour != 7], {}, NOW, LAG, {(BY_BLOCK.name, DAY, 7): "down"})
    assert (elsewhere.hours_are_harmless, elsewhere.is_harmless) == (True, False)


def test_fills_far_from_the_hour_of_their_object_are_told() -> None:
    day = date(2025, 7, 1)
    metas = _old_day(NODE_FILLS, day)
    late = int((start_of(day) + HOUR * 30).timestamp() * 1000)
    metas[7] = _old(NODE_FILLS, start_of(day) + HOUR * 7, last_time_ms=late)
    judged = judge_day(day, metas, {}, NOW, LAG)
    assert judged.state == "incomplete"
    assert "has fills from 2025-07-01 06:59 to 2025-07-02 06:00, far from its hour" in judged.explain()


def test_an_older_format_that_ends_in_the_block_where_the_next_begins_leaves_no_gap() -> None:
    day, first = date(2025, 7, 27), BY_BLOCK.first
    after = [_meta(hour) for hour in wanted_hours(day, BY_BLOCK)]
    began = int(first.timestamp() * 1000) + 700
    after[0] = _meta(first, first_block_time_ns=began * 10**6 + 123_456, first_time_ms=began)
    before = _old_day(NODE_FILLS, day)
    before[-1] = _old(NODE_FILLS, first, last_time_ms=began)
    assert judge_day(day, before + after, {}, NOW, LAG).state == "unprovable"


def test_an_object_without_blocks_is_no_hour() -> None:
    metas = _day()
    metas[5] = _meta(
        START + HOUR * 5, blocks=0, first_block=None, last_block=None, first_block_time_ns=None, last_block_time_ns=None
    )
    judged = _judge(metas)
    assert not judged.is_whole
    assert "the object exists but has no blocks" in judged.explain()


def test_missing_blocks_are_found_in_and_between_objects_not_across_a_missing_hour() -> None:
    metas = _day()
    between = metas[7].first_block
    metas[3] = _meta(START + HOUR * 3, missing_blocks=[(103_010, 103_012)])
    metas[7] = _meta(START + HOUR * 7, first_block=between + 2 if between else None)
    holes = [(hole.first, hole.last, hole.where) for hole in find_holes(metas)]
    assert holes == [
        (103_010, 103_012, "in node_fills_by_block/hourly/20260315/3.lz4"),
        (107_000, 107_001, "between node_fills_by_block/hourly/20260315/6.lz4 and node_fills_by_block/hourly/20260315/7.lz4"),
    ]
    assert "5 blocks missing" in _judge(metas).explain()
    del metas[10]
    assert len(find_holes(metas)) == 2


def test_a_block_that_stands_in_a_neighbouring_object_is_not_missing() -> None:
    metas = _day()
    last = metas[9].last_block
    assert last is not None
    metas[9] = _meta(START + HOUR * 9, last_block=last + 1, missing_blocks=[(last, last)])
    metas[10] = _meta(START + HOUR * 10, first_block=last, missing_blocks=[(last + 1, last + 1)])
    assert find_holes(metas) == []
    metas[10] = _meta(START + HOUR * 10, first_block=last + 2)
    assert [(hole.first, hole.last) for hole in find_holes(metas)] == [(last, last)]


def test_gaps_are_found_in_numbers() -> None:
    assert find_gaps(np.array([5, 6, 9, 10, 20])) == [(7, 8), (11, 19)]
    assert find_gaps(np.array([], dtype=np.int64)) == []
