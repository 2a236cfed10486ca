"""The two clients. They differ only in how they send a request and how they wait; `plan` has everything else."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self, TypeVar

import httpx

from hl_client.coverage import Coverage
from hl_client.errors import IncompleteError, IncompleteWarning
from hl_client.plan import Get, Question, Reply, Retries, Wait, read_one, read_pages
from hl_client.questions import Lists, Questions
from hl_client.result import Answer, Result, describe, join

DEFAULT_URL = "http://127.0.0.1:8000"
OnIncomplete = Literal["warn", "raise", "ignore"]
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)
Found = TypeVar("Found", Result, Answer)
Plan = Generator[Get | Wait | Found, Reply, None]


@dataclass(frozen=True, slots=True)
class Options:
    """What both clients are made with. See Client."""

    url: str | None = None
    key: str | None = None
    timeout_seconds: float = 60.0
    retries: int = 5
    longest_wait_seconds: float = 120.0
    on_incomplete: OnIncomplete = "warn"

    def http(self) -> dict[str, Any]:
        """Return the arguments of httpx's client. Raises ValueError for a wrong URL."""
        url = self.url or os.environ.get("HL_API_URL") or DEFAULT_URL
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url: must begin with http:// or https://, not {url!r}")
        if self.on_incomplete not in ("warn", "raise", "ignore"):
            raise ValueError(f"on_incomplete: must be warn, raise or ignore, not {self.on_incomplete!r}")
        key = os.environ.get("HL_API_KEY") if self.key is None else self.key
        headers = {"Accept": "application/json", "User-Agent": "hl-client"}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        return {"base_url": url.rstrip("/"), "headers": headers, "timeout": self.timeout_seconds}

    @property
    def of_retries(self) -> Retries:
        """When to try again."""
        return Retries(self.retries, self.longest_wait_seconds)

    def check(self, answer: Found) -> Found:
        """Say that data is missing, as the client was told to, and return the answer."""
        if not answer.is_complete and self.on_incomplete == "raise":
            raise IncompleteError(describe(answer.coverage))
        if not answer.is_complete and self.on_incomplete == "warn":
            warnings.warn(describe(answer.coverage), IncompleteWarning, stacklevel=4)
        return answer

    def check_once(self, page: Result, checked: set[Coverage]) -> Result:
        """Check a page, unless one before it had the same coverage."""
        if page.coverage in checked:
            return page
        checked.add(page.coverage)
        return self.check(page)


class _Configured(ABC, Generic[Http]):
    """What both clients are made with."""

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        timeout_seconds: float = 60.0,
        retries: int = 5,
        longest_wait_seconds: float = 120.0,
        on_incomplete: OnIncomplete = "warn",
    ) -> None:
        self._options = Options(url, key, timeout_seconds, retries, longest_wait_seconds, on_incomplete)
        self._http = self._open(self._options.http())

    @abstractmethod
    def _open(self, arguments: dict[str, Any]) -> Http: ...


class Client(_Configured[httpx.Client], Questions[Result, Answer]):
    """Asks the REST API of hl-pipeline.

    `url`: the API's address; default: HL_API_URL, or the one of this machine. `key`: default HL_API_KEY; an empty one is not
    sent. An answer of 429 or 503, and a broken connection, are tried again `retries` times. The wait is the one that the API asks
    for; if it is longer than `longest_wait_seconds`, the error is raised at once. `on_incomplete`: what to do if data of the
    range is missing.
    """

    def _open(self, arguments: dict[str, Any]) -> httpx.Client:
        return httpx.Client(**arguments)

    @property
    def pages(self) -> Lists[Iterator[Result]]:
        """The same lists, one page at a time: for more rows than fit in memory."""
        return _Pages(self._http, self._options)

    def _list(self, question: Question) -> Result:
        return self._options.check(join(list(_run(self._http, read_pages(question, self._options.of_retries)))))

    def _one(self, question: Question) -> Answer:
        [answer] = _run(self._http, read_one(question, self._options.of_retries))
        return self._options.check(answer)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Configured[httpx.AsyncClient], Questions[Coroutine[Any, Any, Result], Coroutine[Any, Any, Answer]]):
    """The same for asyncio: `await client.fills(…)`, and `async for page in client.pages.fills(…)`."""

    def _open(self, arguments: dict[str, Any]) -> httpx.AsyncClient:
        return httpx.AsyncClient(**arguments)

    @property
    def pages(self) -> Lists[AsyncIterator[Result]]:
        """The same lists, one page at a time: for more rows than fit in memory."""
        return _AsyncPages(self._http, self._options)

    async def _list(self, question: Question) -> Result:
        pages = [page async for page in _run_async(self._http, read_pages(question, self._options.of_retries))]
        return self._options.check(join(pages))

    async def _one(self, question: Question) -> Answer:
        [answer] = [one async for one in _run_async(self._http, read_one(question, self._options.of_retries))]
        return self._options.check(answer)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Pages(Lists[Iterator[Result]]):
    def __init__(self, http: httpx.Client, options: Options) -> None:
        self._http, self._options = http, options

    def _list(self, question: Question) -> Iterator[Result]:
        checked: set[Coverage] = set()
        for page in _run(self._http, read_pages(question, self._options.of_retries)):
            yield self._options.check_once(page, checked)


class _AsyncPages(Lists[AsyncIterator[Result]]):
    def __init__(self, http: httpx.AsyncClient, options: Options) -> None:
        self._http, self._options = http, options

    async def _list(self, question: Question) -> AsyncIterator[Result]:  # pyright: ignore[reportIncompatibleMethodOverride]
        checked: set[Coverage] = set()
        async for page in _run_async(self._http, read_pages(question, self._options.of_retries)):
            yield self._options.check_once(page, checked)


def _run(http: httpx.Client, plan: Plan[Found]) -> Iterator[Found]:
    reply: Reply = None
    with closing(plan):
        while (step := _next(plan, reply)) is not None:
            reply = None
            if isinstance(step, Get):
                try:
                    reply = http.get(step.path, params=step.parameters)
                except httpx.TransportError as error:
                    reply = error
            elif isinstance(step, Wait):
                time.sleep(step.seconds)
            else:
                yield step


async def _run_async(http: httpx.AsyncClient, plan: Plan[Found]) -> AsyncIterator[Found]:
    reply: Reply = None
    with closing(plan):
        while (step := _next(plan, reply)) is not None:
            reply = None
            if isinstance(step, Get):
                try:
                    reply = await http.get(step.path, params=step.parameters)
                except httpx.TransportError as error:
                    reply = error
            elif isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
            else:
                yield step


def _next(plan: Plan[Found], reply: Reply) -> Get | Wait | Found | None:
    try:
        return plan.send(reply)
    except StopIteration:
        return None
