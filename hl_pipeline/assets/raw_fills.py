"""`raw_fills`: the objects of the bucket into the lake, one file each, lossless, none fetched twice.

What becomes of their rows is the matter of `fills`.
"""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import BoundedSemaphore
from typing import BinaryIO

import psycopg
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetExecutionContext,
    JsonMetadataValue,
    MaterializeResult,
    MetadataValue,
    asset,
)

from hl_pipeline.assets.metadata import OWNERS, check_of_day, lake_metadata
from hl_pipeline.domain.completeness import Judgement, extra_hours, judge_day
from hl_pipeline.domain.datasets import SOURCES, Source, wanted_hours
from hl_pipeline.domain.errors import BucketDeniedError, BucketError, BudgetError
from hl_pipeline.domain.records import ObjectMeta, SourceObject, StatusObject
from hl_pipeline.events import emit
from hl_pipeline.formats import by_block, node_fills, node_trades
from hl_pipeline.formats.decoding import decode
from hl_pipeline.formats.framing import UnreadableObjectError, decompress, whole_lines
from hl_pipeline.lake.fills import list_raw_objects, raw_path, read_object_meta, write_raw_object
from hl_pipeline.lake.store import Lake
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import LakeStorage, NodeData, SettingsParam, WarehouseParam
from hl_pipeline.settings import Settings
from hl_pipeline.sources.buckets import Bucket, list_hours
from hl_pipeline.stages.disk_space import bytes_on_disk, require_space_to_fetch
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.coverage import read_acknowledged, record_hours
from hl_pipeline.warehouse.ledger import is_reset, read_errors, read_reset, record_error, record_fetched
from hl_pipeline.warehouse.locks import lock_judging, lock_object
from hl_pipeline.warehouse.spending import Spending, find_prices

_log = logging.getLogger(__name__)
_DECODED_AT_ONCE = 2  # while one is drained and written the other keeps the processors busy
FORMATS = {"node_fills_by_block": by_block, "node_fills": node_fills, "node_trades": node_trades}
"""The format of each dataset of fills."""
_CHECKS = {
    "hours_present": "Every object that the day wants is in the lake.",
    "blocks_without_holes": "The block numbers run on, within each object and from one to the next.",
    "lines_taken": "No object has a greater share of its lines in quarantine than HL_BAD_LINES_MAX_SHARE.",
}


@dataclass(frozen=True, slots=True)
class Brought:
    """What was done for a day: its objects that are in the lake, which of them were fetched now, and what S3 asked for it;
    `to_fetch`: the bytes of each object that was listed and not in the lake, `dollars_expected`: what these were to cost.
    """

    found: list[ObjectMeta]
    fetched: list[ObjectMeta]
    to_fetch: list[int]
    dollars_expected: Decimal
    requests: int
    dollars: Decimal


@dataclass(frozen=True, slots=True)
class _Way:
    """How objects of a source come into the lake: so many at once are downloaded, and so many decoded while others download."""

    source: Source
    bucket: Bucket
    lake: Lake
    decode_threads: int
    downloads: BoundedSemaphore
    decodes: BoundedSemaphore


@asset(
    partitions_def=DAYS,
    group_name="ingest",
    kinds={"s3", "parquet"},
    owners=OWNERS,
    metadata=lake_metadata(),
    check_specs=[check_of_day("raw_fills", name, text) for name, text in _CHECKS.items()],
)
def raw_fills(
    context: AssetExecutionContext,
    node_data: NodeData,
    lake_storage: LakeStorage,
    warehouse: WarehouseParam,
    settings: SettingsParam,
) -> MaterializeResult:
    """Objects of the bucket, as Parquet.

    The fills of the day's hours and of the hour after as the bucket has them, each object a file in the lake, lossless. An
    object that the lake has is not downloaded again; what cannot be read of one is quarantined beside it.
    """
    day = date.fromisoformat(context.partition_key)
    lake = lake_storage.open()
    started = time.perf_counter()
    with warehouse.connect("hl raw_fills") as connection:
        brought = bring_day(day, node_data, lake, settings, context.run.run_id)
        seconds = time.perf_counter() - started
        with lock_judging(connection, day):
            judgement = judge(day, objects_around(lake, day), connection, settings)
    return MaterializeResult(
        metadata=_describe(brought, judgement, seconds),
        check_results=[
            _check_hours(judgement),
            _check_holes(judgement),
            check_bad_lines(brought.found, settings.bad_lines_max_share),
        ],
    )


def bring_day(day: date, node_data: NodeData, lake: Lake, settings: Settings, run_id: str | None = None) -> Brought:
    """Bring the objects that `day` wants into the lake; what could not be had is in the ledger with its error.

    Raises BucketDeniedError when the bucket refuses us, BucketError when it cannot be listed; BudgetError and NoSpaceError
    before a download.
    """
    spending = Spending(settings, settings.node_data_price_per_gb, run_id)
    found: list[ObjectMeta] = []
    fetched: list[ObjectMeta] = []
    to_fetch: list[int] = []
    for source in SOURCES:
        if wanted_hours(day, source):
            of_source, new, sizes = _bring_source(day, source, node_data.open(settings, spending), lake, settings)
            found += of_source
            fetched += new
            to_fetch += sizes
    prices = find_prices(node_data.url, settings.node_data_price_per_gb, settings)
    return Brought(found, fetched, to_fetch, prices.of_downloads(to_fetch), spending.requests, spending.dollars)


