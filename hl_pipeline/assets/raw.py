"""`raw_fills`: the objects of the bucket into the lake, one file each, lossless, none fetched twice.

What becomes of their rows is the matter of `fills`.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import psycopg
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    MaterializeResult,
    MetadataValue,
    asset,
)

from hl_pipeline.coverage import (
    BY_BLOCK,
    Judgement,
    Source,
    extra_hours,
    judge_day,
    wanted_hours,
)
from hl_pipeline.events import emit
from hl_pipeline.formats.by_block import PARSER, decode
from hl_pipeline.formats.framing import UnreadableObjectError, decompress, whole_lines
from hl_pipeline.lake import Lake, ObjectMeta, list_raw_objects, raw_path, read_object_meta, write_raw_object
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import LakeStorage, NodeData, Warehouse
from hl_pipeline.settings import Settings
from hl_pipeline.sources.buckets import Bucket, BucketDeniedError, BucketError, SourceObject, list_hours
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.ledger import read_errors, record_error, record_fetched
from hl_pipeline.warehouse.locks import lock_object

_log = logging.getLogger(__name__)
_OBJECTS_AT_ONCE = 2  # while one is drained and written the other keeps the processors busy
_CHECKS = {
    "hours_present": "Every object that the day wants is in the lake.",
    "blocks_without_holes": "The block numbers run on, within each object and from one to the next.",
    "lines_taken": "No object has a greater share of its lines in quarantine than HL_BAD_LINES_MAX_SHARE.",
}


@dataclass(frozen=True, slots=True)
class Brought:
    """What was done for a day: its objects in the lake by hour, and which of them were fetched now."""

    found: dict[datetime, ObjectMeta]
    fetched: list[ObjectMeta]
    seconds: float


@asset(
    partitions_def=DAYS,
    group_name="fills",
    kinds={"s3", "parquet"},
    check_specs=[AssetCheckSpec(name, asset="raw_fills", description=text) for name, text in _CHECKS.items()],
)
def raw_fills(
    context: AssetExecutionContext, node_data: NodeData, lake_storage: LakeStorage, warehouse: Warehouse
) -> MaterializeResult:
    """Fills as the bucket has them: the objects of the day's hours and of the hour after, each a Parquet file in the lake."""
    settings = Settings()
    day = date.fromisoformat(context.partition_key)
    lake = lake_storage.open()
    with warehouse.connect("hl raw_fills") as connection:
        brought = bring_day(day, BY_BLOCK, node_data, lake, find_database_url(settings), settings.decode_threads)
        judgement = judge(day, BY_BLOCK, objects_around(lake, day), connection, settings)
    metas = list(brought.found.values())
    return MaterializeResult(
        metadata=_describe(brought, judgement),
        check_results=[
            _check_hours(judgement),
            _check_holes(judgement),
            _check_bad_lines(metas, settings.bad_lines_max_share),
        ],
    )


def bring_day(day: date, source: Source, node_data: NodeData, lake: Lake, url: str, decode_threads: int) -> Brought:
    """Bring the objects that `day` wants into the lake; what could not be had is in the ledger (at `url`) with its error.

    Raises BucketDeniedError when the bucket refuses us, BucketError when it cannot be listed.
    """
    started = time.perf_counter()
    found: dict[datetime, ObjectMeta] = {}
    fetched: list[ObjectMeta] = []
    wanted = wanted_hours(day, source)
    if not wanted:
        return Brought(found, fetched, 0.0)
    bucket = node_data.open()
    listings: dict[date, dict[int, SourceObject]] = {}
    tried: set[datetime] = set()
    while batch := [hour for hour in wanted if hour not in tried]:
        for hour in batch:
            if hour.date() not in listings:
                listings[hour.date()] = list_hours(bucket, source.name, hour.date())
        listed = {hour: listings[hour.date()].get(hour.hour) for hour in batch}
        sizes = [item.size for item in listed.values() if item is not None]
        emit(_log, "objects_wanted", day=day, objects=len(sizes), bytes=sum(sizes))
        tried |= listed.keys()

        def bring(item: tuple[datetime, SourceObject | None]) -> tuple[ObjectMeta | None, bool]:
            # A connection each: one that waits for another process's lock must not keep its neighbour from letting go of one.
            with connect(url, "hl raw_fills") as connection:
                return _bring_object(item[0], item[1], source, bucket, lake, connection, decode_threads)

        with ThreadPoolExecutor(_OBJECTS_AT_ONCE, thread_name_prefix="object") as pool:
            brought = dict(zip(listed, pool.map(bring, listed.items()), strict=True))
        found |= {hour: meta for hour, (meta, _) in brought.items() if meta is not None}
        fetched += [meta for meta, is_new in brought.values() if meta is not None and is_new]
        wanted = extra_hours(day, source, found)
    return Brought(found, fetched, time.perf_counter() - started)


