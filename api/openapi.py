"""/openapi.json: what FastAPI makes of the routes, with examples out of the database. The page /docs fills these in."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import psycopg
from fastapi import FastAPI, Request, Response
from psycopg.rows import dict_row

from api.database import read_sql
from api.responses import respond

OPENAPI_PATH = "/openapi.json"
_EXAMPLES = read_sql("examples")
_SECONDS = 1.0
_EXAMPLE_OF = {"wallet": "wallet", "coin": "coin", "asset": "coin", "start": "day", "end": "day", "twap_id": "twap_id"}
# The page /docs sends every default: an offset beside a cursor, a limit with a file that is to be whole.
_DEFAULTS_NOT_SENT = ("limit", "offset")
_FIRST_SENTENCE = re.compile(r"[^.:;(\n]+")


def serve_openapi(app: FastAPI) -> None:
    """Answer /openapi.json by `get_openapi`, not by FastAPI's own route."""
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) != OPENAPI_PATH]
    app.add_route(OPENAPI_PATH, get_openapi, include_in_schema=False)


async def get_openapi(request: Request) -> Response:
    """The schema; its examples are what this database has, and those of the code where it has nothing or is away."""
    schema = request.app.openapi()
    examples = await _read_examples(request.app)
    paths = {
        path: {method: _describe(operation, examples) for method, operation in operations.items()}
        for path, operations in schema["paths"].items()
    }
    prefix = request.scope.get("root_path", "")
    return respond({**schema, "paths": paths, **({"servers": [{"url": prefix}]} if prefix else {})})


def _describe(operation: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    """The operation with a summary, and its parameters with examples that have an answer."""
    described = dict(operation)
    if first := _FIRST_SENTENCE.match(operation.get("description", "")):
        described["summary"] = first[0].strip()
    if "parameters" in operation:
        described["parameters"] = [_with_example(parameter, examples) for parameter in operation["parameters"]]
    return described


def _with_example(parameter: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    name, schema = parameter["name"], dict(parameter["schema"])
    if name in _DEFAULTS_NOT_SENT:
        schema.pop("default", None)
    value = examples.get(_EXAMPLE_OF.get(name, ""))
    if value is None:
        return {**parameter, "schema": schema}
    return {**parameter, "schema": {**schema, "examples": [value]}, "example": value}


async def _read_examples(app: FastAPI) -> dict[str, Any]:
    try:
        async with asyncio.timeout(2 * _SECONDS), app.state.pool.connection(timeout=_SECONDS) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return await (await cursor.execute(_EXAMPLES)).fetchone() or {}
    except (psycopg.Error, TimeoutError):
        return {}
