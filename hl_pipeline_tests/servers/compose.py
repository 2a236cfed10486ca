"""Runs the services of docker-compose.yml as plain processes, each with the file systems that its container would have.

`docker-compose config` gives the commands, environments, health checks, volumes and the order. A network namespace gives every
service its own port and name, and a mount namespace per service its volumes, a private /tmp and a read-only root. What is not
tested: the images, the user of the containers, their init process and their networks. Needs root.

The module is run within the namespaces: `unshare --mount --net python -m hl_pipeline_tests.servers.compose CONFIG DIRECTORY DAY`.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import requests
import yaml

from hl_pipeline.warehouse.embedded import binary
from hl_pipeline_tests.processes import PROGRAMS, PROJECT, Program, Ui, run, started, still_there, wait_until

_MOST_SECONDS = 180
_STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
_POSTGRES_USER = next(entry for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody"))


@dataclass(frozen=True, slots=True)
class Service:
    """A service. `wrap` puts a command into the file systems of its container; `environment` has the image's variables too."""

    name: str
    command: list[str]
    health_check: list[str] | None
    environment: dict[str, str]
    wrap: list[str]
    needs: dict[str, str]

    def is_healthy(self) -> bool:
        assert self.health_check is not None
        return run([*self.wrap, *self.health_check], self.environment, PROJECT).returncode == 0


def read_services(config: dict[str, Any], directory: Path) -> dict[str, Service]:
    """Return the services of the image that start by default, of a file as `docker-compose config` prints it."""
    return {
        name: Service(
            name,
            service["command"],
            service["healthcheck"]["test"][1:] if "healthcheck" in service else None,
            _environment_of_image() | {key: value for key, value in service["environment"].items() if value is not None},
            _in_container(service, directory),
            {needed: how["condition"] for needed, how in service["depends_on"].items()},
        )
        for name, service in config["services"].items()
        if service["image"] == "hl-pipeline" and not service.get("profiles")
    }


def _environment_of_image() -> dict[str, str]:
    """Return the variables of the Dockerfile's last stage. PATH and PYTHONPATH lead to this machine's programs and code."""
    [text] = re.findall(r"^ENV (.*?[^\\])\n", (PROJECT / "Dockerfile").read_text().split("\nFROM ")[-1], re.MULTILINE | re.DOTALL)
    variables = dict(word.split("=", 1) for word in text.replace("\\\n", " ").split())
    path = f"{PROGRAMS}:{binary('psql').parent}:{os.environ['PATH']}"
    return variables | {"PATH": path, "PYTHONPATH": str(PROJECT), "HOME": "/tmp"}


def _in_container(service: dict[str, Any], directory: Path) -> list[str]:
    """Return the words before a command that give it the directories of the image, its volumes, and nothing else to write to."""
    lines = ["set -e", "mount -t tmpfs none /var/lib", "mkdir -p /var/lib/hl/lake /var/lib/dagster/storage"]
    lines.append(f"cp {PROJECT}/dagster.yaml /var/lib/dagster/")
    mounted = sorted((volume.split(":") for volume in service["volumes"]), key=lambda volume: volume[1])
    for name, target, *options in mounted:
        lines += [f"mkdir -p {target}", f"mount --bind {directory}/volumes/{name} {target}"]
        lines += [f"mount -o remount,bind,ro {target}"] if "ro" in options else []
    if service.get("read_only"):
        lines += ["mount -o remount,ro /var/lib", "mount -o remount,ro,bind /"]
    lines += [f"mount -t tmpfs none {target}" for target in service.get("tmpfs", [])]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join([*lines, 'exec "$@"']), "container"]


@contextmanager
def _postgres(config: dict[str, Any], directory: Path) -> Generator[None]:
    """Run the service postgres as its image does: its user, its database, its password, TCP."""
    service = config["services"]["postgres"]
    given, data = service["environment"], directory / "volumes" / "postgres" / "data"
    password = directory / "password"
    password.write_text(given["POSTGRES_PASSWORD"])
    for path in (data.parent, password):
        os.chown(path, _POSTGRES_USER.pw_uid, _POSTGRES_USER.pw_gid)
    as_user = ["setpriv", f"--reuid={_POSTGRES_USER.pw_uid}", f"--regid={_POSTGRES_USER.pw_gid}", "--clear-groups"]
    user, database = given["POSTGRES_USER"], given["POSTGRES_DB"]
    made = ["initdb", "-U", user, "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "-D", data]
    environment = {"PATH": f"{binary('postgres').parent}:{os.environ['PATH']}"}
    subprocess.run([*as_user, *made], env=environment, cwd="/", check=True, stdout=subprocess.DEVNULL)
    command = [*as_user, *service["command"], "-D", str(data), "-clisten_addresses=*", f"-cunix_socket_directories={data.parent}"]
    with started(command, environment, Path("/"), directory / "postgres.log") as program:
        check = service["healthcheck"]["test"][1:]
        wait_until(lambda: run(check, environment, Path("/")).returncode == 0, 60, f"postgres is healthy: {program.output}")
        url = f"postgresql://{user}:{given['POSTGRES_PASSWORD']}@postgres:5432/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}".encode())
        yield


