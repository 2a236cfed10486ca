"""`raw_twap_statuses`: fetches the objects of TWAP statuses into the lake."""

from datetime import date

from dagster import AssetExecutionContext, MaterializeResult, MetadataValue, asset

from hl_pipeline.assets.checks import describe_fetched
from hl_pipeline.assets.metadata import OWNERS, check_of_day, report, status_lake_metadata
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

_RAW_CHECKS = {
    "objects_present": "The day has its objects or all of its hours, and all of them were fetched and read.",
    "lines_taken": "No object's share of quarantined rows exceeds HL_BAD_LINES_MAX_SHARE.",
    "events_near_their_day": "No object has events more than a day away from the day in its key.",
}


GROUP = "twaps"


@asset(
    partitions_def=DAYS,
    group_name=GROUP,
    kinds={"s3", "parquet"},
    owners=OWNERS,
    metadata=status_lake_metadata(),
    check_specs=[check_of_day("raw_twap_statuses", name, text) for name, text in _RAW_CHECKS.items()],
)
def raw_twap_statuses(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> MaterializeResult:
    """TWAP statuses of the bucket, as Parquet.

    Fetches the objects of the day and of the days before and after, which can have events near midnight. Each becomes one
    lossless file in the lake. Objects already in the lake are not downloaded again. Unreadable rows go to a quarantine file.
    """
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.fetch_day import fetch_statuses

    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl raw_twap_statuses") as connection:
        fetched = fetch_statuses(day, open_lake(settings.lake), connection, settings, context.run.run_id)
    figures = {
        "state": fetched.verdict.state,
        "explanation": fetched.verdict.explanation,
        **describe_fetched(fetched.result, fetched.own),
        "forms_met": MetadataValue.json(sorted({note for meta in fetched.own for note in meta.notes})),
    }
    return report(results, "raw_twap_statuses", fetched, sum(meta.rows for meta in fetched.own), figures)
