"""Migrations with data: each step down and up again keeps every row that both schemas can hold, and restores the same schema.
Dumps of released versions migrate to the current schema. A killed migration leaves nothing. Concurrent migrations run once.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.locks import Lock
from hl_pipeline.warehouse.migrate import list_migrations, migrate
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.days import make_day
from hl_pipeline_tests.processes import PROJECT, wait_until
from hl_pipeline_tests.releases import RELEASES, restore
from hl_pipeline_tests.tools.compare_database import read_schema

_REVISIONS = [one.revision for one in list_migrations()]
_REWRITES = {one.revision: set(one.rewrites) for one in list_migrations()}
_DAY = date(2026, 3, 15)
_COLUMNS = """
SELECT c.relname, array_agg(attname::text ORDER BY attname) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'hl'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition AND attnum > 0 AND NOT attisdropped
  AND relname <> 'alembic_version'
GROUP BY 1
"""
# What the schema before cannot hold: rows of the info API, objects of statuses; that a TWAP has not begun.
_ROWS_KEPT: dict[tuple[str, str], LiteralString] = {
    ("0010", "fills"): "object_id < 4000000",
    ("0010", "fills_day_objects"): "object_id < 4000000",
    ("0010", "s3_ingest_log"): "source <> 'api_fills'",
    ("0003", "s3_ingest_log"): "object_id IS NOT NULL",
}
_LARGE = ("fills", "candles", "daily_stats", "user_stats", "builder_stats", "twaps", "twap_statuses", "twap_slice_days")
"""Tables that grow with the fills: a migration that writes their rows anew takes minutes, and must say so."""
_COLUMNS_CHANGED = {("0012", "twaps"): {"begins_at", "whole_minutes", "own_volume", "own_notional"}}
_UP = "import sys; from hl_pipeline.warehouse.migrate import migrate; print(len(migrate(sys.argv[1])))"


def _released(release: str) -> Callable[[str, Path], None]:
    return lambda url, _: restore(RELEASES[release], "hl", url)


def _loaded_today(url: str, directory: Path) -> None:
    made = write_sample(directory / "sample", first_day=_DAY, days=1, fills_per_hour=20)
    migrate(url)
    where = {"HL_DATABASE_URL": url, "HL_HOME": str(directory / "home"), "HL_NODE_DATA_URL": str(made.node_data_dir)}
    make_day({**os.environ, **where, "HL_TWAP_DATA_URL": str(made.twap_data_dir)}, _DAY)


_SOURCES = {**{name: _released(name) for name in RELEASES}, "today": _loaded_today}


def _columns(connection: psycopg.Connection) -> dict[str, list[str]]:
    return dict(connection.execute(_COLUMNS).fetchall())


def _digest(
    connection: psycopg.Connection, columns: dict[str, list[str]], where: dict[str, LiteralString]
) -> dict[str, tuple[int, int | None]]:
    """Of each table how many rows it has, and a sum over their values, whatever their order."""
    found: dict[str, tuple[int, int | None]] = {}
    for table, names in columns.items():
        values = sql.SQL(", ").join(map(sql.Identifier, names))
        query = sql.SQL("SELECT count(*), sum(hashtextextended(ROW({})::text, 0)) FROM hl.{} WHERE {}").format(
            values, sql.Identifier(table), sql.SQL(where.get(table, "true"))
        )
        [found[table]] = connection.execute(query).fetchall()
    return found


def _row_versions(connection: psycopg.Connection) -> dict[str, list[str]]:
    """Where each row of the large tables lies, and which transaction wrote it."""
    query = sql.SQL("SELECT tableoid::text || ctid::text || xmin::text FROM hl.{} ORDER BY 1")
    tables = [table for table in _columns(connection) if table in _LARGE]
    return {f"hl.{table}": [row for (row,) in connection.execute(query.format(sql.Identifier(table)))] for table in tables}


def _schema(url: str) -> dict[str, str]:
    """All definitions but those of the tables of days, which come and go with their rows, and the note who migrated. Of texts
    that differ in spaces alone, each is as good as the other.
    """
    parts = read_schema(url).items()
    mine = {name: text for name, text in parts if "fills_2" not in name and name != "COMMENT TABLE alembic_version"}
    # A number that is given out starts after those that are there.
    return {name: re.sub(r"\bSTART WITH \d+", "START", " ".join(text.split())) for name, text in mine.items()}


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A revision as an empty database has it: its definitions, and the columns of its tables."""

    schema: dict[str, str]
    columns: dict[str, list[str]]


