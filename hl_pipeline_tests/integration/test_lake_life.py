"""The compacted lake over time: Dagster compacts a day at rest, old snapshots expire, and a restored catalog is found again."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import DagsterInstance, RunRequest, build_schedule_context, materialize

from hl_pipeline.definitions import AT_REST, build_defs, build_resources
from hl_pipeline.lake.iceberg import find_table
from hl_pipeline.lake.store import Lake, open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.stages.vacuum import vacuum
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import Done, run_in_process
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.days import make_day
from hl_pipeline_tests.naive.fills import event_day, read_bucket

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 15)
_LONG_AGO = timedelta(days=30)


@pytest.fixture
def loaded(world: World) -> World:
    """A world with two hours of a loaded day."""
    write_sample(world.home, first_day=DAY, hours=2, fills_per_hour=150)
    world.environment["HL_NODE_DATA_URL"] = os.environ["HL_NODE_DATA_URL"] = str(world.home / "hl-mainnet-node-data")
    make_day(world.environment, DAY, ["raw_fills", "fills"])
    return world


@pytest.fixture
def instance(tmp_path: Path) -> Generator[DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


@pytest.fixture
def connection(loaded: World) -> Generator[psycopg.Connection]:
    with connect(loaded.database_url, "test") as connection:
        yield connection


@pytest.fixture
def lake(loaded: World) -> Lake:
    return open_lake(loaded.environment["HL_LAKE_URL"])


def _hl(world: World, *words: str) -> Done:
    return run_in_process(world.home, world.environment, *words)


def _load_other_version(world: World) -> None:
    """Load the day again after the object of one of its hours has changed."""
    [changed] = (world.home / "hl-mainnet-node-data/node_fills_by_block").rglob("20260315/0.lz4")
    changed.write_bytes((changed.parent / "1.lz4").read_bytes())
    make_day(world.environment, DAY, ["raw_fills", "fills"])


def _rows_of(connection: psycopg.Connection, lake: Lake) -> list[dict[str, Any]]:
    """Read the whole table by pyiceberg."""
    with opened_catalog(connection, lake) as catalog:
        table = find_table(catalog, "fills")
        assert table is not None
        return table.scan().to_arrow().to_pylist()


def _age(connection: psycopg.Connection, lake: Lake) -> None:
    """Let all that the table's metadata and files say about time be a month ago."""
    [(location,)] = connection.execute("SELECT metadata_location FROM hl_iceberg.iceberg_tables").fetchall()
    path = Path(location.removeprefix("file://"))
    path.write_text(json.dumps(_earlier(json.loads(path.read_text()))))
    then = (datetime.now(UTC) - _LONG_AGO).timestamp()
    for file in Path(lake.root, "iceberg").rglob("*"):
        os.utime(file, (then, then))


def _earlier(value: Any, name: str = "") -> Any:
    match value:
        case dict():
            return {key: _earlier(inner, key) for key, inner in value.items()}
        case list():
            return [_earlier(inner) for inner in value]
        case int() if name in ("timestamp-ms", "last-updated-ms"):
            return value - int(_LONG_AGO.total_seconds() * 1000)
        case _:
            return value


def test_the_schedule_compacts_a_day_at_rest_with_the_sums_of_the_generator(
    loaded: World, lake: Lake, connection: psycopg.Connection, instance: DagsterInstance
) -> None:
    settings = Settings(compact_after_hours=0)
    schedule = build_defs(settings).get_schedule_def("compact")

    def tick() -> list[RunRequest]:
        at, resources = datetime.now(UTC), build_resources(settings)
        with build_schedule_context(instance=instance, scheduled_execution_time=at, resources=resources) as context:
            found = schedule(context)
        return found if isinstance(found, list) else []

    connection.execute("UPDATE hl.fills_days SET state = 'pending'")
    assert tick() == []
    connection.execute("UPDATE hl.fills_days SET state = 'incomplete'")
    [request] = tick()
    assert (request.partition_key, request.tags["hl/started_by"]) == (str(DAY), "schedule compact")

    result = materialize(
        AT_REST, instance=instance, partition_key=request.partition_key, tags=request.tags, resources=build_resources(settings)
    )

    [check] = [one for one in result.get_asset_check_evaluations() if one.check_name == "same_rows"]
    bucket = Path(loaded.environment["HL_NODE_DATA_URL"])
    fills = [fill for _, _, fill in read_bucket(bucket) if event_day(fill) == DAY]
    with localcontext() as exact:
        exact.prec = 100
        notional = sum((Decimal(fill["px"]) * Decimal(fill["sz"]) for fill in fills), Decimal(0))
        assert check.passed, check.description
        assert check.metadata["rows_compacted"].value == check.metadata["rows_loaded"].value == len(fills) > 200
        [of_asset] = result.asset_materializations_for_node("fills_compacted")
        assert of_asset.metadata["notional"].value == float(notional)
        rows = _rows_of(connection, lake)
        assert sum((row["notional"] for row in rows), Decimal(0)) == notional
    assert sorted((row["tid"], row["side"], row["sz"]) for row in rows) == sorted(
        (fill["tid"], fill["side"], Decimal(fill["sz"])) for fill in fills
    )
    assert tick() == [], "the day is compacted as it is"


