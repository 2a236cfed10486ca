"""`fills`: loads every fill of a UTC day once, from the objects in the lake into `fills/date=D/` and hl.fills."""

from datetime import date
from typing import TYPE_CHECKING

from dagster import AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, report, table_metadata
from hl_pipeline.assets.raw_fills import raw_fills
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

if TYPE_CHECKING:
    from hl_pipeline.stages.load_fills import LoadedFills

_CHECKS = {
    "key_unique": "No two fills have the same (time, coin, wallet, side, tid). No dropped duplicate differs from the kept fill.",
    "legs_pair": "No trade has more than two legs, or two legs on one side. Trades with a single leg are counted.",
    "lake_equals_database": "fills/date=D/ and hl.fills have the same rows, compared by counts and sums per hour.",
    "day_is_whole": "All objects are present and block numbers have no gap across both midnights. If not, the result says why.",
}


@asset(
    partitions_def=DAYS,
    # raw_api_fills is also read, but is not a dependency: the UI would warn before each day that some of its shards are missing.
    deps=[raw_fills],
    group_name="ingest",
    kinds={"parquet", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.fills") | column_lineage("hl.fills"),
    check_specs=[check_of_day("fills", name, text) for name, text in _CHECKS.items()],
)
def fills(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> MaterializeResult:
    """Every fill once, by UTC day.

    One row per leg of a trade, each from the best available format, in the lake by hour and in PostgreSQL by day. Fills of the
    day from `raw_api_fills` are included. A shard can have fills of any day; `hl.dirty_days` lists the days to load again.
    """
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.load_fills import load_fills

    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl fills") as connection:
        loaded = load_fills(day, open_lake(settings.lake), connection, settings)
    return report(results, "fills", loaded, loaded.rows, _describe(loaded))


def _describe(loaded: "LoadedFills") -> dict[str, int | float | str]:
    day, verdict = loaded.day, loaded.verdict
    of_source = {f"rows_from_{source}": rows for source, rows in day.rows_of_source.items()}
    return {
        "state": verdict.state,
        "explanation": verdict.explain(),
        "source": verdict.source_names,
        "duplicates_dropped": loaded.duplicates,
        "trades": loaded.tally.trades,
        "trades_with_one_leg": loaded.tally.single_legs,
        **(of_source if len(of_source) > 1 else {}),
        "missing_blocks": verdict.missing_blocks,
        "in_postgres": not loaded.is_thinned,
        "hours_made": day.hours_made,
        "copy_seconds": round(day.copy_seconds, 3),
        "index_seconds": round(day.index_seconds, 3),
    }
