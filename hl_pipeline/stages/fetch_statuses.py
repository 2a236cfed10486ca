"""Fetch a day's objects of TWAP statuses from the bucket into the lake."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import psycopg

from hl_pipeline.domain.datasets import STATUSES, days_around
from hl_pipeline.domain.errors import BucketDeniedError, BucketError, BudgetError
from hl_pipeline.domain.records import SourceObject, StatusObject
from hl_pipeline.events import emit
from hl_pipeline.formats.framing import UnreadableObjectError
from hl_pipeline.formats.twap_statuses import decode_statuses
from hl_pipeline.lake.store import Lake
from hl_pipeline.lake.twaps import (
    list_status_objects,
    read_status_object_meta,
    status_object_path,
    write_status_object,
)
from hl_pipeline.settings import Settings
from hl_pipeline.sources.buckets import Bucket, list_twap_objects
from hl_pipeline.sources.open import open_twap_data
from hl_pipeline.stages.disk_space import require_space_to_fetch
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.ledger import (
    is_reset,
    read_reset,
    record_statuses_error,
    record_statuses_fetched,
)
from hl_pipeline.warehouse.locks import lock_object
from hl_pipeline.warehouse.spending import Spending, find_prices

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FetchedStatuses:
    """What was done for a day: its objects (and its neighbours') that are in the lake, and which were fetched now; what was to
    be fetched as in raw.Brought.
    """

    found: list[StatusObject]
    fetched: list[StatusObject]
    to_fetch: list[int]
    dollars_expected: Decimal
    requests: int
    dollars: Decimal


def fetch_statuses(day: date, lake: Lake, settings: Settings, run_id: str | None = None) -> FetchedStatuses:
    """Bring the objects of `day` and of the days beside it into the lake; what could not be had is in the ledger with its error.

    Raises BucketDeniedError when the bucket refuses us, BucketError when it cannot be listed; BudgetError and NoSpaceError
    before a download.
    """
    spending = Spending(settings, settings.twap_data_price_per_gb, run_id)
    bucket = open_twap_data(settings, spending)
    wanted = [] if bucket is None else _list_wanted(bucket, day)
    url = find_database_url(settings)
    with connect(url, "hl raw_twap_statuses") as connection:
        reset = read_reset(connection)
    metas = [meta for own in days_around(day) for meta in list_status_objects(lake, own)]
    known = {(meta.key, meta.etag) for meta in metas if (STATUSES, meta.key) not in reset}
    new = [item.size for _, item in wanted if (item.key, item.etag) not in known]
    emit(_log, "objects_wanted", day=day, objects=len(wanted), bytes=sum(item.size for _, item in wanted))
    dollars = find_prices(settings.twap_data_url, settings.twap_data_price_per_gb, settings).of_downloads(new)
    emit(_log, "objects_to_fetch", day=day, source=STATUSES, objects=len(new), bytes=sum(new), dollars=dollars)
    require_space_to_fetch(settings, day, sum(new))

    def bring(item: tuple[date, SourceObject]) -> tuple[StatusObject | None, bool]:
        assert bucket is not None
        with connect(url, "hl raw_twap_statuses") as connection:
            return _fetch_object(*item, bucket, lake, connection)

    with ThreadPoolExecutor(settings.s3_objects_at_once, thread_name_prefix="object") as pool:
        brought = list(pool.map(bring, wanted))
    found = [meta for meta, _ in brought if meta is not None]
    fetched = [meta for meta, is_new in brought if meta is not None and is_new]
    return FetchedStatuses(found, fetched, new, dollars, spending.requests, spending.dollars)


def _list_wanted(bucket: Bucket, day: date) -> list[tuple[date, SourceObject]]:
    days = list_twap_objects(bucket)
    return [(own, item) for own in days_around(day) for item in days.get(own, [])]


def _fetch_object(
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
