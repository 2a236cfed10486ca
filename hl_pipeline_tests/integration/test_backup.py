"""`hl backup` and `hl restore` bring back what the lake cannot: all of it or nothing. Nothing is overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hl_pipeline.stages.backup import REBUILT
from hl_pipeline.warehouse.embedded import binary
from hl_pipeline.warehouse.migrate import list_migrations, migrate
from hl_pipeline.warehouse.urls import database_of, with_database
from hl_pipeline_tests.cli import Done, run_in_process
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.processes import PROJECT
from hl_pipeline_tests.servers.api import add, at, status_row, twap_row

Hl = Callable[..., Done]

_WALLET = "0x" + "1a" * 20
_KEPT = {
    # Heartbeats of the past: after a restore, the runs that were in progress are found dead.
    "workers": "INSERT INTO hl.workers (worker, code, slots) VALUES ('a', 'digest', 2)",
    "worker_runs": "INSERT INTO hl.worker_runs (run_id, worker) VALUES ('r1', 'a')",
    "lake_days": "INSERT INTO hl.lake_days VALUES ('fills', '2026-03-15', '{iceberg/fills/a.parquet}', 10, 800, 7, 'whole', "
    "'digest', now(), 1.5, 0, now())",
    "s3_requests": "INSERT INTO hl.s3_requests (bucket, method, key, status, bytes, dollars) "
    "SELECT 'b', 'GET', 'k' || n, 200, 1000 + n, n * 0.0001 FROM generate_series(1, 50) n",
    "s3_ingest_log": "INSERT INTO hl.s3_ingest_log (object_id, object_key, source, object_date, object_hour, fetched_at, "
    "loaded_at, error) VALUES (3000001, 'a/9.lz4', 'node_fills_by_block', '2026-03-15', 9, now(), now(), NULL), "
    "(3000002, 'a/10.lz4', 'node_fills_by_block', '2026-03-15', 10, NULL, NULL, 'truncated')",
    "acknowledged": "INSERT INTO hl.acknowledged (source, object_date, object_hour, note) "
    "VALUES ('node_fills_by_block', '2026-03-15', 10, 'the node was down, said \"Zoë\"\\n')",
    "coverage": "INSERT INTO hl.coverage (source, object_date, object_hour, expected, found, note, why, missing_ranges, "
    "missing_blocks) VALUES ('node_fills_by_block', '2026-03-15', 10, true, 'failed', 'known', 'truncated', '{[1,5)}', 4)",
    "dirty_days": "INSERT INTO hl.dirty_days VALUES ('2024-01-01', 'of the info API', now())",
    "info_egresses": "INSERT INTO hl.info_egresses VALUES ('default', now())",
    "info_calls": "INSERT INTO hl.info_calls (egress, weight, counts_until) VALUES ('default', 20, now())",
    "backfill_progress": f"INSERT INTO hl.backfill_progress (wallet, state, fills) VALUES ('{_WALLET}', 'started', 7)",
    "backfill_pages": f"INSERT INTO hl.backfill_pages VALUES ('{_WALLET}', 'fills', 0, 7, '\\x00ff')",
    "backfill_bad": f"INSERT INTO hl.backfill_bad VALUES ('{_WALLET}', 'fills', 'no px', '\\x7b7d')",
}
"""A row or more of each table that a backup has the rows of."""


@pytest.fixture
def hl(world: World) -> Hl:
    """The command line in that world."""

    def run(*words: str, **environment: str) -> Done:
        return run_in_process(Path.cwd(), {**world.environment, **environment}, *words)

    return run


@pytest.fixture
def full(world: World) -> World:
    """A world with rows in every table, and in a database of Dagster's."""
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        add(connection, "fills", {"time": at("2026-03-15 09:00"), "tid": 1})
        for table in ("fills_days", "twap_days"):
            add(connection, table, {"date": "2026-03-15"})
        add(connection, "twaps", twap_row(1, at("2026-03-15 12:00")))
        add(connection, "twap_statuses", status_row(1, 1_773_576_000_000_000_000))
        add(connection, "twap_slice_days", {"twap_id": 1, "date": "2026-03-15"})
        add(connection, "candles", {"coin": "SOL", "time": at("2026-03-15 09:00"), "date": "2026-03-15"})
        for text in _KEPT.values():
            connection.execute(text.encode())
        connection.execute("CREATE TABLE hl.fills_load_20260316 (LIKE hl.fills)")
        connection.execute(f"CREATE DATABASE {database_of(world.database_url)}_dagster".encode())
    with psycopg.connect(_dagster(world.database_url), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE runs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run_id text UNIQUE, body text)"
        )
        connection.execute("CREATE TABLE event_logs (id bigint, run_id text REFERENCES runs (run_id))")
        connection.execute("INSERT INTO runs (run_id, body) SELECT 'r' || n, 'body;' FROM generate_series(1, 30) n")
        connection.execute("INSERT INTO event_logs SELECT n, 'r1' FROM generate_series(1, 300) n")
    world.home.mkdir()
    (world.home / "installation").write_text("the-first")
    return world


