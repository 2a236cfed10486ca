"""The data dictionary matches database and lake. Each query in README.md and docs/ runs and returns what the page says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import lz4.frame
import polars as pl
import psycopg
import pyarrow.parquet as pq
import pytest
from dagster import DagsterInstance, materialize

from hl_pipeline.data_dictionary import FILL_COLUMNS, LAKE_ONLY, ORDINAL, STATUS_COLUMNS, STATUS_LAKE_ONLY, TABLES
from hl_pipeline.definitions import ASSETS, build_resources
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.documents import Block, blocks

DAY = date(2026, 3, 15)
_NOBODY = "0x" + "0" * 40
# Those of the recipes have tests of their own, with a week of days.
_RECIPES = "docs/guides/recipes.md"
# Those of the engines read the Iceberg tables (system/test_engines.py).
_ENGINES = "docs/guides/engines.md"
_BLOCKS = blocks("sql", "duckdb", but=(_RECIPES,))
_POLARS = [block for block in blocks("python", but=(_RECIPES, _ENGINES)) if "import polars" in block.text]
# What finds nothing on a whole day: holes, days at rest, requests that cost something, and a replica that this server is not.
_FIND_NOTHING = ("state <> 'whole'", "is_hole", "hl.s3_requests", "hl.lake_days")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A generated day that is loaded, with one line in quarantine; the truth beside it."""

    lake: Path
    database_url: str
    truth: Path
    busiest: str


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase, instance: DagsterInstance) -> Loaded:
    home = tmp_path_factory.mktemp("model")
    sample = write_sample(home, first_day=DAY, fills_per_hour=300)
    # One more line, of no block: nothing that the truth tells of is lost.
    path = sample.node_data_dir / "node_fills_by_block/hourly/20260315/6.lz4"
    path.write_bytes(lz4.frame.compress(lz4.frame.decompress(path.read_bytes()) + b"{broken\n"))
    url = new_database()
    values = {"HL_HOME": home, "HL_LAKE_URL": home / "lake", "HL_DATABASE_URL": url, "HL_NODE_DATA_URL": sample.node_data_dir}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, str(value))
        assert materialize(ASSETS, partition_key=str(DAY), instance=instance, resources=build_resources(Settings())).success
    truth = pl.read_parquet(home / "truth" / "fills.parquet").filter(pl.col("date") == DAY)
    busiest = truth.group_by("wallet").agg(pl.col("twap_rows", "rows").sum()).sort("rows", "wallet").row(-1)[0]
    return Loaded(home / "lake", url, home / "truth", busiest)


def _fitted(text: str, loaded: Loaded) -> str:
    return text.replace(_NOBODY, loaded.busiest).replace(".hl/lake", str(loaded.lake))


def test_the_dictionary_has_the_columns_of_the_database_and_their_types(connection: psycopg.Connection) -> None:
    for name, table in TABLES.items():
        columns = connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [name],
        ).fetchall()
        spelled = {"timestamp with time zone": "timestamptz"}
        assert {(column, spelled.get(kind, kind)) for column, kind in columns} == {(c.name, c.type) for c in table.columns}, name
    tables = connection.execute(
        "SELECT 'hl.' || relname FROM pg_class WHERE relnamespace = 'hl'::regnamespace AND relkind IN ('r', 'p') "
        "AND NOT relispartition AND relname <> 'alembic_version'"
    ).fetchall()
    assert {row[0] for row in tables} == set(TABLES)


@pytest.mark.slow
def test_the_dictionary_has_the_columns_of_the_lake(loaded: Loaded) -> None:
    raw = pq.read_schema(next((loaded.lake / "raw_fills/object_date=2026-03-15").glob("*.parquet")))
    fills = pq.read_schema(loaded.lake / "fills/date=2026-03-15/hour=13.parquet")
    known = {column.name for column in (*FILL_COLUMNS, ORDINAL, *LAKE_ONLY)}
    assert set(fills.names) == known
    assert set(raw.names) == known - {"object", "ordinal"}
    assert str(fills.field("ordinal").type) == "int32"
    assert {str(fills.field(c.name).type) for c in FILL_COLUMNS if c.type == "numeric"} == {"decimal128(38, 10)"}


