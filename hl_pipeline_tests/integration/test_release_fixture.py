"""Protects upgrades: an installation made by release 0.1.0 (fixtures/release_0_1_0) opens with this code, and nothing is lost.

Its `expected.json` has the expected results. The queries are next to the program that made the fixture.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.naive import twaps as naive_twaps
from hl_pipeline_tests.processes import program
from hl_pipeline_tests.releases import RELEASES, restore, unpack_lake
from hl_pipeline_tests.tools.compare_database import compare_databases
from hl_pipeline_tests.tools.compare_lake import compare_lakes
from hl_pipeline_tests.tools.make_release_fixture import EXPECTED, RUNS, describe_lake

_RELEASE = RELEASES["0.1.0"]
_ENDED = "SELECT count(*) FROM runs WHERE status IN ('SUCCESS', 'FAILURE')"
_DAY = "2025-09-02"
"""Of this day something of every kind is missing; everything that came is in the lake."""


@dataclass(frozen=True, slots=True)
class Release:
    """What was unpacked: the database, migrated; Dagster's, and its runs; the lake; what is to be found in them."""

    database: str
    dagster: str
    runs: list[list[Any]]
    lake: Path
    expected: dict[str, Any]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Release:
    root = tmp_path_factory.mktemp("release")
    unpack_lake(_RELEASE, root)
    url = new_database("template0")
    restore(_RELEASE, "hl", url)
    migrate(url)
    dagster = new_database("template0")
    restore(_RELEASE, "hl_dagster", dagster)
    return Release(url, dagster, _ask(dagster, RUNS), root / "lake", json.loads((_RELEASE / "expected.json").read_text()))


