"""Alerts: a sensor for failed runs and a sensor for late fills, which send messages to HL_ALERT_URLS.

They are plain sensors. Dagster's run_failure_sensor moves on when a message cannot be delivered, so that message would be lost.
The cursor has the state of each destination: one that is away gets its messages later, and the others get none twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DefaultSensorStatus,
    RunsFilter,
    RunStatusChangeRecordsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from hl_pipeline.automation import look_at_lag
from hl_pipeline.domain.whole_days import VERDICT_TAG
from hl_pipeline.events import emit
from hl_pipeline.ops.notify import Destination, Message, open_destinations
from hl_pipeline.ops.run_lines import explain_run
from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.settings import Settings

_log = logging.getLogger(__name__)
_SECONDS = 30
_MOST_AT_ONCE = 200
_MOST_LISTED = 10
_WILL_RETRY = "dagster/will_retry"
_RUNBOOKS = "docs/runbooks.md"
State = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A failed run in an alert. `what`: its day or shard, or the name of its job."""

    what: str
    state: str
    why: str
    started_by: str
    link: str
    next_step: str


def build_alerts(settings: Settings) -> list[SensorDefinition]:
    """Return the sensors of alerts. Without HL_ALERT_URLS there are none."""
    if settings.alert_urls is None:
        return []

    @sensor(
        name="alert_failed_runs",
        minimum_interval_seconds=_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Sends an alert for each failed run to HL_ALERT_URLS, once, after its last automatic retry.",
    )
    def alert_failed_runs(context: SensorEvaluationContext, settings: SettingsParam) -> SensorResult:
        return _send_all(context, settings, lambda to, state: tell_failures(context.instance, settings, to, state))

    @sensor(
        name="alert_late_data",
        minimum_interval_seconds=settings.sensor_seconds,
        default_status=DefaultSensorStatus.RUNNING,
        description="Sends an alert to HL_ALERT_URLS when the newest hour is older than HL_MAX_LAG_HOURS, and when that is over.",
    )
    def alert_late_data(
        context: SensorEvaluationContext, warehouse: WarehouseParam, settings: SettingsParam
    ) -> SensorResult | SkipReason:
        with warehouse.connect("hl alerts") as connection:
            lag = look_at_lag(connection, settings)
        description = str(lag.description)
        if "lag_hours" not in lag.metadata:
            # Nothing was loaded yet, or a directory is complete: nothing can be late.
            return SkipReason(description)
        return _send_all(context, settings, lambda to, state: tell_lag(to, state, description, settings, is_late=not lag.passed))

    return [alert_failed_runs, alert_late_data]


def tell_failures(instance: DagsterInstance, settings: Settings, to: Destination, state: State) -> str | None:
    """Send the failures after those of `state`, in one message, and note them there. Returns why it was not delivered."""
    if "after" not in state:
        # What failed before there were alerts is no news.
        newest = instance.fetch_run_status_changes(DagsterEventType.RUN_FAILURE, limit=1).records
        state["after"] = newest[0].storage_id if newest else 0
    news = RunStatusChangeRecordsFilter(DagsterEventType.RUN_FAILURE, after_storage_id=state["after"])
    records = instance.fetch_run_status_changes(news, limit=_MOST_AT_ONCE, ascending=True).records
    runs = [instance.get_run_by_id(record.event_log_entry.run_id) for record in records]
    failed = [describe_run(instance, run, settings) for run in runs if run is not None and _is_news(instance, run)]
    if failed and (why := to.send(describe_failures(failed, settings))):
        return why
    if records:
        state["after"] = records[-1].storage_id
    return None


def tell_lag(to: Destination, state: State, description: str, settings: Settings, *, is_late: bool) -> str | None:
    """Send a message if fills have become late, or no longer are. Returns why it was not delivered."""
    if is_late == state.get("late", False):
        return None
    title = "hl-pipeline: fills are late" if is_late else "hl-pipeline: fills are no longer late"
    next_step = f"\nUI: {settings.address_of_ui}/automation\nNext: `hl status`, then {_RUNBOOKS}#hlnewesthourlags"
    if why := to.send(Message(title, description + (next_step if is_late else ""))):
        return why
    state["late"] = is_late
    return None


