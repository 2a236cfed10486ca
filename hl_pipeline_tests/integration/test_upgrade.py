"""`hl upgrade`: it announces what it will do, does exactly that, and resumes after being killed. No other command rewrites large
tables, and a version older than the schema is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hl_pipeline.resources import Warehouse
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.migrate import SchemaError, list_migrations, migrate, newest_revision
from hl_pipeline_tests.cli import Done, run_in_process, run_program
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.processes import program, started, wait_until
from hl_pipeline_tests.releases import RELEASES, restore, unpack_lake
from hl_pipeline_tests.tools.make_release_fixture import EXPECTED

_RELEASE = RELEASES["0.1.0"]
_REVISION = "SELECT version_num FROM hl.alembic_version"
_LOADED = "SELECT date::text, loaded_at FROM hl.fills_days ORDER BY 1"


@dataclass(frozen=True, slots=True)
class Installation:
    """A home of release 0.1.0, its databases, and what was to be found in them."""

    directory: Path
    database: str
    dagster: str
    environment: dict[str, str]
    expected: dict[str, Any]


@pytest.fixture
def old(tmp_path: Path, new_database: NewDatabase) -> Installation:
    database, dagster = new_database("template0"), new_database("template0")
    restore(_RELEASE, "hl", database)
    restore(_RELEASE, "hl_dagster", dagster)
    variables = {
        "HL_HOME": str(tmp_path / "home"),
        "HL_DATABASE_URL": database,
        "HL_DAGSTER_DATABASE_URL": dagster,
        "HL_LAKE_URL": str(unpack_lake(_RELEASE, tmp_path)),
        "HL_NODE_DATA_URL": "s3://nobody-may-ask-here",
        "HL_TWAP_DATA_URL": "none",
    }
    expected = json.loads((_RELEASE / "expected.json").read_text())
    return Installation(tmp_path, database, dagster, {**os.environ, **variables}, expected)


Hl = Callable[..., Done]


@pytest.fixture
def hl(old: Installation) -> Hl:
    return lambda *words, **options: run_in_process(old.directory, old.environment, *words, **options)


def _ask(url: str, query: str) -> list[list[Any]]:
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        return [list(row) for row in connection.execute(query.encode())]


def _words(done: Done) -> str:
    return " ".join(done.stdout.split())


def test_what_it_will_do_is_said_and_nothing_is_done_with_dry_run_or_without_a_yes(old: Installation, hl: Hl) -> None:
    for done, code in ((hl("upgrade", "--dry-run"), 0), (hl("upgrade", stdin="n\n"), 1)):
        assert done.returncode == code, done.stderr
        for one in list_migrations()[list_migrations().index(_migration("0010")) + 1 :]:
            assert f"migration {one.revision} {one.summary}" in _words(done)
        assert "7 days, 2024-11-03 to 2025-09-03, to rebuild from the lake" in _words(done)
        # Three days have a TWAP that never began; five have rows of S3 in hl.fills; five have wallets with fees.
        assert re.search(r" 3 hl.twaps .* 5 hl.fills .* 5 hl.user_stats .*fees_in_quote", _words(done)), done.stdout
        assert "estimated time: about" in done.stdout
    without = run_in_process(
        old.directory, {**old.environment, "HL_LAKE_URL": str(old.directory / "empty")}, "upgrade", "--dry-run"
    )
    assert "7 days, 2024-11-03 to 2025-09-03, cannot be rebuilt, because the lake has no data for them" in _words(without)
    assert _ask(old.database, _REVISION) == [["0010"]]


def test_it_refuses_while_hl_up_runs(old: Installation, hl: Hl) -> None:
    home = old.directory / "home"
    home.mkdir(exist_ok=True)
    before = _ask(old.database, _REVISION)
    with (home / "up.lock").open("a") as up:
        fcntl.flock(up, fcntl.LOCK_EX)
        done = hl("upgrade", "--yes")
    assert done.returncode == 1
    assert f"hl up or hl upgrade is already running in {home}" in " ".join(done.stderr.split())
    assert _ask(old.database, _REVISION) == before


def _migration(revision: str) -> Any:
    [found] = [one for one in list_migrations() if one.revision == revision]
    return found


def test_other_commands_migrate_in_moments_and_make_no_day_again(old: Installation, hl: Hl) -> None:
    loaded = _ask(old.database, _LOADED)

    done = hl("status")

    assert done.returncode == 0, done.stderr
    assert _ask(old.database, _REVISION) == [[newest_revision()]]
    assert _ask(old.database, _LOADED) == loaded
    assert "made by an earlier version 5 days, 2025-04-10 to 2025-09-03: hl.fills" in _words(done)
    assert "hl upgrade`)" in _words(done)


@pytest.mark.slow
def test_an_installation_of_0_1_0_is_upgraded_by_one_command_killed_and_run_again(old: Installation) -> None:
    # One revision back: Dagster's own tables are of an older version too.
    with closing(psycopg.connect(old.dagster, autocommit=True)) as connection:
        [(newest,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        connection.execute("UPDATE alembic_version SET version_num = 'f495c27d5019'")
    runs = _ask(old.dagster, "SELECT count(*) FROM runs")[0][0]
    lacking = "SELECT count(DISTINCT (time AT TIME ZONE 'UTC')::date) FROM hl.fills WHERE ordinal IS NULL AND object_id < 4000000"

    with started([program("hl"), "upgrade", "--yes"], old.environment, old.directory, old.directory / "killed.log") as killed:
        wait_until(lambda: "\n2025-04-10 " in killed.output, 90, "two days are done")
        killed.process.kill()
        killed.process.wait()
    left = _ask(old.database, lacking)[0][0]
    assert _ask(old.database, _REVISION) == [[newest_revision()]]
    assert 0 < left < 5, killed.output

    done = run_program(old.directory, old.environment, "upgrade", "--yes")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "migration " not in done.stdout
    assert _ask(old.database, lacking) == [[0]]
    # Every figure is what it was. A day now has the form of its object that came last; what was not due when the fixture was made
    # is due by now, and is judged anew.
    changed: dict[str, tuple[list[list[Any]], list[list[Any]]]] = {}
    for name, query in EXPECTED.items():
        before, now = old.expected[name], _ask(old.database, query)
        if now != before:
            changed[name] = [row for row in before if row not in now], [row for row in now if row not in before]
    assert changed.pop("superseded") == (old.expected["superseded"], [])
    assert changed.pop("fills_days") == (
        [["2025-09-03", 1002, 0, "pending", False]], [["2025-09-03", 1002, 0, "incomplete", False]],
    )  # fmt: skip
    not_due, missing = changed.pop("coverage")
    assert [[*row[:3], "missing"] for row in not_due] == missing
    assert {row[3] for row in not_due} == {"not due"}
    assert changed == {}
    assert _ask(old.dagster, "SELECT version_num FROM alembic_version") == [[newest]]
    assert _ask(old.dagster, "SELECT count(*) FROM runs")[0][0] > runs
    again = run_program(old.directory, old.environment, "upgrade", "--yes")
    assert (again.returncode, _words(again)) == (
        0,
        f"nothing to do: the schema is at migration {newest_revision()}, as this version needs it",
    )
    assert "made by an earlier version" not in run_program(old.directory, old.environment, "status").stdout


@pytest.mark.slow
def test_dropped_days_stay_in_the_lake_alone_when_they_are_made_again(old: Installation, hl: Hl) -> None:
    day = "2025-06-10"
    known = f"SELECT count(fees_in_quote), count(*) FROM hl.user_stats WHERE date = '{day}'"
    with closing(psycopg.connect(old.database, autocommit=True)) as connection:
        connection.execute("DELETE FROM hl.fills_days WHERE thinned_at IS NULL")
        connection.execute("DELETE FROM hl.twap_days")
    thinned = "SELECT date::text, rows, thinned_at IS NOT NULL FROM hl.fills_days"
    assert _ask(old.database, thinned) == [[day, 701, True]]

    done = hl("upgrade", "--yes")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"1 day, {day}, to rebuild from the lake" in done.stdout
    assert _ask(old.database, thinned) == [[day, 701, True]]
    assert _ask(old.database, f"SELECT count(*) FROM hl.fills WHERE time::date = '{day}'") == [[0]]
    # One wallet paid in a token whose worth the day does not tell.
    assert _ask(old.database, known) == [[141, 142]]


@pytest.mark.slow
def test_a_schema_whose_rows_must_be_written_anew_asks_for_hl_upgrade(world: World, tmp_path: Path) -> None:
    def hl(*words: str) -> Done:
        return run_in_process(tmp_path, world.environment, *words)

    migrate(world.database_url, "0001", down=True)
    # Without fills nothing is in the way.
    assert hl("status").returncode == 0
    migrate(world.database_url, "0001", down=True)
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE hl.day PARTITION OF hl.fills FOR VALUES FROM ('2026-03-15') TO ('2026-03-16')")
        names = "time, object_id, side, coin, wallet, px, sz"
        connection.execute(f"INSERT INTO hl.fills ({names}) VALUES ('2026-03-15 10:00+0', 1, 'B', 'BTC', '0x', 1, 2)".encode())
        connection.execute("INSERT INTO hl.fills_days VALUES ('2026-03-15', 1, 0)")

    for words in (("status",), ("ingest", "--from", "2026-03-15", "--to", "2026-03-15")):
        refused = hl(*words)
        assert refused.returncode == 1
        assert "(migration 0001) is older than hl-pipeline" in refused.stderr
        assert "0002 rewrites every row of hl.fills" in refused.stderr
        assert "run `hl upgrade`" in refused.stderr
    assert _ask(world.database_url, _REVISION) == [["0001"]]
    done = hl("upgrade", "--schema-only", "--yes")
    assert done.returncode == 0, done.stderr
    assert "(rewrites every row of hl.fills)" in done.stdout
    assert _ask(world.database_url, _REVISION) == [[newest_revision()]]


@pytest.mark.slow
def test_a_table_that_is_in_use_is_waited_for_a_while_and_then_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(world.database_url, "0010", down=True)
    monkeypatch.setattr("hl_pipeline.warehouse.migrate._LOCK_SECONDS", 1)
    with closing(psycopg.connect(world.database_url)) as reader:
        reader.execute("SELECT FROM hl.fills LIMIT 1")
        for words in (("status",), ("upgrade", "--yes")):
            refused = run_in_process(tmp_path, world.environment, *words)
            assert refused.returncode == 1
            # PostgreSQL's words, and ours.
            assert "canceling statement due to lock timeout" in refused.stderr
            assert "end the runs and queries that use it" in refused.stderr
    assert _ask(world.database_url, _REVISION) == [["0010"]]
    assert run_in_process(tmp_path, world.environment, "upgrade", "--yes").returncode == 0
    assert _ask(world.database_url, _REVISION) == [[newest_revision()]]


def test_an_empty_database_is_migrated_by_any_command(new_database: NewDatabase, world: World, tmp_path: Path) -> None:
    url = new_database("template0")
    assert run_in_process(tmp_path, {**world.environment, "HL_DATABASE_URL": url}, "status").returncode == 0
    assert _ask(url, _REVISION) == [[newest_revision()]]


def test_a_version_that_is_older_than_the_schema_is_refused_with_both_named(world: World, tmp_path: Path) -> None:
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        connection.execute("UPDATE hl.alembic_version SET version_num = '9999'")
        connection.execute("COMMENT ON TABLE hl.alembic_version IS 'Migrated by hl-pipeline 7.0.0'")
    said = rf"at migration 9999, made by hl-pipeline 7\.0\.0; this is hl-pipeline [\d.]+, .*`hl upgrade --to {newest_revision()}`"

    for words in (("status",), ("ingest", "--from", "2025-09-01", "--to", "2025-09-01"), ("upgrade",), ("api",)):
        refused = run_in_process(tmp_path, world.environment, *words)
        assert refused.returncode == 1, words
        assert re.search(said, refused.stderr), refused.stderr
    # As a run of the code location meets it.
    with pytest.raises(SchemaError, match=said), Warehouse(Settings()).connect("test"):
        pass
    with pytest.raises(SchemaError, match=said):
        migrate(world.database_url)
    assert _ask(world.database_url, _REVISION) == [["9999"]]


def test_migrations_are_undone_for_an_earlier_version(world: World, tmp_path: Path) -> None:
    def hl(*words: str, stdin: str | None = None) -> Done:
        return run_in_process(tmp_path, world.environment, *words, stdin=stdin)

    wrong = hl("upgrade", "--to", "10")
    assert (wrong.returncode, wrong.stderr.strip()) == (
        2, f"error: --to is '10'; it must be a migration of this version, 0001 to {newest_revision()}",
    )  # fmt: skip
    assert hl("upgrade", "--to", newest_revision(), "--yes").returncode == 1
    assert hl("upgrade", "--to", "0010", stdin="n\n").returncode == 1
    assert hl("upgrade", "--to", "0010", "--dry-run").returncode == 0
    assert _ask(world.database_url, _REVISION) == [[newest_revision()]]
    done = hl("upgrade", "--to", "0010", "--yes")
    assert done.returncode == 0, done.stderr
    undone = [one.revision for one in list_migrations() if one.revision > "0010"]
    assert re.findall(r"^undo (\d+)", done.stdout, re.MULTILINE) == undone[::-1]
    assert _ask(world.database_url, _REVISION) == [["0010"]]
