"""The API's access to days that are in the lake alone: a bounded pool for DuckDB, and fresh snapshots when files changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import HTTPException, Request
from psycopg import AsyncConnection

from api.lake_engine import LakeEngine
from api.lake_files import (
    LAKE_DAYS,
    DayInLake,
    LakeBusyError,
    LakeChangedError,
    LakeCorruptError,
    LakeRefusedError,
    LakeSlowError,
    LakeUnreadableError,
    day_of_row,
)
from api.settings import ApiSettings

if TYPE_CHECKING:
    import duckdb

_Result = TypeVar("_Result")
_Row = tuple[Any, ...]
# Waits before a request is answered again from a fresh snapshot, if the lake's files were not those of the ledger.
_RETRY_AFTER_SECONDS = (0.0, 0.1, 0.4)
_INTERRUPT_SECONDS = 0.02
_NOT_SET = "in the lake, which this API cannot read: HL_LAKE_URL is not set"


class Lake:
    """Threads that read the lake. DuckDB starts with the first query. `url` None: the API does not know the lake."""

    def __init__(self, url: str | None, settings: ApiSettings) -> None:
        seconds = settings.api_statement_timeout_seconds
        self._engine = None if url is None else LakeEngine(url, settings.api_lake_memory_mb, settings.api_lake_threads, seconds)
        # An export has a thread of its own, so that a slow download blocks no page.
        threads = settings.api_lake_queries + settings.api_exports
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="lake")
        self._slots = asyncio.Semaphore(settings.api_lake_queries)
        self._wait_seconds = settings.api_pool_timeout_seconds
        self._opening = asyncio.Lock()

    async def find_fault(self) -> str | None:
        """Return why the lake cannot be read, or None if it can, as far as is known before its files are opened."""
        if self._engine is None:
            return _NOT_SET
        try:
            async with self._opening:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.open)
        except (LakeUnreadableError, OSError) as error:
            return f"in the lake, which this API cannot read: {' '.join(str(error).split())}"
        return None

    async def take_slot(self) -> None:
        """Wait for the right to read a page. Raises LakeBusyError. The caller gives it back with `free_slot`."""
        try:
            await asyncio.wait_for(self._slots.acquire(), self._wait_seconds)
        except TimeoutError:
            raise LakeBusyError from None

    def free_slot(self) -> None:
        """Give back what `take_slot` took."""
        self._slots.release()

    async def read(
        self,
        days: Sequence[DayInLake],
        values: dict[str, Any],
        limit: int | None,
        *,
        batch: int,
        seconds: float,
    ) -> AsyncGenerator[list[_Row], None]:
        """Yield batches of fills. A query that takes longer than `seconds` up to its first row, or to the next, is interrupted.

        Raises what LakeEngine.read raises.
        """
        assert self._engine is not None
        cursor = self._engine.cursor()
        batches = self._engine.read(cursor, days, values, limit, batch)
        try:
            while (rows := await self._run(cursor, batches, seconds)) is not None:
                yield rows
        finally:
            cursor.close()

    async def _run(self, cursor: duckdb.DuckDBPyConnection, batches: Iterator[list[_Row]], seconds: float) -> list[_Row] | None:
        future = asyncio.get_running_loop().run_in_executor(self._threads, next, batches, None)
        try:
            return await asyncio.wait_for(asyncio.shield(future), seconds)
        except (TimeoutError, asyncio.CancelledError) as error:
            # An interrupt that comes between two statements has no effect.
            while not future.done():
                cursor.interrupt()
                await asyncio.wait([future], timeout=_INTERRUPT_SECONDS)
            failed = future.exception()
            if isinstance(failed, LakeRefusedError):
                # S3 did not answer in time. That says more.
                raise failed from error
            if isinstance(error, TimeoutError):
                raise LakeSlowError from error
            raise

    def close(self) -> None:
        """End the threads and DuckDB."""
        self._threads.shutdown()
        if self._engine is not None:
            self._engine.close()


async def list_lake_days(connection: AsyncConnection, first: date, last: date) -> list[DayInLake]:
    """Return the days from `first` to `last` whose fills are in the lake alone, in order."""
    # In binary, also a connection of exports returns numbers.
    cursor = connection.cursor(binary=True)
    return [day_of_row(row) for row in await (await cursor.execute(LAKE_DAYS, {"first": first, "last": last})).fetchall()]


async def find_lake_days(history: History, start: datetime, end: datetime) -> tuple[list[DayInLake], str | None]:
    """Return the days of a range that must be read from the lake, and the reason if they cannot be (then there are none)."""
    days = await list_lake_days(history.connection, start.date(), end.date())
    fault = await history.find_fault() if days else None
    return ([] if fault else days), fault


class _SlotNeededError(Exception):
    """A request turns out to need the lake."""


class History:
    """What a request reads: a snapshot of PostgreSQL and, for days that are not in it, the lake."""

    def __init__(self, request: Request, connection: AsyncConnection, *, has_slot: bool) -> None:
        self.connection = connection
        self._lake: Lake = request.app.state.lake
        self._seconds: float = request.app.state.settings.api_statement_timeout_seconds
        self._has_slot = has_slot

    async def find_fault(self) -> str | None:
        """Like Lake.find_fault."""
        return await self._lake.find_fault()

    async def read(self, days: Sequence[DayInLake], values: dict[str, Any], limit: int) -> list[_Row]:
        """Return at most `limit` fills of these days."""
        if not self._has_slot:
            raise _SlotNeededError
        found: list[_Row] = []
        async for rows in self._lake.read(days, values, limit, batch=limit, seconds=self._seconds):
            found += rows
        return found


async def read_history(request: Request, work: Callable[[History], Awaitable[_Result]]) -> _Result:
    """Run `work` on a snapshot. Runs it again on a fresh one if files of the lake are no longer those of the ledger.

    A request that needs the lake waits for its turn without a connection, so it keeps none from requests that do not.
    """
    pool, lake = request.app.state.pool, request.app.state.lake
    has_slot = False
    try:
        return await retrying(lambda: _read_once(pool, request, work, has_slot=False))
    except _SlotNeededError:
        await lake.take_slot()
        has_slot = True
        return await retrying(lambda: _read_once(pool, request, work, has_slot=True))
    finally:
        if has_slot:
            lake.free_slot()


async def _read_once(pool: Any, request: Request, work: Callable[[History], Awaitable[_Result]], *, has_slot: bool) -> _Result:
    async with pool.connection() as connection:
        return await work(History(request, connection, has_slot=has_slot))


async def retrying(work: Callable[[], Awaitable[_Result]]) -> _Result:
    """Run `work` until the lake's files are those of its snapshot. Raises HTTPException (503) if they never are.

    Raises LakeCorruptError for a file that stays as it is: one that is being replaced looks the same for a moment.
    """
    last: LakeChangedError | LakeCorruptError | None = None
    for seconds in _RETRY_AFTER_SECONDS:
        await asyncio.sleep(seconds)
        try:
            return await work()
        except (LakeChangedError, LakeCorruptError) as error:
            last = error
    if isinstance(last, LakeCorruptError):
        raise last
    detail = f"the lake does not have the files that the ledger names; try again in a moment: {last}"
    raise HTTPException(503, detail, {"Retry-After": "2"})
