"""OpenTelemetry traces of requests: sent if OpenTelemetry's own variables name a collector and the extra `tracing` is installed.

Otherwise its SDK is not imported. No other module of api imports opentelemetry. A span has the template of its route, never the
path, the query, a header or the client's address: paths and queries have wallets in them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection, AsyncCursor, AsyncServerCursor
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.route_templates import find_route, name_method, path_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_log = logging.getLogger(__name__)
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SUPPORTED = "http/protobuf"
_NO_EXTRA = "the extra `tracing` is not installed; install it with `uv sync --extra tracing`"
# Probes and scrapes come every few seconds: they would be most of all traces.
_NOT_TRACED = ("/healthz", "/metrics")
OFF = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own telemetry, switched off: it sends paths and queries."""


def trace_requests(app: ASGIApp) -> ASGIApp:
    """Middleware that gives each request of `app` a span. `app` itself if traces are off."""
    provider = _find_provider()
    if provider is None:
        return app
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    tracer, propagator = provider.get_tracer(__name__), TraceContextTextMapPropagator()

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_of(scope) in _NOT_TRACED:
            await app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = name_method(scope)
        # Known at the end, since the route is then found; here, a sampler needs a name.
        with tracer.start_as_current_span(
            method,
            context=propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await app(scope, receive, noting)
            except BaseException as error:
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise
            finally:
                route = find_route(scope)
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)

    return traced


def trace_queries(connection: AsyncConnection) -> None:
    """Give each query that a request sends over `connection` a span, with its time and rows, and without its text."""
    if _find_provider() is not None:
        connection.cursor_factory = _TracedCursor
        connection.server_cursor_factory = _TracedServerCursor


async def flush() -> None:
    """Send the spans that are still here: a server that a signal ends calls nothing at its exit."""
    provider = _find_provider()
    if provider is not None:
        await asyncio.to_thread(provider.force_flush)


class _TracedCursor(AsyncCursor[Any]):
    async def execute(self, *arguments: Any, **options: Any) -> Any:
        with _span_of_query() as span:
            await super().execute(*arguments, **options)
            span.set_attribute("db.response.returned_rows", self.rowcount)
        return self


class _TracedServerCursor(AsyncServerCursor[Any]):
    """An export: one query, fetched in batches."""

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        with _span_of_query():
            await super().execute(*arguments, **options)
        return self

    async def fetchmany(self, size: int = 0) -> list[Any]:
        with _span_of_query():
            return await super().fetchmany(size)


def _span_of_query() -> Any:
    from opentelemetry.trace import INVALID_SPAN, SpanKind, get_current_span, use_span

    provider = _find_provider()
    # What the pool asks by itself belongs to no request.
    if provider is None or not get_current_span().is_recording():
        return use_span(INVALID_SPAN)
    return provider.get_tracer(__name__).start_as_current_span(
        "query", kind=SpanKind.CLIENT, attributes={"db.system.name": "postgresql"}, record_exception=False
    )


@cache
def _find_provider() -> TracerProvider | None:
    """Return what sends the spans of this process. None: traces are off. Warns, once, if they cannot be sent."""
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    name = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if name is None or is_off:
        return None
    protocol = next((name for name in _PROTOCOLS if os.environ.get(name)), None)
    if protocol is not None and os.environ[protocol] != _SUPPORTED:
        return _warn(name, f"{protocol} is {os.environ[protocol]}; only {_SUPPORTED} is supported")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # That module uses this one.
        from api.database import read_version
    except ImportError:
        return _warn(name, _NO_EXTRA)
    service = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or "hl-api", "service.version": read_version()}
    try:
        provider = TracerProvider(resource=Resource.create(service))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        return _warn(name, str(error))
    return provider


def _warn(name: str, reason: str) -> None:
    _log.warning("%s is set, but no traces are sent: %s", name, reason)
