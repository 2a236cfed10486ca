"""`twaps`: one row per TWAP: what was asked for, what was reported, what its slices show, and the market meanwhile."""

import logging
import time
from datetime import date

from dagster import AssetCheckResult, AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.checks import severity
from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, table_metadata
from hl_pipeline.assets.statistics import candles
from hl_pipeline.assets.twap_statuses import twap_statuses
from hl_pipeline.events import emit
from hl_pipeline.lake.store import open_lake
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.stages.make_twaps import make_twaps_of_day
from hl_pipeline.warehouse.load_twaps import MadeTwaps

_log = logging.getLogger(__name__)
_UNLIKE = ("conflict", "missing_fills", "excess_fills", "unreported")
_CHECKS = {
    "fills_are_what_was_reported": "Of each TWAP that ended on the day the slices add up to the size that its last status says.",
    "slices_have_statuses": "No TWAP has slices on the day and no status at all.",
}


@asset(
    partitions_def=DAYS,
    deps=[fills, candles, twap_statuses],
    group_name="twaps",
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.twaps") | column_lineage("hl.twaps"),
    check_specs=[check_of_day("twaps", name, text) for name, text in _CHECKS.items()],
)
def twaps(context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam) -> MaterializeResult:
    """One row per TWAP: asked, reported, seen.

    Every TWAP that the day has to do with is made again from all of its days: its statuses and its slices beside each other,
    its average price against the market's meanwhile, its pace, fees and profit, and a verdict.
    """
    day = date.fromisoformat(context.partition_key)
    lake = open_lake(settings.lake)
    started = time.perf_counter()

    with warehouse.connect("hl twaps") as connection:
        made = make_twaps_of_day(day, lake, connection)
    emit(_log, "table_loaded", day=day, table="twaps", rows=made.made)
    return MaterializeResult(
        metadata={
            "dagster/partition_row_count": made.begun,
            "made": made.made,
            **{f"ended_{verdict}": count for verdict, count in made.verdicts.items()},
            "seconds": round(time.perf_counter() - started, 3),
        },
        check_results=[_check_reports(made), _check_statuses(made)],
    )


def _check_reports(made: MadeTwaps) -> AssetCheckResult:
    unlike = {verdict: count for verdict, count in made.verdicts.items() if verdict in _UNLIKE}
    ended = sum(made.verdicts.values())
    said = ", ".join(f"{count} {verdict}" for verdict, count in unlike.items()) or "none unlike its slices"
    return AssetCheckResult(
        check_name="fills_are_what_was_reported",
        passed=not unlike,
        severity=severity(is_harmless=True),
        description=f"{ended} TWAPs ended on the day: {said}. Which: column verdict of hl.twaps.",
        metadata={"ended": ended, "unlike": sum(unlike.values())},
    )


def _check_statuses(made: MadeTwaps) -> AssetCheckResult:
    return AssetCheckResult(
        check_name="slices_have_statuses",
        passed=made.without_status == 0,
        severity=severity(is_harmless=True),
        description=f"{made.without_status} TWAPs with slices on the day have no status at all.",
        metadata={"without_status": made.without_status},
    )
