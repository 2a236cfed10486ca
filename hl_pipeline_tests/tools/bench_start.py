"""`make bench-start`: the cost of a command, the code location and a run of an empty day, each compared with a bare Dagster
project; and the effect of many past days on a sensor's tick and on the UI's page of an asset. Not a test.

Ours and the reference take turns, so that noise affects both. Seconds are medians of wall time and of CPU time. The CPU time of a
command is that of its process, without PostgreSQL, which both sides use equally.
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
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from hl_pipeline.warehouse.embedded import embedded_url, hold
from hl_pipeline.warehouse.urls import url_for_sqlalchemy
from hl_pipeline_tests.processes import Program, Ui, free_port, program, started, users_environment, wait_until
from hl_pipeline_tests.services import up_in
from hl_pipeline_tests.tools.bench_behind import measure_page, measure_tick, put_days_behind

Cost = tuple[float, float]  # seconds of wall time, seconds of CPU time

_FIRST = date(2023, 3, 1)
_BEHIND = (30, 365, 1_300)
_TRIVIAL = """
from dagster import DailyPartitionsDefinition, Definitions, asset, define_asset_job, in_process_executor

@asset(partitions_def=DailyPartitionsDefinition("2023-02-26"))
def trivial() -> None: ...

defs = Definitions([trivial], jobs=[define_asset_job("ingest_days", [trivial])], executor=in_process_executor)
"""
_MATERIALIZE = """
import sys
from dagster import DagsterInstance, materialize
from trivial import trivial

with DagsterInstance.get() as instance:
    assert materialize([trivial], partition_key=sys.argv[1], instance=instance).success
"""
# The queue is checked as often as ours. The location has the name of ours, since `Ui` queries it by name.
_INSTANCE = """
storage: {{postgres: {{postgres_url: "{url}"}}}}
run_coordinator:
  module: dagster._core.run_coordinator
  class: QueuedRunCoordinator
  config: {{dequeue_interval_seconds: 1}}
telemetry: {{enabled: false}}
nux: {{enabled: false}}
"""
_WORKSPACE = "load_from: [{python_module: {module_name: trivial, location_name: hl_pipeline}}]"
_STATUS = "SELECT status FROM runs WHERE run_id = %s"


def main() -> None:
    """Run the measurements and print the medians."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--only", choices=["start", "run", "launched", "behind"], nargs="+")
    options.add_argument("--tick", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.tick:
        print(json.dumps(measure_tick()))  # noqa: T201
        return
    parts = chosen.only or ["start", "run", "launched", "behind"]
    console = Console(width=140)
    with tempfile.TemporaryDirectory(prefix="hl-bench-") as directory:
        place = Path(directory)
        for name in ("nodes", "twaps"):
            (place / name).mkdir()
        with hold(place / "home"):
            trivial = _make_trivial(place)
            ours = _environment(
                HL_HOME=str(place / "home"), HL_NODE_DATA_URL=str(place / "nodes"), HL_TWAP_DATA_URL=str(place / "twaps")
            )
            console.print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
            table = Table("", "ours", "CPU", "reference", "CPU", "ratio", "of CPU", "goal", box=None, header_style="bold")
            if "start" in parts:
                _measure_starts(table, chosen.runs, ours)
            if "run" in parts:
                _measure_runs(table, chosen.runs, ours, trivial)
            if "launched" in parts or "behind" in parts:
                behind = _measure_launched(
                    table, chosen.runs, place, trivial, launched="launched" in parts, behind="behind" in parts
                )
                if behind.row_count:
                    console.print(behind)
            console.print(table)
            console.print(f"load {os.getloadavg()[0]:.1f} after")


def _measure_starts(table: Table, runs: int, environment: dict[str, str]) -> None:
    hl = program("hl")
    _cost([hl, "ingest", "--from", str(_FIRST), "--to", str(_FIRST + timedelta(days=2))], environment)
    for name, command, imported, goal in (
        ("hl --help", [hl, "--help"], "click", 6.0),
        ("hl status", [hl, "status"], "psycopg", 3.0),
        ("import of the code location", [sys.executable, "-c", "import hl_pipeline.definitions"], "dagster", 1.3),
    ):
        reference = [sys.executable, "-c", f"import {imported}"]
        costs = _take_turns(runs, lambda _, c=command: _cost(c, environment), lambda _, c=reference: _cost(c, environment))
        _add(table, f"{name} : import {imported}", *costs, goal)


def _measure_runs(table: Table, runs: int, ours: dict[str, str], trivial: dict[str, str]) -> None:
    def ingest(day: date) -> Cost:
        return _cost([program("hl"), "ingest", "--from", str(day), "--to", str(day)], ours)

    def materialize(day: date) -> Cost:
        return _cost([sys.executable, "-c", _MATERIALIZE, str(day)], trivial)

    _add(table, "a run in process: hl ingest of an empty day", *_take_turns(runs, ingest, materialize), 1.25)


def _measure_launched(table: Table, runs: int, place: Path, trivial: dict[str, str], *, launched: bool, behind: bool) -> Table:
    """Run one service after the other, since both at once would disturb each other."""
    home = place / "home"
    settings = {"HL_NODE_DATA_URL": str(place / "nodes"), "HL_TWAP_DATA_URL": str(place / "twaps"), "HL_SENSORS": "false"}
    shown = Table("days behind it", "a sensor's tick", "the asset's page, first", "again", box=None, header_style="bold")
    with up_in(place, None, (), None, **settings) as up:
        url = embedded_url(home, "hl_dagster")
        ours = _launch_all(runs if launched else 0, up.ui, up.program, url)
        for days in _BEHIND if behind else ():
            put_days_behind(embedded_url(home), url, days)
            first, again = measure_page(up.ui, runs)
            environment = _environment(HL_HOME=str(home), DAGSTER_HOME=str(home / "dagster"), **settings)
            command = [sys.executable, "-m", "hl_pipeline_tests.tools.bench_start", "--tick"]
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True
            )
            tick = json.loads(done.stdout.splitlines()[-1])
            shown.add_row(f"{days:,}", *(f"{1000 * seconds:,.0f} ms" for seconds in (tick, first, again)))
    if launched:
        with _serving_trivial(trivial) as (service, ui):
            reference = _launch_all(runs, ui, service, embedded_url(home, "trivial"))
        _add(table, "a launched run: an empty day", ours, reference, 1.25)
    return shown


