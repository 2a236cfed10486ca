"""ETag, Cache-Control and 304 for answers in JSON: a client does not download an unchanged answer again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

from api.responses import JSON

Handler = Callable[[Request], Awaitable[Response]]
_CONDITIONAL = (b"etag", b"cache-control", b"vary")
_DIGEST_BYTES = 16
_CHECK_ALWAYS, _KEEP = "no-cache", "max-age=300"
NO_STORE = "no-store"


def keep_if_whole(end: datetime, coverage: object) -> dict[str, str]:
    """Return headers that let a client keep an answer for five minutes, if its range is over and each of its days is whole.

    `coverage` is that of the answer. A whole day changes only when it is loaded again.
    """
    runs = orjson.loads(orjson.dumps(coverage))
    is_whole = bool(runs) and all(run["state"] == "whole" for run in runs) and end < datetime.now(UTC)
    return {"Cache-Control": _KEEP} if is_whole else {}


def never_keep(lake_fault: str | None) -> dict[str, str]:
    """Return headers against keeping an answer that lacks days because the lake could not be read: it may be back any moment."""
    return {} if lake_fault is None else {"Cache-Control": NO_STORE}


def tag(request: Request, response: Response) -> Response:
    """Give an answer in JSON its ETag, Cache-Control and Vary. Others stay as they are."""
    if not is_tagged(response):
        return response
    has_keys = bool(request.app.state.keys)
    headers = response.headers
    # Weak: the same answer may be compressed in several ways.
    headers["ETag"] = f'W/"{blake2b(response.body, digest_size=_DIGEST_BYTES).hexdigest()}"'
    headers["Cache-Control"] = f"{'private' if has_keys else 'public'}, {headers.get('Cache-Control', _CHECK_ALWAYS)}"
    # The compression adds Accept-Encoding, where an answer is long enough for it.
    headers["Vary"] = "Accept" + (", Authorization, X-API-Key, Cookie" if has_keys else "")
    return response


def is_tagged(response: Response) -> bool:
    """Return whether the answer gets an ETag: JSON with status 200. Exports are streams, and have no body yet."""
    return response.status_code == 200 and response.media_type == JSON and isinstance(response.body, bytes)


def conditional_headers(response: Response) -> list[tuple[bytes, bytes]]:
    """Return what `tag` has set."""
    return [(name, value) for name, value in response.raw_headers if name in _CONDITIONAL]


class ConditionalRoute(APIRoute):
    """A route whose answers in JSON have an ETag."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            return _unless_known(request, await self.read(request, handler))

        return answer

    async def read(self, request: Request, handler: Handler) -> Response:
        """Return the tagged answer."""
        return tag(request, await handler(request))


def _unless_known(request: Request, response: Response) -> Response:
    """Return 304 instead of an answer that the client has."""
    if (known := request.headers.get("if-none-match")) is None or (etag := response.headers.get("etag")) is None:
        return response
    if known.strip() == "*" or etag.removeprefix("W/") in (one.strip().removeprefix("W/") for one in known.split(",")):
        unchanged = Response(status_code=304)
        unchanged.raw_headers.extend(conditional_headers(response))
        unchanged.headers.add_vary_header("Accept-Encoding")
        return unchanged
    return response
