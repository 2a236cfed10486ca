"""The API on a read replica (a streaming hot standby): it responds as on the primary, and `hl` refuses the replica."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from click import ClickException

from api.app import create_app
from api.settings import ApiSettings
from hl_pipeline.ops.instance import PipelineStorage
from hl_pipeline.warehouse.connect import NoDatabaseError, connect, ensure_database
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.api import WALLET, Api, add, at, ns, serving, status_row, twap_row
from hl_pipeline_tests.servers.postgres import PostgresServer, serve_postgres, serve_standby, wait_for_standby

pytestmark = pytest.mark.slow
_SPAN = {"start": "2025-11-03", "end": "2025-11-04"}
_ASKED: dict[str, dict[str, str]] = {
    "/": {},
    "/healthz": {},
    "/api/v1/coverage": _SPAN,
    "/api/v1/coverage/days": _SPAN,
    "/api/v1/fills": {"wallet": WALLET, **_SPAN},
    "/api/v1/stats/daily": _SPAN,
    "/api/v1/stats/users": {"wallet": WALLET, **_SPAN},
    "/api/v1/candles": {"coin": "SOL", "interval": "1m", **_SPAN},
    "/api/v1/twaps": {"wallet": WALLET, **_SPAN},
    "/api/v1/twaps/{twap_id}": {},
    "/api/v1/twaps/{twap_id}/analytics": {},
    "/api/v1/twaps/{twap_id}/fills": {},
    "/api/v1/trades": {"wallet_addresses": WALLET, "start_date": "2025-11-03", "end_date": "2025-11-04"},
    "/api/v1/twap/{twap_id}": {},
    **{f"/api/v1/leaderboards/{board}": _SPAN for board in ("twaps", "volume", "pnl", "fees", "builders")},
    "/api/v1/builders": _SPAN,
    "/api/v1/coins/{coin}/twap-flow": {"at": "2025-11-03T12:00:30Z"},
    "/api/v1/cost": _SPAN,
    "/api/v1/wallets/{wallet}": {},
    "/api/v1/wallets/{wallet}/tax": {"year": "2025"},
    "/api/v1/wallets/{wallet}/twaps": {"start_date": "2025-11-03", "end_date": "2025-11-04"},
    "/api/v1/status": {},
    "/health": {},
}
_EXPORTED = ("/coverage", "/coverage/days", "/fills", "/stats/daily", "/stats/users", "/candles", "/twaps")


@dataclass(frozen=True, slots=True)
class Pair:
    """A primary and its standby, and the URL of the same database in each."""

    primary: PostgresServer
    standby: PostgresServer

    @property
    def primary_url(self) -> str:
        return self.primary.url("hl")

    @property
    def standby_url(self) -> str:
        return self.standby.url("hl")

    def run(self, text: str) -> None:
        """Change the primary, and wait until the standby has it."""
        with psycopg.connect(self.primary_url, autocommit=True) as connection:
            connection.execute(text.encode())
        wait_for_standby(self.primary, self.standby)


@pytest.fixture(scope="module")
def pair(postgres_home: Path) -> Generator[Pair]:
    del postgres_home  # it lets the user who runs PostgreSQL reach the programs
    with serve_postgres(wal_level="replica", max_wal_senders="4") as primary:
        ensure_database(primary.url("hl"))
        migrate(primary.url("hl"))
        with serve_standby(primary, max_standby_streaming_delay="200ms") as standby:
            with connect(primary.url("hl"), "test") as connection:
                _fill(connection)
            wait_for_standby(primary, standby)
            yield Pair(primary, standby)


def _fill(connection: psycopg.Connection) -> None:
    moment = at("2025-11-03 12:00")
    add(
        connection,
        "s3_ingest_log",
        {"object_id": 3_000_000, "object_key": "a/9.lz4", "object_date": "2025-11-03", "object_hour": 12},
    )
    add(connection, "fills", *({"time": moment, "tid": n, "twap_id": 1, "fee": f"-0.000{n}"} for n in range(1, 8)))
    made = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at", "builder_stats_at"), moment)
    add(connection, "fills_days", {"date": "2025-11-03", **made})
    add(connection, "twap_days", {"date": "2025-11-03", "twaps_at": moment})
    add(connection, "coverage", {"object_date": "2025-11-03", "object_hour": 12})
    add(connection, "candles", {"coin": "SOL", "time": moment, "date": "2025-11-03"})
    add(connection, "daily_stats", {"date": "2025-11-03", "coin": "SOL"})
    connection.execute(
        "INSERT INTO hl.s3_requests (at, bucket, method, key, bytes, dollars) VALUES (%s, 'b', 'GET', 'k', 5, 1)", [moment]
    )
    add(connection, "builder_stats", {"date": "2025-11-03", "coin": "SOL"})
    add(connection, "user_stats", {"date": "2025-11-03", "wallet": WALLET, "first_fill": moment, "last_fill": moment})
    add(connection, "twap_statuses", status_row(1, ns("2025-11-03 12:00:00")))
    add(connection, "twaps", twap_row(1, moment))
    add(connection, "twap_slice_days", {"twap_id": 1, "date": "2025-11-03"})


@pytest.fixture(scope="module")
def primary_api(pair: Pair) -> Generator[Api]:
    with serving(pair.primary_url) as api:
        yield api


@pytest.fixture(scope="module")
def standby_api(pair: Pair) -> Generator[Api]:
    with serving(pair.standby_url) as api:
        yield api


def test_every_route_answers_on_a_replica_as_on_the_primary(primary_api: Api, standby_api: Api) -> None:
    paths = create_app(ApiSettings(database_url="postgresql:///none")).openapi()["paths"]  # pyright: ignore[reportArgumentType]
    assert set(_ASKED) == {path for path in paths if path != "/metrics"}
    for path, asked in _ASKED.items():
        one = path.replace("{twap_id}", "1").replace("{wallet}", WALLET).replace("{coin}", "SOL")
        answers = [api.ask(one, **asked) for api in (primary_api, standby_api)]
        assert [answer.status_code for answer in answers] == [200, 200], (path, answers[1].text)
        if path.endswith("/tax"):
            assert answers[0].content == answers[1].content
            continue
        wanted, answer = (answer.json() for answer in answers)
        assert answer == wanted, path
        lists = [value for value in wanted.values() if isinstance(value, list)]
        assert all(lists), path
    for path in _EXPORTED:
        asked = _ASKED[f"/api/v1{path}"]
        for form in ("csv", "parquet"):
            answers = [api.ask(f"/api/v1{path}", **asked, format=form) for api in (primary_api, standby_api)]
            assert [answer.status_code for answer in answers] == [200, 200], (path, answers[1].text)
            assert answers[0].content == answers[1].content
    scrape = standby_api.ask("/metrics").text
    assert "hl_api_database_up 1.0" in scrape
    readable = re.findall(r'^hl_metrics_readable{group="(\w+)"} 1.0$', scrape, re.MULTILINE)
    assert set(readable) >= {"objects", "money", "days", "coverage", "backfill", "database"}


def test_what_the_primary_gets_the_replica_serves(pair: Pair, standby_api: Api) -> None:
    pair.run(
        "INSERT INTO hl.fills (time, coin, wallet, side, px, sz, object_id, tid) "
        f"VALUES ('2025-11-03 13:00Z', 'SOL', '{WALLET}', 'B', 5, 1, 3000000, 99)"
    )
    rows = standby_api.get("/api/v1/fills", **_ASKED["/api/v1/fills"])["fills"]
    assert [row["px"] for row in rows] == ["100"] * 7 + ["5"]
    pair.run("DELETE FROM hl.fills WHERE tid = 99")


def test_sessions_on_a_replica_are_those_of_the_reader(pair: Pair, standby_api: Api) -> None:
    standby_api.get("/healthz")
    with psycopg.connect(pair.standby_url) as connection:
        [(sessions,)] = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hl api'")
        assert 4 <= sessions <= 6
        # The role that the primary's migrations made.
        connection.execute("SET ROLE hl_reader")
        assert connection.execute("SELECT count(*) FROM hl.fills").fetchone() == (7,)


@pytest.fixture
def slow_twaps(pair: Pair) -> Generator[None]:
    """Each row of hl.twaps takes a minute to read."""
    pair.run(
        "ALTER TABLE hl.twaps RENAME TO twaps_kept; "
        "CREATE VIEW hl.twaps AS SELECT * FROM hl.twaps_kept WHERE pg_sleep(60) IS NOT NULL"
    )
    yield
    pair.run("DROP VIEW hl.twaps; ALTER TABLE hl.twaps_kept RENAME TO twaps")


@pytest.mark.usefixtures("slow_twaps")
def test_a_query_in_the_way_of_the_primarys_changes_is_answered_with_503(pair: Pair, standby_api: Api) -> None:
    running = "SELECT FROM pg_stat_activity WHERE application_name = 'hl api' AND wait_event = 'PgSleep'"
    with ThreadPoolExecutor(1) as threads, psycopg.connect(pair.standby_url, autocommit=True) as connection:
        asked = threads.submit(standby_api.ask, "/api/v1/twaps/1/analytics")
        wait_until(lambda: connection.execute(running).fetchone() is not None, 10, "the query runs")
        pair.run("LOCK TABLE hl.twaps_kept IN ACCESS EXCLUSIVE MODE; UPDATE hl.twaps_kept SET fills = 2")
        answer = asked.result()
    assert answer.status_code == 503, answer.text
    assert answer.json() == {"detail": "the replica ended the query to keep up with its primary; try again in a moment"}
    assert answer.headers["retry-after"] == "2"
    assert len(standby_api.get("/api/v1/fills", **_ASKED["/api/v1/fills"])["fills"]) == 7


@pytest.mark.usefixtures("slow_twaps")
def test_a_query_that_takes_too_long_on_a_replica_is_answered_with_504(pair: Pair) -> None:
    with serving(pair.standby_url, HL_API_STATEMENT_TIMEOUT_SECONDS="0.5") as api:
        answer = api.ask("/api/v1/twaps/1/analytics")
    assert (answer.status_code, "the query took too long" in answer.text) == (504, True)


def test_the_replica_away_is_told_and_back_again_it_is_read(pair: Pair) -> None:
    with serving(pair.standby_url, HL_API_POOL_TIMEOUT_SECONDS="0.5") as api:
        wanted = api.get("/api/v1/twaps/1")
        pair.standby.stop("immediate")
        assert api.ask("/api/v1/twaps/1").status_code == 503
        pair.standby.start()
        wait_until(lambda: api.ask("/api/v1/twaps/1").status_code == 200, 15, "the API serves again")
        assert api.get("/api/v1/twaps/1") == wanted


def test_hl_and_dagster_refuse_a_replica_by_name(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "is a read-only replica, but hl writes: set HL_DATABASE_URL (and HL_DAGSTER_DATABASE_URL) to its primary"
    with pytest.raises(NoDatabaseError, match="is a read-only replica"):
        connect(pair.standby_url)
    environment = {**os.environ, "HL_HOME": str(tmp_path / "home"), "HL_DATABASE_URL": pair.standby_url}
    for words in (["status"], ["ingest", "--from", "2026-03-15", "--to", "2026-03-15"], ["rebuild"], ["backup", "b"], ["up"]):
        (tmp_path / "home" / "lake").mkdir(parents=True, exist_ok=True)
        done = run_in_process(tmp_path, environment, *words)
        assert done.returncode == 1, words
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    monkeypatch.setenv("HL_DATABASE_URL", pair.primary_url)
    monkeypatch.setenv("HL_DAGSTER_DATABASE_URL", pair.standby_url)
    with pytest.raises(ClickException, match="is a read-only replica"):
        PipelineStorage.from_config_value(None, {})
