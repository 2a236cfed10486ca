"""Every engine reads the same from the lake, to the last digit: counts, sums, notional, fees by token and sizes by coin.

What a plain sum does where it overflows is here as well, because docs/guides/engines.md says so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import lz4.frame
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from sqlalchemy import make_url

from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.stages.lake_tables import files_as_of
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.days import make_day
from hl_pipeline_tests.documents import DOCS, blocks_of
from hl_pipeline_tests.engines import (
    ONLY_LAKE,
    Figures,
    of_arrow,
    of_chdb,
    of_datafusion,
    of_duckdb,
    of_polars,
    of_postgresql,
    of_records,
    of_spark,
    pc,
    read_records,
    start_spark,
    without,
)

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 15)
_LARGEST = "9999999999999999999999999999.9999999999"
_SMALLEST = "0.0000000001"
# px, sz, fee, and what differs. Of the second and the third, px * sz has more than 18 digits before the point.
_ODD: list[tuple[str, str, str, dict[str, Any]]] = [
    (_SMALLEST, _SMALLEST, f"-{_SMALLEST}", {}),
    (_LARGEST, "1", "0", {}),
    (_LARGEST, _LARGEST, _LARGEST, {"startPosition": f"-{_LARGEST}"}),
    (_LARGEST, _SMALLEST, "0.0", {"oid": 2**63 - 1, "coin": "ODD1"}),
    ("899999999999999999.9999999999", "1", "-0.5", {"oid": 2**63 - 1, "feeToken": "HYPE", "coin": "odd:2"}),
    ("899999999999999999.0000000001", "1", "1", {"coin": "@ODD", "feeToken": "ÜBER \\ '\""}),
    ("1.23456789", "0.000000001", "0.0000000001", {"novel": {"deep": [1, None]}, "cloid": None}),
    ("3", "0", "0", {"twapId": 0, "builder": "0x" + "0" * 40, "builderFee": "-0.0000000001"}),
]


@dataclass(frozen=True, slots=True)
class Filled:
    """A loaded and compacted day of some 100,000 fills, odd ones among them. `truth`: by Python, from the source's records."""

    lake: Path
    files: list[str]
    database_url: str
    truth: Figures


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Filled:
    home = tmp_path_factory.mktemp("engines")
    sample = write_sample(home, first_day=DAY, fills_per_hour=4_200)
    path = sample.node_data_dir / "node_fills_by_block/hourly/20260315/6.lz4"
    lines = lz4.frame.decompress(path.read_bytes())
    path.write_bytes(lz4.frame.compress(lines + _odd_block(json.loads(lines.splitlines()[-1]))))
    url = new_database()
    environment = {
        "HL_HOME": str(home),
        "HL_LAKE_URL": str(home / "lake"),
        "HL_DATABASE_URL": url,
        "HL_NODE_DATA_URL": str(sample.node_data_dir),
    }
    make_day(environment, DAY, ("raw_fills", "fills"))
    records = read_records(sample.node_data_dir, DAY)
    assert len(records) > 100_000
    assert sum(record["notional"] is None for record in records) == 2
    return Filled(home / "lake", _compact(home / "lake", url), url, without(of_records(records), "line"))


def _odd_block(last: dict[str, Any]) -> bytes:
    """Return a line with the odd fills: a block after the last one of an object."""
    [_, like] = last["events"][0]
    events = [
        (f"0x{number:040x}", {**like, "px": px, "sz": sz, "fee": fee, "tid": 10**15 + number, **differs})
        for number, (px, sz, fee, differs) in enumerate(_ODD)
    ]
    return json.dumps({**last, "block_number": last["block_number"] + 1, "events": events}).encode() + b"\n"


def _compact(lake: Path, url: str) -> list[str]:
    """Compact the day, and return the files that the catalog has."""
    opened = open_lake(str(lake))
    with connect(url, "test") as connection:
        compact_day(DAY, opened, connection)
        return files_as_of(connection, opened, None)["fills"]


@contextmanager
def _iceberg(filled: Filled) -> Generator[Table]:
    """The table as pyiceberg reads it, opened as docs/guides/engines.md says."""
    uri = make_url(filled.database_url).set(drivername="postgresql+psycopg")
    uri = uri.update_query_dict({"options": "-csearch_path=hl_iceberg"})
    catalog = SqlCatalog("hl", uri=uri.render_as_string(hide_password=False), init_catalog_tables="false")
    try:
        yield catalog.load_table("hl.fills")
    finally:
        catalog.engine.dispose()


def _by_pyiceberg(filled: Filled) -> Figures:
    with _iceberg(filled) as table:
        return of_arrow(table.scan().to_arrow())


def _by_polars_iceberg(filled: Filled) -> Figures:
    with _iceberg(filled) as table:
        return of_polars(pl.scan_iceberg(table, reader_override="native"))


def _read_pyarrow(filled: Filled) -> pa.Table:
    return pa.concat_tables([pq.ParquetFile(path).read() for path in filled.files])


