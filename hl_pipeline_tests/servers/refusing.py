"""A small HTTP server that gives prepared answers, to show what a client makes of them. Not a test."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. `status` 0: close the connection without an answer."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Refusing:
    """Gives `replies` in turn, and the last one from then on. `seconds` has when each request came."""

    url: str
    replies: list[Reply]
    seconds: list[float] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def refusing(*replies: Reply) -> Generator[Refusing]:
    """Serve `replies` on a free port during the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.seconds.append(time.monotonic())
            served.headers.append(dict(self.headers))
            reply = served.replies[min(len(served.seconds), len(served.replies)) - 1]
            if reply.status == 0:
                self.close_connection = True
                return
            body = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Refusing(f"http://127.0.0.1:{server.server_port}", list(replies))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
