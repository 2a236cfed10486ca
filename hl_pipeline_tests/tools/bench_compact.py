"""`make bench-compact`: what it costs to compact a day, and what a compacted fill takes, by the size of row groups. Not a test.

Bytes are those of generated fills. CPU time and peak memory are those of a new process that compacts a large day: the same fills,
repeated with other times and numbers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl
from rich.console import Console
from rich.table import Table

from hl_pipeline.formats.fills import NO_FILLS
from hl_pipeline.lake.compacted_fills import read_facts, write_compacted_day
from hl_pipeline.lake.fills import read_fills_hour, write_fills_of_versions
from hl_pipeline.lake.store import Lake, open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.embedded import embedded_url, hold
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.days import make_day

_DAY = date(2026, 3, 15)
_LARGE = _DAY + timedelta(days=1)
_ROW_GROUPS = (25_000, 50_000, 150_000)
_HOUR_MS = 3_600_000


class _Cost(NamedTuple):
    rows: int
    bytes: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fills-per-hour", type=int, default=10_000, help="of the generated day (default 10,000)")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the large day (default 10 million); 0: none")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hl-bench-") as name:
        lake = _generate(Path(name), given.fills_per_hour)
        table = Table("day", "rows per group", "fills", "bytes per fill", "seconds", "CPU s per million", "peak MB", box=None)
        for size in _ROW_GROUPS:
            _add(table, "generated", size, _measure(lake.root, _DAY, size))
        if given.rows:
            _repeat(lake, given.rows)
            _add(table, "large", 50_000, _measure(lake.root, _LARGE, 50_000))
        Console(width=120).print(table)


def _generate(home: Path, fills_per_hour: int) -> Lake:
    """Load a generated day by hours into a lake."""
    sample = write_sample(home / "sample", first_day=_DAY, fills_per_hour=fills_per_hour)
    with hold(home):
        url = embedded_url(home, "postgres")
        migrate(url)
        environment = {
            "HL_HOME": str(home),
            "HL_DATABASE_URL": url,
            "HL_LAKE_URL": str(home / "lake"),
            "HL_TWAP_DATA_URL": "none",
        }
        make_day({**environment, "HL_NODE_DATA_URL": str(sample.node_data_dir)}, _DAY, ["raw_fills", "fills"])
    return open_lake(str(home / "lake"))


def _repeat(lake: Lake, rows: int) -> None:
    """Write the large day: each hour has fills of all hours of the generated one."""
    whole = pl.concat(read_fills_hour(lake, _DAY, hour, NO_FILLS.columns) for hour in range(24))
    per_hour = rows // 24
    for hour in range(24):
        copies = -(-per_hour // whole.height)
        start = pl.lit(_LARGE).cast(pl.Datetime("ms", "UTC")) + pl.duration(hours=hour)
        parts = [
            whole.with_columns(
                time=start + pl.duration(milliseconds=(pl.int_range(pl.len()) * 7 + copy) % _HOUR_MS),
                tid=pl.col("tid") + copy * 24 + hour,
                sz=(pl.col("sz") + copy * 24 + hour).cast(NO_FILLS.schema["sz"]),
            )
            for copy in range(copies)
        ]
        fills = pl.concat(parts).head(per_hour).sort("time")
        write_fills_of_versions(lake, _LARGE, hour, fills.select(NO_FILLS.columns), [])


def _measure(root: str, day: date, row_group_rows: int) -> _Cost:
    """Compact in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_compact, (root, day, row_group_rows))


def _compact(root: str, day: date, row_group_rows: int) -> _Cost:
    before, started = time.process_time(), time.perf_counter()
    made = write_compacted_day(open_lake(root), day, {"day": day}, row_group_rows=row_group_rows)
    assert made.equals_hours
    assert read_facts(open_lake(root), made.path)["rows"] == made.rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return _Cost(made.rows, made.bytes, time.perf_counter() - started, time.process_time() - before, peak)


def _add(table: Table, name: str, size: int, cost: _Cost) -> None:
    table.add_row(
        name,
        f"{size:,}",
        f"{cost.rows:,}",
        f"{cost.bytes / cost.rows:.1f}",
        f"{cost.seconds:.1f}",
        f"{cost.cpu_seconds / cost.rows * 1e6:.1f}",
        f"{cost.peak_mb:,.0f}",
    )


if __name__ == "__main__":
    main()
