"""HL_LAUNCHER=celery: runs on workers without a shared directory give the tables of one machine, and none is lost."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest

from hl_pipeline.domain.shards import shard_of
from hl_pipeline.sample.generate import Sample, write_sample
from hl_pipeline_tests.processes import PROJECT, program, run, users_environment, wait_until
from hl_pipeline_tests.services import launch_backfill
from hl_pipeline_tests.tools.compare_database import compare_databases
from hl_pipeline_tests.tools.compare_lake import compare_lakes
from hl_pipeline_tests.workers import Cluster, Worker, serve_cluster

pytestmark = [pytest.mark.slow, pytest.mark.waits]
_DAYS = [date(2025, 9, 2), date(2025, 9, 3), date(2025, 9, 4)]
# Of before the buckets: a second's work each.
_EMPTY = [date(2023, 3, 1) + timedelta(days=n) for n in range(6)]
_READY_SECONDS = 60
_TERMINATE = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
# Missing objects of the samples' later hours are not due yet.
_SETTINGS = {
    "HL_PUBLISH_LAG_HOURS": "1000000",
    "HL_TWAP_PUBLISH_LAG_HOURS": "1000000",
    "HL_INFO_WEIGHT_PER_MINUTE": "1000000",
    "HL_BACKFILL_FROM": f"{_DAYS[0]}T00:00:00Z",
    "HL_BACKFILL_TO": f"{_DAYS[-1] + timedelta(days=1)}T00:00:00Z",
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return write_sample(tmp_path_factory.mktemp("sample"), first_day=_DAYS[0], days=len(_DAYS), fills_per_hour=100)


@pytest.fixture(scope="module")
def cluster(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with serve_cluster(tmp_path_factory.mktemp("cluster"), 2, sample, 1, _SETTINGS) as cluster:
        yield cluster


def _wait_until_ready(*workers: Worker) -> None:
    wait_until(lambda: all(worker.is_ready for worker in workers), _READY_SECONDS, "the workers take runs")


def _status_of(cluster: Cluster, run_id: str) -> str:
    return next(run.status for run in cluster.runs() if run.run_id == run_id)


def _workers_of_runs(cluster: Cluster) -> dict[str, str]:
    with psycopg.connect(cluster.postgres.url("hl_dagster")) as connection:
        return dict(connection.execute("SELECT run_id, value FROM run_tags WHERE key = 'hl/worker'").fetchall())


def _work_on_one_machine(cluster: Cluster, shards: list[str], place: Path) -> tuple[str, Path]:
    """Load the same days and shards by commands of one machine, without a broker, into another database and a directory."""
    place.mkdir()
    url, lake = cluster.postgres.url("hl_one"), place / "lake"
    settings = {"HL_LAUNCHER": "default", "HL_DATABASE_URL": url, "HL_LAKE_URL": str(lake), "HL_HOME": str(place / "home")}
    environment = users_environment(**cluster.environment | settings)
    hl = program("hl")
    for command in (
        ["ingest", "--from", str(_DAYS[0]), "--to", str(_DAYS[-1])],
        ["backfill", *(word for shard in shards for word in ("--shard", shard))],
    ):
        done = run([hl, *command], environment, place, 240)
        assert done.returncode in (0, 3), done.stdout
    return url, lake


def test_days_and_shards_of_two_workers_give_the_tables_of_one_machine(cluster: Cluster, sample: Sample, tmp_path: Path) -> None:
    wallets = pl.read_parquet(sample.truth_dir / "fills.parquet")["wallet"].unique().sort()
    shards = [shard for shard, _ in Counter(map(shard_of, wallets)).most_common(2)]
    cluster.let_shards_run(2)
    with ExitStack() as stack:
        workers = [stack.enter_context(cluster.worker(machine)) for machine in cluster.machines]
        _wait_until_ready(*workers)
        launch_backfill(cluster.ui, [str(day) for day in _DAYS])
        wait_until(lambda: len(cluster.runs()) == len(_DAYS), 120, "the backfill has runs")
        cluster.wait_for([run.run_id for run in cluster.runs()], 240)
        cluster.wait_for([cluster.ui.launch("backfill_shards", shard) for shard in shards], 240)
        names = {worker.name for worker in workers}
    taken = _workers_of_runs(cluster)
    assert len(taken) == len(_DAYS) + len(shards)
    assert set(taken.values()) == names

    url, lake = _work_on_one_machine(cluster, shards, tmp_path / "one")

    compared = [*compare_databases(url, cluster.database_url, 3), *compare_lakes(lake, cluster.fetch_lake(tmp_path / "many"), 3)]
    # The reason names the shard that touched the day last, and both run at once.
    last_shard = ("hl.dirty_days", "column reason")
    assert [(one.place, d) for one in compared for d in one.differences if (one.place, d.what) != last_shard] == []
    fills = cluster.ask("SELECT count(*) FROM hl.fills")
    assert fills > [(0,)]


@contextmanager
def _held_run(cluster: Cluster, workers: list[Worker], day: date) -> Generator[tuple[str, Worker]]:
    """Launch an empty day. Its run has begun, and waits for S3 until the block ends. Yields its ID and its worker."""
    cluster.s3.answers.clear()
    try:
        run_id = cluster.ui.launch("ingest_days", str(day))
        wait_until(lambda: _status_of(cluster, run_id) == "STARTED", 60, "the run has begun")
        [(name,)] = cluster.ask("SELECT worker FROM hl.worker_runs WHERE run_id = %s", run_id)
        yield run_id, next(worker for worker in workers if worker.name == name)
    finally:
        cluster.s3.answers.set()


def test_the_run_of_a_killed_worker_is_done_again_within_90_seconds(cluster: Cluster) -> None:
    with cluster.worker(cluster.machines[0]) as one, cluster.worker(cluster.machines[1]) as another:
        _wait_until_ready(one, another)
        with _held_run(cluster, [one, another], _EMPTY[0]) as (run_id, worker):
            worker.kill()
            killed_at = time.monotonic()

        cluster.wait_for([run_id], 90)

        print(f"done again {time.monotonic() - killed_at:.0f} s after the kill")  # noqa: T201
        assert _status_of(cluster, run_id) == "FAILURE"
        assert f"no heartbeat of its worker {worker.name}" in _events_of(cluster, run_id)


def test_a_worker_that_is_told_to_end_finishes_its_run_and_takes_no_other(cluster: Cluster) -> None:
    with cluster.worker(cluster.machines[0]) as one, cluster.worker(cluster.machines[1]) as another:
        _wait_until_ready(one, another)
        with _held_run(cluster, [one, another], _EMPTY[1]) as (run_id, worker):
            worker.terminate()
            left = another if worker is one else one
            wait_until(lambda: _live_workers(cluster) == [left.name], 20, "the worker has left")
            second = cluster.ui.launch("ingest_days", str(_EMPTY[2]))
            wait_until(lambda: _status_of(cluster, second) == "STARTED", 60, "the other worker has the second run")
            assert worker.program.process.poll() is None
        assert worker.program.process.wait(60) == 0
        cluster.wait_for([run_id, second], 60)
        assert _status_of(cluster, run_id) == _status_of(cluster, second) == "SUCCESS"
        taken = _workers_of_runs(cluster)
        assert (taken[run_id], taken[second]) == (worker.name, left.name)


def test_a_terminated_run_stops_on_its_worker_and_is_not_retried(cluster: Cluster) -> None:
    with cluster.worker(cluster.machines[0]) as worker:
        _wait_until_ready(worker)
        with _held_run(cluster, [worker], _EMPTY[3]) as (run_id, _):
            cluster.ui.ask(_TERMINATE, id=run_id)
            wait_until(lambda: f"run_interrupted run_id={run_id}" in worker.program.output, 30, "the run is interrupted")
        wait_until(lambda: _status_of(cluster, run_id) == "CANCELED", 60, "the run is canceled")
        assert [run for run in cluster.runs() if run.parent == run_id] == []


def _live_workers(cluster: Cluster) -> list[str]:
    return [name for (name,) in cluster.ask("SELECT worker FROM hl.workers WHERE beat_at > now() - interval '20 s'")]


def test_a_worker_with_other_code_gets_no_run_and_refuses_one_that_reaches_it(cluster: Cluster, tmp_path: Path) -> None:
    for package in ("hl_pipeline", "api"):
        shutil.copytree(PROJECT / package, tmp_path / "old" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT / name, tmp_path / "old" / name)
    with (tmp_path / "old/hl_pipeline/partitions.py").open("a") as file:
        file.write("# Once there was another line.\n")
    with ExitStack() as stack:
        old = stack.enter_context(cluster.worker(cluster.machines[0], pythonpath=tmp_path / "old"))
        _wait_until_ready(old)
        wait_until(lambda: _live_workers(cluster) == [old.name], 60, "the workers of other tests are forgotten")
        status = run([program("hl"), "status"], users_environment(**cluster.environment), tmp_path, 60).stdout
        assert "workers   1, which take 0 runs at once" in status
        assert f"{old.name}  takes no runs: its code is" in status
        waiting = cluster.ui.launch("ingest_days", str(_EMPTY[4]))
        new = stack.enter_context(cluster.worker(cluster.machines[1]))
        _wait_until_ready(new)
        cluster.wait_for([waiting], 90)
        assert _workers_of_runs(cluster)[waiting] == new.name

        # The daemon believes that it can take a run, until its heartbeat is old.
        for process in new.program.tree():
            process.suspend()
        time.sleep(2)
        refused = cluster.ui.launch("ingest_days", str(_EMPTY[5]))
        wait_until(lambda: f"Worker {old.name} refused this run" in _events_of(cluster, refused), 60, "the run is refused")
        for process in new.program.tree():
            process.resume()
        cluster.wait_for([refused], 90)
        assert _workers_of_runs(cluster)[refused] == new.name


def _events_of(cluster: Cluster, run_id: str) -> str:
    with psycopg.connect(cluster.postgres.url("hl_dagster")) as connection:
        [(events,)] = connection.execute("SELECT string_agg(event, ' ') FROM event_logs WHERE run_id = %s", [run_id]).fetchall()
    return events or ""
