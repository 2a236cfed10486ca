"""`hl up` as a user starts it: its own PostgreSQL, webserver, daemon and API, queried as the UI does, stopped with Ctrl-C."""

from __future__ import annotations

import json
import signal
import socket
from datetime import date
from pathlib import Path

import polars as pl
import psycopg
import pytest
import requests

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.embedded import embedded_url, hold
from hl_pipeline_tests.marked_secrets import SECRET
from hl_pipeline_tests.processes import (
    Ui,
    free_port,
    program,
    run,
    still_there,
    users_environment,
    wait_until,
)
from hl_pipeline_tests.services import Up, launch_backfill, look_at_backfill, processes_of, up_in

pytestmark = pytest.mark.waits

_DAYS = [date(2025, 9, 1), date(2025, 9, 2)]
_CHECKS = {
    "raw_fills": {"hours_present", "blocks_without_holes", "lines_taken"},
    "fills": {"key_unique", "legs_pair", "lake_equals_database", "day_is_whole"},
    "candles": {"prices_ordered"},
    "daily_stats": {"fills_accounted_for"},
    "user_stats": {"fills_accounted_for"},
    "builder_stats": {"fills_accounted_for"},
    "raw_twap_statuses": {"objects_present", "lines_taken", "events_near_their_day"},
    "twap_statuses": {"key_unique", "day_is_there"},
    "twaps": {"fills_are_what_was_reported", "slices_have_statuses"},
}
_HL = program("hl")

_CHECK_EXECUTIONS = """
    query($asset: AssetKeyInput!, $check: String!) {
      assetCheckExecutions(assetKey: $asset, checkName: $check, limit: 10) { runId status evaluation { success description } }
    }
"""


def _assert_ctrl_c_leaves_nothing(up: Up) -> None:
    working = {*up.program.tree(), *processes_of(up.home)}
    names = {" ".join(process.cmdline()[1:3]) for process in still_there([*working])}
    assert any("dagster-webserver" in name for name in names), names
    assert any("dagster-daemon" in name for name in names), names
    assert any("uvicorn" in name for name in names), names
    assert (up.home / "postgres" / "postmaster.pid").exists()

    code = up.program.interrupt(30)

    assert code == 0, up.program.output
    assert not (up.home / "postgres" / "postmaster.pid").exists()
    # The server takes its file away a moment before it is gone.
    wait_until(lambda: not still_there([*working]), 5, "every process is gone")
    assert not processes_of(up.home)


def _backfill(ui: Ui, days: list[date]) -> set[str]:
    """Launch a backfill as the UI does, and wait for its end; the ids of its runs."""
    backfill = launch_backfill(ui, [str(day) for day in days])
    wait_until(lambda: look_at_backfill(ui, backfill)["status"] != "REQUESTED", 150, "the backfill has ended")
    found = look_at_backfill(ui, backfill)
    assert found["status"] == "COMPLETED_SUCCESS", found
    return {run["runId"] for run in found["runs"]}


def test_a_backfill_from_the_ui_brings_exactly_its_days_and_ctrl_c_leaves_nothing(directory: Path) -> None:
    sample = write_sample(directory / "sample", first_day=_DAYS[0], days=len(_DAYS), fills_per_hour=300)
    # The environment goes before .env, in the runs too.
    environment = {"HL_LAKE_URL": "lake", "HL_TWAP_DATA_URL": str(sample.twap_data_dir)}
    with up_in(directory, environment, HL_LAKE_URL="elsewhere", HL_NODE_DATA_URL="sample/hl-mainnet-node-data") as up:
        runs = _backfill(up.ui, _DAYS)

        assert len(runs) == len(_DAYS)
        for asset, checks in _CHECKS.items():
            for check in checks:
                executions = up.ui.ask(_CHECK_EXECUTIONS, asset={"path": [asset]}, check=check)["assetCheckExecutions"]
                assert {execution["runId"] for execution in executions} == runs, check
                # Of each day's TWAPs the sample withholds slices of one and the statuses of another: `twaps` warns.
                expected = "FAILED" if asset == "twaps" else "SUCCEEDED"
                assert {execution["status"] for execution in executions} == {expected}, executions
        _assert_the_tables_hold(sample.truth_dir, embedded_url(up.home))
        _assert_the_api_knows_the_twaps(sample.truth_dir, up.api)
        assert {path.name for path in (directory / "lake" / "fills").iterdir()} == {f"date={day}" for day in _DAYS}
        assert not (directory / "elsewhere").exists()
        _assert_ctrl_c_leaves_nothing(up)


