"""A week without intervention: a bucket that publishes late and out of order, rewrites two objects and never has one; a refused
run; a power loss. The real daemon checks every few seconds; the nightly schedule runs every minute.
"""

from __future__ import annotations

import os
import random
import shutil
import uuid
from collections import Counter
from collections.abc import Generator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import lz4.frame
import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from typer.testing import CliRunner

from hl_pipeline.cli.main import app
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.ledger import read_unfinished_days
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.naive.fills import event_day, expected_fill, in_order, read_bucket, stored_fills, without
from hl_pipeline_tests.processes import PROJECT, Program, kill_all, program, started, wait_until
from hl_pipeline_tests.servers.flaky_s3 import Fault, FlakyS3, serve_flaky
from hl_pipeline_tests.servers.s3 import REGION, S3Server

pytestmark = [pytest.mark.waits, pytest.mark.slow]

TODAY = datetime.now(UTC).date()
WEEK = [TODAY - timedelta(days=6 - n) for n in range(7)]
_SOURCE = "node_fills_by_block/hourly"


class _Publisher:
    """Publishes objects of a whole week to the bucket on request. `published` has the same files, as the truth."""

    def __init__(self, s3: S3Server, made: Path, published: Path) -> None:
        self.bucket = f"week-{uuid.uuid4().hex}"
        self._client = s3.client()
        self._client.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        self._made = made
        self._published = published

    def put(self, day: date, *hours: int, half: bool = False) -> None:
        for hour in hours:
            key = f"{_SOURCE}/{day:%Y%m%d}/{hour}.lz4"
            content = (self._made / key).read_bytes()
            if half:
                lines = lz4.frame.decompress(content).splitlines(keepends=True)
                content = lz4.frame.compress(b"".join(lines[: len(lines) // 2]))
            (self._published / key).parent.mkdir(parents=True, exist_ok=True)
            (self._published / key).write_bytes(content)
            self._client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def expected(self) -> list[dict[str, object]]:
        """The fills of the week in what is published, worked out line by line."""
        every = [expected_fill(block, user, fill) for block, user, fill in read_bucket(self._published)]
        return in_order([fill for fill in every if event_day(fill) in WEEK])


@pytest.fixture
def publisher(s3: S3Server, tmp_path: Path) -> _Publisher:
    made = write_sample(tmp_path / "made", first_day=WEEK[0], days=7, fills_per_hour=8)
    return _Publisher(s3, made.node_data_dir, tmp_path / "published")


@pytest.fixture
def flaky(s3: S3Server, world: World, publisher: _Publisher, monkeypatch: pytest.MonkeyPatch) -> Generator[FlakyS3]:
    (world.home / "dagster").mkdir(parents=True)
    shutil.copyfile(PROJECT / "dagster.yaml", world.home / "dagster" / "dagster.yaml")
    with serve_flaky(s3) as flaky:
        given = {
            **s3.environment,
            "AWS_ENDPOINT_URL": flaky.url,
            "DAGSTER_HOME": str(world.home / "dagster"),
            "HL_NODE_DATA_URL": f"s3://{publisher.bucket}",
            "HL_S3_BUDGET_USD": "1000",
            "HL_S3_BACKOFF_SECONDS": "0.01",
            "HL_SENSOR_SECONDS": "5",
            "HL_RECONCILE_CRON": "* * * * *",
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        yield flaky


def _loaded(world: World) -> dict[date, int]:
    with connect(world.database_url) as connection:
        return dict(connection.execute("SELECT date, rows FROM hl.fills_days").fetchall())


def _is_settled(world: World, instance: DagsterInstance, wanted: Counter[date]) -> bool:
    with connect(world.database_url) as connection:
        unfinished = read_unfinished_days(connection)
    waiting = instance.get_runs_count(RunsFilter(statuses=[DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED]))
    return _loaded(world) == wanted and not unfinished and not waiting


def _paid(world: World) -> Counter[str]:
    """How often each object came whole."""
    with connect(world.database_url) as connection:
        rows = connection.execute("SELECT key FROM hl.s3_requests WHERE method = 'GET' AND error IS NULL").fetchall()
    return Counter(key for (key,) in rows)


def _kill(daemon: Program) -> None:
    kill_all(daemon.tree())
    daemon.process.wait()


def test_after_a_week_every_day_equals_the_bucket_and_each_object_was_paid_for_once(
    publisher: _Publisher, flaky: FlakyS3, world: World, tmp_path: Path
) -> None:
    chance = random.Random(7)
    daemon = [program("dagster-daemon"), "run", "-w", str(PROJECT / "workspace.yaml")]

    # Three days that somebody brings by hand: of one an hour never comes, of another one is shorter than it will be.
    publisher.put(WEEK[0], *range(24))
    publisher.put(WEEK[1], *(hour for hour in range(24) if hour != 7))
    publisher.put(WEEK[2], *(hour for hour in range(24) if hour != 3))
    publisher.put(WEEK[2], 3, half=True)
    publisher.put(WEEK[3], 0)
    done = CliRunner().invoke(app, ["ingest", "--from", str(WEEK[0]), "--to", str(WEEK[2])])
    assert done.exit_code == 3, done.output

    # The daemon finds the next ones, one of them in the middle of a refusal.
    flaky.faults.append(Fault("403", key=f"{WEEK[5]:%Y%m%d}/11.lz4"))
    for day in WEEK[3:6]:
        hours = [hour for hour in range(24) if (day, hour) not in {(WEEK[3], 0), (WEEK[3], 9), (WEEK[4], 5)}]
        publisher.put(day, *chance.sample(hours, len(hours)))
    publisher.put(WEEK[4], 5, half=True)
    with DagsterInstance.from_config(str(world.home / "dagster")) as instance:
        with started(daemon, {**os.environ}, tmp_path, tmp_path / "daemon-1.log") as first:
            wait_until(lambda: {WEEK[3], WEEK[4]} <= {*_loaded(world)}, 120, "two of the next days are loaded")
            _kill(first)

        # While nobody looks: today begins, what was short is whole, what was late has come.
        publisher.put(WEEK[6], *range(6))
        publisher.put(WEEK[2], 3)
        publisher.put(WEEK[4], 5)
        publisher.put(WEEK[3], 9)
        with started(daemon, {**os.environ}, tmp_path, tmp_path / "daemon-2.log"):
            wait_until(lambda: WEEK[6] in _loaded(world), 240, "today is loaded")
            publisher.put(WEEK[6], *chance.sample(range(6, 12), 6))
            wanted = Counter(event_day(fill) for fill in publisher.expected())
            wait_until(lambda: _is_settled(world, instance, wanted), 240, "every day is what the bucket has")
        runs = instance.get_runs()

    assert in_order(without(stored_fills(world.database_url), "date")) == publisher.expected()
    twice = {f"{_SOURCE}/{WEEK[2]:%Y%m%d}/3.lz4", f"{_SOURCE}/{WEEK[4]:%Y%m%d}/5.lz4"}
    assert {key: count for key, count in _paid(world).items() if count != 1} == dict.fromkeys(twice, 2)

    reasons: dict[str, list[str | None]] = {}
    for run in reversed(runs):
        reasons.setdefault(run.tags["dagster/partition"], []).append(run.tags.get("hl/why"))
    assert {*reasons} == {str(day) for day in WEEK}
    assert reasons[str(WEEK[0])] == reasons[str(WEEK[1])] == [None], "nothing has changed of what was brought by hand"
    assert {*reasons[str(WEEK[2])]} == {None, "objects: 1 changed"}
    # A day with missing objects also fails, but as a verdict: its work is done, and it is not retried.
    failures = [run for run in runs if run.status == DagsterRunStatus.FAILURE]
    failed = {run.tags["dagster/partition"] for run in failures if "hl/verdict" not in run.tags}
    verdicts = {run.run_id for run in failures if "hl/verdict" in run.tags}
    assert not verdicts & {run.parent_run_id for run in runs}
    # One refused object is a hole of its day, and no failure of the run but by its verdict.
    assert str(WEEK[5]) in {run.tags["dagster/partition"] for run in failures}, "an object of it was refused"
    assert failed <= {str(day) for day in WEEK[3:6]}, "what was in work when power was lost"
    assert all(len(whys) <= 6 for whys in reasons.values()), reasons
