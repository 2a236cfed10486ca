"""The code location, loaded as Dagster's own programs load it: in a fresh interpreter, with and without a database."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.processes import PROGRAMS, PROJECT, Ui, free_port, program, run, started, still_there, wait_until
from hl_pipeline_tests.profiles import few

_LOAD = """
import json, sys
from dagster import Definitions
from hl_pipeline.definitions import defs

Definitions.validate_loadable(defs)
graph = defs.resolve_asset_graph()
print(json.dumps({
    "assets": sorted(key.to_user_string() for key in graph.get_all_asset_keys()),
    "checks": sorted(f"{key.asset_key.to_user_string()}: {key.name}" for key in graph.asset_check_keys),
    "jobs": sorted(job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")),
    "slow": sorted(name for name in ("alembic", "boto3", "botocore", "dagster_aws", "polars", "pyarrow") if name in sys.modules),
}))
"""
_LOCATIONS = """
    { workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename } } } } }
"""
_ADVICE = "run `hl up` and leave it running, or set HL_DATABASE_URL"


@pytest.fixture
def environment(world: World, tmp_path: Path) -> dict[str, str]:
    """A user's, with the virtual environment active; Dagster's files go to a home of the test's own."""
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copyfile(PROJECT / "dagster.yaml", home / "dagster.yaml")
    path = {"VIRTUAL_ENV": str(PROGRAMS.parent), "PATH": f"{PROGRAMS}:{world.environment['PATH']}"}
    return world.environment | path | {"DAGSTER_HOME": str(home)}


@pytest.fixture(autouse=True)
def _leaves_no_temporary_home_in_the_checkout() -> Generator[None]:
    before = {*PROJECT.glob(".tmp_dagster_home_*")}
    yield
    assert {*PROJECT.glob(".tmp_dagster_home_*")} == before


def test_it_loads_in_a_fresh_interpreter_with_just_these_definitions_and_without_aws(environment: dict[str, str]) -> None:
    done = run([sys.executable, "-c", _LOAD], environment, PROJECT)

    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "assets": [
            *(
                "builder_stats",
                "candles",
                "daily_stats",
                "fills",
                "fills_compacted",
                "raw_api_fills",
                "raw_api_twap_history",
                "raw_fills",
                "raw_twap_statuses",
                "twap_statuses",
                "twaps",
            ),
            *("user_stats", "whole_days", "whole_shards"),
        ],
        "checks": [
            "builder_stats: fills_accounted_for",
            "candles: prices_ordered",
            "daily_stats: fills_accounted_for",
            "fills: day_is_whole",
            "fills: fresh",
            "fills: key_unique",
            "fills: lake_equals_database",
            "fills: legs_pair",
            "fills_compacted: same_rows",
            "raw_api_fills: wallets_answered",
            "raw_api_fills: wallets_complete",
            "raw_api_twap_history: statuses_have_twaps",
            "raw_api_twap_history: wallets_answered",
            "raw_fills: blocks_without_holes",
            "raw_fills: hours_present",
            "raw_fills: lines_taken",
            "raw_twap_statuses: events_near_their_day",
            "raw_twap_statuses: lines_taken",
            "raw_twap_statuses: objects_present",
            "twap_statuses: day_is_there",
            "twap_statuses: key_unique",
            "twaps: fills_are_what_was_reported",
            "twaps: slices_have_statuses",
            "user_stats: fills_accounted_for",
        ],
        "jobs": ["backfill_shards", "compact_days", "ingest_days", "rebuild_days", "thin_runs_by_age", "vacuum_lake"],
        "slow": [],
    }


@pytest.mark.slow
def test_dg_check_defs_passes_with_a_database(environment: dict[str, str]) -> None:
    done = run([program("dg"), "check", "defs"], environment, PROJECT)

    assert done.returncode == 0, done.stdout
    assert "All definitions loaded successfully." in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", few(["dg check defs", "dg dev", "dagster dev -w workspace.yaml"], 1))
def test_without_a_database_its_last_line_says_what_to_do(command: str, environment: dict[str, str], tmp_path: Path) -> None:
    del environment["HL_DATABASE_URL"]
    name, *words = command.split()
    port = ["-p", str(free_port())] if "dev" in words else []

    done = run([program(name), *words, *port], environment, PROJECT, seconds=120)

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith(_ADVICE)
    assert str(tmp_path / "home") in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout


@pytest.mark.slow
def test_a_database_that_does_not_answer_is_named_without_its_password(environment: dict[str, str]) -> None:
    environment["HL_DATABASE_URL"] = f"postgresql://hl:secret@127.0.0.1:{free_port()}/hl"

    done = run([program("dg"), "check", "defs"], environment, PROJECT, seconds=120)

    assert done.returncode == 1
    assert "cannot connect to postgresql://hl:***@127.0.0.1:" in done.stdout
    assert "secret" not in done.stdout


@pytest.mark.slow
def test_dg_dev_serves_the_location_with_a_database_and_stops_at_ctrl_c(environment: dict[str, str], tmp_path: Path) -> None:
    ui = Ui(free_port())
    with started([program("dg"), "dev", "-p", str(ui.port)], environment, PROJECT, tmp_path / "dev.log") as dev:
        wait_until(lambda: dev.answers(ui.health), 60, "the UI answers")

        assert ui.ask(_LOCATIONS)["workspaceOrError"]["locationEntries"] == [
            {"name": "hl_pipeline", "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}
        ]
        tree = dev.tree()
        assert dev.interrupt(30) == 0
        wait_until(lambda: not still_there(tree), 10, "its processes are gone")
