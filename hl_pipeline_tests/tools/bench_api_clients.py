"""Cheap clients: persistent sockets, each with one request in progress. Not a test.

They use no HTTP library and no asyncio streams, which take more time for a small response than the server does.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import cast

import uvloop

_PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Load:
    """The seconds of each request, of all requests together, and of this process's CPU."""

    took: list[float]
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds

    @property
    def cpu_share(self) -> float:
        return self.cpu_seconds / self.seconds

    def quantile(self, share: float) -> float:
        """Return the milliseconds within which this share of the requests completed."""
        return sorted(self.took)[int(len(self.took) * share)] * 1000


def put_under_load(port: int, path: str, *, clients: int, seconds: float) -> Load:
    """Request `path` on `clients` connections, each with one request after the other."""
    return uvloop.run(_ask(port, path, clients, seconds))


async def _ask(port: int, path: str, clients: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    took: list[float] = []
    cpu, began = time.process_time(), time.perf_counter()
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    asking = [_Client(request, took, began + seconds, loop.create_future()) for _ in range(clients)]
    async with asyncio.timeout(seconds + _PATIENCE_SECONDS):
        for client in asking:
            await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
        await asyncio.gather(*(client.done for client in asking))
    return Load(took, time.perf_counter() - began, time.process_time() - cpu)


class _Client(asyncio.Protocol):
    """Sends the next request as soon as a response is complete. `done` has the error of any response other than 200."""

    def __init__(self, request: bytes, took: list[float], deadline: float, done: asyncio.Future[None]) -> None:
        self._request, self._took, self._deadline, self.done = request, took, deadline, done
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # This is uvloop's own class, not one of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        # After the head of a response, only its length matters. uvicorn sends the head in one piece.
        if self._missing == 0:
            head, _, body = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                self.done.set_exception(RuntimeError(repr(data)))
                self._transport.close()
                return
            self._missing = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) - len(body)
        else:
            self._missing -= len(data)
        if self._missing > 0:
            return
        now = time.perf_counter()
        self._took.append(now - self._began)
        if now < self._deadline:
            self._send()
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)
