"""How a day is loaded, decided from plain facts: replaced, appended to, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from hl_pipeline.domain.completeness import Hour
from hl_pipeline.domain.load_plan import Append, DayFacts, Refuse, Replace, hours_of, hours_to_append, plan_load
from hl_pipeline.domain.records import ApiShard, ObjectMeta, ObjectVersion, version_of

DAY = date(2026, 3, 15)
START = datetime(2026, 3, 15, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)


def _meta(hour: int, etag: str = "e", source: str = "node_fills_by_block", before_ms: int = 300) -> ObjectMeta:
    """An object that begins a little before its hour and ends a little before the next."""
    begin = START + timedelta(hours=hour)
    return ObjectMeta(
        key=f"{source}/hourly/{begin:%Y%m%d}/{begin.hour}.lz4",
        etag=etag,
        size=1,
        source=source,
        object_date=str(begin.date()),
        hour=begin.hour,
        parser=1,
        rows=1,
        lines=1,
        bad_lines=0,
        blocks=1,
        repeated_blocks=0,
        first_block=None,
        last_block=None,
        first_block_time_ns=None,
        last_block_time_ns=None,
        missing_blocks=[],
        first_time_ms=int(begin.timestamp() * 1000) - before_ms,
        last_time_ms=int(begin.timestamp() * 1000) + 3_600_000 - 200,
        fetched_at="",
    )


def _place(meta: ObjectMeta) -> tuple[str, Hour]:
    return meta.key, (meta.source, date.fromisoformat(meta.object_date), meta.hour)


SHARD = ApiShard("api_fills/date=2026-03-15/shard=3f.parquet", "s", "3f", str(DAY), 1, 5, 2, START_MS, START_MS + 1, "")
SHARD_PLACE: tuple[str, Hour] = (SHARD.key, ("api_fills", DAY, 0x3F))
THREE = [_meta(hour) for hour in range(3)]
NEXT_DAYS_SECOND = _meta(25)
"""An object of the next day that has no fill of this one."""


def _hour_files(loaded: Sequence[ObjectMeta]) -> dict[int, set[ObjectVersion]]:
    """What the lake's hours of fills are made of when these are loaded."""
    files: dict[int, set[ObjectVersion]] = {}
    for hour in range(24):
        if of_hour := {version_of(meta) for meta in loaded if hour in hours_of(DAY, meta)}:
            files[hour] = of_hour
    return files


NOTHING_LOADED = DayFacts(
    day=DAY,
    lake="/lake",
    objects_around=[*THREE, NEXT_DAYS_SECOND],
    shards=[],
    api_wallets=[],
    keys_in_fills=set(),
    hour_files={},
    places_in_database=[],
    loaded=set(),
    is_dirty=False,
    is_thin=False,
)
TWO_LOADED = replace(
    NOTHING_LOADED,
    keys_in_fills={meta.key for meta in THREE[:2]},
    hour_files=_hour_files(THREE[:2]),
    places_in_database=[_place(meta) for meta in THREE[:2]],
    loaded={version_of(meta) for meta in THREE[:2]},
)
WITH_SHARD = replace(TWO_LOADED, shards=[SHARD], api_wallets=["0xa", "0xb"])
LOST_FROM_DATABASE = (
    "2026-03-15: {count} objects with rows in hl.fills are missing from the lake /lake ({first}, ...). "
    "Check that HL_LAKE_URL is right and mounted. To load the day without them: "
    "DELETE FROM hl.fills_day_objects WHERE date = '2026-03-15', then run again"
)
LOST_FROM_LAKE = (
    "2026-03-15: {count} objects with rows in /lake/fills/date=2026-03-15 are missing from /lake/{table} ({first}, ...). "
    "Check that the lake is complete. To load the day without them, delete fills/date=2026-03-15 in it and run again"
)


