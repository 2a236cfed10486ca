"""The work of `hl backup` and `hl restore`: save and restore what cannot be rebuilt from the lake, as a directory of three files.
`warehouse.dump` dumps and restores the databases.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import IsolationLevel, sql

from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.dirty_days import note_dirty
from hl_pipeline.warehouse.dump import (
    GRANT_TO_READER,
    check_counts,
    count_rows,
    dump_database,
    find_others,
    list_tables,
    restoring,
)
from hl_pipeline.warehouse.migrate import list_migrations, migrate

_FORMAT = 1
_MANIFEST, _DATA, _DAGSTER = "manifest.json", "data.dump", "dagster.dump"
_CHUNK = 1 << 20

REBUILT = (
    *("fills", "fills_days", "fills_hours", "fills_day_objects", "candles", "daily_stats", "user_stats"),
    *("twap_statuses", "twap_days", "twap_day_objects", "twap_slice_days", "twaps"),
)
"""The tables of the schema hl that `hl rebuild` rebuilds from the lake."""

DAGSTER_TABLES = (
    *("alembic_version", "asset_check_executions", "asset_daemon_asset_evaluations", "asset_event_tags", "asset_keys"),
    *("backfill_tags", "bulk_actions", "concurrency_limits", "concurrency_slots", "daemon_heartbeats", "dynamic_partitions"),
    *("event_logs", "instance_info", "instigators", "job_ticks", "jobs", "kvs", "pending_steps", "run_tags", "runs"),
    *("secondary_indexes", "snapshots"),
)
"""Dagster's own tables."""

_SCHEMA = "hl"
_SCHEMAS = (_SCHEMA, "hl_iceberg")
_TABLES_OF_DAYS = "hl.fills_[0-9]*"
_OF_KILLED_LOADS = "hl.fills_load_*"
_RESTORED = "restored from a backup without its rows"
_IS_PREPARED = "SELECT to_regclass('hl.alembic_version') IS NOT NULL"
_REVISION = "SELECT version_num FROM hl.alembic_version"
_DAYS = "SELECT date FROM hl.fills_days UNION SELECT date FROM hl.twap_days ORDER BY 1"
_FORGET_LOADS = "UPDATE hl.s3_ingest_log SET loaded_at = NULL"
_HISTORY = ("runs", "event_logs")

Show = Callable[[str, int], None]
"""Called from time to time with what is in progress and the bytes done so far."""


class BackupError(RuntimeError):
    """A backup cannot be written, read or restored. Nothing was changed. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of a backup. `installation`: the name in HL_HOME, which identifies Dagster runs of this machine.

    `everything`: includes the rows that `hl rebuild` can rebuild. `days`: the loaded days. `rows`: number by `schema.table`.
    `files`: SHA-256 by file.
    """

    format: int
    made_at: str
    version: str
    schema: str
    server: str
    installation: str | None
    everything: bool
    days: list[str]
    data: dict[str, int]
    dagster: dict[str, int]
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Databases:
    """The URLs of the data's database and of Dagster's database."""

    data: str
    dagster: str


