"""Whether a day is whole, by what lake and ledger know now; hl.coverage says the same."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import psycopg

from hl_pipeline.domain.completeness import DayVerdict, judge_day
from hl_pipeline.domain.records import ObjectMeta
from hl_pipeline.domain.status_completeness import StatusVerdict, judge_status_day
from hl_pipeline.lake.fills import list_raw_objects
from hl_pipeline.lake.store import Lake
from hl_pipeline.lake.twaps import (
    list_status_objects,
)
from hl_pipeline.settings import NONE, Settings
from hl_pipeline.warehouse.coverage import read_acknowledged, record_hours, record_status_hours
from hl_pipeline.warehouse.ledger import (
    read_errors,
    read_statuses_errors,
)
from hl_pipeline.warehouse.locks import lock_judging_statuses


def objects_around(lake: Lake, day: date) -> list[ObjectMeta]:
    """The objects in the lake that may have fills of `day`."""
    return [meta for step in (-1, 0, 1) for meta in list_raw_objects(lake, day + timedelta(days=step))]


def judge_fills(day: date, metas: list[ObjectMeta], connection: psycopg.Connection, settings: Settings) -> DayVerdict:
    """Whether `day` is whole with these objects, by what the ledger knows now; hl.coverage says the same. The caller has held
    lock_judging since before it read what objects there are.
    """
    span = day - timedelta(days=1), day + timedelta(days=1)
    lag = timedelta(hours=settings.publish_lag_hours)
    acknowledged = read_acknowledged(connection, *span)
    judgement = judge_day(day, metas, read_errors(connection, *span), datetime.now(UTC), lag, acknowledged)
    record_hours(connection, judgement.coverage)
    return judgement


def judge_statuses(day: date, lake: Lake, connection: psycopg.Connection, settings: Settings) -> StatusVerdict:
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
