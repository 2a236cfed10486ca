"""Protects what hl_client does when an API refuses, breaks off or is not one: it tries again in time, or says so in its words."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest

from hl_client import (
    ApiError,
    AsyncClient,
    Client,
    Coverage,
    Days,
    HlError,
    TooManyRequestsError,
    TooSlowError,
    UnavailableError,
    UnreachableError,
)
from hl_client.coverage import read_coverage, worst
from hl_pipeline_tests.processes import free_port
from hl_pipeline_tests.servers.refusing import Reply, refusing

_COVERAGE = [{"from": "2025-11-03", "to": "2025-11-03", "state": "whole"}]
_EMPTY = Reply(200, {"fills": [], "next_cursor": None, "coverage": _COVERAGE})
_BUSY = Reply(503, {"detail": "the database is unavailable or busy; try again in a moment"}, {"Retry-After": "0"})


def _ask(url: str, **options: Any) -> int:
    with Client(url, **options) as client:
        return len(client.fills("2025-11-03", "2025-11-03", coin="SOL"))


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_is_tried_again_after_the_time_that_the_api_asks_for(status: int) -> None:
    with refusing(Reply(status, {"detail": "later"}, {"Retry-After": "1"}), _EMPTY) as server:
        assert _ask(server.url) == 0
    [waited] = [later - earlier for earlier, later in pairwise(server.seconds)]
    assert 1 <= waited < 5


def test_the_async_client_waits_without_holding_up_others() -> None:
    async def ask(url: str) -> tuple[int, float]:
        async with AsyncClient(url) as client:
            began, asked = time.monotonic(), asyncio.create_task(client.fills("2025-11-03", "2025-11-03", coin="SOL"))
            await asyncio.sleep(0.1)
            free = time.monotonic() - began
            return len(await asked), free

    with refusing(Reply(429, {"detail": "later"}, {"Retry-After": "1"}), _EMPTY) as server:
        rows, free = asyncio.run(ask(server.url))
    assert rows == 0
    assert free < 0.8
    assert server.seconds[1] - server.seconds[0] >= 1


def test_a_time_of_day_in_retry_after_is_waited_for() -> None:
    # Whole seconds: between one and two from now.
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    with refusing(Reply(503, {"detail": "later"}, {"Retry-After": later}), _EMPTY) as server:
        assert _ask(server.url) == 0
    assert 0.5 <= server.seconds[1] - server.seconds[0] < 5


def test_a_connection_that_breaks_is_tried_again() -> None:
    with refusing(Reply(0), _EMPTY) as server:
        assert _ask(server.url) == 0
    assert len(server.seconds) == 2


def test_after_all_retries_the_error_has_the_words_of_the_api() -> None:
    with refusing(_BUSY) as server, pytest.raises(UnavailableError, match="the database is unavailable or busy") as refused:
        _ask(server.url, retries=2)
    assert len(server.seconds) == 3
    assert refused.value.detail == "the database is unavailable or busy; try again in a moment"
    assert "HTTP 503 for GET /api/v1/fills?coin=SOL" in str(refused.value)


def test_a_wait_that_is_too_long_is_an_error_at_once() -> None:
    asked = Reply(429, {"detail": "try again in 3600 seconds"}, {"Retry-After": "3600"})
    with refusing(asked) as server, pytest.raises(TooManyRequestsError, match="try again in 3600 seconds"):
        _ask(server.url)
    assert len(server.seconds) == 1


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (Reply(504, {"detail": "the query took too long"}), TooSlowError, "the query took too long"),
        (Reply(502, "<html>\n<b>Bad Gateway</b>"), ApiError, "<html> <b>Bad Gateway</b> \\(HTTP 502"),
        (Reply(301, "", {"Location": "https://elsewhere/"}), ApiError, "redirected to https://elsewhere/"),
        (Reply(200, "<html>a login page"), UnreachableError, "is no API of hl-pipeline: it answered '<html>a login page'"),
        (Reply(200, [1]), UnreachableError, "is no API of hl-pipeline"),
    ],
)
def test_what_another_attempt_cannot_change_is_an_error_at_once(reply: Reply, error: type[HlError], words: str) -> None:
    with refusing(reply) as server, pytest.raises(error, match=words):
        _ask(server.url)
    assert len(server.seconds) == 1


def test_the_key_is_sent_in_a_header_and_is_in_no_message() -> None:
    with refusing(Reply(401, {"detail": "the key is not known"})) as server, pytest.raises(HlError) as refused:
        _ask(server.url, key="secret-key")
    assert server.headers[0]["Authorization"] == "Bearer secret-key"
    assert "secret-key" not in str(refused.value)


def test_nobody_at_the_address_is_an_error_that_names_it() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match=f"no answer from {url}/api/v1/fills"):
        _ask(url, retries=0)


def test_a_day_counts_with_the_worst_that_any_page_says_of_it() -> None:
    pages = [
        Coverage((Days(date(2025, 11, 1), date(2025, 11, 3), "whole"),)),
        Coverage((Days(date(2025, 11, 1), date(2025, 11, 1), "partial", "not due"), _days(2, 2, "whole"), _days(3, 3, "absent"))),
    ]
    assert [(run.first.day, run.state) for run in worst(pages).days] == [(1, "partial"), (2, "whole"), (3, "absent")]
    assert worst(pages[:1] * 2) == pages[0]


@pytest.mark.parametrize("holes", [{"holes": 1}, {"acknowledged": 1}])
def test_a_whole_day_with_a_hole_that_was_found_later_is_not_complete(holes: dict[str, int]) -> None:
    [run] = read_coverage([{**_COVERAGE[0], **holes}]).days
    assert not run.is_complete


def test_days_that_no_bucket_has_are_complete_within_a_complete_backfill_alone() -> None:
    before = Coverage((Days(date(2023, 3, 1), date(2023, 3, 9), "absent", "no source has it"),))
    window = {"from": "2023-03-01T00:00:00Z", "to": "2023-03-10T00:00:00Z"}

    assert before.with_backfill({**window, "state": "complete"}).is_complete
    assert not before.with_backfill({**window, "state": "truncated"}).is_complete
    assert not before.with_backfill({**window, "to": "2023-03-09T12:00:00Z", "state": "complete"}).is_complete
    assert not before.with_backfill(None).is_complete
    not_loaded = Coverage((Days(date(2023, 3, 1), date(2023, 3, 9), "absent", "not loaded"),))
    assert not not_loaded.with_backfill({**window, "state": "complete"}).is_complete


def _days(first: int, last: int, state: Any) -> Days:
    return Days(date(2025, 11, first), date(2025, 11, last), state)