def _bring_object(
    hour: datetime,
    listed: SourceObject | None,
    source: Source,
    bucket: Bucket,
    lake: Lake,
    connection: psycopg.Connection,
    decode_threads: int,
) -> tuple[ObjectMeta | None, bool]:
    """The object of `hour` as the lake has it in the end, and whether it was fetched now."""
    path = raw_path(hour.date(), hour.hour, source.name)
    if listed is None:
        return read_object_meta(lake, path), False
    with lock_object(connection, listed.key):
        known = read_object_meta(lake, path)
        if known is not None and known.etag == listed.etag:
            record_fetched(connection, known)
            emit(_log, "object_known", key=listed.key, rows=known.rows, bytes=known.size)
            return known, False
        try:
            with bucket.open(listed) as stream:
                emit(_log, "object_fetched", key=listed.key, bytes=listed.size)
                meta = write_raw_object(
                    lake,
                    decode(whole_lines(decompress(stream, listed.codec)), decode_threads),
                    key=listed.key,
                    etag=listed.etag,
                    size=listed.size,
                    source=source.name,
                    object_date=hour.date(),
                    hour=hour.hour,
                    parser=PARSER,
                )
        except BucketDeniedError:
            raise
        except (BucketError, UnreadableObjectError) as error:
            emit(_log, "object_failed", level=logging.WARNING, key=listed.key, error=str(error), bytes=listed.size)
            record_error(connection, listed.key, source.name, hour.date(), hour.hour, str(error))
            return known, False
        record_fetched(connection, meta)
    emit(_log, "object_done", key=meta.key, rows=meta.rows, bytes=meta.size, bad_lines=meta.bad_lines)
    return meta, True


def objects_around(lake: Lake, day: date) -> list[ObjectMeta]:
    """The objects in the lake that may have fills of `day`."""
    return [meta for step in (-1, 0, 1) for meta in list_raw_objects(lake, day + timedelta(days=step))]


def judge(day: date, source: Source, metas: list[ObjectMeta], connection: psycopg.Connection, settings: Settings) -> Judgement:
    """Whether `day` is whole with these objects, by what the ledger knows now."""
    errors = read_errors(connection, source.name, day - timedelta(days=1), day + timedelta(days=1))
    lag = timedelta(hours=settings.publish_lag_hours)
    return judge_day(day, source, metas, errors, datetime.now(UTC), lag)


def _describe(brought: Brought, judgement: Judgement) -> dict[str, MetadataValue | int | float | str]:
    metas = list(brought.found.values())
    blocks = [number for meta in metas for number in (meta.first_block, meta.last_block) if number is not None]
    described: dict[str, MetadataValue | int | float | str] = {
        "source": BY_BLOCK.name if judgement.has_source else "none",
        "dagster/partition_row_count": sum(meta.rows for meta in metas),
        "objects": len(metas),
        "objects_fetched": len(brought.fetched),
        "bytes": sum(meta.size for meta in metas),
        "bytes_fetched": sum(meta.size for meta in brought.fetched),
        "bad_lines": sum(meta.bad_lines for meta in metas),
        "missing_blocks": sum(hole.last - hole.first + 1 for hole in judgement.holes),
        "missing_hours": sum(state.state != "present" for state in judgement.hours),
        "seconds": round(brought.seconds, 3),
        "state": judgement.explain(),
    }
    if blocks:
        described |= {"first_block": min(blocks), "last_block": max(blocks)}
    return described


def _check_hours(judgement: Judgement) -> AssetCheckResult:
    lacking = [state for state in judgement.hours if state.state != "present"]
    return AssetCheckResult(
        check_name="hours_present",
        passed=not lacking,
        severity=severity(all(state.state == "not due" for state in lacking)),
        description=judgement.explain() if lacking or not judgement.hours else f"All {len(judgement.hours)} objects are there.",
        metadata={
            "missing_hours": len(lacking),
            "which": MetadataValue.json(
                [{"hour": state.hour.isoformat(), "state": state.state, "why": state.why} for state in lacking]
            ),
        },
    )


def _check_holes(judgement: Judgement) -> AssetCheckResult:
    count = sum(hole.last - hole.first + 1 for hole in judgement.holes)
    return AssetCheckResult(
        check_name="blocks_without_holes",
        passed=not judgement.holes,
        description=f"{count} blocks missing in {len(judgement.holes)} holes." if judgement.holes else "No block missing.",
        metadata={
            "missing_blocks": count,
            "which": MetadataValue.json(
                [{"first": hole.first, "last": hole.last, "where": hole.where} for hole in judgement.holes[:1000]]
            ),
        },
    )


def _check_bad_lines(metas: list[ObjectMeta], max_share: float) -> AssetCheckResult:
    bad = [meta for meta in metas if meta.bad_lines]
    count = sum(meta.bad_lines for meta in bad)
    over = [meta for meta in bad if meta.bad_lines > max_share * max(meta.lines, 1)]
    return AssetCheckResult(
        check_name="lines_taken",
        passed=not over,
        description=f"{count} lines or events in quarantine, of {sum(meta.lines for meta in metas)} lines.",
        metadata={
            "bad_lines": count,
            "which": MetadataValue.json([{"key": meta.key, "bad_lines": meta.bad_lines, "lines": meta.lines} for meta in bad]),
        },
    )


def severity(is_harmless: bool) -> AssetCheckSeverity:
    return AssetCheckSeverity.WARN if is_harmless else AssetCheckSeverity.ERROR
