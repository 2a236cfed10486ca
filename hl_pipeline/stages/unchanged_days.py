"""Finds days that are complete according to the database, and those of them without new objects in the buckets."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime

import psycopg

from hl_pipeline.domain.datasets import DATASETS, TWAP_STATUSES
from hl_pipeline.domain.fetch_checks import check_bad_lines
from hl_pipeline.domain.records import ObjectMeta, StatusObject
from hl_pipeline.domain.wanted_objects import Listing, wanted_dates, wanted_objects
from hl_pipeline.lake.store import open_lake
from hl_pipeline.settings import Settings
from hl_pipeline.sources.bucket_settings import settings_of
from hl_pipeline.sources.buckets import list_dataset
from hl_pipeline.stages.paid_buckets import open_paid_buckets
from hl_pipeline.stages.raw_tables import table_of
from hl_pipeline.warehouse.ledger import read_reset
from hl_pipeline.warehouse.status_queries import read_finished_days, read_sound_days


def find_finished_days(days: Sequence[date], settings: Settings, connection: psycopg.Connection) -> list[date]:
    """Return those of `days` (in order) that were complete when loaded and are not marked dirty since. Reads no bucket."""
    has_statuses = settings_of(TWAP_STATUSES.bucket, settings).is_set
    statuses_from = TWAP_STATUSES.first.date() if has_statuses else date.max
    finished = read_finished_days(connection, days[0], days[-1], statuses_from)
    return [day for day in days if day in finished]


def find_unchanged_days(days: Sequence[date], settings: Settings, connection: psycopg.Connection) -> list[date]:
    """Return the finished ones of `days` (in order) that passed their checks and were loaded from all their objects now in the
    buckets. Lists the buckets. Raises BucketError.
    """
    if not (finished := find_finished_days(days, settings, connection)):
        return []
    reset, loaded_at = read_reset(connection), read_sound_days(connection, finished[0], finished[-1])
    finished = [day for day in finished if day in loaded_at]
    lake, paid = open_lake(settings.lake), open_paid_buckets(settings)
    changed: set[date] = set()
    for dataset in DATASETS:
        bucket, _ = paid[dataset.bucket]
        dates = wanted_dates(dataset, finished)
        if bucket is None or not dates:
            continue
        listing: Listing = list_dataset(bucket, dataset, dates[0], dates[-1])
        table = table_of(dataset.name)
        in_lake = {meta.key: meta for own in dates for meta in table.list_objects(lake, own)}
        for day in finished:
            listed = [item for item in wanted_objects(dataset, [day], listing).values() if item is not None]
            metas = [in_lake[item.key] for item in listed if item.key in in_lake]
            are_loaded = all(_is_loaded(in_lake.get(item.key), item.etag, loaded_at[day], reset) for item in listed)
            if not are_loaded or not check_bad_lines(metas, settings.bad_lines_max_share).passed:
                changed.add(day)
    return [day for day in finished if day not in changed]


def _is_loaded(
    meta: ObjectMeta | StatusObject | None, etag: str, loaded_at: datetime, reset: AbstractSet[tuple[str, str]]
) -> bool:
    if meta is None or (meta.dataset, meta.key) in reset:
        return False
    return meta.etag == etag and datetime.fromisoformat(meta.fetched_at) <= loaded_at
