"""Dagster's instance as this project has it: storage in PostgreSQL beside the data, the queue of runs, and what launches them and
knows whether they are alive. dagster.yaml names these classes, so that one file serves the embedded server and any other. Dagster
makes each from that file, without an argument of ours: so each reads the settings, once, when it is made.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from click import ClickException
from dagster import DagsterEventType, DagsterRun, DefaultRunLauncher, QueuedRunCoordinator, deserialize_value
from dagster_postgres import DagsterPostgresStorage

from hl_pipeline.ops.dagster_internals import (
    GRPC_INFO_TAG,
    MAX_RETRIES_TAG,
    RETRY_ON_ASSET_OR_OP_FAILURE_TAG,
    CheckRunHealthResult,
    ConfigurableClassData,
    DagsterUserCodeUnreachableError,
    GetCurrentRunsResult,
    LaunchRunContext,
    WorkerStatus,
    hold_connections,
)
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import NoDatabaseError, ensure_database, find_dagster_url
from hl_pipeline.warehouse.urls import build_url, parse_url, url_for_sqlalchemy

INSTALLATION_TAG = "hl/installation"
"""The tag of a run that says in which HL_HOME its process is."""
_RETRIES_OF_THE_KILLED = {MAX_RETRIES_TAG: "2", RETRY_ON_ASSET_OR_OP_FAILURE_TAG: "false"}
_DEQUEUE_SECONDS = 1
_CLOCK_SECONDS = 5.0  # by which the clocks of Dagster's events and of the kernel may differ


class PipelineStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage whose URL follows from the settings.

    Raises ClickException, which says what to do: Dagster's programs show it as one line, where others are a page of traceback.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride] - as Dagster's own storages do
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: dict[str, Any],  # noqa: ARG003
    ) -> DagsterPostgresStorage:
        try:
            url = find_dagster_url(Settings())
            ensure_database(url)
        except NoDatabaseError as error:
            raise ClickException(str(error)) from error
        # Bare postgresql:// means psycopg 3 to SQLAlchemy 2.1, with which dagster-postgres fails (its NOTIFY with parameters).
        storage = DagsterPostgresStorage(url_for_sqlalchemy(_with_name(url), "psycopg2"), inst_data=inst_data)
        hold_connections(storage)
        return storage


class PipelineRunQueue(QueuedRunCoordinator[Any]):
    """Dagster's queue, from which HL_RUNS_AT_ONCE runs at most are in work."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: dict[str, Any],  # noqa: ARG003
    ) -> PipelineRunQueue:
        # A small day takes seconds: with Dagster's usual five between two looks its place would be empty half of the time.
        return cls(max_concurrent_runs=Settings().runs_at_once, dequeue_interval_seconds=_DEQUEUE_SECONDS, inst_data=inst_data)


class PipelineRunLauncher(DefaultRunLauncher):
    """Dagster's launcher (a run is a process of the code server), which also knows whether a run's process is alive.

    With that, Dagster's run monitoring fails the runs of a machine that lost power, or whose code server was killed. A run whose
    process died is tried again twice; one that failed by itself only when whoever asked for it has said so by a tag.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None, settings: Settings | None = None) -> None:
        super().__init__(inst_data)
        self._settings = settings or Settings()

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        tags = {INSTALLATION_TAG: identify_installation(self._settings.home)}
        self._instance.add_run_tags(run.run_id, tags if MAX_RETRIES_TAG in run.tags else tags | _RETRIES_OF_THE_KILLED)
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Also of a run that a command of `hl` does in its own process here: it ends as by Ctrl-C."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or not self._is_in_command(run):
            return super().terminate(run_id)
        process = self._find_process(run)
        if process is None or not _is_alive(*process):
            return super().terminate(run_id)
        self._instance.report_run_canceling(run)
        os.kill(process[0], signal.SIGINT)
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """FAILED only when the process is known to be gone: of another machine's nothing can be known."""
        server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
        if "port" in server:
            return _ask_code_server(server["host"], server["port"], run.run_id)
        here = run.tags.get(INSTALLATION_TAG)
        if here is None and (self._settings.dagster_database_url or self._settings.database_url):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "nothing says on which machine it is")
        if here is not None and here != identify_installation(self._settings.home):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it is on another machine")
        process = self._find_process(run)
        if process is None or _is_alive(*process):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED,
            f"its process (pid {process[0]}) is gone and has not said how it ended: it was killed, or the machine lost power. "
            "What it had done is kept: materialize the day again",
        )

    def _is_in_command(self, run: DagsterRun) -> bool:
        """Whether a process of this installation does the run by itself, without a code server."""
        return GRPC_INFO_TAG not in run.tags and run.tags.get(INSTALLATION_TAG) == identify_installation(self._settings.home)

    def _find_process(self, run: DagsterRun) -> tuple[int, float] | None:
        """The process that began the run, and when (seconds since 1970)."""
        events = self._instance.event_log_storage.get_logs_for_run(run.run_id, of_type=DagsterEventType.RUN_START, limit=1)
        pid = events[0].dagster_event.pid if events and events[0].dagster_event else None
        return None if pid is None else (pid, events[0].timestamp)


def _with_name(url: str) -> str:
    """The URL of sessions that pg_stat_activity shows by the program that Dagster works in, unless the URL names them."""
    return build_url({"fallback_application_name": f"dagster in {Path(sys.argv[0]).name}", **parse_url(url)})


def tags_of_own_run(settings: Settings) -> dict[str, str]:
    """The tags of a run that is done in this process: when it dies, the run is known to be dead, and nobody tries it again."""
    return {INSTALLATION_TAG: identify_installation(settings.home), MAX_RETRIES_TAG: "0"}


def identify_installation(home: Path) -> str:
    """What tells this HL_HOME from any other, made when first asked for."""
    path = home / "installation"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        name = str(uuid.uuid4())
        made = home / f".installation.{name}"
        made.write_text(name)
        with suppress(FileExistsError):
            path.hardlink_to(made)
        made.unlink()
    return path.read_text()


def _ask_code_server(host: str, port: int, run_id: str) -> CheckRunHealthResult:
    from hl_pipeline.ops.dagster_internals import DagsterGrpcClient

    try:
        answer = DagsterGrpcClient(host=host, port=port).get_current_runs()
    except DagsterUserCodeUnreachableError as error:
        return CheckRunHealthResult(WorkerStatus.RUNNING, f"its code server does not answer: {error}", transient=True)
    if run_id in deserialize_value(answer, GetCurrentRunsResult).current_runs:
        return CheckRunHealthResult(WorkerStatus.RUNNING)
    return CheckRunHealthResult(
        WorkerStatus.FAILED,
        f"the code server at {host}:{port} was started again and no longer has its process. "
        "What it had done is kept: materialize the day again",
    )


def _is_alive(pid: int, since: float) -> bool:
    """Whether the process `pid` is the one that was there at `since` (seconds since 1970), not a later one of that number."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= since + _CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False