@pytest.mark.parametrize(
    ("facts", "plan"),
    [
        pytest.param(NOTHING_LOADED, Replace(THREE, False), id="a first load"),
        pytest.param(replace(NOTHING_LOADED, objects_around=[]), Replace([], False), id="a day without objects"),
        pytest.param(replace(NOTHING_LOADED, is_thin=True), Replace(THREE, True), id="a first load, in the lake alone"),
        pytest.param(replace(NOTHING_LOADED, shards=[SHARD]), Replace([*THREE, SHARD], False), id="the info API has fills"),
        pytest.param(TWO_LOADED, Append([1, 2], [THREE[2]]), id="a new object"),
        pytest.param(
            replace(TWO_LOADED, hour_files={**TWO_LOADED.hour_files, 0: set[ObjectVersion]()}),
            Append([0, 1, 2], [THREE[2]]),
            id="a new object, and an hour that the lake has of others",
        ),
        pytest.param(replace(TWO_LOADED, is_thin=True), Replace(THREE, True), id="a new object of a day to be thinned"),
        pytest.param(replace(TWO_LOADED, is_dirty=True), Replace(THREE, False), id="a new object of a dirty day"),
        pytest.param(WITH_SHARD, Replace([*THREE, SHARD], False), id="a new object of a day with fills of the info API"),
        pytest.param(
            replace(TWO_LOADED, objects_around=THREE[:2]), Replace(THREE[:2], False), id="nothing new: the day is made again"
        ),
        pytest.param(
            replace(TWO_LOADED, objects_around=[_meta(0, "rewritten"), *THREE[1:]]),
            Replace([_meta(0, "rewritten"), *THREE[1:]], False),
            id="a rewritten object",
        ),
        pytest.param(
            replace(TWO_LOADED, objects_around=[replace(THREE[0], parser=2), *THREE[1:]]),
            Replace([replace(THREE[0], parser=2), *THREE[1:]], False),
            id="an object read by a newer parser",
        ),
        pytest.param(
            replace(TWO_LOADED, objects_around=[*THREE[:2], _meta(2, source="node_fills")]),
            Replace([*THREE[:2], _meta(2, source="node_fills")], False),
            id="an object of an older format",
        ),
        pytest.param(
            replace(TWO_LOADED, objects_around=[*THREE, *(_meta(hour) for hour in (3, 4))]),
            Replace([*THREE, _meta(3), _meta(4)], False),
            id="more is new than is loaded",
        ),
        pytest.param(
            replace(TWO_LOADED, loaded=set(), hour_files={}), Replace(THREE, False), id="a thinned day that is kept again"
        ),
        pytest.param(
            replace(TWO_LOADED, objects_around=THREE[1:]),
            Refuse(LOST_FROM_DATABASE.format(count=1, first="node_fills_by_block/hourly/20260315/0.lz4")),
            id="an object in hl.fills is lost",
        ),
        pytest.param(
            replace(TWO_LOADED, objects_around=[]),
            Refuse(LOST_FROM_DATABASE.format(count=2, first="node_fills_by_block/hourly/20260315/0.lz4")),
            id="another lake",
        ),
        pytest.param(
            replace(TWO_LOADED, places_in_database=[*TWO_LOADED.places_in_database, SHARD_PLACE]),
            Refuse(LOST_FROM_DATABASE.format(count=1, first=SHARD.key)),
            id="a shard in hl.fills is lost",
        ),
        pytest.param(
            replace(TWO_LOADED, objects_around=THREE[1:], places_in_database=[]),
            Refuse(LOST_FROM_LAKE.format(table="raw_fills", count=1, first="node_fills_by_block/hourly/20260315/0.lz4")),
            id="an object in the lake's fills is lost, the database is new",
        ),
        pytest.param(
            replace(TWO_LOADED, keys_in_fills={SHARD.key, THREE[0].key}),
            Refuse(LOST_FROM_LAKE.format(table="api_fills", count=1, first=SHARD.key)),
            id="a shard in the lake's fills is lost",
        ),
        pytest.param(
            replace(TWO_LOADED, objects_around=[], is_thin=True, is_dirty=True),
            Refuse(LOST_FROM_DATABASE.format(count=2, first="node_fills_by_block/hourly/20260315/0.lz4")),
            id="nothing makes up for a lost object",
        ),
    ],
)
def test_the_facts_of_a_day_decide_how_it_is_loaded(facts: DayFacts, plan: Replace | Append | Refuse) -> None:
    assert plan_load(facts) == plan


