"""Green means healthy: the colour of a day and a shard in the UI, for each possible problem."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus, ExecuteInProcessResult

from hl_pipeline.definitions import build_defs
from hl_pipeline.domain.shards import shard_of
from hl_pipeline.partitions import DAYS, SHARDS
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.backfill_progress import add_wallets, fail_wallet
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.coverage import acknowledge_holes
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.naive.fills import object_path

DAY = date(2026, 3, 15)
START, HOUR = datetime(2026, 3, 15, tzinfo=UTC), timedelta(hours=1)
OLD = date(2025, 6, 25)
_WALLET = "0x" + "ab" * 20
Run = Callable[..., ExecuteInProcessResult]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("whole"), first_day=DAY, days=1, fills_per_hour=20).node_data_dir


@pytest.fixture
def bucket(made: Path, world: World) -> Path:
    """A copy of a bucket with one whole day, for tests that damage it."""
    shutil.copytree(made, world.bucket, dirs_exist_ok=True)
    return world.bucket


@pytest.fixture
def instance() -> Generator[DagsterInstance]:
    """Of the test's own: the colour of a day is that of its last runs."""
    with DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def run(world: World, instance: DagsterInstance) -> Run:
    """A run of the job as the UI launches it, or of some of its assets."""
    del world

    def execute(day: date = DAY, only: str | None = None) -> ExecuteInProcessResult:
        job = build_defs(Settings()).resolve_job_def("ingest_days")
        selection = None if only is None else [AssetKey(only)]
        return job.execute_in_process(partition_key=str(day), instance=instance, asset_selection=selection, raise_on_error=False)

    return execute


def _colour(instance: DagsterInstance, day: date = DAY) -> str:
    """How the UI shows a day of whole_days."""
    statuses = instance.get_status_by_partition(AssetKey("whole_days"), [str(day)], DAYS)
    status = (statuses or {}).get(str(day))
    return {"MATERIALIZED": "green", "FAILED": "red"}.get(status.name, status.name) if status else "grey"


def _metadata(result: ExecuteInProcessResult, asset: str = "whole_days") -> dict[str, object]:
    [event] = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_a_day_with_every_object_is_green_and_says_so(bucket: Path, run: Run, instance: DagsterInstance) -> None:
    del bucket

    result = run()

    assert result.success
    assert _colour(instance) == "green"
    metadata = _metadata(result)
    assert metadata["state"] == "whole"
    assert str(metadata["explanation"]).startswith("Whole: 25 objects, no block missing.")


def test_a_hole_is_red_without_a_retry_and_green_once_acknowledged(
    bucket: Path, world: World, run: Run, instance: DagsterInstance
) -> None:
    object_path(bucket, START + 9 * HOUR).unlink()

    result = run()

    assert not result.success
    assert [event.step_key for event in result.get_step_failure_events()] == ["whole_days"]
    assert _colour(instance) == "red"
    ended = instance.get_run_by_id(result.run_id)
    assert ended is not None
    assert ended.status == DagsterRunStatus.FAILURE
    assert (ended.tags["dagster/retry_on_asset_or_op_failure"], ended.tags["hl/verdict"]) == ("false", "incomplete")
    [failure] = result.get_step_failure_events()
    assert "1 of 25 objects missing: 2026-03-15 09 h" in str(failure.step_failure_data.error)
    # What came was loaded: the other assets are green.
    assert str(DAY) in instance.get_materialized_partitions(AssetKey("fills"))
    assert str(DAY) in instance.get_materialized_partitions(AssetKey("twaps"))

    with connect(world.database_url) as connection:
        acknowledge_holes(connection, "node_fills_by_block", DAY, DAY, 9, "never published")
    again = run(only="whole_days")

    assert (_colour(instance), _metadata(again)["state"]) == ("green", "acknowledged")
    assert "Acknowledged: never published" in str(_metadata(again)["explanation"])


