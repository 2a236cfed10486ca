"""`python -m hl_pipeline_tests.tools.reliability [NAME …]`: runs checks with many random cases, and prints a table.

docs/reliability.md has their figures. Exit code 1: a case ended wrong, and is listed. Moments and faults follow from --seed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hl_pipeline.formats.scan_fills import compile_scanners
from hl_pipeline_tests.servers.postgres import make_database, serve_databases
from hl_pipeline_tests.tools.reliability.clock_jumps import jump_clock
from hl_pipeline_tests.tools.reliability.damage import damage_lines, damage_objects
from hl_pipeline_tests.tools.reliability.disk_full import fill_disk
from hl_pipeline_tests.tools.reliability.kills import kill_backfill, kill_compaction, kill_ingest
from hl_pipeline_tests.tools.reliability.outcome import NewDatabase, Outcome
from hl_pipeline_tests.tools.reliability.restarts import restart_under_load
from hl_pipeline_tests.tools.reliability.s3_faults import fail_s3
from hl_pipeline_tests.tools.reliability.soak import soak

_MOST_WRONG = 10
"""Lines printed for each check whose cases ended wrong."""


def main() -> int:
    """Run the checks. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="reliability", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all but soak. Of: {', '.join(_CHECKS)}")
    parser.add_argument("--cases", type=int, help="cases of each check, instead of its own number")
    parser.add_argument("--minutes", type=float, default=60, help="start no case of a check after so long (default 60)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(_CHECKS)):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(_CHECKS)}")
    _hide_settings_of_the_machine()
    # Otherwise each process that is killed would compile them.
    compile_scanners()
    for name in ("hl_pipeline", "werkzeug"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    console = Console(width=150)
    console.print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    table = Table("check", "cases", "wrong", "seconds", "measured", box=None, header_style="bold")
    wrong = 0
    for outcome in _run(given.names or [name for name in _CHECKS if name != "soak"], given.cases, given.minutes, given.seed):
        console.print(f"{outcome.what}: {outcome.cases:,} cases, {len(outcome.wrong)} wrong, {outcome.seconds:.0f} s")
        console.print(f"    {outcome.measured}", markup=False)
        for line in outcome.wrong[:_MOST_WRONG]:
            console.print(f"    {line}", markup=False)
        table.add_row(outcome.what, f"{outcome.cases:,}", str(len(outcome.wrong)), f"{outcome.seconds:.0f}", outcome.measured)
        wrong += len(outcome.wrong)
    console.print(table)
    return int(wrong > 0)


def _run(names: list[str], cases: int | None, minutes: float, seed: int) -> Iterator[Outcome]:
    with serve_databases() as home:
        for name in names:
            check, own_cases = _CHECKS[name]
            with tempfile.TemporaryDirectory(prefix="hl-rel-") as directory:
                wanted = _within(own_cases if cases is None else cases, minutes)
                yield check(Path(directory), partial(make_database, home), wanted, seed)


def _within(cases: int, minutes: float) -> Iterator[int]:
    """Count cases until there are enough, or the time is over."""
    started = time.monotonic()
    for case in range(cases):
        if time.monotonic() - started > 60 * minutes:
            return
        yield case


def _hide_settings_of_the_machine() -> None:
    for name in [*os.environ]:
        if name.startswith(("HL_", "AWS_", "DAGSTER_", "OTEL_")) and name != "AWS_CA_BUNDLE":
            del os.environ[name]
    os.environ |= {
        "HL_SETTINGS_RESOLVED": "1",
        "HL_TWAP_DATA_URL": "none",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


_Check = Callable[[Path, NewDatabase, Iterable[int], int], Outcome]

_CHECKS: dict[str, tuple[_Check, int]] = {
    "kill-ingest": (kill_ingest, 100),
    "kill-compaction": (kill_compaction, 100),
    "kill-backfill": (kill_backfill, 100),
    "s3": (fail_s3, 400),
    "lines": (damage_lines, 10_000),
    "objects": (damage_objects, 1_000),
    "disk": (fill_disk, 20),
    "restarts": (restart_under_load, 60),
    "clock": (jump_clock, 20),
    "soak": (soak, 30),
}
"""Each check by its name, with its number of cases."""


if __name__ == "__main__":
    sys.exit(main())
