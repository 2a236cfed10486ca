"""The application: `uvicorn api.app:app`. Wiring only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from api.answer_cache import AnswerCache
from api.database import make_export_pool, make_pool, read_version
from api.installation import read_installation
from api.metrics import count_requests, make_metrics
from api.openapi import serve_openapi
from api.parameters import refuse_repeated
from api.path_prefix import serve_below
from api.responses import add_error_handlers, answer_head
from api.routes import coverage, fills, service, statistics, twaps
from api.settings import ApiSettings, read_settings
from api.system_metrics import SystemMetrics

_DESCRIPTION = """Hyperliquid's trading history from PostgreSQL: TWAPs, fills, candles, statistics.

Times are UTC; decimals are texts, exact to the last digit; every list says with `coverage` which days of its range are there,
and /api/v1/coverage which hours of the bucket."""


def create_app(settings: ApiSettings | None = None) -> FastAPI:
    """The application, with the settings of the environment unless given. It starts without its database, and waits for it."""
    chosen = settings or read_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with make_pool(chosen) as app.state.pool, make_export_pool(chosen) as app.state.exports:
            app.state.answers = _make_cache(chosen, app)
            yield

    # Its /docs comes from here, not from a CDN.
    app = FastAPIOffline(
        title="hl-pipeline",
        description=_DESCRIPTION,
        version=read_version(),
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.settings = chosen
    app.state.metrics = make_metrics()
    app.state.system_metrics = SystemMetrics(read_installation(), chosen.url)
    app.state.metrics.registry.register(app.state.system_metrics)
    for routes in (twaps, fills, statistics, coverage, service):
        app.include_router(routes.router, dependencies=[Depends(refuse_repeated)])
    serve_openapi(app)
    add_error_handlers(app)
    app.add_middleware(count_requests, metrics=app.state.metrics)
    app.add_middleware(answer_head)
    app.add_middleware(serve_below, prefix=chosen.api_path_prefix)
    return app


def _make_cache(settings: ApiSettings, app: FastAPI) -> AnswerCache | None:
    if settings.api_cache_mb == 0:
        return None
    cache = AnswerCache(app.state.pool, app.state.metrics, round(settings.api_cache_mb * 1_000_000))
    app.state.pool.on_connect = cache.clear
    return cache


def __getattr__(name: str) -> FastAPI:
    """`app`, created on first access: importing this module reads no settings."""
    if name == "app":
        return create_app()
    raise AttributeError(name)
