"""The derived tables in the lake have the rows of PostgreSQL. `hl lake` looks at the lake's tables and keeps them in order."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hl_pipeline.data_dictionary import TABLES
from hl_pipeline.lake.published import columns_of, schema_of
from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.stages.publish_tables import publish_tables
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import Done, run_in_process
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.days import make_day

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 15)
_DERIVED = ("twaps", "candles", "daily_stats", "user_stats")


@dataclass(frozen=True, slots=True)
class Published:
    """An installation with a loaded day, whose derived tables are published."""

    home: Path
    environment: dict[str, str]

    @property
    def lake(self) -> Path:
        return Path(self.environment["HL_LAKE_URL"])

    def hl(self, *arguments: str) -> Done:
        return run_in_process(self.home, self.environment, *arguments)

    def connect(self) -> psycopg.Connection:
        return connect(self.environment["HL_DATABASE_URL"], "test")

    def publish(self) -> None:
        with self.connect() as connection:
            publish_tables(DAY, open_lake(str(self.lake)), connection)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Published:
    home = tmp_path_factory.mktemp("lake-tables")
    sample = write_sample(home, first_day=DAY, fills_per_hour=300)
    environment = {
        "HL_HOME": str(home),
        "HL_LAKE_URL": str(home / "lake"),
        "HL_DATABASE_URL": new_database(),
        "HL_NODE_DATA_URL": str(sample.node_data_dir),
        "HL_TWAP_DATA_URL": str(sample.twap_data_dir),
        "HL_SETTINGS_RESOLVED": "1",
    }
    make_day(environment, DAY)
    return Published(home, environment)


@pytest.fixture(scope="module")
def published(made: Published) -> Published:
    refused = made.hl("lake", "query", "SELECT 1")
    assert (refused.returncode, "no day was compacted yet" in refused.stderr) == (1, True)
    assert made.hl("lake", "verify").returncode == 0
    made.publish()
    return made


@pytest.fixture
def copy(published: Published, tmp_path: Path) -> Generator[Published]:
    """The same with files that a test may change. They come back at the end."""
    shutil.copytree(published.lake / "iceberg", tmp_path / "iceberg")
    with published.connect() as connection:
        locations = connection.execute("SELECT metadata_location, table_name FROM hl_iceberg.iceberg_tables").fetchall()
    yield published
    with published.connect() as connection, connection.cursor() as cursor:
        cursor.executemany("UPDATE hl_iceberg.iceberg_tables SET metadata_location = %s WHERE table_name = %s", locations)
    shutil.rmtree(published.lake / "iceberg")
    shutil.move(tmp_path / "iceberg", published.lake / "iceberg")


def _as_text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


@pytest.mark.parametrize("table", _DERIVED)
def test_a_published_table_has_the_rows_of_postgresql_to_the_last_digit(table: str, published: Published) -> None:
    names = [column.name for column in TABLES[f"hl.{table}"].columns]
    with published.connect() as connection:
        query = f"SELECT {', '.join(names)} FROM hl.{table}"
        if table != "twaps":
            query += f" WHERE date = '{DAY}'"
        expected = [tuple(map(_as_text, row)) for row in connection.execute(query.encode())]
    rows = json.loads(published.hl("lake", "query", f"SELECT count(*) AS n FROM {table}", "--json").stdout)
    path = published.hl("lake", "files", table).stdout.strip()
    found = [tuple(row[name] for name in names) for row in pq.ParquetFile(path).read().to_pylist()]
    if table == "twaps":
        of_day = {row[0] for row in found}
        expected = [row for row in expected if row[0] in of_day]
        with published.connect() as connection:
            begun = connection.execute("SELECT count(*) FROM hl.twaps WHERE begins_at::date = %s", [DAY]).fetchone()
        assert begun is not None
        assert len(found) >= begun[0] > 0
    assert len(found) > 5
    assert rows == [{"n": len(found)}]
    assert sorted(found, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize("table", _DERIVED)
def test_the_columns_of_a_published_table_say_what_they_mean(table: str, published: Published) -> None:
    path = published.hl("lake", "files", table).stdout.strip()
    schema = pq.read_schema(path)
    assert schema.names == [column.name for column in columns_of(table)] == schema_of(table).names
    for column, field in zip(columns_of(table), schema, strict=True):
        assert field.metadata[b"meaning"].decode() == column.meaning
        assert pa.types.is_decimal(field.type) == (column.type == "numeric")


def test_queries_see_the_tables_as_of_a_time_and_change_nothing(published: Published) -> None:
    ask = "SELECT coin, volume FROM daily_stats ORDER BY volume DESC LIMIT 3"
    now = published.hl("lake", "query", ask, "--csv").stdout
    between = datetime.now(UTC)
    with published.connect() as connection:
        connection.execute("CREATE TABLE public.kept AS SELECT * FROM hl.daily_stats")
        connection.execute("UPDATE hl.daily_stats SET volume = 0")
        published.publish()
        connection.execute(
            "UPDATE hl.daily_stats d SET volume = k.volume FROM public.kept k WHERE (k.coin, k.date) = (d.coin, d.date)"
        )
        connection.execute("DROP TABLE public.kept")
    assert published.hl("lake", "query", ask, "--csv").stdout != now
    assert published.hl("lake", "query", ask, "--csv", "--as-of", between.isoformat()).stdout == now
    versions = json.loads(published.hl("lake", "snapshots", "daily_stats", "--json").stdout)
    assert [version["is_current"] for version in versions] == [True, False]
    assert {version["facts"]["day"] for version in versions} == {str(DAY)}
    published.publish()
    assert published.hl("lake", "query", ask, "--csv").stdout == now

    early = published.hl("lake", "query", ask, "--as-of", "2026-03-16")
    assert (early.returncode, "the oldest is of" in " ".join(early.stderr.split())) == (1, True)
    for forbidden in ("SELECT * FROM read_text('/etc/hostname')", "COPY candles TO 'out.csv'", "ATTACH 'x.db'", "SELEC 1"):
        refused = published.hl("lake", "query", forbidden)
        assert refused.returncode == 2, forbidden
        assert "views: " in refused.stderr
    assert published.hl("lake", "snapshots", "nothing").returncode == 2
    assert published.hl("lake", "query", ask, "--as-of", "yesterday").returncode == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("SELECT nothing FROM candles", "Binder Error"),
        ("SELECT * FROM trades", "Catalog Error"),
        ("SELECT coin::INTEGER FROM candles", "Conversion Error"),
        ("SELECT error('Parquet') FROM candles", "Invalid Input Error"),
    ],
)
def test_a_wrong_query_is_never_called_damage_of_the_lake(wrong: str, said: str, published: Published) -> None:
    refused = published.hl("lake", "query", wrong)
    assert (refused.returncode, said in refused.stderr, "damaged" in refused.stderr) == (2, True, False), refused.stderr


@pytest.mark.parametrize("damage", ["missing", "not Parquet", "cut", "pages"])
def test_a_file_that_cannot_be_read_is_named_and_not_the_query(damage: str, copy: Published) -> None:
    path = Path(copy.hl("lake", "files", "candles").stdout.strip())
    content = path.read_bytes()
    half = len(content) // 2
    damaged = {"not Parquet": b"x" * 1000, "cut": content[:half], "pages": b"PAR1" + bytes(half) + content[half + 4 :]}
    path.unlink()
    if damage in damaged:
        path.write_bytes(damaged[damage])
    failed = copy.hl("lake", "query", "SELECT sum(notional), max(coin) FROM candles")
    said = " ".join(failed.stderr.split())
    assert (failed.returncode, f"{path} is missing or damaged: " in said, "`hl lake verify`" in said) == (1, True, True), said


def test_the_listed_files_are_those_of_the_snapshot(published: Published) -> None:
    files = published.hl("lake", "files", "candles").stdout.split()
    counted = duckdb.execute("SELECT count(*) FROM read_parquet($1)", [files]).fetchall()
    with published.connect() as connection:
        assert counted == connection.execute("SELECT count(*) FROM hl.candles WHERE date = %s", [DAY]).fetchall()


def test_verify_names_what_is_missing_or_differs_or_is_not_referenced(copy: Published) -> None:
    assert copy.hl("lake", "verify").returncode == 0
    of = {table: Path(copy.hl("lake", "files", table).stdout.strip()) for table in _DERIVED}
    of["candles"].unlink()
    of["twaps"].write_bytes(of["twaps"].read_bytes()[:-1])
    stray = of["user_stats"].with_name("stray.parquet")
    stray.write_bytes(b"")
    half_loaded = copy.lake / f"changing.date={DAY}"
    half_loaded.write_text("load")
    with copy.connect() as connection:
        connection.execute("UPDATE hl.lake_days SET rows = rows + 1 WHERE table_name = 'daily_stats'")
    done = copy.hl("lake", "verify")
    with copy.connect() as connection:
        connection.execute("UPDATE hl.lake_days SET rows = rows - 1 WHERE table_name = 'daily_stats'")
    said = " ".join(done.stderr.split())
    assert done.returncode == 3
    assert f"{of['candles'].name}: the file is missing" in said.replace(" ", " ")
    assert "bytes, but the catalog says" in said
    assert "but the ledger says" in said
    assert "stray.parquet: no snapshot has it" in said
    assert f"{half_loaded.name}: {DAY} is being loaded, or a load was killed: `hl ingest --from {DAY} --to {DAY}` ends it" in said
    lost = json.loads(copy.hl("lake", "verify", "--json").stdout)
    assert {fault[0] for fault in lost["faults"] if fault[3]} == {"candles", "twaps"}
    half_loaded.unlink()


def test_a_moved_lake_is_registered_again(copy: Published, tmp_path: Path) -> None:
    ask = ("lake", "query", "SELECT coin, sum(notional) FROM candles GROUP BY coin ORDER BY 2 DESC", "--csv")
    before = copy.hl(*ask).stdout
    assert copy.hl("lake", "relocate").stdout == "the catalog already has this place: nothing to do\n"
    listed = Path(copy.hl("lake", "files", "candles").stdout.strip())
    elsewhere = tmp_path / "elsewhere"
    shutil.move(copy.lake, elsewhere)
    moved = replace(copy, environment={**copy.environment, "HL_LAKE_URL": str(elsewhere)})
    try:
        refused = moved.hl(*ask)
        assert (refused.returncode, "hl lake relocate" in " ".join(refused.stderr.split())) == (1, True)
        candles = elsewhere / listed.relative_to(copy.lake)
        away = candles.rename(tmp_path / "away")
        incomplete = moved.hl("lake", "relocate")
        assert (incomplete.returncode, "nothing was changed" in incomplete.stderr) == (1, True)
        away.rename(candles)
        done = moved.hl("lake", "relocate")
        assert done.stdout == "registered again: hl.candles, hl.daily_stats, hl.twaps, hl.user_stats\n"
        assert moved.hl(*ask).stdout == before
        assert moved.hl("lake", "verify").returncode == 0
    finally:
        shutil.move(elsewhere, copy.lake)
        copy.hl("lake", "relocate")
    assert copy.hl(*ask).stdout == before


def test_equal_rows_are_published_once(published: Published) -> None:
    versions = published.hl("lake", "snapshots", "user_stats", "--json").stdout
    files = sorted((published.lake / "iceberg").rglob("*.parquet"))
    published.publish()
    assert published.hl("lake", "snapshots", "user_stats", "--json").stdout == versions
    assert sorted((published.lake / "iceberg").rglob("*.parquet")) == files


def test_vacuum_removes_what_no_snapshot_needs(copy: Published) -> None:
    stray = copy.lake / "iceberg/candles/data" / f"date={DAY}" / "stray.parquet"
    stray.write_bytes(b"")
    ancient = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    os.utime(stray, (ancient, ancient))
    planned = copy.hl("lake", "vacuum", "--dry-run").stdout
    assert "hl.candles: 0 snapshots expired, 1 files would be removed" in planned
    assert stray.exists()
    assert "hl.candles: 0 snapshots expired, 1 files removed" in copy.hl("lake", "vacuum").stdout
    assert not stray.exists()
    assert copy.hl("lake", "verify").returncode == 0


def test_status_says_what_each_tier_takes(published: Published) -> None:
    status = json.loads(published.hl("status", "--json").stdout)
    tiers = {tier["name"]: tier for tier in status["tiers"]}
    assert tiers.keys() == {"hl.fills", "hours in the lake", "compacted", "raw"}
    hours = sum(path.stat().st_size for path in (published.lake / "fills").rglob("*.parquet"))
    assert (tiers["hours in the lake"]["bytes"], tiers["hours in the lake"]["days"]) == (hours, 1)
    assert tiers["compacted"] == {"name": "compacted", "bytes": 0, "days": 0, "bytes_a_year": None}
    shown = published.hl("status").stdout
    assert f"{hours / 1e6:,.1f} MB in 1 days; a year of such days: {hours * 365 / 1e6:,.1f} MB" in " ".join(shown.split())
