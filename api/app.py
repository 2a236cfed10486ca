"""The application: `uvicorn api.app:app`. Wiring only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_compress import CompressMiddleware, add_compress_type

from api.access import INFO_PATH, guard
from api.answer_cache import AnswerCache
from api.database import make_export_pool, make_pool, read_version
from api.export import COVERAGE_HEADERS, PAGE_HEADERS
from api.file_formats import MEDIA_TYPES
from api.headers import add_security_headers
from api.info_universe import read_snapshot
from api.installation import read_installation
from api.keys import parse_keys
from api.lake import Lake
from api.limits import RequestLimit, refuse_long_urls
from api.login import add_login
from api.metrics import count_requests, make_metrics
from api.openapi import serve_docs, serve_openapi
from api.pages.render import load_templates
from api.parameters import refuse_repeated
from api.path_prefix import serve_below
from api.request_log import HEADER, identify_requests, log_as_json
from api.responses import add_error_handlers, answer_head
from api.route_templates import list_routes
from api.routes import cost, coverage, dialect, fills, info, leaderboards, pages, service, statistics, tax, twaps, wallets
from api.settings import ApiSettings, parse_origins, read_settings
from api.system_metrics import SystemMetrics
from api.tracing import OFF, flush, trace_requests

_DESCRIPTION = """Hyperliquid's trading history from PostgreSQL: TWAPs, fills, candles, statistics.

Times are UTC. Decimals are strings, exact to the last digit. Every list has `coverage`: which days of its range are present.
/api/v1/coverage lists the hours of the bucket."""

_LEAST_COMPRESSED_BYTES = 1_000


def create_app(settings: ApiSettings | None = None) -> FastAPI:
    """Create the application, by default with the settings of the environment. Starts without its database and waits for it."""
    chosen, installation = settings or read_settings(), read_installation()
    if chosen.log_format == "json":
        log_as_json()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        load_templates()
        async with make_pool(chosen) as app.state.pool, make_export_pool(chosen) as app.state.exports:
            app.state.answers = _make_cache(chosen, app)
            app.state.lake = Lake(installation.lake, chosen)
            yield
            app.state.lake.close()
        await flush()

    # /docs needs no CDN.
    app = FastAPIOffline(
        title="hl-pipeline",
        description=_DESCRIPTION,
        version=read_version(),
        redoc_url=None,
        lifespan=lifespan,
        telemetry=OFF,
    )
    app.state.settings = chosen
    app.state.installation = installation
    app.state.keys = parse_keys(chosen.api_keys.get_secret_value()) if chosen.api_keys else ()
    app.state.universe = read_snapshot(chosen.api_meta_file)
    app.state.metrics = make_metrics()
    app.state.system_metrics = SystemMetrics(installation, chosen.url)
    app.state.metrics.registry.register(app.state.system_metrics)
    modules = (twaps, fills, statistics, leaderboards, wallets, tax, coverage, cost, service, dialect, info, pages)
    routers = [routes.router for routes in modules]
    for router in routers:
        app.include_router(router, dependencies=[Depends(refuse_repeated)])
    serve_openapi(app)
    serve_docs(app)
    if app.state.keys:
        add_login(app, app.state.keys)
    app.state.routes = list_routes(app, routers)
    add_error_handlers(app)
    _add_middlewares(app, chosen)
    return app


def _add_middlewares(app: FastAPI, settings: ApiSettings) -> None:
    """Add them from the inside out: the last one sees a request first, and its answer last."""
    # Parquet is compressed already.
    for one in ("csv", "ndjson", "arrow"):
        add_compress_type(MEDIA_TYPES[one])
    app.add_middleware(CompressMiddleware, minimum_size=_LEAST_COMPRESSED_BYTES, zstd_level=1, brotli_quality=1, gzip_level=1)
    limit = RequestLimit(settings.api_requests_per_minute)
    app.add_middleware(guard, settings=settings, keys=app.state.keys, limit=limit)
    if origins := parse_origins(settings.api_cors_origins):
        # Outside the guard: a browser asks whether it may send a key before it sends it. Without cookies: they are SameSite.
        app.add_middleware(_allow_origins, origins=origins)
    app.add_middleware(refuse_long_urls)
    # It counts what the inner ones refuse, and is inside those that copy the scope, in which it finds the route.
    app.add_middleware(count_requests, metrics=app.state.metrics)
    app.add_middleware(trace_requests)
    app.add_middleware(answer_head)
    app.add_middleware(serve_below, prefix=settings.api_path_prefix)
    app.add_middleware(add_security_headers)
    app.add_middleware(identify_requests, log_requests=settings.log_format == "json")


def _allow_origins(app: ASGIApp, origins: list[str]) -> ASGIApp:
    """Middleware that answers browsers which ask what pages of `origins` may do: GET everywhere, and POST on /info alone."""
    keys = ["Authorization", "X-API-Key"]
    shown = ["ETag", "Retry-After", "Content-Disposition", HEADER, *COVERAGE_HEADERS, *PAGE_HEADERS, *info.INFO_HEADERS]
    reading = CORSMiddleware(app, origins, ["GET", "HEAD"], [*keys, "If-None-Match"], expose_headers=shown)
    asking = CORSMiddleware(app, origins, ["POST"], [*keys, "Content-Type"], expose_headers=shown)

    async def allowed(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        await (asking if path == INFO_PATH else reading)(scope, receive, send)

    return allowed


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
