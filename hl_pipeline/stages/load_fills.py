"""Load a day's fills from the lake's objects into `fills/date=D/` and hl.fills, each fill once.

New objects of a loaded day are added to it where that is possible (`increments`): then only the hours that they reach into
are read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import date

import polars as pl
import psycopg

from hl_pipeline.domain.completeness import DayVerdict, hour_of, overlapping
from hl_pipeline.domain.datasets import API_FILLS, HOUR, start_of
from hl_pipeline.domain.deduplicate import LEG_KEY, Once, count_once
from hl_pipeline.domain.increments import hours_of, hours_to_append
from hl_pipeline.domain.records import ApiShard, ObjectMeta, version_of
from hl_pipeline.figures.trades import TRADE_KEY, is_market
from hl_pipeline.formats.fills import FILL_KEY, NO_FILLS, SUMMED_BELOW
from hl_pipeline.lake.api_fills import list_api_shards, read_api_fills_of_day, read_api_wallets
from hl_pipeline.lake.fills import objects_of_fills, read_fills_hour, read_hours_of_fills, read_raw_fills, write_fills_hour
from hl_pipeline.lake.store import Lake, LakeChangedError
from hl_pipeline.settings import Settings
from hl_pipeline.stages.disk_space import require_space_to_load
from hl_pipeline.stages.fills_retention import oldest_kept
from hl_pipeline.stages.judge import judge_fills, objects_around
from hl_pipeline.warehouse.backfill_progress import count_states
from hl_pipeline.warehouse.dirty_days import read_clock, read_dirty
from hl_pipeline.warehouse.hour_totals import HourTally, HourTotals
from hl_pipeline.warehouse.ledger import record_fetched
from hl_pipeline.warehouse.load_fills import (
    LoadedDay,
    SourceOfDay,
    Verdict,
    append_hours,
    load_day,
    read_loaded,
    refuse_lost_objects,
)
from hl_pipeline.warehouse.locks import lock_fills_day, lock_judging


def load_fills(day: date, lake: Lake, connection: psycopg.Connection, settings: Settings) -> tuple[LoadedDay, DayVerdict]:
    """Make the lake's objects of `day` all that fills/date=D/ and hl.fills have of it, and judge_fills the day by just these.

    Raises DayInUseError, NoSpaceError, and LakeLacksError when objects that gave the day its rows are in the lake no more.
    """
    with lock_fills_day(connection, day):
        for tries_left in (2, 1, 0):
            began = read_clock(connection)
            with lock_judging(connection, day):
                around = objects_around(lake, day)
                shards = list_api_shards(lake, day)
                hours_there = {(meta.source, hour_of(meta).date(), meta.hour) for meta in around}
                hours_there |= {(API_FILLS, day, int(meta.shard, 16)) for meta in shards}
                refuse_lost_objects(connection, day, hours_there, objects_of_fills(lake, day), lake.root)
                judgement = replace(judge_fills(day, around, connection, settings), beside=_say_shards(connection, lake, shards))
            metas = overlapping(day, around)
            ids = {meta.key: record_fetched(connection, meta, keep_error=True) for meta in metas}
            ids |= {meta.key: record_fetched(connection, meta) for meta in shards}
            sources = {meta.key: SourceOfDay(ids[meta.key], meta.etag, meta.parser) for meta in [*metas, *shards]}
            verdict = Verdict(judgement.state, judgement.explain(), [edge.said for edge in judgement.edges])
            thin = day < oldest_kept(settings)
            loaded = read_loaded(connection, day)
            in_lake = {hour: known.objects for hour, known in read_hours_of_fills(lake, day).items()} if loaded else {}
            # A note says that something other than a new object has come; and rows of the info API can take the place of others,
            # or others theirs, in any hour.
            whole = thin or bool(shards) or day in read_dirty(connection)
            touched = None if whole else hours_to_append(day, metas, loaded, in_lake)
            new = [meta for meta in [*metas, *shards] if touched is None or version_of(meta) not in loaded]
            require_space_to_load(settings, day, sum(meta.rows for meta in new))
            try:
                if touched is not None:
                    hours = _ahead(hours_of_day(day, lake, metas, touched))
                    return append_hours(connection, day, hours, sources, {meta.key for meta in new}, verdict), judgement
                hours = _ahead(hours_of_day(day, lake, metas, shards=shards))
                wait = settings.swap_wait_seconds
                return load_day(connection, day, hours, sources, verdict, wait, began=began, thin=thin), judgement
            except LakeChangedError:
                if not tries_left:
                    raise
    raise AssertionError("the last try returns or raises")


def _say_shards(connection: psycopg.Connection, lake: Lake, shards: list[ApiShard]) -> str:
    """What a day has from the info API, in words; nothing, if it has nothing."""
    if not shards:
        return ""
    wallets = read_api_wallets(lake, shards)
    complete, truncated = count_states(connection, wallets)
    rows = sum(meta.rows for meta in shards)
    return f" From the info API {rows} fills of {len(wallets)} wallets: {complete} complete, {truncated} truncated."


def hours_of_day(
    day: date, lake: Lake, metas: list[ObjectMeta], hours: Collection[int] = range(24), shards: Sequence[ApiShard] = ()
) -> Iterator[tuple[int, Once]]:
    """`hours` (0-23, rising) of the day, and the fills of each, also written to the lake. In memory are the objects that reach
    into one hour, and what the info API has of the day.
    """
    of_hours = {hour: [meta for meta in metas if hour in hours_of(day, meta)] for hour in hours}
    wanted = [meta for meta in metas if any(meta in of_hour for of_hour in of_hours.values())]
    unread = deque(sorted(wanted, key=lambda meta: meta.first_time_ms or 0))
    pending = [read_api_fills_of_day(lake, shards)] if shards else []
    for hour, of_hour in of_hours.items():
        start = start_of(day) + HOUR * hour
        while unread and (unread[0].first_time_ms or 0) < (start + HOUR).timestamp() * 1000:
            pending.append(_read_object(lake, unread.popleft()))
        pending = [frame for frame in (frame.filter(pl.col("time") >= start) for frame in pending) if frame.height]
        once = count_once(pl.concat([NO_FILLS, *(frame.filter(pl.col("time") < start + HOUR) for frame in pending)]))
        write_fills_hour(lake, day, hour, once.fills, [*of_hour, *(meta for meta in shards if hour in hours_of(day, meta))])
        yield hour, once


def _read_object(lake: Lake, meta: ObjectMeta) -> pl.DataFrame:
    frame = read_raw_fills(lake, meta)
    times = frame.select(pl.col("time").min().alias("first"), pl.col("time").max().alias("last")).cast(pl.Int64).row(0)
    assert times == (meta.first_time_ms, meta.last_time_ms), f"{meta.key} has fills of other times than its file says"
    return frame


def _ahead(hours: Iterator[tuple[int, Once]]) -> Iterator[tuple[int, Once]]:
    """The same hours, the next one read while one is copied."""
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        following = pool.submit(next, hours, None)
        while (hour := following.result()) is not None:
            following = pool.submit(next, hours, None)
            yield hour


def tally_lake(lake: Lake, day: date, hours: Iterable[int] = range(24)) -> tuple[dict[int, HourTotals], dict[int, HourTally]]:
    """Count the lake's fills of some hours of `day` as they were written; those without fills are left out."""
    totals: dict[int, HourTotals] = {}
    tallies: dict[int, HourTally] = {}
    for hour in hours:
        frame = read_fills_hour(lake, day, hour, [*FILL_KEY, "sz", "oid", "counterparty_oid", "twap_id", "dir"])
        if frame.is_empty():
            continue
        # Sums of order ids go beyond 64 bits; of sizes too large to be added up the database leaves out the same.
        sz = pl.col("sz").filter(pl.col("sz") < SUMMED_BELOW).sum()
        oids = pl.col("oid").cast(pl.Int128).sum().cast(pl.Decimal(38, 0))
        totals[hour] = HourTotals(*frame.select(pl.len(), sz, oids, pl.count("twap_id")).row(0))
        # Where there is a tid the orders are no part of the key.
        without_tid = [pl.when(pl.col("tid").is_null()).then(pl.col(name)) for name in LEG_KEY[4:]]
        repeated = frame.height - frame.select(*FILL_KEY, *without_tid).unique().height
        trade = frame.filter(is_market()).group_by(*TRADE_KEY)
        legs = trade.agg(pl.len().alias("legs"), (pl.col("side") == "B").sum().alias("buys"))
        is_pair = (pl.col("legs") == 2) & (pl.col("buys") == 1)
        single_legs = legs.filter(pl.col("legs") == 1).height
        crowded = legs.filter((pl.col("legs") > 1) & ~is_pair).height
        tallies[hour] = HourTally(frame.height, repeated, legs.height, single_legs, crowded)
    return totals, tallies


def sum_tallies(tallies: Collection[HourTally]) -> HourTally:
    return HourTally(*(sum(getattr(tally, field.name) for tally in tallies) for field in fields(HourTally)))
