"""Finds the days that the sensors and the nightly schedule launch runs for, by comparing the buckets with the ledger."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

import psycopg

from hl_pipeline.domain.datasets import BY_BLOCK, FILL_DATASETS, TWAP_STATUSES
from hl_pipeline.domain.due_days import Due, find_due_days, last_due_day
from hl_pipeline.settings import Settings
from hl_pipeline.sources.bucket_settings import settings_of
from hl_pipeline.sources.buckets import list_dataset, list_hours, list_twap_objects
from hl_pipeline.stages.paid_buckets import open_paid_bucket
from hl_pipeline.warehouse.dirty_days import read_dirty
from hl_pipeline.warehouse.fills_days import read_pending_days
from hl_pipeline.warehouse.ledger import (
    days_of_api_alone,
    last_statuses_key_before,
    read_first_fetch,
    read_loaded_fills,
    read_loaded_statuses,
    read_taken,
    read_unfinished_days,
)

_DAYS_BACK = 3
_DAY = timedelta(days=1)


def look_for_fills(connection: psycopg.Connection, settings: Settings, today: date) -> list[Due]:
    """Return the recent due days for fills. Each day costs one LIST request."""
    first = today - _DAYS_BACK * _DAY
    bucket, _ = open_paid_bucket(BY_BLOCK.bucket, _hasty(settings))
    assert bucket is not None
    listings = {BY_BLOCK.name: list_dataset(bucket, BY_BLOCK, first + _DAY, today)}
    taken = read_taken(connection, FILL_DATASETS, first, today)
    return find_due_days(_last_days(today), listings, taken, read_loaded_fills(connection, first, today))


def look_for_statuses(connection: psycopg.Connection, settings: Settings, today: date) -> list[Due]:
    """Return the recent due days for statuses, by listing the keys after those of earlier days."""
    first = today - _DAYS_BACK * _DAY
    bucket, _ = open_paid_bucket(TWAP_STATUSES.bucket, _hasty(settings))
    if bucket is None:
        return []
    listings = {TWAP_STATUSES.name: list_twap_objects(bucket, last_statuses_key_before(connection, first))}
    taken = read_taken(connection, [TWAP_STATUSES], first - _DAY, today + _DAY)
    return find_due_days(_last_days(today), listings, taken, read_loaded_statuses(connection, first, today))


def _last_days(today: date) -> list[date]:
    return [today - n * _DAY for n in range(_DAYS_BACK, -1, -1)]


def look_at_everything(
    connection: psycopg.Connection, settings: Settings, failed: Collection[date]
) -> tuple[list[Due], list[Due], list[Due]]:
    """Return the due days among all days that were loaded or `failed`; due days for statuses only; and days to load only from the
    lake, which has data of them that did not come from a bucket.
    """
    alone = days_of_api_alone(connection)
    loaded = {day: of for day, of in read_loaded_fills(connection, date.min, date.max).items() if day not in alone}
    known = sorted({*loaded, *failed})
    due: dict[date, Due] = {}
    if known:
        first, last = known[0], known[-1] + _DAY
        bucket, _ = open_paid_bucket(BY_BLOCK.bucket, settings)
        assert bucket is not None
        listings = {
            source.name: list_dataset(bucket, source, first, last) for source in FILL_DATASETS if source.first.date() <= last
        }
        taken = read_taken(connection, FILL_DATASETS, first, last)
        due = {day.day: day for day in find_due_days(known, listings, taken, loaded)}
    of_lake: dict[date, Due] = {}
    lagging = dict.fromkeys(_days_due_since(connection, settings), "its missing objects are due now")
    lagging |= dict.fromkeys(read_unfinished_days(connection), "its statistics or TWAPs are older than its rows")
    for day, why in {**lagging, **dict.fromkeys(failed, "its last run failed"), **read_dirty(connection)}.items():
        (due if day in loaded or day in failed else of_lake).setdefault(day, Due(day, why, "again"))
    statuses = [day for day in _due_statuses_of_all(connection, settings, alone) if day.day not in due]
    return [due[day] for day in sorted(due)], statuses, [of_lake[day] for day in sorted(of_lake)]


def expects_objects(connection: psycopg.Connection, settings: Settings, newest: date) -> bool:
    """Return whether new objects are expected: in a bucket always, in a directory if it got new objects since the first fetch. A
    sample or a copy gets none. A node's directory does, and is late if the node stops.
    """
    if settings.node_data_url.startswith("s3://"):
        return True
    bucket, _ = open_paid_bucket(BY_BLOCK.bucket, settings)
    first_fetch = read_first_fetch(connection)
    assert bucket is not None
    days = {newest - _DAY, newest, newest + _DAY, *_last_days(datetime.now(UTC).date())}
    objects = [item for day in days for item in list_hours(bucket, BY_BLOCK.name, day).values()]
    return first_fetch is not None and any(item.modified > first_fetch for item in objects)


def _days_due_since(connection: psycopg.Connection, settings: Settings) -> list[date]:
    """Return the days that were pending when loaded and are due now, although no new objects arrived."""
    now = datetime.now(UTC)
    fills_lag, statuses_lag = (settings_of(name, settings).publish_lag for name in (BY_BLOCK.bucket, TWAP_STATUSES.bucket))
    return read_pending_days(connection, last_due_day(now, fills_lag), last_due_day(now, statuses_lag, hours_after=0))


def _due_statuses_of_all(connection: psycopg.Connection, settings: Settings, alone: set[date]) -> list[Due]:
    loaded = {day: of for day, of in read_loaded_statuses(connection, date.min, date.max).items() if day not in alone}
    bucket, _ = open_paid_bucket(TWAP_STATUSES.bucket, settings)
    if not loaded or bucket is None:
        return []
    taken = read_taken(connection, [TWAP_STATUSES], date.min, date.max)
    return find_due_days(loaded, {TWAP_STATUSES.name: list_twap_objects(bucket)}, taken, loaded)


def _hasty(settings: Settings) -> Settings:
    """Return settings with fewer retries: the next tick is soon, so a tick does not wait long for a failing bucket."""
    return settings.model_copy(update={"s3_attempts": min(settings.s3_attempts, 2)})
