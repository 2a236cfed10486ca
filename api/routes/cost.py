"""/api/v1/cost: what the downloads from requester-pays buckets have cost."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from psycopg.rows import dict_row

from api.asked.coverage import CostAsked
from api.conditional import ConditionalRoute
from api.database import read_sql
from api.models.common import ERRORS
from api.models.cost import Cost
from api.responses import respond

router = APIRouter(prefix="/api/v1", tags=["Service"], route_class=ConditionalRoute)

_COST = read_sql("cost")


@router.get("/cost", response_model=Cost, responses=ERRORS, summary="What downloads have cost")
async def get_cost(request: Request, asked: Annotated[CostAsked, Query()]) -> Response:
    """Sum up the requests to requester-pays buckets: number, bytes and US dollars. Default range: all days.

    `hl cost` estimates what days that are not loaded would cost.
    """
    values = {"start": asked.start, "end": asked.end}
    async with request.app.state.pool.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        [total, *parts] = await (await cursor.execute(_COST, values)).fetchall()
    budget = request.app.state.installation.s3_budget_usd
    head = {name: value and str(value) for name, value in values.items()}
    head |= {name: total[name] for name in total if name not in ("bucket", "month")}
    by = {name: [_without_null(part) for part in parts if part[name] is not None] for name in ("bucket", "month")}
    of_month = None if budget is None else format(budget, "f")
    return respond({**head, "buckets": by["bucket"], "months": by["month"], "budget_dollars": of_month})


def _without_null(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if value is not None}