def _bring_source(
    day: date, source: Source, bucket: Bucket, lake: Lake, settings: Settings
) -> tuple[list[ObjectMeta], list[ObjectMeta], list[int]]:
    """The objects that are in the lake in the end, which of them were fetched now, and the bytes of those that were to be."""
    url = find_database_url(settings)
    way = _Way(
        source,
        bucket,
        lake,
        settings.decode_threads,
        BoundedSemaphore(settings.s3_objects_at_once),
        BoundedSemaphore(_DECODED_AT_ONCE),
    )
    prices = find_prices(bucket.url, settings.node_data_price_per_gb, settings)
    with connect(url, "hl raw_fills") as connection:
        reset = read_reset(connection)
    to_fetch: list[int] = []
    found: dict[datetime, ObjectMeta] = {}
    fetched: list[ObjectMeta] = []
    wanted = wanted_hours(day, source)
    listings: dict[date, dict[int, SourceObject]] = {}
    tried: set[datetime] = set()
    while batch := [hour for hour in wanted if hour not in tried]:
        for hour in batch:
            if hour.date() not in listings:
                listings[hour.date()] = list_hours(bucket, source.name, hour.date())
        listed = {hour: listings[hour.date()].get(hour.hour) for hour in batch}
        sizes = [item.size for item in listed.values() if item is not None]
        emit(_log, "objects_wanted", day=day, objects=len(sizes), bytes=sum(sizes))
        metas = [meta for object_date in listings for meta in list_raw_objects(lake, object_date)]
        known = {(meta.key, meta.etag) for meta in metas if (source.name, meta.key) not in reset}
        new = [item.size for item in listed.values() if item is not None and (item.key, item.etag) not in known]
        dollars = prices.of_downloads(new)
        emit(_log, "objects_to_fetch", day=day, source=source.name, objects=len(new), bytes=sum(new), dollars=dollars)
        to_fetch += new
        require_space_to_fetch(settings, day, sum(new))
        tried |= listed.keys()

        def bring(item: tuple[datetime, SourceObject | None]) -> tuple[ObjectMeta | None, bool]:
            # A connection each: one that waits for another process's lock must not keep its neighbour from letting go of one.
            with connect(url, "hl raw_fills") as connection:
                return _bring_object(*item, way, connection)

        with ThreadPoolExecutor(settings.s3_objects_at_once + _DECODED_AT_ONCE, thread_name_prefix="object") as pool:
            brought = dict(zip(listed, pool.map(bring, listed.items()), strict=True))
        found |= {hour: meta for hour, (meta, _) in brought.items() if meta is not None}
        fetched += [meta for meta, is_new in brought.values() if meta is not None and is_new]
        wanted = extra_hours(day, source, found)
    return [*found.values()], fetched, to_fetch


def _bring_object(
    hour: datetime, listed: SourceObject | None, way: _Way, connection: psycopg.Connection
) -> tuple[ObjectMeta | None, bool]:
    """The object of `hour` as the lake has it in the end, and whether it was fetched now."""
    source, lake = way.source, way.lake
    path = raw_path(hour.date(), hour.hour, source.name)
    if listed is None:
        return read_object_meta(lake, path), False
    with lock_object(connection, listed.key):
        known = read_object_meta(lake, path)
        if known is not None and known.etag == listed.etag and not is_reset(connection, known):
            record_fetched(connection, known)
            emit(_log, "object_known", key=listed.key, rows=known.rows, bytes=known.size)
            return known, False
        try:
            with ExitStack() as opened:
                with way.downloads:
                    stream = opened.enter_context(way.bucket.open(listed))
                emit(_log, "object_fetched", key=listed.key, bytes=listed.size)
                with way.decodes:
                    meta = _decode_object(stream, hour, listed, way)
        except (BucketDeniedError, BudgetError):
            raise
        except (BucketError, UnreadableObjectError) as error:
            emit(_log, "object_failed", level=logging.WARNING, key=listed.key, error=str(error), bytes=listed.size)
            record_error(connection, listed.key, source.name, hour.date(), hour.hour, str(error))
            return known, False
        record_fetched(connection, meta)
    emit(_log, "object_done", key=meta.key, rows=meta.rows, bytes=meta.size, bad_lines=meta.bad_lines)
    return meta, True


def _decode_object(stream: BinaryIO, hour: datetime, listed: SourceObject, way: _Way) -> ObjectMeta:
    form = FORMATS[way.source.name]
    return write_raw_object(
        way.lake,
        decode(whole_lines(decompress(stream, listed.codec)), form.decode_chunk, way.decode_threads),
        key=listed.key,
        etag=listed.etag,
        size=listed.size,
        source=way.source.name,
        object_date=hour.date(),
        hour=hour.hour,
        parser=form.PARSER,
    )


