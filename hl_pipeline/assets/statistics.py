"""`candles`, `daily_stats`, `user_stats`, `builder_stats`: tables in PostgreSQL derived from a day's fills in the lake.

One step makes the selected ones, and reads the day's fills once.
"""

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

from dagster import AssetCheckResult, AssetExecutionContext, AssetKey, AssetSpec, MaterializeResult, multi_asset

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, report, table_metadata
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

if TYPE_CHECKING:
    import polars as pl

    from hl_pipeline.stages.derive import Candles, DayStatistics

_ACCOUNTED = "Every fill of the day is counted in a row: the counts add up to the number of loaded fills."
_DESCRIPTIONS = {
    "candles": """One-minute candles per coin.

Open, high, low, close, volume and number of trades for each coin and minute (UTC) with a trade.""",
    "daily_stats": """Volume and trades per coin and day.

What was traded in each coin on the UTC day. Each trade counts once. Fills that are not trades are counted separately.""",
    "user_stats": """Volume, profit and fees per wallet and day.

What each wallet did on the UTC day: volume as maker and taker, realized profit, fees by token, TWAPs.""",
    "builder_stats": """Volume and fees per builder, coin and day.

What went through each builder on the UTC day: fills, notional, wallets, and the builder's fees by token.""",
}


def _spec(table: str) -> AssetSpec:
    return AssetSpec(
        table,
        deps=[fills],
        description=_DESCRIPTIONS[table],
        group_name="statistics",
        kinds={"polars", "postgres"},
        owners=OWNERS,
        metadata=table_metadata(f"hl.{table}") | column_lineage(f"hl.{table}"),
        skippable=True,
    )


@multi_asset(
    specs=[_spec(table) for table in _DESCRIPTIONS],
    check_specs=[
        check_of_day("candles", "prices_ordered", "In every candle of the day, low <= open, close <= high."),
        check_of_day("daily_stats", "fills_accounted_for", _ACCOUNTED),
        check_of_day("user_stats", "fills_accounted_for", _ACCOUNTED),
        check_of_day("builder_stats", "fills_accounted_for", "Every fill of the day is counted in a row, or has no builder."),
    ],
    partitions_def=DAYS,
    can_subset=True,
)
def statistics(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> Iterator[MaterializeResult | AssetCheckResult]:
    """Make candles and statistics of a day, reading its fills once."""
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.derive import make_figures_of_day

    day = date.fromisoformat(context.partition_key)
    checks = context.selected_asset_check_keys
    wanted = {*context.selected_asset_keys, *(check.asset_key for check in checks)}
    tables = {key.to_user_string() for key in wanted}
    with warehouse.connect("hl statistics") as connection:
        for table, made in make_figures_of_day(day, open_lake(settings.lake), connection, tables):
            reported = report(results, table, made, *_describe(table, made))
            if AssetKey(table) in context.selected_asset_keys:
                yield reported
            else:
                # A check that runs alone judges the table that was just made.
                yield from reported.check_results or ()


def _describe(table: str, made: "Candles | DayStatistics") -> tuple[int, dict[str, int | float | str]]:
    """Return the number of rows of the day in a table, and figures for plots."""
    from hl_pipeline.stages.derive import Candles

    if isinstance(made, Candles):
        return made.of_day.rows, {"coins": made.of_day.coins, "trades": made.of_day.trades}
    if table == "user_stats":
        columns = {name: made.rows[name] for name in ("fills", "maker_notional", "taker_notional", "closed_pnl")}
    elif table == "builder_stats":
        columns = {name: made.rows[name] for name in ("fills", "fills_with_fee", "notional", "fees_in_quote")}
    else:
        columns = {"notional": made.rows["notional"], "notional_of_perps": made.rows.filter(kind="perp")["notional"]}
        columns |= {name: made.rows[name] for name in ("trades", "fills", "non_market_rows", "liquidations")}
    return made.rows.height, _sum(made, columns)


def _sum(made: "DayStatistics", columns: "dict[str, pl.Series]") -> dict[str, int | float | str]:
    """Return sums of columns for plots, rounded to two digits, without columns that have NULLs. The table has exact values."""
    import polars as pl

    sums = {name: column.cast(pl.Float64).sum() for name, column in columns.items() if not column.null_count()}
    figures: dict[str, int | float | str] = {name: round(float(total), 2) for name, total in sums.items()}
    return figures | ({"fills_beside_market": made.outside_market} if made.outside_market else {})
