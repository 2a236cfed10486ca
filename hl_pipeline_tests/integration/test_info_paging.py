"""Histories from the info API: everything reachable arrives exactly once, and no truncated wallet is called complete."""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hl_pipeline.domain.records import HistoryKind, HistoryPage, WalletVerdict
from hl_pipeline.formats.fills import FILL_KEY
from hl_pipeline.settings import Settings
from hl_pipeline.sources.info import InfoApi, InfoError
from hl_pipeline.sources.info_paging import judge, walk
from hl_pipeline.warehouse.info_weight import InfoWeight
from hl_pipeline_tests.servers.info_api import (
    END_MS,
    REACHABLE,
    START_MS,
    Fill,
    FreeBudget,
    InfoServer,
    User,
    key_of,
    make_user,
    serve_info,
)

KINDS: tuple[HistoryKind, ...] = ("fills", "twap_slices")
_HISTORIES: dict[str, dict[str, Any]] = {
    **{str(count): {"count": count} for count in (0, 1, 1999, 2000, 2001, 9999, 10_000, 30_000)},
    **{f"{count} fills of no twap": {"count": count, "slices": 0} for count in (2000, 4001)},
    "of twaps": {"count": 4500, "slices": 0.97},
    "after": {"count": 0, "after": 3000},
    "hidden": {"count": 500, "after": 10_000},
    "half hidden": {"count": 6000, "after": 7000},
    "crowd that fits": {"count": 2400, "crowd": (300, 1999), "slices": 0},
    "crowd of a page": {"count": 2500, "crowd": (300, 2000), "slices": 0},
    "crowd": {"count": 4800, "crowd": (300, 2100), "slices": 0},
}
LOST_IN_THE_CROWD = 100


@cache
def _user(name: str) -> User:
    return make_user(name, **_HISTORIES[name])


@dataclass(frozen=True, slots=True)
class Got:
    """The result of fetching a wallet's fills and slices."""

    fills: list[tuple[Any, ...]]
    bad: list[bytes]
    pages: list[HistoryPage]
    verdict: WalletVerdict


@pytest.fixture(scope="module")
def server() -> Generator[InfoServer]:
    with serve_info(InfoServer({user.wallet: user for user in map(_user, _HISTORIES)})) as server:
        yield server


def _api(server: InfoServer) -> InfoApi:
    return InfoApi(server.url, FreeBudget(), attempts=40, backoff_seconds=0.001, timeout_seconds=10)


def _said(frames: Iterable[pl.DataFrame]) -> list[tuple[Any, ...]]:
    """Rows in the order of the truth, without the line."""
    every = pl.concat(frames).drop("line", "extra").with_columns(pl.col("time").cast(pl.Int64))
    columns = ["time", "coin", "side", "tid", "px", "sz", "oid", "fee", "twap_id", "hash", "wallet"]
    return sorted(every.select(columns).rows(), key=lambda row: row[:4])


def _truth(wallet: str, fills: Iterable[Fill]) -> list[tuple[Any, ...]]:
    return [
        (fill["time"], fill["coin"], fill["side"], fill["tid"], Decimal(fill["px"]), Decimal(fill["sz"]), fill["oid"],
         Decimal(fill["fee"]), fill["twapId"], bytes.fromhex(fill["hash"][2:]), wallet)
        for fill in sorted(fills, key=key_of)
    ]  # fmt: skip


def _get(server: InfoServer, user: User, kinds: Iterable[HistoryKind] = KINDS) -> Got:
    pages = [page for kind in kinds for page in walk(_api(server), kind, user.wallet, START_MS, END_MS)]
    fills = _said(page.fills for page in pages)
    bad = [item.text for page in pages for item in page.bad]
    after = sum(fill["time"] > END_MS for fill in user.fills)
    crowded = [page.crowded_ms for page in pages if page.crowded_ms is not None]
    return Got(fills, bad, pages, judge(len(fills) + len(bad), after, fills[0][0] if fills else None, crowded))


