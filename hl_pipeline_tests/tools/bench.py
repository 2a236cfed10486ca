"""`make bench`: fills per second from generated objects of a real hour's size, for each stage and end to end; and the API under
load (`bench_api`). Not a test.

Each run is a separate process with a new lake and a new database. The result is the median of all runs, as machines are noisy.
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
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from hl_pipeline.settings import Settings, as_environment
from hl_pipeline.warehouse.embedded import embedded_url, hold
from hl_pipeline_tests.tools.bench_api import measure as measure_api

if TYPE_CHECKING:
    from hl_pipeline.lake.store import Lake

DAY, OLDER_DAY = date(2026, 3, 15), date(2025, 6, 10)
HOURS, OLDER_HOURS, FILLS_PER_HOUR = 5, 2, 400_000
TARGETS = {
    "share: decode + lake / DuckDB": "at least 0.7",
    "share: load / COPY and indexes": "at most 1.25",
    "share: the whole way / decoding, COPY and indexes": "at most 1.3",
    "share: hl ingest / hl-data": "at most 1.3",
    "share: new installation / DuckDB": "at most 8",
    "share: increment / replacing the day": "at most 0.25",
    "peak MiB": "at most 1,280",
}


def main() -> None:
    """Make the data, run the measurements, print the medians."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--hours", type=int, default=HOURS, help="of the day in today's format")
    options.add_argument("--only", choices=[*_MEASURES], nargs="+", default=[*_MEASURES])
    options.add_argument("--one", choices=[*_MEASURES], help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(_MEASURES[chosen.one]()))  # noqa: T201
        return
    console = Console()
    with tempfile.TemporaryDirectory(prefix="hl-bench-") as directory:
        home = Path(directory)
        bucket = _make_bucket(home, console, chosen.hours)
        results: list[dict[str, float]] = []
        with hold(home):
            for number in range(chosen.runs):
                measured = [_run(what, home, bucket, number) for what in chosen.only]
                results.append(_with_shares({name: value for one in measured for name, value in one.items()}))
                if chosen.only == [*_MEASURES]:
                    results[-1] |= measure_api(home)
                console.print(f"run {number + 1}: " + ", ".join(f"{name} {value:,.2f}" for name, value in results[-1].items()))
    _print_medians(console, results)


def _make_bucket(home: Path, console: Console, hours: int) -> Path:
    """Make a bucket with hours of the current format, and hours that two older datasets share."""
    from hl_pipeline.sample.generate import write_sample

    for day, count in ((DAY, hours), (OLDER_DAY, OLDER_HOURS)):
        made = write_sample(home / "sample", first_day=day, hours=count, fills_per_hour=FILLS_PER_HOUR)
        console.print(
            f"{day}: {made.fills:,} fills in {made.objects} objects, {made.bytes / 1e6:,.0f} MB; {os.cpu_count()} cores"
        )
    return home / "sample" / "hl-mainnet-node-data"


def _with_shares(figures: dict[str, float]) -> dict[str, float]:
    """Return `figures` with the ratios of ours to the references of the same run."""
    if "DuckDB decoding" in figures:
        reference = figures["COPY of a ready file, seconds"] + figures["indexes by hand, seconds"]
        figures["share: decode + lake / DuckDB"] = figures["decode + lake"] / figures["DuckDB decoding"]
        figures["share: load / COPY and indexes"] = figures["load, seconds"] / reference
        if "the whole way, seconds" in figures:
            whole = reference + figures["DuckDB decoding, seconds"]
            figures["share: the whole way / decoding, COPY and indexes"] = figures["the whole way, seconds"] / whole
    return figures


