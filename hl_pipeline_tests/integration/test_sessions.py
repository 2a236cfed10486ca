"""PostgreSQL sessions have the settings that our statements rely on, whatever the database, role, URL or server language
specify. The pipeline and Dagster refuse a pooler that shares sessions; the API works with one.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from click import ClickException
from dagster import DagsterInstance
from psycopg import sql

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.connect import SESSION, NoDatabaseError, connect, ensure_database
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline.warehouse.urls import build_url, database_of, parse_url
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.naive.fills import event_day, expected_fill, in_order, read_bucket, stored_fills, without
from hl_pipeline_tests.processes import PROJECT
from hl_pipeline_tests.servers.api import add, serving
from hl_pipeline_tests.servers.pooler import Pooler, serve_pooler

DAY = date(2026, 3, 15)
_ODD = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "America/St_Johns",
    "search_path": "public, pg_catalog",
    "bytea_output": "escape",
    "extra_float_digits": "-3",
    "default_transaction_isolation": "serializable",
    "client_encoding": "LATIN1",
}


@pytest.fixture
def odd_url(new_database: NewDatabase) -> str:
    """A database, not migrated, whose own settings are all others."""
    url = new_database("template0")
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in _ODD.items():
            text = sql.SQL("ALTER DATABASE {} SET {} = {}")
            values = [sql.Literal(part) for part in value.split(", ")] if name == "search_path" else [sql.Literal(value)]
            connection.execute(
                text.format(sql.Identifier(database_of(url)), sql.Identifier(name.lower()), sql.SQL(", ").join(values))
            )
        # What stands before pg_catalog in a search_path would be called in its place.
        connection.execute("CREATE FUNCTION public.hashtext(text) RETURNS integer LANGUAGE sql AS 'SELECT 1 / 0'")
    return url


@pytest.fixture
def pooler(database_url: str) -> Generator[Pooler]:
    with serve_pooler(database_url, "transaction") as pooler:
        yield pooler


def test_a_session_is_the_same_whatever_the_database_and_the_url_say(odd_url: str) -> None:
    options = quote("-c IntervalStyle=iso_8601 -c search_path=public -c work_mem=7MB")
    with connect(f"{odd_url}&options={options}") as connection:
        told = {name: connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in SESSION}
        assert told == {name: (value,) for name, value in SESSION.items()}
        moment = datetime(2026, 3, 4, 5, 6, 7, 891_000, tzinfo=UTC)
        [row] = connection.execute("SELECT %s, %s, %s, 'ü'", [moment, timedelta(days=-1, seconds=3), b"\0\xff"])
        assert row == (moment, timedelta(days=-1, seconds=3), b"\0\xff", "ü")
        # What the URL's options say beside that is heeded.
        assert connection.execute("SELECT current_setting('work_mem')").fetchone() == ("7MB",)


@pytest.mark.slow
def test_a_day_is_loaded_into_a_database_with_settings_of_its_own(odd_url: str, world: World, tmp_path: Path) -> None:
    bucket = write_sample(tmp_path / "sample", first_day=DAY, days=1, fills_per_hour=20).node_data_dir
    environment = world.environment | {"HL_DATABASE_URL": odd_url, "HL_NODE_DATA_URL": str(bucket)}
    done = run_in_process(Path.cwd(), environment, "ingest", "--from", str(DAY), "--to", str(DAY))
    assert done.returncode == 0, done.stdout + done.stderr
    with psycopg.connect(odd_url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(database_of(odd_url))))
    every = [expected_fill(block, user, fill) for block, user, fill in read_bucket(bucket)]
    assert in_order(without(stored_fills(odd_url), "date")) == in_order([fill for fill in every if event_day(fill) == DAY])


def test_dagsters_sessions_are_in_utc(odd_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps CURRENT_TIMESTAMP without a zone."""
    monkeypatch.setenv("HL_DAGSTER_DATABASE_URL", f"{odd_url}&options={quote('-c search_path=public')}")
    monkeypatch.setenv("HL_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        with instance.run_storage.connect() as connection:  # pyright: ignore[reportAttributeAccessIssue]
            assert connection.exec_driver_sql("SHOW timezone").scalar() == "UTC"
        instance.dispose()


def test_a_missing_database_is_made_whatever_language_the_server_speaks(database_url: str) -> None:
    with serve_pooler(database_url, "session") as server:
        server.refusal = "Datenbank existiert nicht"
        made = f"{database_of(database_url)}_dagster"
        url = build_url(parse_url(server.url) | {"dbname": made})
        with pytest.raises(NoDatabaseError, match="Datenbank existiert nicht"):
            connect(url)
        ensure_database(url)
        with connect(url) as connection:
            assert connection.info.dbname == made
        ensure_database(url)


@pytest.mark.parametrize("takes_options", [True, False])
def test_a_pooler_in_transaction_mode_is_refused_with_the_reason(
    pooler: Pooler, world: World, takes_options: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooler.takes_options = takes_options
    for use in (connect, ensure_database):
        with pytest.raises(NoDatabaseError, match=r"is a pooler in transaction mode: .*set HL_DATABASE_URL .* session mode"):
            use(pooler.url)
    done = run_in_process(
        Path.cwd(), world.environment | {"HL_DATABASE_URL": pooler.url}, "ingest", "--from", str(DAY), "--to", str(DAY)
    )
    assert done.returncode == 1
    assert "error: postgresql://postgres:***@127.0.0.1" in done.stderr
    assert "is a pooler in transaction mode" in done.stderr

    monkeypatch.setenv("HL_DAGSTER_DATABASE_URL", pooler.url)
    world.home.mkdir()
    (world.home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    with pytest.raises(ClickException, match="is a pooler in transaction mode"):
        DagsterInstance.from_config(str(world.home))
    # Nothing was set in, or left to, the sessions that others get.
    with psycopg.connect(pooler.url) as connection:
        assert connection.execute("SHOW search_path").fetchone() == ('"$user", public',)


@pytest.mark.slow
def test_a_pooler_in_session_mode_is_as_good_as_the_server(database_url: str) -> None:
    with serve_pooler(database_url, "session") as pooler:
        ensure_database(pooler.url)
        migrate(pooler.url)
        with connect(pooler.url) as one, connect(pooler.url) as two:
            one.execute("SELECT pg_advisory_lock(1)")
            assert two.execute("SELECT pg_try_advisory_lock(1)").fetchone() == (False,)
            for n in range(20):
                assert one.execute("SELECT %s::int", [n]).fetchone() == (n,)


@pytest.mark.slow
@pytest.mark.parametrize("takes_options", [True, False])
def test_the_api_answers_through_a_pooler_in_transaction_mode(pooler: Pooler, takes_options: bool, database_url: str) -> None:
    pooler.takes_options = takes_options
    moment = datetime(2025, 11, 3, 12, 30, tzinfo=UTC)
    with connect(database_url) as connection:
        add(connection, "fills", *({"time": moment + timedelta(seconds=n), "tid": n, "coin": "BTC"} for n in range(5)))
    asked = {"coin": "BTC", "start": "2025-11-03", "end": "2025-11-04"}
    with serving(database_url) as direct, serving(pooler.url, HL_API_POOL_SIZE="3") as api:
        wanted = direct.get("/api/v1/fills", **asked)
        assert len(wanted["fills"]) == 5
        # Often enough for the driver to prepare a statement, and from several connections.
        for _ in range(30):
            assert api.get("/api/v1/fills", **asked) == wanted
        readable = [line for line in api.ask("/metrics").text.splitlines() if line.startswith("hl_metrics_readable{")]
        assert [line for line in readable if line.endswith(" 0.0")] == ['hl_metrics_readable{group="runs"} 0.0']
        assert len(readable) == 7
    with psycopg.connect(pooler.url) as connection:
        told = connection.execute(
            "SELECT current_user::text, current_setting('TimeZone'), current_setting('default_transaction_read_only')"
        )
        assert told.fetchone() == ("postgres", "UTC", "off")
