"""Protects the comparison tool: two runs over the same sample compare equal, and any damage in one of them is reported."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster import DagsterInstance, materialize
from psycopg.conninfo import conninfo_to_dict

from hl_pipeline.definitions import ASSETS, BACKFILL, build_resources
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.embedded import hold
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.info_api import InfoServer, User, make_user, serve_info
from hl_pipeline_tests.tools.compare import main

_DAYS = (date(2025, 9, 2), date(2025, 6, 10))
_API_DAY = datetime(2024, 11, 3, tzinfo=UTC)
_WINDOW = {"HL_BACKFILL_FROM": "2024-11-03T00:00:00Z", "HL_BACKFILL_TO": "2024-11-05T00:00:00Z"}
_LAST_HOUR = 5
_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'hl'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"


@dataclass(frozen=True, slots=True)
class Side:
    """One installation."""

    database: str
    lake: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase, instance: DagsterInstance) -> tuple[Side, Side]:
    """Two runs over the same sources: some hours of every dataset, wallets, an object that cannot be read, bad lines."""
    root = tmp_path_factory.mktemp("compare")
    for day in _DAYS:
        made = write_sample(root / str(day), first_day=day, days=1, fills_per_hour=60)
        for directory, part in ((made.node_data_dir, "node"), (made.twap_data_dir, "twaps")):
            shutil.copytree(directory, root / part, dirs_exist_ok=True)
    for path in (root / "node").rglob("*.lz4"):
        if int(path.stem) > _LAST_HOUR:
            path.unlink()
    (root / "node/node_fills_by_block/hourly/20250902/5.lz4").write_bytes(b"no LZ4")
    with next((root / "twaps").rglob("*.jsonl")).open("a") as file:
        file.write("no JSON\n")
    sides = Side(new_database(), root / "left"), Side(new_database(), root / "right")
    for side in sides:
        _run(side, root, instance)
    return sides


def _run(side: Side, root: Path, instance: DagsterInstance) -> None:
    user = _in_window(make_user("compare", 60, slices=0.4))
    given = {"HL_NODE_DATA_URL": str(root / "node"), "HL_TWAP_DATA_URL": str(root / "twaps"), "HL_HOME": str(root / "home")}
    given |= {"HL_DATABASE_URL": side.database, "HL_LAKE_URL": str(side.lake), **_WINDOW}
    with pytest.MonkeyPatch.context() as patch, serve_info(InfoServer({user.wallet: user})) as server:
        for name, value in {**given, "HL_INFO_URL": server.url}.items():
            patch.setenv(name, value)
        resources = build_resources(Settings())
        with psycopg.connect(side.database, autocommit=True) as connection:
            connection.execute("INSERT INTO hl.backfill_progress (wallet) VALUES (%s)", [user.wallet])
        shard = hashlib.sha256(user.wallet.encode()).hexdigest()[:2]
        quiet: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        materialize(BACKFILL, partition_key=shard, instance=instance, resources=resources, run_config=quiet)
        for day in (*_DAYS, _API_DAY.date()):
            done = materialize(ASSETS, partition_key=str(day), instance=instance, resources=resources, run_config=quiet)
            assert done.success


def _in_window(user: User) -> User:
    """The same history within two days, a fill every half hour; one of them is bad."""
    start_ms = int(_API_DAY.timestamp()) * 1000
    fills = [fill | {"time": start_ms + n * 1_800_000} for n, fill in enumerate(user.fills)]
    fills[3] |= {"px": "cheap"}
    return User(user.wallet, fills, [status | {"time": start_ms // 1000 + n * 60} for n, status in enumerate(user.history)])


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the tool on two databases or two lakes; its exit code, and what it printed."""

    def run(what: str, left: object, right: object, *options: str) -> tuple[int, str]:
        code = main([f"--left-{what}", str(left), f"--right-{what}", str(right), *options])
        return code, capsys.readouterr().out

    return run


Compare = Callable[..., tuple[int, str]]


