"""Load a day's TWAP statuses from the lake into lake and PostgreSQL, each event once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date

import polars as pl
import psycopg

from hl_pipeline.domain.datasets import days_around, start_of
from hl_pipeline.domain.deduplicate_statuses import OnceStatuses, count_statuses_once
from hl_pipeline.domain.records import StatusObject
from hl_pipeline.domain.status_completeness import StatusVerdict
from hl_pipeline.events import emit
from hl_pipeline.lake.store import Lake
from hl_pipeline.lake.twaps import (
    list_status_objects,
    no_events,
    read_api_history,
    read_status_object,
    write_statuses,
)
from hl_pipeline.settings import Settings
from hl_pipeline.stages.judge import judge_statuses
from hl_pipeline.warehouse.ledger import days_of_stray_statuses, record_fetched
from hl_pipeline.warehouse.load_twaps import load_statuses, refuse_lost_status_objects
from hl_pipeline.warehouse.locks import lock_statuses_day

_log = logging.getLogger(__name__)


def load_statuses_day(
    day: date, lake: Lake, connection: psycopg.Connection, settings: Settings
) -> tuple[OnceStatuses, StatusVerdict]:
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
            record_fetched(connection, meta, keep_error=True)
        reaching = [meta for meta in objects if _reaches_into(day, meta)]
        once = count_statuses_once(pl.concat([_events_of(day, reaching, lake), history]))
        judgement = judge_statuses(day, lake, connection, settings)
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
