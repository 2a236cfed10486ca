"""`twap_statuses`: loads every TWAP event of a day once into the lake and PostgreSQL."""

from datetime import date

from dagster import AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, report, table_metadata
from hl_pipeline.assets.raw_twap_statuses import GROUP, raw_twap_statuses
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

_CHECKS = {
    "key_unique": "No dropped duplicate contradicts the kept event.",
    "day_is_there": "The day's objects are present. Their format cannot prove that no row is missing.",
}


@asset(
    partitions_def=DAYS,
    # raw_api_twap_history is also read, but is not a dependency, like raw_api_fills for fills.
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

    TWAPs that were activated, finished, terminated or failed on the UTC day, with requested and reported sizes. An event in two
    objects is kept once, with the most precise time. Events of the day from `raw_api_twap_history` are included.
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