def test_status_says_what_a_year_takes_in_each_tier(loaded: World, lake: Lake, connection: psycopg.Connection) -> None:
    compact_day(DAY, lake, connection)
    [(hot,)] = connection.execute(f"SELECT pg_total_relation_size('hl.fills_{DAY:%Y%m%d}')".encode())
    directories = {"hours in the lake": "fills", "compacted": "iceberg/fills/data", "raw": "raw_fills"}
    sizes = {
        name: sum(path.stat().st_size for path in Path(lake.root, of).rglob("*") if path.is_file())
        for name, of in directories.items()
    }
    sizes["hl.fills"] = hot

    status = json.loads(_hl(loaded, "status", "--json").stdout)["tiers"]

    expected = [{"name": name, "bytes": size, "days": 1, "bytes_a_year": size * 365} for name, size in sizes.items()]
    assert sorted(status, key=lambda tier: tier["name"]) == sorted(expected, key=lambda tier: str(tier["name"]))
    shown = " ".join(_hl(loaded, "status").stdout.split())
    for name, size in sizes.items():
        assert f"{name} {size / 1e6:,.1f} MB in 1 days; a year of such days: {size * 365 / 1e6:,.1f} MB" in shown


def test_expired_snapshots_leave_no_file_and_the_current_one_stays_readable(
    loaded: World, lake: Lake, connection: psycopg.Connection
) -> None:
    first = compact_day(DAY, lake, connection).published
    replaced_at = datetime.now(UTC)
    _load_other_version(loaded)
    second = compact_day(DAY, lake, connection).published
    assert first is not None
    assert second is not None
    assert _hl(loaded, "lake", "query", "SELECT 1 FROM fills", "--as-of", replaced_at.isoformat()).returncode == 0
    _age(connection, lake)

    [done] = vacuum(lake, connection, Settings(snapshots_keep_days=7))

    assert done.snapshots == [first.snapshot_id]
    assert first.files[0] in done.files
    assert not Path(lake.root, first.files[0]).exists()
    assert len(_rows_of(connection, lake)) == second.rows
    refused = _hl(loaded, "lake", "query", "SELECT 1 FROM fills", "--as-of", (replaced_at - _LONG_AGO).isoformat())
    said = " ".join(refused.stderr.split())
    assert (refused.returncode, "has no snapshot of" in said, "give a time from the oldest on" in said) == (1, True, True)

    # Every file is referred to, and every reference is a file.
    with opened_catalog(connection, lake) as catalog:
        table = find_table(catalog, "fills")
        assert table is not None
        known = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
        for snapshot in table.metadata.snapshots:
            manifests = snapshot.manifests(table.io)
            known |= {snapshot.manifest_list, *(one.manifest_path for one in manifests)}
            known |= {
                entry.data_file.file_path
                for one in manifests
                for entry in one.fetch_manifest_entry(table.io, discard_deleted=True)
            }
    there = {f"file://{path}" for path in Path(lake.root, "iceberg/fills").rglob("*") if path.is_file()}
    assert there == known
    assert _hl(loaded, "lake", "verify").returncode == 0


def test_after_a_restore_the_catalog_finds_what_was_published_since_the_backup(
    loaded: World, lake: Lake, connection: psycopg.Connection, tmp_path: Path
) -> None:
    # It also makes Dagster's database, without which there is no backup.
    assert _hl(loaded, "rebuild").returncode in (0, 3)
    compact_day(DAY, lake, connection)
    assert _hl(loaded, "backup", str(tmp_path / "backups")).returncode == 0
    [backup] = (tmp_path / "backups").iterdir()
    _load_other_version(loaded)
    made = compact_day(DAY, lake, connection).published
    assert made is not None
    _age(connection, lake)
    vacuum(lake, connection, Settings(snapshots_keep_days=7))
    rows = _rows_of(connection, lake)
    connection.close()

    restored = _hl(loaded, "restore", str(backup), "--overwrite")

    assert restored.returncode == 0, restored.stderr
    verified = _hl(loaded, "lake", "verify")
    assert verified.returncode == 3
    assert "`hl rebuild` and `hl lake vacuum` let the catalog point to the newest state" in " ".join(verified.stderr.split())
    with connect(loaded.database_url, "test") as own:
        # A vacuum at this moment removes nothing that was published since the backup.
        then = (datetime.now(UTC) - _LONG_AGO).timestamp()
        for file in Path(lake.root, "iceberg").rglob("*"):
            os.utime(file, (then, then))
        vacuum(lake, own, Settings())
        assert _rows_of(own, lake) == rows
    done = _hl(loaded, "rebuild")
    assert done.returncode in (0, 3), done.stderr
    assert _hl(loaded, "lake", "verify").returncode == 0
    with connect(loaded.database_url, "test") as own:
        again = compact_day(DAY, lake, own)
        assert (again.is_new, again.published and again.published.files) == (False, made.files)