def _launch_all(runs: int, ui: Ui, service: Program, url: str) -> list[Cost]:
    """Measure from requesting a run to its end, with the CPU of every process that `service` started, including the run's."""
    costs: list[Cost] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for n in range(runs + 1):
            began, before = time.perf_counter(), _cpu(service)
            run = ui.launch("ingest_days", str(_FIRST + timedelta(days=400 + n)))
            while (status := connection.execute(_STATUS, [run]).fetchall()) not in ([("SUCCESS",)], [("FAILURE",)]):
                time.sleep(0.02)
            took = time.perf_counter() - began
            assert status == [("SUCCESS",)], run
            # The run's process ends after its last event.
            time.sleep(1.5)
            costs.append((took, _cpu(service) - before))
    return costs[1:]


def _cpu(service: Program) -> float:
    """Return the CPU seconds of a program and of all processes that it started, including ended ones."""
    return sum(sum(process.cpu_times()[:4]) for process in service.tree())


def _make_trivial(place: Path) -> dict[str, str]:
    """Make a project with one empty asset in a separate directory. Returns the environment of its commands."""
    home = place / "trivial"
    home.mkdir()
    with psycopg.connect(embedded_url(place / "home", "postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE trivial")
    url = url_for_sqlalchemy(embedded_url(place / "home", "trivial"), "psycopg2")
    (home / "trivial.py").write_text(_TRIVIAL)
    (home / "dagster.yaml").write_text(_INSTANCE.format(url=url if isinstance(url, str) else url.render_as_string(False)))
    (home / "workspace.yaml").write_text(_WORKSPACE)
    return _environment(DAGSTER_HOME=str(home), PYTHONPATH=f"{home}:{os.environ.get('PYTHONPATH', '')}")


@contextmanager
def _serving_trivial(environment: dict[str, str]) -> Generator[tuple[Program, Ui]]:
    home = Path(environment["DAGSTER_HOME"])
    ui = Ui(free_port())
    command = [program("dagster"), "dev", "-w", "workspace.yaml", "-p", str(ui.port)]
    with started(command, environment, home, home / "log") as service:
        wait_until(lambda: service.answers(ui.health), 120, "the UI is there")
        yield service, ui


def _environment(**variables: str) -> dict[str, str]:
    """Return a user's environment, in which imported modules are compiled once."""
    return {name: value for name, value in users_environment(**variables).items() if name != "PYTHONDONTWRITEBYTECODE"}


def _take_turns(runs: int, ours: Callable[[date], Cost], reference: Callable[[date], Cost]) -> tuple[list[Cost], list[Cost]]:
    """Measure the costs of both. The first turn, which compiles the imported modules, does not count."""
    turns = [(ours(day), reference(day)) for day in (_FIRST + timedelta(days=10 + n) for n in range(runs + 1))][1:]
    return [one for one, _ in turns], [other for _, other in turns]


def _cost(command: list[str], environment: dict[str, str]) -> Cost:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=tempfile.gettempdir(), capture_output=True, check=False)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in (0, 3), done.stderr.decode()
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _add(table: Table, name: str, ours: list[Cost], reference: list[Cost], goal: float) -> None:
    mine, theirs = ([statistics.median(one[n] for one in costs) for n in (0, 1)] for costs in (ours, reference))
    figures = (f"{mine[0]:.2f} s", f"{mine[1]:.2f}", f"{theirs[0]:.2f} s", f"{theirs[1]:.2f}")
    table.add_row(name, *figures, f"{mine[0] / theirs[0]:.2f}", f"{mine[1] / theirs[1]:.2f}", f"{goal:g}")


if __name__ == "__main__":
    main()
