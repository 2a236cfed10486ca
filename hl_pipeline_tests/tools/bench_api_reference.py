"""The reference for the API benchmark: a bare FastAPI application, served like the API. Not a test.

`/constant` gives a constant. `/NAME` has orjson write what `NAME.json` of the directory HL_BENCH_ANSWERS holds, an answer of the
API, which was read before: no query, nothing to convert.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
from fastapi import FastAPI, Response

ANSWERS = "HL_BENCH_ANSWERS"
_CONSTANT = orjson.dumps({"status": "constant"})


def create_app() -> FastAPI:
    app = FastAPI()
    # `serving_process` waits for it.
    app.add_api_route("/healthz", _give_constant)
    app.add_api_route("/constant", _give_constant)
    for path in Path(os.environ[ANSWERS]).glob("*.json"):
        app.add_api_route(f"/{path.stem}", _route_that_dumps(orjson.loads(path.read_bytes())))
    return app


async def _give_constant() -> Response:
    return Response(_CONSTANT, media_type="application/json")


def _route_that_dumps(content: object) -> Callable[[], Awaitable[Response]]:
    async def dump() -> Response:
        return Response(orjson.dumps(content), media_type="application/json")

    return dump
