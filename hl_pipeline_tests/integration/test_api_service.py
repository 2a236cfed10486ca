"""The API as a service: its settings, its health, its errors while the database is unavailable, and that it is read-only."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from psycopg import errors
from pydantic import SecretStr

from api.database import NEWEST_SCHEMA, make_export_pool, make_pool
from api.settings import ApiSettings
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.migrate import newest_revision
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.processes import PROJECT, free_port, run, users_environment, wait_until
from hl_pipeline_tests.profiles import few
from hl_pipeline_tests.servers.api import WALLET, Api, add, at, ns, serving, serving_process, status_row, twap_row

TWAPS = "/api/v1/twaps"
NOVEMBER = {"wallet": WALLET, "start": "2025-11-01", "end": "2025-11-30"}
AWAY = {"detail": "the database is unavailable or busy; try again in a moment"}


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    with connect(url, "test") as connection:
        add(connection, "twap_statuses", status_row(1, ns("2025-11-03 12:00:00")))
        add(connection, "twaps", twap_row(1, at("2025-11-03 12:00:00")))
    return url


@pytest.fixture(scope="module")
def api(url: str) -> Generator[Api]:
    with serving(url) as api:
        yield api


@contextmanager
def _administrator(url: str) -> Generator[tuple[psycopg.Connection, str]]:
    """A connection to the server beside the database of `url`, and that one's name."""
    parts = urlsplit(url)
    # Not by urlunsplit alone: it takes a slash of postgresql:/// away.
    beside = urlunsplit(parts._replace(netloc=parts.netloc or "postgres@", path="/postgres"))
    with psycopg.connect(beside, autocommit=True) as connection:
        yield connection, parts.path.strip("/")


@contextmanager
def _away(url: str) -> Generator[None]:
    """Nobody can connect to the database while the block runs, and nobody stays connected."""
    with _administrator(url) as (server, name):
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        _send_away(url)
        try:
            yield
        finally:
            server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


def _send_away(url: str) -> int:
    """End all connections to the database; how many there were."""
    with _administrator(url) as (server, name):
        ended = server.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name])
        return len(ended.fetchall())


