"""Loads a day's TWAP statuses from their objects in the lake, each event once, into `twap_statuses/` and PostgreSQL."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import psycopg

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.datasets import days_around, start_of
from hl_pipeline.domain.deduplicate_statuses import deduplicate_statuses
from hl_pipeline.domain.fetch_checks import check_presence
from hl_pipeline.domain.records import StatusObject
from hl_pipeline.domain.status_completeness import StatusVerdict
from hl_pipeline.events import emit
from hl_pipeline.lake.store import Lake
from hl_pipeline.lake.twaps import list_status_objects, no_events, read_api_history, read_status_object, write_statuses
from hl_pipeline.settings import Settings
from hl_pipeline.stages.judge import judge_statuses
from hl_pipeline.tracing import span
from hl_pipeline.warehouse.ledger import days_of_stray_statuses, record_fetched
from hl_pipeline.warehouse.load_twaps import load_statuses, refuse_lost_status_objects
from hl_pipeline.warehouse.locks import lock_statuses_day

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedStatuses:
    """A loaded day of statuses: its verdict, number of rows, rows by status (in alphabetical order), TWAPs, dropped duplicates,
    and duplicates that differ from the kept row.
    """

    verdict: StatusVerdict
    rows: int
    rows_of_status: dict[str, int]
    twaps: int
    duplicates: int
    conflicts: int
    seconds: float

    @property
    def checks(self) -> list[Check]:
        return [self._check_key(), check_presence("day_is_there", self.verdict)]

    def _check_key(self) -> Check:
        return Check(
            "key_unique",
            self.conflicts == 0,
            f"{self.duplicates} duplicates dropped; {self.conflicts} of them contradict the kept event.",
            metadata={"duplicates_dropped": self.duplicates, "conflicts": self.conflicts},
        )


def load_statuses_day(day: date, lake: Lake, connection: psycopg.Connection, settings: Settings) -> LoadedStatuses:
    """Replace `day` in twap_statuses/date=D/ and hl.twap_statuses by the lake's objects, and judge the day.

    Raises LakeLacksError if objects that the day was loaded from are no longer in the lake.
    """
    started = time.perf_counter()
    with span("load twap_statuses", day=day), lock_statuses_day(connection, day):
        dates = [*days_around(day), *days_of_stray_statuses(connection, day)]
        objects = [meta for object_date in dates for meta in list_status_objects(lake, object_date)]
        history = read_api_history(lake, day)
        keys = {meta.key for meta in objects} | set(history["object"].unique())
        refuse_lost_status_objects(connection, day, keys, lake.root)
        for meta in objects:
            record_fetched(connection, meta, keep_error=True)
        reaching = [meta for meta in objects if _reaches_into(day, meta)]
        deduplicated = deduplicate_statuses(pl.concat([_read_events(day, reaching, lake), history]))
        verdict = judge_statuses(day, lake, connection, settings)
        write_statuses(lake, day, deduplicated.statuses)
        load_statuses(connection, day, deduplicated, verdict, {meta.key: meta.etag for meta in reaching})
    statuses = deduplicated.statuses
    emit(_log, "table_loaded", day=day, table="twap_statuses", rows=statuses.height)
    return LoadedStatuses(
        verdict,
        statuses.height,
        dict(statuses["status"].value_counts().sort("status").iter_rows()),
        statuses["twap_id"].n_unique(),
        deduplicated.duplicates,
        deduplicated.conflicts,
        time.perf_counter() - started,
    )


def _reaches_into(day: date, meta: StatusObject) -> bool:
    if meta.first_time_ns is None or meta.last_time_ns is None:
        return False
    start, end = _span_ns(day)
    return meta.first_time_ns < end and meta.last_time_ns >= start


def _read_events(day: date, objects: Sequence[StatusObject], lake: Lake) -> pl.DataFrame:
    start, end = _span_ns(day)
    within = pl.col("time_ns").is_between(start, end, closed="left")
    return pl.concat([no_events(), *(read_status_object(lake, meta).filter(within) for meta in objects)])


def _span_ns(day: date) -> tuple[int, int]:
    start = int(start_of(day).timestamp()) * 10**9
    return start, start + 86_400 * 10**9
