"""Judges whether a day is whole by the current lake and ledger, and writes the result to hl.coverage."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import psycopg

from hl_pipeline.domain.completeness import DayVerdict, Errors, judge_day, overlapping
from hl_pipeline.domain.datasets import TWAP_STATUSES, days_around
from hl_pipeline.domain.fetch_checks import check_bad_lines
from hl_pipeline.domain.records import ObjectMeta
from hl_pipeline.domain.status_completeness import StatusVerdict, judge_status_day
from hl_pipeline.domain.whole_days import WholeDay, judge_whole_day
from hl_pipeline.lake.store import Lake
from hl_pipeline.lake.twaps import list_status_objects
from hl_pipeline.settings import Settings
from hl_pipeline.sources.bucket_settings import settings_of
from hl_pipeline.stages.raw_tables import RAW_FILLS, ObjectTable
from hl_pipeline.warehouse.coverage import read_acknowledged, record_hours, record_status_hours
from hl_pipeline.warehouse.fills_days import describe_doubts
from hl_pipeline.warehouse.ledger import days_of_api_alone, read_errors, read_loaded_fills, read_loaded_statuses
from hl_pipeline.warehouse.locks import lock_judging, lock_judging_statuses


def objects_around(lake: Lake, day: date, table: ObjectTable[ObjectMeta] = RAW_FILLS) -> list[ObjectMeta]:
    """Return the objects in the lake that may have rows of `day`."""
    return [meta for own in days_around(day) for meta in table.list_objects(lake, own)]


def judge_hours(
    day: date,
    metas: list[ObjectMeta],
    connection: psycopg.Connection,
    settings: Settings,
    table: ObjectTable[ObjectMeta] = RAW_FILLS,
) -> DayVerdict:
    """Judge whether `day` is whole with these objects of hourly datasets and the current ledger, and write hl.coverage. The
    caller must hold lock_judging since before it read the objects.
    """
    span = day - timedelta(days=1), day + timedelta(days=1)
    lag = settings_of(table.bucket, settings).publish_lag
    acknowledged = read_acknowledged(connection, *span)
    errors: Errors = {
        (place.dataset, place.object_date, place.hour): error
        for place, error in read_errors(connection, table.datasets, *span).items()
        if place.hour is not None
    }
    verdict = judge_day(day, metas, errors, datetime.now(UTC), lag, acknowledged, table.datasets)
    record_hours(connection, verdict.coverage)
    return verdict


def judge_statuses(day: date, lake: Lake, connection: psycopg.Connection, settings: Settings) -> StatusVerdict:
    """Judge whether the day's objects are in the lake, with the current ledger, and write hl.coverage."""
    bucket = settings_of(TWAP_STATUSES.bucket, settings)
    with lock_judging_statuses(connection, day):
        verdict = judge_status_day(
            day,
            [meta for step in (0, 1) for meta in list_status_objects(lake, day + timedelta(days=step))],
            {(at.key, at.hour): error for at, error in read_errors(connection, [TWAP_STATUSES], day, day).items()},
            datetime.now(UTC),
            bucket.publish_lag,
            is_wanted=bucket.is_set,
            acknowledged=read_acknowledged(connection, day, day + timedelta(days=1)),
        )
        record_status_hours(connection, day, verdict.hours)
    return verdict


def judge_loaded_day(day: date, lake: Lake, connection: psycopg.Connection, settings: Settings) -> WholeDay:
    """Judge `day` by the current lake, ledger and database."""
    started = time.perf_counter()
    judged = _judge_loaded_day(day, lake, connection, settings)
    return replace(judged, seconds=time.perf_counter() - started)


def _judge_loaded_day(day: date, lake: Lake, connection: psycopg.Connection, settings: Settings) -> WholeDay:
    loaded = read_loaded_fills(connection, day, day).get(day)
    if loaded is None or day not in read_loaded_statuses(connection, day, day):
        return WholeDay("not loaded", "Its fills or its TWAP statuses were never loaded.")
    if day in days_of_api_alone(connection):
        return WholeDay("not loaded", "It has only fills from the info API; its objects in the buckets were never requested.")
    with lock_judging(connection, day):
        metas = objects_around(lake, day)
        fills = judge_hours(day, metas, connection, settings)
    behind = [meta.key for meta in overlapping(day, metas) if loaded.get(meta.key) != meta.etag]
    if behind:
        return WholeDay("not loaded", f"The lake has {len(behind)} objects that are not loaded into fills yet: {behind[0]}, …")
    statuses = judge_statuses(day, lake, connection, settings)
    doubts = describe_doubts(connection, day)
    lines = check_bad_lines([hour.meta for hour in fills.hours if hour.meta is not None], settings.bad_lines_max_share)
    return judge_whole_day(fills, statuses, doubts if lines.passed else [*doubts, lines.description])