def test_an_object_under_another_name_at_its_place_is_not_lost() -> None:
    renamed = replace(THREE[0], key="node_fills_by_block/hourly/20260315/0.zst")
    facts = replace(TWO_LOADED, objects_around=[renamed, *THREE[1:]])
    assert plan_load(facts) == Replace([renamed, *THREE[1:]], False)


def test_shards_that_are_in_the_lake_are_not_lost() -> None:
    facts = replace(
        WITH_SHARD,
        places_in_database=[*TWO_LOADED.places_in_database, SHARD_PLACE],
        keys_in_fills=TWO_LOADED.keys_in_fills | {SHARD.key},
    )
    assert plan_load(facts) == Replace([*THREE, SHARD], False)


def test_an_object_is_of_the_hours_between_its_first_and_last_fill() -> None:
    assert hours_of(DAY, _meta(2)) == range(1, 3)
    assert hours_of(DAY, _meta(0)) == range(1)
    assert hours_of(DAY, _meta(24)) == range(23, 24)
    assert hours_of(DAY, NEXT_DAYS_SECOND) == range(24, 24)
    assert hours_of(DAY, replace(THREE[0], first_time_ms=None, last_time_ms=None)) == range(0)
    assert hours_of(DAY, SHARD) == range(1)


def _decide(
    metas: list[ObjectMeta], loaded: list[ObjectMeta], left: dict[int, list[ObjectMeta]] | None = None
) -> list[int] | None:
    """With a lake that is as the loaded objects made it, but for what a killed run has `left`."""
    hour_files = _hour_files(loaded) | {hour: {version_of(meta) for meta in of} for hour, of in (left or {}).items()}
    return hours_to_append(DAY, metas, {version_of(meta) for meta in loaded}, hour_files)


def test_new_objects_ask_for_the_hours_that_they_reach_into() -> None:
    four = [_meta(hour) for hour in range(4)]
    assert _decide(four, four[:3]) == [2, 3]
    assert _decide(four, [four[0], four[1], four[3]]) == [1, 2]
    assert _decide(four, four[1:]) == [0]
    assert _decide([_meta(23), _meta(24)], [_meta(23)]) == [23]
    assert _decide([_meta(23), _meta(24, before_ms=0)], [_meta(23)]) == []
    assert _decide([_meta(0), _meta(1, before_ms=9_000_000)], [_meta(0)]) == [0, 1]


def test_hours_of_which_the_lake_has_other_objects_are_asked_for_too() -> None:
    three = [_meta(hour) for hour in range(3)]
    assert _decide(three, three[:2], {0: [three[0], _meta(1, "older")]}) == [0, 1, 2]
    assert _decide(three, three[:2], {1: three[1:3], 2: [three[2]]}) == [1, 2]
    assert _decide([*three, _meta(3)], three, {0: []}) == [0, 2, 3]


def test_the_whole_day_is_loaded_unless_what_was_loaded_is_unchanged_and_by_block() -> None:
    three = [_meta(hour) for hour in range(3)]
    assert _decide(three, []) is None
    assert _decide(three, three) is None
    assert _decide([_meta(0, "rewritten"), *three[1:]], three[:2]) is None
    assert _decide([replace(three[0], parser=2), *three[1:]], three[:2]) is None
    assert _decide(three[1:], three[:2]) is None
    assert _decide([*three, _meta(0, source="node_fills")], three) is None
    assert _decide(three, three[:1]) is None, "more is new than is loaded"
    assert _decide([], []) is None
