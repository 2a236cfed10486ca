"""Load a day's fills from the lake's objects into `fills/date=D/` and hl.fills, each fill once, and compare the two.

The stage reads the facts, `domain.load_plan` decides, and the stage applies the plan. If possible, new objects of a loaded day
are appended, and only the hours that they reach into are read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial

import numpy as np
import polars as pl
import psycopg

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.domain.datasets import HOUR, start_of
from hl_pipeline.domain.deduplicate import Deduplicated, deduplicate
from hl_pipeline.domain.errors import LakeLacksError
from hl_pipeline.domain.fills_checks import check_key, check_lake_equals_database, check_legs, check_whole
from hl_pipeline.domain.load_plan import Append, DayFacts, Refuse, Replace, hours_of, plan_load
from hl_pipeline.domain.records import ApiShard, ObjectMeta
from hl_pipeline.domain.tallies import HourTally, HourTotals, sum_tallies
from hl_pipeline.figures.tally import TALLY_COLUMNS, tally_hour, total_hour
from hl_pipeline.formats.fills import NO_FILLS
from hl_pipeline.lake.api_fills import read_api_shards
from hl_pipeline.lake.described import DATAPACKAGE, write_datapackage
from hl_pipeline.lake.fills import FillsReader, changing_hours, read_fills_hour, read_origin_of_fills, write_fills_hour
from hl_pipeline.lake.store import Lake, LakeChangedError
from hl_pipeline.settings import Settings
from hl_pipeline.stages.day_hours import PackedDay, find_packed_source, is_made_from
from hl_pipeline.stages.disk_space import require_space_to_load
from hl_pipeline.stages.fills_retention import oldest_kept, thin_old_days
from hl_pipeline.stages.give_back_memory import give_back_memory
from hl_pipeline.stages.judge import judge_hours, objects_around
from hl_pipeline.tracing import span
from hl_pipeline.warehouse.backfill_progress import count_states
from hl_pipeline.warehouse.dirty_days import read_dirty, read_mark
from hl_pipeline.warehouse.fills_days import read_fills_day
from hl_pipeline.warehouse.fills_partitions import LoadedDay, ObjectOfDay, append_hours, load_day, read_loaded, read_places
from hl_pipeline.warehouse.hour_totals import read_totals, read_verified, record_verified
from hl_pipeline.warehouse.ledger import record_fetched
from hl_pipeline.warehouse.locks import lock_fills_day, lock_judging, lock_object


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of a day in the lake and in hl.fills.

    `in_lake`, `in_database`: the totals of the hours that were compared now. `tally`: the counts of all its hours.
    `verified_rows`: the rows of hours that were verified before. `is_thinned`: its rows are only in the lake.
    """

    in_lake: dict[int, HourTotals]
    in_database: dict[int, HourTotals]
    tally: HourTally
    verified_rows: int
    is_thinned: bool


@dataclass(frozen=True, slots=True)
class LoadedFills:
    """A loaded day, its verdict, and the comparison of lake and hl.fills. `seconds`: duration of the load alone."""

    day: LoadedDay
    verdict: DayVerdict
    comparison: Comparison
    seconds: float

    @property
    def rows(self) -> int:
        return self.day.rows

    @property
    def duplicates(self) -> int:
        return self.day.duplicates

    @property
    def is_thinned(self) -> bool:
        """Whether the load wrote the rows only to the lake."""
        return self.day.is_thinned

    @property
    def tally(self) -> HourTally:
        return self.comparison.tally

    @property
    def checks(self) -> list[Check]:
        compared = self.comparison
        return [
            check_key(self.tally, self.duplicates, self.day.conflicts),
            check_legs(self.tally),
            check_lake_equals_database(
                compared.in_lake, compared.in_database, compared.verified_rows, is_thinned=compared.is_thinned
            ),
            check_whole(self.verdict),
        ]


def load_fills(day: date, lake: Lake, connection: psycopg.Connection, settings: Settings) -> LoadedFills:
    """Load a day (`load_objects`), compare lake and hl.fills, and thin hl.fills by HL_FILLS_KEEP_DAYS."""
    with (
        span("load fills", day=day),
        lock_fills_day(connection, day),
        ThreadPoolExecutor(1, thread_name_prefix="tally") as pool,
    ):
        tallying: list[Future[_Tallied]] = []

        def tally(hours: Collection[int]) -> None:
            tallying.append(pool.submit(tally_lake, lake, day, hours))

        started = time.perf_counter()
        # Release the memory that decoding left unused: otherwise a run's peak is a third higher.
        give_back_memory()
        loaded, verdict = load_objects(day, lake, connection, settings, when_written=tally)
        seconds = time.perf_counter() - started
        verified = read_verified(connection, day)
        hours = [hour for hour in range(24) if hour not in verified]
        in_database = read_totals(connection, day, hours)
        fills_day = read_fills_day(connection, day)
        # After several tries, the last one wrote what is there now.
        in_lake, tallies = tallying[-1].result()
        others = tally_lake(lake, day, set(hours) - in_lake.keys())
        in_lake, tallies = in_lake | others[0], tallies | others[1]
        equal = {hour: tally for hour, tally in tallies.items() if in_lake[hour] == in_database.get(hour)}
        record_verified(connection, day, equal)
    with lock_object(connection, DATAPACKAGE):
        write_datapackage(lake)
    thin_old_days(lake, connection, settings)
    tally_of_day = sum_tallies([*verified.values(), *tallies.values()])
    verified_rows = sum(tally.rows for tally in verified.values())
    is_thinned = fills_day is not None and fills_day.is_thinned
    compared = Comparison(in_lake, in_database, tally_of_day, verified_rows, is_thinned)
    return LoadedFills(loaded, verdict, compared, seconds)


