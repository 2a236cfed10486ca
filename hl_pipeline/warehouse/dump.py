"""Dumps and restores a database with PostgreSQL's own pg_dump, pg_restore and psql. `stages.backup` chooses tables and files."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.embedded import binary
from hl_pipeline.warehouse.urls import build_url, database_of, parse_url

_POLL_SECONDS = 0.5
_GOODBYE_SECONDS, _RETRY_SECONDS = 2.0, 0.1
_CHUNK = 1 << 20
_LINES_OF_SETTINGS = 40
_NEW_IN_17 = b"SET transaction_timeout"
_READ = "the whole script was read"

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY 1, 2
"""
_OTHERS = """
SELECT DISTINCT coalesce(nullif(application_name, ''), 'unnamed') FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND coalesce(backend_type, 'client backend') = 'client backend'
ORDER BY 1
"""
# The grants of migration 0003. Those in a dump fail if a role does not exist.
GRANT_TO_READER = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hl_reader') THEN
        BEGIN
            CREATE ROLE hl_reader NOLOGIN;
        EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hl_reader') THEN
        BEGIN
            EXECUTE format('GRANT hl_reader TO %I', current_user);
        EXCEPTION WHEN insufficient_privilege OR unique_violation THEN NULL;
        END;
        GRANT USAGE ON SCHEMA hl TO hl_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA hl TO hl_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA hl GRANT SELECT ON TABLES TO hl_reader;
    END IF;
END $$;
"""

Show = Callable[[int], None]
"""Called from time to time with the number of bytes written or read."""


class DumpError(RuntimeError):
    """A database could not be dumped or restored. The message has PostgreSQL's own text."""


def dump_database(url: str, file: Path, options: Iterable[str], snapshot: str, show: Show) -> None:
    """Dump the exported `snapshot` of the database at `url` to `file` in pg_dump's custom format. Raises DumpError."""
    address, environment = _without_password(url)
    command = [binary("pg_dump"), "-Fc", f"--snapshot={snapshot}", *options, "-f", file, "-d", address]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=errors)
        try:
            while process.poll() is None:
                try:
                    process.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    show(file.stat().st_size if file.exists() else 0)
        finally:
            _end(process)
        _check("pg_dump", url, process, errors)
    show(file.stat().st_size)


@contextmanager
def restoring(
    url: str, file: Path, *, show: Show, options: Iterable[str] = (), before: str = "", after: str = ""
) -> Generator[None]:
    """Run `before`, restore `file` and run `after` in one transaction, then enter the block. It is committed when the block ends,
    and rolled back if the block raises. Raises DumpError.
    """
    address, environment = _without_password(url)
    command = [binary("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", os.devnull, "-f", "-", "-d", address]
    with connect(url, "hl restore") as connection:
        is_older = connection.info.server_version < 170_000
    with tempfile.TemporaryFile() as errors:
        psql = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        assert psql.stdin is not None
        assert psql.stdout is not None
        try:
            try:
                psql.stdin.write(f"BEGIN;\n{before};\n".encode())
                _write_script(file, options, psql.stdin, show, is_older=is_older)
                psql.stdin.write(f"\n{after};\n\\echo {_READ}\n".encode())
                psql.stdin.flush()
            except BrokenPipeError:
                pass  # psql failed and has printed its error
            if psql.stdout.readline().strip() != _READ.encode():
                psql.wait()
                _check("psql", url, psql, errors)
            yield
            psql.stdin.write(b"COMMIT;\n")
            psql.stdin.close()
            psql.wait()
        finally:
            _end(psql)
        _check("psql", url, psql, errors)


def list_tables(connection: psycopg.Connection) -> list[tuple[str, str]]:
    """Return schema and name of every table that is not PostgreSQL's own, without partitions of partitioned tables."""
    return connection.execute(_TABLES).fetchall()


def count_rows(connection: psycopg.Connection, tables: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return the number of rows of each table by `schema.name`."""
    rows: dict[str, int] = {}
    for schema, name in tables:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))).fetchone()
        assert row is not None
        rows[f"{schema}.{name}"] = row[0]
    return rows


def find_others(connection: psycopg.Connection) -> list[str]:
    """Return the names of other programs that stay connected to the same database."""
    deadline = time.monotonic() + _GOODBYE_SECONDS
    # A connection that was just closed is still visible for a moment.
    while (others := [name for (name,) in connection.execute(_OTHERS)]) and time.monotonic() < deadline:
        time.sleep(_RETRY_SECONDS)
    return others


def check_counts(rows: Mapping[str, int]) -> str:
    """Return a statement that fails unless every table has exactly this number of rows."""
    checks = [
        f"IF (SELECT count(*) FROM {_quoted(table)}) <> {count} THEN RAISE '% does not have the % rows of the backup', "
        f"'{table}', {count}; END IF;"
        for table, count in rows.items()
    ]
    return f"DO $$ BEGIN {' '.join(checks)} END $$"


def _quoted(table: str) -> str:
    return sql.Identifier(*table.split(".", 1)).as_string(None)


def _write_script(file: Path, options: Iterable[str], script: IO[bytes], show: Show, *, is_older: bool) -> None:
    """Write the SQL script that restores `file`."""
    command = [binary("pg_restore"), "--no-owner", "--no-privileges", *options, "-f", "-", file]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        try:
            for _ in range(_LINES_OF_SETTINGS):
                line = process.stdout.readline()
                # pg_restore writes for its own version, not the server's.
                if not (is_older and line.startswith(_NEW_IN_17)):
                    script.write(line)
            written = 0
            while chunk := process.stdout.read(_CHUNK):
                script.write(chunk)
                written += len(chunk)
                show(written)
            process.wait()
        finally:
            _end(process)
        _check("pg_restore", str(file), process, errors)


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """Return the URL without password for a command line, which other users can read, and an environment with the password."""
    parameters = parse_url(url)
    password = parameters.pop("password", None)
    return build_url(parameters), dict(os.environ) | ({} if password is None else {"PGPASSWORD": password})


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process after an error or Ctrl-C. PostgreSQL rolls back the transaction of a client that is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed:
            try:
                pipe.close()
            except BrokenPipeError:
                continue


def _check(name: str, what: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    if process.returncode != 0:
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
        where = database_of(what) if "://" in what else what
        raise DumpError(f"{name} failed ({process.returncode}) with {where}: {said or 'it said nothing'}")
