"""Fetch a day's objects and judge the day by what the lake has of it then."""

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
    """What was fetched of a day of fills, how the day was judged then, the seconds of the fetch, and the day's checks."""

    result: FetchResult[ObjectMeta]
    verdict: DayVerdict
    seconds: float
    checks: list[Check]


@dataclass(frozen=True, slots=True)
class FetchedStatuses:
    """As FetchedFills, of TWAP statuses; `own` are the objects with the day itself in their key."""

    result: FetchResult[StatusObject]
    own: list[StatusObject]
    verdict: StatusVerdict
    seconds: float
    checks: list[Check]


def fetch_fills(
    day: date, lake: Lake, connection: psycopg.Connection, settings: Settings, run_id: str | None = None
) -> FetchedFills:
    """Fetch the day's objects of fills, and judge the day. Raises what `fetch.fetch_day` raises."""
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
    """Fetch the objects of TWAP statuses of the day and its neighbours, and judge the day. Raises as `fetch_fills`."""
    started = time.perf_counter()
    result = fetch_day(RAW_TWAP_STATUSES, day, lake, settings, run_id)
    seconds = time.perf_counter() - started
    verdict = judge_statuses(day, lake, connection, settings)
    own = [meta for meta in result.objects if meta.object_date == str(day)]
    bad_lines = check_bad_lines(own, settings.bad_lines_max_share)
    checks = [check_presence("objects_present", verdict, result.ignored), bad_lines, check_strays(own)]
    return FetchedStatuses(result, own, verdict, seconds, checks)
