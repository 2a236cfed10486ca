"""`fills_compacted`: publishes a loaded day of fills in the lake's Iceberg table, sorted by wallet."""

from datetime import date
from typing import TYPE_CHECKING

from dagster import AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.metadata import OWNERS, check_of_day, compacted_metadata, report
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

if TYPE_CHECKING:
    from hl_pipeline.stages.compact import CompactedDay

_SAME_ROWS = "The compacted day has the rows of the lake's hours and of hl.fills, compared by hashes, counts and sums."


@asset(
    partitions_def=DAYS,
    deps=[fills],
    group_name="lake",
    kinds={"parquet", "iceberg"},
    owners=OWNERS,
    metadata=compacted_metadata(),
    check_specs=[check_of_day("fills_compacted", "same_rows", _SAME_ROWS)],
)
def fills_compacted(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> MaterializeResult:
    """Every fill of the day in one file, sorted by wallet and time, in the Iceberg table hl.fills of the lake.

    Beside it, the day's rows of hl.twaps, hl.candles, hl.daily_stats and hl.user_stats, in tables of these names.

    The schedule `compact` materializes the days at rest (`HL_COMPACT_AFTER_HOURS`). A day can be materialized at any time,
    whatever its verdict. If nothing has changed since, nothing is written.
    """
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.compact import compact_day
    from hl_pipeline.stages.publish_tables import publish_tables

    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl fills_compacted") as connection:
        lake = open_lake(settings.lake)
        made = compact_day(day, lake, connection)
        tables = publish_tables(day, lake, connection)
    rows = {f"rows_{name}": count for name, count in tables.rows.items()}
    return report(results, "fills_compacted", made, made.rows, {**_describe(made), **rows})


def _describe(made: "CompactedDay") -> dict[str, int | float | str]:
    if made.published is None:
        return {"published": made.is_new}
    day = made.published
    return {
        "published": made.is_new,
        "state": day.state,
        "bytes": day.bytes,
        "bytes_per_fill": round(day.bytes / max(day.rows, 1), 2),
        "notional": float(day.notional or 0),
        "notional_unknown": day.notional_unknown or 0,
        "snapshot_id": str(day.snapshot_id),
        "file": day.files[0],
    }
