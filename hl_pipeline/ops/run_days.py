"""Materializes days in this process, one after the other, and returns the result of each. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum

from dagster import DagsterInstance, JobExecutionResult

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.fetch_checks import describe_ignored
from hl_pipeline.ops.run_in_process import explain_failure, open_runner
from hl_pipeline.resources import StageResults
from hl_pipeline.settings import Settings
from hl_pipeline.stages.fetch_day import FetchedFills, FetchedStatuses
from hl_pipeline.stages.load_fills import LoadedFills


class Outcome(Enum):
    """The final outcome of days or wallets."""

    WHOLE = "whole"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class IngestedDay:
    """The result of a day."""

    day: date
    outcome: Outcome
    state: str
    explanation: str
    rows: int
    bytes_fetched: int
    seconds: float
    bad_lines: int
    missing_blocks: int
    duplicates: int


def ingest_days(
    days: list[date],
    settings: Settings,
    begin: Callable[[date], None] = lambda _: None,
    *,
    from_lake: bool = False,
    command: str = "hl ingest",
) -> Iterator[IngestedDay]:
    """Materialize all assets of each day in order (`from_lake`: those that need no bucket), and yield the results. A failed day
    does not stop the others. `begin` is called before each. Runs are tagged with the `command` that started them.

    Raises RunInterruptedError.
    """
    with DagsterInstance.get() as instance:
        runner = open_runner("rebuild_days" if from_lake else "ingest_days", instance, settings, command)
        for day in days:
            begin(day)
            yield _describe(day, runner.run(str(day)), runner.results)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst outcome: failed, then incomplete, then whole."""
    all_of_them = set(outcomes)
    return next((o for o in (Outcome.FAILED, Outcome.INCOMPLETE) if o in all_of_them), Outcome.WHOLE)


def _describe(day: date, result: JobExecutionResult, results: StageResults) -> IngestedDay:
    of_stages = results.by_asset.values()
    fetches = [made for made in of_stages if isinstance(made, FetchedFills | FetchedStatuses)]
    fetched = sum(meta.size for made in fetches for meta in made.result.fetched)
    bad_lines = sum(meta.bad_lines for made in fetches if isinstance(made, FetchedFills) for meta in made.result.objects)
    seconds = sum(made.seconds for made in of_stages)
    # The run of an incomplete day fails, so only the results show whether the work was done.
    if "whole_days" not in results.by_asset:
        return IngestedDay(day, Outcome.FAILED, "failed", explain_failure(result), 0, fetched, seconds, 0, 0, 0)
    fills = results.of("fills", LoadedFills)
    of_fills, of_twaps = _failing_checks(results)
    if any(check.name == "day_is_whole" for check in of_fills) or not of_fills:
        explanation = fills.verdict.explain()
    else:
        explanation = "; ".join(f"{check.name}: {check.description}" for check in of_fills)
    if fills.is_thinned:
        explanation += " Only in the lake (HL_FILLS_KEEP_DAYS)."
    for text in dict.fromkeys(check.description for check in of_twaps):
        explanation += f" TWAP statuses: {text}"
    explanation += describe_ignored([found for made in fetches for found in made.result.ignored])
    failing, is_whole = bool(of_fills or of_twaps), fills.verdict.state == "whole"
    return IngestedDay(
        day,
        Outcome.INCOMPLETE if failing else Outcome.WHOLE,
        "doubtful" if of_fills and is_whole else "incomplete" if failing and is_whole else fills.verdict.state,
        explanation,
        fills.rows,
        fetched,
        seconds,
        bad_lines,
        fills.verdict.missing_blocks,
        fills.duplicates,
    )


def _failing_checks(results: StageResults) -> tuple[list[Check], list[Check]]:
    """Return the failed checks of fills and statistics, and those of TWAPs, without checks that do not make a day incomplete
    (statuses without a source, TWAPs that differ from their slices).
    """
    failing = [(asset, check) for asset, made in results.by_asset.items() for check in made.checks if not check.passed]
    of_fills = [check for asset, check in failing if "twap" not in asset]
    return of_fills, [check for asset, check in failing if "twap" in asset and not check.is_harmless]
