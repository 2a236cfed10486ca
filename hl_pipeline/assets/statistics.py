"""`candles`, `daily_stats`, `user_stats`: tables in PostgreSQL derived from a day's fills in the lake."""

from datetime import date
from typing import TYPE_CHECKING

from dagster import AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, report, table_metadata
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

if TYPE_CHECKING:
    import polars as pl

    from hl_pipeline.stages.derive import DayStatistics

_GROUP = "statistics"
_ACCOUNTED = "Every fill of the day is counted in a row: the counts add up to the number of loaded fills."


@asset(
    partitions_def=DAYS,
    deps=[fills],
    group_name=_GROUP,
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.candles") | column_lineage("hl.candles"),
    check_specs=[check_of_day("candles", "prices_ordered", "In every candle of the day, low <= open, close <= high.")],
)
def candles(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> MaterializeResult:
    """Candles of one minute, per coin.

    Open, high, low, close, volume and number of trades for each coin and minute (UTC) with a trade.
    """
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.derive import make_candles_of_day

    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl candles") as connection:
        made = make_candles_of_day(day, open_lake(settings.lake), connection)
    return report(results, "candles", made, made.of_day.rows, {"coins": made.of_day.coins, "trades": made.of_day.trades})


@asset(
    partitions_def=DAYS,
    deps=[fills],
    group_name=_GROUP,
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.daily_stats") | column_lineage("hl.daily_stats"),
    check_specs=[check_of_day("daily_stats", "fills_accounted_for", _ACCOUNTED)],
)
def daily_stats(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> MaterializeResult:
    """Volume and trades per coin and day.

    What was traded in each coin on the UTC day. Each trade counts once. Fills that are not trades are counted separately.
    """
    import polars as pl

    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.derive import DAILY, make_statistics_of_day

    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl daily_stats") as connection:
        made = make_statistics_of_day(day, open_lake(settings.lake), connection, DAILY)
    columns = {
        "notional": made.rows["notional"],
        "notional_of_perps": made.rows.filter(pl.col("kind") == "perp")["notional"],
        **{name: made.rows[name] for name in ("trades", "fills", "non_market_rows", "liquidations")},
    }
    return report(results, "daily_stats", made, made.rows.height, _describe(made, columns))


@asset(
    partitions_def=DAYS,
    deps=[fills],
    group_name=_GROUP,
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.user_stats") | column_lineage("hl.user_stats"),
    check_specs=[check_of_day("user_stats", "fills_accounted_for", _ACCOUNTED)],
)
def user_stats(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> MaterializeResult:
    """Volume, pnl, fees per wallet and day.

    What each wallet did on the UTC day: volume as maker and taker, realized pnl, fees by token, TWAPs.
    """
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.derive import USER, make_statistics_of_day

    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl user_stats") as connection:
        made = make_statistics_of_day(day, open_lake(settings.lake), connection, USER)
    columns = {name: made.rows[name] for name in ("fills", "maker_notional", "taker_notional", "closed_pnl")}
    return report(results, "user_stats", made, made.rows.height, _describe(made, columns))


def _describe(made: "DayStatistics", columns: "dict[str, pl.Series]") -> dict[str, int | float | str]:
    """Return sums of columns for plots, rounded to two digits, without columns that have NULLs. The table has exact values."""
    import polars as pl

    sums = {name: column.cast(pl.Float64).sum() for name, column in columns.items() if not column.null_count()}
    figures: dict[str, int | float | str] = {name: round(float(total), 2) for name, total in sums.items()}
    return figures | ({"fills_beside_market": made.outside_market} if made.outside_market else {})
