"""Services as process groups: all that one has started ends with it, and those that a killed `hl up` left are found again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psutil

_STOP_SECONDS = 20.0
_CLOCK_SECONDS = 1.0  # by which a process's time of creation may seem to move


def remember_groups(file: Path, services: dict[str, int]) -> None:
    """Write down the services by name and process group, for `find_left`."""
    created = {name: (pid, psutil.Process(pid).create_time()) for name, pid in services.items()}
    made = file.with_suffix(".new")
    made.write_text(json.dumps(created))
    made.replace(file)


def find_left(file: Path, home: Path) -> dict[str, int]:
    """The services that were written down and still run: by name, their process group.

    A number that is somebody else's by now is left out: a group counts only if its leader began when it was written down, or,
    its leader gone, if it has processes that began later and work for `home`.
    """
    try:
        services: dict[str, tuple[int, float]] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: group for name, (group, created) in services.items() if _is_of(group, created, home)}


def stop_groups(groups: Collection[int]) -> None:
    """Interrupt the services and all that they started: a run in progress notes that it was interrupted, and ends too."""
    _signal(groups, signal.SIGINT)
    deadline = time.monotonic() + _STOP_SECONDS
    while any(_members(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(groups, signal.SIGKILL)


def _signal(groups: Collection[int], number: signal.Signals) -> None:
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, number)


def _is_of(group: int, created: float, home: Path) -> bool:
    members = _members(group)
    for process in members:
        if process.pid == group:
            return abs(process.create_time() - created) < _CLOCK_SECONDS
    return any(process.create_time() > created - _CLOCK_SECONDS and _home_of(process) == str(home) for process in members)


def _home_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HL_HOME")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def _members(group: int) -> list[psutil.Process]:
    """The processes of a group that still work (one that has ended may wait long for its parent to notice)."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