def _dagster(url: str) -> str:
    return with_database(url, f"{database_of(url)}_dagster")


def _rows(url: str, table: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        return connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1".encode()).fetchall()


def _backup(hl: Hl, tmp_path: Path, *options: str) -> Path:
    done = hl("backup", str(tmp_path / "backups"), *options)
    assert done.returncode == 0, done.stderr
    [made] = (tmp_path / "backups").iterdir()
    assert str(made) in done.stdout
    return made


def test_every_table_is_either_backed_up_or_made_again(full: World) -> None:
    with psycopg.connect(full.database_url) as connection:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'hl' AND tablename !~ '^fills_(load_)?[0-9]'"
        tables = {name for (name,) in connection.execute(query)}
    assert tables == {*REBUILT, *_KEPT, "alembic_version"}


def test_tables_of_others_beside_dagsters_are_left_alone(hl: Hl, full: World, tmp_path: Path) -> None:
    url = _dagster(full.database_url)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS a")
    made = _backup(hl, tmp_path)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE mine SET a = 2")
    assert hl("restore", str(made), "--overwrite").returncode == 0
    assert _rows(url, "mine") == [("(2)",)]


def test_what_the_lake_cannot_give_back_comes_back_in_an_empty_server(
    hl: Hl, full: World, new_database: NewDatabase, tmp_path: Path
) -> None:
    before = {table: _rows(full.database_url, f"hl.{table}") for table in _KEPT}
    made = _backup(hl, tmp_path)
    assert sorted(path.name for path in made.iterdir()) == ["dagster.dump", "data.dump", "manifest.json"]
    assert made.stat().st_mode & 0o077 == 0
    lost = new_database("template0")
    home = tmp_path / "other home"

    done = hl("restore", str(made), HL_DATABASE_URL=lost, HL_HOME=str(home))

    assert done.returncode == 0, done.stderr
    assert "50 S3 requests, 2 objects, 1 acknowledgements, 1 wallets, 30 runs" in done.stdout
    assert "hl rebuild` to rebuild fills, candles, statistics and TWAPs from the lake" in done.stdout
    assert "1 days were loaded: 2026-03-15 to 2026-03-15" in done.stdout
    for table in set(_KEPT) - {"s3_ingest_log", "dirty_days"}:
        assert _rows(lost, f"hl.{table}") == before[table], table
    # The fills are not there: nothing is called loaded, and the day is noted to be made again.
    assert _rows(lost, "(SELECT object_key, error, loaded_at FROM hl.s3_ingest_log)") == [
        ("(a/10.lz4,truncated,)",),
        ("(a/9.lz4,,)",),
    ]
    assert _rows(lost, "(SELECT date FROM hl.dirty_days)") == [("(2024-01-01)",), ("(2026-03-15)",)]
    assert [table for table in REBUILT if _rows(lost, f"hl.{table}")] == []
    assert _rows(lost, "(SELECT relname FROM pg_class WHERE relname ~ '^fills_(load_)?[0-9]')") == []
    for table in ("runs", "event_logs"):
        assert _rows(_dagster(lost), table) == _rows(_dagster(full.database_url), table)
    # Numbers go on where they were, and runs that were in work are known to be of this installation.
    with psycopg.connect(_dagster(lost)) as connection:
        assert connection.execute("INSERT INTO runs (run_id) VALUES ('next') RETURNING id").fetchone() == (31,)
    assert (home / "installation").read_text() == "the-first"
    with psycopg.connect(lost) as connection:
        connection.execute("SET ROLE hl_reader")
        assert connection.execute("SELECT count(*) FROM hl.s3_requests").fetchone() == (50,)


@pytest.mark.slow
def test_with_all_every_row_comes_back(hl: Hl, full: World, new_database: NewDatabase, tmp_path: Path) -> None:
    made = _backup(hl, tmp_path, "--all")
    other = new_database("template0")

    done = hl("restore", str(made), HL_DATABASE_URL=other)

    assert done.returncode == 0, done.stderr
    assert ("1 fills" in done.stdout, "next:" in done.stdout) == (True, False)
    for table in (*_KEPT, *REBUILT, "fills_20260315"):
        assert _rows(other, f"hl.{table}") == _rows(full.database_url, f"hl.{table}"), table


def test_an_installation_with_rows_is_overwritten_only_when_told_to(hl: Hl, full: World, tmp_path: Path) -> None:
    made = _backup(hl, tmp_path)
    with psycopg.connect(full.database_url) as connection:
        connection.execute("INSERT INTO hl.dirty_days VALUES ('2025-01-01', 'later', now())")
    with psycopg.connect(_dagster(full.database_url)) as connection:
        connection.execute("INSERT INTO runs (run_id) VALUES ('later')")

    refused = hl("restore", str(made))

    assert refused.returncode == 1
    assert "the installation already has rows (hl.acknowledged, hl.backfill_bad," in refused.stderr
    assert "use --overwrite" in refused.stderr
    assert ("(later)",) in _rows(_dagster(full.database_url), "(SELECT run_id FROM runs)")
    # Of Dagster's history alone too.
    with psycopg.connect(full.database_url) as connection:
        connection.execute("DROP SCHEMA hl CASCADE")
    refused = hl("restore", str(made))
    assert (refused.returncode, "already has rows (public.event_logs, public.runs)" in refused.stderr) == (1, True)

    done = hl("restore", str(made), "--overwrite")

    assert done.returncode == 0, done.stderr
    assert len(_rows(_dagster(full.database_url), "runs")) == 30
    assert _rows(full.database_url, "(SELECT date FROM hl.dirty_days)") == [("(2024-01-01)",), ("(2026-03-15)",)]


@pytest.mark.slow
def test_while_something_is_connected_nothing_is_restored(hl: Hl, full: World, tmp_path: Path) -> None:
    made = _backup(hl, tmp_path)
    with psycopg.connect(_dagster(full.database_url), application_name="someone's daemon"):
        refused = hl("restore", str(made), "--overwrite")
    assert refused.returncode == 1
    assert "other programs are connected to the database: someone's daemon. Stop them (`hl up`) first" in refused.stderr
    assert len(_rows(full.database_url, "hl.fills")) == 1


def test_a_restore_that_fails_changes_neither_database(hl: Hl, full: World, tmp_path: Path) -> None:
    made = _backup(hl, tmp_path)
    with psycopg.connect(full.database_url) as connection:
        connection.execute("DELETE FROM hl.acknowledged")
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["data"]["hl.s3_requests"] = 51
    (made / "manifest.json").write_text(json.dumps(manifest))

    done = hl("restore", str(made), "--overwrite")

    assert done.returncode == 1
    assert "hl.s3_requests does not have the 51 rows of the backup" in done.stderr
    assert len(_rows(full.database_url, "hl.fills")) == 1
    assert _rows(full.database_url, "hl.acknowledged") == []
    assert len(_rows(_dagster(full.database_url), "event_logs")) == 300


@pytest.mark.slow
def test_a_restore_that_is_killed_before_its_end_changes_nothing(hl: Hl, full: World, tmp_path: Path) -> None:
    made = _backup(hl, tmp_path)
    # Everything is restored, and nothing is committed yet.
    code = f"""
import os, signal
from pathlib import Path
from hl_pipeline.warehouse.dump import restoring
before = "DROP SCHEMA hl CASCADE; DROP SCHEMA hl_iceberg CASCADE"
with restoring({full.database_url!r}, Path({str(made / "data.dump")!r}), before=before, show=lambda done: None):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == -9

    assert len(_rows(full.database_url, "hl.fills")) == 1
    assert hl("restore", str(made), "--overwrite").returncode == 0


def test_a_damaged_or_newer_or_other_directory_is_refused_by_name(hl: Hl, full: World, tmp_path: Path) -> None:
    del full
    made = _backup(hl, tmp_path)
    manifest = json.loads((made / "manifest.json").read_text())

    def refused(**changed: object) -> str:
        (made / "manifest.json").write_text(json.dumps(manifest | changed))
        done = hl("restore", str(made))
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    newest = list_migrations()[-1].revision
    assert f"with schema 9999. This version supports schemas up to {newest}: install" in refused(schema="9999")
    assert "has format 2, but this version reads format 1" in refused(format=2)
    dump = (made / "data.dump").read_bytes()
    (made / "data.dump").write_bytes(dump[:-1])
    assert "data.dump is damaged: its SHA-256 differs from the one in manifest.json" in refused()
    (made / "data.dump").unlink()
    assert "is incomplete" in refused()
    done = hl("restore", str(tmp_path))
    assert (done.returncode, "is not a backup made by `hl backup`" in done.stderr) == (1, True)


@pytest.mark.slow
def test_a_backup_of_an_older_schema_is_migrated(hl: Hl, full: World, new_database: NewDatabase, tmp_path: Path) -> None:
    migrate(full.database_url, "0010", down=True)

    made = _backup(hl, tmp_path)

    # To back up changes nothing: it is what one does before an upgrade.
    assert _rows(full.database_url, "hl.alembic_version") == [("(0010)",)]
    other = new_database("template0")
    done = hl("restore", str(made), HL_DATABASE_URL=other)
    assert done.returncode == 0, done.stderr
    assert _rows(other, "hl.alembic_version") == [(f"({list_migrations()[-1].revision})",)]
    assert _rows(other, "hl.s3_requests") == _rows(full.database_url, "hl.s3_requests")


def test_what_cannot_be_backed_up_leaves_nothing_behind(hl: Hl, world: World, new_database: NewDatabase, tmp_path: Path) -> None:
    empty = new_database("template0")
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database_of(empty)}_dagster".encode())
    done = hl("backup", str(tmp_path / "b"), HL_DATABASE_URL=empty)
    assert (done.returncode, "there is nothing to back up" in done.stderr) == (1, True)
    assert list((tmp_path / "b").iterdir()) == []
    # PostgreSQL's own words, where Dagster's tables may not be read.
    user = f"reader_{os.getpid()}"
    with psycopg.connect(_dagster(empty), autocommit=True) as connection:
        connection.execute("CREATE TABLE runs (id int)")
        connection.execute(f"CREATE ROLE {user} LOGIN".encode())
    other = _dagster(empty).replace("//postgres:", f"//{user}:")
    done = hl("backup", str(tmp_path / "b"), HL_DAGSTER_DATABASE_URL=other)
    assert done.returncode == 1
    assert "permission denied for table runs" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "b").iterdir()) == []
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        connection.execute(f"DROP ROLE {user}".encode())


@pytest.mark.slow
def test_the_files_are_postgresqls_own(hl: Hl, full: World, tmp_path: Path) -> None:
    del full
    made = _backup(hl, tmp_path)
    done = subprocess.run([binary("pg_restore"), "--list", made / "data.dump"], capture_output=True, text=True, check=True)
    assert "TABLE DATA hl acknowledged" in done.stdout
    assert "TABLE DATA hl fills" not in done.stdout
