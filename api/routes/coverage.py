"""/api/v1/coverage: which hours of the buckets are loaded, and the verdicts on days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from api.asked.coverage import CoverageAsked, CoverageDaysAsked
from api.conditional import ConditionalRoute
from api.database import read_sql
from api.export import NextPage, choose_format, export
from api.models.common import ERRORS, EXPORTS
from api.models.coverage import CoverageList, DayList
from api.paging import make_cursor, read_cursor, read_rows
from api.parameters import Int64, Paged, Text
from api.range_coverage import read_backfill_counts, read_coverage
from api.responses import respond

router = APIRouter(prefix="/api/v1/coverage", tags=["Coverage"], route_class=ConditionalRoute)

_HOURS = read_sql("coverage_hours")
_DAYS = read_sql("coverage_days")
_DAY_SOURCE_HOUR: TypeAdapter[tuple[date, str, int]] = TypeAdapter(tuple[date, Text, Int64])
_DAY_AND_WHAT: TypeAdapter[tuple[date, str]] = TypeAdapter(tuple[date, Text])


@router.get("", response_model=CoverageList, responses={**ERRORS, **EXPORTS})
async def list_hours(request: Request, asked: Annotated[CoverageAsked, Query()]) -> Response:
    """List the state of each object of the buckets by day, dataset and hour. `days` has the resulting verdicts.

    Hours that were never requested are not listed; /api/v1/coverage/days lists such days.
    """
    after_date, after_source, after_hour = read_cursor(request, asked, _DAY_SOURCE_HOUR, (asked.start, "", -2))
    values = {
        "start": after_date,
        "end": asked.end,
        "dataset": asked.dataset,
        "state": asked.state,
        "is_hole": asked.is_hole,
        "after_source": after_source,
        "after_hour": after_hour,
    }
    chosen = choose_format(request, asked.format)
    if chosen != "json":
        return await export(
            request,
            chosen,
            _name("coverage", asked),
            _HOURS,
            {**values, "limit": asked.export_limit},
            next_page=_next(request, asked, _position),
        )
    async with request.app.state.pool.connection() as connection:
        fills = await read_coverage(connection, "fills", asked.start, asked.end)
        statuses = await read_coverage(connection, "twaps", asked.start, asked.end)
        wallets = await read_backfill_counts(connection, asked.start, asked.end)
        hours, more = await read_rows(connection, _HOURS, values, asked.limit)
    next_cursor = _next(request, asked, _position)(hours) if more else None
    head = {"start": str(asked.start), "end": str(asked.end), "dataset": asked.dataset, "state": asked.state}
    days = {"fills": fills, "twap_statuses": statuses}
    return respond({**head, "is_hole": asked.is_hole, "hours": hours, "next_cursor": next_cursor, "days": days, **wallets})


@router.get("/days", response_model=DayList, responses={**ERRORS, **EXPORTS})
async def list_days(request: Request, asked: Annotated[CoverageDaysAsked, Query()]) -> Response:
    """List the verdict on each day of the range, for fills and for TWAP statuses. Days that were never requested are included."""
    after_date, after_what = read_cursor(request, asked, _DAY_AND_WHAT, (asked.start, ""))
    values = {"start": after_date, "end": asked.end, "what": asked.what, "state": asked.state, "after_what": after_what}
    chosen = choose_format(request, asked.format)
    if chosen != "json":
        return await export(
            request,
            chosen,
            _name("days", asked),
            _DAYS,
            {**values, "limit": asked.export_limit},
            next_page=_next(request, asked, _position_of_day),
        )
    async with request.app.state.pool.connection() as connection:
        days, more = await read_rows(connection, _DAYS, values, asked.limit)
    next_cursor = _next(request, asked, _position_of_day)(days) if more else None
    head = {"start": str(asked.start), "end": str(asked.end), "what": asked.what, "state": asked.state}
    return respond({**head, "days": days, "next_cursor": next_cursor})


def _next(request: Request, asked: Paged, position: Callable[[dict[str, Any]], tuple[Any, ...]]) -> NextPage:
    return lambda rows: make_cursor(request, asked, position(rows[-1]))


def _position_of_day(day: dict[str, Any]) -> tuple[str, str]:
    return day["date"], day["what"]


def _position(hour: dict[str, Any]) -> tuple[str, str, int]:
    return hour["object_date"], hour["source"], -1 if hour["object_hour"] is None else hour["object_hour"]


def _name(what: str, asked: CoverageAsked | CoverageDaysAsked) -> str:
    return f"{what}-{asked.start:%Y%m%d}-{asked.end:%Y%m%d}"
