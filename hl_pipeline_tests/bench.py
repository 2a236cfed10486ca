"""`make bench`: fills a second from generated objects of a real hour's size, stage by stage and the whole way. No test.

Each run is a process of its own with a new lake and a new database; the medians of all runs count, the machine is noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import date
from pathlib import Path

import psycopg
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from hl_pipeline.settings import Settings, as_environment
from hl_pipeline.warehouse.embedded import embedded_url, hold

DAY = date(2026, 3, 15)
HOURS, FILLS_PER_HOUR = 5, 400_000
TARGETS = {"decode + lake": 350_000, "load with indexes": 300_000, "the whole way": 170_000}


def main() -> None:
    """Make the data, do the runs, print the medians."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--one", choices=["stages", "whole"], help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(measure_stages() if chosen.one == "stages" else measure_whole()))  # noqa: T201
        return
    console = Console()
    with tempfile.TemporaryDirectory(prefix="hl-bench-") as directory:
        home = Path(directory)
        bucket, fills, size = _make_bucket(home)
        console.print(f"{fills:,} fills in {HOURS + 1} objects, {size / 1e6:,.0f} MB compressed; {os.cpu_count()} cores")
        results: list[dict[str, float]] = []
        with hold(home):
            for number in range(chosen.runs):
                results.append(_run("stages", home, bucket, number) | _run("whole", home, bucket, number))
                console.print(f"run {number + 1}: " + ", ".join(f"{name} {value:,.0f}" for name, value in results[-1].items()))
    _print_medians(console, results)


def _make_bucket(home: Path) -> tuple[Path, int, int]:
    from hl_pipeline.sample import write_sample

    made = write_sample(home / "sample", first_day=DAY, hours=HOURS, fills_per_hour=FILLS_PER_HOUR)
    return made.node_data_dir, made.fills, made.bytes


def _run(what: str, home: Path, bucket: Path, number: int) -> dict[str, float]:
    name = f"bench_{uuid.uuid4().hex}"
    with psycopg.connect(embedded_url(home, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        settings = Settings(
            home=home,
            database_url=SecretStr(embedded_url(home, name)),
            lake_url=str(home / f"lake-{what}-{number}"),
            node_data_url=str(bucket),
        )
        done = subprocess.run(
            [sys.executable, "-m", "hl_pipeline_tests.bench", "--one", what],
            env={**os.environ, **as_environment(settings)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            text=True,
        )
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    return json.loads(done.stdout.splitlines()[-1])


def measure_stages() -> dict[str, float]:
    """Fills a second of decoding into the lake, and of loading from there into both tables with indexes."""
    from hl_pipeline.assets.fills import load_fills
    from hl_pipeline.assets.raw import bring_day
    from hl_pipeline.definitions import build_resources
    from hl_pipeline.lake import open_lake
    from hl_pipeline.resources import NodeData
    from hl_pipeline.warehouse.connect import connect, find_database_url
    from hl_pipeline.warehouse.migrate import migrate

    settings = Settings()
    url = find_database_url(settings)
    migrate(url)
    node_data = build_resources(settings)["node_data"]
    assert isinstance(node_data, NodeData)
    lake = open_lake(settings.lake)
    with connect(url) as connection:
        started = time.perf_counter()
        brought = bring_day(DAY, node_data, lake, settings)
        decoded = time.perf_counter()
        loaded, _ = load_fills(DAY, lake, connection, settings)
        ended = time.perf_counter()
    rows = sum(meta.rows for meta in brought.found)
    return {"decode + lake": rows / (decoded - started), "load with indexes": loaded.rows / (ended - decoded)}


def measure_whole() -> dict[str, float]:
    """Fills a second of a day through Dagster, checks included, and the most memory of its process (MiB)."""
    from dagster import DagsterInstance, materialize

    from hl_pipeline.definitions import ASSETS, build_resources
    from hl_pipeline.warehouse.connect import find_database_url
    from hl_pipeline.warehouse.migrate import migrate

    migrate(find_database_url(Settings()))
    with DagsterInstance.ephemeral() as instance:
        started = time.perf_counter()
        result = materialize(ASSETS, partition_key=str(DAY), instance=instance, resources=build_resources(Settings()))
        seconds = time.perf_counter() - started
    [event] = result.asset_materializations_for_node("fills")
    rows = event.metadata["dagster/partition_row_count"].value
    assert isinstance(rows, int)
    return {"the whole way": rows / seconds, "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _print_medians(console: Console, results: list[dict[str, float]]) -> None:
    table = Table("", "median", "min", "max", "target", box=None, header_style="bold")
    for name in results[0]:
        values = [result[name] for result in results]
        target = f"{TARGETS[name]:,}" if name in TARGETS else "1,536" if name == "peak MiB" else ""
        table.add_row(name, *(f"{value:,.0f}" for value in (statistics.median(values), min(values), max(values))), target)
    console.print(table)


if __name__ == "__main__":
    main()
