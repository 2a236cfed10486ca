"""`candles`, `daily_stats`, `user_stats`: what follows from a day's fills in the lake, each a table of PostgreSQL."""

import logging
import time
from datetime import date

import polars as pl
from dagster import AssetCheckResult, AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, table_metadata
from hl_pipeline.lake.store import open_lake
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.settings import Settings
from hl_pipeline.stages.derive import DAILY, USER, Statistics, make_candles_of_day, make_statistics_of_day

_log = logging.getLogger(__name__)

_GROUP = "statistics"
_ACCOUNTED = "Every fill of the day stands in one of the rows: their counts add up to what was loaded."
Metadata = dict[str, int | float]


@asset(
    partitions_def=DAYS,
    deps=[fills],
    group_name=_GROUP,
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.candles") | column_lineage("hl.candles"),
    check_specs=[check_of_day("candles", "prices_ordered", "low <= open, close <= high, in every candle of the day.")],
)
def candles(context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam) -> MaterializeResult:
    """Candles of one minute, per coin.

    Open, high, low, close, volume and number of trades of each coin and minute (UTC) in which it was traded.
    """
    started = time.perf_counter()
    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl candles") as connection:
        made = make_candles_of_day(day, open_lake(settings.lake), connection)
    out_of_order = made.out_of_order
    check = AssetCheckResult(
        check_name="prices_ordered",
        passed=out_of_order == 0,
        description=f"{out_of_order} candles whose open or close is not between low and high."
        if out_of_order
        else "Low, open, close and high are in order in every candle.",
        metadata={"out_of_order": out_of_order},
    )
    return MaterializeResult(
        metadata={
            "dagster/partition_row_count": made.rows,
            "seconds": round(time.perf_counter() - started, 3),
            "coins": made.coins,
            "trades": made.trades,
        },
        check_results=[check],
    )


@asset(
    partitions_def=DAYS,
    deps=[fills],
    group_name=_GROUP,
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.daily_stats") | column_lineage("hl.daily_stats"),
    check_specs=[check_of_day("daily_stats", "fills_accounted_for", _ACCOUNTED)],
)
def daily_stats(context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam) -> MaterializeResult:
    """Volume and trades per coin and day.

    What was traded in each coin on the day (UTC): a trade counts once, bookings that are no trades are counted apart.
    """
    rows, metadata, loaded = _materialize(context, warehouse, settings, DAILY)
    figures = _known(
        {
            "notional": rows["notional"],
            "notional_of_perps": rows.filter(pl.col("kind") == "perp")["notional"],
            **{name: rows[name] for name in ("trades", "fills", "non_market_rows", "liquidations")},
        }
    )
    return MaterializeResult(metadata=metadata | figures, check_results=[_account(rows, loaded)])


@asset(
    partitions_def=DAYS,
    deps=[fills],
    group_name=_GROUP,
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.user_stats") | column_lineage("hl.user_stats"),
    check_specs=[check_of_day("user_stats", "fills_accounted_for", _ACCOUNTED)],
)
def user_stats(context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam) -> MaterializeResult:
    """Volume, pnl, fees per wallet and day.

    What each wallet did on the day (UTC): volume as maker and as taker, realized pnl, fees by token, TWAPs.
    """
    rows, metadata, loaded = _materialize(context, warehouse, settings, USER)
    figures = _known({name: rows[name] for name in ("fills", "maker_notional", "taker_notional", "closed_pnl")})
    return MaterializeResult(metadata=metadata | figures, check_results=[_account(rows, loaded)])


def _materialize(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: Settings, statistics: Statistics
) -> tuple[pl.DataFrame, Metadata, int | None]:
    """As `make_statistics_of_day`, with metadata between the two."""
    started = time.perf_counter()
    day = date.fromisoformat(context.partition_key)
    with warehouse.connect(f"hl {statistics.table}") as connection:
        rows, loaded, beside = make_statistics_of_day(day, open_lake(settings.lake), connection, statistics)
    seconds = round(time.perf_counter() - started, 3)
    metadata: Metadata = {"dagster/partition_row_count": rows.height, "seconds": seconds}
    return rows, metadata | ({"fills_beside_market": beside} if beside else {}), loaded


def _known(figures: dict[str, pl.Series]) -> Metadata:
    """The sums of columns, for plots, to two digits; what is not known of all rows is left out. Exact ones are in the table."""
    sums = {name: amounts.cast(pl.Float64).sum() for name, amounts in figures.items() if not amounts.null_count()}
    return {name: round(float(amount), 2) for name, amount in sums.items()}


def _account(rows: pl.DataFrame, loaded: int | None) -> AssetCheckResult:
    if loaded is None:
        said = "No fills of the day were loaded yet: materialize fills first."
        return AssetCheckResult(check_name="fills_accounted_for", passed=False, description=said)
    counted = int(rows["fills"].sum()) + int(rows["non_market_rows"].sum())
    said = (
        "Every fill is accounted for." if counted == loaded else f"{counted} fills here, {loaded} were loaded: run fills again."
    )
    return AssetCheckResult(
        check_name="fills_accounted_for",
        passed=counted == loaded,
        description=said,
        metadata={"fills_here": counted, "fills_loaded": loaded},
    )
