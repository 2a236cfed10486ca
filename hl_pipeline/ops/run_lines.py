"""Prints a line for each finished run in the terminal of `hl up`. The UI and the log have the details."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

from hl_pipeline.domain.whole_days import VERDICT_TAG

_POLL_SECONDS = 2.0
_AT_ONCE = 200
_ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
_LONGEST_REASON = 300
_CLASS = re.compile(r"^(?:[\w.]+(?:Error|Exception|Failure)|psycopg\.errors\.\w+): ")


@dataclass(slots=True)
class RunLines:
    """Describes each finished run once, and each reason for a failing day once."""

    reported: set[str] = field(default_factory=set[str])
    reasons: dict[str, str] = field(default_factory=dict[str, str])

    def read(self, instance: DagsterInstance, since: datetime) -> list[str]:
        """Return a line for each new run that ended after `since`, oldest first."""
        ended = RunsFilter(statuses=_ENDED, updated_after=since)
        records = instance.get_run_records(ended, limit=_AT_ONCE, order_by="update_timestamp", ascending=False)
        new = [record for record in reversed(records) if record.dagster_run.run_id not in self.reported]
        self.reported.update(record.dagster_run.run_id for record in new)
        return [self._describe(instance, record) for record in new]

    def _describe(self, instance: DagsterInstance, record: RunRecord) -> str:
        run = record.dagster_run
        what = run.tags.get("dagster/partition", run.job_name)
        seconds = (record.end_time or 0) - (record.start_time or record.end_time or 0)
        figures: dict[str, str | int] = {}
        for event in _events(instance, run.run_id, DagsterEventType.ASSET_MATERIALIZATION):
            metadata = event.step_materialization_data.materialization.metadata
            if event.step_key == "fills":
                figures["rows"] = int(str(metadata["dagster/partition_row_count"].value))
            elif event.step_key in ("whole_days", "whole_shards"):
                figures["state"] = str(metadata["state"].value)
        if run.status == DagsterRunStatus.SUCCESS:
            state, reason = str(figures.get("state", "done")), ""
            self.reasons.pop(what, None)
        elif run.status == DagsterRunStatus.CANCELED:
            state, reason = "canceled", ""
        else:
            state = run.tags.get(VERDICT_TAG, "failed")
            reason = self._once(what, explain_run(instance, run.run_id))
        rows = f"{figures['rows']:>12,} fills" if "rows" in figures else " " * 18
        started_by = run.tags.get("hl/started_by", "the UI")
        return f"{what:<10}  {state:<11}  {rows}  {seconds:>7.1f} s  {started_by}{reason and ': '}{reason}"

    def _once(self, what: str, reason: str) -> str:
        is_known = self.reasons.get(what) == reason
        self.reasons[what] = reason
        return "as before" if is_known else reason


def follow_runs(since: datetime, stop: threading.Event, say: Callable[[str], None], note: Callable[[str], None]) -> None:
    """Report each run that ends after `since` to `say`, until `stop`. Errors while reading runs go to `note`."""
    lines = RunLines()
    if stop.is_set():
        return
    with DagsterInstance.get() as instance:
        noted = ""
        while not stop.wait(_POLL_SECONDS):
            try:
                for line in lines.read(instance, since):
                    say(line)
                noted = ""
            except Exception as error:  # noqa: BLE001 - services continue, and so does this when the database answers
                if str(error) != noted:
                    noted = str(error)
                    note(f"the runs could not be read: {noted}")


def without_class(message: str) -> str:
    """Return the text of an error without the path of its class."""
    return _CLASS.sub("", message)


def explain_run(instance: DagsterInstance, run_id: str) -> str:
    """Explain why a run failed in one line."""
    failures = _events(instance, run_id, DagsterEventType.STEP_FAILURE)
    errors = [event.step_failure_data.error for event in failures]
    causes = [(error.cause or error).message for error in errors if error is not None]
    causes = causes or [event.message or "" for event in _events(instance, run_id, DagsterEventType.RUN_FAILURE)]
    text = " ".join("; ".join(map(without_class, causes)).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."


def _events(instance: DagsterInstance, run_id: str, kind: DagsterEventType) -> list[DagsterEvent]:
    entries = instance.all_logs(run_id, of_type=kind)
    return [entry.dagster_event for entry in entries if entry.dagster_event is not None]
