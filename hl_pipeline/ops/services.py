"""The work of `hl up`: runs the Dagster webserver, the daemon and the REST API as children, restarts them if they die, and stops
them together. The terminal shows their addresses, a line for each run, and warnings.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import requests

from hl_pipeline.ops.children import Children
from hl_pipeline.ops.database_watch import DatabaseWatch, embedded_service
from hl_pipeline.ops.installation import dagster_file
from hl_pipeline.ops.launch_backfill import BackfillError
from hl_pipeline.ops.process_groups import find_left, stop_groups
from hl_pipeline.ops.run_lines import follow_runs
from hl_pipeline.ops.service_log import ServiceLog, hush_attempts, open_log
from hl_pipeline.ops.supervision import Service, look_after
from hl_pipeline.ops.systemd import notify_systemd
from hl_pipeline.warehouse.connect import NoDatabaseError

_START_SECONDS = 120.0
# Ctrl-C ends everything within five seconds, including PostgreSQL.
_STOP_SECONDS = 3.0
_STOP_LEFT_SECONDS = 20.0
_SERVICES = "up.json"
_HOST = "127.0.0.1"
_LOOK_SECONDS = 0.5
# Open connections per worker of the API, idle ones too; above it, uvicorn answers 503. A process may open 1,024 files by default.
_API_CONNECTIONS = 500


class AlreadyUpError(RuntimeError):
    """Something prevents the start. The message says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a service on this machine: its port and path prefix."""

    port: int
    path_prefix: str = ""

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}{self.path_prefix}"


def commands(ui: Address, api: Address) -> dict[str, list[str]]:
    """Return the command of each service by name. The API reads its path prefix from the environment."""
    prefix = ["--path-prefix", ui.path_prefix] if ui.path_prefix else []
    programs = Path(sys.executable).parent
    workspace = ["-w", str(dagster_file("workspace.yaml"))]
    return {
        "webserver": [str(programs / "dagster-webserver"), "-h", _HOST, "-p", str(ui.port), *prefix, *workspace],
        # Otherwise its code servers would log every minute that they are asked to end.
        "daemon": [str(programs / "dagster-daemon"), "run", "--code-server-log-level", "error", *workspace],
        "api": api_command(_HOST, api.port),
    }


def api_command(host: str, port: int) -> list[str]:
    """Return the command of the REST API. The environment has its database (`give_api_its_database`)."""
    # A running export must not delay the stop.
    listening = ["--host", host, "--port", str(port), "--log-level", "warning", "--timeout-graceful-shutdown", "2"]
    listening += ["--limit-concurrency", str(_API_CONNECTIONS)]
    # The package `api` is next to hl_pipeline. By default, uvicorn looks in the working directory, which may have another `api`.
    ours = ["--app-dir", str(Path(__file__).parents[2])]
    return [str(Path(sys.executable).parent / "uvicorn"), *ours, "--factory", "api.app:create_app", *listening]


def give_api_its_database(url: str) -> None:
    """Pass the database at `url` to the API, a child of this process, unless the user has set one for it."""
    os.environ["HL_API_DATABASE_URL"] = os.environ.get("HL_API_DATABASE_URL") or url


def run_api(host: str, api: Address, database: DatabaseWatch, *, as_json: bool = False) -> int:
    """Run the REST API in this terminal until Ctrl-C (exit code 0), or until it or the embedded PostgreSQL dies too often (1).

    Raises AlreadyUpError.
    """
    _check_port(host, api.port, "--port or HL_API_PORT")
    url = f"http://{host}:{api.port}{api.path_prefix}"
    log = ServiceLog(as_json=as_json)
    log.show(f"\n  REST API: {url}   documentation: {url}/docs   Ctrl-C stops it\n")
    children = Children(lambda _: subprocess.Popen(api_command(host, api.port), start_new_session=True, text=True))
    stop = _stopped_by_signals()
    try:
        children.start("api")
        return _supervise(["api"], children, database, stop, log)
    finally:
        children.stop(_STOP_SECONDS)


def run_services(
    home: Path,
    ui: Address,
    api: Address,
    database: DatabaseWatch,
    once_up: Callable[[str], str] | None = None,
    *,
    as_json: bool = False,
) -> int:
    """Run until Ctrl-C, SIGTERM or a closed terminal (exit code 0), or until a service has died too often (1).

    `once_up` is called with the UI's address when it answers, and again if it fails. Its result is printed.

    Raises AlreadyUpError.
    """
    with only_one(home), open_log(home, as_json=as_json) as log:
        _stop_left(home, log)
        _check_port(_HOST, ui.port, "--port or HL_PORT")
        _check_port(_HOST, api.port, "--api-port or HL_API_PORT")
        programs = commands(ui, api)
        children = Children(lambda name: _spawn(name, programs[name], log), home / _SERVICES)
        stop = _stopped_by_signals()
        hush_attempts()
        try:
            log.say("starting the Dagster UI, its daemon and the REST API")
            for name in programs:
                children.start(name)
            threading.Thread(target=_watch, args=(ui, api, stop, once_up, log), daemon=True).start()
            return _supervise([*programs], children, database, stop, log)
        finally:
            stop.set()
            log.say("stopping")
            notify_systemd("STOPPING=1")
            children.stop(_STOP_SECONDS)


def _stopped_by_signals() -> threading.Event:
    """Return an event that Ctrl-C, SIGTERM or a closed terminal sets."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _supervise(names: list[str], children: Children, database: DatabaseWatch, stop: threading.Event, log: ServiceLog) -> int:
    """Restart services that die, until `stop` (0) or until one has died too often (1)."""
    services = [] if database.home is None else [embedded_service(database.home)]

    def start(name: str) -> bool:
        if database.away_since is None:
            children.start(name)
        return database.away_since is None

    services += [Service(name, partial(start, name), partial(children.why_ended, name)) for name in names]
    while not stop.wait(_LOOK_SECONDS):
        now = time.monotonic()
        if database.look(now, log.say):
            log.end_outage()
        else:
            log.begin_outage()
        for service in services:
            if not look_after(service, now, log.say):
                log.say_last_words(service.name)
                return 1
        notify_systemd("WATCHDOG=1")
    return 0