def run_services(config: dict[str, Any], directory: Path, day: str) -> dict[str, Any]:
    """Start every service in the order of the file, load a day through the UI, read it from outside, and stop. Returns what was
    seen.
    """
    services = read_services(config, directory)
    with ExitStack() as stack:
        stack.enter_context(_postgres(config, directory))
        programs: dict[str, Program] = {}
        done = {"postgres": "service_healthy"}
        while waiting := [service for name, service in services.items() if name not in done]:
            service = next(one for one in waiting if one.needs.items() <= done.items())
            program = stack.enter_context(
                started([*service.wrap, *service.command], service.environment, PROJECT, directory / f"{service.name}.log")
            )
            if service.health_check is None:
                assert program.process.wait(_MOST_SECONDS) == 0, program.output
                done[service.name] = "service_completed_successfully"
            else:
                wait_until(
                    partial(_is_up, service, program), _MOST_SECONDS, f"{service.name} is healthy: {program.output[-2000:]}"
                )
                programs[service.name] = program
                done[service.name] = "service_healthy"
        seen: dict[str, Any] = {"order": [*done], "run": _materialize(day)}
        code = services["code"]
        status = run([*code.wrap, "hl", "status"], code.environment, PROJECT)
        url = code.environment["HL_DATABASE_URL"]
        query = ["psql", url, "-Atc", "SELECT date, rows FROM hl.fills_days WHERE rows > 0"]
        seen |= {
            "status": [status.returncode, status.stdout],
            "psql": run(query, code.environment, PROJECT).stdout.split(),
            "health": requests.get("http://127.0.0.1:8000/healthz", timeout=30).json(),
            "days": requests.get(f"http://127.0.0.1:8000/api/v1/coverage/days?start={day}&end={day}", timeout=30).json(),
            "lake": len([*(directory / "volumes/lake/fills" / f"date={day}").glob("*.parquet")]),
            "exit codes": {name: _stop(programs[name]) for name in reversed(programs)},
        }
    return seen


def _is_up(service: Service, program: Program) -> bool:
    assert program.process.poll() is None, f"{service.name} ended with {program.process.returncode}:\n{program.output}"
    return service.is_healthy()


def _materialize(day: str) -> str:
    """Launch a run of the day through GraphQL, and return its final status."""
    ui = Ui(3000)
    run_id = ui.launch("ingest_days", day)

    def status() -> str:
        return ui.ask(_STATUS, id=run_id)["runOrError"]["status"]

    wait_until(lambda: status() in {"SUCCESS", "FAILURE"}, _MOST_SECONDS, "the run has ended")
    return status()


def _stop(program: Program) -> int:
    """The exit code after SIGTERM to the whole group, as the container's init sends it."""
    tree = program.tree()
    os.killpg(program.process.pid, signal.SIGTERM)
    code = program.process.wait(60)
    wait_until(lambda: not still_there(tree), 60, f"{program.process.args} and its children are gone")
    return code


def main(config_file: str, directory: str, day: str) -> None:
    """Set the namespaces up, run the services, and print what was seen as JSON."""
    config, root = yaml.safe_load(Path(config_file).read_text()), Path(directory)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    hosts = root / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(config['services'])}\n")
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
    for name in config["volumes"]:
        (root / "volumes" / name).mkdir(parents=True, exist_ok=True)
    (root / "volumes" / "home" / "lake").mkdir(exist_ok=True)
    print(json.dumps(run_services(config, root, day)))  # noqa: T201


def why_not() -> str | None:
    """Return what is missing to run the services here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in ("docker-compose", "unshare", "ip", "setpriv") if shutil.which(name) is None]
    return f"needs {shlex.join(missing)}" if missing else None


if __name__ == "__main__":
    main(*sys.argv[1:])