def describe_run(instance: DagsterInstance, run: DagsterRun, settings: Settings) -> FailedRun:
    """Return what an alert says of a failed run."""
    partition = run.tags.get("dagster/partition")
    return FailedRun(
        what=partition or run.tags.get("dagster/asset_partition_range_start") or run.job_name,
        state=run.tags.get(VERDICT_TAG, "failed"),
        why=explain_run(instance, run.run_id) or "the run has no error; its log shows the last event",
        started_by=run.tags.get("hl/started_by", "the UI"),
        link=f"{settings.address_of_ui}/runs/{run.run_id}",
        next_step=_next_step(run, partition),
    )


def describe_failures(failed: Sequence[FailedRun], settings: Settings) -> Message:
    """Return one message for one or more failed runs."""
    first = failed[0]
    if len(failed) == 1:
        lines = [f"What: {first.what} {first.state}, started by {first.started_by}", f"Why: {first.why}", f"Run: {first.link}"]
        return Message(f"hl-pipeline: {first.what} {first.state}", "\n".join([*lines, f"Next: {first.next_step}"]))
    lines = [f"{run.what} {run.state}: {run.why}\n  {run.link}\n  Next: {run.next_step}" for run in failed[:_MOST_LISTED]]
    if len(failed) > _MOST_LISTED:
        lines.append(f"and {len(failed) - _MOST_LISTED} more: {settings.address_of_ui}/runs")
    return Message(f"hl-pipeline: {len(failed)} runs failed", "\n".join(lines))


def _next_step(run: DagsterRun, partition: str | None) -> str:
    if partition is None:
        return f"open the run; {_RUNBOOKS}#hlrunsfailing"
    if not _is_day(partition):
        return f"`hl backfill --shard {partition}` continues it; {_RUNBOOKS}#hlwalletsfailed"
    if VERDICT_TAG in run.tags:
        return f"`hl status --from {partition} --to {partition}` shows the gaps; {_RUNBOOKS}#hlholesdue"
    return f"`hl ingest --from {partition} --to {partition}` continues it; {_RUNBOOKS}#hlrunsfailing"


def _is_day(partition: str) -> bool:
    try:
        date.fromisoformat(partition)
    except ValueError:
        return False
    return True


def _is_news(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Return whether a failure is to be sent: not if Dagster retries the run, nor if the same hole was found before."""
    if run.tags.get(_WILL_RETRY) == "true":
        return False
    if VERDICT_TAG not in run.tags:
        return True
    # New objects start runs of an incomplete day all the time, and each fails for the same hole.
    same_day = {"dagster/partition": run.tags.get("dagster/partition", ""), VERDICT_TAG: run.tags[VERDICT_TAG]}
    [before] = instance.get_runs(RunsFilter(tags=same_day), cursor=run.run_id, limit=1) or [None]
    return before is None or explain_run(instance, before.run_id) != explain_run(instance, run.run_id)


def _send_all(
    context: SensorEvaluationContext, settings: Settings, tell: Callable[[Destination, State], str | None]
) -> SensorResult:
    """Call `tell` for each destination with its state, and keep the new states in the cursor."""
    states: dict[str, State] = json.loads(context.cursor or "{}")
    problems: list[str] = []
    for destination in open_destinations(settings):
        if why := tell(destination, states.setdefault(destination.name, {})):
            emit(_log, "alert_not_delivered", level=logging.WARNING, to=destination.name, why=why)
            problems.append(f"not delivered to {destination.name}, will be tried again: {why}")
    return SensorResult(cursor=json.dumps(states), skip_reason=SkipReason("; ".join(problems) or "everything is delivered"))
