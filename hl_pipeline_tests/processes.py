"""Starts programs as a user does, waits for them with a deadline, and never leaves them behind."""

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

from hl_pipeline_tests.marked_secrets import assert_no_secret

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
    """A running program. `log` is the file with all its output."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text()

    def tree(self) -> list[psutil.Process]:
        """Return the process and all its descendants."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def interrupt(self, seconds: float) -> int:
        """Send Ctrl-C to this process alone, and return its exit code. Raises TimeoutExpired."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(seconds)

    def answers(self, url: str) -> bool:
        """Return whether `url` responds. Fails if the program has ended."""
        assert self.process.poll() is None, f"{self.process.args} ended with {self.process.returncode}:\n{self.output}"
        try:
            return requests.get(url, timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def started(command: list[str], environment: dict[str, str], cwd: Path, log: Path) -> Generator[Program]:
    """Run `command` during the block. Afterwards, kill it and its descendants if they still run."""
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
    """Kill the processes that have not ended."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def run(command: list[str], environment: dict[str, str], cwd: Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end. Its standard error goes to its standard output."""
    done = subprocess.run(
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
    assert_no_secret(done.stdout, " ".join(command))
    return done


def program(name: str) -> str:
    """Return the path of a program in this environment."""
    return str(PROGRAMS / name)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Check `condition` every fifth of a second until it is true. Fails after `seconds` with `what` in the message."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that have not ended. Zombies count as ended."""
    return [process for process in processes if process.is_running() and not _is_zombie(process)]


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def users_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without the variables of tests, plus `variables`."""
    return {name: value for name, value in os.environ.items() if name not in _OF_TESTS} | variables


@dataclass(frozen=True, slots=True)
class Ui:
    """The webserver on `port`, queried as its own pages do."""

    port: int

    @property
    def health(self) -> str:
        return f"http://127.0.0.1:{self.port}/server_info"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of a GraphQL response. Fails on errors."""
        response = requests.post(
            f"http://127.0.0.1:{self.port}/graphql", json={"query": query, "variables": variables}, timeout=30
        )
        assert_no_secret(response.text, "GraphQL")
        answer = response.json()
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self, job: str, day: str) -> str:
        """Launch a run of the day, as the launchpad does. Returns its ID."""
        run = {
            "selector": {"repositoryLocationName": "hl_pipeline", "repositoryName": "__repository__", "jobName": job},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": day}]},
        }
        launched = self.ask(_LAUNCH, run=run)["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]
