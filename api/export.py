"""Lists as files: which format a request asks for, and the answer that streams it. How files are written is in file_formats."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from psycopg import AsyncConnection
from starlette.types import Receive, Scope, Send

from api.batches import Batches, chunked
from api.file_formats import FILE_FORMATS, MEDIA_TYPES, Columns, Row, Source, as_positions, encode
from api.keys import EXPORTS, IN_SCOPE, Key
from api.lake import Lake, list_lake_days, retrying
from api.lake_files import DayInLake, LakeChangedError, LakeCorruptError, LakeMemoryError, LakeRefusedError
from api.parameters import Format
from api.range_coverage import Range, describe_range

_log = logging.getLogger(__name__)
COVERAGE_HEADERS = {
    "X-Coverage": "`coverage` of the JSON, without its `hours`.",
    "X-Coverage-Left-Off": (
        "Number of runs of days that did not fit into the header. The metadata of Parquet and Arrow has all runs."
    ),
    "X-Info-Api": "`info_api` of the JSON, if present.",
}
PAGE_HEADERS = {
    "X-Next-Cursor": "`next_cursor` of the JSON, if the request has a `limit` and there are more rows.",
    "X-Next-Offset": "`next_offset` of the JSON, if the request has a `limit` and there are more rows.",
}
# Servers and proxies accept 8 KB of headers in total.
_MOST_COVERAGE_BYTES = 4_000

NextPage = Callable[[Sequence[dict[str, Any]]], str]
"""Returns `next_cursor` after the rows of a page."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file is written from: the coverage of its range, and its rows, `first` of which were read already."""

    facts: dict[str, Any]
    first: list[Row]
    source: Source
    columns: Columns
    headers: dict[str, str]


def choose_format(request: Request, asked: Format | None, formats: Sequence[Format] = tuple(MEDIA_TYPES)) -> Format:
    """The requested format; otherwise the one of `formats` that `Accept` weights highest; otherwise the first of them.

    Raises HTTPException: 406 if `Accept` has none of them, 403 for a file if the key of the request may not export.
    """
    chosen = asked or _preferred_format(request, formats)
    key: Key | None = request.scope.get(IN_SCOPE)
    if chosen in FILE_FORMATS and key is not None and not key.may_export:
        raise HTTPException(403, f"key {key.name} lacks the scope {EXPORTS}, which files need; `hl api-key --exports` adds it")
    return chosen


def asks_for_file(request: Request) -> bool:
    """Return whether the answer of a list would be a file, or a refusal of the format."""
    try:
        return (request.query_params.get("format") or _preferred_format(request, tuple(MEDIA_TYPES))) != "json"
    except HTTPException:
        return True


def _preferred_format(request: Request, formats: Sequence[Format]) -> Format:
    accept = request.headers.get("accept", "")
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, _, options = part.partition(";")
        weight = re.search(r"\bq=(\d(?:\.\d+)?)", options)
        weights[name.strip()] = float(weight[1]) if weight else 1.0
    best = max(formats, key=lambda one: weights.get(MEDIA_TYPES[one], 0.0))
    if weights.get(MEDIA_TYPES[best], 0.0) > 0 or not any(weight for name, weight in weights.items() if name):
        return best
    # A browser, curl and most libraries accept everything, without naming a format.
    for one in formats:
        kind = MEDIA_TYPES[one].partition("/")[0]
        if weights.get(MEDIA_TYPES[one], 1.0) > 0 and (weights.get("*/*", 0.0) > 0 or weights.get(f"{kind}/*", 0.0) > 0):
            return one
    known = ", ".join(MEDIA_TYPES[one] for one in formats)
    raise HTTPException(
        406, f"`Accept: {accept}` has no format of this path; it has {known}; `format` ({', '.join(formats)}) overrides Accept"
    )


