"""Fetches the objects that a day needs from their bucket into the lake: one lossless file each, none downloaded twice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from threading import BoundedSemaphore, local
from typing import Generic

import psycopg

from hl_pipeline.domain.completeness import extra_hours, hour_of
from hl_pipeline.domain.datasets import Dataset
from hl_pipeline.domain.errors import BucketDeniedError, BucketError, BudgetError
from hl_pipeline.domain.object_keys import Place, day_in_key, lock_name
from hl_pipeline.domain.records import IgnoredObject, ObjectMeta, SourceObject, StatusObject
from hl_pipeline.domain.wanted_objects import Wanted, objects_of_hours, wanted_dates, wanted_objects
from hl_pipeline.events import emit
from hl_pipeline.formats.framing import UnreadableObjectError
from hl_pipeline.lake.store import Lake
from hl_pipeline.settings import Settings
from hl_pipeline.sources.buckets import Bucket, list_dataset
from hl_pipeline.stages.disk_space import require_space_to_fetch
from hl_pipeline.stages.paid_buckets import open_paid_bucket, prices_of_bucket
from hl_pipeline.stages.raw_tables import Meta, ObjectBytes, ObjectTable
from hl_pipeline.tracing import keep_parent, span
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.ledger import is_reset, read_reset, record_error, record_fetched
from hl_pipeline.warehouse.locks import lock_object

_log = logging.getLogger(__name__)
_DECODED_AT_ONCE = 2  # while one waits for writing, the other keeps the CPUs busy


@dataclass(frozen=True, slots=True)
class FetchResult(Generic[Meta]):
    """The result of fetching a day: its objects in the lake (for statuses, also those of adjacent days), which of them were
    fetched now, and the S3 cost. `to_fetch`: bytes of each listed object that was not in the lake. `dollars_expected`: their
    expected cost. `ignored`: objects of the day with unknown names.
    """

    objects: list[Meta]
    fetched: list[Meta]
    to_fetch: list[int]
    dollars_expected: Decimal
    requests: int
    dollars: Decimal
    ignored: list[IgnoredObject]


@dataclass(frozen=True, slots=True)
class _Route(Generic[Meta]):
    """What is needed to fetch objects of a dataset into the lake, with limits on parallel downloads and decoding. The bucket is
    None if it is not configured; then nothing is listed.
    """

    table: ObjectTable[Meta]
    bucket: Bucket | None
    lake: Lake
    settings: Settings
    downloads: BoundedSemaphore
    decodes: BoundedSemaphore


def fetch_day(
    table: ObjectTable[Meta], day: date, lake: Lake, settings: Settings, run_id: str | None = None
) -> FetchResult[Meta]:
    """Fetch the objects that `day` needs from the datasets of a table. Failed objects are in the ledger with their error.

    Raises BucketDeniedError if the bucket denies access, BucketError if it cannot be listed, and BudgetError or NoSpaceError
    before a download.
    """
    with span(f"fetch {table.name}", day=day):
        parts = [
            _fetch_dataset(day, dataset, table, lake, settings, run_id)
            for dataset in table.datasets
            if wanted_dates(dataset, [day])
        ]
    return FetchResult(
        [meta for part in parts for meta in part.objects],
        [meta for part in parts for meta in part.fetched],
        [size for part in parts for size in part.to_fetch],
        sum((part.dollars_expected for part in parts), Decimal(0)),
        sum(part.requests for part in parts),
        sum((part.dollars for part in parts), Decimal(0)),
        [found for part in parts for found in part.ignored],
    )


def _fetch_dataset(
    day: date, dataset: Dataset, table: ObjectTable[Meta], lake: Lake, settings: Settings, run_id: str | None
) -> FetchResult[Meta]:
    bucket, spending = open_paid_bucket(dataset.bucket, settings, run_id)
    prices = prices_of_bucket(dataset.bucket, settings)
    downloads, decodes = BoundedSemaphore(settings.s3_objects_at_once), BoundedSemaphore(_DECODED_AT_ONCE)
    route = _Route(table, bucket, lake, settings, downloads, decodes)
    with connect(find_database_url(settings), f"hl {table.name}") as connection:
        reset = read_reset(connection)
    objects: list[Meta] = []
    fetched: list[Meta] = []
    to_fetch: list[int] = []

    def fetch(wanted: Wanted) -> None:
        sizes = [item.size for item in wanted.values() if item is not None]
        emit(_log, "objects_wanted", day=day, objects=len(sizes), bytes=sum(sizes))
        metas = [meta for own in sorted({place.object_date for place in wanted}) for meta in table.list_objects(lake, own)]
        known = {(meta.key, meta.etag) for meta in metas if (dataset.name, meta.key) not in reset}
        new = [item.size for item in wanted.values() if item is not None and (item.key, item.etag) not in known]
        dollars = prices.of_downloads(new)
        emit(_log, "objects_to_fetch", day=day, source=dataset.name, objects=len(new), bytes=sum(new), dollars=dollars)
        to_fetch.extend(new)
        require_space_to_fetch(settings, day, sum(new))
        for meta, is_new in _fetch_objects(wanted, route):
            if meta is not None:
                objects.append(meta)
                fetched.extend([meta] * is_new)

    dates = wanted_dates(dataset, [day])
    ignored: list[IgnoredObject] = []
    with span("list objects", dataset=dataset.name):
        listing = {} if bucket is None else dict(list_dataset(bucket, dataset, dates[0], dates[-1], ignored))
    wanted = wanted_objects(dataset, [day], listing)
    fetch(wanted)
    tried = {(place.object_date, place.hour) for place in wanted}
    while hours := [hour for hour in _extra_hours(day, dataset, objects) if (hour.date(), hour.hour) not in tried]:
        assert bucket is not None
        for own in sorted({hour.date() for hour in hours} - set(dates)):
            listing |= list_dataset(bucket, dataset, own, own)
        fetch(objects_of_hours(dataset, hours, listing))
        tried |= {(hour.date(), hour.hour) for hour in hours}
    # If objects are not hourly, those of all days are listed.
    ignored = [found for found in ignored if day_in_key(found.key) in (None, *dates)]
    return FetchResult(objects, fetched, to_fetch, prices.of_downloads(to_fetch), spending.requests, spending.dollars, ignored)


def _extra_hours(day: date, dataset: Dataset, objects: Sequence[ObjectMeta | StatusObject]) -> list[datetime]:
    if not dataset.is_hourly:
        return []
    return extra_hours(day, dataset, {hour_of(meta): meta for meta in objects if isinstance(meta, ObjectMeta)})


def _fetch_objects(wanted: Wanted, route: _Route[Meta]) -> list[tuple[Meta | None, bool]]:
    """Fetch the objects, and return each as it is in the lake afterwards, with whether it was fetched now."""
    url, of_thread, opened = find_database_url(route.settings), local(), ExitStack()

    def fetch(item: tuple[Place, SourceObject | None]) -> tuple[Meta | None, bool]:
        # One connection per thread: a thread that waits for another process's lock must not stop another from releasing one.
        if not hasattr(of_thread, "connection"):
            of_thread.connection = opened.enter_context(connect(url, f"hl {route.table.name}"))
        return _fetch_object(*item, route, of_thread.connection)

    threads = route.settings.s3_objects_at_once + _DECODED_AT_ONCE
    with opened, ThreadPoolExecutor(threads, thread_name_prefix="object") as pool:
        return list(pool.map(keep_parent(fetch), wanted.items()))


def _fetch_object(
    place: Place, listed: SourceObject | None, route: _Route[Meta], connection: psycopg.Connection
) -> tuple[Meta | None, bool]:
    """Return the object as it is in the lake afterwards, and whether it was fetched now."""
    table, lake = route.table, route.lake
    if listed is None:
        return table.find(lake, place), False
    assert route.bucket is not None
    with lock_object(connection, lock_name(place)):
        known = table.find(lake, place)
        if known is not None and known.etag == listed.etag and not is_reset(connection, known):
            record_fetched(connection, known)
            emit(_log, "object_known", key=listed.key, rows=known.rows, bytes=known.size)
            return known, False
        try:
            with ExitStack() as opened:
                opened.enter_context(span("fetch object", key=listed.key, bytes=listed.size))
                with route.downloads, span("download"):
                    stream = opened.enter_context(route.bucket.open(listed))
                emit(_log, "object_fetched", key=listed.key, bytes=listed.size)
                with route.decodes, span("decode"):
                    content = ObjectBytes(stream, listed.codec, listed.etag, listed.size)
                    meta = table.write(lake, place, content, route.settings.decode_threads)
        except (BucketDeniedError, BudgetError):
            raise
        except (BucketError, UnreadableObjectError) as error:
            emit(_log, "object_failed", level=logging.WARNING, key=listed.key, error=str(error), bytes=listed.size)
            record_error(connection, place, str(error))
            return known, False
        record_fetched(connection, meta)
    emit(_log, "object_done", key=meta.key, rows=meta.rows, bytes=meta.size, bad_lines=meta.bad_lines)
    return meta, True