_ENGINES: dict[str, Callable[[Filled], Figures]] = {
    "DuckDB": lambda filled: of_duckdb(filled.files),
    "polars": lambda filled: of_polars(pl.scan_parquet(filled.files, hive_partitioning=False)),
    "DataFusion": lambda filled: of_datafusion(filled.files),
    "chDB": lambda filled: of_chdb(filled.files),
    "polars, Iceberg": _by_polars_iceberg,
    "pyiceberg": _by_pyiceberg,
    "Arrow": lambda filled: of_arrow(_read_pyarrow(filled)),
}


@pytest.mark.parametrize("engine", _ENGINES)
def test_the_engine_reads_what_the_sources_records_say(engine: str, filled: Filled) -> None:
    found = without(_ENGINES[engine](filled), "line")
    assert {name: found.get(name) for name in filled.truth} == filled.truth
    assert found.keys() == filled.truth.keys()


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17 or newer")
def test_spark_with_two_workers_reads_the_same_and_refuses_a_sum_that_overflows(filled: Filled) -> None:
    with start_spark() as session:
        found = without(of_spark(session, filled.files), "line")
        executors = session.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1
        for column in ("notional", "tid", "block_time_ns"):
            with pytest.raises(Exception, match=r"ARITHMETIC_OVERFLOW|NUMERIC_VALUE_OUT_OF_RANGE"):
                session.sql(f"SELECT sum({column}) FROM fills").collect()

    assert executors == 2
    assert {name: found.get(name) for name in filled.truth} == filled.truth
    assert found.keys() == filled.truth.keys()


def test_postgresql_has_what_the_sources_records_say(filled: Filled) -> None:
    with connect(filled.database_url) as connection:
        found = of_postgresql(connection)
    assert found == without(filled.truth, *ONLY_LAKE)


def test_a_plain_sum_that_overflows_is_an_error_in_duckdb_and_polars(filled: Filled) -> None:
    with pytest.raises(duckdb.OutOfRangeException, match="Overflow"):
        duckdb.execute("SELECT sum(notional) FROM read_parquet($1)", [filled.files]).fetchall()
    with pytest.raises(pl.exceptions.ComputeError, match="overflow"):
        pl.scan_parquet(filled.files, hive_partitioning=False).select(pl.col("notional").sum()).collect()


def test_plain_sums_that_overflow_are_wrong_without_an_error_elsewhere(filled: Filled) -> None:
    chdb: Any = import_module("chdb")
    table = _read_pyarrow(filled)
    context: Any = import_module("datafusion").SessionContext()
    context.from_arrow(table, "fills")
    [folder] = {path.rpartition("/")[0] for path in filled.files}
    files = f"file('{folder}/{{{','.join(Path(path).name for path in filled.files)}}}', 'Parquet')"
    scan = pl.scan_parquet(filled.files, hive_partitioning=False)
    for column in ("notional", "tid", "block_time_ns"):
        found = {
            "DataFusion": context.sql(f"SELECT sum({column}) AS total FROM fills").to_pydict()["total"][0],
            "chDB": Decimal(str(chdb.query(f"SELECT toString(sum({column})) FROM {files}", "TSVRaw")).strip()),
            "Arrow": pc.sum(table[column]).as_py(),
        }
        if column != "notional":
            found["polars"] = scan.select(pl.col(column).sum()).collect().item()
        truth = filled.truth[f"sum {column}"]
        assert {engine: total == truth for engine, total in found.items()} == dict.fromkeys(found, False), column
    # DuckDB and PostgreSQL add integers exactly.
    exact = duckdb.execute("SELECT sum(tid) FROM read_parquet($1)", [filled.files]).fetchall()
    assert exact == [(filled.truth["sum tid"],)]


def test_a_product_of_price_and_size_is_rounded_by_polars_but_notional_is_not(filled: Filled) -> None:
    scan = pl.scan_parquet(filled.files, hive_partitioning=False).filter(
        pl.col("px") * 10**6 * pl.col("sz") < 10**6, pl.col("px") < 10**6
    )
    product, notional = (
        scan.select(product=(pl.col("px") * pl.col("sz")).sum(), notional=pl.col("notional").sum()).collect().row(0)
    )
    assert notional != product


_PAGE = DOCS / "guides" / "engines.md"
_ADDRESS = 'subprocess.check_output(["hl", "url"], text=True).strip()'


@pytest.mark.parametrize("library", ["pyiceberg", "duckdb", "polars", "datafusion", "chdb"])
def test_each_example_of_the_docs_gives_rows(library: str, filled: Filled) -> None:
    first, *others = [block.text for block in blocks_of(_PAGE) if block.language == "python"]
    assert _ADDRESS in first
    [example] = [text for text in (first, *others) if f"import {library}" in text or f"from {library}" in text]
    names: dict[str, Any] = {}
    for text in dict.fromkeys((first, example)):
        exec(compile(text.replace(_ADDRESS, repr(filled.database_url)), _PAGE.name, "exec"), names)
    names["catalog"].engine.dispose()
    found = names["result"]
    assert len(found) > 5 or (library == "chdb" and found.num_rows > 5)
