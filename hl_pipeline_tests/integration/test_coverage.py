"""hl.coverage: what is present, what is missing and why, hour by hour; acknowledged holes; the calendar."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import lz4.frame
import psycopg
import pytest
from dagster import DagsterInstance, ExecuteInProcessResult, materialize
from psycopg.rows import dict_row
from rich.text import Text

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.raw_fills import raw_fills
from hl_pipeline.assets.raw_twap_statuses import raw_twap_statuses
from hl_pipeline.assets.twap_statuses import twap_statuses
from hl_pipeline.cli.calendar import read_calendar
from hl_pipeline.definitions import build_resources
from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.rebuild import record_objects
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.coverage import acknowledge_holes, undo_acknowledge
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.naive.fills import object_path
from hl_pipeline_tests.servers.api import serving

DAY = date(2026, 3, 15)
NEXT = DAY + timedelta(days=1)
START = datetime(2026, 3, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)
BY_BLOCK = "node_fills_by_block"
Row = dict[str, Any]
Run = Callable[..., ExecuteInProcessResult]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("coverage"), first_day=DAY, days=2, fills_per_hour=100).node_data_dir


@pytest.fixture
def bucket(made: Path, world: World) -> Path:
    """A copy of that bucket, for tests that damage it."""
    shutil.copytree(made, world.bucket, dirs_exist_ok=True)
    return world.bucket


@pytest.fixture
def run(world: World, instance: DagsterInstance) -> Run:
    """Materialize raw_fills and fills of a day (or other assets)."""
    del world

    def materialized(day: date = DAY, assets: Any = (raw_fills, fills), selection: Any = None) -> ExecuteInProcessResult:
        return materialize(
            [*assets], selection=selection, partition_key=str(day), instance=instance, resources=build_resources(Settings())
        )

    return materialized


def _rows(url: str, **where: object) -> list[Row]:
    """hl.coverage, but for when it was judged."""
    columns = " AND ".join(f"{name} = %({name})s" for name in where) or "true"
    query = f"SELECT * FROM hl.coverage WHERE {columns} ORDER BY source, object_date, object_hour NULLS LAST"
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        rows = connection.cursor(row_factory=dict_row).execute(query.encode(), where).fetchall()
    return [{name: value for name, value in row.items() if name != "judged_at"} for row in rows]


def _states(url: str, day: date = DAY) -> dict[int, str]:
    return {row["object_hour"]: row["state"] for row in _rows(url, object_date=day)}


def _blocks(path: Path) -> list[int]:
    return [json.loads(line)["block_number"] for line in lz4.frame.decompress(path.read_bytes()).splitlines()]


def _drop_blocks(path: Path, lost: set[int]) -> None:
    lines = lz4.frame.decompress(path.read_bytes()).splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["block_number"] not in lost]
    path.write_bytes(lz4.frame.compress(b"".join(kept)))


def _severities(result: ExecuteInProcessResult) -> dict[str, str]:
    """Of the checks that did not pass."""
    return {c.check_name: c.severity.value for c in result.get_asset_check_evaluations() if not c.passed}


def _calendar(world: World, first: date, last: date) -> list[str]:
    with connect(world.database_url) as connection:
        return [Text.from_markup(line).plain for line in read_calendar(connection, first, last)]


def _acknowledge(world: World, source: str, first: date, last: date, hour: int | None, note: str = "known") -> list[date]:
    with connect(world.database_url) as connection:
        return acknowledge_holes(connection, source, first, last, hour, note)


def test_every_hour_of_a_whole_day_is_there_with_the_numbers_of_its_object(bucket: Path, world: World, run: Run) -> None:
    run()
    rows = _rows(world.database_url, object_date=DAY)
    assert [(row["object_hour"], row["state"], row["expected"], row["why"]) for row in rows] == [
        (hour, "present", True, "") for hour in range(24)
    ]
    for row in rows:
        blocks = _blocks(object_path(bucket, START + row["object_hour"] * HOUR))
        assert (row["first_block"], row["last_block"]) == (min(blocks), max(blocks))
        assert (row["missing_blocks"], row["bad_lines"], row["note"]) == (0, 0, None)
        assert row["object_key"] == f"{BY_BLOCK}/hourly/20260315/{row['object_hour']}.lz4"
        assert row["etag"]
        assert row["fetched_at"] is not None
    assert _states(world.database_url, NEXT) == {0: "present"}


def test_each_kind_of_hole_is_told_apart_and_mended_by_a_later_run(bucket: Path, world: World, run: Run) -> None:
    paths = {hour: object_path(bucket, START + hour * HOUR) for hour in (3, 7, 9, 12)}
    contents = {hour: path.read_bytes() for hour, path in paths.items()}
    paths[3].unlink()
    paths[7].write_bytes(contents[7][:-100])
    inner, last = _blocks(paths[9])[5:8], _blocks(paths[9])[-2:]
    first = _blocks(object_path(bucket, START + 10 * HOUR))[:3]
    _drop_blocks(paths[9], {*inner, *last})
    _drop_blocks(object_path(bucket, START + 10 * HOUR), {*first})
    paths[12].write_bytes(lz4.frame.compress(b""))

    result = run()

    states = _states(world.database_url)
    odd = {hour: state for hour, state in states.items() if state != "present"}
    assert odd == {3: "missing", 7: "failed", 9: "blocks missing", 10: "blocks missing", 12: "failed"}
    by_hour = {row["object_hour"]: row for row in _rows(world.database_url, object_date=DAY)}
    assert "truncated" in by_hour[7]["why"]
    assert by_hour[3]["object_key"] is None
    # What was lost at the end of one object and at the beginning of the next is one hole, before the latter.
    for hour, lost in ((9, inner), (10, last + first)):
        ranges = {number for span in by_hour[hour]["missing_ranges"] for number in range(span.lower, span.upper)}
        assert ranges == set(lost)
        assert by_hour[hour]["missing_blocks"] == len(lost)
    assert _severities(result)["blocks_without_holes"] == "ERROR"
    with connect(world.database_url) as connection:
        edges = connection.execute("SELECT edges, state FROM hl.fills_days").fetchall()
    assert edges == [([], "incomplete")]

    for hour, path in paths.items():
        path.write_bytes(contents[hour])
    run()
    odd = {hour: state for hour, state in _states(world.database_url).items() if state != "present"}
    assert odd == {10: "blocks missing"}
    [ten] = _rows(world.database_url, object_date=DAY, object_hour=10)
    assert ten["missing_blocks"] == 3


@pytest.mark.slow
def test_both_days_around_an_hour_say_the_same_of_it_in_either_order(
    bucket: Path, world: World, run: Run, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    between, second = object_path(bucket, START + 24 * HOUR), object_path(bucket, START + 25 * HOUR)
    lost = {*_blocks(between)[:2], *_blocks(between)[-2:]}
    _drop_blocks(between, lost)
    _drop_blocks(object_path(bucket, START + 23 * HOUR), {_blocks(object_path(bucket, START + 23 * HOUR))[-1]})
    # A block of one object that stands in the next one alone is not missing.
    moved = lz4.frame.decompress(between.read_bytes()).splitlines(keepends=True)[4]
    _drop_blocks(between, {json.loads(moved)["block_number"]})
    second.write_bytes(lz4.frame.compress(moved + lz4.frame.decompress(second.read_bytes())))
    run(DAY)
    run(NEXT)
    there = _rows(world.database_url)

    other = new_database()
    monkeypatch.setenv("HL_DATABASE_URL", other)
    shutil.rmtree(world.environment["HL_LAKE_URL"])
    run(NEXT)
    run(DAY)

    def known(rows: list[Row]) -> list[Row]:
        return [{name: value for name, value in row.items() if name != "fetched_at"} for row in rows]

    assert known(_rows(other)) == known(there)
    [row] = _rows(other, object_date=NEXT, object_hour=0)
    assert (row["state"], row["missing_blocks"]) == ("blocks missing", 3)


@pytest.mark.slow
def test_a_rebuild_from_the_lake_says_the_same(
    bucket: Path, world: World, run: Run, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_path(bucket, START + 3 * HOUR).unlink()
    _drop_blocks(object_path(bucket, START + 5 * HOUR), set(_blocks(object_path(bucket, START + 5 * HOUR))[3:6]))
    run(DAY)
    run(NEXT)
    before = _rows(world.database_url)
    again = new_database()
    monkeypatch.setenv("HL_DATABASE_URL", again)
    monkeypatch.setenv("HL_NODE_DATA_URL", "s3://a-bucket-that-nobody-may-ask")
    with connect(again) as connection:
        record_objects(connection, open_lake(world.environment["HL_LAKE_URL"]))
    run(DAY, selection=[fills])
    run(NEXT, selection=[fills])
    assert _rows(again) == before


@pytest.mark.slow
def test_an_hour_that_is_not_due_is_no_hole(bucket: Path, world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    object_path(bucket, START + 24 * HOUR).unlink()
    monkeypatch.setenv("HL_PUBLISH_LAG_HOURS", str(24 * 365 * 20))
    run()
    [row] = _rows(world.database_url, object_date=NEXT)
    assert (row["state"], row["is_hole"]) == ("not due", False)
    assert row["why"].startswith("due at ")


@pytest.mark.slow
def test_what_has_no_block_numbers_is_unprovable_and_what_is_not_needed_is_no_hole(
    world: World, run: Run, tmp_path: Path
) -> None:
    day = date(2025, 6, 10)
    shutil.copytree(
        write_sample(tmp_path / "old", first_day=day, days=1, fills_per_hour=20).node_data_dir, world.bucket, dirs_exist_ok=True
    )
    shutil.rmtree(world.bucket / "node_trades/hourly/20250610")
    run(day)
    of_fills = _rows(world.database_url, source="node_fills", object_date=day)
    assert {row["state"] for row in of_fills} == {"unprovable"}
    assert {row["first_block"] for row in of_fills} == {None}
    trades = _rows(world.database_url, source="node_trades", object_date=day)
    assert {(row["state"], row["expected"], row["is_hole"]) for row in trades} == {("missing", False, False)}


@pytest.mark.slow
def test_an_edge_that_no_object_crosses_stands_beside_the_day(bucket: Path, world: World, run: Run) -> None:
    shutil.rmtree(bucket / BY_BLOCK / "hourly" / "20260316")
    run()
    with connect(world.database_url) as connection:
        rows = connection.execute("SELECT edges FROM hl.fills_days").fetchall()
    assert rows == [(["no block from 2026-03-16 00:00 on was found, so the last fills of the day may be missing"],)]


@pytest.mark.slow
def test_an_acknowledged_hole_warns_and_is_not_whole_until_withdrawn_or_filled(bucket: Path, world: World, run: Run) -> None:
    path = object_path(bucket, START + 3 * HOUR)
    content = path.read_bytes()
    path.unlink()
    _drop_blocks(object_path(bucket, START + 9 * HOUR), set(_blocks(object_path(bucket, START + 9 * HOUR))[5:8]))
    errors = {"hours_present": "ERROR", "blocks_without_holes": "ERROR", "day_is_whole": "ERROR"}
    assert _severities(run()) == errors

    assert _acknowledge(world, BY_BLOCK, DAY, DAY, 3, "the node was down") == [DAY]
    assert {hour: state for hour, state in _states(world.database_url).items() if state != "present"} == {
        3: "acknowledged",
        9: "blocks missing",
    }
    assert _severities(run()) == {**errors, "hours_present": "WARN"}
    assert _acknowledge(world, BY_BLOCK, DAY, DAY, 9) == [DAY]
    result = run()
    assert _severities(result) == dict.fromkeys(errors, "WARN")
    with connect(world.database_url) as connection:
        [(state, explanation)] = connection.execute("SELECT state, explanation FROM hl.fills_days").fetchall()
    assert state == "incomplete"
    assert explanation.endswith("Acknowledged: the node was down; known.")

    path.write_bytes(content)
    assert _severities(run()) == {"blocks_without_holes": "WARN", "day_is_whole": "WARN"}
    assert _states(world.database_url)[3] == "present"
    with connect(world.database_url) as connection:
        assert undo_acknowledge(connection, BY_BLOCK, DAY, DAY, 9) == [DAY]
        assert undo_acknowledge(connection, BY_BLOCK, DAY, DAY, 9) == []
    assert _states(world.database_url)[9] == "blocks missing"
    assert _severities(run()) == {"blocks_without_holes": "ERROR", "day_is_whole": "ERROR"}


def test_the_api_tells_what_is_there_what_lacks_and_what_is_known(bucket: Path, world: World, run: Run) -> None:
    paths = [object_path(bucket, START + hour * HOUR) for hour in range(25)]
    blocks = {hour: _blocks(path) for hour, path in enumerate(paths)}
    paths[3].unlink()
    paths[5].unlink()
    lost = {*blocks[9][5:8], blocks[9][20]}
    _drop_blocks(paths[9], lost)
    run()
    assert _acknowledge(world, BY_BLOCK, DAY, DAY, 5, "the node was down") == [DAY]
    lacking = {3: ("missing", "missing", None), 5: ("acknowledged", "missing", "the node was down")}
    lacking[9] = ("blocks missing", "blocks missing", None)

    with serving(world.database_url) as api:
        span = {"start": str(DAY), "end": str(NEXT)}
        answer = api.get("/api/v1/coverage", **span)
        lists = {path: api.get(f"/api/v1/{path}", coin="BTC", **span) for path in ("fills", "candles", "stats/daily")}
        lists["stats/users"] = api.get("/api/v1/stats/users", **span)
        days = api.get("/api/v1/coverage/days", **span)["days"]

    assert [(hour["source"], hour["object_date"], hour["object_hour"]) for hour in answer["hours"]] == [
        *((BY_BLOCK, str(DAY), hour) for hour in range(24)),
        (BY_BLOCK, str(NEXT), 0),
    ]
    for number, hour in enumerate(answer["hours"]):
        present = ("present", "present", None)
        assert (hour["state"], hour["found"], hour["note"]) == lacking.get(number, present), number
        assert (hour["expected"], hour["is_hole"]) == (True, number in lacking)
        there = None if number in (3, 5) else sorted(set(blocks[number]) - (lost if number == 9 else set()))
        assert (hour["first_block"], hour["last_block"]) == ((there[0], there[-1]) if there else (None, None))
        fills = (
            [json.loads(line)["events"] for line in lz4.frame.decompress(paths[number].read_bytes()).splitlines()]
            if there
            else []
        )
        assert (hour["rows"], hour["bad_lines"]) == ((sum(map(len, fills)), 0) if there else (None, None))
        ranges = {block for first, last in hour["missing_ranges"] for block in range(first, last + 1)}
        assert ranges == (lost if number == 9 else set())
        assert hour["missing_blocks"] == len(ranges)
        key = f"{BY_BLOCK}/hourly/{hour['object_date'].replace('-', '')}/{hour['object_hour']}.lz4"
        assert hour["object_key"] == (key if there else None)
        assert (hour["etag"] is None, hour["fetched_at"] is None) == (there is None, there is None)

    [run_of_day, absent] = answer["days"]["fills"]
    assert (absent["from"], absent["state"], absent["note"]) == (str(NEXT), "absent", "not loaded")
    named = [{"source": BY_BLOCK, "object_date": str(DAY), "object_hour": hour, "state": lacking[hour][0]} for hour in (3, 9, 5)]
    assert (run_of_day["state"], run_of_day["holes"], run_of_day["acknowledged"]) == ("partial", 2, 1)
    assert run_of_day["hours"] == named
    assert lists["fills"]["coverage"] == answer["days"]["fills"]
    for path in ("candles", "stats/daily", "stats/users"):
        [of_day, _] = lists[path]["coverage"]
        assert (of_day["note"], of_day["hours"]) == ("not made since its fills were loaded", named)
    told = [(day["date"], day["what"], day["state"], day["holes"], day["acknowledged"]) for day in days]
    assert told == [
        (str(DAY), "fills", "incomplete", 2, 1),
        (str(DAY), "twap_statuses", "never asked for", 0, 0),
        # The first hour of the next day was fetched for this day. The next day itself was never requested.
        (str(NEXT), "fills", "never asked for", 0, 0),
        (str(NEXT), "twap_statuses", "never asked for", 0, 0),
    ]
    with connect(world.database_url) as connection:
        judged = connection.execute("SELECT explanation, rows FROM hl.fills_days").fetchall()
    assert [(days[0]["explanation"], days[0]["rows"])] == judged


@pytest.mark.slow
def test_what_is_no_hole_is_not_acknowledged(bucket: Path, world: World, run: Run) -> None:
    object_path(bucket, START + 3 * HOUR).unlink()
    run()
    assert _acknowledge(world, BY_BLOCK, DAY, DAY, 4) == []
    assert _acknowledge(world, "node_fills", DAY, DAY, 3) == []
    assert _acknowledge(world, BY_BLOCK, date(2026, 1, 1), date(2026, 12, 31), None) == [DAY]
    with connect(world.database_url) as connection:
        noted = connection.execute("SELECT source, object_date, object_hour FROM hl.acknowledged").fetchall()
    assert noted == [(BY_BLOCK, DAY, None)]


@pytest.mark.slow
def test_statuses_have_a_row_an_hour_or_a_day_and_their_holes_can_be_acknowledged(
    world: World, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "statuses"
    monkeypatch.setenv("HL_TWAP_DATA_URL", str(source))
    for hour in range(24):
        _put(source / f"hourly/20251103/{hour}.jsonl", b"")
    (source / "hourly/20251103/7.jsonl").unlink()
    _put(source / "hourly/20251103/9.lz4", lz4.frame.compress(b"x" * 1000)[:-20])
    (source / "hourly/20251103/9.jsonl").unlink()
    _put(source / "hourly/20251104/0.jsonl", b"")
    day, both = date(2025, 11, 3), (raw_twap_statuses, twap_statuses)

    result = run(day, both)

    states = _states(world.database_url, day)
    assert states == {hour: {7: "missing", 9: "failed"}.get(hour, "unprovable") for hour in range(24)}
    assert _severities(result) == {"objects_present": "ERROR", "day_is_there": "ERROR"}
    assert _states(world.database_url, date(2025, 11, 4)) == {}
    assert _acknowledge(world, "twap_statuses", day, day, 7) == [day]
    assert _severities(run(day, both)) == {"objects_present": "ERROR", "day_is_there": "ERROR"}
    assert _acknowledge(world, "twap_statuses", day, day, None) == [day]
    assert _severities(run(day, both)) == {"objects_present": "WARN", "day_is_there": "WARN"}
    assert {_states(world.database_url, day)[hour] for hour in (7, 9)} == {"acknowledged"}

    empty = date(2025, 12, 24)
    run(empty, both)
    assert _states(world.database_url, empty) == {None: "missing"}


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


_MADE_UP = """
INSERT INTO hl.fills_days (date, rows, duplicates, state, explanation, edges) VALUES
    ('2026-03-15', 5, 0, 'incomplete', '', '{no block from 2026-03-16 00:00 on was found}'),
    ('2025-06-10', 5, 0, 'unprovable', '', '{}');
