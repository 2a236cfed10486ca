"""The info API's client against a real HTTP server: failures never change a response, and each call is charged."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest

from hl_pipeline.settings import Settings
from hl_pipeline.sources import info
from hl_pipeline.sources.info import Answer, InfoApi, InfoError, InfoRefusedError, weigh
from hl_pipeline.sources.open import open_info_api
from hl_pipeline_tests.processes import free_port
from hl_pipeline_tests.servers.info_api import END_MS, START_MS, Fault, FreeBudget, InfoServer, Kind, User, make_user, serve_info

USER = make_user("of the client", 2500, slices=0.1)
OWN = [fill for fill in USER.fills if fill["twapId"] is None]
_TIMEOUT = 2.0


@pytest.fixture
def server() -> Generator[InfoServer]:
    with serve_info(InfoServer({USER.wallet: USER})) as server:
        yield server


@pytest.fixture
def budget() -> FreeBudget:
    return FreeBudget()


@pytest.fixture
def api(server: InfoServer, budget: FreeBudget) -> InfoApi:
    return InfoApi(server.url, budget, attempts=4, backoff_seconds=0.01, timeout_seconds=_TIMEOUT)


def _ask(api: InfoApi, user: User = USER) -> Answer:
    return api.user_fills_by_time(user.wallet, START_MS, END_MS)


def test_each_question_is_asked_as_the_api_wants_it_and_its_answer_comes_whole(api: InfoApi, server: InfoServer) -> None:
    fills = api.user_fills_by_time(USER.wallet, START_MS, END_MS)
    slices = api.user_twap_slice_fills_by_time(USER.wallet, START_MS, END_MS)
    history = api.twap_history(USER.wallet)

    assert fills.items == OWN[:2000]
    expected = [fill for fill in USER.fills if fill["twapId"] is not None]
    assert [item["fill"] | {"twapId": item["twapId"]} for item in slices.items] == expected
    assert history.items == USER.history
    window = {"user": USER.wallet, "startTime": START_MS, "endTime": END_MS}
    assert [call.question for call in server.log] == [
        {"type": "userFillsByTime", **window},
        {"type": "userTwapSliceFillsByTime", **window},
        {"type": "twapHistory", "user": USER.wallet},
    ]


def test_both_ends_of_the_window_count(api: InfoApi) -> None:
    first, last = OWN[10]["time"], OWN[700]["time"]
    expected = [fill for fill in OWN if first <= fill["time"] <= last]
    assert api.user_fills_by_time(USER.wallet, first, last).items == expected
    assert len(expected) >= 691


def test_a_call_weighs_20_and_1_for_20_items(api: InfoApi, budget: FreeBudget, server: InfoServer) -> None:
    answers = [_ask(api), api.twap_history(USER.wallet), _ask(api, User("0x" + "0" * 40))]
    assert [weigh(items) for items in (0, 19, 20, 1999, 2000)] == [20, 20, 21, 119, 120]
    assert [(answer.requests, answer.weight) for answer in answers] == [(1, 120), (1, 22), (1, 20)]
    assert budget.begun == [(120, 2 * _TIMEOUT)] * 3
    assert budget.ended == [(1, 120), (2, 22), (3, 20)]
    assert [call.weight for call in server.log] == [120, 22, 20]


@pytest.mark.parametrize(
    "kind", ["429", "429 null", "500", "502", "503", "reset", "cut", "cut unsaid", "html"],
)  # fmt: skip
def test_what_fails_in_passing_is_asked_again_and_loses_nothing(
    kind: Kind, api: InfoApi, server: InfoServer, budget: FreeBudget
) -> None:
    server.faults += [Fault(kind, at=0.7), Fault(kind, at=0)]
    answer = _ask(api)

    assert answer.items == OWN[:2000]
    # What the server has charged for a call without an answer is not known: the most it can be.
    failed = 20 if kind.startswith("429") else 120
    assert (answer.requests, answer.weight) == (3, 2 * failed + 120)
    assert budget.ended == [(1, failed), (2, failed), (3, 120)]
    assert len(budget.paused) == (2 if kind.startswith("429") else 0)
    assert all(charged >= call.weight for (_, charged), call in zip(budget.ended, server.log, strict=True))


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_an_answer_that_does_not_come_in_time_is_given_up_and_asked_again(at: float, server: InfoServer) -> None:
    api = InfoApi(server.url, FreeBudget(), attempts=2, backoff_seconds=0, timeout_seconds=0.4)
    server.faults.append(Fault("stall", at=at))
    assert _ask(api).items == OWN[:2000]


def test_bytes_that_only_drip_are_no_answer(api: InfoApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps the socket from timing out."""
    monkeypatch.setattr(info, "_PIECE", 500)
    slow = InfoApi(api.url, api.budget, attempts=1, timeout_seconds=0.005)
    with pytest.raises(InfoError, match=r"slow: \d+ bytes in 0.005 s|[Tt]imed out"):
        _ask(slow)


def test_retry_after_is_waited_for_by_all_after_429_and_by_this_call_alone_after_503(
    server: InfoServer, api: InfoApi, budget: FreeBudget
) -> None:
    server.faults += [Fault("429 after", seconds=1), Fault("503 after", seconds=1)]
    assert _ask(api).items == OWN[:2000]
    first, second, third = [call.at for call in server.log]
    assert second - first >= 1
    assert third - second >= 1
    [pause] = budget.paused
    assert 1 <= pause <= 1.01


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("7", 7, 7), ("0", 0, 0), ("soon", 0, 0), ("-5", 0, 0), ("²", 0, 0), ("999999", 3600, 3600), ("Thu, 99 Xyz", 0, 0)],
)
def test_retry_after_is_seconds_or_nothing(text: str, least: float, most: float) -> None:
    assert least <= info._retry_after_seconds({"Retry-After": text}) <= most


