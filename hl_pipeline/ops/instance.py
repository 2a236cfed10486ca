"""The Dagster instance of this project: storage in PostgreSQL, the queue of runs, and the launcher, which knows whether runs are
alive.

dagster.yaml names these classes, so that one file works for the embedded and any other server. Dagster creates them from that
file without arguments, so each reads the settings once, when it is created.
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
from hl_pipeline.ops.exposed_ui import warn_of_exposed_ui
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import NoDatabaseError, ensure_database, find_dagster_url
from hl_pipeline.warehouse.urls import build_url, parse_url, url_for_sqlalchemy

INSTALLATION_TAG = "hl/installation"
"""The run tag with the HL_HOME of the run's process."""
_RETRIES_OF_THE_KILLED = {MAX_RETRIES_TAG: "2", RETRY_ON_ASSET_OR_OP_FAILURE_TAG: "false"}
_DEQUEUE_SECONDS = 1
_CLOCK_SECONDS = 5.0  # maximum difference between the clocks of Dagster's events and of the kernel


class PipelineStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage with its URL from the settings.

    Raises ClickException with advice: Dagster's programs print it as one line, and other exceptions as a long traceback.
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
        # Each program of Dagster opens the storage first. `hl up` binds the webserver to loopback, but not all use `hl up`.
        warn_of_exposed_ui()
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
    """Dagster's queue, which runs at most HL_RUNS_AT_ONCE runs."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: dict[str, Any],  # noqa: ARG003
    ) -> PipelineRunQueue:
        settings = Settings()
        queue = cls
        if settings.launcher == "celery":
            from hl_pipeline.ops.celery_launcher import CeleryRunQueue

            queue = CeleryRunQueue
        # A small day takes seconds. With Dagster's default interval of five seconds, the slot would be idle half of the time.
        return queue(max_concurrent_runs=settings.runs_at_once, dequeue_interval_seconds=_DEQUEUE_SECONDS, inst_data=inst_data)


class PipelineRunLauncher(DefaultRunLauncher):
    """Dagster's launcher (a run is a process of the code server) that also knows whether a run's process is alive.

    With it, Dagster's run monitoring fails runs after a power loss or after their code server was killed. A run whose process
    died is retried twice. A run that failed is retried only if a tag requests it.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None, settings: Settings | None = None) -> None:
        super().__init__(inst_data)
        self._settings = settings or Settings()

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        cls,
        inst_data: ConfigurableClassData,
        config_value: dict[str, Any],  # noqa: ARG003
    ) -> PipelineRunLauncher:
        """Create the launcher that HL_LAUNCHER names."""
        settings = Settings()
        match settings.launcher:
            case "celery":
                from hl_pipeline.ops.celery_launcher import CeleryLauncher

                return CeleryLauncher(inst_data, settings)
            case "k8s":
                raise ClickException(
                    "HL_LAUNCHER=k8s: in a cluster, the Helm chart's own dagster.yaml launches runs, not this one "
                    "(docs/guides/many-machines.md). Elsewhere, unset HL_LAUNCHER"
                )
            case "default":
                return cls(inst_data, settings)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        tags = {INSTALLATION_TAG: identify_installation(self._settings.home)}
        self._instance.add_run_tags(run.run_id, tags | tags_for_retries(run))
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Terminate a run, including a run in the process of an `hl` command, which then ends as with Ctrl-C."""
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
        """Return FAILED only if the process is known to be gone; nothing is known about another machine's processes."""
        server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
        if "port" in server:
            return _ask_code_server(server["host"], server["port"], run.run_id)
        here = run.tags.get(INSTALLATION_TAG)
        if here is None and (self._settings.dagster_database_url or self._settings.database_url):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its machine is unknown")
        if here is not None and here != identify_installation(self._settings.home):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it is on another machine")
        process = self._find_process(run)
        if process is None or _is_alive(*process):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED,
            f"its process (pid {process[0]}) is gone without a result: it was killed, or the machine lost power. "
            "Its finished work is kept; materialize the day again",
        )

    def _is_in_command(self, run: DagsterRun) -> bool:
        """Return whether an `hl` command of this installation executes the run itself, without a code server."""
        return GRPC_INFO_TAG not in run.tags and run.tags.get(INSTALLATION_TAG) == identify_installation(self._settings.home)

    def _find_process(self, run: DagsterRun) -> tuple[int, float] | None:
        """Return the process that started the run, and when (seconds since 1970)."""
        events = self._instance.event_log_storage.get_logs_for_run(run.run_id, of_type=DagsterEventType.RUN_START, limit=1)
        pid = events[0].dagster_event.pid if events and events[0].dagster_event else None
        return None if pid is None else (pid, events[0].timestamp)


def _with_name(url: str) -> str:
    """Return the URL with an application name for pg_stat_activity: the program that Dagster runs in, unless the URL has one."""
    return build_url({"fallback_application_name": f"dagster in {Path(sys.argv[0]).name}", **parse_url(url)})


def tags_for_retries(run: DagsterRun) -> dict[str, str]:
    """Return the tags by which a run is retried if it is killed, unless its own tags say something else."""
    return {} if MAX_RETRIES_TAG in run.tags else _RETRIES_OF_THE_KILLED


def tags_of_own_run(settings: Settings) -> dict[str, str]:
    """Return the tags of a run in this process: if the process dies, the run is known to be dead and is not retried."""
    return {INSTALLATION_TAG: identify_installation(settings.home), MAX_RETRIES_TAG: "0"}


def identify_installation(home: Path) -> str:
    """Return the unique name of this HL_HOME, which is created on first use."""
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
        f"the code server at {host}:{port} was restarted and no longer has its process. "
        "Its finished work is kept; materialize the day again",
    )


def _is_alive(pid: int, since: float) -> bool:
    """Return whether the process `pid` already ran at `since` (seconds since 1970) and is not a later one with the same pid."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= since + _CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False
