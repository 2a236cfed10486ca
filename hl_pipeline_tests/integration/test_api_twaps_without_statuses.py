"""/api/v1/twaps with missing statuses: TWAPs known from slices or an earlier event appear in every format and on every page."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator
from datetime import date
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from dagster import DagsterInstance, materialize
from psycopg.types.json import Json

from hl_pipeline.definitions import ASSETS, build_resources
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.naive.statistics import grouped, read_legs
from hl_pipeline_tests.servers.api import OTHER, WALLET, Api, add, at, ns, serving, status_row, twap_row

PATH = "/api/v1/twaps"
OF_DAY = {"wallet": WALLET, "start": "2025-11-03", "end": "2025-11-03"}


@pytest.fixture(scope="module")
def served(new_database: NewDatabase) -> Generator[tuple[Api, str]]:
    url = new_database()
    with serving(url) as api:
        yield api, url


@pytest.fixture
def api(served: tuple[Api, str]) -> Api:
    return served[0]


@pytest.fixture
def rows(served: tuple[Api, str]) -> Generator[psycopg.Connection]:
    """A connection to the API's database; what a test inserts is gone after it."""
    with connect(served[1], "test") as connection:
        yield connection
        connection.execute("TRUNCATE hl.twap_statuses, hl.twaps")


def _sliced(twap_id: int, first: str, last: str, **values: Any) -> dict[str, Any]:
    """A TWAP of which slices alone are known."""
    unsaid = {"statuses": 0, "verdict": "status_missing", "first_slice_at": at(first), "last_slice_at": at(last)}
    return twap_row(twap_id, at(first), **{**unsaid, "size_observed": "1.50", "notional_observed": "12.3400", **values})


def _ids(answer: dict[str, Any]) -> list[int]:
    return [int(item["twap_id"]) for item in answer["twaps"]]


def test_a_twap_of_slices_alone_has_every_key_and_what_its_slices_tell(api: Api, rows: psycopg.Connection) -> None:
    add(rows, "twaps", _sliced(7, "2025-11-03 12:00:00.250", "2025-11-03 12:30:00.500", side="A"))
    [item] = api.get(PATH, **OF_DAY)["twaps"]
    analytics = item.pop("analytics")
    assert item == {
        "twap_id": "7",
        "wallet": WALLET,
        "asset": "SOL",
        "side": "A",
        "status": None,
        "error": None,
        "duration_minutes": None,
        "started_at": None,
        "latest_ts": "2025-11-03T12:30:00.500Z",
        "size_requested": None,
        "size_executed": "1.5",
        "notional_executed": "12.34",
        "executed": {"size": "1.5", "notional": "12.34"},
        "reduce_only": None,
        "randomize": None,
        "raw": None,
    }
    assert (analytics["twap_id"], analytics["verdict"], analytics["size_observed"]) == ("7", "status_missing", "1.5")
    assert api.get(PATH, **OF_DAY, latest_per_twap="true")["twaps"][0]["raw"] is None
    assert api.get(PATH, **OF_DAY, latest_per_twap="false")["twaps"][0]["raw"] == {"latest": None, "all_rows": []}


@pytest.mark.parametrize(
    ("first", "last", "is_there"),
    [
        ("2025-11-02 23:00", "2025-11-02 23:59:59.999999", False),
        ("2025-11-02 23:00", "2025-11-03 00:00", True),
        ("2025-11-03 12:00", "2025-11-03 12:00", True),
        ("2025-11-02 12:00", "2025-11-04 12:00", True),
        ("2025-11-03 23:59:59.999999", "2025-11-04 01:00", True),
        ("2025-11-04 00:00", "2025-11-04 01:00", False),
    ],
)
def test_a_twap_is_there_when_its_window_overlaps_the_range(
    api: Api, rows: psycopg.Connection, first: str, last: str, is_there: bool
) -> None:
    add(rows, "twaps", _sliced(1, first, last), _sliced(2, first, last, wallet=OTHER), _sliced(3, first, last, coin="BTC"))
    assert _ids(api.get(PATH, **OF_DAY, asset="SOL")) == ([1] if is_there else [])
    assert sorted(_ids(api.get(PATH, **OF_DAY))) == ([1, 3] if is_there else [])
    assert _ids(api.get(PATH, **{**OF_DAY, "wallet": OTHER})) == ([2] if is_there else [])


def test_a_twap_that_runs_through_the_range_has_its_last_event_before_it(api: Api, rows: psycopg.Connection) -> None:
    raw = {"is": "activated"}
    known = {"size_executed": 0, "notional_executed": 0, "duration_minutes": 4320, "raw_payload": Json(raw)}
    add(rows, "twap_statuses", status_row(1, ns("2025-11-02 12:00"), **known))
    add(rows, "twap_statuses", status_row(1, ns("2025-11-05 12:00"), "finished"))
    ends = {"planned_end": at("2025-11-05 12:00"), "ended_at": at("2025-11-05 12:00")}
    add(rows, "twaps", twap_row(1, at("2025-11-02 12:00"), **ends))
    [item] = api.get(PATH, **OF_DAY, latest_per_twap="false")["twaps"]
    assert (item["status"], item["latest_ts"], item["executed"]["size"]) == ("activated", "2025-11-02T12:00:00Z", "0")
    assert item["raw"] == {"latest": raw, "all_rows": []}
    # With its end in the range it is what it was, once.
    for end, status in (("2025-11-05", "finished"), ("2025-11-05T11:59:59", "activated"), ("2025-11-05T12:00:00", "finished")):
        assert [item["status"] for item in api.get(PATH, **{**OF_DAY, "end": end})["twaps"]] == [status]


