"""`hl`: bad input, exit codes, output, Ctrl-C, and a demo that never touches a real installation.

Checks and output of a command are tested in this process. Each kind of exit code and every signal is also tested in a separate
process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import lz4.frame
import pytest
import requests

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings, as_environment
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import HL, run_in_process, run_program
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.processes import free_port, started, still_there, wait_until
from hl_pipeline_tests.servers.s3 import REGION, S3Server

_ACKNOWLEDGE = ["acknowledge", "--from", "2026-03-15", "--to", "2026-03-15", "--source"]


@pytest.fixture
def users_environment() -> dict[str, str]:
    """A shell in which nothing of ours is set."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("HL_", "DAGSTER_"))}


def test_every_command_says_what_it_does(tmp_path: Path, users_environment: dict[str, str]) -> None:
    done = run_program(tmp_path, users_environment, "--help")
    assert done.returncode == 0
    names = (
        "up",
        "api",
        "demo",
        "ingest",
        "backfill",
        "cost",
        "rebuild",
        "drop",
        "acknowledge",
        "status",
        "sample",
        "show",
        "reset",
    )
    for command in names:
        assert f"\u2502 {command} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["ingest", "--from", "15.3.2026", "--to", "2026-03-16"], {}, "'15.3.2026' is not a day like 2026-03-15"),
        (["ingest", "--from", "2026-03-16", "--to", "2026-03-15"], {}, "--to 2026-03-15 is before --from 2026-03-16"),
        (["ingest", "--from", "2023-01-01", "--to", "2023-03-01"], {}, "days must be from 2023-02-26 to"),
        (["cost", "--from", "2023-01-01", "--to", "2023-03-01"], {}, "days must be from 2023-02-26 to"),
        (["cost", "--from", "2026-03-16", "--to", "2026-03-15"], {}, "--to 2026-03-15 is before --from 2026-03-16"),
        (["sample", "--fills-per-hour", "0", "--days", "1"], {}, "--fills-per-hour"),
        (
            ["sample", "--fills-per-hour", "5", "--days", "1", "--out", "."],
            {},
            "already exists; choose another directory with --out",
        ),
        (["sample", "--fills-per-hour", "5", "--days", "1", "--from", "2025-01-01"], {}, "2025-03-22"),
        (["show", "fills", "--limit", "0"], {}, "--limit"),
        (["show", "fills", "--wallet", "0x12"], {}, "--wallet is '0x12'; it must be 0x and 40 hex digits"),
        (["show", "daily-stats", "--period", "decade"], {}, "must be one of day, week, month, year, all"),
        (["drop", "--from", "2026-03-16", "--to", "2026-03-15"], {}, "--to 2026-03-15 is before --from 2026-03-16"),
        (["status", "--from", "2026-03-15"], {}, "--to is missing: give both days"),
        (["status", "--from", "2026-03-16", "--to", "2026-03-15"], {}, "--to 2026-03-15 is before --from 2026-03-16"),
        (
            [*_ACKNOWLEDGE, "fills", "--note", "x"],
            {},
            "--source is 'fills'; it must be one of node_trades, node_fills, node_fills_by_block, twap_statuses",
        ),
        ([*_ACKNOWLEDGE, "node_fills", "--note", "x", "--hour", "24"], {}, "--hour is 24; it must be 0 to 23"),
        ([*_ACKNOWLEDGE, "node_fills"], {}, "give either --note TEXT (the reason) or --undo"),
        ([*_ACKNOWLEDGE, "node_fills", "--note", "x", "--undo"], {}, "(the reason) or --undo, not both"),
        (["status"], {"HL_PORT": "many"}, "HL_PORT: must be a valid integer"),
        (["status"], {"HL_PORT": "70000"}, "HL_PORT: must be less than or equal to 65535 (found '70000')"),
        (["status"], {"HL_DATABASE_URL": "mysql://x"}, "HL_DATABASE_URL: must begin with postgresql://"),
        (["status"], {"HL_BAD_LINES_MAX_SHARE": "2"}, "HL_BAD_LINES_MAX_SHARE"),
        (["status"], {"HL_LAKE_URL": "gs://bucket/lake"}, "HL_LAKE_URL: must be a directory or s3://bucket/prefix"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(
    arguments: list[str], environment: dict[str, str], message: str, tmp_path: Path, users_environment: dict[str, str]
) -> None:
    done = run_in_process(tmp_path, {**users_environment, **environment}, *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("\u2502", " ").split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_bad_options_and_settings_end_the_program_with_2(tmp_path: Path, users_environment: dict[str, str]) -> None:
    option = run_program(tmp_path, users_environment, "show", "fills", "--wallet", "0x12")
    assert (option.returncode, "--wallet is '0x12'; it must be 0x and 40 hex digits" in option.stderr) == (2, True)
    setting = run_program(tmp_path, {**users_environment, "HL_PORT": "many"}, "status")
    assert (setting.returncode, "HL_PORT: must be a valid integer" in setting.stderr) == (2, True)
    assert "Traceback" not in option.stderr + setting.stderr


@pytest.mark.parametrize(
    "arguments", [["status"], ["show", "fills"], ["show", "daily-stats"], ["drop", "--from", "2026-01-01", "--to", "2026-01-02"]]
)
def test_looking_at_an_installation_that_is_not_there_does_not_begin_one(
    arguments: list[str], tmp_path: Path, users_environment: dict[str, str]
) -> None:
    done = run_in_process(tmp_path, users_environment, *arguments)
    assert done.returncode == 1
    assert "there is no installation in" in done.stderr
    assert "run `hl up`, `hl ingest` or `hl demo` first" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["status"], ["show", "fills"], ["url"]])