@pytest.mark.slow
def test_what_is_not_due_yet_is_grey_and_its_run_succeeds(
    bucket: Path, run: Run, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_path(bucket, START + 23 * HOUR).unlink()
    object_path(bucket, START + 24 * HOUR).unlink()
    monkeypatch.setenv("HL_PUBLISH_LAG_HOURS", "1000000")

    result = run()

    assert result.success
    assert _colour(instance) == "grey"
    assert result.asset_materializations_for_node("whole_days") == []

    monkeypatch.delenv("HL_PUBLISH_LAG_HOURS")
    assert not run(only="whole_days").success
    assert _colour(instance) == "red"


@pytest.mark.slow
def test_a_day_that_nothing_can_prove_or_nobody_has_is_green_and_says_which(
    world: World, run: Run, instance: DagsterInstance, tmp_path: Path
) -> None:
    old = write_sample(tmp_path / "old", first_day=OLD, days=1, fills_per_hour=20).node_data_dir
    shutil.copytree(old, world.bucket, dirs_exist_ok=True)

    states = {day: _metadata(run(day))["state"] for day in (OLD, date(2024, 1, 1))}

    assert states == {OLD: "unprovable", date(2024, 1, 1): "no source"}
    assert {_colour(instance, day) for day in states} == {"green"}


def test_a_day_that_was_never_loaded_stays_grey(world: World, run: Run, instance: DagsterInstance) -> None:
    del world

    assert run(only="whole_days").success

    assert _colour(instance) == "grey"


@pytest.mark.slow
def test_objects_that_the_lake_alone_has_do_not_make_a_day_green(bucket: Path, run: Run, instance: DagsterInstance) -> None:
    late = object_path(bucket, START + 9 * HOUR)
    kept = late.read_bytes()
    late.unlink()
    run()
    late.write_bytes(kept)

    assert run(only="raw_fills").success
    assert run(only="whole_days").success

    assert _colour(instance) == "grey"
    run()
    assert _colour(instance) == "green"


@pytest.mark.slow
def test_rows_unlike_those_of_the_lake_make_a_day_red(bucket: Path, world: World, run: Run, instance: DagsterInstance) -> None:
    del bucket
    run()
    with connect(world.database_url) as connection:
        connection.execute("UPDATE hl.fills_hours SET proven_at = NULL WHERE date = %s AND hour IN (3, 4)", [DAY])

    result = run(only="whole_days")

    assert _colour(instance) == "red"
    [failure] = result.get_step_failure_events()
    assert "The lake and hl.fills are not verified to be equal in the hours 3, 4." in str(failure.step_failure_data.error)


def test_a_shard_is_green_when_asked_grey_before_and_red_when_a_wallet_failed(world: World, instance: DagsterInstance) -> None:
    shard = shard_of(_WALLET)

    def colour_and_result() -> tuple[str, ExecuteInProcessResult]:
        job = build_defs(Settings()).resolve_job_def("backfill_shards")
        selection = [AssetKey("whole_shards")]
        result = job.execute_in_process(partition_key=shard, instance=instance, asset_selection=selection, raise_on_error=False)
        status = (instance.get_status_by_partition(AssetKey("whole_shards"), [shard], SHARDS) or {}).get(shard)
        return status.name if status else "grey", result

    with connect(world.database_url) as connection:
        add_wallets(connection, [_WALLET])
        colour, result = colour_and_result()
        assert (colour, result.success) == ("grey", True)

        fail_wallet(connection, _WALLET, "422: no such wallet", 1, 1)
        colour, result = colour_and_result()
        assert (colour, result.success) == ("FAILED", False)
        [failure] = result.get_step_failure_events()
        assert f"1 wallets failed; run again: {_WALLET}: 422: no such wallet" in str(failure.step_failure_data.error)

        connection.execute("UPDATE hl.backfill_progress SET state = 'complete', error = NULL, history_at = now()")
        colour, result = colour_and_result()
        assert (colour, _metadata(result, "whole_shards")["state"]) == ("MATERIALIZED", "complete")


def test_no_job_of_days_has_an_asset_above_it_that_is_not_its_own() -> None:
    graph = build_defs(Settings()).resolve_asset_graph()
    job = build_defs(Settings()).resolve_job_def("ingest_days")
    own = {*job.asset_layer.executable_asset_keys}

    above = {parent for key in own for parent in graph.get(key).parent_keys}

    assert len(own) == 10
    assert above <= own


def test_nothing_depends_on_a_verdict() -> None:
    graph = build_defs(Settings()).resolve_asset_graph()

    assert not graph.get(AssetKey("whole_days")).child_keys
    assert not graph.get(AssetKey("whole_shards")).child_keys


@pytest.mark.slow
def test_dagster_tries_a_failed_run_again_but_not_a_verdict(
    bucket: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    object_path(bucket, START + 9 * HOUR).unlink()
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster"), overrides={"run_retries": {"enabled": True}}) as instance:

        def will_retry() -> str | None:
            job = build_defs(Settings()).resolve_job_def("ingest_days")
            asked = {"dagster/max_retries": "2"}  # as the sensors ask
            result = job.execute_in_process(partition_key=str(DAY), instance=instance, tags=asked, raise_on_error=False)
            ended = instance.get_run_by_id(result.run_id)
            return ended.tags.get("dagster/will_retry") if ended else None

        assert will_retry() == "false"
        monkeypatch.setenv("HL_DISK_RESERVE_GB", "1000000")
        assert will_retry() == "true"
