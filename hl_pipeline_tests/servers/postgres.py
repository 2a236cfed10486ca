"""A PostgreSQL of a test's own: to be restarted or killed in the midst of work, or followed by a standby."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from hl_pipeline.warehouse.embedded import binary
from hl_pipeline.warehouse.urls import build_url

_FAST = {"fsync": "off", "shared_buffers": "64MB", "autovacuum": "off", "max_connections": "60", "timezone": "UTC"}
_START_SECONDS = 60.0
# PostgreSQL refuses root.
_USER = next(entry for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody")) if os.geteuid() == 0 else None


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A server with its data in `data`, and its socket beside them: a base backup would take the lock of a socket within."""

    data: Path

    def url(self, database: str = "postgres") -> str:
        return build_url({"user": "postgres", "dbname": database, "host": str(self.data.parent)})

    def start(self) -> None:
        """Start it; the last processes of one that was killed are waited out."""
        deadline = time.monotonic() + _START_SECONDS
        while _run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", str(self.data / "server.log")) != 0:
            assert time.monotonic() < deadline, (self.data / "server.log").read_text()
            time.sleep(0.2)

    def stop(self, mode: str = "immediate") -> None:
        _run("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self.data))

    def kill(self) -> None:
        """End it as a power cut would."""
        os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def restart(self, how: str) -> None:
        """`fast` or `immediate`, as pg_ctl has them, or `kill`."""
        if how == "kill":
            self.kill()
        else:
            self.stop(how)
        self.start()


@contextmanager
def serve_postgres(**settings: str) -> Generator[PostgresServer]:
    """A running, empty server with these settings."""
    with _directory() as data:
        _must("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", str(data))
        yield from _serve(data, _FAST | settings)


@contextmanager
def serve_standby(primary: PostgresServer, **settings: str) -> Generator[PostgresServer]:
    """A running hot standby of `primary`, which it follows by streaming."""
    with _directory() as data:
        _must("pg_basebackup", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-D", str(data), "-d", primary.url())
        yield from _serve(data, settings)


def wait_for_standby(primary: PostgresServer, standby: PostgresServer, seconds: float = 30) -> None:
    """Wait until the standby has replayed all that the primary has written so far."""
    with psycopg.connect(primary.url(), autocommit=True) as connection:
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    deadline = time.monotonic() + seconds
    with psycopg.connect(standby.url(), autocommit=True) as connection:
        while connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row).fetchone() != (True,):
            assert time.monotonic() < deadline, f"the standby has not replayed {row[0]} within {seconds:g} s"
            time.sleep(0.05)


def _serve(data: Path, settings: dict[str, str]) -> Generator[PostgresServer]:
    every = settings | {"listen_addresses": "", "unix_socket_directories": str(data.parent)}
    with (data / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in every.items())
    server = PostgresServer(data)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _directory() -> Generator[Path]:
    # Short enough for a socket's path.
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
    """Run a program of PostgreSQL; its exit code. Not with a pipe: the server inherits it and keeps it open."""
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
