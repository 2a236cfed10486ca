"""How a question is asked: pages, retries and errors, without a connection.

A plan is a generator: it yields what to do next (`Get`, `Wait`) and receives the reply. Both clients run the same plans.
"""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any

import httpx

from hl_client.columns import Row, as_python
from hl_client.coverage import Coverage, read_coverage, read_verdicts, worst
from hl_client.errors import NotFoundError, UnreachableError, api_error
from hl_client.result import Answer, Result

PAGE_ROWS = 5_000
"""The most rows that the API returns in one answer."""
_TRIED_AGAIN = (429, 503)
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.5, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to ask of the API. `rows`: the field with the rows, or None for one object."""

    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    rows: str | None = None
    limit: int | None = None
    coverage_path: str | None = None
    """Another path whose coverage is that of the answer."""


@dataclass(frozen=True, slots=True)
class Retries:
    """`count` times, and never after a wait of more than `longest_wait_seconds`."""

    count: int
    longest_wait_seconds: float


@dataclass(frozen=True, slots=True)
class Get:
    """Send this request. The reply is the response, or the error of the transport."""

    path: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait before the next step."""

    seconds: float


Reply = httpx.Response | httpx.TransportError | None
Body = dict[str, Any]


def read_pages(question: Question, retries: Retries) -> Generator[Get | Wait | Result, Reply, None]:
    """Ask for a list. Yields each page as a Result, beside what to do for it."""
    assert question.rows is not None
    left, cursor = question.limit, None
    while True:
        limit = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
        parameters = {**question.parameters, "limit": str(limit), **({} if cursor is None else {"cursor": cursor})}
        body = yield from _get(question.path, parameters, retries)
        cursor = body["next_cursor"]
        page = _as_result(question, body)
        yield page
        left = None if left is None else left - len(page)
        if cursor is None or left == 0:
            return


def read_one(question: Question, retries: Retries) -> Generator[Get | Wait | Answer, Reply, None]:
    """Ask for one object. Yields it, beside what to do for it."""
    body = yield from _get(question.path, question.parameters, retries)
    runs = body.get("coverage")
    if question.coverage_path is not None:
        try:
            runs = (yield from _get(question.coverage_path, {"limit": "1"}, retries))["coverage"]
        except NotFoundError:
            # Nothing says on which days it ran.
            runs = None
    coverage = None if runs is None else read_coverage(runs)
    if coverage is not None and "coverage_of_twaps" in body:
        coverage = worst((coverage, read_coverage(body["coverage_of_twaps"])))
    fields = {name: as_python(value, name) for name, value in body.items() if name not in ("coverage", "info_api")}
    yield Answer(fields, coverage, body.get("info_api"))


def _as_result(question: Question, body: Body) -> Result:
    assert question.rows is not None
    rows: list[Row] = [as_python(row) for row in body[question.rows]]
    known = {question.rows, "next_cursor", "coverage", "info_api"}
    facts = {name: as_python(value, name) for name, value in body.items() if name not in known}
    info_api = body.get("info_api")
    return Result(question.kind, rows, _coverage(question.kind, body, rows), body["next_cursor"] is not None, info_api, facts)


def _coverage(kind: str, body: Body, rows: list[Row]) -> Coverage:
    if kind == "coverage_days":
        return read_verdicts(rows)
    if kind == "coverage_hours":
        return worst(read_coverage(runs) for runs in body["days"].values())
    coverage = read_coverage(body["coverage"])
    return coverage.with_backfill(body.get("info_api")) if kind == "fills" else coverage


def _get(path: str, parameters: Mapping[str, str], retries: Retries) -> Generator[Get | Wait, Reply, Body]:
    for attempt in count():
        reply = yield Get(path, parameters)
        assert reply is not None
        if isinstance(reply, httpx.Response) and reply.is_success:
            return _parse(reply)
        delay = _delay(reply, attempt)
        if delay is None or attempt >= retries.count or delay > retries.longest_wait_seconds:
            raise _as_error(reply)
        yield Wait(delay)
    raise AssertionError


def _parse(response: httpx.Response) -> Body:
    try:
        body = json.loads(response.content, parse_float=Decimal)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise UnreachableError(f"{response.request.url} is no API of hl-pipeline: it answered {response.text[:100]!r}")
    return body


def _delay(reply: Reply, attempt: int) -> float | None:
    """Return how long to wait before the next attempt, in seconds. None: another attempt is useless."""
    # Clients that were refused together should not come back together.
    own = min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2**attempt) * random.uniform(0.5, 1)
    if not isinstance(reply, httpx.Response):
        return own
    if reply.status_code not in _TRIED_AGAIN:
        return None
    asked = _retry_after(reply.headers.get("retry-after", ""))
    return own if asked is None else asked


def _retry_after(text: str) -> float | None:
    if text.strip().isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _as_error(reply: Reply) -> Exception:
    if isinstance(reply, httpx.Response):
        return api_error(reply)
    assert reply is not None
    error = UnreachableError(f"no answer from {reply.request.url}: {reply or type(reply).__name__}")
    error.__cause__ = reply
    return error
