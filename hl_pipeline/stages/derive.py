"""Make a day's candles and statistics from its fills in the lake."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import psycopg

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.datasets import API_FILLS
from hl_pipeline.events import emit
from hl_pipeline.figures.candles import CANDLE_COLUMNS, candles_of_day
from hl_pipeline.figures.daily_stats import DAILY_STATS_COLUMNS, daily_partial, merge_daily
from hl_pipeline.figures.user_stats import USER_STATS_COLUMNS, merge_user, user_partial
from hl_pipeline.lake.fills import join_frames, read_fills_hour, read_hours_of_fills
from hl_pipeline.lake.partials import read_partial, remove_partials, write_partial
from hl_pipeline.lake.store import Lake, list_files
from hl_pipeline.warehouse.fills_days import read_fills_day
from hl_pipeline.warehouse.load_table import CandlesOfDay, read_hours_without_candles, replace_candles, replace_day
from hl_pipeline.warehouse.locks import lock_fills_day, lock_table_day

_log = logging.getLogger(__name__)
_IS_COMPLETE = {"whole": True, "incomplete": False, "pending": False}
_GROWING = ("pending", "incomplete")


@dataclass(frozen=True, slots=True)
class Statistics:
    """A table of figures of a day: the columns of fills that it needs, what an hour of them adds to it, the hours merged; and
    whether it is about the market, of which the fills of a few wallets tell nothing.
    """

    table: str
    is_of_market: bool
    columns: Sequence[str]
    partial: Callable[[pl.DataFrame], pl.DataFrame]
    merge: Callable[[Iterable[pl.DataFrame]], pl.DataFrame]


DAILY = Statistics("daily_stats", True, DAILY_STATS_COLUMNS, daily_partial, merge_daily)
USER = Statistics("user_stats", False, USER_STATS_COLUMNS, user_partial, merge_user)


@dataclass(frozen=True, slots=True)
class Candles:
    """What hl.candles has of a day after its candles were made."""

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
    """The rows of a table of statistics for a day. `fills_loaded`: how many fills they are to account for, None if none were
    loaded; `outside_market`: how many fills were left out, since they are not the market.
    """

    rows: pl.DataFrame
    fills_loaded: int | None
    outside_market: int
    seconds: float

    @property
    def checks(self) -> list[Check]:
        name, loaded = "fills_accounted_for", self.fills_loaded
        if loaded is None:
            return [Check(name, False, "No fills of the day were loaded yet: materialize fills first.")]
        counted = int(self.rows["fills"].sum()) + int(self.rows["non_market_rows"].sum())
        differs = f"{counted} fills here, {loaded} were loaded: run fills again."
        description = "Every fill is accounted for." if counted == loaded else differs
        return [Check(name, counted == loaded, description, metadata={"fills_here": counted, "fills_loaded": loaded})]


def make_candles_of_day(day: date, lake: Lake, connection: psycopg.Connection) -> Candles:
    """Make the candles of the hours that have none since they were loaded; of all hours when every one has."""
    started = time.perf_counter()
    with lock_fills_day(connection, day, shared=True):
        hours = read_hours_without_candles(connection, day)
        outside = hours_without_objects(lake, day)
        market = (market_of(frame, outside) for frame in hours_of_lake(lake, day, CANDLE_COLUMNS, hours))
        rows = candles_of_day(join_frames(market))
        made = replace_candles(connection, day, hours, rows)
    emit(_log, "table_loaded", day=day, table="candles", rows=made.rows)
    return Candles(made, time.perf_counter() - started)


def make_statistics_of_day(day: date, lake: Lake, connection: psycopg.Connection, statistics: Statistics) -> DayStatistics:
    """Make the table's rows of a day, in PostgreSQL too."""
    started = time.perf_counter()
    table = statistics.table
    with lock_fills_day(connection, day, shared=True), lock_table_day(connection, table, day):
        loaded = read_fills_day(connection, day)
        is_growing = loaded is not None and loaded.state in _GROWING
        outside = hours_without_objects(lake, day) if statistics.is_of_market else set[int]()
        left_out = count_outside_market(lake, day, outside)
        rows = statistics.merge(_partials_of_day(day, lake, statistics, outside, keep=is_growing))
        is_complete = None
        if loaded is not None:
            is_complete = False if loaded.has_bad_lines else _IS_COMPLETE.get(loaded.state)
        rows = rows.with_columns(is_complete=pl.lit(is_complete, pl.Boolean))
        replace_day(connection, table, day, rows)
        if not is_growing:
            remove_partials(lake, table, day)
    emit(_log, "table_loaded", day=day, table=table, rows=rows.height)
    fills_loaded = None if loaded is None else loaded.rows - left_out
    return DayStatistics(rows, fills_loaded, left_out, time.perf_counter() - started)


def _partials_of_day(day: date, lake: Lake, statistics: Statistics, outside: set[int], *, keep: bool) -> Iterator[pl.DataFrame]:
    """What each hour of the lake's fills adds to the table, without the fills outside the market (`market_of`). Hours whose
    figures were kept are not read again, unless all were kept: then nothing is new, and the day is wanted made again. `keep` the
    figures that are made now.
    """
    hours = read_hours_of_fills(lake, day)
    kept = {hour: read_partial(lake, statistics.table, day, hour, of) for hour, of in hours.items()}
    is_new = any(partial is None for partial in kept.values())
    if not keep and all(partial is None for partial in kept.values()):
        fills = hours_of_lake(lake, day, statistics.columns)
        yield from map(statistics.partial, join_frames(market_of(frame, outside) for frame in fills))
        return
    for hour in range(24):
        partial = kept.get(hour)
        if partial is not None and is_new:
            yield partial
            continue
        fills = read_fills_hour(lake, day, hour, statistics.columns)
        if fills.is_empty():
            continue
        partial = statistics.partial(market_of(fills, outside))
        if keep and hour in hours:
            write_partial(lake, statistics.table, day, hour, partial, hours[hour])
        yield partial


def hours_of_lake(lake: Lake, day: date, columns: Sequence[str], hours: Iterable[int] = range(24)) -> Iterator[pl.DataFrame]:
    """Columns of the day's fills, hour by hour; hours without fills are left out."""
    for hour in hours:
        frame = read_fills_hour(lake, day, hour, columns)
        if frame.height:
            yield frame


def hours_without_objects(lake: Lake, day: date) -> set[int]:
    """Of a day that has fills from the info API, the hours (UTC) without a bucket's object in the lake; of other days none."""
    if not list_files(lake, f"{API_FILLS}/date={day}"):
        return set()
    names = (path.rpartition("/")[2] for path in list_files(lake, f"raw_fills/object_date={day}"))
    return set(range(24)) - {int(name[5:7]) for name in names if name.endswith(".parquet")}


def market_of(fills: pl.DataFrame, hours: set[int]) -> pl.DataFrame:
    """Fills without those of the info API in `hours`, those without objects: the fills of a few wallets are not the market."""
    return fills.filter(~_is_outside_market(hours)) if hours else fills


def count_outside_market(lake: Lake, day: date, hours: set[int]) -> int:
    """How many fills of a day `market_of` leaves out."""
    frames = hours_of_lake(lake, day, ("time", "object"), sorted(hours))
    return sum(frame.filter(_is_outside_market(hours)).height for frame in frames)


def _is_outside_market(hours: set[int]) -> pl.Expr:
    return pl.col("object").str.starts_with(f"{API_FILLS}/") & pl.col("time").dt.hour().is_in(sorted(hours))
