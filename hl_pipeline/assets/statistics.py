"""`candles`, `daily_stats`, `user_stats`: what follows from a day's fills in the lake, each a table of PostgreSQL.

One step, that reads the day's fills once for those of the three that are wanted.
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

_ACCOUNTED = "Every fill of the day stands in one of the rows: their counts add up to what was loaded."
_DESCRIPTIONS = {
    "candles": """Candles of one minute, per coin.

Open, high, low, close, volume and number of trades of each coin and minute (UTC) in which it was traded.""",
    "daily_stats": """Volume and trades per coin and day.

What was traded in each coin on the day (UTC): a trade counts once, bookings that are no trades are counted apart.""",
    "user_stats": """Volume, pnl, fees per wallet and day.

What each wallet did on the day (UTC): volume as maker and as taker, realized pnl, fees by token, TWAPs.""",
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
        # Those that are not wanted are left out.
        skippable=True,
    )


@multi_asset(
    specs=[_spec(table) for table in _DESCRIPTIONS],
    check_specs=[
        check_of_day("candles", "prices_ordered", "low <= open, close <= high, in every candle of the day."),
        check_of_day("daily_stats", "fills_accounted_for", _ACCOUNTED),
        check_of_day("user_stats", "fills_accounted_for", _ACCOUNTED),
    ],
    partitions_def=DAYS,
    can_subset=True,
)
def statistics(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> Iterator[MaterializeResult | AssetCheckResult]:
    """Candles and statistics of a day, from one look at its fills."""
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
                # A check that is run alone looks at what it makes; there is nothing to look at before.
                yield from reported.check_results or ()


def _describe(table: str, made: "Candles | DayStatistics") -> tuple[int, dict[str, int | float | str]]:
    """How many rows a table has of the day, and its figures for plots."""
    from hl_pipeline.stages.derive import Candles

    if isinstance(made, Candles):
        return made.of_day.rows, {"coins": made.of_day.coins, "trades": made.of_day.trades}
    if table == "user_stats":
        columns = {name: made.rows[name] for name in ("fills", "maker_notional", "taker_notional", "closed_pnl")}
    else:
        columns = {"notional": made.rows["notional"], "notional_of_perps": made.rows.filter(kind="perp")["notional"]}
        columns |= {name: made.rows[name] for name in ("trades", "fills", "non_market_rows", "liquidations")}
    return made.rows.height, _sum(made, columns)


def _sum(made: "DayStatistics", columns: "dict[str, pl.Series]") -> dict[str, int | float | str]:
    """The sums of columns, for plots, to two digits, without columns that are not known of all rows; the table has exact ones."""
    import polars as pl

    sums = {name: column.cast(pl.Float64).sum() for name, column in columns.items() if not column.null_count()}
    figures: dict[str, int | float | str] = {name: round(float(total), 2) for name, total in sums.items()}
    return figures | ({"fills_beside_market": made.outside_market} if made.outside_market else {})
