"""HL_LAUNCHER=celery: dagster-celery's launcher, with heartbeats, and the queue that knows how many runs the workers can take.

Celery alone reports a run as started for ever when its worker is killed. Here a run is alive while its heartbeat in
hl.worker_runs is recent. `celery_worker` has the other side.
"""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from dagster import DagsterRun
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from hl_pipeline.ops.code_version import CODE_TAG, identify_code
from hl_pipeline.ops.dagster_internals import CheckRunHealthResult, ConfigurableClassData, LaunchRunContext, WorkerStatus
from hl_pipeline.ops.instance import PipelineRunLauncher, PipelineRunQueue, tags_for_retries
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.workers import SILENT_SECONDS, ask_to_stop, count_slots, end_run, read_run

if TYPE_CHECKING:
    from collections.abc import Generator

    from dagster import DagsterInstance

QUEUE = "dagster"
"""The queue that dagster-celery declares. Two installations need two databases of Redis."""
CELERY_SETTINGS: dict[str, Any] = {
    # A message is confirmed when its run has ended, so a worker holds none that it does not execute.
    "task_acks_late": True,
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "task_ignore_result": True,
    "broker_connection_retry_on_startup": True,
    # Forever; 100 attempts by default, after which a worker would end.
    "broker_connection_max_retries": None,
    "broker_transport_options": {"socket_timeout": 10, "socket_connect_timeout": 5, "socket_keepalive": True},
    # Nobody controls the workers through the broker: runs are stopped through PostgreSQL.
    "worker_enable_remote_control": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
}
_SUSPECT_SECONDS = 8.0
# dagster-celery registers its task again for each launch.
warnings.filterwarnings("ignore", message="Task name 'execute_job' is already registered")
# When the broker restarts, for a launch; later the run fails, and is retried.
_PATIENCE = {"max_retries": 20, "interval_start": 0.2, "interval_step": 0.4, "interval_max": 2.0}


class CeleryLauncher(PipelineRunLauncher):
    """Sends runs to the workers of `hl worker` through the broker. Runs in the process of an `hl` command are none of them."""

    def __init__(self, inst_data: ConfigurableClassData | None, settings: Settings) -> None:
        super().__init__(inst_data, settings)
        assert settings.broker_url is not None
        self._celery = CeleryRunLauncher(
            default_queue=QUEUE,
            broker=settings.broker_url.get_secret_value(),
            config_source=CELERY_SETTINGS | {"task_publish_retry_policy": _PATIENCE},
        )
        # The silent runs, and since when they are known to be.
        self._suspects: dict[str, float] = {}
        self._worker_database = find_database_url(settings)

    def register_instance(self, instance: DagsterInstance) -> None:
        super().register_instance(instance)
        self._celery.register_instance(instance)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        self._instance.add_run_tags(run.run_id, {CODE_TAG: identify_code(), **tags_for_retries(run)})
        self._celery.launch_run(context)

    @property
    def supports_resume_run(self) -> bool:
        # A killed run is done again: its finished work is kept anyway.
        return False

    def terminate(self, run_id: str) -> bool:
        """Terminate a run. One that no worker has taken yet is canceled, and workers then refuse it."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or not _is_sent(run):
            return super().terminate(run_id)
        self._instance.report_run_canceling(run)
        with self._connect() as connection:
            if not ask_to_stop(connection, run_id):
                self._instance.report_run_canceled(run, "It was canceled before a worker took it.")
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return FAILED if the run is silent, and still is some seconds later: after an outage of the database, all runs are."""
        if not _is_sent(run):
            return super().check_run_worker_health(run)
        with self._connect() as connection:
            found = read_run(connection, run.run_id)
            if found is None:
                return self._suspect(run.run_id, "no worker has it")
            worker, silent_seconds = found
            if silent_seconds <= SILENT_SECONDS:
                self._suspects.pop(run.run_id, None)
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            result = self._suspect(run.run_id, f"no heartbeat of its worker {worker} for {silent_seconds:.0f} s")
            if result.status == WorkerStatus.FAILED:
                # If it is alive after all, it finds no row, and stops.
                end_run(connection, run.run_id)
            return result

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:  # noqa: ARG002
        return None

    def _suspect(self, run_id: str, why: str) -> CheckRunHealthResult:
        since = self._suspects.setdefault(run_id, time.monotonic())
        if time.monotonic() - since < _SUSPECT_SECONDS:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"{why}; it is asked once more", transient=True)
        del self._suspects[run_id]
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"{why}: it was killed, or is cut off. Its finished work is kept, and the run is retried"
        )

    @contextmanager
    def _connect(self) -> Generator[psycopg.Connection]:
        with connect(self._worker_database, "hl launcher") as connection:
            yield connection


class CeleryRunQueue(PipelineRunQueue):
    """Dagster's queue, with as many runs in progress as the live workers with this code have slots."""

    def get_run_queue_config(self) -> Any:
        with connect(find_database_url(Settings()), "hl queue") as connection:
            slots = count_slots(connection, identify_code())
        return super().get_run_queue_config()._replace(max_concurrent_runs=slots)


def _is_sent(run: DagsterRun) -> bool:
    return DAGSTER_CELERY_TASK_ID_TAG in run.tags and CODE_TAG in run.tags
