"""`raw_twap_statuses`: the objects of TWAP statuses into the lake; `twap_statuses`: every event of a day once, into lake and
PostgreSQL.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import BinaryIO

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

from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, status_lake_metadata, table_metadata
from hl_pipeline.assets.raw_api import raw_api_twap_history
from hl_pipeline.assets.raw_fills import check_bad_lines, severity
from hl_pipeline.domain.datasets import STATUSES, days_around, start_of
from hl_pipeline.domain.deduplicate_statuses import OnceStatuses, count_statuses_once
from hl_pipeline.domain.errors import BucketDeniedError, BucketError, BudgetError
from hl_pipeline.domain.records import SourceObject, StatusObject
from hl_pipeline.domain.status_completeness import StatusJudgement, find_strays, judge_status_day
from hl_pipeline.events import emit
from hl_pipeline.formats.framing import UnreadableObjectError, decompress, whole_lines
from hl_pipeline.formats.twap_statuses import DecodedStatuses, decode_json_lines, decode_parquet
from hl_pipeline.lake.store import Lake
from hl_pipeline.lake.twaps import (
    list_status_objects,
    no_events,
    read_api_history,
    read_status_object,
    read_status_object_meta,
    status_object_path,
    write_status_object,
    write_statuses,
)
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import LakeStorage, SettingsParam, TwapData, WarehouseParam
from hl_pipeline.settings import NONE, Settings
from hl_pipeline.sources.buckets import Bucket, list_twap_objects
from hl_pipeline.stages.disk_space import require_space_to_fetch
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.coverage import read_acknowledged, record_status_hours
from hl_pipeline.warehouse.ledger import (
    days_of_stray_statuses,
    is_reset,
    read_reset,
    read_statuses_errors,
    record_statuses_error,
    record_statuses_fetched,
)
from hl_pipeline.warehouse.load_twaps import load_statuses, refuse_lost_status_objects
from hl_pipeline.warehouse.locks import lock_judging_statuses, lock_object, lock_statuses_day
from hl_pipeline.warehouse.spending import Spending, find_prices

_log = logging.getLogger(__name__)
_GROUP = "twaps"
_RAW_CHECKS = {
    "objects_present": "The day has objects, or all of its hours; none of them could not be had or read.",
    "lines_taken": "No object has a greater share of its rows in quarantine than HL_BAD_LINES_MAX_SHARE.",
    "events_near_their_day": "No object has events more than a day from the day in its key.",
}
_CHECKS = {
    "key_unique": "No repeat of an event that was left out says other things of it.",
    "day_is_there": "The day's objects are there; nothing can prove that they lack no row.",
}


@dataclass(frozen=True, slots=True)
class BroughtStatuses:
    """What was done for a day: its objects (and its neighbours') that are in the lake, and which were fetched now; what was to
    be fetched as in raw.Brought.
    """

    found: list[StatusObject]
    fetched: list[StatusObject]
    to_fetch: list[int]
    dollars_expected: Decimal
    requests: int
    dollars: Decimal


@asset(
    partitions_def=DAYS,
    group_name=_GROUP,
    kinds={"s3", "parquet"},
    owners=OWNERS,
    metadata=status_lake_metadata(),
    check_specs=[check_of_day("raw_twap_statuses", name, text) for name, text in _RAW_CHECKS.items()],
)
def raw_twap_statuses(
    context: AssetExecutionContext,
    twap_data: TwapData,
    lake_storage: LakeStorage,
    warehouse: WarehouseParam,
    settings: SettingsParam,
) -> MaterializeResult:
    """TWAP statuses of the bucket, as Parquet.

    The objects with the day, or a day beside it, in their key (events at an edge may stand in the neighbour's), each a file in
    the lake, lossless. An object that the lake has is not downloaded again; what cannot be read is quarantined beside it.
    """
    day = date.fromisoformat(context.partition_key)
    lake = lake_storage.open()
    started = time.perf_counter()
    with warehouse.connect("hl raw_twap_statuses") as connection:
        brought = bring_statuses(day, twap_data, lake, settings, context.run.run_id)
        seconds = time.perf_counter() - started
        judgement = _judge(day, lake, connection, settings)
    own = [meta for meta in brought.found if meta.object_date == str(day)]
    return MaterializeResult(
        metadata={
            "state": judgement.state,
            "explanation": judgement.explanation,
            "dagster/partition_row_count": sum(meta.rows for meta in own),
            "objects": len(own),
            "objects_to_fetch": len(brought.to_fetch),
            "objects_fetched": len(brought.fetched),
            "bytes": sum(meta.size for meta in own),
            "bytes_to_fetch": sum(brought.to_fetch),
            "bytes_fetched": sum(meta.size for meta in brought.fetched),
            "requests": brought.requests,
            "dollars_expected": float(brought.dollars_expected),
            "dollars": float(brought.dollars),
            "bad_lines": sum(meta.bad_lines for meta in own),
            "forms_met": MetadataValue.json(sorted({note for meta in own for note in meta.notes})),
            "seconds": round(seconds, 3),
        },
        check_results=[
            _check_there(judgement, "objects_present"),
            check_bad_lines(own, settings.bad_lines_max_share),
            _check_strays(own),
        ],
    )


@asset(
    partitions_def=DAYS,
    deps=[raw_twap_statuses, AssetDep(raw_api_twap_history, partition_mapping=AllPartitionMapping())],
    group_name=_GROUP,
    kinds={"parquet", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.twap_statuses") | column_lineage("hl.twap_statuses"),
    check_specs=[check_of_day("twap_statuses", name, text) for name, text in _CHECKS.items()],
)
def twap_statuses(
    context: AssetExecutionContext,
    lake_storage: LakeStorage,
    warehouse: WarehouseParam,
    settings: SettingsParam,
) -> MaterializeResult:
    """Every event of every TWAP, once.

    What became of TWAPs on the day (UTC): begun, finished, terminated, failed; with what was asked for and what they say they
    have executed. An event that two objects have is there once, with the finest time.
    """
    day = date.fromisoformat(context.partition_key)
    lake = lake_storage.open()
    started = time.perf_counter()
    with warehouse.connect("hl twap_statuses") as connection:
        once, judgement = load_day_of_statuses(day, lake, connection, settings)
    kinds = once.statuses["status"].value_counts().sort("status").iter_rows()
    return MaterializeResult(
        metadata={
            "state": judgement.state,
            "explanation": judgement.explanation,
            "dagster/partition_row_count": once.statuses.height,
            "twaps": once.statuses["twap_id"].n_unique(),
            **{f"status_{kind}": count for kind, count in kinds},
            "duplicates_dropped": once.duplicates,
            "conflicts": once.conflicts,
            "seconds": round(time.perf_counter() - started, 3),
        },
        check_results=[_check_key(once), _check_there(judgement, "day_is_there")],
    )


def bring_statuses(day: date, twap_data: TwapData, lake: Lake, settings: Settings, run_id: str | None = None) -> BroughtStatuses:
    """Bring the objects of `day` and of the days beside it into the lake; what could not be had is in the ledger with its error.

    Raises BucketDeniedError when the bucket refuses us, BucketError when it cannot be listed; BudgetError and NoSpaceError
    before a download.
    """
    spending = Spending(settings, settings.twap_data_price_per_gb, run_id)
    bucket = twap_data.open(settings, spending)
    wanted = [] if bucket is None else _list_wanted(bucket, day)
    url = find_database_url(settings)
    with connect(url, "hl raw_twap_statuses") as connection:
        reset = read_reset(connection)
    metas = [meta for own in days_around(day) for meta in list_status_objects(lake, own)]
    known = {(meta.key, meta.etag) for meta in metas if (STATUSES, meta.key) not in reset}
    new = [item.size for _, item in wanted if (item.key, item.etag) not in known]
    emit(_log, "objects_wanted", day=day, objects=len(wanted), bytes=sum(item.size for _, item in wanted))
    dollars = find_prices(twap_data.url, settings.twap_data_price_per_gb, settings).of_downloads(new)
    emit(_log, "objects_to_fetch", day=day, source=STATUSES, objects=len(new), bytes=sum(new), dollars=dollars)
    require_space_to_fetch(settings, day, sum(new))

    def bring(item: tuple[date, SourceObject]) -> tuple[StatusObject | None, bool]:
        assert bucket is not None
        with connect(url, "hl raw_twap_statuses") as connection:
            return _bring_object(*item, bucket, lake, connection)

    with ThreadPoolExecutor(settings.s3_objects_at_once, thread_name_prefix="object") as pool:
        brought = list(pool.map(bring, wanted))
    found = [meta for meta, _ in brought if meta is not None]
    fetched = [meta for meta, is_new in brought if meta is not None and is_new]
    return BroughtStatuses(found, fetched, new, dollars, spending.requests, spending.dollars)


def _list_wanted(bucket: Bucket, day: date) -> list[tuple[date, SourceObject]]:
    days = list_twap_objects(bucket)
    return [(own, item) for own in days_around(day) for item in days.get(own, [])]


def _bring_object(
    object_date: date, listed: SourceObject, bucket: Bucket, lake: Lake, connection: psycopg.Connection
) -> tuple[StatusObject | None, bool]:
    """The object as the lake has it in the end, and whether it was fetched now."""
    with lock_object(connection, f"twap_statuses {listed.key}"):
        known = read_status_object_meta(lake, status_object_path(object_date, listed.key))
        if known is not None and known.etag == listed.etag and not is_reset(connection, known):
            record_statuses_fetched(connection, known)
            emit(_log, "object_known", key=listed.key, rows=known.rows, bytes=known.size)
            return known, False
        try:
            with bucket.open(listed) as stream:
                emit(_log, "object_fetched", key=listed.key, bytes=listed.size)
                meta = write_status_object(
                    lake,
                    decode_statuses(stream, listed.codec, is_parquet=listed.is_parquet),
                    key=listed.key,
                    etag=listed.etag,
                    size=listed.size,
                    object_date=object_date,
                    hour=listed.hour,
                )
        except (BucketDeniedError, BudgetError):
            raise
        except (BucketError, UnreadableObjectError) as error:
            emit(_log, "object_failed", level=logging.WARNING, key=listed.key, error=str(error), bytes=listed.size)
            record_statuses_error(connection, listed.key, object_date, listed.hour, str(error))
            return known, False
        record_statuses_fetched(connection, meta)
    emit(_log, "object_done", key=meta.key, rows=meta.rows, bytes=meta.size, bad_lines=meta.bad_lines)
    return meta, True


def decode_statuses(stream: BinaryIO, codec: str, *, is_parquet: bool) -> Iterator[DecodedStatuses]:
    """What an object holds, part by part: of Parquet, or of lines (`codec` as in `decompress`). Raises UnreadableObjectError."""
    if is_parquet:
        yield from decode_parquet(stream)
        return
    first_line = 1
    for chunk in whole_lines(decompress(stream, codec)):
        yield decode_json_lines(chunk, first_line)
        first_line += chunk.count(b"\n")


def load_day_of_statuses(
    day: date, lake: Lake, connection: psycopg.Connection, settings: Settings
) -> tuple[OnceStatuses, StatusJudgement]:
    """Make the lake's objects all that twap_statuses/date=D/ and hl.twap_statuses have of `day`, and judge the day by these.

    Raises LakeLacksError when objects that gave the day its rows are in the lake no more.
    """
    with lock_statuses_day(connection, day):
        dates = [*days_around(day), *days_of_stray_statuses(connection, day)]
        objects = [meta for object_date in dates for meta in list_status_objects(lake, object_date)]
        history = read_api_history(lake, day)
        there = {meta.key for meta in objects} | set(history["object"].unique())
        refuse_lost_status_objects(connection, day, there, lake.root)
        for meta in objects:
            record_statuses_fetched(connection, meta, keep_error=True)
        reaching = [meta for meta in objects if _reaches_into(day, meta)]
        once = count_statuses_once(pl.concat([_events_of(day, reaching, lake), history]))
        judgement = _judge(day, lake, connection, settings)
        write_statuses(lake, day, once.statuses)
        load_statuses(connection, day, once, judgement, {meta.key: meta.etag for meta in reaching})
    emit(_log, "table_loaded", day=day, table="twap_statuses", rows=once.statuses.height)
    return once, judgement


def _reaches_into(day: date, meta: StatusObject) -> bool:
    if meta.first_time_ns is None or meta.last_time_ns is None:
        return False
    start, end = _span_ns(day)
    return meta.first_time_ns < end and meta.last_time_ns >= start


def _events_of(day: date, objects: Sequence[StatusObject], lake: Lake) -> pl.DataFrame:
    start, end = _span_ns(day)
    within = pl.col("time_ns").is_between(start, end, closed="left")
    return pl.concat([no_events(), *(read_status_object(lake, meta).filter(within) for meta in objects)])


def _span_ns(day: date) -> tuple[int, int]:
    start = int(start_of(day).timestamp()) * 10**9
    return start, start + 86_400 * 10**9


def _judge(day: date, lake: Lake, connection: psycopg.Connection, settings: Settings) -> StatusJudgement:
    """Whether the day's objects are in the lake, by what the ledger knows now; hl.coverage says the same."""
    with lock_judging_statuses(connection, day):
        judgement = judge_status_day(
            day,
            [meta for step in (0, 1) for meta in list_status_objects(lake, day + timedelta(days=step))],
            read_statuses_errors(connection, day),
            datetime.now(UTC),
            timedelta(hours=settings.twap_publish_lag_hours),
            is_wanted=settings.twap_data_url != NONE,
            acknowledged=read_acknowledged(connection, day, day + timedelta(days=1)),
        )
        record_status_hours(connection, day, judgement.hours)
    return judgement


def _check_there(judgement: StatusJudgement, name: str) -> AssetCheckResult:
    return AssetCheckResult(
        check_name=name,
        # What nothing can prove, or what no source has, is no fault of the day.
        passed=judgement.state in ("unprovable", "no source"),
        severity=severity(judgement.is_harmless),
        description=judgement.explanation,
    )


def _check_strays(objects: Sequence[StatusObject]) -> AssetCheckResult:
    strays = find_strays(objects)
    return AssetCheckResult(
        check_name="events_near_their_day",
        passed=not strays,
        severity=severity(is_harmless=True),
        description=". ".join(strays[:3]) or "Every event is within a day of the day in its object's key.",
        metadata={"objects": len(strays)},
    )


def _check_key(once: OnceStatuses) -> AssetCheckResult:
    said = f"{once.duplicates} repeats were left out, {once.conflicts} of them say other things of their event."
    return AssetCheckResult(
        check_name="key_unique",
        passed=once.conflicts == 0,
        description=said,
        metadata={"duplicates_dropped": once.duplicates, "conflicts": once.conflicts},
    )
