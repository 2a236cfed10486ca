"""`hl up` and workers as on machines of their own: network namespaces that share no directory, and services over TCP.

Without root, or without `ip`, the workers are processes of this network with directories of their own.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from hl_pipeline.sample.generate import Sample
from hl_pipeline.sample.info_server import serve_info
from hl_pipeline_tests.processes import Program, Ui, free_port, kill_all, program, started, users_environment, wait_until
from hl_pipeline_tests.servers.postgres import PostgresServer, serve_postgres
from hl_pipeline_tests.servers.s3 import S3Server, serve_s3
from hl_pipeline_tests.services import up_in

_LAKE, _NODES, _TWAPS = "workers-lake", "workers-nodes", "workers-twaps"
_RUNS = """
SELECT r.run_id, r.status, r.partition, coalesce(t.value, '')
FROM runs r LEFT JOIN run_tags t ON t.run_id = r.run_id AND t.key = 'dagster/parent_run_id' ORDER BY r.id
"""
_LIMIT = """
    mutation($key: String!, $limit: Int!) { setConcurrencyLimit(concurrencyKey: $key, limit: $limit) }
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A run in Dagster's database. `parent`: the ID of the run that it retries, or an empty string."""

    run_id: str
    status: str
    partition: str
    parent: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine for workers: its command prefix, and the link by which it can be cut off."""

    name: str
    prefix: tuple[str, ...] = ()
    link: str | None = None

    def cut(self) -> None:
        """Cut the machine off the network."""
        _ip("link", "set", str(self.link), "down")

    def mend(self) -> None:
        _ip("link", "set", str(self.link), "up")


@dataclass(slots=True)
class Worker:
    """A running `hl worker`."""

    program: Program

    @property
    def name(self) -> str:
        found = re.search(r"^worker (\S+), code", self.program.output, re.MULTILINE)
        assert found is not None, self.program.output
        return found[1]

    @property
    def is_ready(self) -> bool:
        assert self.program.process.poll() is None, self.program.output
        return "waiting for runs" in self.program.output

    def kill(self) -> None:
        """Kill all its processes at once, like a machine that loses power."""
        for process in self.program.tree():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        kill_all(self.program.tree())
        self.program.process.wait()

    def terminate(self) -> None:
        """Tell it to end, as systemd does."""
        self.program.process.send_signal(signal.SIGTERM)


@dataclass(slots=True)
class Cluster:
    """The services, and `hl up` on a machine of its own."""

    directory: Path
    postgres: PostgresServer
    s3: S3Server
    environment: dict[str, str]
    machines: list[Machine]
    ui: Ui = field(default_factory=lambda: Ui(0))
    redis: Program | None = None
    _count: int = 0

    @property
    def database_url(self) -> str:
        return self.environment["HL_DATABASE_URL"]

    @contextmanager
    def worker(self, machine: Machine, *, slots: int = 1, pythonpath: Path | None = None) -> Generator[Worker]:
        """Run a worker with a home and a working directory of its own."""
        self._count += 1
        place = self.directory / f"{machine.name}-{self._count}"
        place.mkdir()
        environment = users_environment(**self.environment, HL_HOME=str(place / "home"), HL_RUNS_AT_ONCE=str(slots))
        if pythonpath is not None:
            environment["PYTHONPATH"] = str(pythonpath)
        with started([*machine.prefix, program("hl"), "worker"], environment, place, place / "worker.log") as running:
            yield Worker(running)

    def runs(self) -> list[Run]:
        """Return all runs in order of creation."""
        with psycopg.connect(self.postgres.url("hl_dagster"), autocommit=True) as connection:
            return [Run(*row) for row in connection.execute(_RUNS.encode())]

    def ask(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True, options="-c timezone=UTC") as connection:
            return connection.execute(query.encode(), arguments or None).fetchall()

    def wait_for(self, run_ids: Iterable[str], seconds: float) -> None:
        """Wait until these runs, or runs that retry them, have succeeded."""
        wanted = set(run_ids)

        def ended() -> bool:
            runs = self.runs()
            parents = {run.run_id: run.parent for run in runs}
            done: set[str] = set()
            for run in runs:
                if run.status == "SUCCESS":
                    of = run.run_id
                    while of:
                        done.add(of)
                        of = parents.get(of, "")
            return wanted <= done

        try:
            wait_until(ended, seconds, "the runs have succeeded")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.runs()}") from None

    def let_shards_run(self, at_once: int) -> None:
        self.ui.ask(_LIMIT, key="info_api", limit=at_once)

    def fetch_lake(self, target: Path) -> Path:
        """Copy the lake to a directory."""
        client = self.s3.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=_LAKE):
            for item in page.get("Contents", []):
                # Arrow leaves empty objects in the place of directories.
                if item["Key"].endswith("/"):
                    continue
                path = target / item["Key"].removeprefix("lake/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(client.get_object(Bucket=_LAKE, Key=item["Key"])["Body"].read())
        return target


@contextmanager
def serve_cluster(
    directory: Path, machines: int, sample: Sample | None = None, hours: int = 24, settings: dict[str, str] | None = None
) -> Generator[Cluster]:
    """Run the services and `hl up` with HL_LAUNCHER=celery, for so many machines. The buckets have the first hours of each day of
    the sample, or nothing.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with ExitStack() as stack:
        host, made = stack.enter_context(_networks(machines))
        postgres = stack.enter_context(serve_postgres(host, free_port()))
        s3 = stack.enter_context(serve_s3(host))
        broker, redis = stack.enter_context(_serve_redis(host, directory))
        info = "none" if sample is None else stack.enter_context(serve_info(sample.node_data_dir.parent, host))
        s3.ours.add(_LAKE)
        for bucket in (_LAKE, _NODES, _TWAPS):
            s3.client().create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "ap-northeast-1"})
        if sample is not None:
            for bucket, source in ((_NODES, sample.node_data_dir), (_TWAPS, sample.twap_data_dir)):
                for path in (path for path in source.rglob("*") if path.is_file() and _is_early(path, hours)):
                    s3.client().put_object(Bucket=bucket, Key=str(path.relative_to(source)), Body=path.read_bytes())
        environment = s3.environment | {
            "HL_DATABASE_URL": postgres.url("hl"),
            "HL_LAKE_URL": f"s3://{_LAKE}/lake",
            "HL_NODE_DATA_URL": f"s3://{_NODES}",
            "HL_TWAP_DATA_URL": f"s3://{_TWAPS}",
            "HL_INFO_URL": info,
            "HL_LAUNCHER": "celery",
            "HL_BROKER_URL": broker,
            "HL_SENSORS": "false",
            "POLARS_MAX_THREADS": "1",
            "DAGSTER_HOME": "",
            **(settings or {}),
        }
        cluster = Cluster(directory, postgres, s3, environment, made, redis=redis)
        place = directory / "up"
        place.mkdir()
        up = stack.enter_context(up_in(place, environment))
        cluster.ui = up.ui
        yield cluster


