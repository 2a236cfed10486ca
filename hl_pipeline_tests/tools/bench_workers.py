"""`make bench-workers`: how workers (`hl worker`) share runs, and what happens when they die or are cut off. Not a test.

Each part has services, `hl up` and workers of its own; workers are in network namespaces, if this is root. `empty`: throughput of
days without objects, with 1, 2 and 4 workers. `many`: 1,300 such days. `kills`: workers killed by SIGKILL during days with data.
`cut`: a worker cut off the network for a minute. The last two compare the tables with those of one machine.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import psutil
import psycopg

from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.processes import program, run, users_environment, wait_until
from hl_pipeline_tests.services import launch_backfill
from hl_pipeline_tests.tools.compare_database import compare_databases
from hl_pipeline_tests.tools.compare_lake import compare_lakes
from hl_pipeline_tests.workers import Cluster, Worker, serve_cluster

_FIRST_EMPTY = date(2023, 3, 1)
_DAYS = [date(2025, 9, 2) + timedelta(days=n) for n in range(3)]
_PARTS = ("empty", "many", "kills", "cut")
_NOT_DUE = {"HL_PUBLISH_LAG_HOURS": "1000000", "HL_TWAP_PUBLISH_LAG_HOURS": "1000000"}


def main() -> None:
    """Run the chosen parts, and print a line for each figure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=_PARTS, nargs="+", default=_PARTS)
    options.add_argument("--days", type=int, default=60, help="empty days for each number of workers")
    options.add_argument("--many", type=int, default=1_300, help="empty days of `many`")
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--slots", type=int, default=2, help="runs at once of each worker of `many`")
    chosen = options.parse_args()
    parts: dict[str, Callable[[Path], None]] = {
        "empty": lambda place: _measure_empty(place, [1, 2, 4], chosen.days, 1),
        "many": lambda place: _measure_empty(place, [2], chosen.many, chosen.slots),
        "kills": lambda place: _kill(place, chosen.kills),
        "cut": _cut,
    }
    for part in chosen.only:
        with tempfile.TemporaryDirectory(prefix="hl-workers-") as directory:
            _say(f"{part}: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
            parts[part](Path(directory))


def _measure_empty(place: Path, counts: list[int], days: int, slots: int) -> None:
    """Print how many empty days a minute some workers do."""
    with serve_cluster(place, max(counts), settings=_NOT_DUE) as cluster:
        first = _FIRST_EMPTY
        for count in counts:
            with ExitStack() as stack:
                _start(cluster, stack, count, slots)
                before = len(cluster.runs())
                partitions = [str(first + timedelta(days=n)) for n in range(days)]
                first += timedelta(days=days)
                started, busy = time.monotonic(), psutil.cpu_times()
                launch_backfill(cluster.ui, partitions)
                wait_until(lambda of=before: _ended(cluster, of, days), 3_600, "the days are done")
                seconds = time.monotonic() - started
                states = {state: n for state, n in _states(cluster, before).items() if n}
                cpu = sum(getattr(psutil.cpu_times(), name) - getattr(busy, name) for name in ("user", "system"))
                _say(
                    f"  {count} workers of {slots}: {days} empty days in {seconds:.0f} s, {days / seconds * 60:.0f} a minute, "
                    f"{cpu / seconds:.1f} cores busy, {states}"
                )


def _kill(place: Path, kills: int) -> None:
    """Kill workers at random moments of days with data until `kills` were killed; then compare with one machine."""
    rng = random.Random(1)
    with _with_data(place, 2) as (stack, cluster):
        workers = _start(cluster, stack, 2, 1)
        _work(cluster, 240)
        waited: list[float] = []
        for _ in range(kills):
            run_id = cluster.ui.launch("ingest_days", str(rng.choice(_DAYS)))
            wait_until(lambda of=run_id: _worker_of(cluster, of) is not None, 120, "a worker has the run")
            time.sleep(rng.uniform(0, 6))
            name = _worker_of(cluster, run_id)
            victim = next((worker for worker in workers if worker.name == name), None)
            if victim is None:
                continue
            victim.kill()
            at = time.monotonic()
            workers[workers.index(victim)] = stack.enter_context(cluster.worker(cluster.machines[0]))
            cluster.wait_for([run_id], 300)
            waited.append(time.monotonic() - at)
            wait_until(lambda: all(worker.is_ready for worker in workers), 120, "the workers take runs")
        waited.sort()
        _say(
            f"  {len(waited)} kills: done again after {waited[len(waited) // 2]:.0f} s in the middle, {waited[-1]:.0f} s at most"
        )
        _compare(cluster, place)


def _cut(place: Path) -> None:
    """Cut off the worker of a run for a minute; another does the run again, and the first stops it when it is back."""
    with _with_data(place, 2) as (stack, cluster):
        workers = _start(cluster, stack, 2, 1)
        _work(cluster, 240)
        run_id = cluster.ui.launch("ingest_days", str(_DAYS[0]))
        wait_until(lambda: _worker_of(cluster, run_id) is not None, 120, "a worker has the run")
        name = _worker_of(cluster, run_id)
        victim = next(worker for worker in workers if worker.name == name)
        machine = cluster.machines[workers.index(victim)]
        machine.cut()
        at = time.monotonic()
        try:
            cluster.wait_for([run_id], 300)
            _say(f"  done again {time.monotonic() - at:.0f} s after the cut")
            time.sleep(max(0.0, at + 60 - time.monotonic()))
        finally:
            machine.mend()
        wait_until(
            lambda: cluster.ask("SELECT count(*) FROM hl.workers WHERE beat_at > now() - interval '10 s'") == [(2,)],
            120,
            "the worker is back",
        )
        _say(f"  the worker was back {time.monotonic() - at - 60:.0f} s after the minute")
        wait_until(lambda: cluster.ask("SELECT count(*) FROM hl.worker_runs") == [(0,)], 120, "no run is left")
        _say(f"  the cut worker stopped its run: {'run_interrupted' in victim.program.output}")
        _work(cluster, 240)
        _compare(cluster, place)


class _with_data:  # noqa: N801
    """A cluster whose buckets have an hour of each day, and a stack for its workers."""

    def __init__(self, place: Path, machines: int) -> None:
        self._stack = ExitStack()
        self._place, self._machines = place, machines

    def __enter__(self) -> tuple[ExitStack, Cluster]:
        sample = write_sample(self._place / "sample", first_day=_DAYS[0], days=len(_DAYS), fills_per_hour=100)
        cluster = self._stack.enter_context(serve_cluster(self._place, self._machines, sample, 1, _NOT_DUE))
        return self._stack, cluster

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def _start(cluster: Cluster, stack: ExitStack, count: int, slots: int) -> list[Worker]:
    workers = [stack.enter_context(cluster.worker(machine, slots=slots)) for machine in cluster.machines[:count]]
    wait_until(lambda: all(worker.is_ready for worker in workers), 180, "the workers take runs")
    return workers


def _work(cluster: Cluster, seconds: float) -> None:
    """Load all days once."""
    cluster.wait_for([cluster.ui.launch("ingest_days", str(day)) for day in _DAYS], seconds)


def _worker_of(cluster: Cluster, run_id: str) -> str | None:
    """Return the worker that has the run, or had it if it is done."""
    with psycopg.connect(cluster.postgres.url("hl_dagster")) as connection:
        row = connection.execute("SELECT value FROM run_tags WHERE key = 'hl/worker' AND run_id = %s", [run_id]).fetchone()
    return None if row is None else str(row[0])


def _states(cluster: Cluster, before: int) -> dict[str, int]:
    runs = cluster.runs()[before:]
    return {state: sum(run.status == state for run in runs) for state in {run.status for run in runs}}


def _ended(cluster: Cluster, before: int, days: int) -> bool:
    time.sleep(1)
    states = _states(cluster, before)
    return states.get("SUCCESS", 0) + states.get("FAILURE", 0) >= days


def _compare(cluster: Cluster, place: Path) -> None:
    """Print the differences from the tables and the lake of one machine without a broker."""
    alone = place / "alone"
    alone.mkdir()
    url, lake = cluster.postgres.url("hl_one"), alone / "lake"
    settings = {"HL_LAUNCHER": "default", "HL_DATABASE_URL": url, "HL_LAKE_URL": str(lake), "HL_HOME": str(alone / "home")}
    ingest = [program("hl"), "ingest", "--from", str(_DAYS[0]), "--to", str(_DAYS[-1])]
    done = run(ingest, users_environment(**cluster.environment | settings), alone, 600)
    assert done.returncode in (0, 3), done.stdout
    compared = [*compare_databases(url, cluster.database_url, 3), *compare_lakes(lake, cluster.fetch_lake(place / "many"), 3)]
    # Requests are counted as often as they were made.
    different = [one for one in compared if one.differences and one.place != "hl.s3_requests"]
    _say(f"  {len(compared)} tables and files compared with one machine, {len(different)} differ {different or ''}")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