def test_a_twap_that_waits_or_never_began_is_in_the_ranges_of_its_events_alone(api: Api, rows: psycopg.Connection) -> None:
    add(rows, "twap_statuses", status_row(1, ns("2025-11-02 12:00"), "waitingForTrigger"))
    add(rows, "twap_statuses", status_row(1, ns("2025-11-04 12:00"), "terminated"))
    unbegun = {"begins_at": None, "whole_minutes": None, "own_volume": None, "own_notional": None}
    add(rows, "twaps", {**twap_row(1, at("2025-11-02 12:00"), ended_at=at("2025-11-04 12:00")), **unbegun})
    assert _ids(api.get(PATH, **OF_DAY)) == []
    [item] = api.get(PATH, **{**OF_DAY, "start": "2025-11-02"})["twaps"]
    assert (item["status"], item["analytics"]["begins_at"]) == ("waitingForTrigger", None)


def test_pages_of_all_sizes_are_the_whole_list_with_statuses_and_without(api: Api, rows: psycopg.Connection) -> None:
    random = Random(3)
    for twap_id in range(40):
        # Many of the same moment, some of before the range, some with their last slice after it.
        first = random.choice(("2025-11-02 23:00", "2025-11-03 12:00", "2025-11-03 12:01"))
        last = random.choice(("2025-11-03 12:02", "2025-11-03 12:03", "2025-11-04 12:00"))
        add(rows, "twaps", _sliced(twap_id, first, last))
        if twap_id % 3 == 0:
            add(rows, "twap_statuses", status_row(twap_id, ns(random.choice((first, "2025-11-03 12:02")), twap_id % 2)))
    whole = api.get(PATH, **OF_DAY)["twaps"]
    assert sorted(int(item["twap_id"]) for item in whole) == [*range(40)]
    assert {item["status"] for item in whole} == {None, "activated"}
    assert [item["latest_ts"] for item in whole] == sorted((item["latest_ts"] for item in whole), reverse=True)
    for limit in (1, 7, 39, 40, 41):
        pages = api.pages(PATH, "twaps", **OF_DAY, limit=limit)
        assert [item for page in pages for item in page] == whole
        offsets = range(0, 40, limit)
        assert [item for offset in offsets for item in api.get(PATH, **OF_DAY, limit=limit, offset=offset)["twaps"]] == whole
    rows_of_csv = list(csv.DictReader(io.StringIO(api.ask(PATH, **OF_DAY, format="csv").text)))
    assert [row["twap_id"] for row in rows_of_csv] == [item["twap_id"] for item in whole]
    cursor = api.get(PATH, **OF_DAY, limit=25)["next_cursor"]
    assert len(list(csv.DictReader(io.StringIO(api.ask(PATH, **OF_DAY, format="csv", cursor=cursor).text)))) == 15


def test_a_file_has_the_twaps_without_statuses_too(api: Api, rows: psycopg.Connection) -> None:
    add(rows, "twaps", _sliced(7, "2025-11-03 12:00", "2025-11-03 12:30"))
    table = pq.read_table(io.BytesIO(api.ask(PATH, **OF_DAY, format="parquet").content))
    [row] = table.to_pylist()
    assert {
        name: row[name] for name in ("twap_id", "status", "raw", "size_executed", "size_observed", "verdict", "latest_ts")
    } == {
        "twap_id": 7,
        "status": None,
        "raw": None,
        "size_executed": Decimal("1.5"),
        "size_observed": Decimal("1.5"),
        "verdict": "status_missing",
        "latest_ts": at("2025-11-03 12:30"),
    }
    [row] = csv.DictReader(io.StringIO(api.ask(PATH, **OF_DAY, format="csv", latest_per_twap="false").text))
    assert (row["status"], row["size_executed"], row["raw"]) == ("", "1.5", '{"latest": null, "all_rows": []}')


@pytest.mark.slow
def test_without_a_source_of_statuses_each_wallet_has_the_twaps_of_its_slices(
    new_database: NewDatabase, instance: DagsterInstance, tmp_path: Path
) -> None:
    day, url = date(2025, 9, 2), new_database()
    sample = write_sample(tmp_path / "sample", first_day=day, fills_per_hour=100, record_legs=True)
    values = {"HL_HOME": tmp_path, "HL_LAKE_URL": tmp_path / "lake", "HL_DATABASE_URL": url, "HL_TWAP_DATA_URL": "none"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (values | {"HL_NODE_DATA_URL": sample.node_data_dir}).items():
            patch.setenv(name, str(value))
        assert materialize(ASSETS, partition_key=str(day), instance=instance, resources=build_resources(Settings())).success
    slices = [leg for leg in read_legs(sample.truth_dir, day) if leg["twap_id"] is not None]
    of_wallets = grouped(slices, lambda leg: leg["wallet"])
    assert len(of_wallets) > 5
    with serving(url) as api:
        for wallet in sorted(of_wallets, key=lambda wallet: len(of_wallets[wallet]))[-5:]:
            listed = api.get(PATH, wallet=wallet, start=str(day), end=str(day))["twaps"]
            expected = grouped(of_wallets[wallet], lambda leg: leg["twap_id"])
            assert {int(item["twap_id"]): (item["status"], Decimal(item["executed"]["size"])) for item in listed} == {
                twap_id: (None, sum(leg["sz"] for leg in legs)) for twap_id, legs in expected.items()
            }
            assert [item["analytics"]["fills"] for item in listed] == [len(expected[int(item["twap_id"])]) for item in listed]
