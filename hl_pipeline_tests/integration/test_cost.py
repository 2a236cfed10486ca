"""The estimated cost of days: each object counts once, lake objects are separate, and the estimate is exact to the byte."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from dagster import DagsterInstance, materialize
from typer.testing import CliRunner

from hl_pipeline.assets.raw_fills import raw_fills
from hl_pipeline.assets.raw_twap_statuses import raw_twap_statuses
from hl_pipeline.cli.main import app
from hl_pipeline.definitions import build_resources
from hl_pipeline.domain.datasets import BY_BLOCK, NODE_FILLS, NODE_TRADES, TWAP_STATUSES
from hl_pipeline.domain.records import SourceObject
from hl_pipeline.events import is_event
from hl_pipeline.sample.generate import Sample, write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.sources.buckets import Bucket, DirectoryBucket, list_days
from hl_pipeline.sources.s3 import S3Bucket
from hl_pipeline.stages.cost import Amount, Bill, Cost, cost_of, draw_up_bill, room_for, want
from hl_pipeline.stages.disk_space import Disk, DiskEstimate
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.spending import Prices
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.servers.s3 import REGION, FreeMeter, S3Server

DAY = date(2026, 3, 15)
DAYS = [DAY + timedelta(days=n) for n in range(3)]
NO_MONEY = Prices(Decimal(0), Decimal(0), Decimal(0))
Hours = dict[date, list[SourceObject]]


def _object(key: str, size: int = 10, etag: str = "e") -> SourceObject:
    return SourceObject(key, etag, size, datetime(2026, 4, 1, tzinfo=UTC))


def _listing(*days: date, size: int = 10) -> Hours:
    return {day: [_object(f"{day}/{hour}", size) for hour in range(24)] for day in days}


def test_an_hour_that_two_days_share_is_counted_once() -> None:
    listed = _listing(*DAYS)
    assert len(want([DAY], BY_BLOCK, listed).objects) == 25
    wanted = want(DAYS[:2], BY_BLOCK, listed)
    assert [item.key for _, item in wanted.objects] == [f"{DAY}/{h}" for h in range(24)] + [
        *(f"{DAYS[1]}/{h}" for h in range(24)),
        f"{DAYS[2]}/0",
    ]
    assert wanted.hours_not_there == 0


def test_hours_missing_in_the_bucket_are_listed_unless_a_better_dataset_has_them() -> None:
    listed = _listing(*DAYS[:2])
    del listed[DAY][7]
    assert want(DAYS[:2], BY_BLOCK, listed).hours_not_there == 2  # 07 h, and the first hour of the day after
    legacy = date(2025, 6, 10)
    assert want([legacy], NODE_FILLS, {}).hours_not_there == 25
    assert want([legacy], NODE_TRADES, {}).hours_not_there == 0
    assert want([date(2024, 6, 10)], NODE_TRADES, {}) == want([], NODE_TRADES, {})


def test_statuses_of_the_days_beside_are_wanted_too_each_object_once() -> None:
    listed = {DAY + timedelta(days=n): [_object(f"{n}/a"), _object(f"{n}/b")] for n in range(-2, 5)}
    wanted = want(DAYS[:2], TWAP_STATUSES, listed)
    assert [item.key for _, item in wanted.objects] == [f"{n}/{name}" for n in range(-1, 3) for name in "ab"]
    assert wanted.hours_not_there is None


def test_only_what_the_lake_has_with_the_same_etag_is_not_paid_again() -> None:
    wanted = want([DAY], BY_BLOCK, _listing(*DAYS, size=1_000))
    known = {(f"{DAY}/{hour}", "e") for hour in range(10)} | {(f"{DAY}/10", "older"), ("another/0", "e")}
    prices = Prices(Decimal(100), Decimal("0.5"), Decimal("0.001"))
    cost = cost_of(wanted, known, prices, oldest_kept=DAYS[1])
    assert (cost.wanted, cost.in_lake, cost.to_download) == (Amount(25, 25_000), Amount(10, 10_000), Amount(15, 15_000))
    assert cost.dollars == Decimal("22.5")
    # Of days that hl.fills does not keep it gets nothing: here all but the first hour of the next day.
    assert cost.bytes_to_load == 1_000
    assert room_for([cost_of(wanted, known, prices, oldest_kept=DAYS[2])]).database is None


def test_the_room_is_what_a_run_asks_for() -> None:
    """46 + 46 bytes a fill of 126 in the lake and 295 in hl.fills were measured; a run asks for a little more."""
    [cost] = [cost_of(want([DAY], BY_BLOCK, _listing(*DAYS, size=126_000)), set(), NO_MONEY, date.min)]
    room = room_for([cost])
    assert 92 * 25_000 <= room.lake <= 1.1 * 92 * 25_000
    assert room.database is not None
    assert 295 * 25_000 <= room.database <= 1.1 * 295 * 25_000


def test_what_does_not_fit_is_said() -> None:
    nothing = Amount(0, 0)
    cost = Cost("node_fills", nothing, nothing, nothing, Decimal(3), 0, 0)
    disks = [Disk(Path("/a"), 2e9, 5e9), Disk(Path("/b"), 2e9, 0.5e9)]
    bill = Bill([cost, cost], frozenset(), DiskEstimate(0, None), disks, 0, Decimal(0))
    assert bill.find_obstacles(Decimal(6)) == bill.find_obstacles(None) == ["1.5 GB too little free space at /b"]
    assert bill.find_obstacles(Decimal("5.5"))[0] == "$0.5000 more than the rest of HL_S3_BUDGET_USD"


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_many_days_are_listed_by_the_whole_dataset_and_are_the_same(kind: str, tmp_path: Path, s3: S3Server) -> None:
    hours = {DAY: ["0.lz4", "3.gz", "3.lz4", "23.lz4"], DAY + timedelta(days=9): ["5.lz4"], DAY - timedelta(days=1): ["7.lz4"]}
    junk = ["20260315/old/4.lz4", "20260315/x.lz4", "2026-03-16/1.lz4", "5.lz4", "20260317/._1.lz4"]
    keys = [f"{day:%Y%m%d}/{name}" for day, names in hours.items() for name in names] + junk
    bucket = _put({f"node_fills/hourly/{key}": b"x" for key in keys}, kind, tmp_path, s3)

    def list_keys(days: int) -> dict[date, dict[int, str]]:
        listed = list_days(bucket, "node_fills", DAY, DAY + timedelta(days=days - 1))
        return {day: {hour: found.key for hour, found in of.items()} for day, of in listed.items()}

    expected = {
        DAY: {hour: f"node_fills/hourly/20260315/{hour}.lz4" for hour in (0, 3, 23)},
        DAYS[0] + timedelta(days=9): {5: "node_fills/hourly/20260324/5.lz4"},
    }
    before = len(s3.requests)
    assert list_keys(20) == expected
    each = len(s3.requests) - before
    assert list_keys(21) == expected
    assert (each, len(s3.requests) - before - each) == ((20, 1) if kind == "s3" else (0, 0))


def _put(objects: dict[str, bytes], kind: str, directory: Path, s3: S3Server) -> Bucket:
    if kind == "directory":
        for key, body in objects.items():
            (directory / key).parent.mkdir(parents=True, exist_ok=True)
            (directory / key).write_bytes(body)
        return DirectoryBucket(str(directory))
    name = _make_bucket(s3, objects)
    return S3Bucket(f"s3://{name}", s3.client(), FreeMeter())


def _make_bucket(s3: S3Server, objects: dict[str, bytes]) -> str:
    name = f"b{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    for key, body in objects.items():
        s3.client().put_object(Bucket=name, Key=key, Body=body)
    return name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return write_sample(tmp_path_factory.mktemp("cost"), first_day=DAY, days=3, fills_per_hour=20)


@pytest.fixture
def paid(made: Sample, s3: S3Server, world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The sample in two S3 buckets, each with prices of its own."""
    node, statuses = (
        _make_bucket(s3, {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()})
        for root in (made.node_data_dir, made.twap_data_dir)
    )
    given = {
        **s3.environment,
        "HL_NODE_DATA_URL": f"s3://{node}",
        "HL_TWAP_DATA_URL": f"s3://{statuses}",
        "HL_NODE_DATA_PRICE_PER_GB": "1234.5",
        "HL_TWAP_DATA_PRICE_PER_GB": "777",
        "HL_S3_PRICE_PER_1000_GETS": "13",
        "HL_S3_PRICE_PER_1000_LISTS": "70",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return world


def _truth(made: Sample) -> tuple[dict[str, int], dict[str, int]]:
    """The bytes of each object of fills and of statuses, by key."""
    fills = json.loads((made.truth_dir / "days.json").read_text())["objects"]
    statuses = json.loads((made.truth_dir / "twaps.json").read_text())["status_objects"]
    return {key: of["bytes"] for key, of in fills.items()}, {key: of["bytes"] for key, of in statuses.items()}


def _is_of(key: str, day: date) -> bool:
    return re.sub(r"\D", "", key.removeprefix("node_fills_by_block")).startswith(f"{day:%Y%m%d}")


def _amount(sizes: dict[str, int]) -> Amount:
    return Amount(len(sizes), sum(sizes.values()))


def _gets(world: World) -> Decimal:
    with connect(world.database_url) as connection:
        [(dollars,)] = connection.execute("SELECT coalesce(sum(dollars), 0) FROM hl.s3_requests WHERE method = 'GET'").fetchall()
    return dollars


@contextmanager
def _hearing() -> Generator[list[str]]:
    """The names of the events that come."""
    heard: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("hl_pipeline")
    handler.emit = lambda record: heard.append(record.event) if is_event(record) else None
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield heard
    logger.setLevel(level)
    logger.removeHandler(handler)


def _bring(day: date, instance: DagsterInstance) -> dict[str, dict[str, object]]:
    """A day from the buckets to the lake; the metadata of its two runs."""
    result = materialize(
        [raw_fills, raw_twap_statuses], partition_key=str(day), instance=instance, resources=build_resources(Settings())
    )
    assets = ("raw_fills", "raw_twap_statuses")
    events = {asset: result.asset_materializations_for_node(asset)[0] for asset in assets}
    return {asset: {name: value.value for name, value in event.metadata.items()} for asset, event in events.items()}


@pytest.mark.slow
def test_what_is_left_costs_what_is_then_spent_to_the_byte(made: Sample, paid: World, instance: DagsterInstance) -> None:
    fills, statuses = _truth(made)
    whole = draw_up_bill(DAYS, Settings(), set())
    trades, legacy, by_block, twaps = whole.costs
    assert (trades.wanted, legacy.wanted, by_block.wanted, twaps.wanted) == (
        Amount(0, 0),
        Amount(0, 0),
        _amount(fills),
        _amount(statuses),
    )
    assert [cost.in_lake for cost in whole.costs] == [Amount(0, 0)] * 4
    price = Decimal("0.013")
    assert by_block.dollars == len(fills) * price + sum(fills.values()) * Decimal("1234.5") / 10**9
    assert twaps.dollars == len(statuses) * price + sum(statuses.values()) * Decimal(777) / 10**9
    with connect(paid.database_url) as connection:
        asked = connection.execute("SELECT method, count(*), sum(dollars) FROM hl.s3_requests GROUP BY 1").fetchall()
    assert asked == [("LIST", whole.lists, whole.dollars_of_lists)]
    assert whole.lists == 5  # four days of the bucket of fills, all of the other

    with _hearing() as heard:
        metadata = _bring(DAY, instance)
    assert heard.index("objects_to_fetch") < heard.index("object_fetched")
    of_fills = {key: size for key, size in fills.items() if _is_of(key, DAY) or key.endswith("20260316/0.lz4")}
    of_statuses = {key: size for key, size in statuses.items() if _is_of(key, DAY) or _is_of(key, DAYS[1])}
    for asset, of_day in (("raw_fills", of_fills), ("raw_twap_statuses", of_statuses)):
        said = metadata[asset]
        assert (said["objects_to_fetch"], said["bytes_to_fetch"]) == (len(of_day), sum(of_day.values()))
        assert (said["objects_fetched"], said["bytes_fetched"]) == (len(of_day), sum(of_day.values()))
    # By the benchmark (docs/performance.md) 92 bytes a fill in the lake and 295 in the database, of 126 in the bucket.
    assert metadata["raw_fills"]["disk_bytes_expected"] == pytest.approx(sum(of_fills.values()) / 126 * 387, rel=0.1)
    before = _gets(paid)
    assert float(before) == pytest.approx(sum(float(str(of["dollars_expected"])) for of in metadata.values()), rel=1e-12)

    rest = draw_up_bill(DAYS, Settings(), set())
    assert [cost.in_lake for cost in rest.costs[2:]] == [_amount(of_fills), _amount(of_statuses)]
    assert rest.costs[2].to_download == _amount({key: fills[key] for key in fills.keys() - of_fills.keys()})
    assert rest.costs[3].to_download == _amount({key: statuses[key] for key in statuses.keys() - of_statuses.keys()})
    assert whole.dollars == before + rest.dollars
    for day in DAYS[1:]:
        _bring(day, instance)
    assert _gets(paid) - before == rest.dollars
    done = draw_up_bill(DAYS, Settings(), set())
    assert (done.dollars, [cost.to_download for cost in done.costs]) == (0, [Amount(0, 0)] * 4)


def _run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["cost", "--from", str(DAYS[0]), "--to", str(DAYS[-1]), *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_the_command_shows_the_price_the_rest_of_the_budget_and_whether_it_fits(
    made: Sample, paid: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fills, statuses = _truth(made)
    dollars = len(fills) * Decimal("0.013") + sum(fills.values()) * Decimal("1234.5") / 10**9
    dollars += len(statuses) * Decimal("0.013") + sum(statuses.values()) * Decimal(777) / 10**9
    paid.home.mkdir()
    shown = _run()
    assert f"to download  ${dollars:,.4f}" in shown
    assert "for 5 requests, spent by this command" in shown
    [row] = [line.split() for line in shown.splitlines() if line.startswith(" node_fills_by_block")]
    assert (row[1], row[3], row[5], row[8]) == (str(len(fills)), "0", str(len(fills)), "0")
    assert "HL_S3_BUDGET_USD is not set" in shown
    assert shown.endswith("it fits\n")

    monkeypatch.setenv("HL_S3_BUDGET_USD", "2")
    monkeypatch.setenv("HL_DISK_RESERVE_GB", "1e9")
    shown = _run()
    with connect(paid.database_url) as connection:
        [(spent,)] = connection.execute("SELECT sum(dollars) FROM hl.s3_requests").fetchall()
    left = 2 - spent
    assert f"budget       ${left:,.4f} of $2 left for {datetime.now(UTC):%Y-%m} (UTC)" in shown
    assert f"it does not fit: ${dollars - left:,.4f} more than the rest of HL_S3_BUDGET_USD; 9" in shown
    assert f"GB too little free space at {paid.settings.lake}" in shown


def test_a_directory_costs_nothing_and_no_statuses_are_no_cost(
    made: Sample, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HL_NODE_DATA_URL", str(made.node_data_dir))
    shown = _run()
    assert "to download  $0.0000" in shown
    assert f"HL_NODE_DATA_URL is {made.node_data_dir}: a directory costs nothing" in shown
    assert "HL_TWAP_DATA_URL is none: nothing is requested" in shown
    [row] = [line.split() for line in shown.splitlines() if line.startswith(" twap_statuses")]
    assert row[1] == "0"
    assert not list(Path(world.settings.lake).rglob("*.parquet"))
