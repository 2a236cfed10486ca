"""The clock of the whole machine jumps during an ingest: by an hour, a day or more than a year, ahead and back.

A small library (`servers/shifted_clock.c`) gives `hl ingest` and PostgreSQL the same wrong time. Monotonic clocks go on, as on a
real machine. It needs a C compiler.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from unittest import mock

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.connect import ensure_database
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.cli import run_program
from hl_pipeline_tests.processes import PROJECT, users_environment
from hl_pipeline_tests.servers.postgres import serve_postgres
from hl_pipeline_tests.tools.reliability.outcome import Installed, NewDatabase, Outcome, drop_database, find_differences, timed

DAY = date(2026, 3, 15)
_HOUR, _DAY = 3600, 86_400
JUMPS = (_HOUR, -_HOUR, _DAY, -_DAY, 400 * _DAY, -400 * _DAY)
_MOST_JUMPS = 3


def jump_clock(directory: Path, new_database: NewDatabase, cases: Iterable[int], seed: int = 1) -> Outcome:  # noqa: ARG001
    """Let the clock jump up to three times in each case, then set it right and run again: the rows of a run without jumps."""
    if (compiler := shutil.which("cc")) is None:
        return Outcome("clock jumps", measured="not run: needs a C compiler (cc)")
    directory.chmod(0o755)
    clock, library = directory / "clock", directory / "shifted_clock.so"
    clock.write_bytes(struct.pack("=q", 0))
    source = PROJECT / "hl_pipeline_tests" / "servers" / "shifted_clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", library, source, "-ldl"], check=True)
    fake = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(clock)}
    sample = write_sample(directory / "sample", first_day=DAY, days=1, fills_per_hour=30)
    rng, jumped = random.Random(seed), 0
    with timed("clock jumps") as outcome, mock.patch.dict(os.environ, fake), serve_postgres() as server:
        common = users_environment(
            HL_HOME=str(directory / "home"),
            HL_NODE_DATA_URL=str(sample.node_data_dir),
            HL_TWAP_DATA_URL=str(sample.twap_data_dir),
            HL_DAGSTER_DATABASE_URL=server.url("dagster"),
            HL_SETTINGS_RESOLVED="1",
        )

        def install(name: str) -> tuple[Installed, dict[str, str]]:
            url = server.url(name)
            ensure_database(url)
            migrate(url)
            made = Installed(url, directory / name)
            return made, common | {"HL_DATABASE_URL": url, "HL_LAKE_URL": str(made.lake)}

        first, environment = install("first")
        _ingest(directory, environment)  # it also makes Dagster's database
        never, environment = install("never")
        began = time.monotonic()
        code, output = _ingest(directory, environment)
        assert code == 0, output
        seconds = time.monotonic() - began
        for case in cases:
            outcome.cases += 1
            mine, environment = install(f"jumped{case}")
            stop = threading.Event()
            moments = sorted((rng.uniform(0.1, 1) * seconds, rng.choice(JUMPS)) for _ in range(rng.randint(1, _MOST_JUMPS)))
            jumping = threading.Thread(target=_jump, args=(clock, moments, stop))
            jumping.start()
            code, output = _ingest(directory, environment)
            stop.set()
            jumping.join()
            jumped += len(moments)
            if code not in (0, 3):
                outcome.wrong.append(f"case {case} ({moments}): ended with {code}: {output[-600:]}")
            _set(clock, 0)
            code, output = _ingest(directory, environment)
            if code != 0:
                outcome.wrong.append(f"case {case} ({moments}): the run with the right clock ended with {code}: {output[-600:]}")
            outcome.wrong += [f"case {case} ({moments}): {line}" for line in find_differences(never, mine)]
            drop_database(mine.database_url)
            shutil.rmtree(mine.lake, ignore_errors=True)
        drop_database(first.database_url)
        outcome.measured = f"{jumped} jumps by an hour, a day or 400 days, ahead or back; {seconds:.1f} s without jumps"
    return outcome


def _ingest(directory: Path, environment: dict[str, str]) -> tuple[int, str]:
    done = run_program(directory, environment, "ingest", "--from", str(DAY), "--to", str(DAY))
    return done.returncode, done.stdout + done.stderr


def _jump(clock: Path, moments: list[tuple[float, int]], stop: threading.Event) -> None:
    began = time.monotonic()
    for moment, seconds in moments:
        if stop.wait(max(moment - (time.monotonic() - began), 0)):
            return
        _set(clock, seconds)


def _set(clock: Path, seconds: int) -> None:
    """Set how far the clock is off. The file is written in place, because programs have mapped it."""
    with clock.open("r+b") as file:
        file.write(struct.pack("=q", seconds))