def _is_early(path: Path, hours: int) -> bool:
    """Return whether an object is of the first hours of its day, or of a whole day."""
    name = path.name.partition(".")[0]
    return not name.isdecimal() or int(name) < hours


@contextmanager
def _serve_redis(host: str, directory: Path) -> Generator[tuple[str, Program]]:
    port = str(free_port())
    command = ["redis-server", "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--protected-mode", "no"]
    with started(command, dict(os.environ), directory, directory / "redis.log") as redis:
        wait_until(lambda: "Ready to accept connections" in redis.output, 20, "Redis answers")
        yield f"redis://{host}:{port}/0", redis


def has_namespaces() -> bool:
    """Return whether network namespaces can be made here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"hl-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        _ip("netns", "del", name)
    return made


@contextmanager
def _networks(count: int) -> Generator[tuple[str, list[Machine]]]:
    """Yield the address of the services, and machines that reach it: network namespaces on a bridge, if possible."""
    if not has_namespaces():
        yield "127.0.0.1", [Machine(f"machine{n}") for n in range(count)]
        return
    bridge, net = f"hlb{os.getpid() % 100_000}", f"10.{os.getpid() % 200 + 20}.{time.time_ns() // 10**6 % 250}"
    with ExitStack() as stack:
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        machines: list[Machine] = []
        for n in range(count):
            name, link = f"{bridge}-{n}", f"{bridge}v{n}"
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", link, "master", bridge, "up")
            inside = ("netns", "exec", name, "ip")
            _ip(*inside, "addr", "add", f"{net}.{n + 2}/24", "dev", "eth0")
            _ip(*inside, "link", "set", "eth0", "up")
            _ip(*inside, "link", "set", "lo", "up")
            machines.append(Machine(f"machine{n}", ("ip", "netns", "exec", name), link))
        yield f"{net}.1", machines


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
