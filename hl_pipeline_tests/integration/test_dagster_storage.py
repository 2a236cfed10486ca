"""Dagster's storage holds one connection: every event of a run uses it, and it is closed with the instance. The tables are
looked up once.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import DagsterInstance, asset, materialize
from sqlalchemy import Engine, event

from hl_pipeline.ops import dagster_internals
from hl_pipeline.stages.backup import DAGSTER_TABLES
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.processes import PROJECT

_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid"


@pytest.fixture
def url(new_database: NewDatabase) -> str:
    return new_database("template0")


@pytest.fixture
def instance(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[DagsterInstance]:
    monkeypatch.setenv("HL_DAGSTER_DATABASE_URL", url)
    monkeypatch.setenv("HL_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


@asset
def anything() -> None:
    """Nothing but its events."""


def _sessions(url: str) -> list[int]:
    with connect(url, "test") as connection:
        return [pid for (pid,) in connection.execute(_SESSIONS)]


def _begun(connection: psycopg.Connection) -> int:
    """How many sessions there were, with those that ended."""
    [(count,)] = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
    return count


def test_the_events_of_a_run_go_through_two_sessions_and_none_is_left(instance: DagsterInstance, url: str) -> None:
    instance.get_runs_count()
    with connect(url, "test") as connection:
        before = _begun(connection)
        assert materialize([anything], instance=instance).success
        # One within another: for the moment of a log line in a transaction.
        assert _begun(connection) - before <= 2
    assert len(_sessions(url)) <= 2

    instance.dispose()

    assert _sessions(url) == []


def test_its_tables_are_those_that_a_backup_has(instance: DagsterInstance, url: str) -> None:
    instance.get_runs_count()
    instance.get_ticks("selector", "origin")
    with connect(url, "test") as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert {name for (name,) in tables} == set(DAGSTER_TABLES)
        names = connection.execute("SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database()")
        assert {name for (name,) in names} == {"test", f"dagster in {Path(sys.argv[0]).name}"}


@pytest.mark.slow
def test_a_session_that_was_ended_by_the_server_costs_no_event(instance: DagsterInstance, url: str) -> None:
    instance.get_runs_count()
    for session in _sessions(url):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [session])

    result = materialize([anything], instance=instance)

    assert result.success
    kept = [record.dagster_event for record in instance.all_logs(result.run_id)]
    assert len(result.all_events) > 5
    assert all(event in kept for event in result.all_events)


def test_a_second_run_asks_of_no_table_whether_it_is_there(instance: DagsterInstance) -> None:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    materialize([anything], instance=instance)
    event.listen(Engine, "before_cursor_execute", note)
    try:
        materialize([anything], instance=instance)
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    assert any("INSERT INTO event_logs" in statement for statement in statements)
    assert [statement for statement in statements if "pg_catalog.pg_class.relname FROM" in statement] == []


def test_a_table_that_comes_later_is_found(instance: DagsterInstance, url: str) -> None:
    events: Any = instance.event_log_storage

    assert not events.has_table("later")
    with connect(url, "test") as connection:
        connection.execute("CREATE TABLE public.later ()")
        assert events.has_table("later")
        connection.execute("DROP TABLE public.later")


def test_a_session_that_was_idle_is_asked_before_it_is_used(
    instance: DagsterInstance, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.get_runs_count()
    asked = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT 1%'"
    monkeypatch.setattr(dagster_internals, "_IDLE_SECONDS", 0.0)
    engine = instance.run_storage._engine  # pyright: ignore[reportAttributeAccessIssue]
    with engine.connect(), connect(url, "test") as connection:
        assert connection.execute(asked).fetchall() == [("SELECT 1",)]
