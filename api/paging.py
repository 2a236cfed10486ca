"""Keyset paging: a page of rows, and the opaque cursor that marks the row after which the next page begins."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, TypeVar

import orjson
from fastapi import Request
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from pydantic import TypeAdapter, ValidationError

from api.parameters import Paged, wrong

Position = TypeVar("Position")

# These select a part of a list, or its format. All other parameters select a different list.
_NO_FILTERS = {"cursor", "limit", "offset", "format"}
_DIGEST_BYTES = 8


def read_cursor(request: Request, asked: Paged, kind: TypeAdapter[Position], first: Position) -> Position:
    """Return the position of the row after which the page begins, from `cursor`. Without a cursor, returns `first`.

    Raises RequestValidationError for a cursor that was not made for this path and these filters.
    """
    if asked.cursor is None:
        return first
    try:
        content = base64.b64decode(asked.cursor.encode("ascii"), altchars=b"-_", validate=True)
        digest, position = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if digest == _digest(request, asked, position):
            return kind.validate_json(position, strict=True)
    except (binascii.Error, UnicodeEncodeError, ValidationError):
        pass
    raise wrong("cursor", "is not a next_cursor of this path with these parameters", asked.cursor)


def make_cursor(request: Request, asked: Paged, position: tuple[Any, ...]) -> str:
    """Return the cursor of the page that begins after the row at `position`."""
    content = orjson.dumps(position)
    return base64.urlsafe_b64encode(_digest(request, asked, content) + content).decode()


async def read_rows(
    connection: AsyncConnection, query: bytes, values: dict[str, Any], limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """Return at most `limit` rows, and whether there are more."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(query, {**values, "limit": limit + 1})
    rows = await cursor.fetchall()
    return rows[:limit], len(rows) > limit


def _digest(request: Request, asked: Paged, position: bytes) -> bytes:
    # The digest needs no secret: a forged cursor only shows rows that the client could request anyway.
    # A cursor stays valid under another path prefix.
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    filters = orjson.dumps([path, asked.model_dump(exclude=_NO_FILTERS)])
    return hashlib.blake2b(filters + position, digest_size=_DIGEST_BYTES).digest()
