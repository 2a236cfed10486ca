"""Make a day's candles and statistics from its fills in the lake. The fills are read once for all requested tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import groupby

import polars as pl
import psycopg

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.datasets import API_FILLS
from hl_pipeline.domain.records import HourOfFills
from hl_pipeline.events import emit
from hl_pipeline.figures.builder_stats import BUILDER_COLUMNS, WITHOUT_BUILDER, builder_partial, merge_builders
from hl_pipeline.figures.candles import candles_of, merge_candles
from hl_pipeline.figures.daily_stats import daily_partial, merge_daily
from hl_pipeline.figures.sums import SUM_COLUMNS, sums_of
from hl_pipeline.figures.trades import TRADE_COLUMNS, trades_of
from hl_pipeline.figures.user_stats import merge_user, user_partial
from hl_pipeline.lake.fills import join_frames, read_fills_hour, read_hours_of_fills
from hl_pipeline.lake.partials import read_partial, remove_partials, write_partial
from hl_pipeline.lake.store import Lake, list_files
from hl_pipeline.stages.day_hours import hours_of_fills
from hl_pipeline.tracing import span
from hl_pipeline.warehouse.fills_days import FillsDay, read_fills_day
from hl_pipeline.warehouse.load_table import CandlesOfDay, read_hours_without_candles, replace_candles, replace_day
from hl_pipeline.warehouse.locks import lock_table_day

_log = logging.getLogger(__name__)
_IS_COMPLETE = {"whole": True, "incomplete": False, "pending": False}
_GROWING = ("pending", "incomplete")

CANDLES, DAILY_STATS, USER_STATS, BUILDER_STATS = TABLES = ("candles", "daily_stats", "user_stats", "builder_stats")
"""The tables that are made here, in this order."""
_COLUMNS = {
    CANDLES: TRADE_COLUMNS,
    DAILY_STATS: (*TRADE_COLUMNS, *SUM_COLUMNS),
    USER_STATS: SUM_COLUMNS,
    BUILDER_STATS: BUILDER_COLUMNS,
}
MERGE: dict[str, Callable[[Iterable[pl.DataFrame]], pl.DataFrame]] = {
    CANDLES: merge_candles,
    DAILY_STATS: merge_daily,
    USER_STATS: merge_user,
    BUILDER_STATS: merge_builders,
}
# Tables about the market. The fills of a few wallets do not describe the market, but do describe these wallets completely.
_OF_MARKET = (CANDLES, DAILY_STATS)


@dataclass(frozen=True, slots=True)
class Candles:
    """The rows of hl.candles for a day after its candles were made. `seconds`: duration since the start."""

    of_day: CandlesOfDay
    seconds: float

    @property
    def checks(self) -> list[Check]:
        count = self.of_day.out_of_order
        in_order = "Low, open, close and high are in order in every candle."
        description = f"{count} candles whose open or close is not between low and high." if count else in_order
        return [Check("prices_ordered", count == 0, description, metadata={"out_of_order": count})]


@dataclass(frozen=True, slots=True)
class DayStatistics:
    """The rows of a statistics table for a day.

    `fills_loaded`: the number of fills that they must account for, or None if the day is not loaded. `outside_market`: the number
    of fills left out because they do not represent the market. `seconds`: duration since the previous table, or since the start.
    """

    rows: pl.DataFrame
    fills_loaded: int | None
    outside_market: int
    seconds: float

    @property
    def checks(self) -> list[Check]:
        name, loaded = "fills_accounted_for", self.fills_loaded
        if loaded is None:
            return [Check(name, False, "No fills are loaded for this day yet. Materialize fills first.")]
        counted = int(self.rows["fills"].sum()) + int(self.rows["non_market_rows"].sum())
        differs = f"{counted} fills are counted here, but {loaded} are loaded. Run fills again."
        description = "Every fill is accounted for." if counted == loaded else differs
        return [Check(name, counted == loaded, description, metadata={"fills_here": counted, "fills_loaded": loaded})]


def make_figures_of_day(
    day: date, lake: Lake, connection: psycopg.Connection, tables: Collection[str] = TABLES
) -> Iterator[tuple[str, Candles | DayStatistics]]:
    """Make some of TABLES for a day and write them to PostgreSQL. Yields each table as soon as it is written.

    Candles are made for the hours that have had none since they were loaded, or for all hours if every hour has candles. While
    a day grows, the figures of each hour are kept in the lake, so that the hour is not read again next time.
    """
    began = time.perf_counter()
    statistics = [table for table in (DAILY_STATS, USER_STATS, BUILDER_STATS) if table in tables]
    with ExitStack() as locked:
        locked.enter_context(hours_of_fills(day, lake, connection))
        for table in statistics:
            locked.enter_context(lock_table_day(connection, table, day))
        loaded = read_fills_day(connection, day)
        is_growing = loaded is not None and loaded.state in _GROWING
        outside = hours_without_objects(lake, day) if set(tables) & {*_OF_MARKET} else set[int]()
        without_candles = read_hours_without_candles(connection, day) if CANDLES in tables else []
        with span("derive figures", day=day):
            figures = figures_of_hours(day, lake, statistics, without_candles, outside, keep=is_growing)
        for table in (table for table in TABLES if table in tables):
            # Not around the `yield`: what the caller then does is not part of it.
            with span(f"load {table}", day=day):
                rows = MERGE[table](figures.pop(table))
                if table == CANDLES:
                    of_day = replace_candles(connection, day, without_candles, rows)
                    made = Candles(of_day, time.perf_counter() - began)
                    emit(_log, "table_loaded", day=day, table=table, rows=of_day.rows)
                else:
                    rows, without_builder = _split_builders(rows) if table == BUILDER_STATS else (rows, 0)
                    rows = rows.with_columns(is_complete=pl.lit(_is_complete(loaded), pl.Boolean))
                    replace_day(connection, table, day, rows)
                    if not is_growing:
                        remove_partials(lake, table, day)
                    left_out = count_outside_market(lake, day, outside) if table in _OF_MARKET else 0
                    fills_loaded = None if loaded is None else loaded.rows - left_out - without_builder
                    made = DayStatistics(rows, fills_loaded, left_out, time.perf_counter() - began)
                    emit(_log, "table_loaded", day=day, table=table, rows=rows.height)
            yield table, made
            began = time.perf_counter()


def _split_builders(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the rows of builders, and the number of fills without one."""
    is_without = pl.col("coin") == WITHOUT_BUILDER
    return rows.filter(~is_without), int(
        rows.filter(is_without).select(pl.sum("fills", "non_market_rows")).sum_horizontal().sum()
    )


