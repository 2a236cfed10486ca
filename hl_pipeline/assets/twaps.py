"""`twaps`: one row per TWAP with requested, reported and observed sizes, and the market during its window."""

from datetime import date

from dagster import AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, report, table_metadata
from hl_pipeline.assets.twap_statuses import twap_statuses
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

_CHECKS = {
    "fills_are_what_was_reported": "For each TWAP that ended on the day, the slices add up to the size in its last status.",
    "slices_have_statuses": "Every TWAP with slices on the day has a status.",
}


@asset(
    partitions_def=DAYS,
    deps=[fills, "candles", twap_statuses],
    group_name="twaps",
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.twaps") | column_lineage("hl.twaps"),
    check_specs=[check_of_day("twaps", name, text) for name, text in _CHECKS.items()],
)
def twaps(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> MaterializeResult:
    """One row per TWAP: requested, reported, observed.

    Recomputes every TWAP whose window overlaps the day, from all of its days: statuses compared with slices, average price
    against the market, schedule, fees, profit, and a verdict.
    """
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.make_twaps import make_twaps_of_day

    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl twaps") as connection:
        made = make_twaps_of_day(day, open_lake(settings.lake), connection)
    ended = {f"ended_{verdict}": count for verdict, count in made.counts.verdicts.items()}
    return report(results, "twaps", made, made.counts.begun, {"made": made.counts.made, **ended})
