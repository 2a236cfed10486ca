"""Compactions killed at any moment: the table shows the old day or the new one, and the next run finishes what was begun."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import psycopg
import pytest
from pydantic import SecretStr

from hl_pipeline.lake.iceberg import files_by_day, find_table
from hl_pipeline.lake.store import Lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.stages.fetch_day import fetch_fills
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.stages.load_fills import load_fills
from hl_pipeline.stages.vacuum import vacuum
from hl_pipeline.warehouse.lake_days import list_current_days, read_lake_days
from hl_pipeline_tests.killable_runs import Death, Place, compact, run

DAY = date(2026, 3, 15)
_KILLS = 40


@pytest.fixture
def two_versions(tmp_path: Path, database_url: str, lake: Lake, connection: psycopg.Connection) -> Callable[[int], int]:
    """Load one of two versions of a day, which differ in an hour. Returns its rows."""
    sample = write_sample(tmp_path / "sample", first_day=DAY, hours=2, fills_per_hour=60)
    hours = sample.node_data_dir / "node_fills_by_block/hourly/20260315"
    contents = [(hours / "0.lz4").read_bytes(), (hours / "1.lz4").read_bytes()]
    settings = Settings(
        home=tmp_path,
        database_url=SecretStr(database_url),
        lake_url=lake.root,
        node_data_url=str(sample.node_data_dir),
        twap_data_url="none",
    )

    def load(version: int) -> int:
        (hours / "0.lz4").write_bytes(contents[version])
        fetch_fills(DAY, lake, connection, settings)
        return load_fills(DAY, lake, connection, settings).rows

    return load


def _rows(connection: psycopg.Connection, lake: Lake) -> int:
    with opened_catalog(connection, lake) as catalog:
        table = find_table(catalog, "fills")
        return 0 if table is None else table.scan().to_arrow().num_rows


@pytest.mark.slow
def test_a_compaction_killed_at_any_moment_shows_the_old_or_the_new_day_and_is_finished_by_the_next(
    two_versions: Callable[[int], int], lake: Lake, connection: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    random = Random(20)
    two_versions(0)
    compact_day(DAY, lake, connection)
    shown = two_versions(1)
    started = time.perf_counter()
    assert _kill_after(None, database_url, lake) == 0
    typical = time.perf_counter() - started
    killed = 0
    for attempt in range(1, _KILLS + 1):
        loaded = two_versions((attempt + 1) % 2)
        killed += _kill_after(random.uniform(0, typical), database_url, lake) == -signal.SIGKILL
        assert _rows(connection, lake) in {shown, loaded}, attempt
        if random.random() < 0.5:
            shown = _rows(connection, lake)
            continue
        compact_day(DAY, lake, connection)
        shown = loaded
        assert (_rows(connection, lake), list_current_days(connection)) == (loaded, {DAY})
    assert killed > _KILLS / 4, "the kills came too late"

    made = compact_day(DAY, lake, connection).published
    assert made is not None
    long_ago = (datetime.now(UTC) - timedelta(days=30)).timestamp()
    for file in Path(lake.root, "iceberg").rglob("*"):
        os.utime(file, (long_ago, long_ago))
    settings = Settings(home=tmp_path, snapshots_keep_days=1)
    vacuum(lake, connection, settings)
    with opened_catalog(connection, lake) as catalog:
        table = find_table(catalog, "fills")
        assert table is not None
        known = {path.split("/")[-1] for path in [entry.metadata_file for entry in table.metadata.metadata_log]}
        data = {file.path for files in files_by_day(table, lake).values() for file in files}
        live = {
            entry.data_file.file_path
            for s in table.metadata.snapshots
            for m in s.manifests(table.io)
            for entry in m.fetch_manifest_entry(table.io, discard_deleted=True)
        }
        assert len(table.metadata.snapshots) >= 1
    present = {
        f"{lake.url}/{file.relative_to(lake.root)}" for file in Path(lake.root, "iceberg/fills/data").rglob("*") if file.is_file()
    }
    assert present == live
    assert data <= {path.removeprefix(f"{lake.url}/") for path in live}
    assert not [file for file in Path(lake.root, "iceberg/fills/spill").rglob("*") if file.is_file()]
    assert {file.name for file in Path(lake.root, "iceberg/fills/metadata").glob("*.json")} <= {
        *known,
        Path(table.metadata_location).name,
    }
    assert read_lake_days(connection, "fills") == {DAY: made}


def _kill_after(seconds: float | None, url: str, lake: Lake) -> int:
    """Kill a compaction after a time (None: never). Returns its exit code."""
    return run(Place(Path(), Path(lake.root), url), DAY, None if seconds is None else Death(None, seconds=seconds), compact)
