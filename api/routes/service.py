"""/, /healthz, /metrics: the service itself."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, FastAPI, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from psycopg_pool import PoolTimeout

from api.database import explain_absence, read_sql, read_version
from api.metrics import show
from api.models.common import INVALID
from api.models.service import Health, Service
from api.pages.render import wants_page, with_error_pages
from api.parameters import Parameters
from api.responses import respond
from api.routes.pages import show_home

router = APIRouter(tags=["Service"])

_LAST_INGESTED = read_sql("last_ingested")
_HEALTH_SECONDS = 1.0
_Nothing = Annotated[Parameters, Query()]


@router.get("/", response_model=Service, responses=INVALID)
async def get_service(request: Request, _asked: _Nothing) -> Response:
    """Return the name and version of the service, with links. A browser gets the explorer's first page."""
    if wants_page(request):
        return await with_error_pages(show_home)(request)
    links = {"docs": "/docs", "openapi": "/openapi.json", "health": "/healthz", "metrics": "/metrics"}
    prefix = request.scope.get("root_path", "")
    links = {name: prefix + path for name, path in links.items()}
    return respond({"service": "hl-pipeline", "version": read_version(), **links}, headers={"Vary": "Accept"})


@router.get("/healthz", response_model=Health, responses=INVALID)
async def get_health(request: Request, _asked: _Nothing) -> Response:
    """Report whether the database answers and what was last ingested. Always 200, because the process itself is healthy."""
    return respond(await read_health(request.app))


@router.get(
    "/metrics", response_class=Response, responses={**INVALID, 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
)
async def get_metrics(request: Request, _asked: _Nothing) -> Response:
    """Return Prometheus metrics: of this process, and of the whole system as the database knows it."""
    error, last = await _ask(request.app)
    state = request.app.state
    await state.system_metrics.refresh(None if error else state.pool)
    text = show(state.metrics, [state.pool, state.exports], up=error is None, age_seconds=last[2] if last else None)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def read_health(app: FastAPI) -> dict[str, Any]:
    """Return the fields of a health report."""
    error, last = await _ask(app)
    return {
        "status": "degraded" if error else "healthy",
        "database": f"error: {error}" if error else "connected",
        "last_ingested_object": last[0] if last else None,
        "last_ingested_at": last[1] if last else None,
    }


async def _ask(app: FastAPI) -> tuple[str | None, tuple[Any, ...] | None]:
    """Return the database's error, if any, and the last ingested object: key, time, age in seconds."""
    try:
        async with asyncio.timeout(2 * _HEALTH_SECONDS), app.state.pool.connection(timeout=_HEALTH_SECONDS) as connection:
            return None, await (await connection.execute(_LAST_INGESTED)).fetchone()
    except PoolTimeout:
        return app.state.pool.refusal or await explain_absence(app.state.settings), None
    except TimeoutError:
        return "no answer in time", None
    except psycopg.Error as error:
        return " ".join(str(error).split()), None