@pytest.mark.parametrize("name", _HISTORIES)
def test_all_that_can_be_reached_comes_once_and_exactly_what_is_cut_off_is_truncated(name: str, server: InfoServer) -> None:
    user = _user(name)
    reachable = user.reachable()
    if name == "crowd":
        moment = user.fills[300]["time"]
        gone = [fill for fill in user.fills if fill["time"] == moment][2000:]
        assert len(gone) == LOST_IN_THE_CROWD
        reachable = [fill for fill in reachable if fill not in gone]

    got = _get(server, user)

    assert got.fills == _truth(user.wallet, reachable)
    assert len({row[:4] for row in got.fills}) == len(got.fills)
    truncated = len(user.fills) >= REACHABLE or name in ("crowd", "crowd of a page")
    oldest = reachable[0]["time"] if reachable else None
    assert (got.verdict.state, got.verdict.fills, got.verdict.oldest_ms) == (
        "truncated" if truncated else "complete",
        len(reachable),
        oldest,
    )
    assert bool(got.verdict.reason) == truncated
    in_window = sum(fill["time"] <= END_MS for fill in user.fills)
    assert truncated or len(got.fills) == in_window, "a false complete"


def test_the_users_are_what_the_tests_are_about() -> None:
    """A millisecond with several fills stands at ends of pages, and the reach of the API ends within histories."""
    own = [fill["time"] for fill in _user("30000").reachable() if fill["twapId"] is None]
    assert len(own) > 8000
    ends, end = [], 2000
    while end < len(own):
        ends.append(own[end - 1] == own[end])
        end = own.index(own[end - 1]) + 2000
    assert sum(ends) >= 2
    assert max(own.count(time_ms) for time_ms in {*own}) >= 11
    assert 0 < len(_user("half hidden").reachable()) < 6000
    assert _user("hidden").reachable() == _user("after").reachable() == []
    assert sum(fill["twapId"] is not None for fill in _user("of twaps").fills) > 4000


@pytest.mark.parametrize("name", ["9999", "30000", "half hidden"])
def test_no_complete_is_false_where_slices_do_not_count_with_fills(name: str) -> None:
    user = _user(name)
    with serve_info(InfoServer({user.wallet: user}, apart=True)) as server:
        got = _get(server, user)
    assert got.fills == _truth(user.wallet, user.reachable(apart=True))
    in_window = sum(fill["time"] <= END_MS for fill in user.fills)
    assert got.verdict.state == ("truncated" if len(user.fills) >= REACHABLE else "complete")
    assert got.verdict.state == "truncated" or len(got.fills) == in_window


def test_a_wallet_that_nobody_knows_is_complete_with_nothing(server: InfoServer) -> None:
    agent = User("0x" + "ab" * 20)
    got = _get(server, agent)
    assert (got.fills, got.verdict) == ([], WalletVerdict("complete", 0, None, None))
    assert [(page.requests, page.weight, page.next_ms) for page in got.pages] == [(1, 20, None)] * 2


def test_a_page_asks_for_the_last_moment_again_and_as_few_are_asked_for_as_can_be(server: InfoServer) -> None:
    user = _user("4001 fills of no twap")
    before = len(server.log)
    pages = list(walk(_api(server), "fills", user.wallet, START_MS, END_MS))
    calls = server.log[before:]
    starts = [call.question["startTime"] for call in calls]
    assert starts == [START_MS, *(page.next_ms for page in pages[:-1])]
    for page, (start, following) in zip(pages, pairwise(starts), strict=False):
        assert following == page.fills["time"].cast(pl.Int64).max()
        assert following > start
    assert [call.items == 2000 for call in calls] == [True] * (len(calls) - 1) + [False]
    assert sum(page.weight for page in pages) == sum(call.weight for call in calls)
    assert len(calls) == 3