def _is_complete(loaded: FillsDay | None) -> bool | None:
    if loaded is None:
        return None
    return False if loaded.has_bad_lines else _IS_COMPLETE.get(loaded.state)


def figures_of_hours(
    day: date, lake: Lake, statistics: Sequence[str], without_candles: Collection[int], outside: set[int], *, keep: bool
) -> dict[str, list[pl.DataFrame]]:
    """Return the partial figures of the day's hours for each table, in order. Candles cover only the hours `without_candles`.

    Hours with kept statistics are not read again, unless all hours have them: then nothing is new, and the request is to remake
    the day. If `keep`, the new partial figures are kept too.
    """
    known = read_hours_of_fills(lake, day) if statistics else {}
    found: dict[str, list[tuple[int, pl.DataFrame]]] = {table: _read_kept(day, lake, table, known) for table in statistics}
    wanted = {table: {*range(24)} - {hour for hour, _ in kept} for table, kept in found.items()}
    wanted[CANDLES], found[CANDLES] = {*without_candles}, []
    # Small hours are read together, unless the figures of each hour are kept separately.
    together = groupby(range(24), lambda h: (tuple(t for t in TABLES if h in wanted.get(t, ())), h if keep and statistics else 0))
    for (tables, _), hours in together:
        [first, *more] = hours
        columns = dict.fromkeys(column for table in tables for column in _COLUMNS[table])
        fills_of_hours = hours_of_lake(lake, day, [*columns], [first, *more]) if tables else ()
        for fills in join_frames(fills_of_hours):
            for table, figures in figures_of(fills, tables, outside).items():
                if keep and table in statistics and first in known:
                    write_partial(lake, table, day, first, figures, known[first])
                found[table].append((first, figures))
    return {table: [figures for _, figures in sorted(of, key=lambda one: one[0])] for table, of in found.items()}


def _read_kept(day: date, lake: Lake, table: str, known: Mapping[int, HourOfFills]) -> list[tuple[int, pl.DataFrame]]:
    """Return the kept figures of the day's hours, or an empty list if every hour has them."""
    kept = {hour: read_partial(lake, table, day, hour, of) for hour, of in known.items()}
    found = [(hour, figures) for hour, figures in kept.items() if figures is not None]
    return found if len(found) < len(known) else []


def figures_of(fills: pl.DataFrame, tables: Iterable[str], outside: set[int]) -> dict[str, pl.DataFrame]:
    """Return the partial figures of fills for each table. Tables about the market leave out fills outside it (`market_of`)."""
    # Each row group is a separate chunk, and grouping several chunks takes a sixth longer.
    fills = fills.rechunk()
    market = market_of(fills, outside)
    trades = cache(lambda: trades_of(market))
    sums = cache(lambda: sums_of(fills))
    make: dict[str, Callable[[], pl.DataFrame]] = {
        CANDLES: lambda: candles_of(trades()),
        DAILY_STATS: lambda: daily_partial(sums() if market is fills else sums_of(market), trades()),
        USER_STATS: lambda: user_partial(fills, sums()),
        BUILDER_STATS: lambda: builder_partial(fills),
    }
    return {table: make[table]() for table in tables}


def hours_of_lake(lake: Lake, day: date, columns: Sequence[str], hours: Iterable[int] = range(24)) -> Iterator[pl.DataFrame]:
    """Yield columns of the day's fills, hour by hour. Hours without fills are skipped."""
    for hour in hours:
        frame = read_fills_hour(lake, day, hour, columns)
        if frame.height:
            yield frame


def hours_without_objects(lake: Lake, day: date) -> set[int]:
    """Return the hours (UTC) that have no object of a bucket in the lake, if the day has fills from the info API. Else none."""
    if not list_files(lake, f"{API_FILLS}/date={day}"):
        return set()
    names = (path.rpartition("/")[2] for path in list_files(lake, f"raw_fills/object_date={day}"))
    return set(range(24)) - {int(name[5:7]) for name in names if name.endswith(".parquet")}


def market_of(fills: pl.DataFrame, hours: set[int]) -> pl.DataFrame:
    """Return the fills without the info API's in `hours`, which have no bucket object: a few wallets are not the market."""
    return fills.filter(~_is_outside_market(hours)) if hours else fills


def count_outside_market(lake: Lake, day: date, hours: set[int]) -> int:
    """Return the number of a day's fills that `market_of` removes."""
    frames = hours_of_lake(lake, day, ("time", "object"), sorted(hours))
    return sum(frame.filter(_is_outside_market(hours)).height for frame in frames)


def _is_outside_market(hours: set[int]) -> pl.Expr:
    return pl.col("object").str.starts_with(f"{API_FILLS}/") & pl.col("time").dt.hour().is_in(sorted(hours))