def _run(what: str, home: Path, bucket: Path, number: int) -> dict[str, float]:
    name = f"bench_{uuid.uuid4().hex}"
    with psycopg.connect(embedded_url(home, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        settings = Settings(
            home=home,
            database_url=SecretStr(embedded_url(home, name)),
            lake_url=str(home / f"lake-{what}-{number}"),
            node_data_url=str(bucket),
            twap_data_url=str(bucket.parent / "artemis-hyperliquid-data" / "raw" / "twap_statuses"),
        )
        done = subprocess.run(
            [sys.executable, "-m", "hl_pipeline_tests.tools.bench", "--one", what],
            env={**os.environ, **as_environment(settings)},
            capture_output=True,
            check=False,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{what} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    return json.loads(done.stdout.splitlines()[-1])


def measure_stages() -> dict[str, float]:
    """Measure fills per second: decoding into the lake, loading into lake and database with indexes, statistics, TWAPs.

    Also measures DuckDB and PostgreSQL on the same objects and rows.
    """
    from hl_pipeline.stages.derive import make_figures_of_day
    from hl_pipeline.warehouse.connect import connect, find_database_url
    from hl_pipeline_tests.tools.bench_references import copy_and_index, decode_with_duckdb

    settings = Settings()
    objects = sorted(Path(settings.node_data_url).glob(f"node_fills_by_block/hourly/{DAY:%Y%m%d}/*.lz4"))
    objects += Path(settings.node_data_url).glob(f"node_fills_by_block/hourly/{DAY + timedelta(days=1):%Y%m%d}/0.lz4")
    decoding, decoded = decode_with_duckdb(objects, settings.home)
    figures, lake = _bring_and_load(DAY, "decode + lake", "load with indexes")
    rows = figures.pop("rows")
    with connect(find_database_url(settings)) as connection:
        copying, indexing = copy_and_index(connection, DAY, settings.home)
    figures |= {
        "load, seconds": rows / figures["load with indexes"],
        "DuckDB decoding": decoded / decoding,
        "DuckDB decoding, seconds": decoding,
        "COPY of a ready file, seconds": copying,
        "indexes by hand, seconds": indexing,
    }
    started = time.perf_counter()
    with connect(find_database_url(Settings())) as connection:
        dict(make_figures_of_day(DAY, lake, connection))
    made = time.perf_counter()
    _make_twaps(lake)
    ended = time.perf_counter()
    return figures | {"candles and statistics": rows / (made - started), "TWAPs": rows / (ended - made)}


def _make_twaps(lake: Lake) -> None:
    """Load the day's statuses from the bucket, and make its TWAPs."""
    from hl_pipeline.stages.fetch import fetch_day
    from hl_pipeline.stages.load_statuses import load_statuses_day
    from hl_pipeline.stages.make_twaps import make_twaps_of_day
    from hl_pipeline.stages.raw_tables import RAW_TWAP_STATUSES
    from hl_pipeline.warehouse.connect import connect, find_database_url

    settings = Settings()
    with connect(find_database_url(settings)) as connection:
        fetch_day(RAW_TWAP_STATUSES, DAY, lake, settings)
        load_statuses_day(DAY, lake, connection, settings)
        make_twaps_of_day(DAY, lake, connection)


def measure_older() -> dict[str, float]:
    """Measure fills per second for an hour that both node_trades and node_fills have, with every fill in both."""
    figures, _ = _bring_and_load(OLDER_DAY, "two older formats: decode + lake", "two older formats: each fill once, load")
    figures.pop("rows")
    return figures


def _bring_and_load(day: date, bring: str, load: str) -> tuple[dict[str, float], Lake]:
    """Return the rates of both by name (decoding by decoded rows, loading by `rows`), and the lake."""
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.fetch import fetch_day
    from hl_pipeline.stages.load_fills import load_objects
    from hl_pipeline.stages.raw_tables import RAW_FILLS
    from hl_pipeline.warehouse.connect import connect, find_database_url
    from hl_pipeline.warehouse.migrate import migrate

    settings = Settings()
    migrate(find_database_url(settings))
    lake = open_lake(settings.lake)
    with connect(find_database_url(settings)) as connection:
        started = time.perf_counter()
        fetched = fetch_day(RAW_FILLS, day, lake, settings)
        decoded = time.perf_counter()
        loaded, _ = load_objects(day, lake, connection, settings)
        ended = time.perf_counter()
    rows = sum(meta.rows for meta in fetched.objects)
    return {bring: rows / (decoded - started), load: loaded.rows / (ended - decoded), "rows": loaded.rows}, lake


def measure_whole() -> dict[str, float]:
    """Measure fills per second of a day through Dagster, including checks, and the peak memory of its process (MiB)."""
    from hl_pipeline.warehouse.connect import find_database_url
    from hl_pipeline.warehouse.migrate import migrate

    migrate(find_database_url(Settings()))
    seconds, rows, _ = _materialize(Settings())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"the whole way": rows / seconds, "the whole way, seconds": seconds, "peak MiB": peak}


def measure_increment() -> dict[str, float]:
    """Measure seconds through Dagster, including checks, to append the day's last whole hour.

    Also measures the same run when forced to replace the day: it fetches and decodes that object again, and finds nothing new.
    """
    from hl_pipeline.lake.fills import raw_path
    from hl_pipeline.warehouse.connect import find_database_url
    from hl_pipeline.warehouse.migrate import migrate

    migrate(find_database_url(Settings()))
    [of_day] = Path(Settings().node_data_url).glob(f"*/hourly/{DAY:%Y%m%d}")
    hours = sorted(int(path.stem) for path in of_day.glob("*.lz4"))
    last = hours[-1] if len(hours) == 24 else hours[-2]
    with tempfile.TemporaryDirectory(dir=Settings().home) as directory:
        bucket = Path(directory)
        there = bucket / of_day.relative_to(of_day.parents[2])
        there.mkdir(parents=True)
        settings = Settings(node_data_url=str(bucket))
        for hour in range(last):
            os.link(of_day / f"{hour}.lz4", there / f"{hour}.lz4")
        _, before, _ = _materialize(settings)
        os.link(of_day / f"{last}.lz4", there / f"{last}.lz4")
        appending, rows, made = _materialize(settings)
        assert made == 2, "the last hour and the one before, whose last fills it has"
        Path(Settings().lake, raw_path(DAY, last, "node_fills_by_block")).unlink()
        replacing, again, made = _materialize(settings)
        assert (again, made) == (rows, 24)
    return {
        "fills before the increment": before,
        "fills of the increment": rows - before,
        "increment, seconds": appending,
        "the same by replacing the day, seconds": replacing,
        "share: increment / replacing the day": appending / replacing,
    }


def _materialize(settings: Settings) -> tuple[float, int, int]:
    """Run the day through Dagster. Returns the seconds, the fills, and the number of hours made."""
    from dagster import DagsterInstance, materialize

    from hl_pipeline.definitions import ASSETS, build_resources

    with DagsterInstance.ephemeral() as instance:
        started = time.perf_counter()
        result = materialize(ASSETS, partition_key=str(DAY), instance=instance, resources=build_resources(settings))
        seconds = time.perf_counter() - started
    [event] = result.asset_materializations_for_node("fills")
    rows, hours = (event.metadata[name].value for name in ("dagster/partition_row_count", "hours_made"))
    assert isinstance(rows, int)
    assert isinstance(hours, int)
    return seconds, rows, hours


def measure_s3() -> dict[str, float]:
    """Measure fills per second through S3 connections of a typical speed."""
    from hl_pipeline_tests.tools.bench_s3 import measure

    return measure(DAY)


def measure_figures() -> dict[str, float]:
    """Measure seconds for candles and statistics: ours, and those of DuckDB and polars."""
    from hl_pipeline_tests.tools.bench_figures import measure

    _, lake = _bring_and_load(DAY, "", "")
    return measure(lake, DAY)


def measure_ingest() -> dict[str, float]:
    """Measure seconds of `hl ingest` for a small day, and of other programs that read the same objects."""
    from hl_pipeline_tests.tools.bench_ingest import measure

    return measure(Settings().home)


def measure_looks() -> dict[str, float]:
    """Measure the seconds of the sensors' checks."""
    from hl_pipeline_tests.tools.bench_s3 import measure_looks

    return measure_looks()


_MEASURES: dict[str, Callable[[], dict[str, float]]] = {
    "stages": measure_stages,
    "older": measure_older,
    "whole": measure_whole,
    "s3": measure_s3,
    "looks": measure_looks,
    "increment": measure_increment,
    "figures": measure_figures,
    "ingest": measure_ingest,
}


def _print_medians(console: Console, results: list[dict[str, float]]) -> None:
    table = Table("", "median", "min", "max", "target", box=None, header_style="bold")
    for name in results[0]:
        values = [result[name] for result in results]
        target = TARGETS.get(name, "")
        digits = 1 if " ms" in name else 2 if "seconds" in name or "share" in name else 0
        table.add_row(name, *(f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))), target)
    console.print(table)


if __name__ == "__main__":
    main()
