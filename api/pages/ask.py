"""A page's questions to the REST API, which its own routes answer within this process.

So a page shows the figures of the API, is refused with its messages, and has no queries of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import quote, urlencode

import orjson
from fastapi import Request
from starlette.types import Message

from api.parameters import Format

# What routing adds to the scope of the page.
_OF_ROUTE = {"route", "endpoint", "path_params", "router"}
# A file has the whole range, not one page of it.
_OF_PAGE = {"limit", "cursor"}
# Of one page, whose questions wait for each other in the scope's `_TURNS`. So other requests find a free connection in the pool.
_AT_ONCE = 3
_TURNS = "hl.turns"


@dataclass(frozen=True, slots=True)
class Answer:
    """The JSON of a REST route, and how to request it again."""

    path: str
    """Below the path prefix, not escaped."""
    parameters: dict[str, str]
    content: dict[str, Any]
    formats: tuple[str, ...]

    def url(self, chosen: str = "json") -> str:
        """Return the path and query of this answer, or of the whole range as a file."""
        given = self.parameters
        if chosen != "json":
            given = {name: value for name, value in given.items() if name not in _OF_PAGE} | {"format": chosen}
        return quote(self.path) + (f"?{urlencode(given)}" if given else "")


class RefusedError(Exception):
    """The API refused the question of a page."""

    def __init__(self, status: int, detail: object, candidates: list[str] | None = None) -> None:
        super().__init__(status, detail)
        self.status, self.detail, self.candidates = status, detail, candidates or []


async def ask(request: Request, path: str, **parameters: object) -> Answer:
    """Return the answer of the REST route at `path`. Parameters that are None are left out. Raises RefusedError."""
    given = {name: str(value) for name, value in parameters.items() if value is not None}
    scope = {name: value for name, value in request.scope.items() if name not in _OF_ROUTE}
    whole = scope.get("root_path", "") + path
    scope |= {"method": "GET", "path": whole, "raw_path": quote(whole).encode(), "query_string": urlencode(given).encode()}
    scope["headers"] = [(name, value) for name, value in request.headers.raw if name == b"host"] + [
        (b"accept", b"application/json")
    ]
    status, body = 500, bytearray()

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body.extend(message.get("body", b""))

    async with request.scope.setdefault(_TURNS, asyncio.Semaphore(_AT_ONCE)):
        # Not through the middlewares: they have let the page through, and count it once.
        await request.app.router(scope, request.receive, send)
    content = orjson.loads(body)
    if status != 200:
        raise RefusedError(status, content["detail"], content.get("candidates"))
    has_files = "content" in getattr(scope.get("route"), "responses", {}).get(200, {})
    return Answer(path, given, content, get_args(Format) if has_files else ("json",))


async def ask_all(
    request: Request, path: str, name: str, most_pages: int, **parameters: object
) -> tuple[Answer, list[Any], bool]:
    """Return the first page of a list, the rows `name` of at most `most_pages` pages, and whether there are more."""
    first = await ask(request, path, **parameters)
    rows, cursor = [*first.content[name]], first.content["next_cursor"]
    for _ in range(most_pages - 1):
        if cursor is None:
            break
        page = await ask(request, path, **parameters, cursor=cursor)
        rows += page.content[name]
        cursor = page.content["next_cursor"]
    return first, rows, cursor is not None
