"""A separate PostgreSQL for one test, which can be restarted or killed during work, or followed by a standby."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from hl_pipeline.warehouse.embedded import binary, embedded_url, hold
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline.warehouse.urls import build_url, parse_url
from hl_pipeline_tests.marked_secrets import SECRET

_FAST = {"fsync": "off", "shared_buffers": "64MB", "autovacuum": "off", "max_connections": "60", "timezone": "UTC"}
_START_SECONDS = 60.0
# PostgreSQL refuses to run as root.
_USER = next(entry for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody")) if os.geteuid() == 0 else None


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A server with its data in `data`. Its socket is next to `data`, because a base backup would copy a socket lock inside."""

    data: Path
    host: str | None = None
    port: int = 5432

    def url(self, database: str = "postgres") -> str:
        return build_url(
            {"user": "postgres", "dbname": database, "host": self.host or str(self.data.parent), "port": str(self.port)}
        )

    def start(self) -> None:
        """Start the server. Waits until the last processes of a killed one are gone."""
        deadline = time.monotonic() + _START_SECONDS
        while _run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", str(self.data / "server.log")) != 0:
            assert time.monotonic() < deadline, (self.data / "server.log").read_text()
            time.sleep(0.2)

    def stop(self, mode: str = "immediate") -> None:
        _run("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self.data))

    def kill(self) -> None:
        """Kill the server, like a power failure."""
        os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def restart(self, how: str) -> None:
        """Restart the server. `how` is a mode of pg_ctl (`fast` or `immediate`) or `kill`."""
        if how == "kill":
            self.kill()
        else:
            self.stop(how)
        self.start()


@contextmanager
def serve_databases() -> Generator[Path]:
    """Run an embedded server that has a migrated database `template`. Yields its home."""
    home = Path(tempfile.mkdtemp(prefix="hl-test-"))
    try:
        with hold(home):
            with psycopg.connect(embedded_url(home, "postgres"), autocommit=True) as connection:
                # The data does not outlive the block, and making it durable would cost a minute at the end.
                for setting in ("fsync", "full_page_writes", "synchronous_commit", "autovacuum"):
                    connection.execute(f"ALTER SYSTEM SET {setting} = off".encode())
                connection.execute("SELECT pg_reload_conf()")
                connection.execute("CREATE DATABASE template")
            migrate(embedded_url(home, "template"))
            yield home
            with psycopg.connect(embedded_url(home, "postgres"), autocommit=True) as connection:
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
                connection.execute("CHECKPOINT")
            found = subprocess.run(["grep", "-rlF", "--", SECRET, str(home)], capture_output=True, text=True, check=False)
            assert found.stdout == "", "PostgreSQL has a secret in its tables or its log"
    finally:
        # Removing hundreds of databases takes half a minute, so do not wait for it.
        subprocess.Popen(["rm", "-rf", str(home)], start_new_session=True)


def make_database(home: Path, template: str = "template") -> str:
    """Create a database, migrated by default, on the server of `serve_databases`.

    Returns its URL, with a password that the server does not ask for.
    """
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(embedded_url(home, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode())
    return build_url(parse_url(embedded_url(home, name)) | {"password": SECRET})


@contextmanager
def serve_postgres(host: str | None = None, port: int = 5432, **settings: str) -> Generator[PostgresServer]:
    """Run an empty server with these settings. With `host`, it is reached over TCP, from that address's network too."""
    with _directory() as data:
        _must("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", str(data))
        if host is not None:
            with (data / "pg_hba.conf").open("a") as file:
                file.write("host all all samenet trust\n")
        yield from _serve(PostgresServer(data, host, port), _FAST | settings)


@contextmanager
def serve_standby(primary: PostgresServer, **settings: str) -> Generator[PostgresServer]:
    """Run a streaming hot standby of `primary`."""
    with _directory() as data:
        _must("pg_basebackup", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-D", str(data), "-d", primary.url())
        yield from _serve(PostgresServer(data), settings)


def wait_for_standby(primary: PostgresServer, standby: PostgresServer, seconds: float = 30) -> None:
    """Wait until the standby has replayed everything that the primary has written so far."""
    with psycopg.connect(primary.url(), autocommit=True) as connection:
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    deadline = time.monotonic() + seconds
    with psycopg.connect(standby.url(), autocommit=True) as connection:
        while connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row).fetchone() != (True,):
            assert time.monotonic() < deadline, f"the standby has not replayed {row[0]} within {seconds:g} s"
            time.sleep(0.05)


def _serve(server: PostgresServer, settings: dict[str, str]) -> Generator[PostgresServer]:
    data = server.data
    every = settings | {"listen_addresses": server.host or "", "unix_socket_directories": str(data.parent)}
    every["port"] = str(server.port)
    with (data / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in every.items())
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _directory() -> Generator[Path]:
    # The path must be short enough for a socket.
    root = Path(tempfile.mkdtemp(prefix="hl-pg-"))
    try:
        data = root / "d"
        data.mkdir(mode=0o700)
        if _USER is not None:
            for path in (root, data):
                os.chown(path, _USER.pw_uid, _USER.pw_gid)
        yield data
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _must(name: str, *arguments: str) -> None:
    with tempfile.TemporaryFile("w+") as output:
        code = _run(name, *arguments, output=output.fileno())
        output.seek(0)
        assert code == 0, output.read()


def _run(name: str, *arguments: str, output: int = subprocess.DEVNULL) -> int:
    """Run a program of PostgreSQL. Returns its exit code. Uses no pipe, since the server would inherit it and keep it open."""
    return subprocess.run(
        [binary(name), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        check=False,
        user=None if _USER is None else _USER.pw_uid,
        group=None if _USER is None else _USER.pw_gid,
        extra_groups=None if _USER is None else [],
        start_new_session=True,
        cwd="/",
    ).returncode