@pytest.mark.slow
def test_two_runs_over_one_sample_are_equal(runs: tuple[Side, Side], capsys: pytest.CaptureFixture[str]) -> None:
    left, right = runs
    words = ["--left-database", left.database, "--right-database", right.database]

    code = main([*words, "--left-lake", str(left.lake), "--right-lake", str(right.lake)])

    told = capsys.readouterr().out
    assert (code, told[:6], told.count("\n")) == (0, "equal:", 1), told
    # Nothing was equal for want of rows.
    with psycopg.connect(left.database) as connection:
        tables = [row[0] for row in connection.execute(_TABLES)]
        filled = {name for name in tables if connection.execute(f"SELECT FROM hl.{name} LIMIT 1".encode()).fetchone() is not None}
    assert filled == {
        "alembic_version", "backfill_bad", "backfill_progress", "builder_stats", "candles", "coverage", "daily_stats",
        "dirty_days", "fills",
        "fills_day_objects", "fills_days", "fills_hours", "info_calls", "s3_ingest_log", "twap_day_objects", "twap_days",
        "twap_slice_days", "twap_statuses", "twaps", "user_stats",
    }  # fmt: skip
    assert {path.name for path in left.lake.iterdir()} == {
        "api_fills", "api_twap_history", "datapackage.json", "fills", "partials", "raw_fills", "raw_twap_statuses",
        "twap_slices", "twap_statuses",
    }  # fmt: skip


_ONE_TWAP = "twap_id = (SELECT min(twap_id) FROM hl.twaps WHERE vwap IS NOT NULL)"
_CHANGES = (
    ("hl.fills_20250902: column px: 1", "' | '", "UPDATE hl.fills_20250902 SET px = px + 0.0000000001 WHERE ctid = '(0,1)'"),
    ("hl.fills_20250610: rows left only: 1", "time='2025-06-10", "DELETE FROM hl.fills_20250610 WHERE ctid = '(0,2)'"),
    ("hl.fills_20241103: rows left only: 47", "time='2024-11-03", "DROP TABLE hl.fills_20241103"),
    ("hl.candles: rows left only: 1", "coin='", "DELETE FROM hl.candles WHERE ctid = '(0,1)'"),
    ("hl.dirty_days: rows right only: 1", "date='2020-01-01'", "INSERT INTO hl.dirty_days VALUES ('2020-01-01', 'test', now())"),
    ("hl.twaps: column vwap: 1", "' | NULL", f"UPDATE hl.twaps SET vwap = NULL WHERE {_ONE_TWAP}"),
    ("hl.twap_statuses: column error: 1", "NULL | ''", "UPDATE hl.twap_statuses SET error = '' WHERE ctid = '(0,1)'"),
    ("hl.fills_days: column twaps_at: 1", "'set' | NULL", "UPDATE hl.fills_days SET twaps_at = NULL WHERE date = '2025-09-02'"),
    (
        "hl.s3_ingest_log: column etag: 1",
        "-time' | '",
        "UPDATE hl.s3_ingest_log SET etag = '1' || etag WHERE object_id = (SELECT min(object_id) FROM hl.s3_ingest_log)",
    ),
    ("hl.alembic_version: rows right only: 1", "version_num='", "UPDATE hl.alembic_version SET version_num = '9999'"),
    ("schema hl: INDEX added: right only", "", "CREATE INDEX added ON hl.twaps (coin)"),
    ("schema hl: TABLE candles: - left", "-    high numeric NOT NULL", "ALTER TABLE hl.candles ALTER high DROP NOT NULL"),
    (
        "schema hl: TABLE user_stats: - left",
        "+    CONSTRAINT added",
        "ALTER TABLE hl.user_stats ADD CONSTRAINT added CHECK (fills >= 0)",
    ),
    ("schema hl: TABLE coverage: - left", "+    added text", "ALTER TABLE hl.coverage ADD COLUMN added text"),
    (
        "schema hl: VIEW fills_readable: - left",
        "+ SELECT 1 AS one",
        "DROP VIEW hl.fills_readable; CREATE VIEW hl.fills_readable AS SELECT 1 AS one",
    ),
    (
        "schema hl: FUNCTION ratio(numeric, numeric, integer): - left",
        "SELECT NULL::numeric",
        "CREATE OR REPLACE FUNCTION hl.ratio(a numeric, b numeric, digits integer) RETURNS numeric LANGUAGE sql "
        "AS 'SELECT NULL::numeric'",
    ),
)


