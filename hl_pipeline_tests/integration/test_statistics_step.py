"""`candles`, `daily_stats`, `user_stats` and `builder_stats` are one step, which makes only the selected tables."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import psycopg
import pytest
from dagster import AssetKey, AssetSelection, DagsterInstance, ExecuteInProcessResult, materialize

from hl_pipeline.definitions import build_resources, statistics
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.days import make_day

DAY = date(2026, 3, 15)
TABLES = ("candles", "daily_stats", "user_stats", "builder_stats")
CHECKS = {"candles": "prices_ordered"} | dict.fromkeys(TABLES[1:], "fills_accounted_for")


@pytest.fixture
def with_fills(world: World, tmp_path: Path) -> World:
    sample = write_sample(tmp_path / "sample", first_day=DAY, hours=2, fills_per_hour=60)
    sample.node_data_dir.rename(world.bucket)
    make_day(world.environment, DAY, ["raw_fills", "fills"])
    return world


def _run(selection: AssetSelection, instance: DagsterInstance) -> ExecuteInProcessResult:
    # As a launched run: Dagster takes no `partition_key` where checks alone are selected.
    tags, resources = {"dagster/partition": str(DAY)}, build_resources(Settings())
    return materialize([statistics], selection=selection, tags=tags, instance=instance, resources=resources)


def _materialized(result: ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}


def _checked(result: ExecuteInProcessResult) -> list[tuple[str, str, bool]]:
    checks = result.get_asset_check_evaluations()
    return sorted((check.asset_key.to_user_string(), check.check_name, check.passed) for check in checks)


def _filled(world: World) -> set[str]:
    with psycopg.connect(world.database_url) as connection:
        return {table for table in TABLES if connection.execute(f"SELECT 1 FROM hl.{table} LIMIT 1".encode()).fetchone()}


@pytest.mark.parametrize("table", TABLES)
def test_each_table_is_made_alone_and_no_other(table: str, with_fills: World, instance: DagsterInstance) -> None:
    result = _run(AssetSelection.assets(table), instance)
    assert _materialized(result) == _filled(with_fills) == {table}
    assert _checked(result) == [(table, CHECKS[table], True)]


def test_all_of_them_are_made_together_with_their_checks(with_fills: World, instance: DagsterInstance) -> None:
    result = _run(AssetSelection.all(), instance)
    assert _materialized(result) == _filled(with_fills) == {*TABLES}
    assert _checked(result) == [(table, check, True) for table, check in sorted(CHECKS.items())]
    assert [len(result.asset_materializations_for_node("statistics"))] == [4]


def test_a_check_or_an_asset_can_be_run_without_the_other(with_fills: World, instance: DagsterInstance) -> None:
    check = AssetSelection.checks_for_assets(AssetKey("user_stats"))
    alone = _run(check, instance)
    assert (_materialized(alone), _checked(alone)) == (set(), [("user_stats", "fills_accounted_for", True)])
    without = _run(AssetSelection.assets("candles").without_checks(), instance)
    assert (_materialized(without), _filled(with_fills)) == ({"candles"}, {"candles", "user_stats"})
