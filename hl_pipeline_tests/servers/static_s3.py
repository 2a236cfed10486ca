"""A directory as an S3 bucket, read-only, in a process of its own: the requests that readers of a lake make, at the speed of a
disk. For measurements; tests use `s3.py`, which knows the whole protocol.
"""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Handler(BaseHTTPRequestHandler):
    root: Path
    latency_seconds: float
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def _answer(self, *, has_body: bool) -> None:
        time.sleep(self.latency_seconds)
        path = self.root / unquote(urlsplit(self.path).path).strip("/")
        if not path.exists():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = path.stat().st_size if path.is_file() else 0
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(wanted[1]), min(int(wanted[2]), size - 1)) if wanted else (0, size - 1)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
        self.send_header("Last-Modified", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(path.stat().st_mtime)))
        self.end_headers()
        if has_body and path.is_file():
            with path.open("rb") as file:
                file.seek(first)
                self.wfile.write(file.read(last - first + 1))


def _serve(pipe: Connection, root: Path, latency_seconds: float) -> None:
    handler = type("Handler", (_Handler,), {"root": root, "latency_seconds": latency_seconds})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    pipe.send(server.server_port)
    server.serve_forever()


@contextmanager
def serve_directory(root: Path, latency_seconds: float = 0) -> Generator[dict[str, str]]:
    """Serve the directories in `root` as buckets. Yields the variables of AWS for it. `latency_seconds`: before each answer."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, root, latency_seconds), daemon=True)
    process.start()
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ours.recv()}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        process.terminate()
        process.join()
