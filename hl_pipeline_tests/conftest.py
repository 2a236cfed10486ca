"""Fixtures: a real PostgreSQL per session and a database per test, a real S3 protocol server, the real records."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest
from dagster import DagsterInstance
from hypothesis import HealthCheck, settings

from hl_pipeline.lake.store import Lake, open_lake
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.marked_secrets import assert_no_secret, files_with_secrets
from hl_pipeline_tests.profiles import FULL
from hl_pipeline_tests.records.reading import unpack_records
from hl_pipeline_tests.servers.flaky_s3 import FlakyS3, serve_flaky
from hl_pipeline_tests.servers.postgres import make_database, serve_databases
from hl_pipeline_tests.servers.s3 import S3Server, serve_s3

for _profile, _examples in (("quick", 5), ("ci", 15), ("full", FULL), ("reliability", 20 * FULL)):
    settings.register_profile(
        _profile,
        derandomize=True,
        deadline=None,
        max_examples=_examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
settings.load_profile("ci")
_ALL_ARE_SLOW = re.compile(r"^pytestmark = .*\bpytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip a file of slow tests where none is wanted: what it imports would take each worker seconds."""
    is_wanted = config.option.markexpr != "not slow" or not collection_path.match("test_*.py")
    return None if is_wanted or not _ALL_ARE_SLOW.search(collection_path.read_text()) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests that wait for daemons first, so that other workers have work meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test in whose output or files a secret of the test run is."""
    report = yield
    if report.when == "teardown" and report.passed:
        try:
            for title, text in report.sections:
                assert_no_secret(text, title)
            assert files_with_secrets(_directories(item)) == [], "these files have a secret in them"
        except AssertionError as error:
            report.outcome = "failed"
            report.longrepr = str(error)
    return report


def _directories(item: pytest.Item) -> list[Path]:
    given: dict[str, Any] = getattr(item, "funcargs", {})
    return [given["tmp_path"]] if "tmp_path" in given else []


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_machine() -> Generator[None]:
    """Hide the user's HL_* and AWS_* variables, and any .env in the working directory, from tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith(("HL_", "AWS_", "DAGSTER_", "OTEL_")) and name != "AWS_CA_BUNDLE":
                patch.delenv(name)
        patch.setenv("HL_SETTINGS_RESOLVED", "1")
        patch.setenv("HL_TWAP_DATA_URL", "none")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/dev/null")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        yield


@pytest.fixture(autouse=True)
def _environment_comes_back() -> Generator[None]:
    """Restore the environment after each test: commands called in this process change it for their child processes."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real records as files, and as a bucket in `s3/`."""
    directory = tmp_path_factory.mktemp("records")
    unpack_records(directory)
    return directory


@pytest.fixture(scope="session")
def postgres_home() -> Generator[Path]:
    """The home of a running embedded server that has a migrated database `template`."""
    with serve_databases() as home:
        yield home


NewDatabase = Callable[..., str]


@pytest.fixture(scope="session")
def new_database(postgres_home: Path) -> NewDatabase:
    """A function that creates a new database, migrated by default, and returns its URL."""

    return partial(make_database, postgres_home)


@pytest.fixture
def database_url(new_database: NewDatabase) -> str:
    """The URL of the test's own migrated database."""
    return new_database()


@pytest.fixture
def connection(database_url: str) -> Generator[psycopg.Connection]:
    with connect(database_url, "test") as connection:
        yield connection


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "lake"))


@pytest.fixture
def directory() -> Generator[Path]:
    """The user's working directory. Its path is short enough for PostgreSQL's socket."""
    with tempfile.TemporaryDirectory(prefix="hl-e2e-") as name:
        yield Path(name)
        assert files_with_secrets([Path(name)]) == [], "these files have a secret in them"


@dataclass(frozen=True, slots=True)
class World:
    """A test's own installation. `environment` has the variables that a child process needs to use it."""

    home: Path
    database_url: str
    bucket: Path
    environment: dict[str, str]

    @property
    def settings(self) -> Settings:
        return Settings()


@pytest.fixture
def world(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """A home, a database and an empty bucket directory, also set in this process's environment."""
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    environment = {
        "HL_HOME": str(tmp_path / "home"),
        "HL_DATABASE_URL": database_url,
        "HL_LAKE_URL": str(tmp_path / "lake"),
        "HL_NODE_DATA_URL": str(bucket),
        "HL_TWAP_DATA_URL": "none",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return World(tmp_path / "home", database_url, bucket, {**os.environ, **environment})


@pytest.fixture(scope="session")
def instance() -> Generator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="session")
def s3() -> Generator[S3Server]:
    with serve_s3() as server:
        yield server


@pytest.fixture
def flaky(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Generator[FlakyS3]:
    """A proxy in front of `s3` with configurable faults. This process uses it as S3."""
    with serve_flaky(s3) as flaky:
        for name, value in {**s3.environment, "AWS_ENDPOINT_URL": flaky.url}.items():
            monkeypatch.setenv(name, value)
        yield flaky
