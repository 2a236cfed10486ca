"""`hl up` supervises what it started: a killed service or embedded PostgreSQL is restarted, or everything stops."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
import requests

from hl_pipeline.warehouse.embedded import embedded_url, has_server
from hl_pipeline_tests.processes import free_port, kill_all, program, started, still_there, users_environment, wait_until
from hl_pipeline_tests.services import Up, processes_of, up_in

pytestmark = [pytest.mark.slow, pytest.mark.waits]

_QUICKLY = 5.0
_SERVICES = {"api": "uvicorn", "daemon": "dagster-daemon", "webserver": "dagster-webserver"}


def _server(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0]))


def _service(up: Up, word: str) -> psutil.Process:
    """The child of `hl up` whose command has `word`."""
    [found] = [child for child in psutil.Process(up.program.process.pid).children() if word in " ".join(child.cmdline())]
    return found


def _kill_and_wait(up: Up, name: str, word: str) -> None:
    _service(up, word).kill()
    wait_until(lambda: f"{name} was killed" in up.program.output, 10, f"the death of the {name} is noticed")
    wait_until(lambda: _is_served(up), 90, f"everything works after the {name} was killed")


def _is_served(up: Up) -> bool:
    """Whether API, UI and daemon work with the database."""
    try:
        health = requests.get(f"{up.api}/healthz", timeout=5).json()
        daemons = up.ui.ask("{ instance { daemonHealth { allDaemonStatuses { healthy required } } } }")["instance"]
    except (requests.RequestException, AssertionError, ValueError):
        return False
    statuses = daemons["daemonHealth"]["allDaemonStatuses"]
    return health["status"] == "healthy" and all(status["healthy"] for status in statuses if status["required"])


def test_what_is_killed_comes_back_and_each_death_is_one_line(directory: Path) -> None:
    with up_in(directory, HL_NODE_DATA_URL=".", HL_TWAP_DATA_URL="none") as up:
        wait_until(lambda: _is_served(up), 60, "everything works")
        before = up.program.output

        _server(up.home).kill()
        wait_until(lambda: "the database answers again" in up.program.output, 30, "PostgreSQL is back")
        wait_until(lambda: _is_served(up), 60, "everything works again")
        for name, word in _SERVICES.items():
            _kill_and_wait(up, name, word)

        said = [line for line in up.program.output.removeprefix(before).splitlines() if line.strip()]
        # What a service says until its database's death is noticed, within half a second, is no line of ours.
        of_services = [line for line in said if "|" in line]
        said = [line for line in said if line not in of_services]
        assert len(of_services) < 10, of_services
        assert said[0] == "PostgreSQL has died; restarting in 1 s"
        assert said[1].startswith("the database answers again, after ")
        assert said[2:] == [f"{name} was killed by SIGKILL; restarting in 1 s" for name in _SERVICES]
        began = time.monotonic()
        assert up.program.interrupt(30) == 0
        assert time.monotonic() - began < _QUICKLY
        assert not processes_of(up.home)


def test_a_dead_database_fills_no_log_and_ctrl_c_ends_quickly(directory: Path) -> None:
    with up_in(directory, HL_NODE_DATA_URL=".", HL_TWAP_DATA_URL="none") as up:
        wait_until(lambda: _is_served(up), 60, "everything works")
        log = up.home / "hl.log"
        lines = len(log.read_text().splitlines())
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if has_server(up.home):
                _server(up.home).kill()
            time.sleep(0.1)
        working = [*up.program.tree(), *processes_of(up.home)]
        began = time.monotonic()
        up.program.process.send_signal(signal.SIGINT)
        assert up.program.process.wait(30) == 0
        assert time.monotonic() - began < _QUICKLY
        wait_until(lambda: not still_there(working), 5, "every process is gone")
        assert len(log.read_text().splitlines()) - lines < 400
        assert "PostgreSQL has died; restarting in 8 s" in up.program.output


def test_what_dies_too_often_ends_everything_and_says_why(directory: Path) -> None:
    with up_in(directory, HL_NODE_DATA_URL=".", HL_TWAP_DATA_URL="none") as up:
        deadline = time.monotonic() + 120
        while up.program.process.poll() is None and time.monotonic() < deadline:
            for child in psutil.Process(up.program.process.pid).children():
                # One that is dead already has no command any more.
                with suppress(psutil.NoSuchProcess):
                    if "uvicorn" in " ".join(child.cmdline()):
                        child.kill()
            time.sleep(0.3)
        assert up.program.process.wait(30) == 1
        waits = [f"api was killed by SIGKILL; restarting in {wait} s" for wait in (1, 2, 4, 8, 16)]
        said = [line for line in up.program.output.splitlines() if line.startswith("api ")]
        assert said == [*waits, "api was killed by SIGKILL, the 6th time in 10 minutes"]
        assert not processes_of(up.home)


def test_hl_api_alone_looks_after_its_database(directory: Path) -> None:
    port = free_port()
    home = directory / "home"
    environment = users_environment(HL_HOME=str(home), HL_NODE_DATA_URL=".", HL_TWAP_DATA_URL="none")
    with started([program("hl"), "api", "--port", str(port)], environment, directory, directory / "api.log") as api:
        try:
            health = f"http://127.0.0.1:{port}/healthz"
            wait_until(lambda: api.answers(health), 60, "the API answers")
            _server(home).kill()
            wait_until(lambda: "the database answers again" in api.output, 30, "PostgreSQL is back")
            assert requests.get(health, timeout=5).json()["status"] == "healthy"
            with psycopg.connect(embedded_url(home)) as connection:
                assert connection.execute("SELECT count(*) FROM hl.fills_days").fetchone() == (0,)
            assert "PostgreSQL has died; restarting in 1 s" in api.output
            began = time.monotonic()
            assert api.interrupt(30) == 0
            assert time.monotonic() - began < _QUICKLY
        finally:
            kill_all(processes_of(home))
