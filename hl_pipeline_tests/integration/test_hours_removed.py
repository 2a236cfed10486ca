"""The hours of a compacted day may go: everything that needs them makes them again, and nothing is lost, killed or not."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random

import polars as pl
import psycopg
import pytest

from hl_pipeline.domain.errors import LakeLacksError
from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.stages.day_hours import bring_back_hours
from hl_pipeline.stages.hours_retention import RemovedHours, remove_old_hours
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.fills_partitions import thin_day
from hl_pipeline_tests.cli import Done, run_in_process
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.days import make_day
from hl_pipeline_tests.tools import compare

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 15)
_DERIVED = ("fills", "candles", "daily_stats", "user_stats", "builder_stats", "twap_statuses", "twaps")
_KILLS = 12
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["hl_pipeline_tests.integration.test_hours_removed", "hl_pipeline.lake.unpacked_hours"])


@dataclass(frozen=True, slots=True)
class Installation:
    """A home with a compacted day."""

    home: Path
    url: str
    environment: dict[str, str]

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    def hours(self) -> list[Path]:
        return sorted(self.lake.glob(f"fills/date={DAY}/*"))

    def fills(self) -> pl.DataFrame:
        """Return the fills of all hours, in order."""
        return pl.concat(pl.read_parquet(path, hive_partitioning=False) for path in self.hours())

    def connect(self) -> psycopg.Connection:
        return connect(self.url, "test")

    def make(self, *stages: str) -> None:
        make_day(self.environment, DAY, stages)

    def compact(self) -> None:
        with self.connect() as connection:
            compact_day(DAY, open_lake(str(self.lake)), connection)

    def remove(self, keep_days: int | None = 0) -> RemovedHours:
        with self.connect() as connection:
            return remove_old_hours(open_lake(str(self.lake)), connection, Settings(home=self.home, hours_keep_days=keep_days))

    def hl(self, *words: str) -> Done:
        return run_in_process(self.home, self.environment, *words)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Installation:
    home = tmp_path_factory.mktemp("hours")
    write_sample(home / "sample", first_day=DAY, fills_per_hour=40)
    made = _installation(home, new_database())
    make_day(made.environment, DAY)
    made.compact()
    return made


def _installation(home: Path, url: str) -> Installation:
    environment = {
        "HL_HOME": str(home),
        "HL_LAKE_URL": str(home / "lake"),
        "HL_DATABASE_URL": url,
        "HL_NODE_DATA_URL": str(home / "sample/hl-mainnet-node-data"),
        "HL_TWAP_DATA_URL": str(home / "sample/artemis-hyperliquid-data"),
        "HL_SETTINGS_RESOLVED": "1",
    }
    return Installation(home, url, environment)


@pytest.fixture
def own(made: Installation, tmp_path: Path, new_database: NewDatabase) -> Installation:
    """A copy that a test may change. Iceberg keeps absolute paths, so its lake is registered at its new place."""
    shutil.copytree(made.home / "lake", tmp_path / "lake")
    shutil.copytree(made.home / "sample", tmp_path / "sample")
    own = _installation(tmp_path, new_database(template=made.url.rpartition("/")[2].partition("?")[0]))
    assert own.hl("lake", "relocate").returncode == 0
    return own


def _is_equal(left: Installation, right: Installation, capsys: pytest.CaptureFixture[str], *, lake: bool = True) -> bool:
    """Compare two installations with the comparison tool, except for Iceberg's files, whose names are random."""
    arguments = ["--left-database", left.url, "--right-database", right.url]
    if lake:
        for side, of in (("left", left), ("right", right)):
            copy = of.home / f"compared-{side}"
            shutil.copytree(of.lake, copy, ignore=shutil.ignore_patterns("iceberg"), dirs_exist_ok=True)
            arguments += [f"--{side}-lake", str(copy)]
    code = compare.main(arguments)
    print(capsys.readouterr().out)  # noqa: T201 - the differences, if the test fails
    return code == 0


