"""`make bench-compact`: what it costs to compact a day, and what its fills take in each place. Not a test.

A generated day goes the whole way: fetched, loaded, its statistics and TWAPs made. Then it is compacted, proven and published.
Each of the two is a process of its own, measured with its children. PostgreSQL is another process, which is not in these figures.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow.parquet as pq
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from hl_pipeline.cli.tiers import measure_tiers
from hl_pipeline.lake.compacted_fills import write_compacted_day
from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings, as_environment
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.embedded import embedded_url, hold
from hl_pipeline.warehouse.lake_days import read_lake_days
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.days import make_day

_DAY = date(2026, 3, 15)
_LOOK_SECONDS = 0.05


class _Cost(NamedTuple):
    """What a process and its children took. `peak`: their most resident memory at once, in bytes."""

    seconds: float
    cpu_seconds: float
    peak: int


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="fills of the day, about (default 10 million)")
    parser.add_argument(
        "--row-groups", type=int, nargs="*", default=[], metavar="ROWS", help="also write the file with row groups of these sizes"
    )
    given = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="hl-bench-") as name, hold(Path(name)):
        settings = _generate(Path(name), given.rows // 24)
        before = os.getloadavg()
        costs = {"fetch, load, figures, TWAPs": _measure(_make, settings), "compaction": _measure(_compact, settings)}
        loads = ", ".join(f"{load:.1f}" for load in (before[0], os.getloadavg()[0]))
        console.print(f"{os.cpu_count()} cores; load before and after: {loads}", highlight=False)
        path, rows = _published_file(settings)
        console.print(_table_of_costs(costs, rows), _table_of_places(settings, rows), _table_of_groups([path]))
        others = [_write(settings, size) for size in given.row_groups]
        if others:
            console.print(_table_of_groups(others))


def _generate(home: Path, fills_per_hour: int) -> Settings:
    """Write the objects of a day, and prepare the database."""
    sample = write_sample(home / "sample", first_day=_DAY, fills_per_hour=fills_per_hour)
    url = embedded_url(home, "postgres")
    migrate(url)
    return Settings(
        home=home,
        database_url=SecretStr(url),
        lake_url=str(home / "lake"),
        node_data_url=str(sample.node_data_dir),
        twap_data_url=str(sample.twap_data_dir),
    )


def _measure(work: Callable[[Settings], None], settings: Settings) -> _Cost:
    """Run `work` in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pid = pool.apply(os.getpid)
        result = pool.apply_async(_timed, (work, settings))
        peak = 0
        while not result.ready():
            peak = max(peak, _resident(pid))
            result.wait(_LOOK_SECONDS)
        return _Cost(*result.get(), peak)


def _timed(work: Callable[[Settings], None], settings: Settings) -> tuple[float, float]:
    before, started = sum(os.times()[:4]), time.perf_counter()
    work(settings)
    return time.perf_counter() - started, sum(os.times()[:4]) - before


def _resident(pid: int) -> int:
    """Return the resident memory of a process and its children."""
    found = 0
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        try:
            found += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return found


def _make(settings: Settings) -> None:
    make_day(as_environment(settings), _DAY)


def _compact(settings: Settings) -> None:
    with connect(find_database_url(settings), "bench") as connection:
        assert all(check.passed for check in compact_day(_DAY, open_lake(settings.lake), connection).checks)


def _published_file(settings: Settings) -> tuple[Path, int]:
    with connect(find_database_url(settings), "bench") as connection:
        day = read_lake_days(connection, "fills")[_DAY]
    [file] = day.files
    return Path(settings.lake, file), day.rows


def _write(settings: Settings, rows: int) -> Path:
    made = write_compacted_day(open_lake(settings.lake), _DAY, {"day": _DAY}, row_group_rows=rows)
    assert made.equals_hours
    return Path(settings.lake, made.path)


def _table_of_costs(costs: dict[str, _Cost], rows: int) -> Table:
    table = Table("", "fills", "seconds", "share", "CPU s", "share", "CPU s per million", "peak MiB", box=None)
    seconds = sum(cost.seconds for cost in costs.values())
    cpu_seconds = sum(cost.cpu_seconds for cost in costs.values())
    for name, cost in costs.items():
        table.add_row(
            name,
            f"{rows:,}",
            f"{cost.seconds:.1f}",
            f"{cost.seconds / seconds:.0%}",
            f"{cost.cpu_seconds:.1f}",
            f"{cost.cpu_seconds / cpu_seconds:.0%}",
            f"{cost.cpu_seconds / rows * 1e6:.1f}",
            f"{cost.peak / 2**20:,.0f}",
        )
    return table


def _table_of_places(settings: Settings, rows: int) -> Table:
    table = Table("place", "MB", "bytes per fill", box=None)
    with connect(find_database_url(settings), "bench") as connection:
        for tier in measure_tiers(connection, settings):
            table.add_row(tier.name, f"{tier.bytes / 1e6:,.0f}", f"{tier.bytes / rows:.1f}")
    return table


def _table_of_groups(paths: list[Path]) -> Table:
    table = Table("rows per group, at most", "groups", "bytes of a group, compressed", "bytes per fill", box=None)
    for path in paths:
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        sizes = sorted(sum(group.column(i).total_compressed_size for i in range(group.num_columns)) for group in groups)
        table.add_row(
            f"{max(group.num_rows for group in groups):,}",
            f"{len(groups):,}",
            f"{sizes[0]:,} to {sizes[-1]:,}, median {sizes[len(sizes) // 2]:,}",
            f"{path.stat().st_size / metadata.num_rows:.1f}",
        )
    return table


if __name__ == "__main__":
    main()
