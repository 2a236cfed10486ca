"""Clients of the API while PostgreSQL restarts twice: no answer is wrong, and it recovers by itself."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import requests

from hl_pipeline.warehouse.connect import connect, ensure_database
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.servers.api import WALLET, add, at, ns, serving_process, status_row, twap_row
from hl_pipeline_tests.servers.postgres import serve_postgres
from hl_pipeline_tests.tools.reliability.outcome import NewDatabase, Outcome, timed

CLIENTS = 50
_SPAN = f"wallet={WALLET}&start=2025-11-01&end=2025-11-30"
_PATHS = (
    f"/api/v1/twaps?{_SPAN}",
    f"/api/v1/fills?{_SPAN}",
    f"/api/v1/fills?{_SPAN}&limit=5",
    "/api/v1/coverage/days?start=2025-11-01&end=2025-11-30",
    "/api/v1/candles?coin=SOL&interval=1m&start=2025-11-03&end=2025-11-03",
)


@dataclass(slots=True)
class _Seen:
    """The answers of all clients. `bad_at`: times (monotonic) of those that were not 200."""

    codes: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    answers: list[tuple[float, bool]] = field(default_factory=list[tuple[float, bool]])
    slowest: float = 0.0


def restart_under_load(directory: Path, new_database: NewDatabase, cases: Iterable[int], seed: int = 1) -> Outcome:  # noqa: ARG001
    """Ask on CLIENTS connections. Each case is a second of load: in the first third the server is stopped and started, in the
    second third it is killed.
    """
    seconds = sum(1 for _ in cases)
    with timed(f"{CLIENTS} API clients, PostgreSQL restarts twice") as outcome, serve_postgres() as server:
        url = server.url("load")
        ensure_database(url)
        migrate(url)
        with connect(url, "test") as connection:
            add(connection, "twap_statuses", *(status_row(n, ns(f"2025-11-03 12:00:{n:02}")) for n in range(1, 21)))
            add(connection, "twaps", *(twap_row(n, at("2025-11-03 12:00")) for n in range(1, 21)))
            add(connection, "fills", *({"time": at(f"2025-11-03 12:00:{n:02}"), "tid": n} for n in range(40)))
        with serving_process(url, directory, HL_API_POOL_TIMEOUT_SECONDS="0.5", HL_API_REQUESTS_PER_MINUTE="0") as api:
            wanted = {path: requests.get(api.url + path, timeout=30) for path in _PATHS}
            for path, answer in wanted.items():
                if answer.status_code not in (200, 422):
                    outcome.wrong.append(f"{path}: {answer.status_code} before any restart: {answer.text[:200]}")
            seen, stop = _Seen(), threading.Event()
            with ThreadPoolExecutor(CLIENTS + 1) as threads:
                for client in range(CLIENTS):
                    threads.submit(_ask, api.url, wanted, client, seen, stop)
                back: list[float] = []
                for how in ("fast", "kill"):
                    time.sleep(seconds / 3)
                    server.restart(how)
                    back.append(time.monotonic())
                time.sleep(seconds / 3)
                stop.set()
            recovered = [_seconds_to_recover(seen, moment, moment + seconds / 3) for moment in back]
        outcome.cases = sum(seen.codes.values())
        outcome.wrong += seen.wrong
        if set(seen.codes) - {"200", "503"}:
            outcome.wrong.append(f"other answers: {dict(seen.codes)}")
        if not seen.codes["200"]:
            outcome.wrong.append("no answer was right")
        outcome.measured = (
            f"{seconds} s; {seen.codes['200']:,} right answers, {seen.codes['503']:,} times 503, slowest {seen.slowest:.1f} s; "
            f"last 503 {recovered[0]:.1f} s after the stop and start, {recovered[1]:.1f} s after the kill"
        )
    return outcome


def _ask(url: str, wanted: dict[str, requests.Response], client: int, seen: _Seen, stop: threading.Event) -> None:
    paths, number = [*wanted], client
    with requests.Session() as session:
        while not stop.is_set():
            path, number = paths[number % len(paths)], number + 1
            began = time.monotonic()
            try:
                answer = session.get(url + path, timeout=60)
            except requests.RequestException as error:
                seen.wrong.append(f"{path}: {error!r}")
                continue
            seen.slowest = max(seen.slowest, time.monotonic() - began)
            seen.codes[str(answer.status_code)] += 1
            seen.answers.append((time.monotonic(), answer.status_code != 503))
            if answer.status_code == 503:
                if "retry-after" not in answer.headers:
                    seen.wrong.append(f"{path}: 503 without Retry-After")
                # A client that is told to wait does so, here for a short time.
                stop.wait(0.1)
            elif answer.text != wanted[path].text:
                seen.wrong.append(f"{path}: {answer.status_code}, another answer: {answer.text[:200]}")


def _seconds_to_recover(seen: _Seen, since: float, until: float) -> float:
    """Return how long after the server was back the last 503 came, of those before the next restart."""
    return max((moment - since for moment, is_good in seen.answers if not is_good and since <= moment < until), default=0.0)
