"""A job of the code location run in this process, and why it failed if it did. What its assets did stands in the StageResults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, JobDefinition, JobExecutionResult
from dagster_postgres.utils import DagsterPostgresException

from hl_pipeline.definitions import build_defs
from hl_pipeline.ops.dagster_internals import DagsterExecutionInterruptedError, SerializableErrorInfo, run_job
from hl_pipeline.ops.instance import tags_of_own_run
from hl_pipeline.ops.run_lines import without_class
from hl_pipeline.resources import StageResults
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import NoDatabaseError

# As workspace.yaml has it: so the UI counts a run of ours among those of its code location.
_MODULE, _LOCATION = "hl_pipeline.definitions", "hl_pipeline"
_AWAY = "the database went away in the midst of the work; what was done is kept, so run the same again"
_OF_ABSENCE = ("OperationalError", "AdminShutdown", "CrashShutdown", "CannotConnectNow")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunInterruptedError(RuntimeError):
    """Ctrl-C, or Terminate in the UI: the partition that was in work is not done, those after it are not begun."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs partitions of a job, one after the other; `results` is what the stages of the last one returned."""

    job: JobDefinition
    instance: DagsterInstance
    settings: Settings
    command: str
    results: StageResults

    def run(self, partition: str, config: dict[str, Any] | None = None) -> JobExecutionResult:
        """Raises RunInterruptedError, and NoDatabaseError when Dagster's database is away for longer than Dagster waits; any
        other failure is in the result.
        """
        self.results.by_asset.clear()
        tags = {"hl/started_by": self.command, **tags_of_own_run(self.settings)}
        try:
            result = run_job(
                self.job, partition, self.instance, _QUIET | (config or {}), tags, module=_MODULE, location=_LOCATION
            )
        except DagsterPostgresException as error:
            cause = getattr(error.__cause__, "orig", None) or error
            raise NoDatabaseError(f"{_AWAY}, once it is back: {str(cause).strip()}") from error
        if _is_interrupted(result):
            raise RunInterruptedError
        return result


def open_runner(job: str, instance: DagsterInstance, settings: Settings, command: str) -> Runner:
    """For the job of that name; its runs are tagged with the `command` that started them. The instance comes first: Dagster asks
    the one that it met last.
    """
    results = StageResults()
    return Runner(build_defs(settings, results).resolve_job_def(job), instance, settings, command, results)


def explain_failure(result: JobExecutionResult) -> str:
    """Why a run failed, in its errors' own words."""
    causes = [error.cause or error for error in _errors(result)]
    messages = [
        f"{_AWAY}: {without_class(cause.message.strip())}"
        if cause.cls_name in _OF_ABSENCE
        else without_class(cause.message.strip())
        for cause in causes
    ]
    return "; ".join(messages) or "see the run in the Dagster UI"


def _chain(error: SerializableErrorInfo | None) -> set[str | None]:
    """The classes of an error and of all that led to it: what an interrupt has broken off may complain in its place."""
    return set() if error is None else {error.cls_name} | _chain(error.cause) | _chain(error.context)


def _is_interrupted(result: JobExecutionResult) -> bool:
    """Whether it was broken off, within a step or between two."""
    of_run = [event for event in result.all_events if event.event_type == DagsterEventType.RUN_FAILURE]
    errors = [*_errors(result), *(event.job_failure_data.error for event in of_run)]
    is_canceled = result.dagster_run.status in (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED)
    return is_canceled or any(DagsterExecutionInterruptedError.__name__ in _chain(error) for error in errors)


def _errors(result: JobExecutionResult) -> list[SerializableErrorInfo]:
    errors = [event.step_failure_data.error for event in result.get_step_failure_events()]
    return [error for error in errors if error is not None]
