"""docker-compose.yml and the image, as far as testable without Docker: their content, and each command as a plain process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
import yaml

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings, variable
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.processes import PROGRAMS, PROJECT, Program, Ui, free_port, run, started, still_there, wait_until

pytestmark = pytest.mark.waits

_PASSWORD = "Correct-horse_1"
_STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


def _services() -> dict[str, dict[str, Any]]:
    return yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]


def test_each_service_has_an_image_health_check_restart_policy_and_real_dependencies() -> None:
    services = _services()

    assert set(services) == {"postgres", "code", "webserver", "daemon", "api"}
    for name, service in services.items():
        assert service["image"], name
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert set(service.get("depends_on", {})) <= set(services), name
        assert all(how == {"condition": "service_healthy"} for how in service.get("depends_on", {}).values()), name


def test_the_password_reaches_every_service_and_a_missing_one_is_said(tmp_path: Path) -> None:
    url = f"postgresql://hl:{_PASSWORD}@postgres:5432/hl"
    if shutil.which("docker-compose"):
        environment = {"PATH": os.environ["PATH"], "HL_DECODE_THREADS": "7"}
        (tmp_path / "empty").touch()
        command = ["docker-compose", "--env-file", str(tmp_path / "empty"), "config"]
        refused = run(command, environment, PROJECT)
        done = run(command, environment | {"POSTGRES_PASSWORD": _PASSWORD}, PROJECT)
        assert refused.returncode != 0
        assert "set it to a password" in refused.stdout
        assert done.returncode == 0, done.stdout
        services = yaml.safe_load(done.stdout)["services"]
        assert services["code"]["environment"]["HL_DECODE_THREADS"] == "7"
    else:
        text = (PROJECT / "docker-compose.yml").read_text()
        assert len(re.findall(r"\$\{POSTGRES_PASSWORD:\?set it to a password[^}]*\}", text)) == text.count("${POSTGRES_PASSWORD")
        services = yaml.safe_load(re.sub(r"\$\{POSTGRES_PASSWORD:\?[^}]*\}", _PASSWORD, text))["services"]
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == _PASSWORD
    assert {services[name]["environment"]["HL_DATABASE_URL"] for name in ("code", "webserver", "daemon", "api")} == {url}


def test_runs_are_handed_every_setting() -> None:
    elsewhere = {
        "HL_HOME",  # the image's
        "HL_DAGSTER_DATABASE_URL",  # follows from HL_DATABASE_URL
        "HL_PORT",  # the port on this machine, of the webserver
        "HL_API_PORT",  # the same of the API
        "HL_PATH_PREFIX",  # there it is Dagster's own variable
        "HL_RUNS_AT_ONCE",  # of the daemon, which starts runs
        "HL_LAUNCHER",  # for several machines, as are brokers
        "HL_BROKER_URL",
    }

    handed = {name for name in _services()["code"]["environment"] if name.startswith("HL_")}
    handed_to_api = {name for name in _services()["api"]["environment"] if name.startswith("HL_API_")}

    settings = {variable(name) for name in Settings.model_fields} - elsewhere
    assert handed_to_api == {name for name in settings if name.startswith("HL_API_")}
    assert handed == settings - handed_to_api
    assert "HL_RUNS_AT_ONCE" in _services()["daemon"]["environment"]
    assert "HL_HOME=" in (PROJECT / "Dockerfile").read_text()


def test_nothing_is_published_but_the_ui_and_the_api_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in _services().items() if "ports" in service}

    assert published == {"webserver": ["127.0.0.1:${HL_PORT:-3000}:3000"], "api": ["127.0.0.1:${HL_API_PORT:-8000}:8000"]}


def test_the_server_is_set_as_the_embedded_one(connection: psycopg.Connection) -> None:
    _, *settings = _services()["postgres"]["command"]
    said = dict(setting.removeprefix("-c").split("=") for setting in settings)

    here = {name: connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in said}

    assert said["wal_level"] == "minimal"
    assert here == {name: (value,) for name, value in said.items()}


def test_the_image_gets_just_the_files_that_it_copies_and_is_not_run_as_root() -> None:
    dockerfile = (PROJECT / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()}
    let_through = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert copied == let_through
    assert all((PROJECT / name).exists() for name in copied)
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE) == ["hl"]
    makefile = (PROJECT / "Makefile").read_text()
    assert re.findall(r"uv==(\S+)", dockerfile) == re.findall(r"UV_VERSION := (\S+)", makefile)


@pytest.mark.slow
def test_each_command_passes_its_health_check_and_a_run_is_done_where_the_lake_is(world: World, tmp_path: Path) -> None:
    sample = write_sample(tmp_path / "sample", first_day=date(2025, 9, 1), days=1, fills_per_hour=300)
    services = _prepare(tmp_path, world.environment | {"HL_NODE_DATA_URL": str(sample.node_data_dir)})
    with ExitStack() as stack:
        programs: dict[str, Program] = {}
        for name, service in services.items():
            programs[name] = stack.enter_context(
                started(service.command, service.environment, tmp_path, tmp_path / f"{name}.log")
            )
            wait_until(partial(_is_healthy, service, tmp_path), 60, f"{name} is healthy")

        _materialize("2025-09-01", Ui(services["webserver"].port))

        rows = json.loads((sample.truth_dir / "days.json").read_text())["days"]["2025-09-01"]["rows"]
        with psycopg.connect(world.database_url) as connection:
            assert connection.execute("SELECT date, rows FROM hl.fills_days").fetchall() == [(date(2025, 9, 1), rows)]
        assert len([*(tmp_path / "lake" / "fills" / "date=2025-09-01").glob("*.parquet")]) == 24
        health = requests.get(f"http://127.0.0.1:{services['api'].port}/healthz", timeout=10).json()
        assert (health["status"], health["database"]) == ("healthy", "connected")
        # Having stopped in order, uvicorn ends by the signal that it was sent.
        assert _stop(programs["api"]) == -signal.SIGTERM, programs["api"].output
        for name in ("daemon", "webserver", "code"):
            assert _stop(programs[name]) == 0, programs[name].output


@dataclass(frozen=True, slots=True)
class _Service:
    """A service of docker-compose.yml as a plain process of this machine."""

    command: list[str]
    health_check: list[str]
    environment: dict[str, str]
    port: int


def _prepare(directory: Path, values: dict[str, str]) -> dict[str, _Service]:
    """The services of the image; each gets of `values` the variables that docker-compose.yml hands to it, and no other."""
    ports = {"3000": free_port(), "4000": free_port(), "8000": free_port()}
    home = directory / "dagster"
    home.mkdir()
    shutil.copyfile(PROJECT / "dagster.yaml", home / "dagster.yaml")
    workspace = (PROJECT / "docker" / "workspace.yaml").read_text()
    assert "host: code\n" in workspace
    assert "port: 4000\n" in workspace
    (home / "workspace.yaml").write_text(workspace.replace("code\n", "127.0.0.1\n").replace("4000", str(ports["4000"])))

    def translate(words: list[str]) -> list[str]:
        here = {"0.0.0.0": "127.0.0.1", "docker/workspace.yaml": str(home / "workspace.yaml")}
        here |= {number: str(port) for number, port in ports.items()}
        return [
            here.get(word, word).replace(":3000", f":{ports['3000']}").replace(":8000", f":{ports['8000']}") for word in words
        ]

    of_the_image = {name: value for name, value in os.environ.items() if not name.startswith("HL_")} | {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "DAGSTER_HOME": str(home),
        "HL_HOME": str(directory / "home"),
        "HL_SETTINGS_RESOLVED": "1",
    }
    return {
        name: _Service(
            translate(service["command"]),
            translate(service["healthcheck"]["test"][1:]),
            of_the_image | {key: values[key] for key in service["environment"] if key in values},
            ports[{"code": "4000", "api": "8000"}.get(name, "3000")],
        )
        for name, service in _services().items()
        if name != "postgres"
    }


def _is_healthy(service: _Service, cwd: Path) -> bool:
    return run(service.health_check, service.environment, cwd).returncode == 0


def _materialize(day: str, ui: Ui) -> None:
    run_id = ui.launch("ingest_days", day)

    def status() -> str:
        return ui.ask(_STATUS, id=run_id)["runOrError"]["status"]

    wait_until(lambda: status() in {"SUCCESS", "FAILURE"}, 60, "the run has ended")
    assert status() == "SUCCESS"


def _stop(program: Program) -> int:
    """The exit code after SIGTERM to the whole group, as the container's init sends it."""
    tree = program.tree()
    os.killpg(program.process.pid, signal.SIGTERM)
    code = program.process.wait(30)
    wait_until(lambda: not still_there(tree), 30, f"{program.process.args} and its children are gone")
    return code
