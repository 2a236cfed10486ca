"""Loading a day into PostgreSQL: readers see the old day or the new one, and nobody waits for another user's long query."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest

from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.domain.datasets import BY_BLOCK
from hl_pipeline.domain.deduplicate import Deduplicated
from hl_pipeline.formats.by_block import decode_chunk
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.fills_partitions import COLUMNS, DayInUseError, ObjectOfDay, load_day
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.records.reading import read_record

DAY = date(2026, 3, 15)
KEY = "node_fills_by_block/hourly/20260315/0.lz4"
FILLS = decode_chunk(read_record("node_fills_by_block_20260315_0.jsonl")).fills.with_columns(
    object=pl.lit(KEY), ordinal=pl.int_range(pl.len(), dtype=pl.Int32)
)
OF_DAY = FILLS.filter(pl.col("time") >= datetime(2026, 3, 15, tzinfo=UTC))

_LOAD = """
import os, sys
from datetime import date
from hl_pipeline_tests.days import make_day
made = make_day(os.environ, date(2026, 3, 15), ["raw_fills", "fills"])
print(made["fills"].rows > 0, *{"duckdb", "pandas", "pyiceberg"} & sys.modules.keys())
"""


@pytest.fixture
def sources(connection: psycopg.Connection) -> dict[str, ObjectOfDay]:
    connection.execute(
        "INSERT INTO hl.s3_ingest_log (object_id, object_key, source, object_date, object_hour) "
        "VALUES (1, %s, 'x', '2026-03-15', 0)",
        [KEY],
    )
    return {KEY: ObjectOfDay(1, "e", 1)}


def _load(
    connection: psycopg.Connection, sources: dict[str, ObjectOfDay], fills: pl.DataFrame, day: date = DAY, wait: float = 5
) -> None:
    verdict = DayVerdict(day, [BY_BLOCK], [], [], [], [])
    load_day(connection, day, [(0, Deduplicated(fills, 0, 0))], sources, verdict, wait)


def _count(url: str) -> int:
    with connect(url, "short reader") as reader:
        row = reader.execute("SELECT count(*) FROM hl.fills").fetchone()
    assert row is not None
    return row[0]


def test_a_long_reader_blocks_neither_a_new_day_nor_other_readers(
    connection: psycopg.Connection, database_url: str, sources: dict[str, ObjectOfDay]
) -> None:
    _load(connection, sources, OF_DAY)
    with connect(database_url, "long reader") as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM hl.fills")
        next_day = OF_DAY.with_columns(pl.col("time") + timedelta(days=1))
        _load(connection, sources, next_day, date(2026, 3, 16))
        assert _count(database_url) == 2 * OF_DAY.height


@pytest.mark.slow
def test_a_reload_waits_for_a_long_reader_without_blocking_others_and_names_it(
    connection: psycopg.Connection, database_url: str, sources: dict[str, ObjectOfDay]
) -> None:
    _load(connection, sources, OF_DAY)
    waits: list[float] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            started = time.monotonic()
            assert _count(database_url) == OF_DAY.height
            waits.append(time.monotonic() - started)

    with connect(database_url, "long reader") as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM hl.fills")
        other = threading.Thread(target=read)
        other.start()
        with pytest.raises(DayInUseError, match=r"hl.fills was in use for 2 s by .*\(long reader\).*pg_cancel_backend"):
            _load(connection, sources, OF_DAY.head(5), wait=2)
        stop.set()
        other.join()
    assert len(waits) > 5
    assert max(waits) < 1
    assert _count(database_url) == OF_DAY.height

    _load(connection, sources, OF_DAY.head(5))
    assert _count(database_url) == 5


def test_a_day_is_replaced_whole_and_without_rows_it_is_empty(
    connection: psycopg.Connection, database_url: str, sources: dict[str, ObjectOfDay]
) -> None:
    for rows in (3, 7, 0, 2):
        _load(connection, sources, OF_DAY.head(rows))
        assert _count(database_url) == rows
        assert connection.execute("SELECT date, rows FROM hl.fills_days").fetchall() == [(DAY, rows)]
        assert connection.execute("SELECT rows FROM hl.fills_day_objects").fetchall() == [(rows,)]


def test_a_row_of_another_day_is_refused_and_changes_nothing(
    connection: psycopg.Connection, database_url: str, sources: dict[str, ObjectOfDay]
) -> None:
    _load(connection, sources, OF_DAY.head(3))
    with pytest.raises(psycopg.errors.CheckViolation):
        _load(connection, sources, FILLS)
    assert _count(database_url) == 3
    assert connection.execute("SELECT rows FROM hl.fills_days").fetchall() == [(3,)]


def test_wallet_and_twap_queries_use_the_indexes(connection: psycopg.Connection, sources: dict[str, ObjectOfDay]) -> None:
    _load(connection, sources, OF_DAY)
    connection.execute("SET enable_seqscan = off")
    for where, index in (
        ("wallet = 'x' AND time > '2026-03-15'", "fills_20260315_wallet_time"),
        ("twap_id = 5", "fills_20260315_twap_id"),
    ):
        plan = connection.execute(f"EXPLAIN SELECT * FROM hl.fills WHERE {where}".encode()).fetchall()
        assert index in str(plan)


def test_the_readable_view_shows_what_the_source_wrote(connection: psycopg.Connection, sources: dict[str, ObjectOfDay]) -> None:
    _load(connection, sources, OF_DAY)
    row = connection.execute(
        "SELECT coin, px::text, sz::text, hash, cloid, object_key FROM hl.fills_readable "
        "WHERE cloid IS NOT NULL ORDER BY time, tid LIMIT 1"
    ).fetchone()
    mine = OF_DAY.filter(pl.col("cloid").is_not_null()).sort("time", "tid").row(0, named=True)
    assert row == (
        mine["coin"],
        f"{mine['px'].normalize():f}",
        f"{mine['sz'].normalize():f}",
        "0x" + mine["hash"].hex(),
        "0x" + mine["cloid"].hex(),
        KEY,
    )


def test_the_table_has_every_column_that_is_copied_and_no_other(connection: psycopg.Connection) -> None:
    cursor = connection.execute("SELECT * FROM hl.fills LIMIT 0")
    assert {column.name for column in cursor.description or []} == set(COLUMNS)


def test_migrations_go_up_down_and_up_again(database_url: str, connection: psycopg.Connection) -> None:
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'hl' ORDER BY 1"
    there = connection.execute(tables).fetchall()
    migrate(database_url, "base", down=True)
    assert connection.execute(tables).fetchall() == [("alembic_version",)]
    migrate(database_url)
    migrate(database_url)
    assert connection.execute(tables).fetchall() == there


def test_the_second_migration_keeps_every_row_and_numbers_the_objects_anew(
    database_url: str, connection: psycopg.Connection
) -> None:
    migrate(database_url, "base", down=True)
    migrate(database_url, "0001")
    connection.execute(
        "INSERT INTO hl.s3_ingest_log (object_key, source, object_date, object_hour, etag) VALUES "
        "('9.lz4', 'node_fills_by_block', '2026-03-15', 9, NULL), ('10.lz4', 'node_fills_by_block', '2026-03-15', 10, 'e'), "
        "('09.lz4', 'node_fills_by_block', '2026-03-15', 9, 'f'), ('10.gz', 'node_fills_by_block', '2026-03-15', 10, 'd')"
    )
    connection.execute("INSERT INTO hl.fills_days (date, rows, duplicates) VALUES ('2026-03-15', 2, 0)")
    connection.execute(
        "INSERT INTO hl.fills_day_objects VALUES ('2026-03-15', 2, 'e', 1), ('2026-03-15', 3, 'f', 1), ('2026-03-15', 4, 'd', 1)"
    )
    connection.execute("CREATE TABLE hl.fills_20260315 PARTITION OF hl.fills FOR VALUES FROM ('2026-03-15') TO ('2026-03-16')")
    row = "('2026-03-15 10:00+0', 1, {}, 'B', 'BTC', '0x', 1, 2)"
    connection.execute(
        "UPDATE hl.s3_ingest_log SET fetched_at = CASE etag WHEN 'd' THEN '2026-03-01' ELSE now() END WHERE etag IS NOT NULL"
    )
    names = "time, tid, object_id, side, coin, wallet, px, sz"
    connection.execute(f"INSERT INTO hl.fills ({names}) VALUES {row.format(2)}, {row.format(3)}, {row.format(4)}".encode())

    migrate(database_url)

    # 1,169 days after 2023-01-01, in hours.
    nine, ten = 3_000_000 + 1_169 * 24 + 9, 3_000_000 + 1_169 * 24 + 10
    objects = connection.execute("SELECT object_id, object_key FROM hl.s3_ingest_log ORDER BY 1").fetchall()
    assert objects == [(nine, "09.lz4"), (ten, "10.lz4")]
    given = connection.execute("SELECT object_id, etag, rows FROM hl.fills_day_objects ORDER BY 1").fetchall()
    assert given == [(nine, "f", 1), (ten, "e", 2)]
    assert connection.execute("SELECT object_id FROM hl.fills ORDER BY 1").fetchall() == [(nine,), (ten,), (ten,)]
    migrate(database_url, "0001", down=True)
    names = "object_key, source, object_date, object_hour"
    connection.execute(f"INSERT INTO hl.s3_ingest_log ({names}) VALUES ('x', 'y', '2026-03-15', 1)".encode())
    assert connection.execute("SELECT max(object_id) FROM hl.s3_ingest_log").fetchone() == (ten + 1,)


def test_migrations_at_once_do_not_disturb_each_other(database_url: str) -> None:
    migrate(database_url, "base", down=True)
    failed: list[BaseException] = []

    def up() -> None:
        try:
            migrate(database_url)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
            failed.append(error)

    threads = [threading.Thread(target=up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.parametrize(
    ("object_date", "hour", "bad_lines", "expected"),
    [
        ("2026-03-15", 13, 3, True),
        ("2026-03-16", 0, 1, True),
        ("2026-03-15", 13, 0, False),
        ("2026-03-16", 1, 3, False),
        ("2026-03-14", 23, 3, False),
    ],
)
def test_lines_in_quarantine_count_for_the_day_though_their_object_gave_it_no_row(
    connection: psycopg.Connection, object_date: str, hour: int, bad_lines: int, expected: bool
) -> None:
    connection.execute(
        "INSERT INTO hl.s3_ingest_log (object_id, object_key, source, object_date, object_hour, rows, bad_lines) "
        "VALUES (1, 'k', 'node_fills_by_block', %s, %s, 0, %s)",
        [object_date, hour, bad_lines],
    )
    assert connection.execute("SELECT hl.has_bad_lines('2026-03-15')").fetchone() == (expected,)


@pytest.mark.slow
def test_a_load_does_not_import_libraries_that_it_does_not_need(world: World, tmp_path: Path) -> None:
    sample = write_sample(tmp_path / "sample", first_day=DAY, hours=1, fills_per_hour=400)
    environment = world.environment | {"HL_NODE_DATA_URL": str(sample.node_data_dir)}
    done = subprocess.run([sys.executable, "-c", _LOAD], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
