"""JSON responses of the routes, and error responses."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg import OperationalError, errors
from starlette.types import ASGIApp, Receive, Scope, Send

from api.coins import UnknownCoinError
from api.headers import security_headers
from api.json_log import request_id
from api.lake_files import LakeBusyError, LakeCorruptError, LakeMemoryError, LakeRefusedError, LakeSlowError
from api.request_log import HEADER

_log = logging.getLogger(__name__)
JSON = "application/json"
_RETRY = {"Retry-After": "2"}
# These replace Pydantic's own messages, which mention inputs, strings and patterns.
_FIELD_REQUIRED = "Field required"
_WORDS = {
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}
_COIN_FORM = "a coin, 1 to 64 characters without a space: SOL, PURR/USDC, @107, xyz:TSLA, #1890"
_FORMS = {
    "wallet": "0x and 40 hexadecimal digits",
    "wallet_addresses": "1 to 100 addresses, each 0x and 40 hexadecimal digits, separated by commas",
    "coin": _COIN_FORM,
    "asset": _COIN_FORM,
}


def respond(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `content` as a JSON response. Stored JSON within it is passed on unchanged, with every digit."""
    return Response(orjson.dumps(content), status, headers, media_type=JSON)


def add_error_handlers(app: FastAPI) -> None:
    """Give each error that a request can raise a response with its own status."""
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(UnknownCoinError, _on_unknown_coin)
    app.add_exception_handler(errors.QueryCanceled, _on_slow)
    app.add_exception_handler(LakeSlowError, _on_slow)
    app.add_exception_handler(LakeMemoryError, _on_large)
    app.add_exception_handler(LakeBusyError, _on_busy)
    app.add_exception_handler(LakeRefusedError, _on_refused)
    app.add_exception_handler(LakeCorruptError, _on_corrupt)
    app.add_exception_handler(errors.SerializationFailure, _on_conflict)
    # This includes the error that the pool raises if it has no connection to give.
    app.add_exception_handler(OperationalError, _on_absent)
    app.add_exception_handler(errors.FeatureNotSupported, _on_changed)
    for kind in (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName, errors.InsufficientPrivilege):
        app.add_exception_handler(kind, _on_unprepared)
    app.add_exception_handler(Exception, _on_unforeseen)


def answer_head(app: ASGIApp) -> ASGIApp:
    """Middleware that handles HEAD like GET. The server leaves out the body."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", "headers_only": True}
        await app(scope, receive, send)

    return answered


def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return respond({"detail": [_say(request, one) for one in error.errors()]}, 422)


def _say(request: Request, error: dict[str, Any]) -> dict[str, Any]:
    """Return an error in FastAPI's form. The message says what the parameter must be, or lists the valid parameters."""
    kind, name, limits = error["type"], error["loc"][-1], error.get("ctx") or {}
    message = error["msg"]
    if kind == "extra_forbidden":
        operation = request.app.openapi()["paths"][request.scope["route"].path_format]["get"]
        known = [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
        message = (
            f"is not a parameter of this path; its parameters are: {', '.join(known)}" if known else "this path has no parameters"
        )
    elif kind == "string_pattern_mismatch":
        message = f"must be {_FORMS.get(name, limits['pattern'])}"
    elif kind == "missing" and message == _FIELD_REQUIRED:
        message = "is required"
    elif kind in _WORDS:
        message = _WORDS[kind].format(**limits)
    return {"type": kind, "loc": error["loc"], "msg": message, "input": error["input"]}


def _on_unknown_coin(_request: Request, error: Exception) -> Response:
    assert isinstance(error, UnknownCoinError)
    return respond({"detail": str(error), "candidates": error.candidates}, 404)


def _on_slow(_request: Request, _error: Exception) -> Response:
    return respond({"detail": "the query took too long: request a shorter range, or name a wallet"}, 504)


def _on_large(_request: Request, _error: Exception) -> Response:
    return respond({"detail": "the query needs more than HL_API_LAKE_MEMORY_MB: request a shorter range, or name a wallet"}, 504)


def _on_busy(_request: Request, _error: Exception) -> Response:
    return respond({"detail": "other requests are reading the lake (HL_API_LAKE_QUERIES); try again in a moment"}, 503, _RETRY)


def _on_refused(_request: Request, error: Exception) -> Response:
    _log.error("the lake cannot be read: %s (request %s)", error, request_id.get())
    return respond({"detail": f"the lake cannot be read: {error}"}, 503, _RETRY)


def _on_corrupt(_request: Request, error: Exception) -> Response:
    assert isinstance(error, LakeCorruptError)
    _log.error("a file of the lake is damaged: %s (request %s)", error, request_id.get())
    return respond({"detail": f"{error.path} in the lake is damaged; the log of the API has the reason"}, 500)


def _on_absent(request: Request, error: Exception) -> Response:
    state = request.app.state
    if refusal := state.pool.refusal or state.exports.refusal:
        return respond({"detail": refusal}, 503)
    _log.warning("no answer from the database: %s (request %s)", " ".join(str(error).split()), request_id.get())
    return respond({"detail": "the database is unavailable or busy; try again in a moment"}, 503, _RETRY)


def _on_conflict(_request: Request, error: Exception) -> Response:
    """Respond to a query that the replica cancelled to keep up with its primary, after max_standby_streaming_delay."""
    _log.warning("the replica ended a query: %s (request %s)", " ".join(str(error).split()), request_id.get())
    return respond({"detail": "the replica ended the query to keep up with its primary; try again in a moment"}, 503, _RETRY)


async def _on_changed(request: Request, error: Exception) -> Response:
    # A migration has changed a table that prepared statements use. New connections use the new table.
    await request.app.state.pool.drain()
    return _on_absent(request, error)


def _on_unprepared(_request: Request, error: Exception) -> Response:
    text = str(error).partition("\n")[0]
    _log.error("the database cannot be read: %s (request %s)", text, request_id.get())
    return respond({"detail": f"the database is not ready: {text}; `hl up` or `hl ingest` prepares it"}, 503, _RETRY)


def _on_unforeseen(request: Request, error: Exception) -> Response:
    _log.error("internal error: %s (request %s)", type(error).__name__, request_id.get())
    # Starlette answers this outside all middlewares, and then raises the error, so that the server logs it.
    response = respond({"detail": "internal error; the log of the API has the reason"}, 500)
    response.raw_headers.extend(security_headers(request.scope))
    response.headers[HEADER] = request_id.get() or ""
    return response
