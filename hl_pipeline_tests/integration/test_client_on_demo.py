"""Protects client and notebook on the demo: through the real pipeline and the real API, their figures are PostgreSQL's."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from hl_client import Client
from hl_pipeline_tests.cli import HL, run_program
from hl_pipeline_tests.processes import PROJECT, free_port, run, started, users_environment, wait_until

pytestmark = pytest.mark.slow

_NOTEBOOK = PROJECT / "docs" / "notebooks" / "twaps_of_a_year.py"
_DAY = date(2025, 9, 1)


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo's API, and a connection to its database."""

    api_url: str
    database: psycopg.Connection

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with self.database.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), values).fetchall()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Generator[Demo]:
    directory = tmp_path_factory.mktemp("demo")
    environment = users_environment(HL_HOME=str(directory / ".hl"))
    del environment["HL_TWAP_DATA_URL"]
    made = run([HL, "demo", "--first-day", str(_DAY)], environment, directory, 300)
    assert made.returncode == 0, made.stdout
    port = free_port()
    with started([HL, "api", "--demo", "--port", str(port)], environment, directory, directory / "api.log") as program:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: program.answers(f"{url}/healthz"), 60, "the API answers")
        shown = run_program(directory, environment, "url", "--demo")
        with psycopg.connect(shown.stdout.strip()) as database:
            yield Demo(url, database)
        program.interrupt(30)


@pytest.fixture
def client(demo: Demo) -> Generator[Client]:
    with Client(demo.api_url, on_incomplete="ignore") as client:
        yield client


def test_every_fill_of_a_coin_comes_once_with_its_exact_notional(demo: Demo, client: Client) -> None:
    [busiest] = demo.rows("SELECT coin FROM hl.fills GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")

    pages = list(client.pages.fills(_DAY, _DAY, coin=busiest["coin"]))
    fills = client.fills(_DAY, _DAY, coin=busiest["coin"])

    [stored] = demo.rows(
        "SELECT count(*) AS rows, count(DISTINCT (tid, side)) AS legs, sum(px * sz) AS notional, sum(fee) AS fee FROM hl.fills "
        "WHERE coin = %s AND time >= '2025-09-01Z' AND time < '2025-09-02Z'",
        busiest["coin"],
    )
    assert len(pages) > 2
    assert sum(len(page) for page in pages) == len(fills) == stored["rows"]
    assert len({(row["tid"], row["side"]) for row in fills}) == stored["legs"]
    assert sum(row["px"] * row["sz"] for row in fills) == stored["notional"]
    assert fills.to_polars()["fee"].sum() == stored["fee"]
    assert fills.coverage.is_proved


def test_statistics_and_candles_of_each_coin_are_those_of_the_database(demo: Demo, client: Client) -> None:
    stats = client.stats(_DAY, _DAY)

    stored = demo.rows("SELECT coin, volume, notional FROM hl.daily_stats WHERE date = %s ORDER BY coin", _DAY)
    assert [{name: row[name] for name in ("coin", "volume", "notional")} for row in stats] == stored
    minutes = demo.rows("SELECT sum(volume) AS volume, max(high) AS high FROM hl.candles WHERE date = %s AND coin = 'BTC'", _DAY)
    [day] = client.candles("BTC", _DAY, _DAY, interval="1d")
    assert [{name: day[name] for name in ("volume", "high")}] == minutes


def test_the_notebook_shows_a_wallets_year_as_the_database_has_it(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HL_API_URL", demo.api_url)

    _, found = runpy.run_path(str(_NOTEBOOK))["app"].run()

    wallet = found["wallet"].value
    [most] = demo.rows(
        "SELECT wallet, count(*) AS twaps FROM hl.twaps WHERE begins_at >= '2025-01-01Z' AND begins_at < '2026-01-01Z' "
        "GROUP BY wallet ORDER BY twaps DESC, wallet LIMIT 1"
    )
    stored = demo.rows(
        "SELECT begins_at, notional_observed, slippage_bps, closed_pnl FROM hl.twaps WHERE wallet = %s AND begins_at IS NOT NULL "
        "AND begins_at >= '2025-01-01Z' AND begins_at < '2026-01-01Z' ORDER BY begins_at, twap_id",
        wallet,
    )
    profits = [row["closed_pnl"] for row in stored]
    assert (found["year"].value, wallet) == (2025, most["wallet"])
    assert len(stored) == most["twaps"] > 1
    assert sorted(found["executed"]) == sorted((row["begins_at"], row["notional_observed"]) for row in stored)
    known = [(row["begins_at"], row["slippage_bps"]) for row in stored if row["slippage_bps"] is not None]
    assert known
    assert sorted(found["slippage"]) == sorted(known)
    assert sum(row["TWAPs"] for row in found["months"]) == len(stored)
    assert sum(row["executed"] for row in found["months"]) == sum(row["notional_observed"] for row in stored)
    if None not in profits:
        assert sum(row["profit"] for row in found["months"]) == sum(profits)
    # Most of the year is not loaded. The page says so, and its charts are grey there: before the two days, and after them.
    assert "2025-01-01 to 2025-08-31: absent, not loaded" in found["notice"].text
    assert found["chart"].text.count("<rect") == len(stored) + len(known)
    assert found["chart"].text.count("<path") == 2 * 2
    assert found["chart"].text.count("2025-01-01 to 2025-08-31: absent, not loaded") == 2
    # Nothing comes from elsewhere.
    assert "://" not in found["chart"].text


def test_the_notebook_can_be_exported_with_its_figures(demo: Demo, tmp_path: Path) -> None:
    environment = users_environment(HL_API_URL=demo.api_url)
    # Beside a notebook, marimo keeps what it showed.
    notebook, page = Path(shutil.copy(_NOTEBOOK, tmp_path)), tmp_path / "page.html"
    marimo = str(Path(HL).parent / "marimo")

    done = run([marimo, "export", "html", str(notebook), "--no-include-code", "-o", str(page)], environment, tmp_path, 120)

    assert done.returncode == 0, done.stdout
    assert "Executed by each TWAP" in page.read_text()


def test_numbers_of_a_row_are_decimals_and_times_are_utc(client: Client) -> None:
    [row] = client.wallet_stats(_DAY, _DAY, limit=1)
    assert isinstance(row["maker_notional"], Decimal)
    assert isinstance(row["first_fill"], datetime)
    assert row["first_fill"].tzinfo == UTC