def test_where_there_is_a_demo_alone_the_error_says_how_to_use_it(
    arguments: list[str], tmp_path: Path, users_environment: dict[str, str]
) -> None:
    (tmp_path / ".hl-demo" / "postgres").mkdir(parents=True)
    done = run_in_process(tmp_path, users_environment, *arguments)
    assert done.returncode == 1
    assert f"there is no installation in {tmp_path}/.hl yet, but a demo in {tmp_path}/.hl-demo: use --demo" in done.stderr


_DAY = ["--from", "2026-03-15", "--to", "2026-03-15"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["up"],
        ["api"],
        ["ingest", *_DAY],
        ["backfill", "--all"],
        ["cost", *_DAY],
        ["rebuild"],
        ["drop", *_DAY],
        ["acknowledge", "--source", "node_fills", *_DAY, "--note", "known"],
        ["status"],
        ["url"],
        ["show", "fills"],
        ["show", "daily-stats"],
        ["show", "user-stats"],
        ["show", "twaps"],
        ["show", "checkpoints"],
        ["reset", "checkpoint", *_DAY],
    ],
)
def test_every_command_takes_the_demo_before_it_or_after_it(
    arguments: list[str], tmp_path: Path, users_environment: dict[str, str]
) -> None:
    for words in (["--demo", *arguments], [*arguments, "--demo"]):
        done = run_in_process(tmp_path, users_environment, *words)
        assert done.returncode == 1, done.stdout + done.stderr
        assert f"in {tmp_path}/.hl-demo" in done.stderr
        assert "run `hl demo` first" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_settings_come_from_the_environment_before_the_env_file_before_the_toml_file(
    tmp_path: Path, users_environment: dict[str, str]
) -> None:
    (tmp_path / "hl.toml").write_text('port = 1111\nnode_data_region = "from-toml"\nswap_wait_seconds = 5\n')
    (tmp_path / ".env").write_text("HL_PORT=2222\nHL_NODE_DATA_REGION=from-env-file\n")
    done = run_in_process(tmp_path, {**users_environment, "HL_PORT": "3333"}, "status", "--settings")
    shown = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line.strip().startswith("HL_")}
    assert (shown["HL_PORT"], shown["HL_NODE_DATA_REGION"], shown["HL_SWAP_WAIT_SECONDS"]) == ("3333", "from-env-file", "5")


