"""An unknown coin never gives an empty list: every path, and every command of `hl show`, reports it and suggests a coin."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.api import WALLET, Api, add, at, ns, serving, status_row, twap_row

DAYS = {"start": "2025-09-01", "end": "2025-09-02"}
PATHS: list[tuple[str, str, dict[str, str]]] = [
    ("/api/v1/fills", "coin", {}),
    ("/api/v1/fills", "coin", {"wallet": WALLET}),
    ("/api/v1/candles", "coin", {}),
    ("/api/v1/candles", "coin", {"interval": "1h"}),
    ("/api/v1/stats/daily", "coin", {}),
    ("/api/v1/stats/daily", "coin", {"sort": "notional"}),
    ("/api/v1/twaps", "asset", {"wallet": WALLET}),
]
every_path = pytest.mark.parametrize(("path", "name", "beside"), PATHS)


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    with connect(url, "test") as connection:
        _fill(connection)
    return url


def _fill(connection: psycopg.Connection) -> None:
    """A whole day of which there are statistics, and one of which there are only fills so far."""
    made = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at"), at("2025-09-03 00:00"))
    add(connection, "fills_days", {"date": "2025-09-01", **made}, {"date": "2025-09-02"})
    day = {"date": "2025-09-01"}
    add(connection, "daily_stats", {**day, "coin": "BTC"}, {**day, "coin": "kPEPE"}, {**day, "coin": "xyz:TSLA", "kind": "hip3"})
    pair = {"kind": "spot", "coin": "@107"}
    add(connection, "daily_stats", {**day, **pair, "fees": Json({"HYPE": "0.2"})})
    add(connection, "daily_stats", {**pair, "date": "2025-08-31", "fees": Json({"USDC": "1"})})
    add(connection, "candles", {**day, "coin": "OLD", "time": at("2025-09-01 00:00")})
    add(connection, "fills", {"time": at("2025-09-02 12:00"), "coin": "NEW", "wallet": "0x" + "2b" * 20})
    add(connection, "twaps", twap_row(1, at("2025-01-01 00:00"), coin="TWAPPED"))
    add(connection, "twap_statuses", status_row(2, ns("2025-01-01 00:00"), coin="WAITING"))


@pytest.fixture(scope="module")
def api(url: str) -> Generator[Api]:
    with serving(url) as api:
        yield api


@pytest.mark.parametrize("chosen", ["json", "csv", "parquet"])
@every_path
def test_a_coin_that_was_never_seen_is_404_with_the_likely_one(
    api: Api, path: str, name: str, beside: dict[str, str], chosen: str
) -> None:
    for asked, candidates in (("btc", ["BTC"]), ("BTC-PERP", ["BTC"]), ("HYPE/USDC", ["@107"]), ("zzzz", [])):
        response = api.ask(path, **DAYS, **beside, **{name: asked}, format=chosen)
        assert (response.status_code, response.headers["content-type"]) == (404, "application/json")
        answer = response.json()
        assert answer["candidates"] == candidates
        assert answer["detail"].startswith(f"no coin {asked!r} is in the loaded days; ")
        assert (f"did you mean {candidates[0]}?" in answer["detail"]) if candidates else ("is spelled" in answer["detail"])


@pytest.mark.parametrize("coin", ["BTC", "@107", "OLD", "NEW", "TWAPPED"])
@every_path
def test_a_coin_that_was_seen_anywhere_is_a_list_empty_or_not(
    api: Api, path: str, name: str, beside: dict[str, str], coin: str
) -> None:
    rows: list[Any] = next(value for value in api.get(path, **DAYS, **beside, **{name: coin}).values() if isinstance(value, list))
    assert len(rows) <= 1


def test_a_coin_of_one_wallets_statuses_alone_is_known_for_that_wallet(api: Api) -> None:
    assert api.get("/api/v1/twaps", **DAYS, wallet=WALLET, asset="WAITING")["twaps"] == []
    assert api.ask("/api/v1/twaps", **DAYS, wallet="0x" + "2b" * 20, asset="WAITING").status_code == 404


def test_where_nothing_is_loaded_no_coin_is_called_unknown(database_url: str) -> None:
    with serving(database_url) as api:
        answer = api.get("/api/v1/fills", **DAYS, coin="btc")
    absent = [{"from": "2025-09-01", "to": "2025-09-02", "state": "absent", "note": "not loaded"}]
    assert (answer["fills"], answer["coverage"]) == ([], absent)


@pytest.fixture
def environment(url: str, tmp_path: Path) -> dict[str, str]:
    return {"HL_SETTINGS_RESOLVED": "1", "HL_HOME": str(tmp_path / "home"), "HL_DATABASE_URL": url, "HL_TWAP_DATA_URL": "none"}


@pytest.mark.parametrize("table", ["fills", "daily-stats", "twaps"])
def test_the_command_line_says_the_same(table: str, tmp_path: Path, environment: dict[str, str]) -> None:
    for asked, said in (("btc", "did you mean BTC?"), ("HYPE/USDC", "did you mean @107?"), ("zzzz", "is spelled")):
        for output in ([], ["--json"], ["--csv"]):
            done = run_in_process(tmp_path, environment, "show", table, "--coin", asked, *output)
            assert (done.returncode, done.stdout) == (2, "")
            assert f"error: no coin '{asked}' is in the loaded days; " in done.stderr
            assert said in done.stderr


def test_a_day_that_is_not_loaded_is_said_beside_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    done = run_in_process(tmp_path, environment, "show", "fills", "--day", "2025-09-05")
    assert (done.returncode, done.stdout, done.stderr) == (0, "no rows\n", "2025-09-05: absent: not loaded\n")
    span = ["--from", "2025-09-01", "--to", "2025-09-04"]
    done = run_in_process(tmp_path, environment, "show", "user-stats", *span, "--json")
    assert done.stdout == "[]\n"
    assert done.stderr == (
        "2025-09-02: absent: not made since its fills were loaded\n2025-09-03 to 2025-09-04: absent: not loaded\n"
    )


def test_without_any_day_nothing_says_how_to_load_one(tmp_path: Path, environment: dict[str, str], database_url: str) -> None:
    done = run_in_process(tmp_path, {**environment, "HL_DATABASE_URL": database_url}, "show", "fills")
    assert (done.returncode, done.stdout) == (0, "no rows\n")
    assert "no day is loaded yet: run `" in done.stderr
