"""Programs started as a user starts them, waited for with a deadline, and never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

PROGRAMS = Path(sys.executable).parent
PROJECT = Path(__file__).parent.parent
_OF_TESTS = {"HL_SETTINGS_RESOLVED", "POLARS_MAX_THREADS"}
_LAUNCH = """
    mutation($run: ExecutionParams!) {
      launchPipelineExecution(executionParams: $run) { __typename ... on LaunchRunSuccess { run { runId } } }
    }
"""


@dataclass(frozen=True, slots=True)
class Program:
    """A running program; `log` is the file that gets all it says."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text()

    def tree(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def interrupt(self, seconds: float) -> int:
        """The exit code after a Ctrl-C that reaches this process alone. Raises TimeoutExpired."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(seconds)

    def answers(self, url: str) -> bool:
        """Whether `url` can be had; fails when the program has ended."""
        assert self.process.poll() is None, f"{self.process.args} ended with {self.process.returncode}:\n{self.output}"
        try:
            return requests.get(url, timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def started(command: list[str], environment: dict[str, str], cwd: Path, log: Path) -> Generator[Program]:
    """`command` while the block runs; afterwards whatever is left of it and its descendants is killed."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    program = Program(process, log)
    try:
        yield program
    finally:
        if process.poll() is None:
            kill_all(program.tree())
            process.wait()


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Kill those that have not ended meanwhile."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def run(command: list[str], environment: dict[str, str], cwd: Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """`command` to its end, standard error in its standard output."""
    return subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )


def program(name: str) -> str:
    """The path of a program of this environment."""
    return str(PROGRAMS / name)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Ask every fifth of a second until it is so; fails after `seconds`, naming `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended; one that only waits for its parent to notice has."""
    return [process for process in processes if process.is_running() and not _is_zombie(process)]


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def users_environment(**variables: str) -> dict[str, str]:
    """This process's environment without what is of tests alone, and with `variables`."""
    return {name: value for name, value in os.environ.items() if name not in _OF_TESTS} | variables


@dataclass(frozen=True, slots=True)
class Ui:
    """The webserver on `port`, asked as its pages ask it."""

    port: int

    @property
    def health(self) -> str:
        return f"http://127.0.0.1:{self.port}/server_info"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer's data to a GraphQL query; fails on errors."""
        response = requests.post(
            f"http://127.0.0.1:{self.port}/graphql", json={"query": query, "variables": variables}, timeout=30
        )
        answer = response.json()
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self, job: str, day: str) -> str:
        """Launch a run of the day, as the launchpad does; its id."""
        run = {
            "selector": {"repositoryLocationName": "hl_pipeline", "repositoryName": "__repository__", "jobName": job},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": day}]},
        }
        launched = self.ask(_LAUNCH, run=run)["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]
