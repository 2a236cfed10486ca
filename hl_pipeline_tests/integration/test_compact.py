"""Compacted days: every fill once, sorted, with its exact notional, published in one snapshot, and recorded in the ledger."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from hl_pipeline.domain.errors import LakeLacksError
from hl_pipeline.lake.compacted_fills import ORDER, SCHEMA, multiply_exactly
from hl_pipeline.lake.iceberg import find_table
from hl_pipeline.lake.store import Lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.compact import compact_day, repair_ledger
from hl_pipeline.stages.fetch_day import fetch_fills
from hl_pipeline.stages.fills_retention import move_to_lake, thin_old_days
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.stages.load_fills import load_fills
from hl_pipeline.stages.vacuum import vacuum
from hl_pipeline.warehouse.lake_days import list_current_days, list_days_to_compact, read_lake_days

DAY = date(2026, 3, 15)
NEXT = DAY + timedelta(days=1)
_WIDE = Context(prec=100)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample"), first_day=DAY, hours=2, fills_per_hour=150).node_data_dir


@pytest.fixture
def settings(database_url: str, tmp_path: Path, bucket: Path) -> Settings:
    own = tmp_path / "bucket"
    shutil.copytree(bucket, own)
    return Settings(
        home=tmp_path,
        database_url=SecretStr(database_url),
        lake_url=str(tmp_path / "lake"),
        node_data_url=str(own),
        twap_data_url="none",
    )


@pytest.fixture
def load(lake: Lake, connection: psycopg.Connection, settings: Settings) -> None:
    fetch_fills(DAY, lake, connection, settings)
    load_fills(DAY, lake, connection, settings)


def _rows_by_iceberg(connection: psycopg.Connection, lake: Lake) -> pa.Table:
    with opened_catalog(connection, lake) as catalog:
        table = find_table(catalog, "fills")
        assert table is not None
        return table.scan().to_arrow()


def _snapshots(connection: psycopg.Connection, lake: Lake) -> list[Any]:
    with opened_catalog(connection, lake) as catalog:
        table = find_table(catalog, "fills")
        return [] if table is None else list(table.metadata.snapshots)


@pytest.mark.usefixtures("load")
def test_a_compacted_day_has_each_fill_once_sorted_with_exact_notional(lake: Lake, connection: psycopg.Connection) -> None:
    made = compact_day(DAY, lake, connection)

    assert all(check.passed for check in made.checks), made.checks
    assert made.published is not None
    [path] = made.published.files
    file = pq.ParquetFile(Path(lake.root, path))
    rows = file.read().to_pylist()
    hours = pl.read_parquet(f"{lake.root}/fills/date={DAY}/*.parquet", hive_partitioning=False)
    assert file.schema_arrow.equals(SCHEMA, check_metadata=False)

    def key(row: dict[str, Any]) -> list[tuple[bool, Any]]:
        values = [row[name].encode() if isinstance(row[name], str) else row[name] for name in ORDER]
        return [(value is None, value) for value in values]

    expected = sorted(hours.to_dicts(), key=key)
    assert [{n: v for n, v in row.items() if n != "notional"} for row in rows] == expected
    assert [row["notional"] for row in rows] == [row["px"] * row["sz"] for row in expected]
    notional = sum((row["px"] * row["sz"] for row in expected), Decimal(0))
    assert (made.published.notional, made.published.notional_unknown) == (notional, 0)
    by_iceberg = _rows_by_iceberg(connection, lake)
    assert by_iceberg.num_rows == len(rows)
    assert by_iceberg.column("notional").to_pylist() == [row["notional"] for row in rows]
    [snapshot] = _snapshots(connection, lake)
    assert snapshot.summary["hl.day"] == str(DAY)
    assert (snapshot.summary["hl.state"], snapshot.summary["hl.rows"]) == (made.published.state, str(len(rows)))
    assert list_current_days(connection) == {DAY}
    # The same objects again: nothing is written.
    again = compact_day(DAY, lake, connection)
    assert (again.is_new, again.published) == (False, made.published)
    assert len(_snapshots(connection, lake)) == 1


def test_notional_is_exact_up_to_its_last_digit_and_unknown_beyond() -> None:
    pairs = [
        ("0.0000000001", "0.0000000001"),
        ("1" + "0" * 27, "0.0000000001"),
        ("9" * 28 + ".9999999999", "0.0000000001"),
        ("999999999.9999999999", "999999999.9999999999"),
        ("1000000000", "1000000000"),
        ("1000000000", "999999999.9999999999"),
        ("-3.5", "2"),
        ("9" * 28, "9" * 28),
        (None, "1"),
    ]
    px, sz = (
        pa.chunked_array([pa.array([None if pair[i] is None else Decimal(pair[i]) for pair in pairs], pa.decimal128(38, 10))])
        for i in (0, 1)
    )

    made = multiply_exactly(px, sz).to_pylist()

    # By integers, in units of 1e-10 and 1e-20.
    for (a, b), product in zip(pairs, made, strict=True):
        exact = None if a is None or b is None else int(Decimal(a).scaleb(10, _WIDE)) * int(Decimal(b).scaleb(10, _WIDE))
        expected = None if exact is None or abs(exact) >= 10**38 else exact
        assert (None if product is None else int(product.scaleb(20, _WIDE))) == expected, (a, b)
    assert [product is None for product in made] == [False] * 4 + [True] + [False] * 2 + [True] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("load")
def test_a_day_that_changes_is_outdated_at_once_and_replaced_in_one_snapshot(
    lake: Lake, connection: psycopg.Connection, settings: Settings
) -> None:
    first = compact_day(DAY, lake, connection).published
    # The object of the second hour changes.
    [changed] = Path(settings.node_data_url).rglob("20260315/0.lz4")
    changed.write_bytes((changed.parent / "1.lz4").read_bytes())
    fetch_fills(DAY, lake, connection, settings)
    load_fills(DAY, lake, connection, settings)
    assert list_current_days(connection) == set()
    assert list_days_to_compact(connection, 0) == [] or list_days_to_compact(connection, 0) == [DAY]

    second = compact_day(DAY, lake, connection).published

    assert first is not None
    assert second is not None
    assert first.files != second.files
    assert first.rows != second.rows
    assert Path(lake.root, first.files[0]).exists()
    assert _rows_by_iceberg(connection, lake).num_rows == second.rows
    assert [str(one.summary.operation.value) for one in _snapshots(connection, lake)] == ["append", "overwrite"]
    assert list_current_days(connection) == {DAY}


@pytest.mark.slow
@pytest.mark.usefixtures("load")
def test_the_ledger_is_repaired_from_the_catalog(lake: Lake, connection: psycopg.Connection) -> None:
    made = compact_day(DAY, lake, connection).published
    connection.execute("DELETE FROM hl.lake_days")
    with opened_catalog(connection, lake) as catalog:
        assert repair_ledger(connection, catalog, lake) == [DAY]
        assert read_lake_days(connection, "fills") == {DAY: made}
        connection.execute("UPDATE hl.lake_days SET date = date + 1")
        assert repair_ledger(connection, catalog, lake) == [DAY, NEXT]
        assert read_lake_days(connection, "fills") == {DAY: made}
        assert repair_ledger(connection, catalog, lake) == []


@pytest.mark.usefixtures("load")
def test_hours_that_were_not_loaded_are_not_published(lake: Lake, connection: psycopg.Connection) -> None:
    connection.execute("UPDATE hl.fills_day_objects SET etag = 'other'")
    with pytest.raises(LakeLacksError, match=r"the lake has hours that were not loaded into hl\.fills"):
        compact_day(DAY, lake, connection)
    with pytest.raises(LakeLacksError, match="2026-03-16 is not loaded: run `hl ingest --from 2026-03-16 --to 2026-03-16`"):
        compact_day(NEXT, lake, connection)
    assert _snapshots(connection, lake) == []


@pytest.mark.slow
@pytest.mark.usefixtures("load")
def test_a_day_leaves_hl_fills_only_after_it_is_published(lake: Lake, connection: psycopg.Connection, settings: Settings) -> None:
    kept = connection.execute("SELECT count(*) FROM hl.fills").fetchone()
    connection.execute("UPDATE hl.fills_day_objects SET etag = 'other'")
    thin_old_days(lake, connection, settings.model_copy(update={"fills_keep_days": 0}))
    assert connection.execute("SELECT count(*) FROM hl.fills").fetchone() == kept
    load_fills(DAY, lake, connection, settings)

    move_to_lake(DAY, lake, connection, 5)

    assert connection.execute("SELECT count(*) FROM hl.fills").fetchone() == (0,)
    assert list_current_days(connection) == {DAY}
    # With 0 nothing returns to hl.fills.
    load_fills(DAY, lake, connection, settings.model_copy(update={"fills_keep_days": 0}))
    assert connection.execute("SELECT count(*) FROM hl.fills").fetchone() == (0,)


@pytest.mark.slow
@pytest.mark.usefixtures("load")
def test_vacuum_removes_only_what_is_old_and_unreferenced(lake: Lake, connection: psycopg.Connection, settings: Settings) -> None:
    made = compact_day(DAY, lake, connection).published
    assert made is not None
    directory = Path(lake.root, made.files[0]).parent
    old, young = directory / ".killed.parquet.tmp", directory / "young.parquet"
    spilled = Path(lake.root, "iceberg/fills/spill/killed/sort")
    spilled.mkdir(parents=True)
    for file in (old, young, spilled / "block"):
        file.write_text("x")
    long_ago = (datetime.now(UTC) - timedelta(days=30)).timestamp()
    for file in Path(lake.root, "iceberg").rglob("*"):
        if file.is_file() and file != young:
            os.utime(file, (long_ago, long_ago))

    [would] = vacuum(lake, connection, settings, dry_run=True)
    [done] = vacuum(lake, connection, settings)

    assert would.files == done.files == sorted(str(file.relative_to(lake.root)) for file in (old, spilled / "block"))
    assert young.exists()
    assert _rows_by_iceberg(connection, lake).num_rows == made.rows