def test_a_day_whose_hours_are_gone_is_rebuilt_from_its_compacted_file(
    made: Installation, own: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert own.remove(None).files == {}
    assert len(own.hours()) == 24
    assert own.remove().files == {DAY: 24}
    assert own.hours() == []
    assert own.hl("lake", "verify").returncode == 0
    # The rows of the raw objects cannot be read, but their metadata can: only the compacted file gives the fills.
    for path in own.lake.glob("raw_fills/*/*.parquet"):
        content = bytearray(path.read_bytes())
        content[4:-20_000] = bytes(len(content[4:-20_000]))
        path.write_bytes(content)

    own.make(*_DERIVED)
    own.compact()

    for path in own.lake.glob("raw_fills/*/*.parquet"):
        shutil.copyfile(made.lake / path.relative_to(own.lake), path)
    assert _is_equal(made, own, capsys)


def test_a_lost_database_is_rebuilt_from_a_lake_without_hours(
    made: Installation, own: Installation, new_database: NewDatabase
) -> None:
    own.remove()
    files = sorted(path for path in own.lake.glob("iceberg/*/data/*/*"))
    lost = _installation(own.home, new_database())
    assert "hours" not in lost.hl("lake", "verify").stdout

    done = lost.hl("rebuild")

    assert done.returncode in (0, 3), done.stderr
    assert "the lake has newer states of hl.fills than the catalog: registered again" in done.stdout
    lost.compact()
    assert sorted(path for path in own.lake.glob("iceberg/*/data/*/*")) == files, "nothing is compacted again"
    assert lost.hl("lake", "verify").returncode == 0
    assert len(lost.hours()) == 24
    assert lost.fills().equals(made.fills())
    with lost.connect() as connection, made.connect() as before:
        for table in ("fills", "fills_hours", "candles", "daily_stats", "user_stats", "twaps"):
            columns = "date, hour, rows, duplicates, conflicts" if table == "fills_hours" else "*"
            query = f"SELECT {columns} FROM hl.{table} t ORDER BY t::text".encode()
            assert connection.execute(query).fetchall() == before.execute(query).fetchall(), table


@pytest.mark.parametrize("is_thinned", [False, True])
def test_an_object_that_changes_after_the_hours_are_gone_loses_no_rows(
    own: Installation, is_thinned: bool, tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase
) -> None:
    own.remove()
    if is_thinned:
        with own.connect() as connection:
            thin_day(connection, DAY, 5)
        own.environment["HL_FILLS_KEEP_DAYS"] = "0"
    [changed] = (own.home / "sample").rglob("20260315/5.lz4")
    changed.write_bytes((changed.parent / "6.lz4").read_bytes())
    other = tmp_path_factory.mktemp("fresh")
    shutil.copytree(own.home / "sample", other / "sample")
    fresh = _installation(other, new_database())
    fresh.make("raw_fills", "fills")

    own.make("raw_fills", "fills")

    assert own.fills().equals(fresh.fills())
    with own.connect() as connection, fresh.connect() as truth:
        rows = "SELECT count(*), sum(sz), sum(tid) FROM hl.fills"
        assert connection.execute(rows).fetchone() == ((0, None, None) if is_thinned else truth.execute(rows).fetchone())
        assert connection.execute("SELECT rows FROM hl.fills_days").fetchall() == [(fresh.fills().height,)]
    own.compact()
    assert own.remove().files == {DAY: len(fresh.hours())}
    shown = own.hl("show", "fills", "--limit", "10000", "--csv")
    assert shown.stdout == fresh.hl("show", "fills", "--limit", "10000", "--csv").stdout


def test_raw_objects_that_are_lost_with_the_hours_empty_nothing(own: Installation) -> None:
    own.remove()
    with own.connect() as connection:
        connection.execute("DELETE FROM hl.fills_day_objects")
    for path in own.lake.glob("raw_fills/*/hour=07*"):
        path.unlink()
    with pytest.raises(LakeLacksError, match=r"objects with rows in .* are missing from"):
        own.make("fills")


def test_hours_stay_while_the_compacted_file_is_not_proven(own: Installation) -> None:
    with own.connect() as connection:
        connection.execute("INSERT INTO hl.dirty_days VALUES (%s, 'a test', now())", [DAY])
        assert "must be loaded again" in own.remove().kept[DAY]
        connection.execute("DELETE FROM hl.dirty_days")
    # An hour with one row less than the compacted file.
    hour = own.hours()[3]
    content = hour.read_bytes()
    pl.read_parquet(hour, hive_partitioning=False).head(-1).write_parquet(hour)
    assert "does not have the rows of the hours" in own.remove().kept[DAY]
    hour.write_bytes(content)
    own.make("fills")
    assert own.remove().files == {}, "the day was loaded again, and is not compacted again yet"
    own.compact()
    shown = own.hl("lake", "vacuum", "--dry-run").stdout
    assert "hours of" not in shown
    own.environment["HL_HOURS_KEEP_DAYS"] = "1"
    assert "hours of 1 compacted days, 24 files would be removed" in own.hl("lake", "vacuum", "--dry-run").stdout
    assert len(own.hours()) == 24
    assert "hours of 1 compacted days, 24 files removed" in own.hl("lake", "vacuum").stdout
    assert own.hours() == []


def test_statistics_and_twaps_made_alone_find_the_hours_again(made: Installation, own: Installation) -> None:
    own.remove()
    with own.connect() as connection, made.connect() as before:
        for stage in ("user_stats", "twaps"):
            own.remove()
            assert own.hours() == []
            own.make(stage)
            query = f"SELECT * FROM hl.{stage} t ORDER BY t::text".encode()
            assert connection.execute(query).fetchall() == before.execute(query).fetchall()
    assert own.fills().equals(made.fills())


def _removing(own: Installation) -> None:
    own.remove()


def _bringing_back(own: Installation) -> None:
    with own.connect() as connection:
        bring_back_hours(DAY, open_lake(str(own.lake)), connection)


def test_kills_in_the_middle_of_removing_or_making_hours_lose_nothing(made: Installation, own: Installation) -> None:
    random = Random(20)
    whole = made.fills()
    partial = killed = 0
    for work in (_removing, _bringing_back) * (_KILLS // 2):
        typical = _typical(work, own)
        (_bringing_back if work is _removing else _removing)(own)
        killed += _kill_after(random.uniform(0.2, 1) * typical, work, own)
        partial += 0 < len(own.hours()) < 24
        assert own.hl("lake", "verify").returncode == 0
        _bringing_back(own)
        assert own.fills().equals(whole)
        if work is _bringing_back:
            _removing(own)
            assert own.hours() == []
    assert killed > _KILLS / 4, "the kills came too late"
    assert not list(own.lake.rglob("*.tmp")) or partial


def _typical(work: Callable[[Installation], None], own: Installation) -> float:
    started = time.perf_counter()
    work(own)
    return time.perf_counter() - started


def _kill_after(seconds: float, work: Callable[[Installation], None], own: Installation) -> bool:
    """Kill a process that does the work after a time. Returns whether it was killed."""
    process = _context.Process(target=work, args=(own,))
    process.start()
    process.join(seconds)
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    return process.exitcode == -signal.SIGKILL
