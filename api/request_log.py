"""The ID of each request, and with HL_LOG_FORMAT=json the log of all requests."""

from __future__ import annotations

import logging
import re
import sys
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.json_log import JsonFormatter, request_id

_log = logging.getLogger(__name__)
HEADER = "X-Request-ID"
_NAME = HEADER.lower().encode()
# What a proxy sends is kept if it can break neither a log line nor a header.
_SANE = re.compile(r"[0-9A-Za-z._-]{1,64}")


def log_as_json() -> None:
    """Write every log record of this process to standard error as JSON, uvicorn's too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # The lines of `log_requests` have the request's ID; uvicorn's have its query, too.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("api").setLevel(logging.INFO)


def identify_requests(app: ASGIApp, *, log_requests: bool) -> ASGIApp:
    """Middleware that gives each request an ID: the client's, if it is sane, else a new one. The answer has it in a header.

    With `log_requests` each request is a log line: method, path and status, and nothing that says who asked.
    """

    async def identified(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == _NAME), "")
        chosen = given if _SANE.fullmatch(given) else uuid.uuid4().hex
        # Never reset: what Starlette and uvicorn log of a failed request comes after this function, in the same task.
        request_id.set(chosen)
        status, started = 500, time.perf_counter()

        async def adding(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (_NAME, chosen.encode())]}
            await send(message)

        try:
            await app(scope, receive, adding)
        finally:
            if log_requests:
                fields = {"method": scope["method"], "path": scope["path"], "status": status}
                fields["seconds"] = round(time.perf_counter() - started, 6)
                _log.info("request answered", extra={"event": "request_answered", "fields": fields})

    return identified
