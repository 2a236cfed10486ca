"""Client of Hyperliquid's info API: one request, one response. Transient failures are retried. Every call waits for its weight
budget first and is charged afterwards. `info_paging` reads a history page by page.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

import requests
import tenacity
import urllib3.exceptions

from hl_pipeline.domain.budgets import WeightBudget
from hl_pipeline.events import emit
from hl_pipeline.formats.exact_decode import BadValueError, Json, parse_json

_log = logging.getLogger(__name__)

PAGE_ITEMS = 2000
"""A response with this many items is a full page: there may be more."""
CALL_WEIGHT = 20
_ITEMS_A_WEIGHT = 20
MOST_WEIGHT = CALL_WEIGHT + PAGE_ITEMS // _ITEMS_A_WEIGHT

_PIECE = 1 << 18
_LONGEST_WAIT_SECONDS = 60
_LONGEST_RETRY_AFTER_SECONDS = 3600
_MOST_SHOWN = 300  # characters of a response in a message
_BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    urllib3.exceptions.HTTPError,
)
_AGAIN = "Run again: it continues from there"


class InfoError(RuntimeError):
    """The API gave no response, or an unexpected one. The message names the wallet and the call.

    `requests` and `weight`: what the attempts used of the budget.
    """

    def __init__(self, message: str, requests: int = 0, weight: int = 0) -> None:
        super().__init__(message)
        self.requests = requests
        self.weight = weight


class InfoRefusedError(InfoError):
    """422: the API permanently rejects the request. The message has its text."""


class _TransientError(InfoError):
    """A transient failure, worth a retry after `retry_after_seconds` if the server sent it."""

    def __init__(self, message: str, retry_after_seconds: float = 0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class _RateLimitedError(_TransientError):
    """429: all callers from this address must wait."""


@dataclass(slots=True)
class Answer:
    """The items of a response (JSON from parse_json), the number of calls and their weight."""

    items: list[Json] = field(default_factory=list[Json])
    requests: int = 0
    weight: int = 0


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def shown(self) -> str:
        text = self.body.decode(errors="replace").strip()
        return repr(text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "...") if text else "nothing"


def weigh(items: int) -> int:
    """Return the weight of a call with this many items: 20 for none, 120 for a full page."""
    return CALL_WEIGHT + items // _ITEMS_A_WEIGHT


@dataclass(frozen=True, slots=True)
class InfoApi:
    """A thread-safe client; each thread has its own connection. `timeout_seconds`: the maximum duration of a response.

    Every method raises InfoRefusedError for 422, and InfoError if all attempts fail or the response is not a list.
    """

    url: str
    budget: WeightBudget
    attempts: int = 10
    backoff_seconds: float = 1.0
    timeout_seconds: float = 30.0
    _of_thread: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def user_fills_by_time(self, wallet: str, start_ms: int, end_ms: int) -> Answer:
        """Return the oldest fills of `wallet` from `start_ms` to `end_ms` (ms since 1970, both inclusive), at most PAGE_ITEMS,
        without the slices of its own TWAPs: `[fill, ...]`.
        """
        return self._ask({"type": "userFillsByTime", "user": wallet, "startTime": start_ms, "endTime": end_ms})

    def user_twap_slice_fills_by_time(self, wallet: str, start_ms: int, end_ms: int) -> Answer:
        """Return the slices of its TWAPs in the same way: `[{"fill": fill, "twapId": id}, ...]`."""
        return self._ask({"type": "userTwapSliceFillsByTime", "user": wallet, "startTime": start_ms, "endTime": end_ms})

    def twap_history(self, wallet: str) -> Answer:
        """Return the statuses of its TWAPs that the API still has: `[{"time": seconds, "state", "status", "twapId"?}, ...]`."""
        return self._ask({"type": "twapHistory", "user": wallet})

    def _ask(self, question: dict[str, Json]) -> Answer:
        name = f"{question['user']}: {question['type']}"
        if "startTime" in question:
            name += f" from {question['startTime']}"
        answer = Answer()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TransientError),
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=self._wait,
            before_sleep=partial(self._before_sleep, name),
            reraise=True,
        )
        try:
            retrying(self._attempt, question, answer)
        except InfoError as error:
            last = f", after {self.attempts} attempts. {_AGAIN}" if isinstance(error, _TransientError) else ""
            kind = InfoRefusedError if isinstance(error, InfoRefusedError) else InfoError
            raise kind(f"{name}: {self.url}: {error}{last}", answer.requests, answer.weight) from error
        return answer

    def _attempt(self, question: dict[str, Json], answer: Answer) -> None:
        call = self.budget.begin(MOST_WEIGHT, 2 * self.timeout_seconds)
        # Until the number of items is known, the server may have charged for a full page.
        weight = MOST_WEIGHT
        try:
            response = self._post(question)
            if response.status in (422, 429):
                weight = CALL_WEIGHT
            answer.items = _take_items(response)
            weight = weigh(len(answer.items))
        finally:
            answer.requests += 1
            answer.weight += weight
            self.budget.end(call, weight)

    def _post(self, question: dict[str, Json]) -> _Response:
        deadline = time.monotonic() + self.timeout_seconds
        try:
            with self._session().post(
                self.url, json=question, timeout=self.timeout_seconds, stream=True, allow_redirects=False
            ) as response:
                body = bytearray()
                # Not .content: it never returns if bytes only trickle in.
                while piece := response.raw.read1(_PIECE, decode_content=True):
                    body += piece
                    if time.monotonic() > deadline:
                        raise _TransientError(f"slow: {len(body)} bytes in {self.timeout_seconds} s (HL_INFO_TIMEOUT_SECONDS)")
                return _Response(response.status_code, response.headers, bytes(body))
        except _BROKEN as error:
            raise _TransientError(str(error)) from error
        except requests.RequestException as error:
            raise InfoError(f"{error}; check HL_INFO_URL") from error

    def _session(self) -> requests.Session:
        if not hasattr(self._of_thread, "session"):
            self._of_thread.session = requests.Session()
        return self._of_thread.session

    def _wait(self, state: tenacity.RetryCallState) -> float:
        backoff = tenacity.wait_random_exponential(multiplier=self.backoff_seconds, max=_LONGEST_WAIT_SECONDS)
        return _error_of(state).retry_after_seconds + backoff(state)

    def _before_sleep(self, name: str, state: tenacity.RetryCallState) -> None:
        error = _error_of(state)
        if isinstance(error, _RateLimitedError):
            self.budget.pause(state.upcoming_sleep)
        emit(
            _log,
            "info_call_failed",
            level=logging.WARNING,
            call=name,
            attempt=state.attempt_number,
            attempts=self.attempts,
            error=error,
            wait_seconds=round(state.upcoming_sleep, 3),
        )


def _error_of(state: tenacity.RetryCallState) -> _TransientError:
    error = state.outcome and state.outcome.exception()
    assert isinstance(error, _TransientError)
    return error


def _take_items(response: _Response) -> list[Json]:
    """Return the list in a response. Raises the matching error if it is not a list."""
    message = f"it answered {response.status}: {response.shown()}"
    if response.status == 422:
        raise InfoRefusedError(message)
    if response.status == 429:
        raise _RateLimitedError(message, _retry_after_seconds(response.headers))
    if response.status >= 500 or response.status == 408:
        raise _TransientError(message, _retry_after_seconds(response.headers))
    if response.status != 200:
        raise InfoError(f"{message}; check HL_INFO_URL, and whether this address is allowed to call it")
    try:
        items = parse_json(response.body)
    except BadValueError as error:
        # It may be truncated if nothing showed its length.
        raise _TransientError(f"its response is {error}: {response.shown()}") from error
    if not isinstance(items, list):
        raise InfoError(f"its response is not a list: {response.shown()}")
    return items


def _retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Return the seconds of the header Retry-After, which is a number or a date; 0 if absent or invalid."""
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text) if text.isdigit() else (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0
    return min(max(seconds, 0), _LONGEST_RETRY_AFTER_SECONDS)