def test_retry_after_may_be_a_date() -> None:
    assert 25 < info._retry_after_seconds({"Retry-After": formatdate(time.time() + 30, usegmt=True)}) <= 30
    assert info._retry_after_seconds({"Retry-After": formatdate(time.time() - 30)}) == 0


def test_a_wallet_that_is_refused_fails_at_once_by_name_with_the_servers_words(
    api: InfoApi, server: InfoServer, budget: FreeBudget
) -> None:
    server.refused[USER.wallet] = "Failed to deserialize: no such user"
    said = (
        rf"^{USER.wallet}: userFillsByTime from {START_MS}: {server.url}: it answered 422: 'Failed to deserialize: no such user'$"
    )
    with pytest.raises(InfoRefusedError, match=said) as raised:
        _ask(api)
    assert (raised.value.requests, raised.value.weight, budget.ended) == (1, 20, [(1, 20)])
    assert _ask(api, User("0x" + "0" * 40)).items == []


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["429 null"] * 4, r"it answered 429: 'null', after 4 attempts\. Run again"),
        (["500"] * 4, "it answered 500: nothing, after 4 attempts"),
        (["reset"] * 4, ".*Connection reset.*, after 4 attempts"),
        (["cut"] * 4, r"IncompleteRead.*, after 4 attempts"),
        (["cut unsaid"] * 4, r"its response is not JSON: .*, after 4 attempts"),
        (["html"] * 4, r"its response is not JSON: Expecting value at character 1: '<html>Bad gateway</html>', after 4"),
        (["null"], r"its response is not a list: 'null'$"),
    ],
)
def test_what_does_not_pass_is_an_error_by_name_and_the_next_question_is_answered(
    kinds: list[Kind], said: str, api: InfoApi, server: InfoServer, budget: FreeBudget
) -> None:
    server.faults += [Fault(kind) for kind in kinds]
    with pytest.raises(InfoError, match=rf"^{USER.wallet}: userFillsByTime from {START_MS}: http://.*: {said}") as raised:
        _ask(api)
    assert type(raised.value) is InfoError
    assert raised.value.requests == len(server.log) == len(kinds)
    assert raised.value.weight == sum(weight for _, weight in budget.ended) > 0
    assert _ask(api).items == OWN[:2000]


def test_a_wrong_address_is_an_error_that_says_which_setting(server: InfoServer, budget: FreeBudget) -> None:
    def failure(url: str) -> str:
        with pytest.raises(InfoError) as raised:
            InfoApi(url, budget, attempts=2, backoff_seconds=0, timeout_seconds=_TIMEOUT).twap_history(USER.wallet)
        return str(raised.value)

    assert "Connection refused" in failure(f"http://127.0.0.1:{free_port()}/info")
    assert "No connection adapters" in failure("ftp://info")
    assert failure("ftp://info").endswith("check HL_INFO_URL")
    del server


def test_a_forbidden_address_is_not_asked_again(api: InfoApi, server: InfoServer) -> None:
    server.faults.append(Fault("403"))
    with pytest.raises(
        InfoError, match="it answered 403: nothing; check HL_INFO_URL, and whether this address is allowed to call it"
    ):
        _ask(api)
    assert len(server.log) == 1


def test_a_number_keeps_its_last_digit(api: InfoApi, server: InfoServer) -> None:
    wallet = "0x" + "7" * 40
    odd = [{"time": 1, "twapId": None, "px": "0.10", "big": 12345678901234567890123, "small": 1e-9, "a": [True]}]
    server.users = {wallet: User(wallet, odd)}
    [item] = api.user_fills_by_time(wallet, 0, 2).items
    assert {name: str(value) for name, value in item.items()} == {
        "time": "1", "twapId": "None", "px": "0.10", "big": "12345678901234567890123", "small": "1E-9", "a": "[True]",
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_any_sequence_of_faults_in_many_threads_ends_with_the_answers(seed: int, server: InfoServer, budget: FreeBudget) -> None:
    server.random, server.chance = random.Random(seed), 0.4
    api = InfoApi(server.url, budget, attempts=50, backoff_seconds=0.001, timeout_seconds=_TIMEOUT)
    starts = [OWN[n]["time"] for n in range(1500, 2200, 50)]
    with ThreadPoolExecutor(6) as pool:
        answers = [*pool.map(lambda start: api.user_fills_by_time(USER.wallet, start, END_MS), starts)]
    assert [answer.items for answer in answers] == [[f for f in OWN if f["time"] >= start][:2000] for start in starts]
    assert sum(answer.requests for answer in answers) == len(server.log) == len(budget.ended)
    assert any(call.fault for call in server.log)


def test_the_settings_say_where_and_how_often(server: InfoServer, budget: FreeBudget) -> None:
    given: dict[str, Any] = {"info_url": server.url, "info_attempts": 2, "info_backoff_seconds": 0, "info_timeout_seconds": 9}
    api = open_info_api(Settings.model_validate(given), budget)
    server.faults += [Fault("500")] * 2
    with pytest.raises(InfoError, match="after 2 attempts"):
        _ask(api)
    assert json.dumps(_ask(api).items) == json.dumps(OWN[:2000])
    assert Settings().info_url == "https://api.hyperliquid.xyz/info"
    assert budget.begun == [(120, 18.0)] * 3


def test_without_an_info_api_nothing_is_asked_and_the_setting_is_named(budget: FreeBudget) -> None:
    with pytest.raises(InfoError, match="HL_INFO_URL is none: the info API is disabled"):
        open_info_api(Settings(info_url="none"), budget)