@pytest.mark.slow
def test_what_is_changed_in_a_database_is_named(runs: tuple[Side, Side], new_database: NewDatabase, compare: Compare) -> None:
    changed = _copy(new_database, runs[1])
    with psycopg.connect(changed, autocommit=True) as connection:
        for _, _, change in _CHANGES:
            connection.execute(change.encode())

    code, told = compare("database", runs[0].database, changed, "--limit", "30")

    assert code == 1
    for named, values, _ in _CHANGES:
        assert re.search(rf"^{re.escape(named)}.*(\n    .*)*{re.escape(values)}", told, re.MULTILINE), (
            f"{named} is not in\n{told}"
        )
    assert "hl.fills: 49 differences (rows left only 48, column px 1)\n" in told


def _copy(new_database: NewDatabase, side: Side) -> str:
    return new_database(str(conninfo_to_dict(side.database)["dbname"]))


@pytest.mark.slow
def test_other_clocks_make_no_difference(runs: tuple[Side, Side], new_database: NewDatabase, compare: Compare) -> None:
    changed = _copy(new_database, runs[1])
    with psycopg.connect(changed, autocommit=True) as connection:
        connection.execute("UPDATE hl.fills_days SET loaded_at = now(), twaps_at = now()")
        connection.execute("UPDATE hl.twap_statuses SET inserted_at = now()")

    assert compare("database", runs[0].database, changed)[0] == 0


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A file of the lake, what becomes of its rows and of its metadata, how it is written, and what is to be said of it."""

    path: str
    named: str
    rows: Callable[[pa.Table], pa.Table] = lambda table: table
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    options: dict[str, Any] = field(default_factory=dict[str, Any])


def _column(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        at = table.column_names.index(name)
        return table.set_column(at, table.schema.field(at), pa.array(change(table[name].to_pylist()), table[name].type))

    return changed


def _digit(values: list[Decimal]) -> list[Decimal]:
    return [values[0] + Decimal("1e-10"), *values[1:]]


_FILLS = "fills/date=2025-09-02/hour=03.parquet"
_RAW = "raw_fills/object_date=2025-09-02/hour=03.node_fills_by_block.parquet"
_STATUSES = "twap_statuses/date=2025-09-02/statuses.parquet"
_SPOILT = (
    Spoilt(_FILLS, "column px: 1", _column("px", _digit)),
    Spoilt(_RAW, "column sz: 1", _column("sz", _digit)),
    Spoilt(_STATUSES, "column size_requested: 1", _column("size_requested", _digit)),
    Spoilt(_FILLS, "column dir: 1", _column("dir", lambda values: [None, *values[1:]])),
    Spoilt(_FILLS, "rows left only: 1", lambda table: table.slice(1)),
    Spoilt(_FILLS, "rows right only: 1", lambda table: pa.concat_tables([table, table.slice(0, 1)])),
    Spoilt(_FILLS, "order of rows: 1", lambda table: table.take([1, 0, *range(2, len(table))])),
    Spoilt(_FILLS, "schema local_time_ns: left only: 1", lambda table: table.drop_columns(["local_time_ns"])),
    Spoilt(_FILLS, "schema oid: 1", lambda table: table.set_column(13, "oid", table["oid"].cast("int32", safe=False))),
    Spoilt(_FILLS, "metadata objects: 1", metadata={"objects": []}),
    Spoilt(_RAW, "metadata rows: 1", metadata={"rows": 1}),
    Spoilt(_RAW, "metadata etag: 1", metadata={"etag": "1-0123456789abcdef"}),
    Spoilt(_RAW, "metadata fetched_at: 1", metadata={"fetched_at": None}),
    Spoilt(_RAW, "metadata added: right only: 1", metadata={"added": 1}),
    Spoilt("twap_slices/date=2025-09-02/slices.parquet", "metadata 3: 1", metadata={"3": "0" * 32}),
    Spoilt(_FILLS, "layout rows of row groups: 1", options={"row_group_size": 10}),
    Spoilt(_FILLS, "layout px: 1", options={"compression": "gzip"}),
    Spoilt(_FILLS, "layout time: 1", options={"write_statistics": False}),
)


@pytest.mark.slow
def test_what_is_changed_in_a_file_of_the_lake_is_named(runs: tuple[Side, Side], tmp_path: Path, compare: Compare) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    for run, lake in zip(runs, (left, right), strict=True):
        for path in run.lake.glob("fills/*/*"):
            # The files that others name by their random id.
            (lake / path.relative_to(run.lake)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, lake / path.relative_to(run.lake))
        for number, spoilt in enumerate(_SPOILT):
            (lake / f"{number}").mkdir()
            _write(run.lake / spoilt.path, lake / f"{number}/a.parquet", spoilt if lake == right else Spoilt("", ""))

    code, told = compare("lake", left, right)

    assert code == 1
    for number, spoilt in enumerate(_SPOILT):
        place = f"{number}/a.parquet: "
        of_file = [line.removeprefix(place) for line in told.splitlines() if line.startswith(place)]
        assert any(line.startswith(spoilt.named) for line in of_file), f"{spoilt.named} is not in {of_file}"
        # Other rows and other types are laid out in another way; beside that nothing is different.
        implied = ("layout", "schema columns", "schema oid", "schema local_time_ns")
        assert all(line.startswith((spoilt.named, *implied)) for line in of_file), of_file
    assert not [line for line in told.splitlines() if line.startswith("fills/")]


def _write(source: Path, target: Path, spoilt: Spoilt) -> None:
    table = spoilt.rows(pq.ParquetFile(source).read())
    known = json.loads((pq.read_metadata(source).metadata or {}).get(b"hl", b"{}"))
    metadata = {"hl": json.dumps(known | spoilt.metadata)}
    pq.write_table(table.replace_schema_metadata(metadata), target, **spoilt.options)


@pytest.mark.slow
def test_a_file_that_is_missing_and_one_with_another_line_are_named(
    runs: tuple[Side, Side], tmp_path: Path, compare: Compare
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(runs[1].lake, lake)
    (lake / _FILLS).unlink()
    [bad] = lake.glob("raw_twap_statuses/*/*.bad.jsonl")
    bad.write_text(bad.read_text().replace("no JSON", "no YAML"))
    [wallets] = lake.glob("api_fills/*.wallets.json")
    wallets.write_text(wallets.read_text().replace('"bad": 1', '"bad": 2'))

    code, told = compare("lake", runs[0].lake, lake)

    assert code == 1
    assert f"{_FILLS}: file left only: 1\n" in told
    assert f"{bad.relative_to(lake)}: lines: 1\n" in told
    assert f"{wallets.relative_to(lake)}: lines: 1\n" in told


@pytest.mark.slow
def test_examples_are_bounded_and_counts_are_not(runs: tuple[Side, Side], new_database: NewDatabase, compare: Compare) -> None:
    changed = _copy(new_database, runs[1])
    with psycopg.connect(changed, autocommit=True) as connection:
        rows = connection.execute("UPDATE hl.fills SET fee = 1, sz = 77").rowcount

    _, told = compare("database", runs[0].database, changed)

    assert f"column sz {rows:,}" in told
    assert 10 < told.count("\n") < 30


@pytest.mark.slow
def test_an_installation_is_named_by_its_home(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with hold(directory) as url:
        migrate(url)
        with psycopg.connect(url) as connection:
            tables = len(connection.execute(f"{_TABLES} AND relname NOT IN ('info_calls', 'workers', 'worker_runs')").fetchall())
    (directory / "lake").mkdir()

    assert main([str(directory), str(directory)]) == 0

    assert capsys.readouterr().out.startswith(f"equal: {tables} tables with 1 rows, 0 files with 0 rows; ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to compare"),
        (["--left-lake", "/tmp"], "one side has a lake, the other does not"),
        (["--left-lake", "/tmp", "--right-lake", "/nowhere"], "right: there is no lake in /nowhere"),
        (["/nowhere", "/nowhere"], "left: /nowhere has no embedded PostgreSQL"),
        (["--left-database", "postgresql://nobody@127.0.0.1:1/x", "--right-database", "postgresql://x"], "cannot connect to"),
    ],
)
def test_what_cannot_be_compared_is_a_wrong_call(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err
