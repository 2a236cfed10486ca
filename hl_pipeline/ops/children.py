"""Services as child processes: started by name, each in its own process group, and stopped together."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil

from hl_pipeline.ops.process_groups import Group, remember_groups, stop_groups


class Children:
    """The children of this process. Their groups are written to `file`, so that they can be found if this process is killed."""

    def __init__(self, spawn: Callable[[str], subprocess.Popen[str]], file: Path | None = None) -> None:
        self._spawn = spawn
        self._file = file
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._groups: list[Group] = []

    def start(self, name: str) -> None:
        """Start a service. Processes that a dead service of this name launched continue: runs record their own end."""
        child = self._processes[name] = self._spawn(name)
        self._groups.append(Group(name, child.pid, psutil.Process(child.pid).create_time()))
        if self._file is not None:
            remember_groups(self._file, self._groups)

    def why_ended(self, name: str) -> str | None:
        """Return why a service ended, or None while it runs."""
        code = self._processes[name].poll()
        if code is None:
            return None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    def stop(self, seconds: float) -> None:
        """Interrupt all children and their processes, and kill the rest after `seconds`."""
        stop_groups(self._groups, seconds)
        for child in self._processes.values():
            child.wait()
        if self._file is not None:
            self._file.unlink(missing_ok=True)
