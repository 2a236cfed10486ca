"""Reads the body of `POST /info`, and says what is wrong with one. The times of the info API are milliseconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Request
from pydantic import Field, TypeAdapter, ValidationError

from api.models.info import LAST_MS, Asked
from api.parameters import FIRST

_MOST_BODY_BYTES = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ASKED: TypeAdapter[Asked] = TypeAdapter(Annotated[Asked, Field(discriminator="type")])
# Clients look for these words of Hyperliquid's.
_WORDS = "Failed to deserialize the JSON body into the target type"
_INTEGER = f"must be a whole number of milliseconds since 1970, from 0 to {LAST_MS}"
_MESSAGES = {
    "string_pattern_mismatch": "must be {form}",
    "missing": "is required",
    "int_type": _INTEGER,
    "greater_than_equal": _INTEGER,
    "less_than_equal": _INTEGER,
    "literal_error": "must be {expected}",
    "bool_type": "must be true or false",
}
_FORMS = {"user": "0x and 40 hexadecimal digits", "coin": "a coin, 1 to 64 characters without a space"}


class RefusedError(Exception):
    """A body that is not answered. Hyperliquid's errors are plain text, and its Python client expects that."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def read_asked(request: Request) -> Asked:
    """Return the body of a request. Raises RefusedError."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "Expected request with `Content-Type: application/json`")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY_BYTES:
            raise RefusedError(413, f"the body must be at most {_MOST_BODY_BYTES:,} bytes")
    try:
        return _ASKED.validate_json(body)
    except ValidationError as error:
        [first, *_] = error.errors()
    if first["type"] == "json_invalid":
        raise RefusedError(400, f"Failed to parse the request body as JSON: {first.get('ctx', {}).get('error', first['msg'])}")
    raise RefusedError(422, f"{_WORDS}: {_say(first)}")


def to_instant(milliseconds: int | None) -> datetime:
    """Return a time of the info API as an instant. None: now. Times before the first one that is served become that one."""
    if milliseconds is None:
        return datetime.now(UTC)
    return max(FIRST, _EPOCH + timedelta(milliseconds=milliseconds))


def to_milliseconds(instant: datetime) -> int:
    """Return the milliseconds since 1970."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _say(error: Any) -> str:
    context = error.get("ctx", {})
    if error["type"] == "union_tag_invalid":
        return f"type: unknown variant {context['tag']!r}, expected one of {context['expected_tags']}"
    if error["type"] == "union_tag_not_found":
        return "missing field `type`"
    # The first part is the type.
    where = ".".join(map(str, error["loc"][1:])) or "body"
    text = str(_MESSAGES.get(error["type"], error["msg"]))
    return f"{where}: {text.format(form=_FORMS.get(where.rpartition('.')[2], ''), **context)}"