@pytest.mark.slow
def test_days_are_ingested_shown_and_a_secret_is_never_shown(world: World, tmp_path: Path) -> None:
    made = write_sample(tmp_path / "sample", first_day=date(2026, 3, 15), days=2, fills_per_hour=60)
    sources = {"HL_NODE_DATA_URL": str(made.node_data_dir), "HL_TWAP_DATA_URL": str(made.twap_data_dir)}
    environment = {**world.environment, **sources}

    done = run_program(tmp_path, environment, "ingest", "--from", "2026-03-15", "--to", "2026-03-16")

    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["2026-03-15", "whole"], ["2026-03-16", "whole"]]
    status = run_in_process(tmp_path, {**environment, "HL_DAGSTER_DATABASE_URL": "postgresql://me:hush@db/d"}, "status")
    assert "hush" not in status.stdout + status.stderr
    status = run_in_process(tmp_path, environment, "status")
    assert "days      2, " in status.stdout
    assert "reachable" in status.stdout
    checkpoints = run_program(tmp_path, environment, "show", "checkpoints", "--limit", "100")
    assert checkpoints.stdout.count("node_fills_by_block/hourly/") == 49
    fills = run_in_process(tmp_path, environment, "show", "fills", "--day", "2026-03-15", "--limit", "3")
    rows = [line for line in fills.stdout.splitlines() if line.strip().startswith("2026-03-15 ")]
    assert len(rows) == 3
    days = run_in_process(tmp_path, environment, "show", "daily-stats", "--coin", "HYPE")
    assert [line.split()[:4] for line in days.stdout.splitlines()[1:]] == [
        ["2026-03-16", "1", "HYPE", "perp"],
        ["2026-03-15", "1", "HYPE", "perp"],
    ]
    # Those two days are the end of one week and the beginning of the next, in one month.
    months = run_in_process(tmp_path, environment, "show", "daily-stats", "--coin", "HYPE", "--period", "month")
    assert [line.split()[:4] for line in months.stdout.splitlines()[1:]] == [["2026-03-01", "2", "HYPE", "perp"]]
    trades = [int(line.split()[4]) for line in (days.stdout + months.stdout).splitlines() if " HYPE " in line]
    assert trades[0] + trades[1] == trades[2] > 0
    users = run_in_process(tmp_path, environment, "show", "user-stats", "--period", "all", "--limit", "2", "--wide")
    wallet = users.stdout.splitlines()[1].split()[1]
    assert wallet.startswith("0x")
    one = run_in_process(
        tmp_path, environment, "show", "user-stats", "--period", "all", "--wide", "--wallet", wallet.upper().replace("X", "x", 1)
    )
    assert one.stdout.splitlines()[1].split() == users.stdout.splitlines()[1].split()
    assert "statuses  2 days, " in status.stdout
    kinds = json.loads((made.truth_dir / "twaps.json").read_text())
    failed = run_in_process(tmp_path, environment, "show", "twaps", "--verdict", "failed", "--limit", "1000")
    assert {int(line.split()[0]) for line in failed.stdout.splitlines()[1:]} == set(kinds["error_at_once"])
    wrong = run_in_process(tmp_path, environment, "show", "twaps", "--verdict", "fine")
    assert (wrong.returncode, "--verdict is 'fine'; it must be one of match, missing_fills" in wrong.stderr) == (2, True)


def test_holes_are_shown_acknowledged_and_taken_back(world: World, tmp_path: Path) -> None:
    with connect(world.database_url) as connection:
        connection.execute(
            "INSERT INTO hl.coverage (source, object_date, object_hour, expected, found, why, missing_ranges, missing_blocks) "
            "SELECT 'node_fills_by_block', '2026-03-15', h, true, CASE h WHEN 3 THEN 'missing' ELSE 'present' END, '', '{}', 0 "
            "FROM generate_series(0, 23) h"
        )

    def hour_three() -> str:
        done = run_in_process(tmp_path, world.environment, "status", "--from", "2026-03-15", "--to", "2026-03-15")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[1].split()[2][3]

    assert hour_three() == "X"
    by_block = [*_ACKNOWLEDGE, "node_fills_by_block"]
    none = run_in_process(tmp_path, world.environment, *by_block, "--hour", "4", "--note", "the node was down")
    assert none.returncode == 1
    assert "2026-03-15 to 2026-03-15, hour 4: no known holes; see" in none.stderr
    done = run_program(tmp_path, world.environment, *by_block, "--hour", "3", "--note", "the node was down")
    assert (
        "node_fills_by_block: acknowledged on 1 days, 2026-03-15 to 2026-03-15. To update the checks, materialize the days again"
        in done.stdout
    )
    assert hour_three() == "a"
    assert (
        "acknowledgement removed on 1 days"
        in run_in_process(tmp_path, world.environment, *by_block, "--hour", "3", "--undo").stdout
    )
    assert hour_three() == "X"
    assert "nothing was acknowledged" in run_in_process(tmp_path, world.environment, *by_block, "--hour", "3", "--undo").stderr


