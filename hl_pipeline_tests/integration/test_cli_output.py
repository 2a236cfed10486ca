"""Output of `hl` for other programs: rows as JSON and CSV, lines for a shell, a read-only URL, and errors."""

from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Json

from hl_pipeline.settings import Settings, variable
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.urls import parse_url
from hl_pipeline_tests.cli import HL, run_in_process, run_program
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.servers.api import OTHER, WALLET, add, at, twap_row

FEES = {"HYPE": "0.10", "USDC": "7"}


@pytest.fixture
def filled(world: World) -> World:
    """A database with rows for each table that is shown."""
    with connect(world.database_url, "test") as connection:
        day, ids = {"date": "2025-11-03"}, {"object_id": 3_000_000, "object_date": "2025-11-03", "object_hour": 1}
        add(connection, "s3_ingest_log", {"object_key": "1,2.lz4", "error": 'said "no"\nand went', **ids})
        fill: dict[str, Any] = {"time": at("2025-11-03 12:00:00.5"), "px": "1.2300", "sz": "0.0000014866", "coin": "[BTC]"}
        add(connection, "fills", {**fill, "dir": "Buy, all", "crossed": True, "fee": "-0.5", "tid": 7})
        add(connection, "fills_days", {**day, "daily_stats_at": at("2025-11-04 00:00"), "user_stats_at": at("2025-11-04 00:00")})
        add(connection, "daily_stats", {**day, "coin": "SOL", "volume": "3.0", "notional": "10.00"})
        times = {"first_fill": at("2025-11-03 12:00:00.123456"), "last_fill": at("2025-11-03 13:00:00")}
        add(connection, "user_stats", {**day, **times, "wallet": WALLET, "fees": Json(FEES)})
        add(connection, "twaps", twap_row(5, at("2025-11-03 12:00:00"), wallet=OTHER, fees=Json(FEES), vwap="91.5000000000"))
    return world


def _read(text: str, output: str) -> list[dict[str, Any]]:
    return json.loads(text) if output == "--json" else list(csv.DictReader(io.StringIO(text), strict=True))


@pytest.mark.parametrize(
    ("table", "as_json", "as_csv"),
    [
        (
            "fills",
            {"time": "2025-11-03T12:00:00.500Z", "coin": "[BTC]", "crossed": True, "sz": "0.0000014866", "px": "1.23", "tid": 7},
            {"time": "2025-11-03T12:00:00.500Z", "coin": "[BTC]", "crossed": "true", "sz": "0.0000014866", "closed_pnl": ""},
        ),
        (
            "daily-stats",
            {"period_start": "2025-11-03", "days": 1, "volume": "3", "notional": "10", "buys": None},
            {"period_start": "2025-11-03", "days": "1", "volume": "3", "notional": "10", "buys": ""},
        ),
        (
            "user-stats",
            {"wallet": WALLET, "first_fill": "2025-11-03T12:00:00.123456Z", "usdc_fees": "7"},
            {"wallet": WALLET, "first_fill": "2025-11-03T12:00:00.123456Z", "usdc_fees": "7"},
        ),
        ("twaps", {"twap_id": 5, "fees": FEES, "vwap": "91.5"}, {"twap_id": "5", "fees": json.dumps(FEES), "vwap": "91.5"}),
        ("checkpoints", {"object_key": "1,2.lz4", "error": 'said "no"\nand went'}, {"error": 'said "no"\nand went'}),
    ],
)
def test_each_table_is_rows_of_json_and_of_csv(
    filled: World, tmp_path: Path, table: str, as_json: dict[str, Any], as_csv: dict[str, str]
) -> None:
    names: list[list[str]] = []
    for output, expected in (("--json", as_json), ("--csv", as_csv)):
        done = run_in_process(tmp_path, filled.environment, "show", table, output)
        assert (done.returncode, done.stderr) == (0, "")
        [row] = _read(done.stdout, output)
        assert {name: row[name] for name in expected} == expected
        names.append([*row])
    assert names[0] == names[1]
    for one, other in (("--json", "--csv"), ("--csv", "--wide")):
        both = run_in_process(tmp_path, filled.environment, "show", table, one, other)
        assert (both.returncode, f"error: {one} and {other} exclude each other: choose one format" in both.stderr) == (2, True)


