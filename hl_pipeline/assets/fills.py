"""`fills`: every fill of a UTC day, counted once, from the objects in the lake to `fills/date=D/` and to hl.fills.

New objects of a day that is there are added to it where that can be (`increments`): then the hours that they reach into are read
and counted, and no other.
"""

import logging
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import date

import polars as pl
import psycopg
from dagster import (
    AllPartitionMapping,
    AssetCheckResult,
    AssetDep,
    AssetExecutionContext,
    MaterializeResult,
    MetadataValue,
    asset,
)

from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, table_metadata
from hl_pipeline.assets.raw_api import raw_api_fills
from hl_pipeline.assets.raw_fills import judge, objects_around, raw_fills, severity
from hl_pipeline.domain.completeness import Judgement, hour_of, overlapping
from hl_pipeline.domain.datasets import API_FILLS, HOUR, start_of
from hl_pipeline.domain.deduplicate import LEG_KEY, Once, count_once
from hl_pipeline.domain.increments import hours_of, hours_to_append
from hl_pipeline.domain.records import ApiShard, ObjectMeta, version_of
from hl_pipeline.figures.trades import TRADE_KEY, is_market
from hl_pipeline.formats.fills import FILL_KEY, NO_FILLS, SUMMED_BELOW
from hl_pipeline.lake.api_fills import list_api_shards, read_api_fills_of_day, read_api_wallets
from hl_pipeline.lake.fills import objects_of_fills, read_fills_hour, read_hours_of_fills, read_raw_fills, write_fills_hour
from hl_pipeline.lake.store import Lake, LakeChangedError
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import LakeStorage, SettingsParam, WarehouseParam
from hl_pipeline.settings import Settings
from hl_pipeline.stages.disk_space import require_space_to_load
from hl_pipeline.stages.fills_retention import is_thinned, oldest_kept, thin_old_days
from hl_pipeline.warehouse.backfill_progress import count_states
from hl_pipeline.warehouse.dirty_days import read_clock, read_dirty
from hl_pipeline.warehouse.hour_totals import HourTally, HourTotals, read_proven, read_totals, record_proven
from hl_pipeline.warehouse.ledger import record_fetched, record_shard
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

_log = logging.getLogger(__name__)
_CHECKS = {
    "key_unique": "No fill is there twice by (time, coin, wallet, side, tid), and no repeat that was left out differs from it.",
    "legs_pair": "No trade has more than two legs, or two on one side; trades of which one leg alone is there are counted.",
    "lake_equals_database": "fills/date=D/ and hl.fills have the same rows: counts and sums, hour by hour.",
    "day_is_whole": "The day's objects are all there and its blocks run on over both midnights; or what lacks, and why.",
}


