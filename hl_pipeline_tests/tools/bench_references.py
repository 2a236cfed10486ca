"""The references of `make bench`, on the same objects and in the same run: DuckDB decodes the same lines, PostgreSQL loads a
prepared file and builds the same indexes, and another downloader reads the same bucket.

Each reference does less than the pipeline: it rejects nothing, checks nothing and, except PostgreSQL, stores nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import duckdb
import lz4.frame
import psycopg
from psycopg import sql

THREADS = 2
_DECIMAL = "DECIMAL(38,10)"
_FILL = {
    **dict.fromkeys(("coin", "side", "dir", "hash", "cloid", "feeToken", "builder"), "VARCHAR"),
    **dict.fromkeys(("px", "sz", "startPosition", "closedPnl", "fee", "builderFee", "deployerFee", "priorityGas"), _DECIMAL),
    **dict.fromkeys(("time", "oid", "tid", "twapId"), "BIGINT"),
    "crossed": "BOOLEAN",
}
_LIQUIDATION = f'{{"liquidatedUser": "VARCHAR", "markPx": "{_DECIMAL}", "method": "VARCHAR"}}'
_STRUCTURE = "{" + ", ".join(f'"{name}": "{kind}"' for name, kind in _FILL.items()) + f', "liquidation": {_LIQUIDATION}' + "}"
_DECODE = f"""
CREATE OR REPLACE TEMP TABLE fills AS
SELECT block_number, block_time, local_time, event[1] ->> '$' AS wallet, from_json(event[2], '{_STRUCTURE}') AS fill
FROM (SELECT block_number, block_time, local_time, unnest(events) AS event
      FROM read_json(?, format = 'newline_delimited', maximum_object_size = 268435456, columns = {{
          block_number: 'BIGINT', block_time: 'TIMESTAMP_NS', local_time: 'TIMESTAMP_NS', events: 'JSON[][]'}}))
"""


def decode_with_duckdb(objects: Iterable[Path], directory: Path) -> tuple[float, int]:
    """Measure how long DuckDB decodes decompressed lines to the same typed columns. Returns the seconds and the fills."""
    lines = directory / "fills.json"
    with lines.open("wb") as file:
        for path in objects:
            file.write(lz4.frame.decompress(path.read_bytes()))
    try:
        with duckdb.connect(config={"threads": THREADS}) as connection:
            began = time.perf_counter()
            connection.execute(_DECODE, [str(lines)])
            seconds = time.perf_counter() - began
            [(fills,)] = connection.execute("SELECT count(fill.tid) FROM fills").fetchall()
    finally:
        lines.unlink()
    return seconds, fills


def copy_and_index(connection: psycopg.Connection, day: date, directory: Path) -> tuple[float, float]:
    """Measure the seconds in which PostgreSQL copies a loaded day from a prepared file and builds the same indexes."""
    name = f"fills_{day:%Y%m%d}"
    table, ready = sql.Identifier("hl", name), directory / "fills.binary"
    plain = sql.Identifier("hl", "bench_plain")
    with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(table)) as copy, ready.open("wb") as file:
        file.writelines(copy)
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE {})").format(plain, table))
    began = time.perf_counter()
    statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(plain)
    with connection.cursor().copy(statement) as copy, ready.open("rb") as file:
        while data := file.read(1 << 20):
            copy.write(data)
    copied = time.perf_counter()
    for what in ("(wallet, time)", "(twap_id) WHERE twap_id IS NOT NULL", "USING brin (time)"):
        connection.execute(sql.SQL(f"CREATE INDEX ON {{}} {what}").format(plain))  # type: ignore[arg-type]
    indexed = time.perf_counter()
    connection.execute(sql.SQL("DROP TABLE {}").format(plain))
    ready.unlink()
    return copied - began, indexed - copied


def install_hl_data(directory: Path) -> Path:
    """Install `hyperliquid-data` from the package index into a separate environment. Returns its program."""
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    subprocess.run([directory / "bin/pip", "install", "--quiet", "hyperliquid-data==0.1.0"], check=True)
    return directory / "bin/hl-data"


def ingest_with_hl_data(program: Path, day: date, lake: Path, environment: dict[str, str]) -> float:
    """Measure the seconds in which `hl-data fills` writes a day's ten columns of floats to Parquet, from the same S3 server."""
    began = time.perf_counter()
    subprocess.run(
        [program, "fills", "--dates", str(day), "--root", lake],
        env={**os.environ, **environment, "HL_DATA_NO_WARN": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began