async def export(
    request: Request,
    chosen: Format,
    name: str,
    query: bytes,
    values: dict[str, Any],
    of: Range | None = None,
    *,
    next_page: NextPage | None = None,
    next_offset: int | None = None,
    hidden: int = 0,
    lake_fault: str | None = None,
) -> Response:
    """Stream the rows of `query` as a file called `name`. The coverage of its range (`of`) goes into the headers and, in Parquet
    and Arrow, into the metadata. With a limit, the header of the next page is made by `next_page`, or is `next_offset`.

    `hidden`: how many of the first columns are for `next_page` alone, and not in the file.
    `lake_fault`: why days of the lake are left out. None: they are read.
    """

    async def open_list(stack: AsyncExitStack, connection: AsyncConnection) -> Opened:
        lake: Lake = request.app.state.lake
        is_of_fills = of is not None and of.of == "fills" and lake_fault is None
        days, fault = await find_days(lake, connection, of) if of is not None and is_of_fills else ([], lake_fault)
        facts = {} if of is None else orjson.loads(orjson.dumps(await describe_range(connection, of, fault)))
        if request.scope.get("headers_only"):
            return Opened(facts, [], chunked([]), [], {})
        batches = Batches(connection, query)
        limit: int | None = values["limit"]
        wanted = values if limit is None else {**values, "limit": limit + 1}
        seconds: float = request.app.state.settings.api_export_timeout_seconds
        source = batches.of_fills(lake, wanted, days, seconds) if days else batches.of_table(wanted)
        stack.push_async_callback(source.aclose)
        if limit is None:
            rows = await anext(source, [])
            columns = await batches.find_columns(values)
            shown = _without(hidden, source) if hidden else source
            return Opened(facts, [row[hidden:] for row in rows], shown, columns[hidden:], {})
        page = [row async for rows in source for row in rows]
        columns, headers = await batches.find_columns(values), {}
        if len(page) > limit and next_page is not None:
            headers = {"X-Next-Cursor": next_page(as_positions(page[:limit], columns))}
        elif len(page) > limit and next_offset is not None:
            headers = {"X-Next-Offset": str(next_offset)}
        rest = chunked([row[hidden:] for row in page[:limit]])
        return Opened(facts, await anext(rest, []), rest, columns[hidden:], headers)

    return await stream(request, chosen, name, open_list)


async def stream(
    request: Request,
    chosen: Format,
    name: str,
    open_rows: Callable[[AsyncExitStack, AsyncConnection], Any],
) -> Response:
    """Answer with the file of what `open_rows` opens.

    An error before the first row is answered like any other. A later error aborts the transfer, so a partial file never looks
    complete.
    """
    headers = {"Content-Disposition": f'attachment; filename="{re.sub(r"[^0-9A-Za-z_.-]", "_", name)}.{chosen}"'}

    async def begin() -> Response:
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(request.app.state.exports.connection())
            opened: Opened = await open_rows(stack, connection)
            every = headers | as_headers(opened.facts) | opened.headers
            if request.scope.get("headers_only"):
                response = Response(headers=every, media_type=MEDIA_TYPES[chosen])
                # How long the file will be is not known.
                del response.headers["Content-Length"]
                return response
            body = encode(chosen, opened.source, opened.first, opened.columns, opened.facts)
            seconds: float = request.app.state.settings.api_export_timeout_seconds
            return _Export(stack.pop_all(), seconds, body, every, chosen)

    return await retrying(begin)


async def _without(hidden: int, source: Source) -> Source:
    async for rows in source:
        yield [row[hidden:] for row in rows]


async def find_days(lake: Lake, connection: AsyncConnection, of: Range) -> tuple[list[DayInLake], str | None]:
    """Return the days of a range that must be read from the lake, and the reason if they cannot be (then there are none)."""
    days = await list_lake_days(connection, of.start.date(), of.end.date())
    fault = await lake.find_fault() if days else None
    return ([] if fault else days), fault


def as_headers(facts: dict[str, Any]) -> dict[str, str]:
    """Return the coverage of a range as COVERAGE_HEADERS: ASCII, cut to the size of a header."""
    if not facts:
        return {}
    facts = orjson.loads(orjson.dumps(facts))
    runs = [json.dumps({name: value for name, value in run.items() if name != "hours"}) for run in facts["coverage"]]
    shown = runs
    while len(", ".join(shown)) > _MOST_COVERAGE_BYTES:
        shown = shown[:-1]
    headers = {"X-Coverage": f"[{', '.join(shown)}]"}
    headers |= {"X-Coverage-Left-Off": str(len(runs) - len(shown))} if len(shown) < len(runs) else {}
    return headers | ({"X-Info-Api": json.dumps(facts["info_api"])} if "info_api" in facts else {})


class _Export(StreamingResponse):
    """Returns its connection to the pool when it is sent, aborted or too slow."""

    def __init__(
        self, stack: AsyncExitStack, seconds: float, body: AsyncIterator[bytes], headers: dict[str, str], chosen: Format
    ) -> None:
        super().__init__(body, headers=headers, media_type=MEDIA_TYPES[chosen])
        self._stack, self._seconds = stack, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._stack, asyncio.timeout(self._seconds):
                await super().__call__(scope, receive, send)
        except (psycopg.Error, TimeoutError, LakeChangedError, LakeMemoryError, LakeRefusedError, LakeCorruptError) as error:
            _log.error("export aborted: %s", str(error).partition("\n")[0] or f"it took longer than {self._seconds:g} s")
            # Raising here makes the server close the connection without the end of the file.
            raise