def load_objects(
    day: date,
    lake: Lake,
    connection: psycopg.Connection,
    settings: Settings,
    when_written: Callable[[Collection[int]], None] = lambda _: None,
) -> tuple[LoadedDay, DayVerdict]:
    """Make fills/date=D/ and hl.fills contain exactly the lake's objects of `day`, and judge the day by these objects.

    `when_written` is called in another thread with the hours that were made, once they are in the lake but not yet in hl.fills.

    Raises DayInUseError, NoSpaceError, and LakeLacksError if objects that the day was loaded from are no longer in the lake.
    """
    with lock_fills_day(connection, day):
        for tries_left in (2, 1, 0):
            mark = read_mark(connection, day)
            with lock_judging(connection, day):
                facts = read_facts(day, lake, connection, settings)
                packed = find_packed_source(facts, lake, connection)
                if packed is not None:
                    # The hours were removed: what they came from is in the compacted file.
                    keys = {key for of in packed.hours.values() for key, _, _ in of.objects}
                    facts = replace(facts, keys_in_fills=facts.keys_in_fills | keys)
                plan = plan_load(facts)
                if isinstance(plan, Refuse):
                    raise LakeLacksError(plan.reason)
                verdict = judge_hours(day, [*facts.objects_around], connection, settings)
                verdict = replace(verdict, of_api_fills=_explain_api_fills(facts, connection))
            sources = _record_sources(facts, connection)
            require_space_to_load(settings, day, sum(meta.rows for meta in plan.new))
            hours = plan.hours if isinstance(plan, Append) else range(24)
            if isinstance(plan, Replace) and packed is not None and is_made_from(packed, facts):
                of_day = _unpack(day, lake, packed)
            else:
                of_day = hours_of_day(day, lake, facts.objects, hours, facts.shards)
            made = _read_ahead(of_day, partial(when_written, hours))
            try:
                with changing_hours(lake, day, "load"):
                    return apply(plan, day, made, sources, verdict, connection, settings, mark), verdict
            except LakeChangedError:
                if not tries_left:
                    raise
    raise AssertionError("the last try returns or raises")


def _unpack(day: date, lake: Lake, packed: PackedDay) -> Iterator[tuple[int, Deduplicated]]:
    """Yield the hours of a day from its compacted file, and write them to the lake."""
    # Imported here: DuckDB is not needed for other loads.
    from hl_pipeline.lake.unpacked_hours import unpack_hours

    return unpack_hours(lake, day, packed.path, packed.hours)


def read_facts(day: date, lake: Lake, connection: psycopg.Connection, settings: Settings) -> DayFacts:
    """Read the facts about a day from lake and database. The caller holds lock_fills_day and lock_judging."""
    around = objects_around(lake, day)
    shards, api_wallets = read_api_shards(lake, day)
    loaded = read_loaded(connection, day)
    known = read_fills_day(connection, day)
    keys_in_fills, hours = read_origin_of_fills(lake, day)
    return DayFacts(
        day=day,
        lake=lake.root,
        objects_around=around,
        shards=shards,
        api_wallets=api_wallets,
        keys_in_fills=keys_in_fills,
        hour_files={hour: known.objects for hour, known in hours.items()},
        places_in_database=read_places(connection, day),
        loaded=loaded,
        is_dirty=day in read_dirty(connection),
        # A day leaves hl.fills only through the compacted lake (`fills_retention`), so a day that is there is replaced there.
        is_thin=day < oldest_kept(settings) and (known is None or known.is_thinned or not known.rows),
    )


def apply(
    plan: Replace | Append,
    day: date,
    hours: Iterable[tuple[int, Deduplicated]],
    sources: dict[str, ObjectOfDay],
    verdict: DayVerdict,
    connection: psycopg.Connection,
    settings: Settings,
    mark: datetime | None,
) -> LoadedDay:
    """Load the plan's `hours` into hl.fills. `mark`: the day's mark as it was before the facts were read."""
    if isinstance(plan, Append):
        return append_hours(connection, day, hours, sources, {meta.key for meta in plan.new}, verdict)
    return load_day(connection, day, hours, sources, verdict, settings.swap_wait_seconds, mark=mark, thin=plan.is_thin)


