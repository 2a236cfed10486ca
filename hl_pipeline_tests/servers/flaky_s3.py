"""A proxy in front of the S3 server with configurable faults. It logs every request, and the bytes of each body it sends."""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from hl_pipeline_tests.servers.s3 import S3Server

Kind = Literal[
    "403",
    "404",
    "500",
    "502",
    "503",
    "400",
    "answer",
    "reset",
    "cut",
    "stall",
    "short",
    "long",
    "extra",
    "flipped",
    "changed",
    "no ranges",
    "no etags",
]
_CODES = {
    "400": "RequestTimeout",
    "403": "AccessDenied",
    "404": "NoSuchKey",
    "500": "InternalError",
    "502": "BadGateway",
    "503": "SlowDown",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that affects a request.

    Kinds: an error status; answer (`status`, the XML members `error` and a header); reset (no response); cut (the connection ends
    after a part of the body); stall (nothing follows that part); short, long (Content-Length is too small or too large); extra
    (more bytes than the object has); flipped (one byte of the body differs); changed (the object differs from the listing); no
    ranges (the whole object, whatever range was requested); no etags (a listing without ETags).

    `at`: the part of the body, 0 to 1. `on`, `key`: the fault affects requests of this method with `key` in their path.
    `lasting`: it affects all of them, not only the first.
    """

    kind: Kind
    at: float = 0.5
    on: Literal["GET", "LIST"] = "GET"
    key: str = ""
    status: int = 0
    error: str = ""
    header: tuple[str, str] | None = None
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that the proxy received. `status` is None if there was no response. `bytes`: the bytes of the body it sent."""

    method: str
    path: str
    status: int | None
    bytes: int
    range: str | None


@dataclass(slots=True)
class FlakyS3:
    """The proxy. Each of `faults` affects the first request that matches it, in order. `chance`: the chance of a random fault.

    `rate`: bytes per second of a connection (None: unlimited). `most_at_once`: the most GETs that were in progress at once,
    counted only with a rate.
    """

    url: str
    behind: S3Server
    faults: list[Fault] = field(default_factory=list[Fault])
    log: list[Sent] = field(default_factory=list[Sent])
    random: random.Random = field(default_factory=random.Random)
    chance: float = 0.0
    rate: float | None = None
    most_at_once: int = 0
    kinds: tuple[Kind, ...] = ("500", "502", "503", "400", "reset", "cut", "short", "long", "extra", "flipped", "no ranges")
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def answering(self) -> Generator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for n, fault in enumerate(self.faults):
                if fault.on == method and fault.key in path:
                    return fault if fault.lasting else self.faults.pop(n)
            if self.random.random() < self.chance:
                return Fault(self.random.choice(self.kinds), self.random.random())
        return None

    def note(self, sent: Sent) -> None:
        with self._lock:
            self.log.append(sent)


def _answer_of(fault: Fault) -> tuple[int, dict[str, str], bytes] | None:
    """Return the status, headers and body of a fault that is an error response."""
    if fault.kind == "answer":
        status, error = fault.status, fault.error
    elif fault.kind in _CODES:
        status, error = int(fault.kind), f"<Code>{_CODES[fault.kind]}</Code><Message>told to</Message>"
    else:
        return None
    body = f"<?xml version='1.0'?><Error>{error}</Error>".encode() if error else b""
    return status, {"Content-Type": "application/xml"} | dict([fault.header] if fault.header else []), body


class _Handler(BaseHTTPRequestHandler):
    flaky: FlakyS3
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.close_connection = True
        method = "LIST" if "list-type=2" in self.path else "GET"
        fault = self.flaky.fault_of(method, self.path)
        kind = fault.kind if fault else None
        if kind == "reset":
            self._note(method, None, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        if fault is not None and (told := _answer_of(fault)) is not None:
            self._answer(method, *told, len(told[2]))
            return
        status, headers, body = self._ask(kind)
        sent = len(body)
        length = len(body)
        if fault is not None and status < 300 and body:
            part = min(int(len(body) * fault.at), len(body) - 1)
            if kind in ("cut", "stall"):
                sent = part
            elif kind == "short":
                sent = length = part
            elif kind == "long":
                length += 7
            elif kind == "extra":
                body += b"7 bytes"
                sent = length = len(body)
            elif kind == "flipped":
                body = body[:part] + bytes([body[part] ^ 1]) + body[part + 1 :]
        self._answer(method, status, headers, body[:sent], length)
        if kind == "stall":
            self.connection.settimeout(20)
            # Wait until the client gives up.
            self.connection.recv(1)

    def _ask(self, kind: str | None) -> tuple[int, dict[str, str], bytes]:
        """Return the response of the server behind the proxy."""
        headers = dict(self.headers.items())
        if kind == "changed":
            headers["If-Match"] = '"another"'
        if kind == "no ranges":
            headers.pop("Range", None)
        behind = http.client.HTTPConnection(urlsplit(self.flaky.behind.url).netloc, timeout=60)
        behind.request("GET", self.path, headers=headers)
        answer = behind.getresponse()
        body = answer.read()
        if kind == "no etags":
            body = re.sub(rb"<ETag>.*?</ETag>", b"", body)
        behind.close()
        left_out = ("content-length", "connection", "transfer-encoding", "date", "server")
        return answer.status, {name: value for name, value in answer.getheaders() if name.lower() not in left_out}, body

    def _answer(self, method: str, status: int, headers: dict[str, str], body: bytes, length: int) -> None:
        self._note(method, status, len(body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        piece = max(len(body), 1) if self.flaky.rate is None else 1 << 18
        for start in range(0, len(body), piece):
            if self.flaky.rate is not None and method == "GET":
                # The write itself is not counted: with the last byte, the client may request the next object before we are done.
                with self.flaky.answering():
                    time.sleep(len(body[start : start + piece]) / self.flaky.rate)
            self.wfile.write(body[start : start + piece])
            self.wfile.flush()

    def _note(self, method: str, status: int | None, size: int) -> None:
        self.flaky.note(Sent(method, self.path, status, size, self.headers.get("Range")))


@contextmanager
def serve_flaky(behind: S3Server) -> Generator[FlakyS3]:
    """Serve until the block ends."""
    flaky = FlakyS3("", behind)
    handler = type("Handler", (_Handler,), {"flaky": flaky})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    flaky.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield flaky
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
