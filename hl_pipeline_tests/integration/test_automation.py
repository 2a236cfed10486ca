"""Sensors and the nightly schedule, tick by tick, over buckets of the last days. `test_week` runs them in the real daemon."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from dagster import (
    AssetCheckEvaluation,
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorResult,
    SkipReason,
    build_schedule_context,
    build_sensor_context,
)

from hl_pipeline.automation import judge_lag, look_at_lag
from hl_pipeline.definitions import build_defs, build_resources
from hl_pipeline.domain.shards import shard_of
from hl_pipeline.formats.api_fills import decode_fills
from hl_pipeline.lake.api_fills import add_api_fills
from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import Sample, write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.dirty_days import note_dirty, read_dirty
from hl_pipeline.warehouse.ledger import days_begun, last_statuses_key_before
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.servers.info_api import make_user
from hl_pipeline_tests.servers.s3 import S3Server

_SOURCE = Path("node_fills_by_block/hourly")
TODAY = datetime.now(UTC).date()
OLDER, YESTERDAY = TODAY - timedelta(days=2), TODAY - timedelta(days=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Two whole days before today, and the first hour of today."""
    return write_sample(tmp_path_factory.mktemp("recent"), first_day=OLDER, days=2, fills_per_hour=20)


@pytest.fixture
def instance(tmp_path: Path) -> Generator[DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


def _publish(made: Sample, world: World, day: date, *hours: int) -> None:
    for hour in hours:
        name = _SOURCE / f"{day:%Y%m%d}" / f"{hour}.lz4"
        (world.bucket / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(made.node_data_dir / name, world.bucket / name)


def _tick(instance: DagsterInstance, name: str = "node_data_objects", cursor: str | None = None) -> SensorResult:
    settings = Settings()
    sensor = build_defs(settings).get_sensor_def(name)
    # One that is ended by the garbage collector leaves an instance that is gone to whatever test comes then.
    with build_sensor_context(instance=instance, cursor=cursor, resources=build_resources(settings)) as context:
        result = sensor(context)
    assert isinstance(result, SensorResult), result
    return result


def _asked(result: SensorResult) -> list[RunRequest]:
    return [*(result.run_requests or [])]


def _days(requests: list[RunRequest]) -> list[str]:
    return [str(request.partition_key) for request in requests]


def _run(request: RunRequest, instance: DagsterInstance) -> bool:
    job = build_defs(Settings()).resolve_job_def("ingest_days")
    assert request.partition_key is not None
    selection = [*request.asset_selection] if request.asset_selection else None
    result = job.execute_in_process(
        partition_key=request.partition_key,
        instance=instance,
        tags={**request.tags},
        asset_selection=selection,
        raise_on_error=False,
    )
    # These days are not whole, so their verdict fails; the work is done.
    return {event.step_key for event in result.get_step_failure_events()} <= {"whole_days"}


def _reconcile(instance: DagsterInstance) -> list[RunRequest]:
    settings = Settings()
    schedule = build_defs(settings).get_schedule_def("reconcile")
    at = datetime(TODAY.year, TODAY.month, TODAY.day, 2, 30, tzinfo=UTC)
    with build_schedule_context(instance=instance, scheduled_execution_time=at, resources=build_resources(settings)) as context:
        result = schedule(context)
    if isinstance(result, SkipReason):
        return []
    assert isinstance(result, list)
    return result


@pytest.mark.slow
def test_new_objects_are_one_run_a_day_and_nothing_is_one_once_they_are_loaded(
    made: Sample, world: World, instance: DagsterInstance
) -> None:
    _publish(made, world, OLDER, *range(1, 24))
    _publish(made, world, YESTERDAY, 0, 1, 2)
    requests = _asked(_tick(instance))
    assert _days(requests) == [str(OLDER), str(YESTERDAY)]
    assert [request.tags["hl/why"] for request in requests] == ["objects: 24 new", "objects: 3 new"]
    assert [request.run_key for request in _asked(_tick(instance))] == [request.run_key for request in requests]
    assert all(_run(request, instance) for request in requests)
    done = _tick(instance)
    assert _asked(done) == []
    assert done.skip_reason is not None
    assert done.skip_reason.skip_message == "no new objects since the last check"
    assert _reconcile(instance) == []

    _publish(made, world, YESTERDAY, 3, 5, 4)
    [request] = _asked(_tick(instance))
    assert (request.partition_key, request.tags["hl/why"]) == (str(YESTERDAY), "objects: 3 new")


@pytest.mark.slow
def test_a_rewritten_hour_0_is_a_run_of_both_its_days_until_both_have_it(
    made: Sample, world: World, instance: DagsterInstance
) -> None:
    _publish(made, world, OLDER, 23)
    _publish(made, world, YESTERDAY, 0)
    for request in _asked(_tick(instance)):
        assert _run(request, instance)
    os.utime(world.bucket / _SOURCE / f"{YESTERDAY:%Y%m%d}" / "0.lz4", (1, 1))
    both = _asked(_tick(instance))
    assert _days(both) == [str(OLDER), str(YESTERDAY)]
    assert _run(both[1], instance)
    [left] = _asked(_tick(instance))
    assert (left.partition_key, left.tags["hl/why"]) == (str(OLDER), "objects: 1 behind")
    assert left.run_key == both[0].run_key
    assert _days(_reconcile(instance)) == [str(OLDER)]
    assert _run(left, instance)
    assert _asked(_tick(instance)) == _reconcile(instance) == []


@pytest.mark.slow
def test_a_failed_run_is_asked_for_again_at_night_with_a_key_of_its_own(
    made: Sample, world: World, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(made, world, YESTERDAY, 0)
    asked = {request.partition_key: request for request in _asked(_tick(instance))}
    with monkeypatch.context() as patch:
        patch.setenv("HL_DISK_RESERVE_GB", "1000000")
        assert not _run(asked[str(YESTERDAY)], instance)
    again = {request.partition_key: request for request in _asked(_tick(instance))}
    assert again[str(YESTERDAY)].run_key == asked[str(YESTERDAY)].run_key
    [night] = _reconcile(instance)
    assert night.partition_key == str(YESTERDAY)
    assert night.run_key not in (None, asked[str(YESTERDAY)].run_key)
    assert _run(night, instance)
    assert _days(_asked(_tick(instance))) == [str(OLDER)]


@pytest.mark.slow
def test_a_verdict_that_failed_is_not_asked_for_again_and_one_that_waited_is_once_it_is_due(
    made: Sample, world: World, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(made, world, OLDER, 1, 2, 3)
    with monkeypatch.context() as patch:
        patch.setenv("HL_PUBLISH_LAG_HOURS", "1000")
        [request] = _asked(_tick(instance))
        assert _run(request, instance)
        assert _reconcile(instance) == []
    [night] = _reconcile(instance)
    assert (night.partition_key, night.tags["hl/why"]) == (str(OLDER), "its missing objects are due now")
    assert _run(night, instance)
    failed = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE]))
    assert [run.tags["dagster/partition"] for run in failed] == [str(OLDER)]
    assert _reconcile(instance) == []


@pytest.mark.slow
def test_a_day_whose_statistics_are_of_older_rows_is_made_again_at_night(
    made: Sample, world: World, instance: DagsterInstance
) -> None:
    _publish(made, world, YESTERDAY, 1)
    [request] = _asked(_tick(instance))
    assert _run(request, instance)
    with connect(world.database_url) as connection:
        connection.execute("UPDATE hl.fills_days SET candles_at = NULL")
    assert _asked(_tick(instance)) == []
    [night] = _reconcile(instance)
    assert (night.partition_key, night.tags["hl/why"]) == (str(YESTERDAY), "its statistics or TWAPs are older than its rows")
    with connect(world.database_url) as connection:
        note_dirty(connection, [YESTERDAY, OLDER], "rows of another source")
    assert {night.partition_key: night.tags["hl/why"] for night in _reconcile(instance)} == {
        str(OLDER): "rows of another source",
        str(YESTERDAY): "rows of another source",
    }


@pytest.mark.slow
def test_api_fills_of_a_day_are_loaded_at_night_without_fetching_from_a_bucket(
    made: Sample, world: World, instance: DagsterInstance
) -> None:
    _publish(made, world, OLDER, 1, 2)
    midnight = datetime(OLDER.year, OLDER.month, OLDER.day, tzinfo=UTC)
    given = make_user("alone", 1).fills[0] | {"time": int(midnight.timestamp() * 1000) + 7_200_000}
    fills = decode_fills([given], "0x" + "ab" * 20).fills
    shard = shard_of("0x" + "ab" * 20)
    add_api_fills(open_lake(world.environment["HL_LAKE_URL"]), OLDER, shard, fills)
    with connect(world.database_url) as connection:
        note_dirty(connection, [OLDER], "fills from the info API")

        [night] = _reconcile(instance)
        assert (night.partition_key, night.tags["hl/why"]) == (str(OLDER), "fills from the info API")
        assert _run(night, instance)
        assert connection.execute("SELECT tid FROM hl.fills").fetchall() == [(given["tid"],)]
        assert (read_dirty(connection), _reconcile(instance), days_begun(connection)) == ({}, [], set())
        # Once somebody has asked for the day, it is looked after.
        assert _run(RunRequest(partition_key=str(OLDER)), instance)
        assert days_begun(connection) == {OLDER}
        _publish(made, world, OLDER, 3)
        [night] = _reconcile(instance)
        assert (night.asset_selection, night.tags["hl/why"]) == (None, "objects: 1 new")


@pytest.mark.slow
def test_new_statuses_are_a_run_of_the_twaps_alone(
    made: Sample, world: World, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    monkeypatch.setenv("HL_TWAP_DATA_URL", str(made.twap_data_dir))
    name = "twap_data_objects"
    requests = _asked(_tick(instance, name))
    assert {str(OLDER), str(YESTERDAY)} <= {*_days(requests)}
    assets = {key.to_user_string() for key in requests[0].asset_selection or []}
    assert assets == {"raw_twap_statuses", "twap_statuses", "twaps", "whole_days"}
    assert all(_run(request, instance) for request in requests)
    # What was fetched with a neighbour may have events of a day that was done before.
    assert all(_run(request, instance) for request in _asked(_tick(instance, name)))
    assert _asked(_tick(instance, name)) == []
    assert _reconcile(instance) == []


def test_keys_that_are_not_in_the_order_of_their_days_are_listed_from_the_beginning(world: World) -> None:
    with connect(world.database_url) as connection:
        assert last_statuses_key_before(connection, TODAY) == ""
        for key, day in (("year=2025/month=9/day=30/a", date(2025, 9, 30)), ("year=2025/month=10/day=1/a", date(2025, 10, 1))):
            connection.execute(
                "INSERT INTO hl.s3_ingest_log (object_key, source, object_date) VALUES (%s, 'twap_statuses', %s)", [key, day]
            )
        assert last_statuses_key_before(connection, date(2025, 10, 1)) == ""
        assert last_statuses_key_before(connection, date(2025, 9, 30)) == ""
        assert last_statuses_key_before(connection, date(2025, 10, 2)) == "year=2025/month=9/day=30/a"


@pytest.mark.parametrize(
    ("given", "running"),
    [
        ({"HL_NODE_DATA_URL": "s3://b", "HL_TWAP_DATA_URL": "s3://t"}, False),
        ({"HL_NODE_DATA_URL": "s3://b", "HL_TWAP_DATA_URL": "s3://t", "HL_S3_BUDGET_USD": "5"}, True),
        ({"HL_TWAP_DATA_URL": "/tmp"}, True),
        ({"HL_TWAP_DATA_URL": "/tmp", "HL_SENSORS": "false"}, False),
    ],
)
def test_what_costs_money_or_is_switched_off_does_not_run_by_itself(
    given: dict[str, str], running: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    defs = build_defs(Settings())
    statuses = {sensor: defs.get_sensor_def(sensor).default_status for sensor in ("node_data_objects", "twap_data_objects")}
    assert set(statuses.values()) == {DefaultSensorStatus.RUNNING if running else DefaultSensorStatus.STOPPED}
    wanted = DefaultScheduleStatus.RUNNING if running else DefaultScheduleStatus.STOPPED
    assert defs.get_schedule_def("reconcile").default_status == wanted


@pytest.mark.slow
def test_without_money_for_a_listing_a_tick_says_so(
    world: World, instance: DagsterInstance, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    for name, value in {**s3.environment, "HL_NODE_DATA_URL": "s3://none", "HL_S3_BUDGET_USD": "0"}.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    sensor = build_defs(settings).get_sensor_def("node_data_objects")
    with build_sensor_context(instance=instance, resources=build_resources(settings)) as context:
        said = sensor(context)
    assert isinstance(said, SkipReason)
    assert "HL_S3_BUDGET_USD: $0" in str(said.skip_message)


@pytest.mark.slow
def test_the_lag_of_the_fills_is_an_event_when_it_changes(made: Sample, world: World, instance: DagsterInstance) -> None:
    late = _tick(instance)
    [event] = late.asset_events
    assert isinstance(event, AssetCheckEvaluation)
    assert (event.passed, event.check_name, event.asset_key.to_user_string()) == (False, "fresh", "fills")
    assert _tick(instance, cursor=late.cursor).asset_events == []
    _publish(made, world, YESTERDAY, 23)
    for request in _asked(_tick(instance)):
        assert _run(request, instance)
    midnight = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)
    hours = (datetime.now(UTC) - midnight) / timedelta(hours=1)
    evaluated = judge_lag(midnight, datetime.now(UTC), hours + 1)
    assert evaluated.passed
    assert f"{hours:.1f} hours ago" in str(evaluated.description)
    assert not judge_lag(midnight, datetime.now(UTC), hours - 0.1).passed


@pytest.mark.slow
def test_a_directory_that_nothing_is_added_to_is_not_judged_for_its_lag(
    made: Sample, world: World, instance: DagsterInstance
) -> None:
    _publish(made, world, OLDER, 5)
    for request in _asked(_tick(instance)):
        assert _run(request, instance)
    with connect(world.database_url) as connection:
        still = look_at_lag(connection, Settings())
        _publish(made, world, OLDER, 6)
        os.utime(world.bucket / _SOURCE / f"{OLDER:%Y%m%d}" / "6.lz4")
        grown = look_at_lag(connection, Settings())
    assert still.passed
    assert "Not judged: HL_NODE_DATA_URL is a directory without new objects since it was first read" in str(still.description)
    assert not grown.passed
    assert "HL_MAX_LAG_HOURS is 4" in str(grown.description)