def _record_sources(facts: DayFacts, connection: psycopg.Connection) -> dict[str, ObjectOfDay]:
    """Record the lake's objects of the day in the ledger. Returns them by key."""
    ids = {meta.key: record_fetched(connection, meta, keep_error=True) for meta in facts.objects}
    ids |= {meta.key: record_fetched(connection, meta) for meta in facts.shards}
    return {meta.key: ObjectOfDay(ids[meta.key], meta.etag, meta.parser) for meta in [*facts.objects, *facts.shards]}


def _explain_api_fills(facts: DayFacts, connection: psycopg.Connection) -> str:
    """Describe what a day has from the info API. Returns an empty text if it has nothing."""
    if not facts.shards:
        return ""
    complete, truncated = count_states(connection, [*facts.api_wallets])
    rows = sum(meta.rows for meta in facts.shards)
    return f" From the info API {rows} fills of {len(facts.api_wallets)} wallets: {complete} complete, {truncated} truncated."


def hours_of_day(
    day: date, lake: Lake, metas: Sequence[ObjectMeta], hours: Collection[int] = range(24), shards: Sequence[ApiShard] = ()
) -> Iterator[tuple[int, Deduplicated]]:
    """Yield `hours` (0-23, ascending) of the day with the fills of each, and write each to the lake before the next is yielded.

    Memory holds only the row groups, and the shards of the info API, that reach into one hour.
    """
    origins = [*metas, *shards]
    of_hours = {hour: [meta for meta in origins if hour in hours_of(day, meta)] for hour in hours}
    wanted = [meta for meta in origins if any(meta in of_hour for of_hour in of_hours.values())]
    unread = deque(sorted(wanted, key=lambda meta: meta.first_time_ms or 0))
    pending: list[pl.DataFrame] = []
    reading: list[FillsReader] = []
    writing: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
        for hour, made_of in of_hours.items():
            start = start_of(day) + HOUR * hour
            end_ms = (start + HOUR).timestamp() * 1000
            while unread and (unread[0].first_time_ms or 0) < end_ms:
                reading.append(FillsReader(lake, unread.popleft()))
            for reader in reading:
                while reader.next_ms is not None and reader.next_ms < end_ms:
                    pending.append(reader.read())
            pending = [frame for frame in (_between(frame, start, None) for frame in pending) if frame.height]
            deduplicated = deduplicate(pl.concat([NO_FILLS, *(_between(frame, None, start + HOUR) for frame in pending)]))
            if writing is not None:
                writing.result()
            # Write to the lake while the caller copies the hour.
            writing = pool.submit(write_fills_hour, lake, day, hour, deduplicated.fills, made_of)
            yield hour, deduplicated
        if writing is not None:
            writing.result()


def _between(fills: pl.DataFrame, start: datetime | None, end: datetime | None) -> pl.DataFrame:
    """Return the fills from `start` on and before `end`."""
    times = fills["time"]
    if times.is_sorted():
        first = 0 if start is None else times.search_sorted(start, "left")
        part = fills.slice(first, (fills.height if end is None else times.search_sorted(end, "left")) - first)
        # A slice keeps the memory of its whole source alive, so copy small parts.
        return part if 2 * part.height > fills.height else part[np.arange(part.height)]
    is_before = True if end is None else pl.col("time") < end
    return fills.filter(is_before if start is None else is_before & (pl.col("time") >= start))


def _read_ahead(hours: Iterator[tuple[int, Deduplicated]], when_read: Callable[[], None]) -> Iterator[tuple[int, Deduplicated]]:
    """Yield the same hours, reading the next one while the caller uses the current one. Calls `when_read` after the last."""

    def read() -> tuple[int, Deduplicated] | None:
        hour = next(hours, None)
        if hour is None:
            when_read()
        return hour

    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        following = pool.submit(read)
        while (hour := following.result()) is not None:
            following = pool.submit(read)
            yield hour


_Tallied = tuple[dict[int, HourTotals], dict[int, HourTally]]


def tally_lake(lake: Lake, day: date, hours: Iterable[int] = range(24)) -> _Tallied:
    """Count the lake's fills of some hours of `day`, as written. Hours without fills are left out."""
    totals: dict[int, HourTotals] = {}
    tallies: dict[int, HourTally] = {}
    for hour in hours:
        fills = read_fills_hour(lake, day, hour, TALLY_COLUMNS)
        if fills.height:
            totals[hour], tallies[hour] = total_hour(fills), tally_hour(fills)
    return totals, tallies