def test_each_column_that_another_asset_gives_is_one_of_its_columns() -> None:
    of_asset = {name.removeprefix("hl."): {c.name for c in table.columns} for name, table in TABLES.items()}
    of_asset["raw_fills"] = {c.name for c in (*FILL_COLUMNS, *LAKE_ONLY)}
    of_asset["raw_twap_statuses"] = {c.name for c in (*STATUS_COLUMNS, *STATUS_LAKE_ONLY)}
    for table in TABLES.values():
        given = [name for column in table.columns if not isinstance(column.comes_from, str) for name in column.comes_from]
        for name in given if table.upstream else []:
            asset, _, column = name.rpartition(".")
            assert column in of_asset[asset or str(table.upstream)], name


@pytest.mark.parametrize("block", [block for block in _BLOCKS if block.language == "sql"], ids=str)
def test_each_query_in_postgresql_gives_rows(block: Block, loaded: Loaded) -> None:
    with connect(loaded.database_url) as connection:
        for query in filter(str.strip, block.text.split(";\n")):
            rows = connection.execute(_fitted(query, loaded).encode()).fetchall()
            assert bool(rows) != any(words in query for words in _FIND_NOTHING)


@pytest.mark.parametrize("block", [block for block in _BLOCKS if block.language == "duckdb"], ids=str)
def test_each_query_in_duckdb_gives_rows(block: Block, loaded: Loaded) -> None:
    assert duckdb.execute(_fitted(block.text, loaded)).fetchall()


@pytest.mark.parametrize("block", _POLARS, ids=str)
def test_each_example_in_polars_gives_rows(block: Block, loaded: Loaded) -> None:
    names: dict[str, Any] = {}
    exec(compile(_fitted(block.text, loaded), block.page.name, "exec"), names)
    assert names["result"].height > 0


def test_duckdb_reads_the_sums_of_the_generators_truth_from_the_lake(loaded: Loaded) -> None:
    found = duckdb.execute(
        "SELECT coin, wallet, count(*), sum(sz), sum(closed_pnl), sum(fee), count(twap_id), sum(sz) FILTER (crossed) "
        f"FROM read_parquet('{loaded.lake}/fills/*/*.parquet', hive_partitioning = true) WHERE date = '2026-03-15' GROUP BY ALL"
    ).fetchall()
    truth = pl.read_parquet(loaded.truth / "fills.parquet").filter(pl.col("date") == DAY)
    names = ["rows", "sz_sum", "closed_pnl_sum", "fee_sum", "twap_rows", "taker_sz_sum"]
    expected = {(row["coin"], row["wallet"]): [Decimal(row[name]) for name in names] for row in truth.iter_rows(named=True)}
    assert {row[:2]: [Decimal(value or 0) for value in row[2:]] for row in found} == expected


def test_volume_in_duckdb_is_the_volume_of_the_statistics(loaded: Loaded) -> None:
    [query] = [block.text for block in _BLOCKS if block.language == "duckdb" and "each trade once" in block.text]
    found = duckdb.execute(_fitted(query, loaded).replace("LIMIT 10", "")).fetchall()
    with connect(loaded.database_url) as connection:
        counted = connection.execute("SELECT coin, trades, volume, notional FROM hl.daily_stats WHERE trades > 0").fetchall()
    assert sorted(found) == sorted(counted)


def test_open_and_close_by_hand_are_those_of_the_candles(loaded: Loaded) -> None:
    [by_hand] = [block.text for block in _BLOCKS if "Open and close by hand" in block.text]
    with connect(loaded.database_url) as connection:
        found = connection.execute(_fitted(by_hand, loaded).encode()).fetchall()
        made = connection.execute("SELECT coin, time, open, close FROM hl.candles").fetchall()
    assert len(made) > 1_000
    assert sorted(found) == sorted(made)


def test_volume_by_hand_is_the_volume_of_the_statistics(loaded: Loaded) -> None:
    [by_hand] = [block.text for block in _BLOCKS if "Notional by hand" in block.text]
    with connect(loaded.database_url) as connection:
        counted = connection.execute("SELECT sum(notional) FROM hl.daily_stats").fetchone()
        assert connection.execute(_fitted(by_hand, loaded).encode()).fetchone() == counted