def test_a_crowded_moment_is_said_and_passed(server: InfoServer) -> None:
    user = _user("crowd")
    moment = user.fills[300]["time"]
    got = _get(server, user, ["fills"])
    assert [page.crowded_ms for page in got.pages if page.crowded_ms is not None] == [moment]
    assert got.verdict.reason == f"one millisecond fills a whole page of 2000, so more fills may exist, at: {moment}"
    assert got.fills[-1][0] == user.fills[-1]["time"]


@pytest.mark.parametrize("size", [1999, 2000, 2001])
def test_a_crowd_at_the_end_of_the_window_ends_the_walk(size: int) -> None:
    user = make_user("end", size, slices=0)
    user = replace(user, fills=[fill | {"time": END_MS} for fill in user.fills])
    with serve_info(InfoServer({user.wallet: user})) as server:
        got = _get(server, user, ["fills"])
    assert got.fills == _truth(user.wallet, user.fills[:2000])
    assert got.verdict.state == ("complete" if size < 2000 else "truncated")


@pytest.mark.parametrize("kind", KINDS)
def test_a_walk_that_was_broken_off_anywhere_goes_on_from_what_was_kept(kind: HistoryKind, server: InfoServer) -> None:
    user = _user("4001 fills of no twap" if kind == "fills" else "of twaps")
    whole = list(walk(_api(server), kind, user.wallet, START_MS, END_MS))
    assert len(whole) > 2
    for count in range(1, len(whole)):
        kept = list(islice(walk(_api(server), kind, user.wallet, START_MS, END_MS), count))
        next_ms = kept[-1].next_ms
        assert next_ms is not None
        there = pl.concat(page.fills for page in kept)
        at_next = there.filter(pl.col("time").cast(pl.Int64) == next_ms)
        rest = list(walk(_api(server), kind, user.wallet, next_ms, END_MS, at_next.select(FILL_KEY)))
        assert _said([there, *(page.fills for page in rest)]) == _said(page.fills for page in whole)
        # Who does not say what he has gets that moment again, and nothing else.
        again = list(walk(_api(server), kind, user.wallet, next_ms, END_MS))
        assert sum(page.fills.height for page in again) == sum(page.fills.height for page in rest) + at_next.height


def test_faults_lose_nothing_and_repeat_nothing() -> None:
    user = _user("9999")
    info = InfoServer({user.wallet: user}, random=random.Random(1), chance=0.5)
    with serve_info(info) as server:
        got = _get(server, user)
    assert got.fills == _truth(user.wallet, user.fills)
    assert got.verdict == WalletVerdict("complete", 9999, user.fills[0]["time"], None)
    assert sum(page.requests for page in got.pages) == len(info.log) > len(got.pages) + 2


@pytest.mark.slow
def test_all_wallets_at_once_within_one_budget_come_without_a_429(database_url: str) -> None:
    asked = [_user(name) for name in _HISTORIES if name != "crowd"]
    settings = Settings.model_validate({"database_url": database_url})
    with serve_info(InfoServer({user.wallet: user for user in asked}, 1200, window_seconds=0.5)) as server:
        api = InfoApi(server.url, InfoWeight(settings, window_seconds=0.5), attempts=1, timeout_seconds=10)

        def get(user: User) -> list[tuple[Any, ...]]:
            return _said(page.fills for kind in KINDS for page in walk(api, kind, user.wallet, START_MS, END_MS))

        with ThreadPoolExecutor(6) as pool:
            got = [*pool.map(get, asked)]
    assert got == [_truth(user.wallet, user.reachable()) for user in asked]
    assert {call.status for call in server.log} == {200}
    assert sum(call.weight for call in server.log) > 3 * 1200


