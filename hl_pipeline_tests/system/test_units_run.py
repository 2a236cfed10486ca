"""Protects deploy/systemd: the commands of the units work with nothing but the units' environment and the settings file."""

from __future__ import annotations

import configparser
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.processes import PROJECT, free_port, program, started, wait_until
from hl_pipeline_tests.tools.write_units import make_units


@pytest.mark.slow
def test_the_services_of_the_units_work_one_by_one_on_a_database_of_its_own(tmp_path: Path, new_database: NewDatabase) -> None:
    ports = {"-p 3000": free_port(), "--port 8000": free_port()}
    home = tmp_path / "hl"
    home.mkdir()
    # As hl.env has it. The new schema is made by `hl upgrade`, as the page about operations says.
    settings = {"HL_DATABASE_URL": new_database("template0"), "HL_DAGSTER_DATABASE_URL": new_database("template0")}
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "HL_HOME": str(home), **settings}
    subprocess.run([program("hl"), "upgrade", "--yes"], env=bare, cwd=home, check=True, timeout=120, stdout=subprocess.DEVNULL)

    with ExitStack() as stack:
        running = {}
        for name in ("hl-webserver.service", "hl-daemon.service", "hl-api.service"):
            unit = configparser.ConfigParser(strict=False, interpolation=None)
            text = make_units(PROJECT)[name].replace("/var/lib/hl", str(home))
            for option, port in ports.items():
                text = text.replace(option, f"{option.split()[0]} {port}")
            unit.read_string(text)
            service = unit["Service"]
            environment = bare | dict(word.split("=", 1) for word in service["Environment"].split())
            if "ExecStartPre" in service:
                subprocess.run(service["ExecStartPre"].split(), env=environment, check=True)
            running[name] = stack.enter_context(
                started(service["ExecStart"].split(), environment, Path(service["WorkingDirectory"]), tmp_path / f"{name}.log")
            )
        ui, api = (f"http://127.0.0.1:{port}" for port in ports.values())
        wait_until(lambda: running["hl-webserver.service"].answers(f"{ui}/server_info"), 120, "the UI answers")
        wait_until(lambda: running["hl-api.service"].answers(f"{api}/healthz"), 60, "the API answers")
        assert requests.get(f"{api}/healthz", timeout=10).json()["database"] == "connected"
        query = {"query": "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"}

        def daemons_are_healthy() -> bool:
            answer = requests.post(f"{ui}/graphql", json=query, timeout=30).json()
            found = answer["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
            return all(daemon["healthy"] for daemon in found if daemon["required"])

        wait_until(daemons_are_healthy, 120, "the daemons are healthy")
        for name, one in running.items():
            one.process.send_signal(signal.SIGTERM)
            # A program that SIGTERM ends is no failure to systemd.
            assert one.process.wait(30) in (0, -signal.SIGTERM), (name, one.output)
