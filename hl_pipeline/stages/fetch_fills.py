"""Fetch a day's objects of fills from the bucket into the lake: one file each, lossless, none downloaded twice."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from threading import BoundedSemaphore
from typing import BinaryIO

import psycopg

from hl_pipeline.domain.completeness import extra_hours
from hl_pipeline.domain.datasets import SOURCES, Source, wanted_hours
from hl_pipeline.domain.errors import BucketDeniedError, BucketError, BudgetError
from hl_pipeline.domain.records import ObjectMeta, SourceObject
from hl_pipeline.events import emit
from hl_pipeline.formats import by_block, node_fills, node_trades
from hl_pipeline.formats.decoding import decode
from hl_pipeline.formats.framing import UnreadableObjectError, decompress, whole_lines
from hl_pipeline.lake.fills import list_raw_objects, raw_path, read_object_meta, write_raw_object
from hl_pipeline.lake.store import Lake
from hl_pipeline.settings import Settings
from hl_pipeline.sources.buckets import Bucket, list_hours
from hl_pipeline.sources.open import open_node_data
from hl_pipeline.stages.disk_space import require_space_to_fetch
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.ledger import is_reset, read_reset, record_error, record_fetched
from hl_pipeline.warehouse.locks import lock_object
from hl_pipeline.warehouse.spending import Spending, find_prices

_log = logging.getLogger(__name__)

_DECODED_AT_ONCE = 2  # while one is drained and written the other keeps the processors busy

FORMATS = {"node_fills_by_block": by_block, "node_fills": node_fills, "node_trades": node_trades}
"""The format of each dataset of fills."""


@dataclass(frozen=True, slots=True)
class FetchedFills:
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
class _Route:
    """How objects of a source come into the lake: so many at once are downloaded, and so many decoded while others download."""

    source: Source
    bucket: Bucket
    lake: Lake
    decode_threads: int
    downloads: BoundedSemaphore
    decodes: BoundedSemaphore


def fetch_fills(day: date, lake: Lake, settings: Settings, run_id: str | None = None) -> FetchedFills:
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
            of_source, new, sizes = _fetch_source(day, source, open_node_data(settings, spending), lake, settings)
            found += of_source
            fetched += new
            to_fetch += sizes
    prices = find_prices(settings.node_data_url, settings.node_data_price_per_gb, settings)
    return FetchedFills(found, fetched, to_fetch, prices.of_downloads(to_fetch), spending.requests, spending.dollars)


def _fetch_source(
    day: date, source: Source, bucket: Bucket, lake: Lake, settings: Settings
) -> tuple[list[ObjectMeta], list[ObjectMeta], list[int]]:
    """The objects that are in the lake in the end, which of them were fetched now, and the bytes of those that were to be."""
    url = find_database_url(settings)
    way = _Route(
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
                return _fetch_object(*item, way, connection)

        with ThreadPoolExecutor(settings.s3_objects_at_once + _DECODED_AT_ONCE, thread_name_prefix="object") as pool:
            brought = dict(zip(listed, pool.map(bring, listed.items()), strict=True))
        found |= {hour: meta for hour, (meta, _) in brought.items() if meta is not None}
        fetched += [meta for meta, is_new in brought.values() if meta is not None and is_new]
        wanted = extra_hours(day, source, found)
    return [*found.values()], fetched, to_fetch


def _fetch_object(
    hour: datetime, listed: SourceObject | None, way: _Route, connection: psycopg.Connection
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


def _decode_object(stream: BinaryIO, hour: datetime, listed: SourceObject, way: _Route) -> ObjectMeta:
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