def _assert_the_tables_hold(truth: Path, url: str) -> None:
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        days = connection.execute("SELECT time::date, count(*) FROM hl.fills GROUP BY 1 ORDER BY 1").fetchall()
        sums = connection.execute(
            "SELECT time::date, coin, wallet, count(*), sum(sz), sum(fee) FROM hl.fills GROUP BY 1, 2, 3"
        ).fetchall()
        trades = [
            connection.execute(f"SELECT date, sum(trades) FROM hl.{table} GROUP BY 1 ORDER BY 1".encode()).fetchall()
            for table in ("candles", "daily_stats")
        ]
        users = connection.execute(
            "SELECT date, sum(fills + non_market_rows) FROM hl.user_stats GROUP BY 1 ORDER BY 1"
        ).fetchall()
    of_day = json.loads((truth / "days.json").read_text())["days"]
    assert days == users == [(day, of_day[str(day)]["rows"]) for day in _DAYS]
    assert trades == [[(day, of_day[str(day)]["trades"]) for day in _DAYS]] * 2
    expected = pl.read_parquet(truth / "fills.parquet").filter(pl.col("date").is_in(_DAYS))
    assert sorted(sums) == expected.select("date", "coin", "wallet", "rows", "sz_sum", "fee_sum").sort(pl.all()).rows()


def _assert_the_api_knows_the_twaps(truth: Path, api: str) -> None:
    """Of the wallet with the most TWAPs: each one's last status on the days, the newest first."""
    of_days = pl.col("time_ns") // (86_400 * 10**9) + date(1970, 1, 1).toordinal()
    statuses = pl.read_parquet(truth / "statuses.parquet").filter(of_days.is_in([day.toordinal() for day in _DAYS]))
    wallet = statuses["wallet"].mode().sort()[0]
    last = statuses.filter(pl.col("wallet") == wallet).sort("time_ns").group_by("twap_id", maintain_order=True).last()
    asked = {"wallet": wallet.upper().replace("X", "x"), "start": str(_DAYS[0]), "end": str(_DAYS[-1]), "limit": "5000"}

    answer = requests.get(f"{api}/api/v1/twaps", params=asked, timeout=10).json()

    assert answer["wallet"] == wallet
    told = [item for item in answer["twaps"] if item["status"] is not None]
    assert {(item["twap_id"], item["status"], item["asset"]) for item in told} == {
        (str(row["twap_id"]), row["status"], row["coin"]) for row in last.iter_rows(named=True)
    }
    assert len(told) == last.height > 1
    # The others have slices on these days and no status.
    others = [item["analytics"] for item in answer["twaps"] if item["status"] is None]
    assert {(item["verdict"], item["slices"] > 0) for item in others} <= {("status_missing", True)}
    assert [run["state"] for run in answer["coverage"]] == ["unprovable"]


@pytest.mark.slow
def test_hl_up_says_what_is_in_its_way_and_sigterm_ends_a_run_that_counts_as_failed(
    directory: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(90)
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": SECRET}
        endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with up_in(directory, credentials | endpoint, HL_NODE_DATA_URL="s3://bucket") as up:
            up.ui.launch("ingest_days", "2025-09-01")
            # The run has asked for something, and never gets an answer.
            with silent.accept()[0]:
                _assert_another_is_told_what_is_in_its_way(up, directory)
                up.program.process.send_signal(signal.SIGTERM)
                assert up.program.process.wait(30) == 0
                assert not processes_of(up.home)

    with hold(up.home), psycopg.connect(embedded_url(up.home, "hl_dagster")) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("FAILURE",)]


def _assert_another_is_told_what_is_in_its_way(up: Up, directory: Path) -> None:
    again = run([_HL, "up", "--port", str(free_port())], users_environment(), directory)
    other = run([_HL, "up"], users_environment(HL_HOME="other", HL_PORT=str(up.ui.port)), directory)
    api_port = up.api.rpartition(":")[2]
    beside = users_environment(HL_HOME="other", HL_PORT=str(free_port()), HL_API_PORT=api_port)
    same_api = run([_HL, "up"], beside, directory)

    assert again.returncode == 1
    assert f"hl up or hl upgrade is already running in {up.home}" in again.stdout
    assert other.returncode == 1
    assert f"port {up.ui.port} is in use; choose another with --port or HL_PORT" in other.stdout
    assert f"port {api_port} is in use; choose another with --api-port or HL_API_PORT" in same_api.stdout
    assert not (directory / "other" / "postgres" / "postmaster.pid").exists()
    assert up.program.answers(up.ui.health)
