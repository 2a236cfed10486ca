"""`candles`, `daily_stats`, `user_stats`: what follows from a day's fills in the lake, each a table of PostgreSQL."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date

import polars as pl
import psycopg
from dagster import AssetCheckResult, AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.shown import OWNERS, check_of_day, column_lineage, table_metadata
from hl_pipeline.events import emit
from hl_pipeline.figures.candles import CANDLE_COLUMNS, candles_of_day
from hl_pipeline.figures.daily_stats import DAILY_STATS_COLUMNS, daily_stats_of
from hl_pipeline.figures.user_stats import USER_STATS_COLUMNS, user_stats_of
from hl_pipeline.lake import Lake, list_files, read_fills_hour
from hl_pipeline.lake_api import SOURCE
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import LakeStorage, Warehouse
from hl_pipeline.warehouse.load_table import replace_day
from hl_pipeline.warehouse.locks import lock_fills_day

_log = logging.getLogger(__name__)
_DAY = """
SELECT rows, state, hl.has_bad_lines(date) FROM hl.fills_days WHERE date = %s
"""
_COMPLETE = {"whole": True, "incomplete": False, "pending": False}

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
def candles(context: AssetExecutionContext, lake_storage: LakeStorage, warehouse: Warehouse) -> MaterializeResult:
    """Candles of one minute, per coin.

    Open, high, low, close, volume and number of trades of each coin and minute (UTC) in which it was traded.
    """
    rows, metadata, _ = _make_day(context, lake_storage, warehouse, "candles", CANDLE_COLUMNS, candles_of_day)
    out_of_order = rows.filter(~pl.col("open").is_between("low", "high") | ~pl.col("close").is_between("low", "high")).height
    check = AssetCheckResult(
        check_name="prices_ordered",
        passed=out_of_order == 0,
        description=f"{out_of_order} candles whose open or close is not between low and high."
        if out_of_order
        else "Low, open, close and high are in order in every candle.",
        metadata={"out_of_order": out_of_order},
    )
    figures = {"coins": rows["coin"].n_unique(), "trades": int(rows["trades"].sum())}
    return MaterializeResult(metadata=metadata | figures, check_results=[check])


@asset(
    partitions_def=DAYS,
    deps=[fills],
    group_name=_GROUP,
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.daily_stats") | column_lineage("hl.daily_stats"),
    check_specs=[check_of_day("daily_stats", "fills_accounted_for", _ACCOUNTED)],
)
def daily_stats(context: AssetExecutionContext, lake_storage: LakeStorage, warehouse: Warehouse) -> MaterializeResult:
    """Volume and trades per coin and day.

    What was traded in each coin on the day (UTC): a trade counts once, bookings that are no trades are counted apart.
    """
    rows, metadata, loaded = _make_day(context, lake_storage, warehouse, "daily_stats", DAILY_STATS_COLUMNS, daily_stats_of)
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
def user_stats(context: AssetExecutionContext, lake_storage: LakeStorage, warehouse: Warehouse) -> MaterializeResult:
    """Volume, pnl, fees per wallet and day.

    What each wallet did on the day (UTC): volume as maker and as taker, realized pnl, fees by token, TWAPs.
    """
    rows, metadata, loaded = _make_day(context, lake_storage, warehouse, "user_stats", USER_STATS_COLUMNS, user_stats_of)
    figures = _known({name: rows[name] for name in ("fills", "maker_notional", "taker_notional", "closed_pnl")})
    return MaterializeResult(metadata=metadata | figures, check_results=[_account(rows, loaded)])


def _make_day(
    context: AssetExecutionContext,
    lake_storage: LakeStorage,
    warehouse: Warehouse,
    table: str,
    columns: Sequence[str],
    make: Callable[[Iterable[pl.DataFrame]], pl.DataFrame],
) -> tuple[pl.DataFrame, Metadata, int | None]:
    """The table's rows of the run's day, which are then in PostgreSQL; metadata; how many fills they are to account for, if any
    were loaded.
    """
    started = time.perf_counter()
    day = date.fromisoformat(context.partition_key)
    lake = lake_storage.open()
    with warehouse.connect(f"hl {table}") as connection, lock_fills_day(connection, day, shared=True):
        loaded, is_complete = _read_day(connection, day)
        hours = hours_of_lake(lake, day, columns)
        beside = 0
        if table != "user_stats" and (unknown := hours_without_objects(lake, day)):
            beside = count_beside_market(lake, day, unknown)
            hours = market_of(hours, unknown)
        rows = make(hours)
        if table != "candles":
            rows = rows.with_columns(is_complete=pl.lit(is_complete, pl.Boolean))
        replace_day(connection, table, day, rows)
    emit(_log, "table_loaded", day=day, table=table, rows=rows.height)
    seconds = round(time.perf_counter() - started, 3)
    metadata: Metadata = {"dagster/partition_row_count": rows.height, "seconds": seconds}
    return rows, metadata | ({"fills_beside_market": beside} if beside else {}), None if loaded is None else loaded - beside


def _read_day(connection: psycopg.Connection, day: date) -> tuple[int | None, bool | None]:
    """How many fills of the day were loaded (None: not yet), and whether that is all: NULL where nothing can prove it."""
    row = connection.execute(_DAY, [day]).fetchone()
    if row is None:
        return None, None
    loaded, state, bad_lines = row
    return loaded, False if bad_lines else _COMPLETE.get(state)


def hours_of_lake(lake: Lake, day: date, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Columns of the day's fills, hour by hour; hours without fills are left out."""
    for hour in range(24):
        frame = read_fills_hour(lake, day, hour, columns)
        if frame.height:
            yield frame


def hours_without_objects(lake: Lake, day: date) -> set[int]:
    """Of a day that has fills from the info API the hours (UTC) of which no bucket's object is in the lake; of others none."""
    if not list_files(lake, f"{SOURCE}/date={day}"):
        return set()
    names = (path.rpartition("/")[2] for path in list_files(lake, f"raw_fills/object_date={day}"))
    return set(range(24)) - {int(name[5:7]) for name in names if name.endswith(".parquet")}


def market_of(hours: Iterable[pl.DataFrame], unknown: set[int]) -> Iterator[pl.DataFrame]:
    """Fills by hour without those of the info API in the hours of `unknown`: the fills of some wallets are not the market."""
    for frame in hours:
        if (market := frame.filter(~_is_beside_market(unknown))).height:
            yield market


def count_beside_market(lake: Lake, day: date, unknown: set[int]) -> int:
    """How many fills of a day `market_of` leaves out."""
    return sum(frame.filter(_is_beside_market(unknown)).height for frame in hours_of_lake(lake, day, ("time", "object")))


def _is_beside_market(unknown: set[int]) -> pl.Expr:
    return pl.col("object").str.starts_with(f"{SOURCE}/") & pl.col("time").dt.hour().is_in(sorted(unknown))


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
