"""PostgreSQL restarts during an ingest and under API load: no row is lost or duplicated, and no response is wrong."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.connect import NoDatabaseError, connect, ensure_database
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.killable_runs import Place, ingest
from hl_pipeline_tests.log_events import at_event
from hl_pipeline_tests.naive.fills import event_day, expected_fill, in_order, read_bucket, stored_fills, without
from hl_pipeline_tests.servers.api import WALLET, Api, add, at, ns, serving, status_row, twap_row
from hl_pipeline_tests.servers.postgres import PostgresServer, serve_postgres

DAY, NEXT = date(2026, 3, 15), date(2026, 3, 16)
_NOVEMBER = {"wallet": WALLET, "start": "2025-11-01", "end": "2025-11-30"}
_BACK_SECONDS = 6.0
_LEFT_OVER = "SELECT count(*) FROM pg_class WHERE relname LIKE 'fills%load%'"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("restarts"), first_day=DAY, days=2, fills_per_hour=20).node_data_dir


@pytest.fixture(scope="module")
def truth(bucket: Path) -> dict[date, list[dict[str, Any]]]:
    """The fills of each day, worked out line by line."""
    every = [expected_fill(block, user, fill) for block, user, fill in read_bucket(bucket)]
    return {day: in_order([fill for fill in every if event_day(fill) == day]) for day in (DAY, NEXT)}


@pytest.fixture(scope="module")
def server(postgres_home: Path) -> Generator[PostgresServer]:
    del postgres_home  # it lets the user who runs PostgreSQL reach the programs
    with serve_postgres() as server:
        yield server


@pytest.fixture
def url(server: PostgresServer, request: pytest.FixtureRequest) -> str:
    """A database of the test's own."""
    url = server.url(f"t{abs(hash(request.node.name))}")
    ensure_database(url)
    migrate(url)
    return url


def _stored(url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url) as connection:
        assert connection.execute(_LEFT_OVER).fetchone() == (0,)
    return in_order(without(stored_fills(url), "date"))


@pytest.mark.parametrize(
    ("event", "how"),
    [
        pytest.param("hour_copied", "immediate"),
        *(
            pytest.param(event, how, marks=pytest.mark.slow)
            for event, how in [
                ("object_fetched", "fast"),
                ("object_done", "kill"),
                ("hour_copied", "kill"),
                ("indexes_building", "fast"),
                ("day_built", "immediate"),
                ("day_attaching", "kill"),
            ]
        ),
    ],
)
@pytest.mark.slow
def test_a_second_run_finishes_what_a_restart_broke_off(
    event: str, how: str, server: PostgresServer, url: str, bucket: Path, truth: dict[date, list[dict[str, Any]]], tmp_path: Path
) -> None:
    place = Place(bucket, tmp_path / "lake", url)
    with pytest.raises((psycopg.OperationalError, NoDatabaseError)), at_event(event, lambda: server.restart(how)):
        ingest(place, DAY)

    ingest(place, DAY)

    assert _stored(url) == truth[DAY]


@pytest.mark.slow
def test_a_command_names_the_restart_and_goes_on_with_the_next_day(
    server: PostgresServer, bucket: Path, truth: dict[date, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url = server.url("command")
    environment = {
        **os.environ,
        "HL_HOME": str(tmp_path / "home"),
        "HL_DATABASE_URL": url,
        "HL_LAKE_URL": str(tmp_path / "lake"),
        "HL_NODE_DATA_URL": str(bucket),
    }
    words = ("ingest", "--from", str(DAY), "--to", str(NEXT))
    with at_event("hour_copied", lambda: server.restart("fast")):
        broken = run_in_process(tmp_path, environment, *words)

    assert broken.returncode == 1
    first, second = [line for line in broken.stdout.splitlines() if line.startswith("2026-")]
    assert first.split()[:2] == [str(DAY), "failed"]
    assert "the database became unreachable during the run; finished work is kept, so run the same command again" in first
    assert second.split()[:2] == [str(NEXT), "whole"]
    assert "Traceback" not in broken.stdout + broken.stderr
    again = run_in_process(tmp_path, environment, *words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing new, and nothing missing: 1 day, 2026-03-16" in again.stdout
    assert _stored(url) == in_order([*truth[DAY], *truth[NEXT]])


@dataclass(frozen=True, slots=True)
class _Answer:
    """When it came (seconds of the monotonic clock), its status, its Retry-After and its body."""

    at: float
    status: int
    retry_after: str | None
    body: str


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
def test_under_load_a_restart_is_503_while_it_lasts_and_never_a_wrong_answer(how: str, server: PostgresServer, url: str) -> None:
    with connect(url, "test") as connection:
        add(connection, "twap_statuses", *(status_row(n, ns(f"2025-11-03 12:00:{n:02}")) for n in range(1, 21)))
        add(connection, "twaps", *(twap_row(n, at("2025-11-03 12:00")) for n in range(1, 21)))
    stop, answers, back = threading.Event(), list[_Answer](), 0.0

    def ask(own: Api) -> None:
        while not stop.is_set():
            response = own.ask("/api/v1/twaps", **_NOVEMBER)
            answers.append(_Answer(time.monotonic(), response.status_code, response.headers.get("retry-after"), response.text))

    with serving(url, HL_API_POOL_TIMEOUT_SECONDS="0.5") as api, ThreadPoolExecutor(8) as threads:
        wanted = api.ask("/api/v1/twaps", **_NOVEMBER).text
        assert len(json.loads(wanted)["twaps"]) == 20
        asking = [threads.submit(ask, Api(api.url)) for _ in range(8)]
        try:
            for _ in range(2):
                time.sleep(1)
                server.restart(how)
                back = time.monotonic()
                _wait_for_success(answers, back)
        finally:
            stop.set()
        for one in asking:
            one.result()

    assert {answer.status for answer in answers} <= {200, 503}
    assert {answer.body for answer in answers if answer.status == 200} == {wanted}
    assert {answer.retry_after for answer in answers if answer.status == 503} <= {"2"}
    assert max((answer.at for answer in answers if answer.status == 503), default=0.0) <= back + _BACK_SECONDS
    assert len([answer for answer in answers if answer.status == 200]) > 100


def _wait_for_success(answers: list[_Answer], since: float) -> None:
    """Until all of the last twenty answers are right."""
    while any(answer.status != 200 or answer.at < since for answer in answers[-20:]):
        assert time.monotonic() < since + 2 * _BACK_SECONDS, answers[-20:]
        time.sleep(0.1)