@asset(
    partitions_def=DAYS,
    # Any shard may have fills of any day: hl.dirty_days tells which days are to be loaded again.
    deps=[raw_fills, AssetDep(raw_api_fills, partition_mapping=AllPartitionMapping())],
    group_name="ingest",
    kinds={"parquet", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.fills") | column_lineage("hl.fills"),
    check_specs=[check_of_day("fills", name, text) for name, text in _CHECKS.items()],
)
def fills(
    context: AssetExecutionContext,
    lake_storage: LakeStorage,
    warehouse: WarehouseParam,
    settings: SettingsParam,
) -> MaterializeResult:
    """Every fill once, by UTC day.

    What happened on the day (UTC), each leg a row, none twice, from the best format that has it: in the lake by hour, in
    PostgreSQL by day.
    """
    day = date.fromisoformat(context.partition_key)
    lake = lake_storage.open()
    with warehouse.connect("hl fills") as connection:
        started = time.perf_counter()
        loaded, judgement = load_fills(day, lake, connection, settings)
        seconds = time.perf_counter() - started
        with lock_fills_day(connection, day, shared=True), ThreadPoolExecutor(1, thread_name_prefix="tally") as pool:
            proven = read_proven(connection, day)
            hours = [hour for hour in range(24) if hour not in proven]
            tallying = pool.submit(tally_lake, lake, day, hours)
            in_database = read_totals(connection, day, hours)
            thinned = is_thinned(connection, day)
            in_lake, tallies = tallying.result()
            equal = {hour: tally for hour, tally in tallies.items() if in_lake[hour] == in_database.get(hour)}
            record_proven(connection, day, equal)
        thin_old_days(connection, settings)
    tally = _sum_tallies([*proven.values(), *tallies.values()])
    return MaterializeResult(
        metadata=_describe(loaded, tally, judgement, seconds),
        check_results=[
            _check_key(tally, loaded),
            _check_legs(tally),
            _check_lake(in_lake, in_database, _sum_tallies(proven.values()).rows, thinned=thinned),
            _check_whole(judgement),
        ],
    )


def load_fills(day: date, lake: Lake, connection: psycopg.Connection, settings: Settings) -> tuple[LoadedDay, Judgement]:
    """Make the lake's objects of `day` all that fills/date=D/ and hl.fills have of it, and judge the day by just these.

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
                judgement = replace(judge(day, around, connection, settings), beside=_say_shards(connection, lake, shards))
            metas = overlapping(day, around)
            ids = {meta.key: record_fetched(connection, meta, keep_error=True) for meta in metas}
            ids |= {meta.key: record_shard(connection, meta) for meta in shards}
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


def _sum_tallies(tallies: Collection[HourTally]) -> HourTally:
    return HourTally(*(sum(getattr(tally, field.name) for tally in tallies) for field in fields(HourTally)))


def _describe(loaded: LoadedDay, tally: HourTally, judgement: Judgement, seconds: float) -> dict[str, int | float | str]:
    of_source = {f"rows_from_{source}": rows for source, rows in loaded.rows_of_source.items()}
    return {
        "state": judgement.state,
        "explanation": judgement.explain(),
        "source": judgement.source_names,
        "dagster/partition_row_count": loaded.rows,
        "duplicates_dropped": loaded.duplicates,
        "trades": tally.trades,
        "trades_with_one_leg": tally.single_legs,
        **(of_source if len(of_source) > 1 else {}),
        "missing_blocks": judgement.missing_blocks,
        "in_postgres": not loaded.is_thinned,
        "hours_made": loaded.hours_made,
        "seconds": round(seconds, 3),
        "copy_seconds": round(loaded.copy_seconds, 3),
        "index_seconds": round(loaded.index_seconds, 3),
    }


def _check_key(tally: HourTally, loaded: LoadedDay) -> AssetCheckResult:
    said = f"{tally.repeated} rows repeat a fill, {loaded.conflicts} repeats that were left out say other things of it."
    return AssetCheckResult(
        check_name="key_unique",
        passed=tally.repeated == loaded.conflicts == 0,
        description=said if tally.repeated or loaded.conflicts else "Every fill is there once.",
        metadata={"repeated": tally.repeated, "duplicates_dropped": loaded.duplicates, "conflicts": loaded.conflicts},
    )


def _check_legs(tally: HourTally) -> AssetCheckResult:
    return AssetCheckResult(
        check_name="legs_pair",
        passed=tally.crowded == 0,
        description=f"{tally.trades} trades: {tally.single_legs} with one leg, {tally.crowded} with legs that are no pair.",
        metadata={"trades": tally.trades, "trades_with_one_leg": tally.single_legs, "not_a_pair": tally.crowded},
    )


def _check_lake(
    lake: dict[int, HourTotals], database: dict[int, HourTotals], proven_rows: int = 0, *, thinned: bool = False
) -> AssetCheckResult:
    """`proven_rows`: of the hours that were found equal before, and have not been loaded since."""
    expected = {} if thinned else lake
    differing = sorted(hour for hour in expected.keys() | database.keys() if expected.get(hour) != database.get(hour))
    equal = "In the lake alone: taken out of hl.fills by HL_FILLS_KEEP_DAYS or hl drop." if thinned else "The same rows in both."
    return AssetCheckResult(
        check_name="lake_equals_database",
        passed=not differing,
        description=f"Hours that differ: {differing}; materialize fills of this day again." if differing else equal,
        metadata={
            "rows_in_lake": proven_rows + sum(totals.rows for totals in lake.values()),
            "rows_in_database": proven_rows + sum(totals.rows for totals in database.values()),
            "differing_hours": MetadataValue.json(differing),
        },
    )


def _check_whole(judgement: Judgement) -> AssetCheckResult:
    return AssetCheckResult(
        check_name="day_is_whole",
        passed=judgement.is_whole,
        severity=severity(judgement.is_harmless),
        description=judgement.explain(),
        metadata={
            "missing_hours": sum(state.state != "present" for state in judgement.hours),
            "missing_blocks": judgement.missing_blocks,
        },
    )