def test_importing_the_api_loads_nothing_heavy_and_nothing_of_the_pipeline() -> None:
    code = "import api.app, sys; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = run([sys.executable, "-c", code], users_environment(), PROJECT)
    assert done.returncode == 0, done.stdout
    assert {"fastapi", "psycopg"} <= set(done.stdout.split())
    assert not {"dagster", "polars", "duckdb", "pyarrow", "pandas", "hl_pipeline", "boto3"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("variables", "said"),
    few(
        [
            pytest.param(
                {"HL_API_DATABASE_URL": "postgresql://u:sec%ret@h/d"},
                "HL_API_DATABASE_URL Value error, is not a PostgreSQL URL",
            ),
            pytest.param({}, "no database: set HL_API_DATABASE_URL or HL_DATABASE_URL"),
            pytest.param({"HL_DATABASE_URL": "mysql://secret"}, "HL_DATABASE_URL Value error, must begin with postgresql://"),
            pytest.param(
                {"HL_DATABASE_URL": "postgresql:///x", "HL_API_POOL_SIZE": "0"}, "HL_API_POOL_SIZE Input should be greater than"
            ),
        ],
        1,
    ),
)
def test_a_wrong_setting_is_said_without_a_traceback(variables: dict[str, str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(PROJECT), "api.app:app", "--port", str(free_port())]
    done = run(command, users_environment(**variables), tmp_path)
    assert done.returncode == 1
    assert said in done.stdout
    assert "Traceback" not in done.stdout
    assert "ret@h" not in done.stdout


@pytest.mark.slow
def test_settings_come_from_the_environment_then_from_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HL_DATABASE_URL=postgresql:///of_file\nHL_API_POOL_SIZE=7\nHL_HOME=x\n")
    code = "from api.settings import read_settings as r; s = r(); print(s.url, s.api_pool_size)"
    for variables, said in [
        ({}, "postgresql:///of_file 7"),
        ({"HL_API_POOL_SIZE": "3"}, "postgresql:///of_file 3"),
        ({"HL_API_DATABASE_URL": "postgresql:///own"}, "postgresql:///own 7"),
        ({"HL_SETTINGS_RESOLVED": "1", "HL_DATABASE_URL": "postgresql:///given"}, "postgresql:///given 4"),
    ]:
        environment = users_environment(PYTHONPATH=str(PROJECT), **variables)
        assert run([sys.executable, "-c", code], environment, tmp_path).stdout.strip() == said


def test_health_tells_what_was_last_ingested(api: Api, url: str) -> None:
    assert api.get("/healthz") == {
        "status": "healthy",
        "database": "connected",
        "last_ingested_object": None,
        "last_ingested_at": None,
    }
    with connect(url, "test") as connection:
        object_date = {"object_date": "2025-11-03"}
        add(connection, "s3_ingest_log", {"object_key": "a", "fetched_at": at("2025-11-05 12:00:00"), **object_date})
        add(connection, "s3_ingest_log", {"object_key": "b", "error": "AccessDenied", **object_date})
        assert api.get("/healthz")["last_ingested_object"] == "a"
        loaded = {"fetched_at": at("2025-11-04 11:00:00"), "loaded_at": at("2025-11-04 12:00:00.5")}
        add(connection, "s3_ingest_log", {"object_key": "c", **loaded, **object_date})
        answer = api.get("/healthz")
        assert (answer["last_ingested_object"], answer["last_ingested_at"]) == ("c", "2025-11-04T12:00:00.500Z")
        samples = _metrics(api)
        age = (time.time() - at("2025-11-04 12:00:00.5").timestamp()) - samples["hl_api_last_ingest_age_seconds", ""]
        assert abs(age) < 60
        connection.execute("TRUNCATE hl.s3_ingest_log CASCADE")


def _metrics(api: Api) -> dict[tuple[str, str], float]:
    """The samples by name, and values of the labels in the order of their names."""
    response = api.ask("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, " ".join(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_metrics_count_requests_by_template_and_show_the_pools(api: Api) -> None:
    before = _metrics(api)
    for twap_id in (1, 2, 3):
        api.ask(f"{TWAPS}/{twap_id}")
    for path in ("/wp-admin.php", "/api/v1/nothing"):
        api.ask(path)
    api.refuses(TWAPS)
    requests.request("PROPFIND", api.url + TWAPS, timeout=10)
    after = _metrics(api)

    def counted(labels: str) -> float:
        name = "hl_api_requests_total"
        return after.get((name, labels), 0) - before.get((name, labels), 0)

    assert counted("GET /api/v1/twaps/{twap_id} 200") == 1
    assert counted("GET /api/v1/twaps/{twap_id} 404") == 2
    assert counted("GET none 404") == 2
    assert counted("GET /api/v1/twaps 422") == 1
    assert counted("other /api/v1/twaps 405") == 1
    assert after["hl_api_request_seconds_count", "/api/v1/twaps/{twap_id}"] >= 3
    assert (after["hl_api_database_up", ""], after["hl_api_pool_connections", "requests size"]) == (1, 4)
    assert after["hl_api_pool_connections", "requests waiting"] == 0
    assert after["hl_api_pool_connections", "exports size"] == 0


def test_the_root_leads_on(api: Api) -> None:
    answer = api.get("/")
    assert set(answer) == {"service", "version", "docs", "openapi", "health", "metrics"}
    for name in ("docs", "openapi", "health", "metrics"):
        assert api.ask(answer[name]).status_code == 200


def test_the_docs_need_no_other_host(api: Api) -> None:
    page = api.ask("/docs").text
    found = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert len(found) >= 2
    for link in found:
        assert link.startswith("/"), link
        assert api.ask(link).status_code == 200


def test_other_methods_and_paths_are_answered_sanely(api: Api) -> None:
    head = requests.head(f"{api.url}{TWAPS}", params=NOVEMBER, timeout=10)
    whole = api.ask(TWAPS, **NOVEMBER)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    for method in ("OPTIONS", "POST", "DELETE", "TRACE"):
        response = requests.request(method, f"{api.url}{TWAPS}", timeout=10)
        assert (response.status_code, response.headers["allow"]) == (405, "GET")
        assert response.json() == {"detail": "Method Not Allowed"}
    assert (api.ask("/api/v2").status_code, api.ask("/api/v2").json()) == (404, {"detail": "Not Found"})
    assert "access-control-allow-origin" not in whole.headers
    assert api.refuses(TWAPS, **{**NOVEMBER, "limit": ["1", "2"]}) == {"limit": "is given more than once"}
    assert api.refuses("/", x="1") == {"x": "this path has no parameters"}
    assert api.refuses("/healthz", x="1") == {"x": "this path has no parameters"}
    assert api.refuses(f"{TWAPS}/1", limit="1") == {"limit": "this path has no parameters"}


@pytest.mark.slow
def test_while_the_database_is_away_requests_are_told_so_and_soon_served_again(url: str, tmp_path: Path) -> None:
    with serving_process(url, tmp_path, HL_API_POOL_TIMEOUT_SECONDS="0.5") as api:
        expected = api.get(TWAPS, **NOVEMBER)
        with _away(url):
            for asked in ({}, {"format": "csv"}):
                began = time.monotonic()
                response = api.ask(TWAPS, **NOVEMBER, **asked)
                assert (response.status_code, response.json()) == (503, AWAY)
                assert response.headers["retry-after"] == "2"
                assert time.monotonic() - began < 2
            began = time.monotonic()
            health = api.get("/healthz")
            assert time.monotonic() - began < 4
            assert health["status"] == "degraded"
            assert health["database"].startswith("error: ")
            assert "not currently accepting connections" in health["database"]
            assert _metrics(api)["hl_api_database_up", ""] == 0
        wait_until(lambda: api.ask(TWAPS, **NOVEMBER).status_code == 200, 10, "the API serves again")
        assert api.get(TWAPS, **NOVEMBER) == expected
        assert api.get("/healthz")["status"] == "healthy"
        assert "Traceback" not in api.program.output


@pytest.mark.slow
def test_connections_that_the_server_dropped_are_not_noticed(url: str) -> None:
    with serving(url) as api, ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            answers = [*threads.map(lambda _: api.ask(TWAPS, **NOVEMBER).status_code, range(32))]
            assert set(answers) == {200}
            assert _send_away(url) >= 4
        assert api.ask(TWAPS, **NOVEMBER, format="csv").status_code == 200
        assert _send_away(url) >= 1
        assert api.ask(TWAPS, **NOVEMBER, format="csv").status_code == 200


def test_it_starts_without_its_database_and_shows_no_password(tmp_path: Path) -> None:
    port = free_port()
    url = f"postgresql://someone:hidden-word@127.0.0.1:{port}/hl"
    with serving_process(url, tmp_path, HL_API_POOL_TIMEOUT_SECONDS="0.3") as api:
        health = api.get("/healthz")
        assert health["status"] == "degraded"
        assert "Connection refused" in health["database"]
        assert (api.ask(TWAPS, **NOVEMBER).status_code, api.ask(TWAPS, **NOVEMBER).json()) == (503, AWAY)
        assert api.ask("/docs").status_code == 200
        assert "hidden-word" not in str(health) + api.program.output


def test_a_database_without_the_tables_is_said_to_be_not_ready(new_database: NewDatabase) -> None:
    with serving(new_database("template1")) as api:
        response = api.ask(TWAPS, **NOVEMBER)
        assert response.status_code == 503
        assert response.json()["detail"].startswith('the database is not ready: relation "hl.twap_days" does not exist')
        assert api.get("/healthz")["status"] == "degraded"


def test_a_migration_under_a_running_api_is_noticed(database_url: str) -> None:
    with serving(database_url, HL_API_POOL_SIZE="1", HL_API_CACHE_MB="0") as api, connect(database_url, "test") as connection:
        add(connection, "twaps", twap_row(1, at("2025-11-03 12:00:00")))
        for _ in range(10):
            api.get(f"{TWAPS}/1")
        connection.execute("ALTER TABLE hl.twaps ADD COLUMN mood text DEFAULT 'calm'")
        assert api.ask(f"{TWAPS}/1").status_code == 503
        wait_until(lambda: api.ask(f"{TWAPS}/1").status_code == 200, 5, "the API knows the new table")
        assert api.get(f"{TWAPS}/1")["analytics"]["mood"] == "calm"


@pytest.mark.slow
def test_a_schema_of_a_newer_version_is_refused_with_both_named(database_url: str) -> None:
    assert newest_revision() == NEWEST_SCHEMA
    with connect(database_url, "test") as connection:
        connection.execute("UPDATE hl.alembic_version SET version_num = '9999'")
        connection.execute("COMMENT ON TABLE hl.alembic_version IS 'Migrated by hl-pipeline 7.0.0'")
        said = rf"schema is at migration 9999, made by hl-pipeline 7\.0\.0; .*hl-pipeline [\d.]+, .* up to {NEWEST_SCHEMA}"
        with serving(database_url) as api:
            answer = api.ask(TWAPS, **NOVEMBER)
            assert answer.status_code == 503
            assert re.search(said, answer.json()["detail"])
            health = api.get("/healthz")
            assert (health["status"], re.search(said, health["database"]) is not None) == ("degraded", True)
            # Once its migrations are undone it answers.
            connection.execute("UPDATE hl.alembic_version SET version_num = %s", [NEWEST_SCHEMA])
            wait_until(lambda: api.ask(TWAPS, **NOVEMBER).status_code == 200, 30, "it answers")


def test_a_query_that_takes_too_long_is_told_what_to_narrow(url: str) -> None:
    variables = {"HL_API_STATEMENT_TIMEOUT_SECONDS": "1.5", "HL_API_POOL_SIZE": "1", "HL_API_POOL_TIMEOUT_SECONDS": "0.2"}
    with serving(url, **variables) as api, connect(url, "test") as connection, ThreadPoolExecutor(1) as threads:
        with connection.transaction():
            connection.execute("LOCK TABLE hl.twap_statuses")
            slow = threads.submit(api.ask, TWAPS, **NOVEMBER)
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'hl.twap_statuses'::regclass"
            wait_until(lambda: connection.execute(waits).fetchone() is not None, 5, "the query waits for the table")
            # The only connection is in use meanwhile.
            busy = api.ask(f"{TWAPS}/1")
            assert (busy.status_code, busy.json()) == (503, AWAY)
            assert slow.result().status_code == 504
            detail = "the query took too long: request a shorter range, or name a wallet"
            assert slow.result().json() == {"detail": detail}
        api.get(TWAPS, **NOVEMBER)


def test_its_connections_cannot_write(url: str) -> None:
    settings = ApiSettings(api_database_url=SecretStr(url))
    insert = "INSERT INTO hl.twap_slice_days VALUES (1, '2025-11-03')"

    async def check() -> None:
        for make in (make_pool, make_export_pool):
            async with make(settings) as pool:
                async with pool.connection() as connection:
                    row = await (await connection.execute("SELECT current_user::text, current_setting('TimeZone')")).fetchone()
                    assert row == ("hl_reader", "UTC")
                with pytest.raises(errors.ReadOnlySqlTransaction):
                    async with pool.connection() as connection:
                        await connection.execute(insert)
                # Not even where reading alone is not asked for.
                async with pool.connection() as connection:
                    await connection.execute("SET default_transaction_read_only = off")
                with pytest.raises(errors.InsufficientPrivilege):
                    async with pool.connection() as connection:
                        await connection.execute(f"SET TRANSACTION READ WRITE; {insert}".encode())

    asyncio.run(check())


def test_the_role_may_read_every_table_and_write_none(url: str) -> None:
    with connect(url, "test") as connection:
        tables = connection.execute(
            "SELECT relname::text, has_table_privilege('hl_reader', oid, 'SELECT'), "
            "has_table_privilege('hl_reader', oid, 'INSERT, UPDATE, DELETE, TRUNCATE') "
            "FROM pg_class WHERE relnamespace = 'hl'::regnamespace AND relkind IN ('r', 'p', 'v')"
        ).fetchall()
    assert {"coverage", "acknowledged", "s3_requests", "fills_days", "twap_days"} <= {name for name, _, _ in tables}
    assert [table for table in tables if table[1:] != (True, False)] == []


def test_without_the_role_it_reads_as_the_user_it_is(url: str, tmp_path: Path) -> None:
    user = f"reader_{uuid.uuid4().hex[:8]}"
    with connect(url, "test") as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN".encode())
        connection.execute(f"GRANT USAGE ON SCHEMA hl TO {user}".encode())
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA hl TO {user}".encode())
        try:
            with serving_process(url.replace("//postgres:", f"//{user}:"), tmp_path) as api:
                assert len(api.get(TWAPS, **NOVEMBER)["twaps"]) == 1
                assert f"role hl_reader does not exist or cannot be assumed: reading as {user}, read-only" in api.program.output
        finally:
            connection.execute(f"DROP OWNED BY {user}".encode())
            connection.execute(f"DROP ROLE {user}".encode())


@pytest.mark.slow
def test_several_workers_serve_the_same(url: str, tmp_path: Path) -> None:
    with serving_process(url, tmp_path, "--workers", "2") as api:
        answers = {requests.get(api.url + TWAPS, params=NOVEMBER, timeout=10).text for _ in range(20)}
        assert len(answers) == 1


@pytest.mark.slow
def test_the_app_is_also_made_by_its_factory(url: str, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--port", str(port)]
    environment = users_environment(HL_SETTINGS_RESOLVED="1", HL_DATABASE_URL=url)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(f"http://127.0.0.1:{port}/healthz"), 30, "the API answers")
        finally:
            process.terminate()
            assert process.wait(20) in (0, -15)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).json()["status"] == "healthy"
    except requests.RequestException:
        return False