@contextmanager
def only_one(home: Path) -> Generator[None]:
    """Prevent an `hl up` of `home` while the block runs. Raises AlreadyUpError if one runs."""
    with (home / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyUpError(
                f"hl up or hl upgrade is already running in {home}: stop it with Ctrl-C in its terminal"
            ) from None
        yield


def _stop_left(home: Path, log: ServiceLog) -> None:
    """Stop processes left by a killed `hl up` of this home: they use our ports, and there must be only one daemon."""
    if left := find_left(home / _SERVICES, home):
        log.say(f"stopping processes left by a killed hl up: {', '.join(group.name for group in left)}")
        stop_groups(left, _STOP_LEFT_SECONDS)


def _check_port(host: str, port: int, setting: str) -> None:
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family) as probe:
            # Like the webserver: a port that was just released counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AlreadyUpError(f"port {port} is in use; choose another with {setting}") from None
        raise AlreadyUpError(f"cannot listen on {host}, port {port}: {error.strerror}") from None


def _spawn(name: str, command: list[str], log: ServiceLog) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        command,
        # Not in the user's directory: Dagster would let a .env there override the settings in the environment.
        cwd=os.environ["DAGSTER_HOME"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Ctrl-C reaches only this process, and the group identifies all processes of the child.
        start_new_session=True,
    )
    assert child.stdout is not None
    threading.Thread(target=log.forward, args=(name, child.stdout), daemon=True).start()
    return child


def _watch(ui: Address, api: Address, stop: threading.Event, once_up: Callable[[str], str] | None, log: ServiceLog) -> None:
    """Print the addresses when everything is up, then a line for each run."""
    since = datetime.now(UTC)
    _announce(ui, api, stop, once_up, log)
    follow_runs(since, stop, log.say, log.note)


def _announce(ui: Address, api: Address, stop: threading.Event, once_up: Callable[[str], str] | None, log: ServiceLog) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and not stop.wait(0.5):
        try:
            requests.get(f"{ui.url}/server_info", timeout=2).raise_for_status()
        except requests.RequestException:
            continue
        rest = f"REST API: {api.url}/docs"
        log.show(f"\n  Dagster UI: {ui.url}   {rest}   log: {log.path}   Ctrl-C stops everything\n")
        notify_systemd("READY=1")
        break
    while once_up is not None and not stop.is_set():
        try:
            log.say(once_up(ui.url))
            return
        except (BackfillError, NoDatabaseError, requests.RequestException) as error:
            if time.monotonic() > deadline:
                log.say(f"error: the backfill was not launched: {error}. Start hl up again, or launch it in the UI")
                return
            stop.wait(2)
