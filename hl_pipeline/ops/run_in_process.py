"""Runs a job of the code location in this process, and explains failures. StageResults has the results of its assets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, JobDefinition, JobExecutionResult
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import DBAPIError

from hl_pipeline.definitions import build_defs
from hl_pipeline.ops.dagster_internals import DagsterExecutionInterruptedError, SerializableErrorInfo, run_job
from hl_pipeline.ops.instance import tags_of_own_run
from hl_pipeline.ops.run_lines import without_class
from hl_pipeline.resources import StageResults
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import NoDatabaseError

# The name in workspace.yaml, so that the UI shows these runs with their code location.
_MODULE, _LOCATION = "hl_pipeline.definitions", "hl_pipeline"
_AWAY = "the database became unreachable during the run; finished work is kept, so run the same command again"
_REFUSED = "Dagster's database does not store events of the run; finished work is kept: mend this, then run the command again"
_OF_ABSENCE = ("OperationalError", "AdminShutdown", "CrashShutdown", "CannotConnectNow")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunInterruptedError(RuntimeError):
    """Ctrl-C, or Terminate in the UI: the current partition is not done, and later ones were not started."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs partitions of a job, one after the other. `results`: what the stages of the last one returned."""

    job: JobDefinition
    instance: DagsterInstance
    settings: Settings
    command: str
    results: StageResults

    def run(self, partition: str, config: dict[str, Any] | None = None) -> JobExecutionResult:
        """Run a partition. Raises RunInterruptedError, and NoDatabaseError if Dagster's database refuses to store events, or is
        unreachable for longer than Dagster waits. Any other failure is in the result.
        """
        self.results.by_asset.clear()
        tags = {"hl/started_by": self.command, **tags_of_own_run(self.settings)}
        try:
            result = run_job(
                self.job, partition, self.instance, _QUIET | (config or {}), tags, module=_MODULE, location=_LOCATION
            )
        except DagsterPostgresException as error:
            cause = getattr(error.__cause__, "orig", None) or error
            raise NoDatabaseError(f"{_AWAY} when it is back: {str(cause).strip()}") from error
        except DBAPIError as error:
            raise NoDatabaseError(f"{_REFUSED}: {str(error.orig).strip()}") from error
        if _is_interrupted(result):
            raise RunInterruptedError
        return result


def open_runner(job: str, instance: DagsterInstance, settings: Settings, command: str) -> Runner:
    """Create a runner of a job. Its runs are tagged with the `command` that started them. Needs the instance first, because
    Dagster uses the most recently created one.
    """
    results = StageResults()
    return Runner(build_defs(settings, results).resolve_job_def(job), instance, settings, command, results)


def explain_failure(result: JobExecutionResult) -> str:
    """Explain why a run failed with the text of its errors."""
    causes = [error.cause or error for error in _errors(result)]
    messages = [
        f"{_AWAY}: {without_class(cause.message.strip())}"
        if cause.cls_name in _OF_ABSENCE
        else without_class(cause.message.strip())
        for cause in causes
    ]
    return "; ".join(messages) or "see the run in the Dagster UI"


def _chain(error: SerializableErrorInfo | None) -> set[str | None]:
    """Return the classes of an error and its causes: interrupted code may raise another error than the interruption."""
    return set() if error is None else {error.cls_name} | _chain(error.cause) | _chain(error.context)


def _is_interrupted(result: JobExecutionResult) -> bool:
    """Return whether the run was interrupted, within a step or between two."""
    of_run = [event for event in result.all_events if event.event_type == DagsterEventType.RUN_FAILURE]
    errors = [*_errors(result), *(event.job_failure_data.error for event in of_run)]
    is_canceled = result.dagster_run.status in (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED)
    return is_canceled or any(DagsterExecutionInterruptedError.__name__ in _chain(error) for error in errors)


def _errors(result: JobExecutionResult) -> list[SerializableErrorInfo]:
    errors = [event.step_failure_data.error for event in result.get_step_failure_events()]
    return [error for error in errors if error is not None]
