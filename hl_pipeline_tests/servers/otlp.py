"""A collector of OpenTelemetry traces: a real HTTP server that decodes what exporters send. Not a test."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it arrived. `parent`: the ID of the span above it, or empty. `status`: 2 is an error."""

    name: str
    service: str
    trace_id: str
    span_id: str
    parent: str
    kind: int
    status: int
    message: str
    attributes: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Collector:
    """What a collector at `url` has received. `bodies`: the bytes of each request, unzipped."""

    url: str
    bodies: list[bytes] = field(default_factory=list[bytes])
    spans: list[ReceivedSpan] = field(default_factory=list[ReceivedSpan])

    def named(self, name: str) -> ReceivedSpan:
        """Return the only span of that name."""
        [found] = [span for span in self.spans if span.name == name]
        return found

    def above(self, span: ReceivedSpan) -> list[str]:
        """Return the names of the spans above it, the nearest one first."""
        of_id = {one.span_id: one for one in self.spans}
        names: list[str] = []
        while span.parent in of_id:
            span = of_id[span.parent]
            names.append(span.name)
        return names


@contextmanager
def collecting() -> Generator[Collector]:
    """Serve a collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            is_right = (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            if is_right:
                collector.bodies.append(body)
                collector.spans.extend(_decode(body))
            self.send_response(200 if is_right else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield collector
        finally:
            server.shutdown()


def _decode(body: bytes) -> Generator[ReceivedSpan]:
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        [service] = [one.value.string_value for one in of_resource.resource.attributes if one.key == "service.name"]
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                attributes = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
                yield ReceivedSpan(
                    span.name,
                    service,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.status.code,
                    span.status.message,
                    attributes,
                )
