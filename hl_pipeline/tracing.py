"""OpenTelemetry traces of runs: sent if OpenTelemetry's own variables name a collector and the extra `tracing` is installed.

Otherwise nothing is imported. No other module of hl_pipeline imports opentelemetry.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from hl_pipeline.events import emit

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_log = logging.getLogger(__name__)
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SUPPORTED = "http/protobuf"
_NO_EXTRA = "the extra `tracing` is not installed; install it with `uv sync --extra tracing`"
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# The span of the run that this process executes: stages mark it as failed.
_runs: list[Span] = []


@contextmanager
def span(name: str, **attributes: object) -> Generator[None]:
    """Trace the block as a span below the current one. An exception marks it, and the run's, with its class alone."""
    provider = _find_provider()
    if provider is None:
        yield
        return
    # The messages of errors and their tracebacks stay in the run's log.
    with provider.get_tracer(__name__).start_as_current_span(
        name, attributes=_name_attributes(attributes), record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except BaseException as error:
            for failed in (current, *_runs):
                _mark_failed(failed, error)
            raise


@contextmanager
def trace_run(**attributes: object) -> Generator[None]:
    """Trace the block as a run, and send its spans at the end: a launched run's process ends without any further call."""
    provider = _find_provider()
    if provider is None:
        yield
        return
    with provider.get_tracer(__name__).start_as_current_span("run", attributes=_name_attributes(attributes)) as run:
        # By this, a person finds the trace of a run that the UI shows.
        emit(_log, "trace_began", trace_id=f"{run.get_span_context().trace_id:032x}")
        _runs.append(run)
        try:
            yield
        finally:
            _runs.remove(run)
    provider.force_flush()


def keep_parent(function: Callable[[_Item], _Result]) -> Callable[[_Item], _Result]:
    """Return `function` for other threads: its spans there are below the span that is current now."""
    if _find_provider() is None:
        return function
    context = copy_context()
    return lambda item: context.copy().run(function, item)


def find_endpoint(environment: Mapping[str, str]) -> str | None:
    """Return the name of the variable that names a collector of traces. None: none does, or traces are switched off."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    return _first_set(environment, _ENDPOINTS)


@cache
def _find_provider() -> TracerProvider | None:
    """Return what sends the spans of this process. None: traces are off. Warns, once, if they cannot be sent."""
    name = find_endpoint(os.environ)
    if name is None:
        return None
    protocol = _first_set(os.environ, _PROTOCOLS)
    if protocol is not None and os.environ[protocol] != _SUPPORTED:
        return _warn(name, f"{protocol} is {os.environ[protocol]}; only {_SUPPORTED} is supported")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return _warn(name, _NO_EXTRA)
    service = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or "hl-pipeline", "service.version": version("hl-pipeline")}
    try:
        provider = TracerProvider(resource=Resource.create(service))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        # A variable that is no number, say. A run does not fail for that.
        return _warn(name, str(error))
    return provider


def _first_set(environment: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((name for name in names if environment.get(name)), None)


def _warn(name: str, reason: str) -> None:
    _log.warning("%s is set, but no traces are sent: %s", name, reason)


def _name_attributes(attributes: Mapping[str, object]) -> dict[str, str | int]:
    return {f"hl.{name}": value if isinstance(value, int) else str(value) for name, value in attributes.items()}


def _mark_failed(span: Span, error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
