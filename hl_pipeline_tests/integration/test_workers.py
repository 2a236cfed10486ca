"""hl.workers and hl.worker_runs: how many runs are launched, and which run is dead. And what `hl worker` refuses."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from dagster import DagsterRun, DagsterRunStatus
from pydantic import SecretStr, ValidationError

from hl_pipeline.ops.celery_launcher import CeleryLauncher
from hl_pipeline.ops.code_version import CODE_TAG, identify_code
from hl_pipeline.ops.dagster_internals import WorkerStatus
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.workers import (
    Order,
    ask_to_stop,
    beat_run,
    beat_worker,
    claim_run,
    count_slots,
    end_run,
    leave,
    read_run,
    read_workers,
)
from hl_pipeline_tests.cli import run_in_process

_SENT = {CODE_TAG: "this", "dagster-celery/task_id": "1"}


def _be_silent(connection: psycopg.Connection, table: str, seconds: int) -> None:
    connection.execute(f"UPDATE hl.{table} SET beat_at = clock_timestamp() - make_interval(secs => {seconds})".encode())


def test_as_many_runs_are_launched_as_live_workers_with_this_code_take(connection: psycopg.Connection) -> None:
    assert count_slots(connection, "this") == 0
    beat_worker(connection, "one", "this", 2)
    beat_worker(connection, "another", "this", 3)
    beat_worker(connection, "older", "that", 5)
    assert count_slots(connection, "this") == 2 + 3

    # The run of a worker that ends is in progress, and must not take the slot of another.
    assert claim_run(connection, "run", "one")
    assert count_slots(connection, "this") == 2 + 3
    leave(connection, "one")
    assert count_slots(connection, "this") == 3 + 1
    end_run(connection, "run")
    assert count_slots(connection, "this") == 3

    _be_silent(connection, "workers", 21)
    assert count_slots(connection, "this") == 0
    assert [(worker.worker, worker.is_silent) for worker in read_workers(connection)] == [("another", True), ("older", True)]


def test_a_worker_that_was_silent_for_a_day_is_forgotten(connection: psycopg.Connection) -> None:
    beat_worker(connection, "gone", "this", 1)
    _be_silent(connection, "workers", 86_401)
    beat_worker(connection, "there", "this", 1)
    assert [worker.worker for worker in read_workers(connection)] == ["there"]


def test_a_run_is_taken_once_and_learns_from_its_heartbeat_what_to_do(connection: psycopg.Connection) -> None:
    assert claim_run(connection, "run", "one")
    assert not claim_run(connection, "run", "another")
    assert beat_run(connection, "run") == Order.GO_ON
    assert ask_to_stop(connection, "run")
    assert beat_run(connection, "run") == Order.STOP
    end_run(connection, "run")
    assert beat_run(connection, "run") == Order.LOST
    assert not ask_to_stop(connection, "run")


def test_a_silent_run_is_dead_at_the_second_look_and_then_has_no_row(
    connection: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(database_url=SecretStr(database_url), broker_url=SecretStr("redis://127.0.0.1:1/0"), launcher="celery")
    launcher = CeleryLauncher(None, settings)
    run = DagsterRun("ingest_days", run_id="run", status=DagsterRunStatus.STARTED, tags=_SENT)
    claim_run(connection, "run", "one")
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING

    _be_silent(connection, "worker_runs", 21)
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    # It speaks again: it is not dead, and the next silence is a new one.
    beat_run(connection, "run")
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    _be_silent(connection, "worker_runs", 21)
    monkeypatch.setattr("hl_pipeline.ops.celery_launcher._SUSPECT_SECONDS", 0.0)
    dead = launcher.check_run_worker_health(run)

    assert dead.status == WorkerStatus.FAILED
    assert "no heartbeat of its worker one for 21 s" in str(dead.msg)
    assert read_run(connection, "run") is None


def test_celery_needs_a_broker_that_is_redis() -> None:
    with pytest.raises(ValidationError, match="celery needs HL_BROKER_URL"):
        Settings(launcher="celery")
    with pytest.raises(ValidationError, match="must begin with redis:// or rediss://"):
        Settings(broker_url=SecretStr("amqp://127.0.0.1"))


def test_celery_without_its_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hl_pipeline.settings.find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=r"pip install 'hl-pipeline\[celery\]'"):
        Settings(launcher="celery", broker_url=SecretStr("redis://127.0.0.1/0"))


def test_a_worker_without_a_broker_or_a_database_names_the_setting(tmp_path: Path) -> None:
    refused = run_in_process(tmp_path, {"HL_SETTINGS_RESOLVED": "1"}, "worker")
    assert refused.returncode == 2
    assert "set HL_LAUNCHER=celery and HL_BROKER_URL (HL_LAUNCHER is default)" in refused.stdout + refused.stderr
    given = {"HL_SETTINGS_RESOLVED": "1", "HL_LAUNCHER": "celery", "HL_BROKER_URL": "redis://127.0.0.1:1/0"}
    refused = run_in_process(tmp_path, given, "worker")
    assert refused.returncode == 2
    assert "set HL_DATABASE_URL" in refused.stdout + refused.stderr


def test_the_code_is_named_by_its_version_and_its_files() -> None:
    assert identify_code().startswith("0.2.0+")
    assert len(identify_code()) == len("0.2.0+") + 12