def objects_around(lake: Lake, day: date) -> list[ObjectMeta]:
    """The objects in the lake that may have fills of `day`."""
    return [meta for step in (-1, 0, 1) for meta in list_raw_objects(lake, day + timedelta(days=step))]


def judge(day: date, metas: list[ObjectMeta], connection: psycopg.Connection, settings: Settings) -> Judgement:
    """Whether `day` is whole with these objects, by what the ledger knows now; hl.coverage says the same. The caller has held
    lock_judging since before it read what objects there are.
    """
    span = day - timedelta(days=1), day + timedelta(days=1)
    lag = timedelta(hours=settings.publish_lag_hours)
    acknowledged = read_acknowledged(connection, *span)
    judgement = judge_day(day, metas, read_errors(connection, *span), datetime.now(UTC), lag, acknowledged)
    record_hours(connection, judgement.coverage)
    return judgement


def _describe(brought: Brought, judgement: Judgement, seconds: float) -> dict[str, MetadataValue | int | float | str]:
    metas = brought.found
    blocks = [number for meta in metas for number in (meta.first_block, meta.last_block) if number is not None]
    described: dict[str, MetadataValue | int | float | str] = {
        "state": judgement.state,
        "explanation": judgement.explain(),
        "source": judgement.source_names,
        "dagster/partition_row_count": sum(meta.rows for meta in metas),
        "objects": len(metas),
        "objects_to_fetch": len(brought.to_fetch),
        "objects_fetched": len(brought.fetched),
        "bytes": sum(meta.size for meta in metas),
        "bytes_to_fetch": sum(brought.to_fetch),
        "bytes_fetched": sum(meta.size for meta in brought.fetched),
        "requests": brought.requests,
        "dollars_expected": float(brought.dollars_expected),
        "disk_bytes_expected": bytes_on_disk(sum(brought.to_fetch)),
        "dollars": float(brought.dollars),
        "bad_lines": sum(meta.bad_lines for meta in metas),
        "missing_blocks": judgement.missing_blocks,
        "missing_hours": sum(state.state != "present" for state in judgement.hours),
        "seconds": round(seconds, 3),
    }
    if blocks:
        described |= {"first_block": min(blocks), "last_block": max(blocks)}
    return described


def _check_hours(judgement: Judgement) -> AssetCheckResult:
    lacking = [state for state in judgement.hours if state.state != "present"]
    return AssetCheckResult(
        check_name="hours_present",
        passed=not lacking,
        severity=severity(judgement.hours_are_harmless),
        description=judgement.explain() if lacking or not judgement.hours else f"All {len(judgement.hours)} objects are there.",
        metadata={"missing_hours": len(lacking)}
        | _listed(
            "missing_objects",
            [
                {
                    "source": state.source.name,
                    "hour": state.hour.isoformat(),
                    "state": state.state,
                    "why": state.why,
                    "acknowledged": state.note or "",
                }
                for state in lacking
            ],
        ),
    )


def _check_holes(judgement: Judgement) -> AssetCheckResult:
    lacking = sum(state.state != "present" for state in judgement.hours)
    known = ", all acknowledged" if judgement.holes_are_harmless else ""
    said = f"{judgement.missing_blocks} blocks missing in {len(judgement.holes)} holes{known}."
    none = "No block missing" + (f" within the objects that are there; {lacking} are not." if lacking else ".")
    return AssetCheckResult(
        check_name="blocks_without_holes",
        passed=not judgement.holes,
        severity=severity(judgement.holes_are_harmless),
        description=said if judgement.holes else none,
        metadata={"missing_blocks": judgement.missing_blocks}
        | _listed("holes", [{"first": hole.first, "last": hole.last, "where": hole.where} for hole in judgement.holes[:1000]]),
    )


def check_bad_lines(metas: Sequence[ObjectMeta | StatusObject], max_share: float) -> AssetCheckResult:
    """Whether no object has too great a share of its lines in quarantine."""
    bad = [meta for meta in metas if meta.bad_lines]
    count = sum(meta.bad_lines for meta in bad)
    over = [meta for meta in bad if meta.bad_lines > max_share * max(meta.lines, 1)]
    return AssetCheckResult(
        check_name="lines_taken",
        passed=not over,
        description=f"{count} lines or events in quarantine, of {sum(meta.lines for meta in metas)} lines.",
        metadata={"bad_lines": count}
        | _listed("objects_with_bad_lines", [{"key": m.key, "bad_lines": m.bad_lines, "lines": m.lines} for m in bad]),
    )


def _listed(name: str, items: list[dict[str, str | int]]) -> dict[str, int | JsonMetadataValue]:
    """The metadata entry of a list, none of an empty one."""
    return {name: MetadataValue.json(items)} if items else {}


def severity(is_harmless: bool) -> AssetCheckSeverity:
    return AssetCheckSeverity.WARN if is_harmless else AssetCheckSeverity.ERROR
