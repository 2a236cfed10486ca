"""`hl ingest` and `hl rebuild`: days materialized in this process, with a progress bar; a line for each day when it is done."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from typing import Any

from dagster import AssetCheckEvaluation, AssetCheckSeverity, DagsterInstance, ExecuteInProcessResult
from dagster_shared.error import SerializableErrorInfo
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from hl_pipeline.definitions import ASSETS, build_defs
from hl_pipeline.events import is_event
from hl_pipeline.ops.instance import tags_of_own_run
from hl_pipeline.settings import Settings

_SHARE_OF_RAW, _SHARE_OF_LOAD, _SHARE_OF_TABLE = 0.42, 0.33, 0.05  # of a day's time: decoding, loading, each derived table
_INTERRUPTED = "DagsterExecutionInterruptedError"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class InterruptedIngestError(RuntimeError):
    """Ctrl-C: the day that was in work is not done, those after it are not begun."""


class Outcome(IntEnum):
    """The exit code of `hl ingest`."""

    WHOLE = 0
    FAILED = 1
    INCOMPLETE = 3


@dataclass(frozen=True, slots=True)
class Day:
    """What came of a day."""

    day: date
    outcome: Outcome
    judged: str
    state: str
    rows: int
    bytes_fetched: int
    seconds: float
    bad_lines: int
    missing_blocks: int
    duplicates: int


def ingest_days(
    days: list[date], settings: Settings, console: Console, *, from_lake: bool = False, command: str = "hl ingest"
) -> list[Day]:
    """Materialize all assets of each day, in order (`from_lake`: those that need no bucket); a day that fails stops no other.
    Runs are tagged with the `command` that started them.

    Raises InterruptedIngestError.
    """
    done: list[Day] = []
    with DagsterInstance.get() as instance, _progress(console, days) as progress:
        # Here, since Dagster asks the instance that it met last.
        job = build_defs(settings).resolve_job_def("rebuild_days" if from_lake else "ingest_days")
        for day in days:
            progress.begin(day)
            result = job.execute_in_process(
                partition_key=str(day),
                instance=instance,
                run_config=QUIET,
                raise_on_error=False,
                tags={"hl/started_by": command, **tags_of_own_run(settings)},
            )
            raise_if_interrupted(result)
            done.append(_describe(day, result))
            progress.finish()
            console.print(_line(done[-1]), highlight=False)
    return done


def worst(days: list[Day]) -> Outcome:
    """The outcome of all: failed before incomplete before whole."""
    outcomes = {day.outcome for day in days}
    return next((o for o in (Outcome.FAILED, Outcome.INCOMPLETE) if o in outcomes), Outcome.WHOLE)


def _describe(day: date, result: ExecuteInProcessResult) -> Day:
    raw, fills = metadata_of(result, "raw_fills"), metadata_of(result, "fills")
    fetched = sum(int(metadata_of(result, name).get("bytes_fetched", 0)) for name in ("raw_fills", "raw_twap_statuses"))
    seconds = sum(float(metadata_of(result, asset.key.to_user_string()).get("seconds", 0)) for asset in ASSETS)
    if not result.success:
        return Day(day, Outcome.FAILED, "failed", explain_failure(result), 0, fetched, seconds, 0, 0, 0)
    failing = [check for check in result.get_asset_check_evaluations() if not check.passed and not _is_told_by_twaps(check)]
    of_fills = [check for check in failing if not _is_of_twaps(check)]
    if any(check.check_name == "day_is_whole" for check in of_fills) or not of_fills:
        said = str(fills["explanation"])
    else:
        said = "; ".join(f"{check.check_name}: {check.description}" for check in of_fills)
    if not fills["in_postgres"]:
        said += " In the lake alone (HL_FILLS_KEEP_DAYS)."
    for text in dict.fromkeys(str(check.description) for check in failing if check not in of_fills):
        said += f" TWAP statuses: {text}"
    whole = str(fills["state"]) == "whole"
    return Day(
        day,
        Outcome.INCOMPLETE if failing else Outcome.WHOLE,
        "doubtful" if of_fills and whole else "incomplete" if failing and whole else str(fills["state"]),
        said,
        int(fills["dagster/partition_row_count"]),
        fetched,
        seconds,
        int(raw.get("bad_lines", 0)),
        int(fills["missing_blocks"]),
        int(fills["duplicates_dropped"]),
    )


def raise_if_interrupted(result: ExecuteInProcessResult) -> None:
    """Raises InterruptedIngestError when a run ended by Ctrl-C."""
    if any(_INTERRUPTED in _chain(error) for error in _errors(result)):
        raise InterruptedIngestError


def explain_failure(result: ExecuteInProcessResult) -> str:
    """Why a run failed, in its errors' own words."""
    causes = [error.cause or error for error in _errors(result)]
    # Without the path of the error's class.
    said = [re.sub(r"^[\w.]+(?:Error|Exception): ", "", cause.message.strip()) for cause in causes]
    return "; ".join(said) or "see the run in the Dagster UI"