@pytest.fixture(scope="module")
def fresh(new_database: NewDatabase) -> dict[str, _Fresh]:
    url, found = new_database("template0"), dict[str, _Fresh]()
    with psycopg.connect(url, autocommit=True) as connection:
        for revision in _REVISIONS:
            migrate(url, revision)
            found[revision] = _Fresh(_schema(url), _columns(connection))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("source", _SOURCES)
def test_each_step_down_and_up_keeps_the_rows_and_the_schema(
    source: str, fresh: dict[str, _Fresh], new_database: NewDatabase, tmp_path: Path
) -> None:
    url = new_database("template0")
    _SOURCES[source](url, tmp_path)
    migrate(url)
    assert _schema(url) == fresh[_REVISIONS[-1]].schema
    with psycopg.connect(url, autocommit=True, options="-c timezone=UTC") as connection:
        assert connection.execute("SELECT count(*) > 0 FROM hl.fills").fetchone() == (True,)
        for older, newer in reversed(list(pairwise(_REVISIONS))):
            where: dict[str, LiteralString] = {table: kept for (step, table), kept in _ROWS_KEPT.items() if step == newer}
            shared = _shared(fresh[older], fresh[newer], newer)
            rows = _digest(connection, shared, where)
            for revision, down in ((older, True), (newer, False), (older, True)):
                versions = _row_versions(connection)
                migrate(url, revision, down=down)
                if not down:
                    moved = {name for name, rows in _row_versions(connection).items() if rows != versions.get(name, [])}
                    assert moved == _REWRITES[newer], newer
                assert _digest(connection, shared, where) == rows, f"{older} {newer}, at {revision}"
                assert _schema(url) == fresh[revision].schema, f"{older} {newer}, at {revision}"
        migrate(url, "base", down=True)
        assert _columns(connection) == {}
    migrate(url)
    assert _schema(url) == fresh[_REVISIONS[-1]].schema


def _shared(older: _Fresh, newer: _Fresh, step: str) -> dict[str, list[str]]:
    """The columns that both have and whose values no migration between them changes."""
    return {
        table: [name for name in names if name in older.columns[table] and name not in _COLUMNS_CHANGED.get((step, table), ())]
        for table, names in newer.columns.items()
        if table in older.columns
    }


@contextmanager
def _migrating(url: str) -> Generator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen([sys.executable, "-c", _UP, url], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_killed_migration_changes_nothing_and_the_next_one_finishes(new_database: NewDatabase) -> None:
    url, waiting = new_database(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
    migrated = _schema(url)
    migrate(url, "0010", down=True)
    before = _schema(url)
    with psycopg.connect(url) as reader, psycopg.connect(url, autocommit=True) as looking:
        # 0012 and 0013 are through when 0014 waits for this.
        reader.execute("SELECT FROM hl.fills LIMIT 1")
        with _migrating(url) as process:
            wait_until(
                lambda: looking.execute(waiting + "wait_event = 'relation' AND query ~ 'ordinal'").fetchone() == (1,),
                30,
                "it waits for hl.fills",
            )
        reader.rollback()
        assert process.returncode == -9
        assert _schema(url) == before
        assert looking.execute("SELECT version_num FROM hl.alembic_version").fetchall() == [("0010",)]
    assert migrate(url) == _REVISIONS[_REVISIONS.index("0010") + 1 :]
    assert _schema(url) == migrated


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_of_several_processes_that_migrate_at_once_one_does_it(processes: int, new_database: NewDatabase) -> None:
    url = new_database("template0")
    restore(RELEASES["0.1.0"], "hl", url)
    with ExitStack() as stack:
        # All of them are at the lock before one gets it.
        holder = stack.enter_context(psycopg.connect(url))
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [Lock.MIGRATION.value])
        started = [stack.enter_context(_migrating(url)) for _ in range(processes)]
        with psycopg.connect(url, autocommit=True) as looking:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
            wait_until(lambda: looking.execute(waiting).fetchone() == (processes,), 60, "all wait")
        holder.rollback()
        said = sorted(process.communicate(timeout=60)[0].strip() for process in started)
    assert [process.returncode for process in started] == [0] * processes
    steps = len(_REVISIONS) - _REVISIONS.index("0010") - 1
    assert said == sorted([*["0"] * (processes - 1), str(steps)])


@pytest.mark.parametrize("release", RELEASES)
def test_a_dump_of_a_released_version_becomes_the_schema_of_today(release: str, new_database: NewDatabase) -> None:
    url, expected = new_database("template0"), json.loads((RELEASES[release] / "expected.json").read_text())
    restore(RELEASES[release], "hl", url)
    migrate(url)
    assert _schema(url) == _schema(new_database())
    with psycopg.connect(url) as connection:
        for table, rows in expected["rows"].items():
            assert connection.execute(f"SELECT count(*) FROM hl.{table}".encode()).fetchone() == (rows,), table
