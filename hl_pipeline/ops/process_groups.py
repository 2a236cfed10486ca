"""Services as process groups: all that one has started ends with it, and those that a killed `hl up` left are found again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

_FORKS_RUNS = "from multiprocessing.forkserver import"
_IDLE_SECONDS = 1.0
_CLOCK_SECONDS = 1.0  # by which a process's time of creation may seem to move


class Group(NamedTuple):
    """A service's process group: its leader's number, and when that began (seconds since 1970)."""

    name: str
    number: int
    created: float


def remember_groups(file: Path, groups: Sequence[Group]) -> None:
    """Write them down for `find_left`."""
    made = file.with_suffix(".new")
    made.write_text(json.dumps(groups))
    made.replace(file)


def find_left(file: Path, home: Path) -> list[Group]:
    """The groups that were written down and still run.

    A number that is somebody else's by now is left out: a group counts only if its leader began when it was written down, or,
    its leader gone, if it has processes that began later and work for `home`.
    """
    try:
        groups = [Group(*group) for group in json.loads(file.read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []
    return [group for group in groups if _still_runs(group, home)]


def stop_groups(groups: Sequence[Group], seconds: float) -> None:
    """Interrupt the services and all that they started: a run in progress notes that it was interrupted, and ends too.

    Runs get `seconds` for it. Everything else is killed after a second: a code server without a run takes four, for nothing.
    """
    _signal(groups, signal.SIGINT)
    began = time.monotonic()
    while members := [member for group in groups for member in _members(group.number)]:
        waited = time.monotonic() - began
        if waited > seconds or (waited > _IDLE_SECONDS and not any(map(_is_run, members))):
            break
        time.sleep(0.1)
    _signal(groups, signal.SIGKILL)


def _signal(groups: Sequence[Group], number: signal.Signals) -> None:
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group.number, number)


def _still_runs(group: Group, home: Path) -> bool:
    members = _members(group.number)
    for process in members:
        if process.pid == group.number:
            return abs(process.create_time() - group.created) < _CLOCK_SECONDS
    return any(process.create_time() > group.created - _CLOCK_SECONDS and _home_of(process) == str(home) for process in members)


def _is_run(process: psutil.Process) -> bool:
    """Whether it is a run, or a part of one. A code server has it forked (`ops.warm_runs`) by a process that is none itself, and
    has the same command line, or starts it anew.
    """
    try:
        command, parent = process.cmdline(), process.parent()
        is_fork = any(word.startswith(_FORKS_RUNS) for word in command)
        return "--multiprocessing-fork" in command or (is_fork and parent is not None and parent.cmdline() == command)
    except psutil.Error:
        return False


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