def write_backup(
    databases: Databases, home: Path, parent: Path, version: str, show: Show, *, everything: bool
) -> tuple[Path, Manifest]:
    """Write a backup to a new directory in `parent`, completely or not at all. Each database is dumped from one snapshot.
    Dagster's is dumped first, so that no run in it has results missing from the data. Raises BackupError, DumpError or
    NoDatabaseError.
    """
    made_at = datetime.now(UTC)
    name = f"hl-backup-{made_at:%Y%m%dT%H%M%SZ}"
    backup, unfinished = parent / name, parent / f".{name}.part"
    if backup.exists():
        raise BackupError(f"{backup} already exists: wait a second and try again")
    parent.mkdir(parents=True, exist_ok=True)
    unfinished.mkdir(mode=0o700)
    try:
        with connect(databases.data, "hl backup") as connection:
            # Errors of the data's database are reported first.
            if connection.execute(_IS_PREPARED).fetchone() != (True,):
                raise BackupError("the database has no tables of hl-pipeline yet: there is nothing to back up")
        with _at_one_moment(databases.dagster) as (connection, snapshot):
            tables = [table for table in list_tables(connection) if table[0] != _SCHEMA and table[1] in DAGSTER_TABLES]
            if not tables:
                raise BackupError("Dagster's database has no tables yet: there is nothing to back up")
            dagster = count_rows(connection, tables)
            # Tables are listed by name, because the database may have tables of other programs.
            file, options = unfinished / _DAGSTER, [f'--table="{schema}"."{table}"' for schema, table in tables]
            dump_database(databases.dagster, file, options, snapshot, lambda done: show("Dagster's database", done))
        with _at_one_moment(databases.data) as (connection, snapshot):
            [(schema,)] = connection.execute(_REVISION).fetchall()
            days = [str(day) for (day,) in connection.execute(_DAYS)]
            data = count_rows(connection, _tables_with_rows(connection, everything=everything))
            file, options = unfinished / _DATA, _choose_tables(everything=everything)
            dump_database(databases.data, file, options, snapshot, lambda done: show("the data", done))
            server = connection.info.parameter_status("server_version") or ""
        manifest = Manifest(
            format=_FORMAT,
            made_at=made_at.isoformat(timespec="seconds"),
            version=version,
            schema=schema,
            server=server,
            installation=_read_installation(home),
            everything=everything,
            days=days,
            data=data,
            dagster=dagster,
            files={path: _digest(unfinished / path) for path in (_DATA, _DAGSTER)},
        )
        (unfinished / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        for path in (unfinished / _MANIFEST, unfinished):
            _sync(path)
        unfinished.rename(backup)
        _sync(parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return backup, manifest


def read_manifest(backup: Path) -> Manifest:
    """Read the contents of a backup. Raises BackupError if it is not a backup, is damaged, or comes from a newer version."""
    try:
        given: dict[str, Any] = json.loads((backup / _MANIFEST).read_text())
        if given["format"] != _FORMAT:
            raise BackupError(
                f"{backup} has format {given['format']}, but this version reads format {_FORMAT}: restore it with hl-pipeline "
                f"{given.get('version')}"
            )
        manifest = Manifest(**given)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{backup} is not a backup made by `hl backup`: {error}") from error
    if manifest.schema not in (known := [one.revision for one in list_migrations()]):
        raise BackupError(
            f"{backup} was made by hl-pipeline {manifest.version} with schema {manifest.schema}. This version supports schemas "
            f"up to {known[-1]}: install the version that made the backup, or a newer one"
        )
    for name, digest in manifest.files.items():
        try:
            if _digest(backup / name) != digest:
                raise BackupError(
                    f"{backup / name} is damaged: its SHA-256 differs from the one in {_MANIFEST}. Use another copy"
                )
        except OSError as error:
            raise BackupError(f"{backup} is incomplete: {error}") from error
    return manifest


def check_target(databases: Databases, *, overwrite: bool) -> None:
    """Raise BackupError if other programs use the databases, or if they have rows that must not be overwritten."""
    present: list[str] = []
    for url, tables in ((databases.data, None), (databases.dagster, _HISTORY)):
        with connect(url, "hl restore") as connection:
            if others := find_others(connection):
                raise BackupError(f"other programs are connected to the database: {', '.join(others)}. Stop them (`hl up`) first")
            found = list_tables(connection)
            wanted = [
                (schema, name)
                for schema, name in found
                if (schema == _SCHEMA and name != "alembic_version" if tables is None else schema != _SCHEMA and name in tables)
            ]
            present += [f"{schema}.{name}" for schema, name in wanted if _has_rows(connection, schema, name)]
    if present and not overwrite:
        raise BackupError(
            f"the installation already has rows ({', '.join(present[:5])}{', …' if len(present) > 5 else ''}), which a restore "
            "would replace: use --overwrite to replace them"
        )


def restore_backup(backup: Path, manifest: Manifest, databases: Databases, home: Path, show: Show) -> None:
    """Restore both databases and migrate the data's schema to this version, completely or not at all. Days whose rows are not in
    the backup are added to hl.dirty_days. Raises DumpError.
    """
    grants_and_counts = f"{GRANT_TO_READER}{check_counts(manifest.data)}"
    with (
        restoring(
            databases.dagster,
            backup / _DAGSTER,
            options=("--clean", "--if-exists"),
            after=check_counts(manifest.dagster),
            show=lambda done: show("Dagster's database", done),
        ),
        restoring(
            databases.data,
            backup / _DATA,
            before=f"DROP SCHEMA IF EXISTS {', '.join(_SCHEMAS)} CASCADE",
            after=grants_and_counts,
            show=lambda done: show("the data", done),
        ),
    ):
        pass  # each is committed when its block ends
    migrate(databases.data)
    if not manifest.everything:
        with connect(databases.data, "hl restore") as connection, connection.transaction():
            connection.execute(_FORGET_LOADS)
            note_dirty(connection, map(date.fromisoformat, manifest.days), f"{_RESTORED}: `hl rebuild` makes them")
    if manifest.installation is not None and not (home / "installation").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "installation").write_text(manifest.installation)


@contextmanager
def _at_one_moment(url: str) -> Generator[tuple[psycopg.Connection, str]]:
    """Yield a connection whose view of the database stays fixed until the block ends, and the ID of its snapshot for pg_dump."""
    with connect(url, "hl backup") as connection:
        connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
        with connection.transaction():
            [(snapshot,)] = connection.execute("SELECT pg_export_snapshot()").fetchall()
            yield connection, snapshot


def _choose_tables(*, everything: bool) -> list[str]:
    """Return the pg_dump options that select the tables and rows of a backup."""
    options = [*(f"--schema={schema}" for schema in _SCHEMAS), f"--exclude-table={_OF_KILLED_LOADS}"]
    if not everything:
        options += [f"--exclude-table={_TABLES_OF_DAYS}", *(f"--exclude-table-data={_SCHEMA}.{table}" for table in REBUILT)]
    return options


def _tables_with_rows(connection: psycopg.Connection, *, everything: bool) -> list[tuple[str, str]]:
    """Return the tables whose rows are in a backup."""
    tables = [(schema, name) for schema, name in list_tables(connection) if schema in _SCHEMAS]
    return [table for table in tables if not table[1].startswith("fills_load_") and (everything or table[1] not in REBUILT)]


def _has_rows(connection: psycopg.Connection, schema: str, name: str) -> bool:
    row = connection.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(schema, name))).fetchone()
    return row == (True,)


def _read_installation(home: Path) -> str | None:
    path = home / "installation"
    return path.read_text() if path.exists() else None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Flush a file's contents, or a directory's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
