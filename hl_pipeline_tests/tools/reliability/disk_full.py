"""A disk that becomes full while `hl ingest` works: that of the lake, or that of the embedded PostgreSQL.

The disk is a small tmpfs, so root is needed. The first run must end with a clear error, the second one, with more space, with the
rows of a run that always had enough.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.embedded import hold
from hl_pipeline_tests.cli import run_program
from hl_pipeline_tests.processes import users_environment
from hl_pipeline_tests.tools.reliability.outcome import Installed, NewDatabase, Outcome, drop_database, find_differences, timed

DAY = date(2026, 3, 15)
_DAY_WITHOUT_OBJECTS = date(2025, 12, 1)
_CLEAR = re.compile(
    r"No space left on device|could not extend file|could not write|needs about|became unreachable|cannot be stored|server\.log"
)
_LARGE_KB = 1 << 20


def fill_disk(directory: Path, new_database: NewDatabase, cases: Iterable[int], seed: int = 1) -> Outcome:
    """Give the lake (even cases) or the embedded PostgreSQL (odd cases) a part of the space that a day needs."""
    outcome = Outcome("disk full")
    if os.geteuid() != 0:
        outcome.measured = "not run: mounting a small file system needs root"
        return outcome
    directory.chmod(0o755)
    sample = write_sample(directory / "sample", first_day=DAY, days=1, fills_per_hour=200)
    environment = users_environment(
        HL_NODE_DATA_URL=str(sample.node_data_dir), HL_TWAP_DATA_URL="none", HL_DISK_RESERVE_GB="0", HL_SETTINGS_RESOLVED="1"
    )
    rng, said = random.Random(seed), Counter[str]()
    with timed("disk full") as outcome:
        lake = _LakeDisk(directory, environment, new_database)
        postgres = _PostgresDisk(directory, environment)
        for case in cases:
            outcome.cases += 1
            disk = (lake, postgres)[case % 2]
            name = ("lake", "PostgreSQL")[case % 2]
            with _mounted(directory / f"disk-{case}") as mount:
                share = rng.uniform(0.02, 0.95)
                found = disk.run(mount, share)
            said.update([found.pop(0)])
            outcome.wrong += [f"case {case} ({name}, {share:.0%} of the space): {line}" for line in found]
        outcome.measured = "; ".join(f"{count} {what}" for what, count in said.most_common())
    return outcome


class _LakeDisk:
    """A lake on the small disk; its database is elsewhere."""

    def __init__(self, directory: Path, environment: dict[str, str], new_database: NewDatabase) -> None:
        self._directory, self._new_database = directory, new_database
        self._environment = environment | {"HL_HOME": str(directory / "home"), "HL_DAGSTER_DATABASE_URL": new_database()}
        self._whole = self._new(directory / "whole-lake")
        _must_end_well(self._directory, self._variables(self._whole))
        self._needed_kb = _kilobytes(self._whole.lake)

    def _new(self, lake: Path) -> Installed:
        return Installed(self._new_database(), lake)

    def _variables(self, of: Installed) -> dict[str, str]:
        return self._environment | {"HL_DATABASE_URL": of.database_url, "HL_LAKE_URL": str(of.lake)}

    def run(self, mount: Path, share: float) -> list[str]:
        """Return how the first run ended, and what was wrong."""
        mine = self._new(mount / "lake")
        _resize(mount, max(int(self._needed_kb * share), 8))
        ended = _first_run(self._directory, self._variables(mine))
        _resize(mount, _LARGE_KB)
        ended += _second_run(self._directory, self._variables(mine))
        ended += find_differences(self._whole, mine)
        drop_database(mine.database_url)
        return ended


class _PostgresDisk:
    """An embedded PostgreSQL on the small disk, with both databases; the lake is elsewhere."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory, self._environment = directory, environment
        self._empty, whole = directory / "empty", directory / "whole"
        _must_end_well(directory, self._variables(self._empty, directory / "no-lake"), _DAY_WITHOUT_OBJECTS, code=3)
        _copy(self._empty, whole)
        self._lake = directory / "lake-of-whole"
        _must_end_well(directory, self._variables(whole, self._lake))
        self._whole = whole
        self._needed_kb = _kilobytes(whole) - _kilobytes(self._empty)

    def _variables(self, home: Path, lake: Path) -> dict[str, str]:
        return self._environment | {"HL_HOME": str(home), "HL_LAKE_URL": str(lake)}

    def run(self, mount: Path, share: float) -> list[str]:
        """Return how the first run ended, and what was wrong."""
        home, lake = mount / "home", self._directory / "lake-of-full"
        _resize(mount, _LARGE_KB)
        _copy(self._empty, home)
        _resize(mount, _kilobytes(home) + max(int(self._needed_kb * share), 8))
        variables = self._variables(home, lake)
        ended = _first_run(self._directory, variables)
        _resize(mount, _LARGE_KB)
        ended += _second_run(self._directory, variables)
        with hold(self._whole) as whole, hold(home) as mine:
            ended += find_differences(Installed(whole, self._lake), Installed(mine, lake))
        shutil.rmtree(lake)
        return ended


def _ingest(cwd: Path, environment: dict[str, str], day: date = DAY) -> tuple[int, str]:
    done = run_program(cwd, environment, "ingest", "--from", str(day), "--to", str(day))
    return done.returncode, done.stdout + done.stderr


def _must_end_well(cwd: Path, environment: dict[str, str], day: date = DAY, code: int = 0) -> None:
    ended, output = _ingest(cwd, environment, day)
    assert ended in (0, code), output


def _first_run(cwd: Path, environment: dict[str, str]) -> list[str]:
    """Return how it ended in a few words, and what was not clear about it."""
    code, output = _ingest(cwd, environment)
    if code == 0:
        return ["had enough space"]
    words = _CLEAR.search(output)
    wrong = [f"a traceback: {output}"] if "Traceback" in output else []
    if words is None:
        return ["ended without a clear error", f"exit code {code}: {output[-600:]}", *wrong]
    return [f"ended with {words[0]!r}", *wrong]


def _second_run(cwd: Path, environment: dict[str, str]) -> list[str]:
    code, output = _ingest(cwd, environment)
    return [] if code == 0 else [f"the second run ended with {code}: {output[-600:]}"]


@contextmanager
def _mounted(mount: Path) -> Generator[Path]:
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_LARGE_KB}k,mode=755", "none", mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)


def _resize(mount: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", mount], check=True)


def _kilobytes(directory: Path) -> int:
    return int(subprocess.run(["du", "-sk", directory], check=True, capture_output=True, text=True).stdout.split()[0])


def _copy(source: Path, target: Path) -> None:
    """Copy with owners: PostgreSQL's directory is another user's."""
    subprocess.run(["cp", "-a", source, target], check=True)
