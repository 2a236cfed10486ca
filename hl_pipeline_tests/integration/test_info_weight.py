"""The info API's weight budget, in a real PostgreSQL, against a server that counts like the API: never too much, rarely too
little, whichever process is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from hl_pipeline.settings import Settings
from hl_pipeline.sources.info import InfoApi
from hl_pipeline.warehouse.info_weight import InfoWeight
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.info_api import END_MS, START_MS, InfoServer, User, make_user, serve_info

_LIMIT = 1200
_WINDOW = 2.0
"""Seconds that are a minute here."""


def _weight(database_url: str, window: float = _WINDOW, **given: Any) -> InfoWeight:
    return InfoWeight(Settings.model_validate({"database_url": database_url, **given}), window)


def _used(connection: psycopg.Connection, egress: str = "default") -> int:
    asked = "SELECT coalesce(sum(weight), 0) FROM hl.info_calls WHERE egress = %s AND counts_until > clock_timestamp()"
    row = connection.execute(asked, [egress]).fetchone()
    assert row is not None
    return row[0]


def _users() -> list[User]:
    """Most wallets have little, a few have full pages: as many calls of each weight as there are."""
    return [make_user(f"weight {n}", size, slices=0) for n, size in enumerate([0, 0, 7, 19, 20, 45, 300, 1999, 2000])]


def _keep_asking(url: str, database_url: str, wallets: list[str], seconds: float, threads: int, ready: Any, go: Any) -> None:
    """Ask for one wallet after another, in an order of this process's own, until the time is over."""
    api = InfoApi(url, _weight(database_url), attempts=1, timeout_seconds=5)
    rng = random.Random(os.getpid())
    ready.release()
    go.wait()
    end = time.monotonic() + seconds

    def ask(_: int) -> None:
        while time.monotonic() < end:
            api.user_fills_by_time(rng.choice(wallets), START_MS, END_MS)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(threads)))


@pytest.mark.slow
def test_two_processes_use_nine_tenths_of_the_weight_and_never_too_much(database_url: str) -> None:
    users = _users()
    context = multiprocessing.get_context("forkserver")
    ready, go = context.Semaphore(0), context.Event()
    with serve_info(InfoServer({user.wallet: user for user in users}, _LIMIT, _WINDOW, seconds=0.01)) as server:
        what = (server.url, database_url, [user.wallet for user in users], 3 * _WINDOW, 8, ready, go)
        processes = [context.Process(target=_keep_asking, args=what, daemon=True) for _ in range(2)]
        for process in processes:
            process.start()
        for _ in processes:
            assert ready.acquire(timeout=60)
        go.set()
        for process in processes:
            process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert {call.status for call in server.log} == {200}
    assert max(call.used for call in server.log) < _LIMIT
    began = min(call.at for call in server.log)
    used = sum(call.weight for call in server.log if call.at < began + 3 * _WINDOW)
    assert used / (3 * _LIMIT) >= 0.9