def test_an_empty_list_is_json_and_csv_all_the_same(filled: World, tmp_path: Path) -> None:
    asked = ["show", "fills", "--wallet", OTHER]
    assert run_in_process(tmp_path, filled.environment, *asked, "--json").stdout == "[]\n"
    assert run_in_process(tmp_path, filled.environment, *asked, "--csv").stdout.startswith("time,coin,wallet,side,")


def test_the_exports_of_a_sample_work_in_a_shell_in_any_directory(tmp_path: Path, world: World) -> None:
    """Under a directory whose name a shell would take apart."""
    place = tmp_path / "it's a $HOME [dir]"
    place.mkdir()
    made = run_program(place, world.environment, "sample", "--fills-per-hour", "5", "--days", "1", "--out", "out")
    assert made.returncode == 0, made.stderr
    lines = [line for line in made.stdout.splitlines() if line.startswith("export ")]
    script = "\n".join([*lines, 'printf "%s\\n" "$HL_HOME" "$HL_NODE_DATA_URL" "$HL_TWAP_DATA_URL"; ls "$HL_NODE_DATA_URL"'])
    done = subprocess.run(
        ["sh", "-euc", script], capture_output=True, text=True, cwd="/", check=True, env={"PATH": "/usr/bin:/bin"}
    )
    home, node_data, twap_data, *listed = done.stdout.splitlines()
    assert home == str(place / "out" / ".hl")
    assert (Path(node_data).is_dir(), Path(twap_data).is_dir(), len(lines)) == (True, True, 3)
    assert "node_fills_by_block" in listed


def test_the_read_only_url_reads_and_changes_nothing(filled: World, tmp_path: Path) -> None:
    for url in (filled.database_url, f"{filled.database_url}&options=-c%20statement_timeout%3D5000"):
        environment = {**filled.environment, "HL_DATABASE_URL": url}
        plain = run_in_process(tmp_path, environment, "url")
        assert plain.stdout.strip() == url
        done = run_in_process(tmp_path, environment, "url", "--read-only")
        assert (done.returncode, done.stderr) == (0, "")
        reading = done.stdout.strip()
        assert parse_url(reading) | {"options": ""} == parse_url(url) | {"options": ""}
        with psycopg.connect(reading, autocommit=True) as connection:
            assert connection.execute("SELECT count(*), current_user::text FROM hl.fills").fetchone() == (1, "hl_reader")
            shown = connection.execute("SHOW statement_timeout").fetchone()
            assert shown == (("5s",) if "options" in url else ("0",))
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("DELETE FROM hl.fills")
            connection.execute("SET default_transaction_read_only = off")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("DELETE FROM hl.fills")


