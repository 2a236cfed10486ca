"""/openapi.json: FastAPI's schema of the routes, with examples from the database. The page /docs fills them in."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import psycopg
from fastapi import FastAPI, Request, Response
from psycopg.rows import dict_row
from starlette.routing import Route

from api.database import read_sql
from api.headers import page_policy
from api.responses import respond

OPENAPI_PATH = "/openapi.json"
_DOCS_PATH = "/docs"
# Swagger UI sets styles of elements, and has its icons in its stylesheet.
_DOCS_POLICY = ("style-src 'self' 'unsafe-inline'", "img-src 'self' data:")
_KEY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_EXAMPLES = read_sql("examples")
_SECONDS = 1.0
_EXAMPLE_OF = {
    "wallet": "wallet",
    "wallet_addresses": "wallet",
    "coin": "coin",
    "asset": "coin",
    "twap_id": "twap_id",
    "year": "year",
    **dict.fromkeys(("start", "end", "at", "start_date", "end_date"), "day"),
}
# The page /docs sends every default, such as an offset with a cursor, or a limit with an export.
_DEFAULTS_NOT_SENT = ("limit", "offset")
_FIRST_SENTENCE = re.compile(r"[^.:;(\n]+")


def serve_openapi(app: FastAPI) -> None:
    """Serve /openapi.json with `get_openapi` instead of FastAPI's own route."""
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) != OPENAPI_PATH]
    app.add_route(OPENAPI_PATH, get_openapi, include_in_schema=False)


def serve_docs(app: FastAPI) -> None:
    """Serve the page /docs with a policy that allows its inline script."""
    [page] = [route for route in app.router.routes if isinstance(route, Route) and route.path == _DOCS_PATH]

    async def get_docs(request: Request) -> Response:
        response: Response = await page.endpoint(request)
        response.headers.update(page_policy(bytes(response.body).decode(), *_DOCS_POLICY))
        return response

    app.router.routes.remove(page)
    app.add_route(_DOCS_PATH, get_docs, include_in_schema=False)


async def get_openapi(request: Request) -> Response:
    """Return the schema with examples from this database. If it is empty or unreachable, the examples are those in the code."""
    schema = request.app.openapi()
    examples = await _read_examples(request.app)
    paths = {
        path: {method: _describe(operation, examples) for method, operation in operations.items()}
        for path, operations in schema["paths"].items()
    }
    prefix = request.scope.get("root_path", "")
    servers = {"servers": [{"url": prefix}]} if prefix else {}
    return respond({**schema, "paths": paths, **servers, **_describe_keys(request.app, schema)})


def _describe_keys(app: FastAPI, schema: dict[str, Any]) -> dict[str, Any]:
    """Return how a request is authenticated, for the button "Authorize" of the page /docs."""
    if not app.state.keys:
        return {}
    return {
        "components": {**schema.get("components", {}), "securitySchemes": _KEY_SCHEMES},
        "security": [{name: []} for name in _KEY_SCHEMES],
    }


def _describe(operation: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    """Return the operation with a summary, and with parameter examples that return rows."""
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