INSERT INTO hl.twap_days (date, state, explanation, objects, rows, duplicates, conflicts) VALUES
    ('2026-03-15', 'unprovable', '', 1, 1, 0, 0);
INSERT INTO hl.coverage (source, object_date, object_hour, expected, found, note, why, missing_ranges, missing_blocks)
SELECT 'node_fills_by_block', '2026-03-15'::date, hour, true,
       CASE WHEN hour = 3 THEN 'failed' WHEN hour IN (7, 8) THEN 'missing' WHEN hour = 9 THEN 'blocks missing'
            WHEN hour = 10 THEN 'missing' WHEN hour = 23 THEN 'not due' ELSE 'present' END,
       CASE hour WHEN 10 THEN 'the [node] was down' END,
       CASE WHEN hour = 3 THEN 'truncated' WHEN hour IN (7, 8, 10) THEN 'no such object' WHEN hour = 9 THEN '5-7 in 9.lz4'
            ELSE '' END, '{}'::int8multirange, 0
FROM generate_series(0, 23) hour
UNION ALL SELECT 'node_fills_by_block', '2026-03-16', 0, true, 'present', NULL, '', '{}', 0
UNION ALL SELECT 'twap_statuses', '2026-03-15', NULL, true, 'unprovable', NULL, '', '{}', 0
UNION ALL SELECT 'node_fills', '2025-06-10', hour, true, 'unprovable', NULL, '', '{}', 0 FROM generate_series(0, 23) hour
UNION ALL SELECT 'node_trades', '2025-06-10', hour, false, CASE hour WHEN 5 THEN 'unprovable' ELSE 'missing' END, NULL, '',
    '{}', 0 FROM generate_series(0, 23) hour