def test_the_version_is_that_of_the_package(tmp_path: Path, world: World) -> None:
    done = run_program(tmp_path, world.environment, "--version")
    assert (done.returncode, done.stdout) == (0, version("hl-pipeline") + "\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "fills", "--limit", "0"], "Invalid value for '--limit': must be greater than or equal to 1"),
        (["ingest", "--from", "15.3.2026", "--to", "2026-03-16"], "'15.3.2026' is not a day like 2026-03-15"),
        (["show", "fills", "--nothing"], "No such option: --nothing"),
        (["cost", "--from", "2026-03-15"], "Missing option '--to'."),
        (["nothing"], "No such command 'nothing'."),
        (["show", "daily-stats", "--period", "decade"], "--period is 'decade'; it must be one of day, week, month, year, all"),
    ],
)
def test_every_wrong_option_is_one_line_that_begins_alike(arguments: list[str], said: str, tmp_path: Path, world: World) -> None:
    done = run_in_process(tmp_path, world.environment, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def _status(world: World, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_in_process(tmp_path, world.environment, "status", *options)


def test_status_is_json_and_csv(filled: World, tmp_path: Path) -> None:
    with connect(filled.database_url, "test") as connection:
        add(connection, "twap_days", {"date": "2025-11-02", "rows": 9})
        add(connection, "coverage", {"object_date": "2025-11-03", "object_hour": 5, "found": "missing", "why": "not there"})
    found = json.loads(_status(filled, tmp_path, "--json").stdout)
    assert (found["days"][0]["date"], found["days"][0]["state"], found["days"][0]["rows"]) == ("2025-11-03", "whole", 1)
    assert (found["statuses"][0]["date"], found["statuses"][0]["rows"]) == ("2025-11-02", 9)
    assert found["failed"] == [["1,2.lz4", 'said "no"\nand went']]
    assert found["settings"]["HL_DATABASE_URL"] == found["database"]
    days = _read(_status(filled, tmp_path, "--csv").stdout, "--csv")
    assert [(day["date"], day["what"], day["state"], day["rows"]) for day in days] == [
        ("2025-11-02", "twap_statuses", "unprovable", "9"),
        ("2025-11-03", "fills", "whole", "1"),
    ]
    span = ["--from", "2025-11-03", "--to", "2025-11-03"]
    for output in ("--json", "--csv"):
        [hour] = _read(_status(filled, tmp_path, *span, output).stdout, output)
        assert (hour["object_date"], str(hour["object_hour"]), hour["state"], hour["why"]) == (
            "2025-11-03",
            "5",
            "missing",
            "not there",
        )


def test_a_check_ends_with_3_until_what_lacks_is_there_or_acknowledged(world: World, tmp_path: Path) -> None:
    made = dict.fromkeys(
        ("candles_at", "daily_stats_at", "user_stats_at", "builder_stats_at", "twaps_at"), at("2025-11-05 00:00")
    )
    assert _status(world, tmp_path, "--check").returncode == 0
    with connect(world.database_url, "test") as connection:
        add(connection, "fills_days", {"date": "2025-11-01", **made}, {"date": "2025-11-02", "state": "pending", **made})
        add(connection, "twap_days", {"date": "2025-11-01", "twaps_at": at("2025-11-05 00:00")})
        whole = _status(world, tmp_path, "--check")
        assert (whole.returncode, whole.stderr) == (0, "")

        # The first object of the next day has the day's last fills.
        add(connection, "fills_days", {"date": "2025-11-03", "state": "incomplete", **made})
        add(connection, "coverage", {"object_date": "2025-11-04", "object_hour": 0, "found": "missing"})
        hole = _status(world, tmp_path, "--check", "--json")
        assert (hole.returncode, hole.stderr) == (3, "missing: 2025-11-03: fills incomplete\n")
        assert json.loads(hole.stdout)["days"][2]["state"] == "incomplete"
        connection.execute("UPDATE hl.coverage SET note = 'known'")
        assert _status(world, tmp_path, "--check").returncode == 0

        connection.execute("UPDATE hl.fills_days SET daily_stats_at = NULL WHERE date = '2025-11-01'")
        connection.execute("UPDATE hl.twap_days SET twaps_at = NULL")
        connection.execute("INSERT INTO hl.dirty_days (date, reason, noted_at) VALUES ('2025-11-09', 'a shard', now())")
        add(connection, "s3_ingest_log", {"object_key": "9.lz4", "object_date": "2025-11-09", "error": "AccessDenied"})
        lacking = _status(world, tmp_path, "--check")
    assert lacking.returncode == 3
    assert lacking.stderr.splitlines() == [
        "missing: 2025-11-01: statistics or TWAPs are older than its fills",
        "missing: 2025-11-01: hl.twaps is older than its statuses",
        "missing: 2025-11-09: must be loaded again: a shard",
        "missing: 9.lz4: AccessDenied",
    ]
    both = _status(world, tmp_path, "--check", "--from", "2025-11-01", "--to", "2025-11-02")
    assert (both.returncode, "--check covers all loaded days" in both.stderr) == (2, True)


def test_status_says_what_is_there_first_and_why_a_day_is_not_whole(world: World, tmp_path: Path) -> None:
    with connect(world.database_url, "test") as connection:
        why = {"state": "incomplete", "explanation": "1 of 25 objects missing: 09 h (not in the bucket)."}
        add(connection, "fills_days", {"date": "2025-11-01"}, {"date": "2025-11-02", **why})
        add(connection, "twap_days", {"date": "2025-11-02", "state": "pending", "explanation": "Not due yet."})
    done = run_in_process(tmp_path, {**world.environment, "HL_PORT": "3456", "HL_API_PORT": "8000"}, "status")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("days      2, ")
    assert [line.strip() for line in lines if line.startswith(" " * 12)] == [why["explanation"], "Not due yet."]
    settings = lines[next(n for n, line in enumerate(lines) if line.startswith("settings  ")) :]
    assert "(`hl status --settings` shows all)" in settings[0]
    shown = dict(line.split()[:2] for line in settings[1:])
    # What has its default is left out, also where it was set to that.
    assert (shown["HL_PORT"], "HL_API_PORT" in shown, "HL_EGRESS" in shown) == ("3456", False, False)
    every = run_in_process(tmp_path, world.environment, "status", "--settings").stdout
    assert {variable(name) for name in Settings.model_fields} <= set(every.split())
    [fills] = [day for day in _read(_status(world, tmp_path, "--csv").stdout, "--csv") if day["state"] == "incomplete"]
    assert fills["explanation"] == why["explanation"]


@pytest.mark.parametrize("table", ["fills", "daily-stats", "user-stats", "twaps", "checkpoints"])
def test_a_table_fits_100_columns_and_a_wide_one_has_them_all(filled: World, tmp_path: Path, table: str) -> None:
    with connect(filled.database_url, "test") as connection:
        long = {"object_key": "node_fills_by_block/hourly/20251103/23.lz4", "error": "AccessDenied: " + "no " * 60 + "end"}
        add(connection, "s3_ingest_log", {"object_date": "2025-11-04", "object_hour": 23, **long})
    every = run_in_process(tmp_path, filled.environment, "show", table, "--csv").stdout.splitlines()[0].split(",")

    narrow, wide = (run_in_process(tmp_path, filled.environment, "show", table, *more) for more in ([], ["--wide"]))

    assert max(map(len, narrow.stdout.splitlines())) <= 100
    assert wide.stdout.splitlines()[0].split() == every
    shown = narrow.stdout.splitlines()[0].split()
    assert shown == [name for name in every if name in shown]
    assert narrow.stderr == f"{len(every) - len(shown)} more columns: --wide, --csv or --json\n"
    if table == "checkpoints":
        # A long text is folded, and nothing of it is cut.
        assert "".join(narrow.stdout.split()).count("no") >= 61
        assert long["error"] in wide.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(world: World, tmp_path: Path, shell: str) -> None:
    done = run_in_process(tmp_path, world.environment, "completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_HL_COMPLETE=complete_{shell}" in done.stdout


def test_bash_completes_commands_and_options(world: World, tmp_path: Path) -> None:
    program = Path(HL)
    script = f"""
        PATH={shlex.quote(str(program.parent))}:$PATH
        eval "$(hl completion bash)"
        complete() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hl_completion hl; echo "${{COMPREPLY[*]}}"; }}
        complete hl show us
        complete hl status --se
    """
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=world.environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["user-stats", "--settings"]
