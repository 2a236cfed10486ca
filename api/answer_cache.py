"""Answers kept in memory while the database stays exactly as it was. What an answer says is not decided here."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from fastapi import Request, Response

from api.conditional import NO_STORE, ConditionalRoute, Handler, conditional_headers, is_tagged, tag
from api.database import Pool
from api.export import asks_for_file
from api.metrics import Metrics
from api.responses import JSON

# Two equal texts mean that no transaction has ended in between, so every query sees the same rows. A standby does not list the
# transactions in progress; there the position up to which it has replayed its primary says the same.
# https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
_STATE = """
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text ELSE pg_current_snapshot()::text END
"""
# One answer may not push out all others.
_MOST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class _Kept:
    state: str
    """The database's state just before the answer was read."""
    body: bytes
    headers: list[tuple[bytes, bytes]]


class AnswerCache:
    """JSON answers with status 200, at most `most_bytes` of them; the least recently used go first."""

    def __init__(self, pool: Pool, metrics: Metrics, most_bytes: int) -> None:
        self._pool, self._metrics, self._most_bytes = pool, metrics, most_bytes
        self._kept: OrderedDict[tuple[str, bytes, str | None], _Kept] = OrderedDict()
        self._bytes = 0
        self._clears = 0
        self._reading: asyncio.Task[str] | None = None
        self._next: asyncio.Task[str] | None = None

    async def answer(self, request: Request, handler: Handler) -> Response:
        """The kept answer if nothing has been committed since; otherwise the one that `handler` gives."""
        key = (request.scope["path"], request.scope["query_string"], request.headers.get("accept"))
        state, clears = await self._read_state(), self._clears
        if (kept := self._kept.get(key)) is not None and kept.state == state:
            self._kept.move_to_end(key)
            self._metrics.cache_hits.inc()
            response = Response(kept.body, media_type=JSON)
            response.raw_headers.extend(kept.headers)
            return response
        response = tag(request, await handler(request))
        self._forget(key)
        # After a clear, `state` may be that of another server.
        if is_tagged(response) and NO_STORE not in response.headers["Cache-Control"] and clears == self._clears:
            self._keep(key, _Kept(state, bytes(response.body), conditional_headers(response)))
        return response

    def clear(self) -> None:
        """Forget every answer: a new connection may lead to another server, whose states have other meanings."""
        self._clears += 1
        self._kept.clear()
        self._set_bytes(0)

    def _keep(self, key: tuple[str, bytes, str | None], answer: _Kept) -> None:
        if len(answer.body) > self._most_bytes * _MOST_SHARE:
            return
        self._kept[key] = answer
        self._set_bytes(self._bytes + len(answer.body))
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: tuple[str, bytes, str | None]) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            self._set_bytes(self._bytes - len(kept.body))

    def _set_bytes(self, count: int) -> None:
        self._bytes = count
        self._metrics.cache_bytes.set(count)

    async def _read_state(self) -> str:
        """The database's state, read after this call: requests that arrive during a query share the one that follows it."""
        if self._next is None:
            self._next = asyncio.create_task(self._query_state_after(self._reading))
        return await asyncio.shield(self._next)

    async def _query_state_after(self, running: asyncio.Task[str] | None) -> str:
        if running is not None:
            await asyncio.wait([running])
        self._reading, self._next = self._next, None
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_STATE)).fetchone()
        assert row is not None
        return row[0]


class CachedRoute(ConditionalRoute):
    """A route whose answers depend on the request and the database alone: not on the clock, nor on who asks.

    Cache-Control does depend on the clock, but an old one only lets a client keep an answer for less time.
    """

    async def read(self, request: Request, handler: Handler) -> Response:
        """Return the tagged answer, from memory if the database is unchanged."""
        cache: AnswerCache | None = request.app.state.answers
        # Exports are never kept, and have their own connections: they do not wait for one of the pool of requests.
        if cache is None or asks_for_file(request):
            return await super().read(request, handler)
        return await cache.answer(request, handler)