"""


def test_the_calendar_shows_every_hour_and_what_lacks(world: World) -> None:
    with connect(world.database_url) as connection:
        connection.execute(_MADE_UP)
    assert _calendar(world, DAY, NEXT)[:12] == [
        "            hour of the object   0      6      12     18",
        "2026-03-15  node_fills_by_block  ###E## #XXBa# ###### #####.  incomplete",
        "            03 h failed: truncated",
        "            07-08 h missing: no such object",
        "            09 h blocks missing: 5-7 in 9.lz4",
        "            10 h acknowledged (the [node] was down): no such object",
        "            no block from 2026-03-16 00:00 on was found",
        "2026-03-15  twap_statuses        ====== ====== ====== ======  unprovable",
        "2026-03-16  node_fills_by_block  #????? ?????? ?????? ??????  never asked for",
        "2026-03-16  twap_statuses        ?????? ?????? ?????? ??????  never asked for",
        "",
        "  # present, no missing blocks",
    ]
    assert _calendar(world, date(2025, 6, 10), date(2025, 6, 10))[1:3] == [
        "2025-06-10  node_trades          -----= ------ ------ ------  unprovable",
        "2025-06-10  node_fills           ====== ====== ====== ======  unprovable",
    ]
    assert _calendar(world, date(2024, 1, 1), date(2024, 1, 1))[1] == "2024-01-01  no source has this day"
