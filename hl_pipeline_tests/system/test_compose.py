"""docker-compose.yml and the image, as far as testable without Docker: their content, and each command as a plain process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings, variable
from hl_pipeline_tests.processes import PROJECT, run
from hl_pipeline_tests.servers.compose import why_not

pytestmark = pytest.mark.waits

DAY = date(2025, 9, 1)

_PASSWORD = "Correct-horse_1"


def _services() -> dict[str, dict[str, Any]]:
    return yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]


def test_each_service_has_a_pinned_image_a_health_check_and_real_dependencies() -> None:
    services = _services()

    assert set(services) == {"postgres", "migrate", "code", "webserver", "daemon", "api", "worker", "redis"}
    for name, service in services.items():
        assert service["image"] == "hl-pipeline" or re.fullmatch(r"\w+:\d+\.\d+(\.\d+)?-\w+", service["image"]), name
        # The migration ends; whatever waits for it waits for its success.
        is_step = name == "migrate"
        assert service["restart"] == ("on-failure" if is_step else "unless-stopped"), name
        assert is_step or service["healthcheck"]["test"][0] == "CMD", name
        for needed, how in service.get("depends_on", {}).items():
            ends = "service_completed_successfully" if needed == "migrate" else "service_healthy"
            assert (needed in services, how) == (True, {"condition": ends}), (name, needed)
    assert {name for name, service in services.items() if service.get("profiles") == ["workers"]} == {"worker", "redis"}


def test_services_of_the_image_write_to_volumes_only_and_have_no_capabilities() -> None:
    for name, service in _services().items():
        if service["image"] == "hl-pipeline":
            assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"]), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert _services()["api"]["volumes"] == ["lake:/var/lib/hl/lake:ro"]


def test_no_secret_is_in_a_file_and_every_reader_of_buckets_gets_every_way_of_credentials() -> None:
    ways = {
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    }
    for name in ("code", "worker", "api"):
        given = {key: value for key, value in _services()[name]["environment"].items() if key.startswith("AWS_")}
        assert ways <= given.keys(), name
        assert set(given.values()) == {None}, name
    for name, service in _services().items():
        for variable_name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|DATABASE_URL|API_KEYS", variable_name):
                assert value is None or "${POSTGRES_PASSWORD:?" in value, (name, variable_name)


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs docker-compose")
def test_files_beside_it_mount_aws_profiles_read_only_and_open_postgresql_to_this_machine(tmp_path: Path) -> None:
    files = ("docker-compose.yml", "docker/compose.aws.yml", "docker/compose.psql.yml")
    options = ["--profile", "workers", *(word for file in files for word in ("-f", file))]
    given = {"POSTGRES_PASSWORD": _PASSWORD, "AWS_PROFILE": "data", "AWS_DIRECTORY": "/etc/aws", "HL_POSTGRES_PORT": "5433"}
    services = yaml.safe_load(_config(given, tmp_path, *options))["services"]

    for name in ("code", "api", "worker"):
        assert "/etc/aws:/home/hl/.aws:ro" in services[name]["volumes"], name
        assert services[name]["environment"]["AWS_PROFILE"] == "data"
    assert services["postgres"]["ports"] == ["127.0.0.1:5433:5432/tcp"]
    assert services["worker"]["environment"]["HL_LAUNCHER"] == "celery"


@pytest.mark.slow
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
    assert {services[name]["environment"]["HL_DATABASE_URL"] for name in ("migrate", "code", "webserver", "daemon", "api")} == {
        url
    }


def test_runs_are_handed_every_setting() -> None:
    elsewhere = {
        "HL_HOME",  # the image's
        "HL_DAGSTER_DATABASE_URL",  # follows from HL_DATABASE_URL
        "HL_PORT",  # the port on this machine, of the webserver
        "HL_API_PORT",  # the same of the API
        "HL_PATH_PREFIX",  # there it is Dagster's own variable
        "HL_RUNS_AT_ONCE",  # of the daemon, which starts runs
        "HL_API_URL",  # of `hl mcp`, which runs where the agent does
        "HL_API_KEY",
        "HL_LAUNCHER",  # for several machines, as are brokers
        "HL_BROKER_URL",
    }
    of_workers = {"HL_LAUNCHER", "HL_BROKER_URL"}

    handed = {name for name in _services()["code"]["environment"] if name.startswith("HL_")}
    handed_to_api = {name for name in _services()["api"]["environment"] if name.startswith("HL_API_")}

    settings = {variable(name) for name in Settings.model_fields} - elsewhere
    assert handed_to_api == {name for name in settings if name.startswith("HL_API_")}
    assert handed - of_workers == settings - handed_to_api - of_workers
    assert all(of_workers <= _services()[name]["environment"].keys() for name in ("code", "webserver", "daemon", "worker"))
    assert handed - of_workers <= _services()["worker"]["environment"].keys()
    assert "HL_RUNS_AT_ONCE" in _services()["daemon"]["environment"]
    assert "HL_HOME=" in (PROJECT / "Dockerfile").read_text()


def test_nothing_is_published_but_the_ui_and_the_api_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in _services().items() if "ports" in service}

    assert published == {"webserver": ["127.0.0.1:${HL_PORT:-3000}:3000"], "api": ["127.0.0.1:${HL_API_PORT:-8000}:8000"]}


@pytest.mark.slow
def test_the_server_is_set_as_the_embedded_one(connection: psycopg.Connection) -> None:
    _, *settings = _services()["postgres"]["command"]
    said = dict(setting.removeprefix("-c").split("=") for setting in settings)

    here = {name: connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in said}

    assert said["wal_level"] == "minimal"
    assert here == {name: (value,) for name, value in said.items()}


def test_the_image_gets_just_the_files_that_it_copies_and_is_not_run_as_root() -> None:
    dockerfile = (PROJECT / "Dockerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    copied = {name for line in copies for name in line.split()}
    let_through = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert copied == let_through
    assert all((PROJECT / name).exists() for name in copied)
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE) == ["1000"]
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"python:3.11.14-slim-bookworm"}
    makefile = (PROJECT / "Makefile").read_text()
    assert re.findall(r"uv==(\S+)", dockerfile) == re.findall(r"UV_VERSION := (\S+)", makefile)


@pytest.mark.slow
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_each_service_runs_in_order_with_a_read_only_root_and_a_day_is_loaded_and_read() -> None:
    with tempfile.TemporaryDirectory(prefix="hl-compose-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        home = directory / "volumes" / "home"
        home.mkdir(parents=True)
        sample = write_sample(home / "sample", first_day=DAY, days=1, fills_per_hour=300)
        given = {
            "POSTGRES_PASSWORD": _PASSWORD,
            "HL_NODE_DATA_URL": f"/var/lib/hl/sample/{sample.node_data_dir.relative_to(home / 'sample')}",
            "HL_TWAP_DATA_URL": "none",
            "HL_INFO_URL": "none",
        }
        (directory / "config.yml").write_text(_config(given, directory))
        inside = [sys.executable, "-m", "hl_pipeline_tests.servers.compose", directory / "config.yml", directory, str(DAY)]
        done = subprocess.run(
            ["unshare", "--mount", "--net", "--propagation", "private", *inside],
            cwd=PROJECT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        seen = json.loads(done.stdout)
        rows = json.loads((sample.truth_dir / "days.json").read_text())["days"][str(DAY)]["rows"]

    assert seen["order"][:2] == ["postgres", "migrate"]
    assert seen["order"].index("code") < seen["order"].index("webserver") < seen["order"].index("daemon")
    assert seen["run"] == "SUCCESS"
    assert seen["psql"] == [f"{DAY}|{rows}"]
    assert seen["lake"] == 24
    [day] = [day for day in seen["days"]["days"] if day["what"] == "fills"]
    assert (day["date"], day["rows"]) == (str(DAY), rows)
    assert (seen["health"]["status"], seen["health"]["database"]) == ("healthy", "connected")
    assert seen["status"][0] == 0
    assert str(DAY) in seen["status"][1]
    # Having stopped in order, uvicorn ends by the signal that it was sent.
    assert seen["exit codes"] == {"daemon": 0, "webserver": 0, "code": 0, "api": -signal.SIGTERM}


def _config(given: dict[str, str], directory: Path, *options: str) -> str:
    """What docker-compose makes of the file with these variables in .env."""
    (directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    command = ["docker-compose", *options, "--env-file", str(directory / ".env"), "config"]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
