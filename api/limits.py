"""Limits for one client: requests per minute, and the length of a URL.

Each worker counts in its own memory, so two workers allow twice as many requests.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from dataclasses import dataclass

from fastapi import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.responses import respond

# The oldest minute is forgotten first, so that no number of addresses fills the memory.
_MOST_VISITORS = 10_000
_MINUTE_SECONDS = 60.0
# A client with an IPv6 address has at least 2^64 of them.
_IPV6_NETWORK = 64
_MOST_URL_BYTES = 8_000


@dataclass(slots=True)
class _Minute:
    began: float
    requests: int = 0


class RequestLimit:
    """At most `per_minute` requests of each visitor, counted from the first one for a minute. 0: no limit."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        # In the order in which they began.
        self._minutes: OrderedDict[str, _Minute] = OrderedDict()

    def refuse(self, visitor: str | None) -> Response | None:
        """Count a request of `visitor` (`key NAME`, `address IP`; None: not counted). Return the refusal if it is too many."""
        if not self._per_minute or visitor is None:
            return None
        minute = self._minute_of(visitor if visitor.startswith("key ") else _network(visitor))
        minute.requests += 1
        if minute.requests <= self._per_minute:
            return None
        seconds = max(1, math.ceil(minute.began + _MINUTE_SECONDS - time.monotonic()))
        detail = f"more than {self._per_minute} requests in a minute from {visitor}; try again in {seconds} seconds"
        return respond({"detail": detail}, 429, {"Retry-After": str(seconds)})

    def count_visitors(self) -> int:
        """Return how many visitors are counted at the moment."""
        return len(self._minutes)

    def _minute_of(self, visitor: str) -> _Minute:
        now = time.monotonic()
        while self._minutes and next(iter(self._minutes.values())).began <= now - _MINUTE_SECONDS:
            self._minutes.popitem(last=False)
        if visitor not in self._minutes:
            if len(self._minutes) == _MOST_VISITORS:
                self._minutes.popitem(last=False)
            self._minutes[visitor] = _Minute(now)
        return self._minutes[visitor]


def _network(visitor: str) -> str:
    host = visitor.removeprefix("address ").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return host if address.version == 4 else str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False))


def refuse_long_urls(app: ASGIApp) -> ASGIApp:
    """Middleware that answers 414 to a URL that no client of this API needs."""

    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and len(scope.get("raw_path") or b"") + len(scope["query_string"]) > _MOST_URL_BYTES:
            refusal = respond({"detail": f"the URL must be at most {_MOST_URL_BYTES:,} bytes"}, 414)
            await refusal(scope, receive, send)
            return
        await app(scope, receive, send)

    return refusing
