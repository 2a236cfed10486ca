"""`candles`, `daily_stats`, `user_stats`: what follows from a day's fills in the lake, each a table of PostgreSQL."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import psycopg
from dagster import AssetCheckResult, AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, table_metadata
from hl_pipeline.domain.datasets import API_FILLS
from hl_pipeline.events import emit
from hl_pipeline.figures.candles import CANDLE_COLUMNS, candles_of_day
from hl_pipeline.figures.daily_stats import DAILY_STATS_COLUMNS, daily_partial, merge_daily
from hl_pipeline.figures.user_stats import USER_STATS_COLUMNS, merge_user, user_partial
from hl_pipeline.lake.fills import read_fills_hour, read_hours_of_fills
from hl_pipeline.lake.partials import read_partial, remove_partials, write_partial
from hl_pipeline.lake.store import Lake, list_files
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import LakeStorage, WarehouseParam
from hl_pipeline.warehouse.load_table import CandlesOfDay, read_hours_without_candles, replace_candles, replace_day
from hl_pipeline.warehouse.locks import lock_fills_day, lock_table_day

_log = logging.getLogger(__name__)
_DAY = """
SELECT rows, state, hl.has_bad_lines(date) FROM hl.fills_days WHERE date = %s
"""
_COMPLETE = {"whole": True, "incomplete": False, "pending": False}
_GROWING = ("pending", "incomplete")

_GROUP = "statistics"
_ACCOUNTED = "Every fill of the day stands in one of the rows: their counts add up to what was loaded."
Metadata = dict[str, int | float]


@dataclass(frozen=True, slots=True)
class Statistics:
    """A table of figures of a day: the columns of fills that it needs, what an hour of them adds to it, the hours together; and
    whether it is about the market, of which the fills of some wallets tell nothing.
    """

    table: str
    is_of_market: bool
    columns: Sequence[str]
    partial: Callable[[pl.DataFrame], pl.DataFrame]
    merge: Callable[[Iterable[pl.DataFrame]], pl.DataFrame]


DAILY = Statistics("daily_stats", True, DAILY_STATS_COLUMNS, daily_partial, merge_daily)
USER = Statistics("user_stats", False, USER_STATS_COLUMNS, user_partial, merge_user)


@asset(
    partitions_def=DAYS,
    deps=[fills],
    group_name=_GROUP,
    kinds={"polars", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.candles") | column_lineage("hl.candles"),
    check_specs=[check_of_day("candles", "prices_ordered", "low <= open, close <= high, in every candle of the day.")],
)
def candles(context: AssetExecutionContext, lake_storage: LakeStorage, warehouse: WarehouseParam) -> MaterializeResult:
    """Candles of one minute, per coin.

    Open, high, low, close, volume and number of trades of each coin and minute (UTC) in which it was traded.
    """
    started = time.perf_counter()
    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl candles") as connection:
        made = make_candles_of_day(day, lake_storage.open(), connection)
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
def daily_stats(context: AssetExecutionContext, lake_storage: LakeStorage, warehouse: WarehouseParam) -> MaterializeResult:
    """Volume and trades per coin and day.

    What was traded in each coin on the day (UTC): a trade counts once, bookings that are no trades are counted apart.
    """
    rows, metadata, loaded = _materialize(context, lake_storage, warehouse, DAILY)
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
def user_stats(context: AssetExecutionContext, lake_storage: LakeStorage, warehouse: WarehouseParam) -> MaterializeResult:
    """Volume, pnl, fees per wallet and day.

    What each wallet did on the day (UTC): volume as maker and as taker, realized pnl, fees by token, TWAPs.
    """
    rows, metadata, loaded = _materialize(context, lake_storage, warehouse, USER)
    figures = _known({name: rows[name] for name in ("fills", "maker_notional", "taker_notional", "closed_pnl")})
    return MaterializeResult(metadata=metadata | figures, check_results=[_account(rows, loaded)])


def make_candles_of_day(day: date, lake: Lake, connection: psycopg.Connection) -> CandlesOfDay:
    """Make the candles of the hours that have none since they were loaded; of all hours when every one has."""
    with lock_fills_day(connection, day, shared=True):
        hours = read_hours_without_candles(connection, day)
        beside = hours_without_objects(lake, day)
        market = (market_of(frame, beside) for frame in hours_of_lake(lake, day, CANDLE_COLUMNS, hours))
        rows = candles_of_day(frame for frame in market if frame.height)
        made = replace_candles(connection, day, hours, rows)
    emit(_log, "table_loaded", day=day, table="candles", rows=made.rows)
    return made


def make_statistics_of_day(
    day: date, lake: Lake, connection: psycopg.Connection, statistics: Statistics
) -> tuple[pl.DataFrame, int | None, int]:
    """The table's rows of the day, which are then in PostgreSQL; how many fills they are to account for, if any were loaded; and
    how many were left out, since they are not the market.
    """
    table = statistics.table
    with lock_fills_day(connection, day, shared=True), lock_table_day(connection, table, day):
        loaded, state, has_bad_lines = connection.execute(_DAY, [day]).fetchone() or (None, None, None)
        beside = hours_without_objects(lake, day) if statistics.is_of_market else set[int]()
        left_out = count_beside_market(lake, day, beside)
        rows = statistics.merge(_partials_of_day(day, lake, statistics, beside, keep=state in _GROWING))
        is_complete = False if has_bad_lines else _COMPLETE.get(state or "")
        rows = rows.with_columns(is_complete=pl.lit(is_complete, pl.Boolean))
        replace_day(connection, table, day, rows)
        if state not in _GROWING:
            remove_partials(lake, table, day)
    emit(_log, "table_loaded", day=day, table=table, rows=rows.height)
    return rows, None if loaded is None else loaded - left_out, left_out


def _partials_of_day(day: date, lake: Lake, statistics: Statistics, beside: set[int], *, keep: bool) -> Iterator[pl.DataFrame]:
    """What each hour of the lake's fills adds to the table, without what is `beside` the market (`market_of`). Hours whose
    figures were kept are not read again, unless these are all there: then nothing is new, and who asks wants the day made anew.
    `keep` those that are made now.
    """
    hours = read_hours_of_fills(lake, day)
    kept = {hour: read_partial(lake, statistics.table, day, hour, of) for hour, of in hours.items()}
    is_new = any(partial is None for partial in kept.values())
    for hour in range(24):
        known = kept.get(hour)
        if known is not None and is_new:
            yield known
            continue
        frame = read_fills_hour(lake, day, hour, statistics.columns)
        if frame.is_empty():
            continue
        partial = statistics.partial(market_of(frame, beside))
        if keep and hour in hours:
            write_partial(lake, statistics.table, day, hour, partial, hours[hour])
        yield partial


def _materialize(
    context: AssetExecutionContext, lake_storage: LakeStorage, warehouse: WarehouseParam, statistics: Statistics
) -> tuple[pl.DataFrame, Metadata, int | None]:
    """As `make_statistics_of_day`, with metadata between the two."""
    started = time.perf_counter()
    day = date.fromisoformat(context.partition_key)
    with warehouse.connect(f"hl {statistics.table}") as connection:
        rows, loaded, beside = make_statistics_of_day(day, lake_storage.open(), connection, statistics)
    seconds = round(time.perf_counter() - started, 3)
    metadata: Metadata = {"dagster/partition_row_count": rows.height, "seconds": seconds}
    return rows, metadata | ({"fills_beside_market": beside} if beside else {}), loaded


def hours_of_lake(lake: Lake, day: date, columns: Sequence[str], hours: Iterable[int] = range(24)) -> Iterator[pl.DataFrame]:
    """Columns of the day's fills, hour by hour; hours without fills are left out."""
    for hour in hours:
        frame = read_fills_hour(lake, day, hour, columns)
        if frame.height:
            yield frame


def hours_without_objects(lake: Lake, day: date) -> set[int]:
    """Of a day that has fills from the info API the hours (UTC) of which no bucket's object is in the lake; of others none."""
    if not list_files(lake, f"{API_FILLS}/date={day}"):
        return set()
    names = (path.rpartition("/")[2] for path in list_files(lake, f"raw_fills/object_date={day}"))
    return set(range(24)) - {int(name[5:7]) for name in names if name.endswith(".parquet")}


def market_of(fills: pl.DataFrame, beside: set[int]) -> pl.DataFrame:
    """Fills without those of the info API in the hours `beside`: the fills of some wallets are not the market."""
    return fills.filter(~_is_beside_market(beside)) if beside else fills


def count_beside_market(lake: Lake, day: date, beside: set[int]) -> int:
    """How many fills of a day `market_of` leaves out."""
    hours = hours_of_lake(lake, day, ("time", "object"), sorted(beside))
    return sum(frame.filter(_is_beside_market(beside)).height for frame in hours)


def _is_beside_market(beside: set[int]) -> pl.Expr:
    return pl.col("object").str.starts_with(f"{API_FILLS}/") & pl.col("time").dt.hour().is_in(sorted(beside))


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
