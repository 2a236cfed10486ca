"""Runs that `hl ingest` executes in its own process: the UI shows their owner and can stop them, and they may be killed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from hl_pipeline.ops.dagster_internals import CheckRunHealthResult, WorkerStatus
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.marked_secrets import SECRET
from hl_pipeline_tests.processes import Program, program, started, wait_until

_DAY = "2024-01-01"  # no source has it: nothing is to be fetched
_FETCHED_DAY = "2026-03-15"
_OF_LOCATION = {".dagster/repository": "__repository__@hl_pipeline"}
OpenInstance = Callable[[], DagsterInstance]


@pytest.fixture
def open_instance(world: World, monkeypatch: pytest.MonkeyPatch) -> OpenInstance:
    """Dagster's instance of the installation, as the webserver and the daemon open it."""
    home = Path(world.environment["HL_HOME"]) / "dagster"

    def open_it() -> DagsterInstance:
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        return DagsterInstance.get()

    return open_it


@pytest.mark.slow
def test_a_run_of_hl_ingest_is_one_of_its_job_and_code_location(
    world: World, tmp_path: Path, open_instance: OpenInstance
) -> None:
    done = run_in_process(tmp_path, world.environment, "ingest", "--from", _DAY, "--to", _DAY)
    assert done.returncode == 3, done.stdout + done.stderr

    with open_instance() as instance:
        # By these the UI finds the runs of a job, and by the code location those of the timeline.
        [run] = instance.get_runs(RunsFilter(job_name="ingest_days", tags=_OF_LOCATION))

        assert run.status == DagsterRunStatus.SUCCESS
        assert run.tags["dagster/partition"] == _DAY
        assert run.tags["hl/started_by"] == "hl ingest"
        assert run.remote_job_origin is not None
        origin = run.remote_job_origin
        assert (origin.location_name, origin.repository_origin.repository_name, origin.job_name) == (
            "hl_pipeline",
            "__repository__",
            "ingest_days",
        )


@contextmanager
def _ingest_that_waits(world: World, directory: Path) -> Generator[Program]:
    """`hl ingest` of a bucket that never answers, while its run is in work."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(90)
        s3 = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": SECRET, "HL_NODE_DATA_URL": "s3://bucket"}
        s3 |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        command = [program("hl"), "ingest", "--from", _FETCHED_DAY, "--to", _FETCHED_DAY]
        with started(command, world.environment | s3, directory, directory / "ingest.log") as ingest, silent.accept()[0]:
            yield ingest


def _only_run(instance: DagsterInstance) -> DagsterRun:
    [run] = instance.get_runs()
    return run


@pytest.mark.slow
def test_terminate_in_the_ui_ends_hl_ingest_as_ctrl_c_does(world: World, tmp_path: Path, open_instance: OpenInstance) -> None:
    with _ingest_that_waits(world, tmp_path) as ingest, open_instance() as instance:
        run = _only_run(instance)
        assert run.status == DagsterRunStatus.STARTED

        assert instance.run_coordinator.cancel_run(run.run_id)

        assert ingest.process.wait(30) == 130, ingest.output
        assert "interrupted; run the same command to continue" in ingest.output
        assert _only_run(instance).status == DagsterRunStatus.CANCELED
        # Once more has nothing to end.
        assert not instance.run_coordinator.cancel_run(run.run_id)


@pytest.mark.slow
def test_a_run_whose_hl_ingest_was_killed_is_known_to_be_dead(world: World, tmp_path: Path, open_instance: OpenInstance) -> None:
    def health(instance: DagsterInstance) -> CheckRunHealthResult:
        return instance.run_launcher.check_run_worker_health(_only_run(instance))

    with _ingest_that_waits(world, tmp_path) as ingest, open_instance() as instance:
        assert health(instance).status == WorkerStatus.RUNNING
        pid = ingest.process.pid
        ingest.process.kill()
        ingest.process.wait()

        wait_until(lambda: health(instance).status == WorkerStatus.FAILED, 10, "the run is known to be dead")

        assert f"its process (pid {pid}) is gone without a result" in str(health(instance).msg)
        # Nobody tries it again: whoever typed the command has seen it die.
        assert _only_run(instance).tags["dagster/max_retries"] == "0"
