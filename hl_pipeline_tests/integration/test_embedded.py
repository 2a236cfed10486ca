"""The embedded PostgreSQL: the first user starts it, others find it, the last one stops it, and it recovers from a crash."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Generator
from multiprocessing.synchronize import Event
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import (
    NoDatabaseError,
    connect,
    ensure_database,
    find_dagster_url,
    find_database_url,
)
from hl_pipeline.warehouse.embedded import EmbeddedServerError, hold, running_url
from hl_pipeline.warehouse.urls import hide_password
from hl_pipeline_tests.profiles import few

_context = multiprocessing.get_context("spawn")


@pytest.fixture
def home() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="hl-own-") as directory:
        yield Path(directory)


def _postmaster(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().split()[0])


def _hold(home: Path, held: Event, let_go: Event) -> None:
    with hold(home):
        held.set()
        let_go.wait(60)


@pytest.mark.slow
def test_it_runs_while_someone_holds_it_and_the_last_stops_it(home: Path) -> None:
    assert running_url(home) is None
    with hold(home) as url:
        with hold(home) as again:
            assert again == url == running_url(home)
        assert running_url(home) == url
        with psycopg.connect(url) as connection:
            assert connection.info.server_version >= 180000
    assert running_url(home) is None


@pytest.mark.slow
def test_a_killed_holder_holds_nothing_and_the_next_goes_on_with_its_server(home: Path) -> None:
    held, let_go = _context.Event(), _context.Event()
    holder = _context.Process(target=_hold, args=(home, held, let_go))
    holder.start()
    assert held.wait(60)
    with psycopg.connect(running_url(home) or "") as connection:
        connection.execute("CREATE TABLE kept (a int)")
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    first = _postmaster(home)
    with hold(home) as url, psycopg.connect(url) as connection:
        assert _postmaster(home) == first
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert running_url(home) is None


@pytest.mark.slow
def test_after_a_crash_of_the_server_it_starts_again_with_what_was_committed(home: Path) -> None:
    with hold(home) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 5 AS a")
        os.kill(_postmaster(home), signal.SIGKILL)
    with hold(home) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT a FROM kept").fetchone() == (5,)


@pytest.mark.slow
def test_it_is_not_stopped_while_someone_is_connected(home: Path) -> None:
    with hold(home) as url:
        connection = psycopg.connect(url)
    assert running_url(home) == url
    connection.close()
    with hold(home):
        pass
    assert running_url(home) is None


@pytest.mark.slow
def test_a_long_path_gets_its_socket_elsewhere(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    with hold(deep) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_data_that_is_no_database_is_an_error_that_shows_what_postgresql_said(home: Path) -> None:
    (home / "postgres").mkdir()
    (home / "postgres" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedServerError, match="pg_ctl"), hold(home):
        pass


def test_without_a_server_it_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HL_HOME", str(home))
    with pytest.raises(NoDatabaseError, match=r"run `hl up` and leave it running, or set HL_DATABASE_URL"):
        find_database_url(Settings())
    with pytest.raises(NoDatabaseError, match=r"cannot connect to postgresql://me:\*\*\*@127\.0\.0\.1:1/hl"):
        connect("postgresql://me:secret@127.0.0.1:1/hl")


def test_dagsters_database_stands_beside_the_datas_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HL_DATABASE_URL", "postgresql://u:p@db:5432/hl?sslmode=require")
    assert find_dagster_url(Settings()) == "postgresql://u:p@db:5432/hl_dagster?sslmode=require"
    monkeypatch.setenv("HL_DAGSTER_DATABASE_URL", "postgresql://u:p@other/d")
    assert find_dagster_url(Settings()) == "postgresql://u:p@other/d"


@pytest.mark.parametrize(
    "name", few(['a\'b "c", d$e;f\\g', "日" * 25, "my projects", "it's", "a,b", "a$b;c", "b\\c", "é" * 40], 1)
)
@pytest.mark.slow
def test_a_home_of_any_name_has_its_server(name: str, home: Path) -> None:
    with hold(home / name) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert running_url(home / name) is None


def test_a_database_on_a_socket_gets_dagsters_beside_it(postgres_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = postgres_home / "postgres"
    monkeypatch.setenv("HL_DATABASE_URL", f"postgresql:///own?host={socket}&user=postgres")
    url = find_dagster_url(Settings())
    assert conninfo_to_dict(url) == {"dbname": "own_dagster", "host": str(socket), "user": "postgres"}
    ensure_database(url)
    with psycopg.connect(url) as connection:
        assert connection.info.dbname == "own_dagster"


def test_a_password_is_hidden() -> None:
    assert hide_password("postgresql://h/d?user=me&password=secret&x=1") == "postgresql://h/d?user=me&password=***&x=1"
    assert hide_password("postgresql://me:se:cret@h/d") == "postgresql://me:***@h/d"
    assert hide_password("postgresql://h/d") == "postgresql://h/d"
