"""Automation: two sensors for new objects, the nightly schedule `reconcile`, and the check `fresh`."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckResult,
    AssetKey,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    asset_check,
    schedule,
    sensor,
)

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.raw_fills import raw_fills
from hl_pipeline.assets.raw_twap_statuses import raw_twap_statuses
from hl_pipeline.assets.statistics import statistics
from hl_pipeline.assets.twap_statuses import twap_statuses
from hl_pipeline.assets.twaps import twaps
from hl_pipeline.assets.verdicts import whole_days
from hl_pipeline.domain.datasets import BY_BLOCK, TWAP_STATUSES, BucketName
from hl_pipeline.domain.due_days import Due
from hl_pipeline.domain.errors import BudgetError
from hl_pipeline.domain.whole_days import VERDICT_TAG
from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.settings import Settings
from hl_pipeline.sources.bucket_settings import settings_of

if TYPE_CHECKING:
    import psycopg

    from hl_pipeline.ops.dagster_internals import UnresolvedAssetJobDefinition

_RETRIES = "2"
_FRESH = "fresh"
_FAILURES_KEPT = timedelta(days=30)
_WAITING = [DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED]
_OF_STATUSES = [asset.key for asset in (raw_twap_statuses, twap_statuses, twaps, whole_days)]
_OF_LAKE = [key for asset in (fills, statistics, twap_statuses, twaps, whole_days) for key in asset.keys]


@asset_check(asset=fills, name=_FRESH, description="The newest hour in hl.fills ended at most HL_MAX_LAG_HOURS ago.")
def fresh(warehouse: WarehouseParam, settings: SettingsParam) -> AssetCheckResult:
    """Check that the newest fills are recent."""
    with warehouse.connect("hl fresh") as connection:
        return look_at_lag(connection, settings)


def look_at_lag(connection: "psycopg.Connection", settings: Settings) -> AssetCheckResult:
    """Return the result of the check `fresh`. It passes without a verdict if no fills can be late."""
    from hl_pipeline.stages.look_for_days import expects_objects
    from hl_pipeline.warehouse.ledger import read_newest_hour

    newest = read_newest_hour(connection)
    if newest is not None and not expects_objects(connection, settings, newest.date()):
        message = (
            f"Not judged: HL_NODE_DATA_URL is a directory without new objects since it was first read ({settings.node_data_url})."
        )
        return AssetCheckResult(check_name=_FRESH, passed=True, description=message)
    return judge_lag(newest, datetime.now(UTC), settings.max_lag_hours)


def judge_lag(newest: datetime | None, now: datetime, max_lag_hours: float) -> AssetCheckResult:
    """Return the result of the check `fresh`. `newest`: the end of the newest hour in hl.fills."""
    if newest is None:
        return AssetCheckResult(check_name=_FRESH, passed=False, description="hl.fills has no hour of node_fills_by_block.")
    lag = (now - newest).total_seconds() / 3600
    message = f"The newest hour ended {newest:%Y-%m-%d %H:%M} UTC, {lag:.1f} hours ago; HL_MAX_LAG_HOURS is {max_lag_hours:g}."
    return AssetCheckResult(
        check_name=_FRESH, passed=lag <= max_lag_hours, description=message, metadata={"lag_hours": round(lag, 3)}
    )


def build_sensors(settings: Settings, job: "UnresolvedAssetJobDefinition") -> list[SensorDefinition]:
    """Return the sensors of both buckets. The one for statuses exists only if its bucket is configured."""

    @sensor(
        name="node_data_objects",
        job=job,
        minimum_interval_seconds=settings.sensor_seconds,
        default_status=_running(BY_BLOCK.bucket, settings, DefaultSensorStatus),
        description="Launches a run for each recent day with new or changed objects of fills.",
    )
    def node_data_objects(context: SensorEvaluationContext, warehouse: WarehouseParam) -> SensorResult | SkipReason:
        from hl_pipeline.stages.look_for_days import look_for_fills

        today = datetime.now(UTC).date()
        with warehouse.connect("hl sensor") as connection:
            try:
                due = look_for_fills(connection, settings, today)
            except BudgetError as error:
                return SkipReason(str(error))
            lag = look_at_lag(connection, settings)
        requests = _requests(due, context.instance, "sensor node_data_objects")
        # Every tick would be logged as an event; log only changes.
        changed = str(lag.passed) != context.cursor
        events = [_evaluation(lag)] if changed else []
        return SensorResult(requests, skip_reason=_nothing(due, requests), cursor=str(lag.passed), asset_events=events)

    @sensor(
        name="twap_data_objects",
        job=job,
        minimum_interval_seconds=settings.sensor_seconds,
        default_status=_running(TWAP_STATUSES.bucket, settings, DefaultSensorStatus),
        description="Launches a run of the TWAP assets for each recent day with new or changed objects of statuses.",
    )
    def twap_data_objects(context: SensorEvaluationContext, warehouse: WarehouseParam) -> SensorResult | SkipReason:
        from hl_pipeline.stages.look_for_days import look_for_statuses

        today = datetime.now(UTC).date()
        with warehouse.connect("hl sensor") as connection:
            try:
                due = look_for_statuses(connection, settings, today)
            except BudgetError as error:
                return SkipReason(str(error))
        requests = _requests(due, context.instance, "sensor twap_data_objects", asset_selection=_OF_STATUSES)
        return SensorResult(requests, skip_reason=_nothing(due, requests))

    return [node_data_objects, twap_data_objects] if settings_of(TWAP_STATUSES.bucket, settings).is_set else [node_data_objects]


def build_schedule(settings: Settings, job: "UnresolvedAssetJobDefinition") -> ScheduleDefinition:
    """Return the nightly schedule `reconcile`."""

    @schedule(
        name="reconcile",
        job=job,
        # By default after about 02:02, when hour 0 of the next day arrives, which has the last fills of the day.
        cron_schedule=settings.reconcile_cron,
        execution_timezone="UTC",
        default_status=_running(BY_BLOCK.bucket, settings, DefaultScheduleStatus),
        description="Lists both buckets. Launches a run for each known day with changed objects, a failed run or outdated data.",
    )
    def reconcile(context: ScheduleEvaluationContext, warehouse: WarehouseParam) -> list[RunRequest] | SkipReason:
        from hl_pipeline.stages.look_for_days import look_at_everything

        failed = find_failed_days(context.instance)
        with warehouse.connect("hl reconcile") as connection:
            try:
                days, of_statuses, of_lake = look_at_everything(connection, settings, failed)
            except BudgetError as error:
                return SkipReason(str(error))
        # A new run key each night: what failed yesterday may succeed today.
        tonight = f"{context.scheduled_execution_time:%Y-%m-%d %H:%M}"
        requests = _requests(days, context.instance, "schedule reconcile", tonight)
        requests += _requests(of_statuses, context.instance, "schedule reconcile", tonight, asset_selection=_OF_STATUSES)
        requests += _requests(of_lake, context.instance, "schedule reconcile", tonight, asset_selection=_OF_LAKE)
        return requests or SkipReason("every requested day is up to date with the buckets")

    return reconcile


def build_compact_schedule(settings: Settings, job: "UnresolvedAssetJobDefinition") -> ScheduleDefinition:
    """Return the nightly schedule `compact`. It reads no bucket, so it needs no budget."""

    @schedule(
        name="compact",
        job=job,
        cron_schedule=settings.compact_cron,
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING if settings.sensors else DefaultScheduleStatus.STOPPED,
        description="Launches a run for each day that has not changed for HL_COMPACT_AFTER_HOURS and is not compacted as it is.",
    )
    def compact(context: ScheduleEvaluationContext, warehouse: WarehouseParam) -> list[RunRequest] | SkipReason:
        from hl_pipeline.warehouse.lake_days import list_days_to_compact

        with warehouse.connect("hl compact") as connection:
            days = list_days_to_compact(connection, settings.compact_after_hours)
        due = [Due(day, "at rest, and not compacted as it is", "compact") for day in days]
        tonight = f"{context.scheduled_execution_time:%Y-%m-%d %H:%M}"
        return _requests(due, context.instance, "schedule compact", tonight) or SkipReason("every day at rest is compacted")

    return compact


def find_failed_days(instance: DagsterInstance) -> set[date]:
    """Return the days whose last run within a month failed.

    Not included: runs that a user canceled; runs that read only the lake, because their days are still listed as dirty or
    outdated; and runs that succeeded but found missing data, because new objects launch a run anyway.
    """
    since = datetime.now(UTC) - _FAILURES_KEPT
    failures = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE], created_after=since))
    days: set[date] = set()
    for partition in {run.tags.get("dagster/partition", "") for run in failures}:
        [last] = instance.get_runs(RunsFilter(tags={"dagster/partition": partition}), limit=1) or [None]
        if last is None or VERDICT_TAG in last.tags or _reads_no_bucket(last):
            continue
        if last.status == DagsterRunStatus.FAILURE and _is_day(partition):
            days.add(date.fromisoformat(partition))
    return days


def _reads_no_bucket(run: DagsterRun) -> bool:
    return bool(run.asset_selection) and not {raw_fills.key, raw_twap_statuses.key} & {*(run.asset_selection or ())}


def _requests(due: Iterable[Due], instance: DagsterInstance, started_by: str, suffix: str = "", **given: Any) -> list[RunRequest]:
    """Return a run request per day, except for days with a queued run, which will see the new data. Dagster launches a run key
    only once.
    """
    return [
        RunRequest(
            run_key=f"{day.day} {day.mark} {suffix}".rstrip(),
            partition_key=str(day.day),
            tags={"hl/started_by": started_by, "hl/why": day.why, "dagster/max_retries": _RETRIES},
            **given,
        )
        for day in due
        if not _waits(instance, day.day, started_by)
    ]


def _waits(instance: DagsterInstance, day: date, started_by: str) -> bool:
    tags = {"dagster/partition": str(day), "hl/started_by": started_by}
    return bool(instance.get_runs(RunsFilter(statuses=_WAITING, tags=tags), limit=1))


def _nothing(due: list[Due], requests: list[RunRequest]) -> SkipReason | None:
    if requests:
        return None
    return SkipReason(f"{len(due)} days have a queued run" if due else "no new objects since the last check")


def _evaluation(result: AssetCheckResult) -> AssetCheckEvaluation:
    assert result.check_name is not None
    return AssetCheckEvaluation(
        asset_key=AssetKey("fills"),
        check_name=result.check_name,
        passed=result.passed,
        metadata=result.metadata,
        description=result.description,
    )


def _is_day(partition: str) -> bool:
    try:
        date.fromisoformat(partition)
    except ValueError:
        return False
    return True


def _running(bucket: BucketName, settings: Settings, status: Any) -> Any:
    """Return the default status: running, unless HL_SENSORS is false or the bucket costs money and there is no budget."""
    would_spend = settings_of(bucket, settings).url.startswith("s3://") and settings.s3_budget_usd is None
    return status.RUNNING if settings.sensors and not would_spend else status.STOPPED
