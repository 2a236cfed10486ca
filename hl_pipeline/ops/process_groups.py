"""Process groups of services: all processes of a service end with it, and those left by a killed `hl up` are found again."""

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
_CLOCK_SECONDS = 1.0  # maximum error of a process's creation time


class Group(NamedTuple):
    """A service's process group: the pid of its leader, and when it started (seconds since 1970)."""

    name: str
    number: int
    created: float


def remember_groups(file: Path, groups: Sequence[Group]) -> None:
    """Write the groups to a file for `find_left`."""
    made = file.with_suffix(".new")
    made.write_text(json.dumps(groups))
    made.replace(file)


def find_left(file: Path, home: Path) -> list[Group]:
    """Return the groups in the file that still run.

    Reused pids are excluded: a group counts only if its leader started at the recorded time or, if the leader is gone, if it has
    processes that started later and belong to `home`.
    """
    try:
        groups = [Group(*group) for group in json.loads(file.read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []
    return [group for group in groups if _still_runs(group, home)]


def stop_groups(groups: Sequence[Group], seconds: float) -> None:
    """Interrupt the services and all their processes. A run in progress records the interruption and ends.

    Runs get `seconds` to end. Everything else is killed after a second: a code server without a run would take four.
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
    """Return whether the process is a run or part of one. A code server starts runs directly, or as forks of a process
    (`ops.warm_runs`) that has the same command line but is not a run.
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
    """Return the processes of a group that still run, without zombies."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
