"""Prometheus metrics: requests by route, connection pools, the database."""

from __future__ import annotations

import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.database import Pool
from api.route_templates import find_route, name_method

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of this process. With several workers, each has its own, and a scrape reaches one of them."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    pool: Gauge
    cache_hits: Counter
    cache_bytes: Gauge
    up: Gauge
    age: Gauge


def make_metrics() -> Metrics:
    """Create all metrics in a separate registry."""
    registry = CollectorRegistry()
    return Metrics(
        registry,
        Counter("hl_api_requests", "Requests answered", ["route", "method", "status"], registry=registry),
        Histogram(
            "hl_api_request_seconds", "Time until the last byte of the response", ["route"], registry=registry, buckets=_BUCKETS
        ),
        Gauge(
            "hl_api_pool_connections",
            "Connections to PostgreSQL, and requests waiting for one",
            ["pool", "what"],
            registry=registry,
        ),
        Counter("hl_api_cache_hits", "Answers repeated from memory because the database was unchanged", registry=registry),
        Gauge("hl_api_cache_bytes", "Size of the answers kept in memory", registry=registry),
        Gauge("hl_api_database_up", "1 if the database answers", registry=registry),
        Gauge(
            "hl_api_last_ingest_age_seconds",
            "Seconds since an object was last ingested; NaN: never, or unknown",
            registry=registry,
        ),
    )


def show(metrics: Metrics, pools: list[Pool], *, up: bool, age_seconds: float | None) -> bytes:
    """Return all metrics in Prometheus text format."""
    for pool in pools:
        stats = pool.get_stats()
        for what, name in (("size", "pool_size"), ("available", "pool_available"), ("waiting", "requests_waiting")):
            metrics.pool.labels(pool.name, what).set(stats.get(name, 0))
    metrics.up.set(up)
    metrics.age.set(float("nan") if age_seconds is None else age_seconds)
    return generate_latest(metrics.registry)


def count_requests(app: ASGIApp, metrics: Metrics) -> ASGIApp:
    """Middleware that counts and times the requests of `app` by route template."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, noting)
        except BaseException:
            # An aborted export began with 200.
            status = 500
            raise
        finally:
            route = find_route(scope)
            metrics.requests.labels(route, name_method(scope), str(status)).inc()
            metrics.seconds.labels(route).observe(time.perf_counter() - started)

    return counted
