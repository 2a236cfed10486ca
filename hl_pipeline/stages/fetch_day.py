"""Fetches a day's objects, then judges the day by its objects in the lake."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date

import psycopg

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.domain.fetch_checks import check_bad_lines, check_holes, check_hours, check_presence, check_strays
from hl_pipeline.domain.records import ObjectMeta, StatusObject
from hl_pipeline.domain.status_completeness import StatusVerdict
from hl_pipeline.lake.store import Lake
from hl_pipeline.settings import Settings
from hl_pipeline.stages.fetch import FetchResult, fetch_day
from hl_pipeline.stages.judge import judge_hours, judge_statuses, objects_around
from hl_pipeline.stages.raw_tables import RAW_FILLS, RAW_TWAP_STATUSES
from hl_pipeline.warehouse.locks import lock_judging


@dataclass(frozen=True, slots=True)
class FetchedFills:
    """The result of fetching a day of fills: its objects, the verdict, the duration in seconds, and the checks."""

    result: FetchResult[ObjectMeta]
    verdict: DayVerdict
    seconds: float
    checks: list[Check]


@dataclass(frozen=True, slots=True)
class FetchedStatuses:
    """The same for TWAP statuses. `own`: the objects with this day in their key."""

    result: FetchResult[StatusObject]
    own: list[StatusObject]
    verdict: StatusVerdict
    seconds: float
    checks: list[Check]


def fetch_fills(
    day: date, lake: Lake, connection: psycopg.Connection, settings: Settings, run_id: str | None = None
) -> FetchedFills:
    """Fetch the day's objects of fills, and judge the day. Raises the errors of `fetch.fetch_day`."""
    started = time.perf_counter()
    result = fetch_day(RAW_FILLS, day, lake, settings, run_id)
    seconds = time.perf_counter() - started
    with lock_judging(connection, day):
        verdict = judge_hours(day, objects_around(lake, day), connection, settings)
    bad_lines = check_bad_lines(result.objects, settings.bad_lines_max_share)
    return FetchedFills(result, verdict, seconds, [check_hours(verdict, result.ignored), check_holes(verdict), bad_lines])


def fetch_statuses(
    day: date, lake: Lake, connection: psycopg.Connection, settings: Settings, run_id: str | None = None
) -> FetchedStatuses:
    """Fetch the objects of TWAP statuses of the day and adjacent days, and judge the day. Raises like `fetch_fills`."""
    started = time.perf_counter()
    result = fetch_day(RAW_TWAP_STATUSES, day, lake, settings, run_id)
    seconds = time.perf_counter() - started
    verdict = judge_statuses(day, lake, connection, settings)
    own = [meta for meta in result.objects if meta.object_date == str(day)]
    bad_lines = check_bad_lines(own, settings.bad_lines_max_share)
    checks = [check_presence("objects_present", verdict, result.ignored), bad_lines, check_strays(own)]
    return FetchedStatuses(result, own, verdict, seconds, checks)
