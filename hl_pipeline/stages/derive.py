"""Make a day's candles and statistics from its fills in the lake."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import psycopg

from hl_pipeline.domain.datasets import API_FILLS
from hl_pipeline.events import emit
from hl_pipeline.figures.candles import CANDLE_COLUMNS, candles_of_day
from hl_pipeline.figures.daily_stats import DAILY_STATS_COLUMNS, daily_partial, merge_daily
from hl_pipeline.figures.user_stats import USER_STATS_COLUMNS, merge_user, user_partial
from hl_pipeline.lake.fills import read_fills_hour, read_hours_of_fills
from hl_pipeline.lake.partials import read_partial, remove_partials, write_partial
from hl_pipeline.lake.store import Lake, list_files
from hl_pipeline.warehouse.load_table import CandlesOfDay, read_hours_without_candles, replace_candles, replace_day
from hl_pipeline.warehouse.locks import lock_fills_day, lock_table_day

_log = logging.getLogger(__name__)

_DAY = """
SELECT rows, state, hl.has_bad_lines(date) FROM hl.fills_days WHERE date = %s
"""

_COMPLETE = {"whole": True, "incomplete": False, "pending": False}

_GROWING = ("pending", "incomplete")


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
