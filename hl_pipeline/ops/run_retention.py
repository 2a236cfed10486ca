"""Deletes the log lines of old runs from Dagster's database; the events that make a day green in the UI stay.

Dagster itself can only delete a run with all its events, including materializations and check results. It deletes ticks of
sensors and schedules by age (`retention` in dagster.yaml).
"""

import logging
from typing import TYPE_CHECKING

from dagster import DagsterInstance, DefaultScheduleStatus, OpExecutionContext, ScheduleDefinition, job, op

from hl_pipeline.events import emit
from hl_pipeline.resources import SettingsParam
from hl_pipeline.settings import Settings, variable

if TYPE_CHECKING:
    import psycopg

_log = logging.getLogger(__name__)
# Listed explicitly, so that new kinds of events that Dagster may need are not deleted. Errors of runs and steps are kept.
# Check results are also in asset_check_executions, where the UI reads them.
_DELETED = [
    "ASSET_CHECK_EVALUATION",
    "ASSET_CHECK_EVALUATION_PLANNED",
    "ENGINE_EVENT",
    "HANDLED_OUTPUT",
    "LOADED_INPUT",
    "LOGS_CAPTURED",
    "RESOURCE_INIT_FAILURE",
    "RESOURCE_INIT_STARTED",
    "RESOURCE_INIT_SUCCESS",
    "STEP_INPUT",
    "STEP_OUTPUT",
    "STEP_START",
    "STEP_SUCCESS",
    "STEP_WORKER_STARTED",
    "STEP_WORKER_STARTING",
]
_DELETE = """
WITH deleted AS (
    DELETE FROM event_logs e USING runs r
    WHERE r.run_id = e.run_id
        AND r.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
        AND coalesce(r.end_time, extract(epoch FROM r.update_timestamp)) < extract(epoch FROM now() - make_interval(days => %s))
        AND (
            (e.asset_key IS NULL AND (e.dagster_event_type IS NULL OR e.dagster_event_type = ANY(%s)))
            OR (e.dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_MATERIALIZATION_PLANNED') AND EXISTS (
                SELECT FROM event_logs n
                WHERE n.asset_key = e.asset_key AND n.dagster_event_type = e.dagster_event_type AND n.partition = e.partition
                    AND n.id > e.id
            ))
        )
    RETURNING e.run_id
)
SELECT run_id, count(*) FROM deleted GROUP BY 1
"""
_DELETE_CHECKS = """
DELETE FROM asset_check_executions c USING runs r
WHERE r.run_id = c.run_id
    AND coalesce(r.end_time, extract(epoch FROM r.update_timestamp)) < extract(epoch FROM now() - make_interval(days => %s))
    AND EXISTS (
        SELECT FROM asset_check_executions n
        WHERE n.asset_key = c.asset_key AND n.check_name = c.check_name AND n.id > c.id
            AND n.partition IS NOT DISTINCT FROM c.partition
            AND n.execution_status IN ('SUCCEEDED', 'FAILED')
    )
"""


def thin_runs(instance: DagsterInstance, connection: "psycopg.Connection", keep_days: int) -> dict[str, int]:
    """Delete the log lines, steps and output of runs that ended more than `keep_days` ago. Returns the number of events by run.

    The run with its start and end stays, and for each asset and day the newest materialization and check results with their
    metadata. Older ones are deleted. `connection`: to Dagster's database.
    """
    deleted = dict(connection.execute(_DELETE, [keep_days, _DELETED]).fetchall())
    connection.execute(_DELETE_CHECKS, [keep_days])
    for run_id in deleted:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    emit(_log, "runs_thinned", runs=len(deleted), events=sum(deleted.values()), keep_days=keep_days)
    return deleted


@op
def thin_old_runs(context: OpExecutionContext, settings: SettingsParam) -> None:
    """Deletes the log lines of runs that ended more than HL_RUNS_KEEP_DAYS ago."""
    if settings.runs_keep_days is None:
        context.log.info(f"{variable('runs_keep_days')} is not set: nothing is deleted")
        return
    from hl_pipeline.warehouse.connect import connect, find_dagster_url

    with connect(find_dagster_url(settings), "hl thin runs") as connection:
        thin_runs(context.instance, connection, settings.runs_keep_days)


@job(description="Deletes the log lines of runs that ended more than HL_RUNS_KEEP_DAYS ago. Materializations and checks stay.")
def thin_runs_by_age() -> None:
    """Thin old runs."""
    thin_old_runs()


def retention_schedule(settings: Settings) -> ScheduleDefinition:
    """Return the nightly schedule, which is on if HL_RUNS_KEEP_DAYS is set."""
    status = DefaultScheduleStatus.STOPPED if settings.runs_keep_days is None else DefaultScheduleStatus.RUNNING
    return ScheduleDefinition(
        name="thin_runs_nightly",
        job=thin_runs_by_age,
        cron_schedule="40 3 * * *",
        execution_timezone="UTC",
        default_status=status,
        description="Deletes the log lines of runs that ended more than HL_RUNS_KEEP_DAYS ago.",
    )