def test_bad_fills_are_told_once_and_count_as_come() -> None:
    user = make_user("bad", 5000, slices=0)
    # One of them at the end of the first page, so that its moment comes again.
    damaged = {7, 1998, 1999, 2000, 3500, 4999}
    fills = [fill | ({"px": f"cheap {n}"} if n in damaged else {}) for n, fill in enumerate(user.fills)]
    fills[1996:2002] = [fill | {"time": fills[1996]["time"]} for fill in fills[1996:2002]]
    with serve_info(InfoServer({user.wallet: replace(user, fills=fills)})) as server:
        got = _get(server, replace(user, fills=fills), ["fills"])
    assert got.fills == _truth(user.wallet, [fill for n, fill in enumerate(fills) if n not in damaged])
    assert sorted(json.loads(text)["px"] for text in got.bad) == sorted(f"cheap {n}" for n in damaged)
    assert (got.verdict.state, got.verdict.fills) == ("complete", 5000)


def test_the_real_page_goes_through_exactly(samples: Path) -> None:
    fills = json.loads((samples / "user_fills_by_time_page.json").read_bytes())
    user = User("0x" + "cd" * 20, fills)
    with serve_info(InfoServer({user.wallet: user})) as server:
        first, last = fills[0]["time"], fills[-1]["time"]
        pages = list(walk(_api(server), "fills", user.wallet, first, last))
    assert _said(page.fills for page in pages) == _truth(user.wallet, fills)
    assert [page.fills.height for page in pages] == [2000, 0]
    assert pl.concat(page.fills for page in pages)["extra"].null_count() == 2000


class _Backwards(InfoServer):
    """Gives the newest first."""

    def items_of(self, question: dict[str, Any]) -> list[str]:
        return super().items_of(question)[::-1]


def test_a_full_page_that_does_not_tell_where_to_go_on_is_an_error_by_name() -> None:
    user = _user("2001")
    unreadable = make_user("unreadable", 2000, slices=0)
    unreadable = replace(unreadable, fills=[fill | {"sz": "much"} for fill in unreadable.fills])
    own = [fill["time"] for fill in _user("4001 fills of no twap").fills[:2000]]
    with serve_info(_Backwards({user.wallet: _user("4001 fills of no twap"), unreadable.wallet: unreadable})) as server:
        with pytest.raises(InfoError) as turned:
            list(walk(_api(server), "fills", user.wallet, START_MS, END_MS))
        with pytest.raises(InfoError) as unread:
            list(walk(_api(server), "fills", unreadable.wallet, START_MS, END_MS))
    assert str(turned.value).startswith(
        f"{user.wallet}: fills from {START_MS}: a full page of fills from {own[0]} to {own[-1]} is not sorted by time"
    )
    assert (turned.value.requests, turned.value.weight) == (unread.value.requests, unread.value.weight) == (1, 120)
    assert str(unread.value) == (
        f"{unreadable.wallet}: fills from {START_MS}: none of the 2000 items of the page can be read: "
        'sz: "much" is not a decimal number'
    )


@pytest.mark.parametrize(
    ("came", "after", "state"),
    [(0, 0, "complete"), (9999, 0, "complete"), (0, 9999, "complete"), (5000, 4999, "complete"), (5000, 5000, "truncated"),
     (10_000, 0, "truncated"), (0, 10_000, "truncated"), (0, 10**6, "truncated"), (20_000, 0, "truncated")],
)  # fmt: skip
def test_complete_is_below_what_the_api_can_reach(came: int, after: int, state: str) -> None:
    verdict = judge(came, after, 5 if came else None)
    assert (verdict.state, verdict.fills, verdict.oldest_ms) == (state, came, 5 if came else None)
    if state == "truncated":
        assert verdict.reason is not None
        assert f"{came} fills were fetched and {after} are known" in verdict.reason


def test_both_reasons_are_told() -> None:
    reason = judge(9000, 1000, 1, [30, 20]).reason
    assert reason is not None
    assert reason.endswith(
        "so older ones may be missing; one millisecond fills a whole page of 2000, so more fills may exist, at: 20, 30"
    )