@pytest.mark.slow
def test_the_api_alone_answers_until_ctrl_c(world: World, tmp_path: Path) -> None:
    port = free_port()
    with started([HL, "api", "--port", str(port)], world.environment, tmp_path, tmp_path / "api.log") as api:
        wait_until(lambda: api.answers(f"http://127.0.0.1:{port}/healthz"), 60, "the API answers")
        health = requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).json()
        working = api.tree()
        assert health["database"] == "connected"
        assert api.interrupt(30) == 0, api.output
        wait_until(lambda: not still_there(working), 5, "the API is gone")
    assert f"REST API: http://127.0.0.1:{port}" in api.output


def test_a_mistyped_setting_is_told(world: World, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HL_PORTT=1\n")
    done = run_in_process(tmp_path, {**world.environment, "HL_FILLS_KEEPDAYS": "9"}, "status")
    assert done.returncode == 0
    for name in ("HL_FILLS_KEEPDAYS", "HL_PORTT"):
        assert f"warning: {name} is not a setting; see .env.example" in done.stderr


def test_statistics_that_are_not_of_the_days_fills_are_told(world: World, tmp_path: Path) -> None:
    with connect(world.database_url) as connection:
        connection.execute("INSERT INTO hl.fills_days (date, rows, duplicates, state) VALUES ('2026-03-15', 5, 0, 'whole')")
    assert (
        "statistics or TWAPs are older than the fills: load the day again"
        in run_in_process(tmp_path, world.environment, "status").stdout
    )


@pytest.mark.slow
def test_ctrl_c_stops_at_once_and_the_same_again_goes_on(world: World, tmp_path: Path) -> None:
    made = write_sample(tmp_path / "sample", first_day=date(2026, 3, 15), days=2, fills_per_hour=1_500)
    environment = {**world.environment, "HL_NODE_DATA_URL": str(made.node_data_dir)}
    arguments = [HL, "ingest", "--from", "2026-03-15", "--to", "2026-03-16"]
    lake = Path(world.environment["HL_LAKE_URL"])
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as ingest:
        while not list(lake.glob("raw_fills/*/*.parquet")):
            assert ingest.poll() is None
            threading.Event().wait(0.02)
        ingest.send_signal(signal.SIGINT)
        said, _ = ingest.communicate(timeout=60)
    assert ingest.returncode == 130, said
    assert "interrupted; run the same command to continue" in said
    assert not list(lake.glob("raw_fills/object_date=2026-03-16/hour=1*"))
    again = run_program(tmp_path, environment, "ingest", "--from", "2026-03-15", "--to", "2026-03-16")
    assert again.returncode == 0, again.stdout


@pytest.mark.slow
def test_ctrl_c_while_a_day_is_copied_is_an_interrupt_and_no_failure(world: World, tmp_path: Path) -> None:
    made = write_sample(tmp_path / "sample", first_day=date(2026, 3, 15), hours=3, fills_per_hour=60_000)
    environment = {**world.environment, "HL_NODE_DATA_URL": str(made.node_data_dir)}
    arguments = [HL, "ingest", "--from", "2026-03-15", "--to", "2026-03-15"]
    copying = "SELECT count(*) > 0 FROM pg_stat_progress_copy WHERE datname = current_database()"
    with (
        connect(world.database_url) as connection,
        subprocess.Popen(
            arguments, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as ingest,
    ):
        while connection.execute(copying.encode()).fetchone() != (True,):
            assert ingest.poll() is None
            threading.Event().wait(0.005)
        ingest.send_signal(signal.SIGINT)
        said, _ = ingest.communicate(timeout=60)
        assert ingest.returncode == 130, said
        assert "interrupted; run the same command to continue" in said
        assert connection.execute("SELECT count(*) FROM hl.fills").fetchone() == (0,)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"HL_HOME": "/dev/null"}, "HL_HOME (/dev/null): "),
        ({"HL_DATABASE_URL": "postgresql://u:p%zz@h/db"}, "cannot connect to postgresql://u:***@h/db"),
    ],
)
def test_a_home_or_a_database_that_cannot_be_is_said_in_one_line(
    environment: dict[str, str], message: str, tmp_path: Path, users_environment: dict[str, str]
) -> None:
    done = run_in_process(tmp_path, {**users_environment, **environment}, "ingest", "--from", "2026-03-15", "--to", "2026-03-15")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_incomplete_day_exits_with_3_and_a_failed_one_with_1(world: World, tmp_path: Path, s3: S3Server) -> None:
    path = world.bucket / "node_fills_by_block/hourly/20260315/3.lz4"
    path.parent.mkdir(parents=True)
    path.write_bytes(lz4.frame.compress(b""))
    done = run_program(tmp_path, world.environment, "ingest", "--from", "2026-03-15", "--to", "2026-03-15")
    assert done.returncode == 3
    assert "incomplete" in done.stdout

    s3.client().create_bucket(Bucket="closed", CreateBucketConfiguration={"LocationConstraint": REGION})
    refused = {**world.environment, "HL_NODE_DATA_URL": "s3://closed", "AWS_ENDPOINT_URL": s3.url}
    done = run_in_process(tmp_path, refused, "ingest", "--from", "2026-03-15", "--to", "2026-03-15")
    assert done.returncode == 1
    assert "no AWS credentials found; set AWS_PROFILE" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_demo_works_and_neither_sees_nor_touches_a_real_installation(
    tmp_path: Path, users_environment: dict[str, str]
) -> None:
    (tmp_path / ".env").write_text("HL_DATABASE_URL=postgresql://nobody@127.0.0.1:1/nothing\nHL_LAKE_URL=real-lake\n")
    environment = {**users_environment, "HL_HOME": str(tmp_path / "real-home"), "HL_NODE_DATA_URL": "s3://real"}

    # The object of hour 0 after a day is due at 04:00: an hour to its end, three until it counts as a hole.
    last = (datetime.now(UTC) - timedelta(hours=4)).date() - timedelta(days=1)

    done = run_program(tmp_path, environment, "demo")

    assert done.returncode == 0, done.stdout + done.stderr
    days = [line.split()[:2] for line in done.stdout.splitlines() if line.split()[1:2] == ["whole"]]
    assert days == [[str(last - timedelta(days=1)), "whole"], [str(last), "whole"]]
    assert "most traded, by notional in the coin's quote: HYPE" in done.stdout
    assert "up --demo" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", ".hl-demo"]
    shown = run_program(tmp_path, environment, "status", "--demo")
    assert "days      2, " in shown.stdout
    refused = run_in_process(tmp_path, environment, "demo", "--first-day", "2025-09-01")
    assert refused.returncode == 2
    assert f"has {last - timedelta(days=1)} to {last}; remove the directory to choose other days" in refused.stderr


def test_a_child_gets_every_setting_and_reads_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("HL_PORT=1234\n")
    settings = Settings(port=4321, node_data_url="somewhere")
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings.model_copy(update={"home": tmp_path / ".hl"})


def test_the_example_names_every_setting_with_its_default() -> None:
    example = (Path(__file__).parents[2] / ".env.example").read_text()
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else field.default
        assert f"#HL_{name.upper()}={default}\n" in example
        assert field.description
        assert field.description in " ".join(line.removeprefix("# ") for line in example.splitlines())
