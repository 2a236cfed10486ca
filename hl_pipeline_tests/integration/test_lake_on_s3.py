"""The compacted lake on S3: days are compacted and published there, and `hl lake` reads, checks and moves them.

Values are compared with the objects that the sample generator wrote, as the naive reader reads them.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pyarrow.fs as pa_fs
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import make_url

from hl_pipeline.lake import iceberg
from hl_pipeline.lake.store import Lake, list_below, open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.stages.publish_tables import publish_tables
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.lake_days import list_current_days
from hl_pipeline_tests.cli import Done, run_in_process
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.days import make_day
from hl_pipeline_tests.naive.fills import event_day, expected_fill, read_bucket
from hl_pipeline_tests.servers.s3 import S3Server

# A day is loaded and published through an S3 server: twenty seconds.
pytestmark = pytest.mark.slow

DAY = date(2026, 3, 15)
_SUMS = "SELECT coin, count(*) AS n, sum(notional) AS notional FROM fills GROUP BY coin ORDER BY coin"
_FEES = "SELECT fee_token, sum(fee) FROM fills WHERE fee_token IS NOT NULL GROUP BY fee_token ORDER BY fee_token"


@dataclass(frozen=True, slots=True)
class Installation:
    """An installation with a loaded and published day, whose lake is on S3."""

    home: Path
    environment: dict[str, str]
    sample: Path

    @property
    def url(self) -> str:
        return self.environment["HL_LAKE_URL"]

    @property
    def database(self) -> str:
        return self.environment["HL_DATABASE_URL"]

    def hl(self, *arguments: str) -> Done:
        return run_in_process(self.home, self.environment, *arguments)

    def rows(self, query: str, *options: str) -> list[dict[str, Any]]:
        done = self.hl("lake", "query", query, "--json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def written(self) -> list[dict[str, Any]]:
        """Return the fills of the day that the generator wrote."""
        every = [expected_fill(*one) for one in read_bucket(self.sample)]
        return [fill for fill in every if event_day(fill) == DAY]


@pytest.fixture(scope="module")
def made(s3: S3Server, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Generator[Installation]:
    home = tmp_path_factory.mktemp("on-s3")
    sample = write_sample(home, first_day=DAY, hours=3, fills_per_hour=150)
    environment = {
        **s3.environment,
        "HL_HOME": str(home),
        "HL_LAKE_URL": f"{s3.new_bucket()}/the/lake",
        "HL_DATABASE_URL": new_database(),
        "HL_NODE_DATA_URL": str(sample.node_data_dir),
        "HL_TWAP_DATA_URL": str(sample.twap_data_dir),
        "HL_SETTINGS_RESOLVED": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        make_day(environment, DAY)
        made = Installation(home, environment, sample.node_data_dir)
        with connect(made.database, "test") as connection:
            assert all(check.passed for check in compact_day(DAY, open_lake(made.url), connection).checks)
            publish_tables(DAY, open_lake(made.url), connection)
        yield made


@pytest.fixture
def connection(made: Installation) -> Generator[psycopg.Connection]:
    with connect(made.database, "test") as connection:
        yield connection


@pytest.fixture
def lake(made: Installation) -> Lake:
    return open_lake(made.url)


def _put(lake: Lake, path: str, content: bytes) -> None:
    with lake.filesystem.open_output_stream(f"{lake.root}/{path}") as file:
        file.write(content)


def _get(lake: Lake, path: str) -> bytes:
    with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
        return file.read()


def test_a_query_gives_the_sums_of_what_the_generator_wrote(made: Installation) -> None:
    written = made.written()
    notional: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    fees: Counter[str] = Counter()
    for fill in written:
        counts[fill["coin"]] += 1
        notional[fill["coin"]] += fill["px"] * fill["sz"]  # pyright: ignore[reportArgumentType]
        if fill.get("feeToken") is not None:
            fees[fill["feeToken"]] += fill["fee"]
    found = {row["coin"]: (row["n"], Decimal(row["notional"])) for row in made.rows(_SUMS)}
    assert found == {coin: (counts[coin], notional[coin]) for coin in counts}
    assert {token: Decimal(fee) for token, fee in (row.values() for row in made.rows(_FEES))} == fees
    assert len(written) > 300


def test_the_listed_files_and_iceberg_read_the_same_without_the_project(made: Installation) -> None:
    files = made.hl("lake", "files").stdout.split()
    assert [file.startswith(f"{made.url}/iceberg/fills/data/date={DAY}/") for file in files] == [True]
    access = {name.lower(): value for name, value in made.environment.items() if name.startswith("AWS_")}
    by_polars = pl.scan_parquet(files, storage_options={**access, "aws_allow_http": "true"}).collect()
    uri = make_url(made.database).set(drivername="postgresql+psycopg").update_query_dict({"options": "-csearch_path=hl_iceberg"})
    given = {
        "s3.endpoint": made.environment["AWS_ENDPOINT_URL"],
        "s3.access-key-id": "test",
        "s3.secret-access-key": "test",
        "s3.region": made.environment["AWS_DEFAULT_REGION"],
    }
    catalog = SqlCatalog("hl", uri=uri.render_as_string(hide_password=False), init_catalog_tables="false", **given)
    scanned = catalog.load_table("hl.fills").scan().to_arrow()
    catalog.close()
    written = made.written()
    key = ("time", "coin", "wallet", "side", "tid")
    expected = sorted([int(f["time"]), f["coin"], f["user"], f["side"], f["tid"], f["px"] * f["sz"]] for f in written)
    for rows in (by_polars.to_dicts(), scanned.to_pylist()):
        assert sorted([[_ms(row["time"]), *(row[name] for name in key[1:]), row["notional"]] for row in rows]) == expected


def _ms(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def test_derived_tables_on_s3_have_the_rows_of_postgresql(made: Installation, connection: psycopg.Connection) -> None:
    for table, amount in (("candles", "notional"), ("daily_stats", "volume"), ("user_stats", "taker_notional")):
        [row] = made.rows(f"SELECT count(*) AS n, sum({amount}) AS amount FROM {table}")
        expected = connection.execute(f"SELECT count(*), sum({amount}) FROM hl.{table} WHERE date = '{DAY}'".encode()).fetchone()
        assert (row["n"], Decimal(row["amount"])) == expected
        assert row["n"] > 3


def test_a_day_that_changes_is_replaced_on_s3_and_older_snapshots_stay(
    made: Installation, lake: Lake, connection: psycopg.Connection
) -> None:
    before, between = made.rows(_SUMS), datetime.now(UTC)
    [old] = made.hl("lake", "files").stdout.split()
    hours = made.sample / "node_fills_by_block/hourly/20260315"
    content = (hours / "0.lz4").read_bytes()
    try:
        (hours / "0.lz4").write_bytes((hours / "1.lz4").read_bytes())
        make_day(made.environment, DAY, ["raw_fills", "fills"])
        assert list_current_days(connection) == set()
        assert made.rows(_SUMS) == before
        replaced = compact_day(DAY, lake, connection).published
        assert replaced is not None
        [new] = made.hl("lake", "files").stdout.split()
        assert new != old
        assert made.rows("SELECT count(*) AS n FROM fills") == [{"n": replaced.rows}]
        assert replaced.rows != sum(row["n"] for row in before)
        assert made.rows(_SUMS, "--as-of", between.isoformat()) == before
        versions = json.loads(made.hl("lake", "snapshots", "--json").stdout)
        assert [(version["is_current"], version["facts"]["day"]) for version in versions] == [(True, str(DAY)), (False, str(DAY))]
    finally:
        (hours / "0.lz4").write_bytes(content)
        make_day(made.environment, DAY, ["raw_fills", "fills"])
        compact_day(DAY, lake, connection)
    assert made.rows(_SUMS) == before
    assert made.hl("lake", "verify").returncode == 0


def test_verify_finds_what_is_missing_or_differs_on_s3(made: Installation, lake: Lake) -> None:
    verified = made.hl("lake", "verify")
    assert (verified.returncode, "all as recorded" in verified.stdout) == (0, True)
    [path] = [file.removeprefix(f"{made.url}/") for file in made.hl("lake", "files").stdout.split()]
    [candles] = [file.removeprefix(f"{made.url}/") for file in made.hl("lake", "files", "candles").stdout.split()]
    contents = {one: _get(lake, one) for one in (path, candles)}
    try:
        lake.filesystem.delete_file(f"{lake.root}/{path}")
        _put(lake, candles, contents[candles][:-1])
        done = made.hl("lake", "verify", "--json")
        assert done.returncode == 3
        faults = {fault[1]: fault[2] for fault in json.loads(done.stdout)["faults"]}
        assert faults[path] == "the file is missing"
        assert "bytes, but the catalog says" in faults[candles]
    finally:
        for one, content in contents.items():
            _put(lake, one, content)
    assert made.hl("lake", "verify").returncode == 0


def test_vacuum_removes_from_s3_what_no_snapshot_needs(made: Installation, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    stray = f"iceberg/fills/data/date={DAY}/stray.parquet"
    _put(lake, stray, b"killed")
    before = made.rows(_SUMS)
    assert "hl.fills: 0 snapshots expired, 0 files removed" in made.hl("lake", "vacuum").stdout
    # An object cannot be made to look older than it is.
    monkeypatch.setattr(iceberg, "SAFE_AGE", timedelta(seconds=-60))
    assert "hl.fills: 0 snapshots expired, 1 files would be removed" in made.hl("lake", "vacuum", "--dry-run").stdout
    assert stray in list_below(lake, "iceberg")
    assert "hl.fills: 0 snapshots expired, 1 files removed" in made.hl("lake", "vacuum").stdout
    assert stray not in list_below(lake, "iceberg")
    assert made.hl("lake", "verify").returncode == 0
    assert made.rows(_SUMS) == before


@pytest.mark.parametrize("target", ["bucket", "directory"])
def test_a_lake_that_left_its_bucket_is_registered_again(
    target: str, made: Installation, lake: Lake, s3: S3Server, tmp_path: Path
) -> None:
    url = f"{s3.new_bucket()}/elsewhere" if target == "bucket" else str(tmp_path / "lake")
    elsewhere = open_lake(url)
    pa_fs.copy_files(
        f"{lake.root}/iceberg",
        f"{elsewhere.root}/iceberg",
        source_filesystem=lake.filesystem,
        destination_filesystem=elsewhere.filesystem,
    )
    moved = replace(made, environment={**made.environment, "HL_LAKE_URL": url})
    before = made.rows(_SUMS)
    refused = moved.hl("lake", "query", _SUMS)
    assert (refused.returncode, "hl lake relocate" in " ".join(refused.stderr.split())) == (1, True)
    done = moved.hl("lake", "relocate")
    assert done.stdout == "registered again: hl.candles, hl.daily_stats, hl.fills, hl.twaps, hl.user_stats\n", done.stderr
    try:
        assert moved.rows(_SUMS) == before
        assert moved.hl("lake", "verify").returncode == 0
        assert made.hl("lake", "query", _SUMS).returncode == 1
    finally:
        pa_fs.copy_files(
            f"{elsewhere.root}/iceberg",
            f"{lake.root}/iceberg",
            source_filesystem=elsewhere.filesystem,
            destination_filesystem=lake.filesystem,
        )
        assert "registered again" in made.hl("lake", "relocate").stdout
    assert made.rows(_SUMS) == before


def test_status_counts_the_tiers_of_a_lake_on_s3(made: Installation, lake: Lake) -> None:
    tiers = {tier["name"]: tier for tier in json.loads(made.hl("status", "--json").stdout)["tiers"]}
    assert (tiers["hours in the lake"]["bytes"], tiers["hours in the lake"]["days"]) == (
        sum(list_below(lake, "fills").values()),
        1,
    )
    assert tiers["compacted"]["days"] == 1


def test_a_bucket_that_is_not_there_is_named(made: Installation) -> None:
    absent = f"s3://absent-{uuid.uuid4().hex}/lake"
    done = replace(made, environment={**made.environment, "HL_LAKE_URL": absent}).hl("lake", "verify")
    assert done.returncode == 1
    assert absent.removesuffix("/lake") in done.stderr
