"""How much one client may ask: requests per minute, and the length of a URL.

Counts are in the memory of a worker: with several workers a client may ask as many times as much.
"""

from __future__ import annotations

import ipaddress
import math
import time

from fastapi import Response
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from api.responses import respond

# Addresses share so many counters, so that no number of them fills the memory. Which ones share is random. `limits` looks at all
# counters after each request, which takes 0.1 ms for so many.
_COUNTERS = 1024
# Whoever has an IPv6 address has at least 2^64 of them.
_IPV6_NETWORK = 64
_MOST_URL_BYTES = 8_000


class RequestLimit:
    """At most `per_minute` requests of each visitor, counted from the first one for a minute. 0: no limit."""

    def __init__(self, per_minute: int) -> None:
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None

    async def refuse(self, visitor: str | None) -> Response | None:
        """Count a request of `visitor` (`key NAME`, `address IP`; None: not counted). Return the refusal if it is too many."""
        if self._item is None or visitor is None:
            return None
        counter = visitor if visitor.startswith("key ") else f"address {hash(_network(visitor)) % _COUNTERS}"
        if await self._limiter.hit(self._item, counter):
            return None
        resets_at, _ = await self._limiter.get_window_stats(self._item, counter)
        seconds = max(1, math.ceil(resets_at - time.time()))
        detail = f"more than {self._item.amount} requests in a minute from {visitor}; try again in {seconds} seconds"
        return respond({"detail": detail}, 429, {"Retry-After": str(seconds)})

    def count_counters(self) -> int:
        """Return how many visitors, or groups of addresses, are counted at the moment."""
        return len(self._storage.storage)


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