def _is_told_by_twaps(check: AssetCheckEvaluation) -> bool:
    """Whether a check warns of something that makes no day incomplete: statuses that no source has, TWAPs unlike their slices."""
    return _is_of_twaps(check) and check.severity == AssetCheckSeverity.WARN


def _is_of_twaps(check: AssetCheckEvaluation) -> bool:
    return "twap" in check.asset_key.to_user_string()


def _chain(error: SerializableErrorInfo | None) -> set[str | None]:
    """The classes of an error and of all that led to it: what an interrupt has broken off may complain in its place."""
    return set() if error is None else {error.cls_name} | _chain(error.cause) | _chain(error.context)


def _errors(result: ExecuteInProcessResult) -> list[SerializableErrorInfo]:
    errors = [event.step_failure_data.error for event in result.get_step_failure_events()]
    return [error for error in errors if error is not None]


def metadata_of(result: ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """The metadata of an asset's materialization in a run; empty, when there was none."""
    for event in result.asset_materializations_for_node(asset):
        return {name: value.value for name, value in event.metadata.items()}
    return {}


def _line(day: Day) -> str:
    colour = {Outcome.WHOLE: "green", Outcome.INCOMPLETE: "yellow", Outcome.FAILED: "red"}[day.outcome]
    figures = f"{day.rows:>12,} fills  {day.bytes_fetched / 1e6:>8,.1f} MB fetched  {day.seconds:>6.1f} s"
    bad = f"  {day.bad_lines} bad lines" if day.bad_lines else ""
    return f"{day.day}  [{colour}]{day.judged:<11}[/]{figures}{bad}  {escape(day.state)}"


class _ProgressHandler(logging.Handler):
    """Turns the pipeline's events into the movement of a bar: each day is 1, its bytes and its rows are shares of it."""

    def __init__(self, progress: Progress, days: int) -> None:
        super().__init__(logging.INFO)
        self._progress = progress
        self._task = progress.add_task("", total=days, said="")
        self._finished = 0
        self._reset()

    def _reset(self) -> None:
        self._bytes = self._wanted = self._rows = self._loaded = self._tables = 0

    def begin(self, day: date) -> None:
        self._reset()
        self._progress.update(self._task, description=str(day), said="listing")

    def finish(self) -> None:
        self._finished += 1
        self._progress.update(self._task, completed=self._finished)

    def emit(self, record: logging.LogRecord) -> None:
        if not is_event(record):
            return
        fields: dict[str, Any] = record.fields
        if record.event == "objects_wanted":
            self._wanted += fields["bytes"]
        elif record.event in ("object_done", "object_known", "object_failed"):
            self._bytes += fields["bytes"]
            self._rows += fields.get("rows", 0)
            self._show(f"decoded {self._rows:,} fills, {self._bytes / 1e6:,.0f} of {self._wanted / 1e6:,.0f} MB")
        elif record.event == "hour_copied":
            self._loaded = fields["rows"]
            self._show(f"loaded {self._loaded:,} of about {self._rows:,} fills")
        elif record.event == "table_loaded":
            self._tables += 1
            self._show(f"{fields['table']}: {fields['rows']:,} rows")
        elif record.event in ("indexes_building", "day_in_use"):
            self._show(record.event.replace("_", " "))

    def _show(self, said: str) -> None:
        raw = _SHARE_OF_RAW * self._bytes / max(self._wanted, 1)
        load = _SHARE_OF_LOAD * min(self._loaded / max(self._rows, 1), 1) + _SHARE_OF_TABLE * self._tables
        elapsed = self._progress.tasks[0].elapsed or 0
        rate = f", {(self._loaded or self._rows) / elapsed:,.0f}/s" if elapsed > 1 and not self._finished else ""
        self._progress.update(self._task, completed=self._finished + raw + load, said=said + rate)


@contextmanager
def _progress(console: Console, days: list[date]) -> Generator[_ProgressHandler]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(30),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )
    logger = logging.getLogger("hl_pipeline")
    logger.setLevel(logging.INFO)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        handler = _ProgressHandler(progress, len(days))
        logger.addHandler(handler)
        try:
            yield handler
        finally:
            logger.removeHandler(handler)