@pytest.fixture
def hl(release: Release, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line on a database; the buckets are ones that nobody may ask."""

    def run(*words: str, database: str = release.database, lake: Path = release.lake) -> subprocess.CompletedProcess[str]:
        variables = {"HL_HOME": str(tmp_path / "home"), "HL_DATABASE_URL": database, "HL_LAKE_URL": str(lake)}
        variables |= {
            "HL_DAGSTER_DATABASE_URL": release.dagster,
            "HL_NODE_DATA_URL": "s3://nobody-may-ask-here",
            "HL_TWAP_DATA_URL": "none",
        }
        environment = {**os.environ, **variables}
        return subprocess.run([program("hl"), *words], env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


Hl = Callable[..., subprocess.CompletedProcess[str]]


def _ask(url: str, query: str) -> list[list[Any]]:
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        return [list(row) for row in connection.execute(query.encode())]


def test_every_table_has_the_rows_that_it_had(release: Release) -> None:
    rows = {name: _ask(release.database, f"SELECT count(*) FROM hl.{name}")[0][0] for name in release.expected["rows"]}
    assert rows == release.expected["rows"]
    assert sum(rows.values()) > 5_000


@pytest.mark.parametrize("what", EXPECTED)
def test_every_state_and_every_sum_is_what_it_was(what: str, release: Release) -> None:
    assert _ask(release.database, EXPECTED[what]) == release.expected[what]


def test_the_lake_has_the_files_the_rows_and_the_sums_that_it_had(release: Release) -> None:
    assert describe_lake(release.lake) == release.expected["lake"]


def test_dagster_has_its_runs(release: Release) -> None:
    assert release.runs == release.expected["runs"]


def test_its_days_and_what_is_wrong_with_them_are_told(hl: Hl, release: Release) -> None:
    done = hl("status")

    assert done.returncode == 0, done.stderr
    for day, rows, _, state, is_thinned in release.expected["fills_days"]:
        [line] = [line for line in done.stdout.splitlines() if line.startswith(f"  {day}  {state}") and " fills " in line]
        assert f"{rows:,} fills" in line
        assert ("only in the lake" in line) == is_thinned
    for key in release.expected["failed"]:
        assert f"failed {key[0]}: " in done.stdout
    for day, key in release.expected["superseded"]:
        assert f"load again {day}: {key} has changed since it was loaded" in " ".join(done.stdout.split())
    assert "1 objects are marked to be downloaded again" in done.stdout
    calendar = hl("status", "--from", _DAY, "--to", _DAY)
    assert calendar.returncode == 0, calendar.stderr
    assert "node_fills_by_block  #" in calendar.stdout
    assert "acknowledged (lost for ever)" in calendar.stdout


# What this version says otherwise than 0.1.0 of the same fills: nothing of a window that there is not; what is new.
_OF_A_WINDOW = ("begins_at", "planned_end", "slices_due", "schedule_deviation", "seen_from", "seen_to", *naive_twaps.MARKET)
_SAID_ANEW = {
    ("hl.user_stats", "column fees_in_quote"),
    ("hl.builder_stats", "rows right only"),
    ("hl.fills_days", "column builder_stats_at"),
    ("hl.fills", "column ordinal"),
    *(("lake fills", what) for what in ("schema columns", "schema ordinal: right only", "schema ordinal in Arrow: right only")),
    ("lake fills", "layout ordinal: right only"),
    *(("hl.twaps", f"column {name}") for name in _OF_A_WINDOW),
    # A text for people, worded anew in 0.2.0.
    ("hl.twap_days", "column explanation"),
}
_WITH_ORDINAL = "SELECT DISTINCT ordinal IS NOT NULL FROM hl.fills WHERE object_id < 4000000 ORDER BY 1"


@pytest.mark.slow
def test_a_day_loaded_again_from_the_lake_is_the_day_it_was(
    hl: Hl, release: Release, new_database: NewDatabase, tmp_path: Path
) -> None:
    database, lake = new_database(str(conninfo_to_dict(release.database)["dbname"])), tmp_path / "lake"
    shutil.copytree(release.lake, lake)
    [[runs]] = _ask(release.dagster, _ENDED)
    before = _ask(database, f"SELECT loaded_at FROM hl.fills_days WHERE date = '{_DAY}'")

    done = hl("ingest", "--from", _DAY, "--to", _DAY, "--force", database=database, lake=lake)

    assert done.returncode == 3, done.stdout + done.stderr
    assert _ask(database, f"SELECT loaded_at FROM hl.fills_days WHERE date = '{_DAY}'") > before
    compared = [*compare_databases(release.database, database, 3), *compare_lakes(release.lake, lake, 3)]
    # Partials are a cache: those of another version are made anew. Newer versions describe the lake, and in Arrow's metadata
    # its columns, whose types in Parquet are compared all the same.
    groups = [one for one in compared if one.group not in ("lake partials", "lake datapackage.json")]
    differences = [(one.group, what) for one in groups for what in one.differences]
    unknown = [(group, what) for group, what in differences if (group, what.what) not in _SAID_ANEW]
    assert [(group, what) for group, what in unknown if not what.what.endswith(" in Arrow")] == []
    changed = "SELECT twap_id FROM hl.twaps WHERE begins_at IS NULL ORDER BY 1"
    [told] = [what for group, what in differences if (group, what.what) == ("hl.twaps", "column begins_at")]
    assert told.count == len(_ask(database, changed)) > 0
    # Where each fill stood in its object is known from now on; the raw objects have it.
    assert _ask(release.database, _WITH_ORDINAL) == [[False]]
    assert _ask(database, _WITH_ORDINAL) == [[False], [True]]
    # The run has joined those that were there.
    assert _ask(release.dagster, _ENDED) == [[runs + 1]]


@pytest.mark.slow
def test_a_day_is_made_again_in_an_empty_database(hl: Hl, release: Release, new_database: NewDatabase, tmp_path: Path) -> None:
    database, lake = new_database(), tmp_path / "lake"
    shutil.copytree(release.lake, lake)

    done = hl("rebuild", "--from", _DAY, "--to", _DAY, database=database, lake=lake)

    assert done.returncode == 3, done.stdout + done.stderr
    assert _ask(database, EXPECTED["fills"]) == [row for row in release.expected["fills"] if row[0] == _DAY]
    # Wallets that were asked to their end are in the lake.
    done_with = [row for row in release.expected["wallets"] if row[0] in ("complete", "truncated")]
    assert [row for row in _ask(database, EXPECTED["wallets"]) if row[0] != "pending"] == done_with
