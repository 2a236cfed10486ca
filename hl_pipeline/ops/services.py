"""`hl up`: the Dagster webserver, the daemon and the REST API as children, their lines in one log, all stopped together. The
terminal shows their addresses, a line for each run, and warnings.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO, TextIO

import requests

from hl_pipeline.ops.installation import dagster_file
from hl_pipeline.ops.launch_backfill import BackfillError
from hl_pipeline.ops.process_groups import find_left, remember_groups, stop_groups
from hl_pipeline.ops.run_lines import follow_runs
from hl_pipeline.warehouse.connect import NoDatabaseError

_START_SECONDS = 120.0
_WATCH_ENDS_SECONDS = 10.0
_SERVICES = "up.json"
_HOST = "127.0.0.1"
# Of a run, its line tells; its own lines have its id.
_OF_RUN = re.compile(r" - [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} - ")
_WARNING = re.compile(r" - (WARNING|ERROR|CRITICAL) - |^(WARNING|ERROR|CRITICAL):")
# The daemon's first start is no reason to warn anybody.
_HARMLESS = re.compile(r"No cursor for event type \S+, ignoring older events")
_LAST_WORDS = 3
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class AlreadyUpError(RuntimeError):
    """Something is in the way of starting. The message says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service answers on this machine: its port, and what stands before all its paths."""

    port: int
    path_prefix: str = ""

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}{self.path_prefix}"


def commands(ui: Address, api: Address) -> dict[str, list[str]]:
    """The services by name, and the command of each. The API reads its own prefix from the environment."""
    prefix = ["--path-prefix", ui.path_prefix] if ui.path_prefix else []
    programs = Path(sys.executable).parent
    workspace = ["-w", str(dagster_file("workspace.yaml"))]
    return {
        "webserver": [str(programs / "dagster-webserver"), "-h", _HOST, "-p", str(ui.port), *prefix, *workspace],
        # Its code servers are told to end each minute, and would say so each minute.
        "daemon": [str(programs / "dagster-daemon"), "run", "--code-server-log-level", "error", *workspace],
        "api": api_command(_HOST, api.port),
    }


def api_command(host: str, port: int) -> list[str]:
    """The command of the REST API; which database is in the environment (`give_api_its_database`)."""
    # An export that is under way does not keep it from stopping.
    listening = ["--host", host, "--port", str(port), "--log-level", "warning", "--timeout-graceful-shutdown", "5"]
    # `api` stands beside hl_pipeline. By itself uvicorn looks in the working directory, where the user may have an `api` too.
    ours = ["--app-dir", str(Path(__file__).parents[2])]
    return [str(Path(sys.executable).parent / "uvicorn"), *ours, "--factory", "api.app:create_app", *listening]


def give_api_its_database(url: str) -> None:
    """Tell the API, a child of this process, of the database at `url`, unless the user has named it one."""
    os.environ["HL_API_DATABASE_URL"] = os.environ.get("HL_API_DATABASE_URL") or url


def run_api(host: str, api: Address) -> int:
    """Run the REST API in this terminal until Ctrl-C (exit code 0) or until it ends by itself (its own)."""
    url = f"http://{host}:{api.port}{api.path_prefix}"
    print(f"\n  REST API: {url}   how to ask it: {url}/docs   Ctrl-C stops it\n", flush=True)  # noqa: T201
    child = subprocess.Popen(api_command(host, api.port), start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: child.terminate())
    code = child.wait()
    return 0 if code in (0, -signal.SIGTERM) else code


def run_services(home: Path, ui: Address, api: Address, once_up: Callable[[str], str] | None = None) -> int:
    """Run until Ctrl-C, SIGTERM or a closed terminal (exit code 0), or until a service ends by itself (1).

    `once_up` is called with the UI's address once it answers, again while it fails; what it returns is said.

    Raises AlreadyUpError.
    """
    stop = threading.Event()

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    with _only_one(home), (home / "hl.log").open("a") as log:
        _stop_left(home, log)
        _check_port(ui.port, "--port or HL_PORT")
        _check_port(api.port, "--api-port or HL_API_PORT")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, ask_to_stop)
        children: dict[str, subprocess.Popen[str]] = {}
        last_words = {name: deque[str](maxlen=_LAST_WORDS) for name in commands(ui, api)}
        watch = threading.Thread(target=_watch, args=(ui, api, stop, home, once_up, log), daemon=True)
        try:
            _say("starting the Dagster UI, its daemon and the REST API", log)
            for name, command in commands(ui, api).items():
                children[name] = _start(name, command, log, last_words[name])
                remember_groups(home / _SERVICES, {name: child.pid for name, child in children.items()})
            watch.start()
            while not stop.wait(0.5):
                for name, child in children.items():
                    if child.poll() is not None:
                        _say(f"{name} ended by itself (exit code {child.returncode}); see {home / 'hl.log'}", log)
                        print(*(f"  {line}" for line in last_words[name]), sep="\n", flush=True)  # noqa: T201 - the log has it
                        return 1
            return 0
        finally:
            stop.set()
            _say("stopping", log)
            if watch.ident is not None:
                watch.join(_WATCH_ENDS_SECONDS)
            stop_groups([child.pid for child in children.values()])
            for child in children.values():
                child.wait()
            (home / _SERVICES).unlink(missing_ok=True)


@contextmanager
def _only_one(home: Path) -> Generator[None]:
    with (home / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyUpError(f"hl up is running already in {home}; stop it with Ctrl-C where it runs") from None
        yield


def _stop_left(home: Path, log: TextIO) -> None:
    """End what an `hl up` of this home has left running that was killed itself: it has our ports, and a daemon must be one."""
    if left := find_left(home / _SERVICES, home):
        _say(f"stopping what an hl up that was killed has left: {', '.join(left)}", log)
        stop_groups(left.values())


def _check_port(port: int, setting: str) -> None:
    with socket.socket() as probe:
        # As the webserver does: a port whose last user has just gone is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            raise AlreadyUpError(f"port {port} is in use; choose another with {setting}") from None


def _start(name: str, command: list[str], log: TextIO, last_words: deque[str]) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        command,
        # Not where the user is: Dagster would put the .env that is there over the settings that it is given.
        cwd=os.environ["DAGSTER_HOME"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Ctrl-C reaches us alone, and what the child starts is known by its process group.
        start_new_session=True,
    )
    assert child.stdout is not None
    threading.Thread(target=_forward, args=(name, child.stdout, log, last_words), daemon=True).start()
    return child


def _forward(name: str, lines: IO[str], log: TextIO, last_words: deque[str]) -> None:
    for line in lines:
        plain = _COLOUR.sub("", line.rstrip())
        last_words.append(plain)
        tell = _say if is_warning(plain) else _note
        tell(f"{name:<9} | {plain}", log)


def is_warning(line: str) -> bool:
    """Whether a line of a service is for the terminal too: a warning or an error that is not of a run."""
    return bool(_WARNING.search(line)) and not _OF_RUN.search(line) and not _HARMLESS.search(line)


def _say(text: str, log: TextIO) -> None:
    print(text, flush=True)  # noqa: T201 - this is what `hl up` shows
    _note(text, log)


def _note(text: str, log: TextIO) -> None:
    log.write(text + "\n")
    log.flush()


def _watch(
    ui: Address, api: Address, stop: threading.Event, home: Path, once_up: Callable[[str], str] | None, log: TextIO
) -> None:
    """Say where everything is once it is up, then what comes of each run."""
    since = datetime.now(UTC)
    _announce(ui, api, stop, home, once_up, log)
    follow_runs(since, stop, lambda line: _say(line, log), lambda line: _note(line, log))


def _announce(
    ui: Address, api: Address, stop: threading.Event, home: Path, once_up: Callable[[str], str] | None, log: TextIO
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and not stop.wait(0.5):
        try:
            requests.get(f"{ui.url}/server_info", timeout=2).raise_for_status()
        except requests.RequestException:
            continue
        rest = f"REST API: {api.url}/docs"
        print(f"\n  Dagster UI: {ui.url}   {rest}   log: {home / 'hl.log'}   Ctrl-C stops everything\n", flush=True)  # noqa: T201
        break
    while once_up is not None and not stop.is_set():
        try:
            _say(once_up(ui.url), log)
            return
        except (BackfillError, NoDatabaseError, requests.RequestException) as error:
            if time.monotonic() > deadline:
                _say(f"error: the backfill was not launched: {error}. Start hl up again, or launch it in the UI", log)
                return
            stop.wait(2)