def test_a_server_that_others_use_too_stops_all_our_callers_until_its_minute_is_over(database_url: str) -> None:
    """Somebody else calls from the same address: the budget does not know of him."""
    user = _users()[-1]
    with serve_info(InfoServer({user.wallet: user}, _LIMIT, 1.0)) as server:
        server.charge(_LIMIT)
        apis = [InfoApi(server.url, _weight(database_url, 1.0), backoff_seconds=0.2, timeout_seconds=5) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            answers = [*pool.map(lambda api: api.user_fills_by_time(user.wallet, START_MS, END_MS), apis)]
    assert [answer.items for answer in answers] == [user.fills] * 2
    assert {call.status for call in server.log} == {200, 429}


def test_a_pause_is_for_all_of_the_address_and_for_no_other(database_url: str) -> None:
    _weight(database_url).pause(0.5)
    _weight(database_url).pause(0.1)
    began = time.monotonic()
    _weight(database_url, egress="elsewhere").begin(120, 1)
    other = time.monotonic() - began
    _weight(database_url).begin(120, 1)
    assert other < 0.4 <= time.monotonic() - began


def test_a_call_counts_with_what_it_can_weigh_until_it_has_ended(database_url: str, connection: psycopg.Connection) -> None:
    weight = _weight(database_url, 60.0)
    calls = [weight.begin(120, 1) for _ in range(10)]
    assert _used(connection) == 1200
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(weight.begin, 120, 1)
        weight.end(calls[0], 21)
        assert not waiting.done()
        assert _used(connection) == 1101
        weight.end(calls[1], 99)
        last = waiting.result(10)
    assert _used(connection) == 8 * 120 + 21 + 99 + 120
    for call in [*calls, last]:
        weight.end(call, 20)
    assert _used(connection) == 220


def test_room_comes_when_the_window_has_passed_since_a_call_ended(database_url: str, connection: psycopg.Connection) -> None:
    weight = _weight(database_url, 0.6)
    calls = [weight.begin(120, 1) for _ in range(10)]
    ended = time.monotonic()
    for call in calls:
        weight.end(call, 120)
    weight.begin(120, 1)
    assert 0.6 <= time.monotonic() - ended < 3
    weight.begin(120, 1)
    rows = connection.execute("SELECT count(*) FROM hl.info_calls").fetchone()
    assert rows is not None
    assert rows[0] < 12, "what has run out is gone"


@pytest.mark.slow
def test_a_clock_that_went_back_a_day_blocks_no_call_for_a_day(database_url: str, connection: psycopg.Connection) -> None:
    weight = _weight(database_url, 0.6)
    for _ in range(10):
        weight.end(weight.begin(120, 1), 120)
    weight.pause(5)
    # A day ahead of the clock, as after a jump.
    connection.execute("UPDATE hl.info_calls SET counts_until = counts_until + interval '1 day'")
    connection.execute("UPDATE hl.info_egresses SET blocked_until = blocked_until + interval '1 day'")
    admitted = threading.Thread(target=weight.begin, args=(120, 1), daemon=True)
    admitted.start()
    admitted.join(3)
    [(pause,)] = connection.execute(
        "SELECT extract(epoch FROM blocked_until - clock_timestamp()) FROM hl.info_egresses"
    ).fetchall()
    assert pause <= 3660
    connection.execute("DELETE FROM hl.info_egresses")
    admitted.join(10)
    assert not admitted.is_alive()


def test_a_call_that_ended_after_its_time_is_charged_all_the_same(database_url: str, connection: psycopg.Connection) -> None:
    weight = _weight(database_url)
    late = weight.begin(120, 1)
    connection.execute("DELETE FROM hl.info_calls")
    weight.end(late, 77)
    assert _used(connection) == 77
    weight.begin(120, 1)
    assert _used(connection) == 197


@pytest.mark.slow
def test_who_waits_is_served_in_turn_and_hardly_asks_the_database(
    database_url: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _weight(database_url, 60.0)
    calls = [first.begin(120, 1) for _ in range(10)]
    statements: list[object] = []
    admitted: list[int] = []
    execute = psycopg.Connection.execute

    def count(self: psycopg.Connection, query: Any, *arguments: Any, **how: Any) -> Any:
        statements.append(query)
        return execute(self, query, *arguments, **how)

    def take(n: int, weight: InfoWeight) -> None:
        weight.begin(120, 1)
        admitted.append(n)

    def waiting() -> int:
        # One has its turn and waits for news, the others wait for their turn.
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hl info weight' AND datname = current_database() "
            "AND (wait_event = 'advisory' OR query LIKE '%left_over%')"
        )
        row = connection.execute(asked).fetchone()
        assert row is not None
        return row[0]

    # Three processes, as it were, of which the first one has four threads more.
    processes = [_weight(database_url, 60.0) for _ in range(3)]
    threads: list[threading.Thread] = []
    for n, weight in enumerate(processes):
        threads.append(threading.Thread(target=take, args=(n, weight), daemon=True))
        threads[-1].start()
        wait_until(lambda n=n: waiting() == n + 1, 20, "it waits")
    more = [threading.Thread(target=take, args=(9, processes[0]), daemon=True) for _ in range(4)]
    for thread in more:
        thread.start()
    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "execute", count)
        time.sleep(0.5)
    assert len(statements) <= 2
    assert waiting() == 3
    for call in calls[:7]:
        before = len(admitted)
        first.end(call, 0)
        wait_until(lambda before=before: len(admitted) > before, 20, "the next one is admitted")
    assert admitted == [0, 1, 2, 9, 9, 9, 9]
    for thread in threads + more:
        thread.join(20)


def _take_all_and_wait(database_url: str, window: float, seconds: float, full: Any) -> None:
    weight = _weight(database_url, window)
    for _ in range(10):
        weight.begin(120, seconds)
    full.set()
    weight.begin(120, seconds)


@pytest.mark.slow
def test_what_killed_processes_had_set_apart_and_their_turn_come_back(database_url: str, connection: psycopg.Connection) -> None:
    context = multiprocessing.get_context("forkserver")
    full = context.Event()
    process = context.Process(target=_take_all_and_wait, args=(database_url, 0.5, 1.5, full), daemon=True)
    process.start()
    assert full.wait(60)
    taken = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        # Behind the one that is to be killed while it is his turn.
        waiting = pool.submit(_weight(database_url, 0.5).begin, 120, 9)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        waiting.result(30)
    assert time.monotonic() - taken > 1
    wait_until(lambda: _used(connection) == 120, 20, "nothing of the killed one counts")
