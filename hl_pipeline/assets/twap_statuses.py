"""`twap_statuses`: every event of a day once, into lake and PostgreSQL."""

from datetime import date

from dagster import AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, report, table_metadata
from hl_pipeline.assets.raw_twap_statuses import GROUP, raw_twap_statuses
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

_CHECKS = {
    "key_unique": "No repeat of an event that was left out says other things of it.",
    "day_is_there": "The day's objects are there; nothing can prove that they lack no row.",
}


@asset(
    partitions_def=DAYS,
    # raw_api_twap_history is read too, but is no edge, as raw_api_fills is none of fills.
    deps=[raw_twap_statuses],
    group_name=GROUP,
    kinds={"parquet", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.twap_statuses") | column_lineage("hl.twap_statuses"),
    check_specs=[check_of_day("twap_statuses", name, text) for name, text in _CHECKS.items()],
)
def twap_statuses(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> MaterializeResult:
    """Every event of every TWAP, once.

    What became of TWAPs on the day (UTC): begun, finished, terminated, failed; with what was asked for and what they say they
    have executed. An event that two objects have is there once, with the finest time. What `raw_api_twap_history` brought of the
    day is among them.
    """
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.load_statuses import load_statuses_day

    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl twap_statuses") as connection:
        loaded = load_statuses_day(day, open_lake(settings.lake), connection, settings)
    figures = {
        "state": loaded.verdict.state,
        "explanation": loaded.verdict.explanation,
        "twaps": loaded.twaps,
        **{f"status_{status}": rows for status, rows in loaded.rows_of_status.items()},
        "duplicates_dropped": loaded.duplicates,
        "conflicts": loaded.conflicts,
    }
    return report(results, "twap_statuses", loaded, loaded.rows, figures)
