"""`hl show fills` prints the same before and after days have left hl.fills, from compacted files or from hours."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.fills_partitions import thin_day
from hl_pipeline_tests.cli import Done, run_in_process
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.days import make_day

pytestmark = pytest.mark.slow

FIRST = date(2026, 3, 13)
COMPACTED, HOURS, HOT = (FIRST + timedelta(n) for n in range(3))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> dict[str, str]:
    """Three days in hl.fills."""
    home = tmp_path_factory.mktemp("history")
    bucket = write_sample(home / "sample", first_day=FIRST, days=3, fills_per_hour=12).node_data_dir
    known = {
        "HL_HOME": str(home),
        "HL_LAKE_URL": str(home / "lake"),
        "HL_DATABASE_URL": new_database(),
        "HL_NODE_DATA_URL": str(bucket),
        "HL_TWAP_DATA_URL": "none",
        "HL_SETTINGS_RESOLVED": "1",
    }
    for day in (COMPACTED, HOURS, HOT):
        make_day(known, day, ["raw_fills", "fills"])
    return known


def _questions(environment: dict[str, str]) -> list[list[str]]:
    with connect(environment["HL_DATABASE_URL"]) as connection:
        often, rare = (
            connection.execute(f"SELECT wallet, coin FROM hl.fills GROUP BY 1, 2 ORDER BY count(*) {way}, 1, 2 LIMIT 1".encode())
            .fetchall()
            .pop()
            for way in ("DESC", "ASC")
        )
    filters = [
        [],
        ["--wallet", often[0].upper().replace("0X", "0x")],
        ["--coin", often[1]],
        ["--wallet", rare[0], "--coin", rare[1]],
    ]
    days = [[], *(["--day", str(day)] for day in (COMPACTED, HOURS, HOT))]
    return [[*which, *day, "--limit", limit] for which in filters for day in days for limit in ("3", "300", "10000")]


def test_fills_shown_before_and_after_their_days_left_are_the_same(environment: dict[str, str], tmp_path: Path) -> None:
    questions = _questions(environment)

    def answers(way: str) -> list[Done]:
        some = questions if way == "--csv" else questions[:12]
        return [run_in_process(tmp_path, environment, "show", "fills", *asked, way) for asked in some]

    before = {way: [(done.returncode, done.stdout) for done in answers(way)] for way in ("--csv", "--json")}
    whole = before["--csv"][2][1]
    assert whole.count("\n") - 1 > 500, "an answer with every fill"
    lake = open_lake(environment["HL_LAKE_URL"])
    with connect(environment["HL_DATABASE_URL"]) as connection:
        compact_day(COMPACTED, lake, connection)
        thin_day(connection, COMPACTED, 5)
        thin_day(connection, HOURS, 5)
        assert connection.execute("SELECT DISTINCT time::date FROM hl.fills").fetchall() == [(HOT,)]

    for way, expected in before.items():
        for asked, done, known in zip(questions, answers(way), expected, strict=False):
            assert (done.returncode, done.stdout) == known, (asked, done.stderr)

    # Newer fills in hl.fills suffice, so the lake is not read.
    nowhere = {**environment, "HL_LAKE_URL": str(tmp_path / "nowhere")}
    assert run_in_process(tmp_path, nowhere, "show", "fills", "--limit", "3", "--csv").stdout == before["--csv"][0][1]
    refused = run_in_process(tmp_path, nowhere, "show", "fills", "--limit", "10000")
    assert (refused.returncode, "there is no lake in" in refused.stderr) == (1, True)

    path = Path(lake.root, f"fills/date={HOURS}/hour=05.parquet")
    replaced = Path(lake.root, f"fills/date={COMPACTED}/hour=05.parquet").read_bytes()
    _with_contents(path, replaced, lambda: _is_refused(tmp_path, environment, HOURS, "the lake does not have the files"))
    [compacted] = Path(lake.root, f"iceberg/fills/data/date={COMPACTED}").iterdir()
    _with_contents(compacted, b"", lambda: _is_refused(tmp_path, environment, COMPACTED, f"{COMPACTED} to"))


def _is_refused(directory: Path, environment: dict[str, str], day: date, message: str) -> None:
    done = run_in_process(directory, environment, "show", "fills", "--day", str(day), "--limit", "10000")
    assert (done.returncode, done.stdout) == (1, ""), done.stdout
    assert message in " ".join(done.stderr.split())


def _with_contents(path: Path, contents: bytes, check: Callable[[], None]) -> None:
    """Run a check while a file has other contents."""
    kept = path.with_name(".kept")
    os.link(path, kept)
    other = path.with_name(".other")
    other.write_bytes(contents)
    other.replace(path)
    check()
    kept.replace(path)
