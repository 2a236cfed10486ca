"""Days from a failing S3, and under a budget: the rows are the same as without failures, and nothing is paid for twice."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Generator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from dagster import DagsterInstance, ExecuteInProcessResult, materialize
from typer.testing import CliRunner

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.raw_fills import raw_fills
from hl_pipeline.cli.main import app
from hl_pipeline.definitions import build_resources
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.naive.fills import event_day, expected_fill, in_order, read_bucket, stored_fills, without
from hl_pipeline_tests.profiles import few
from hl_pipeline_tests.servers.flaky_s3 import Fault, FlakyS3, serve_flaky
from hl_pipeline_tests.servers.s3 import REGION, S3Server

DAY = date(2026, 3, 15)
Run = Callable[[], ExecuteInProcessResult]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("s3"), first_day=DAY, days=1, fills_per_hour=30).node_data_dir


@pytest.fixture
def flaky(s3: S3Server, made: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Generator[FlakyS3]:
    """The generated day behind a proxy that fails, and settings that take it from there."""
    name = f"b{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    for path in made.rglob("*.lz4"):
        s3.client().put_object(Bucket=name, Key=str(path.relative_to(made)), Body=path.read_bytes())
    world.home.mkdir()
    with serve_flaky(s3) as flaky:
        given = {
            **s3.environment,
            "AWS_ENDPOINT_URL": flaky.url,
            "HL_NODE_DATA_URL": f"s3://{name}",
            "HL_S3_BACKOFF_SECONDS": "0.001",
            "HL_S3_ATTEMPTS": "2",
        }
        for variable, value in given.items():
            monkeypatch.setenv(variable, value)
        yield flaky


@pytest.fixture
def run(instance: DagsterInstance) -> Run:
    return lambda: materialize(
        [raw_fills, fills],
        partition_key=str(DAY),
        instance=instance,
        resources=build_resources(Settings()),
        raise_on_error=False,
    )


def _expected(made: Path) -> list[dict[str, object]]:
    every = [expected_fill(block, user, fill) for block, user, fill in read_bucket(made)]
    return in_order([fill for fill in every if event_day(fill) == DAY])


def _stored(world: World) -> list[dict[str, object]]:
    return in_order(without(stored_fills(world.database_url), "date"))


def _ledger(world: World) -> list[tuple[str, str, int, Decimal, str | None, str]]:
    with connect(world.database_url) as connection:
        return connection.execute("SELECT method, key, bytes, dollars, error, run_id FROM hl.s3_requests ORDER BY id").fetchall()


def _errors(world: World) -> list[tuple[str, str]]:
    with connect(world.database_url) as connection:
        return connection.execute("SELECT object_key, error FROM hl.s3_ingest_log WHERE error IS NOT NULL").fetchall()


def _metadata(result: ExecuteInProcessResult) -> dict[str, object]:
    [event] = result.asset_materializations_for_node("raw_fills")
    return {name: value.value for name, value in event.metadata.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_runs_through_any_faults_end_with_the_rows_of_a_run_without(
    seed: int, flaky: FlakyS3, made: Path, world: World, run: Run
) -> None:
    flaky.random.seed(seed)
    flaky.chance = 0.4
    for _ in range(6):
        run()
    flaky.chance = 0
    assert run().success

    assert _stored(world) == _expected(made)
    assert _errors(world) == []
    ledger = _ledger(world)
    assert sorted(row[:3:2] for row in ledger) == sorted((sent.method, sent.bytes) for sent in flaky.log)
    taken = [row[1] for row in ledger if row[0] == "GET" and row[4] is None]
    assert len(taken) == len(set(taken)) == 25


@pytest.mark.slow
def test_a_bad_object_stops_no_other_and_its_error_is_in_the_ledger_until_fixed(
    flaky: FlakyS3, made: Path, world: World, run: Run
) -> None:
    flaky.faults += [Fault("503", key="/7.lz4"), Fault("503", key="/7.lz4"), Fault("404", key="/9.lz4")]
    result = run()
    metadata = _metadata(result)
    assert (metadata["objects_fetched"], metadata["missing_hours"]) == (23, 2)
    (key, error), (gone, said) = sorted(_errors(world))
    assert key.endswith("/7.lz4")
    assert error.endswith("it answered 503 SlowDown: told to, after 2 attempts. Run again: it retries only the missing objects")
    assert gone.endswith("/9.lz4")
    assert "404 NoSuchKey" in said
    paid = sum(row[3] for row in _ledger(world))
    assert (metadata["requests"], metadata["dollars"]) == (len(flaky.log), float(paid))
    assert {row[5] for row in _ledger(world)} == {result.run_id}

    again = _metadata(run())
    assert again["objects_fetched"] == 2
    assert _errors(world) == []
    assert _stored(world) == _expected(made)


_ARCHIVED = (
    "<Code>InvalidObjectState</Code><Message>The operation is not valid for the object's storage class</Message>"
    "<StorageClass>DEEP_ARCHIVE</StorageClass>"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "words"),
    few(
        [
            pytest.param(
                _ARCHIVED, "403 InvalidObjectState: The operation is not valid for the object's storage class", id="archived"
            ),
            pytest.param(
                "<Code>AccessDenied</Code><Message>Access Denied</Message>", "403 AccessDenied: Access Denied", id="denied"
            ),
        ],
        1,
    ),
)
def test_an_object_that_is_refused_fails_alone_and_can_be_acknowledged(
    error: str, words: str, flaky: FlakyS3, made: Path, world: World, run: Run
) -> None:
    flaky.faults.append(Fault("answer", key="/5.lz4", status=403, error=error, lasting=True))
    result = run()
    assert result.success
    assert _metadata(result)["objects_fetched"] == 24
    [(key, said)] = _errors(world)
    assert key.endswith("/5.lz4")
    assert words in said
    # Every other fill of the day, and no other.
    every = [(block, expected_fill(block, user, fill)) for block, user, fill in read_bucket(made)]
    others = [fill for block, fill in every if event_day(fill) == DAY and not block["local_time"].startswith(f"{DAY}T05:")]
    assert _stored(world) == in_order(others)
    assert len(others) < len(_expected(made))
    shown = CliRunner().invoke(app, ["status", "--from", str(DAY), "--to", str(DAY)]).stdout
    assert "05 h failed: " in shown
    assert words in " ".join(shown.split())
    given = [
        "--source",
        "node_fills_by_block",
        "--from",
        str(DAY),
        "--to",
        str(DAY),
        "--hour",
        "5",
        "--note",
        "archived for good",
    ]
    done = CliRunner().invoke(app, ["acknowledge", *given])
    assert done.exit_code == 0, done.output
    assert {check.severity.value for check in run().get_asset_check_evaluations() if not check.passed} == {"WARN"}


@pytest.mark.slow
def test_expired_credentials_stop_the_run_and_new_ones_go_on(flaky: FlakyS3, made: Path, world: World, run: Run) -> None:
    expired = "<Code>ExpiredToken</Code><Message>The provided token has expired.</Message>"
    flaky.faults.append(Fault("answer", key="/20.lz4", status=400, error=expired))
    result = run()
    assert not result.success
    [failure] = result.get_step_failure_events()
    assert "The provided token has expired. The credentials have expired" in str(failure.step_failure_data.error)
    assert _errors(world) == []
    assert run().success
    assert _stored(world) == _expected(made)


@pytest.mark.slow
def test_a_store_without_requester_pays_and_without_etags_gives_the_same_rows(
    flaky: FlakyS3, s3: S3Server, made: Path, world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.free.add(Settings().node_data_url.removeprefix("s3://"))
    refused = run()
    assert not refused.success
    [failure] = refused.get_step_failure_events()
    assert "set HL_NODE_DATA_REQUESTER_PAYS=false" in str(failure.step_failure_data.error)
    assert len(flaky.log) == 1

    monkeypatch.setenv("HL_NODE_DATA_REQUESTER_PAYS", "false")
    flaky.faults.append(Fault("no etags", on="LIST", lasting=True))
    assert run().success
    assert _stored(world) == _expected(made)
    assert _metadata(run())["objects_fetched"] == 0


@pytest.mark.slow
def test_a_budget_stops_the_run_keeps_what_came_and_more_of_it_goes_on(
    flaky: FlakyS3, made: Path, world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HL_S3_PRICE_PER_1000_GETS", "1000")
    monkeypatch.setenv("HL_S3_BUDGET_USD", "10.5")
    result = run()
    assert not result.success
    [failure] = result.get_step_failure_events()
    assert "HL_S3_BUDGET_USD: $10.0" in str(failure.step_failure_data.error)
    assert [sent.method for sent in flaky.log].count("GET") == 10
    shown = CliRunner().invoke(app, ["status"]).stdout
    assert "spent this month $10.0" in shown
    assert f"of $10.5, {len(flaky.log)} requests" in shown
    spent = len(flaky.log)
    assert not run().success
    assert {sent.method for sent in flaky.log[spent:]} == {"LIST"}

    monkeypatch.setenv("HL_S3_BUDGET_USD", "40")
    assert run().success
    assert _stored(world) == _expected(made)
    gets = [sent.path for sent in flaky.log if sent.method == "GET"]
    assert len(gets) == len(set(gets)) == 25


@pytest.mark.slow
def test_downloads_go_side_by_side_and_no_more_than_are_allowed(
    flaky: FlakyS3, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HL_S3_OBJECTS_AT_ONCE", "3")
    flaky.rate = 50_000
    assert run().success
    assert flaky.most_at_once == 3


def test_a_directory_costs_nothing(made: Path, world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HL_S3_BUDGET_USD", "0")
    shutil.copytree(made, world.bucket, dirs_exist_ok=True)
    metadata = _metadata(run())
    assert (metadata["objects_fetched"], metadata["requests"], metadata["dollars"]) == (25, 0, 0.0)
    assert _ledger(world) == []


@pytest.mark.slow
def test_the_queries_about_money_of_the_documents_run(flaky: FlakyS3, world: World, run: Run) -> None:
    flaky.faults.append(Fault("500", key="/3.lz4"))
    run()
    text = (Path(__file__).parents[2] / "docs" / "guides" / "estimate-cost.md").read_text()
    [block] = [block for block in re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL) if "hl.s3_requests" in block]
    with connect(world.database_url) as connection:
        by_month, failed = (connection.execute(query.encode()).fetchall() for query in block.strip().rstrip(";").split(";"))
    assert [(row[2], row[4]) for row in by_month] == [("GET", 1), ("LIST", 0)]
    assert [row[5] for row in failed] == ["it answered 500 InternalError: told to"]
