"""docs/guides/recipes.md is correct: each step runs as written, and returns what the generator recorded."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Generator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.naive import statistics, twaps
from hl_pipeline_tests.processes import PROGRAMS, PROJECT, users_environment
from hl_pipeline_tests.servers.api import Api, serving

pytestmark = pytest.mark.slow

DOCUMENT = PROJECT / "docs" / "guides" / "recipes.md"
DAYS = [date(2026, 3, 9) + timedelta(days=n) for n in range(7)]
_LOST = "node_fills_by_block/hourly/20260311/13.lz4"
_TASKS = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), flags=re.DOTALL | re.MULTILINE)
_STEP = re.compile(r"```(sh|python|sql)\n(.*?)```", re.DOTALL)
_WALLET, _TWAP, _API = "0x" + "0" * 40, "1670761", "http://127.0.0.1:8000"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Installation:
    """A week that is loaded, served by the API; the legs and statuses it was made of; a wallet, and one of its TWAPs."""

    directory: Path
    environment: dict[str, str]
    api: Api
    legs: dict[date, list[Row]]
    statuses: list[Row]
    wallet: str
    twap: int
    gap: tuple[str, str, str]
    """What the two steps of the repair said, and the check before them."""

    def steps(self, task: str) -> list[tuple[str, str]]:
        return _put_in(_steps(task), self.wallet, self.twap, self.api.url)

    def sh(self, command: str) -> str:
        return _sh(command, self.environment, self.directory)

    def ask(self, task: str) -> str:
        [(language, command)] = self.steps(task)
        assert language == "sh"
        return self.sh(command)

    def query(self, task: str) -> list[Row]:
        [(language, query)] = self.steps(task)
        assert language == "sql"
        with chdir(self.directory), duckdb.connect() as connection:
            # Whoever asks has a time zone; the answer has none but UTC.
            connection.execute("SET timezone = 'Asia/Tokyo'")
            if query.startswith("COPY"):
                connection.execute(query)
                return []
            return connection.sql(query).pl().to_dicts()

    @property
    def all_legs(self) -> list[Row]:
        return [leg for day in DAYS for leg in self.legs[day]]


def _steps(task: str) -> list[tuple[str, str]]:
    return _STEP.findall(dict(_TASKS)[task])


def _put_in(steps: list[tuple[str, str]], wallet: str, twap: int, url: str) -> list[tuple[str, str]]:
    """As a reader does: the own wallet, TWAP and address in the place of those of the page."""
    return [(kind, text.replace(_WALLET, wallet).replace(_TWAP, str(twap)).replace(_API, url)) for kind, text in steps]


def _sh(command: str, environment: dict[str, str], directory: Path, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=directory, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Generator[Installation]:
    directory = tmp_path_factory.mktemp("recipes")
    sample = write_sample(directory / "sample", first_day=DAYS[0], days=7, fills_per_hour=60, record_legs=True)
    url = new_database()
    # The lake is where the page says, as in the directory that `hl up` runs in.
    environment = users_environment(
        HL_DATABASE_URL=url,
        HL_NODE_DATA_URL=str(sample.node_data_dir),
        HL_TWAP_DATA_URL=str(sample.twap_data_dir),
        PATH=f"{PROGRAMS}:/usr/bin:/bin",
        COLUMNS="200",
        PYTHONPATH=str(PROJECT),
    )
    environment.pop("HL_SETTINGS_RESOLVED", None)
    lost = sample.node_data_dir / _LOST
    shutil.move(lost, directory / "lost.lz4")
    span = ("--from", str(DAYS[0]), "--to", str(DAYS[-1]))
    first = run_in_process(directory, environment, "ingest", *span)
    assert first.returncode == 3, first.stdout + first.stderr
    find, repair = _steps("Find a gap and repair it")
    check = _sh(_steps("Into production")[1][1], environment, directory, (3,))
    found = _sh(find[1], environment, directory)
    shutil.move(directory / "lost.lz4", lost)
    gap = check, found, _sh(repair[1], environment, directory)
    legs = {day: statistics.read_legs(sample.truth_dir, day) for day in DAYS}
    statuses = pl.read_parquet(sample.truth_dir / "statuses.parquet").to_dicts()
    ordinary = json.loads((sample.truth_dir / "twaps.json").read_text())["ordinary"]
    wallet, twap = _wallet_and_twap(legs, set(ordinary))
    with serving(url, HL_API_LAKE_URL=str(directory / ".hl" / "lake")) as api:
        yield Installation(directory, environment, api, legs, statuses, wallet, twap, gap)


def _wallet_and_twap(legs: dict[date, list[Row]], ordinary: set[int]) -> tuple[str, int]:
    """The TWAP with the most slices of those about which nothing is odd, and who placed it."""
    slices: dict[tuple[str, int], int] = defaultdict(int)
    for leg in (leg for day in DAYS for leg in legs[day] if leg["twap_id"] in ordinary):
        slices[leg["wallet"], leg["twap_id"]] += 1
    return max(sorted(slices), key=lambda found: slices[found])


def _user_days(week: Installation) -> dict[date, dict[str, Row]]:
    return {day: {key: row | {"is_complete": True} for key, row in statistics.user_stats(week.legs[day]).items()} for day in DAYS}


def test_there_are_nine_tasks_of_at_most_two_steps_each() -> None:
    assert len(_TASKS) == 9
    for name, text in _TASKS:
        assert 1 <= len(_STEP.findall(text)) <= 2, name
        assert text.count("```") == 2 * len(_STEP.findall(text)), name


def test_the_wallets_that_paid_most_fees_are_those_of_the_record(week: Installation) -> None:
    answer = json.loads(week.ask("Which wallets paid the most fees last week"))
    paid = {key: row["fees_in_quote"] for (_, key), row in statistics.by_period("all", _user_days(week)).items()}
    most = sorted((amount for amount in paid.values() if amount is not None), reverse=True)[:10]
    assert [Decimal(row["fees_in_quote"]) for row in answer["stats"]] == most
    assert all(paid[row["wallet"]] == Decimal(row["fees_in_quote"]) for row in answer["stats"])
    assert [(run["from"], run["to"], run["state"]) for run in answer["coverage"]] == [(str(DAYS[0]), str(DAYS[-1]), "whole")]


def test_the_frame_of_twaps_has_the_slippage_of_the_record(week: Installation) -> None:
    [(language, code)] = week.steps("The TWAPs of a wallet, with slippage, in a data frame")
    assert language == "python"
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()) as said:
        exec(code, names)
    frame: pl.DataFrame = names["twaps"]
    expected = twaps.twaps(week.statuses, week.all_legs, {day: twaps.Loaded() for day in DAYS})
    own = frame.filter(pl.col("twap_id") == week.twap).row(0, named=True)
    assert own["slippage_bps"] == expected[week.twap]["slippage_bps"] != 0
    for row in frame.iter_rows(named=True):
        assert (row["vwap"], row["verdict"]) == (expected[row["twap_id"]]["vwap"], expected[row["twap_id"]]["verdict"])
        assert row["slippage_bps"] == expected[row["twap_id"]]["slippage_bps"]
    assert "slippage_bps" in said.getvalue()


def test_the_candles_of_an_hour_are_those_of_its_trades(week: Installation) -> None:
    week.ask("One-hour candles as CSV")
    found = pl.read_csv(week.directory / "candles.csv", infer_schema=False).to_dicts()
    trades = [trade for day in DAYS for trade in statistics.trades_of(week.legs[day]) if trade["coin"] == "BTC"]
    hours = statistics.grouped(trades, lambda trade: trade["time"].replace(minute=0, second=0, microsecond=0))
    assert len(hours) > 20
    assert {datetime.fromisoformat(row["time"]): _candle(row) for row in found} == {
        hour: {**statistics.prices(own), **statistics.amounts(own), "trades": len(own)} for hour, own in hours.items()
    }


def _candle(row: Row) -> Row:
    numbers = {name: Decimal(row[name]) for name in ("open", "high", "low", "close", "volume", "notional")}
    return {**numbers, "trades": int(row["trades"])}


def test_the_pnl_of_each_day_is_that_of_its_fills(week: Installation) -> None:
    week.ask("Profit and loss a day")
    found = pl.read_csv(week.directory / "pnl.csv", infer_schema=False).to_dicts()
    days = {day: rows[week.wallet] for day, rows in _user_days(week).items() if week.wallet in rows}
    assert {date.fromisoformat(row["date"]): (_known(row["closed_pnl"]), _known(row["fees_in_quote"])) for row in found} == {
        day: (row["closed_pnl"], row["fees_in_quote"]) for day, row in days.items()
    }


def _known(text: str | None) -> Decimal | None:
    return Decimal(text) if text else None


def test_the_chart_of_a_twap_grows_to_all_that_it_executed(week: Installation) -> None:
    rows = week.query("The chart of a TWAP")
    slices = [leg for leg in week.all_legs if leg["twap_id"] == week.twap]
    by_minute: dict[datetime, Decimal] = defaultdict(Decimal)
    for leg in slices:
        by_minute[statistics.moment(leg["time"]).replace(second=0, microsecond=0)] += leg["sz"]
    executed = Decimal(0)
    for row, minute in zip(rows, sorted(by_minute), strict=True):
        executed += by_minute[minute]
        assert (row["minute"].replace(tzinfo=UTC), row["executed"]) == (minute, executed)
    assert rows[-1]["chart"].strip() == "█" * 40


def test_what_was_traded_by_coin_is_what_the_lake_was_made_of(week: Installation) -> None:
    by_coin = statistics.grouped(week.all_legs, lambda leg: leg["coin"])
    rows = week.query("What was traded by coin, from the lake")
    assert {row["coin"]: (row["fills"], row["wallets"], row["taken"] or 0) for row in rows} == {
        coin: (len(legs), len({leg["wallet"] for leg in legs}), sum(leg["sz"] for leg in legs if leg["crossed"]))
        for coin, legs in by_coin.items()
    }


def test_the_tax_year_by_twap_is_the_sum_of_its_fills(week: Installation) -> None:
    week.query("A tax year by TWAP")
    found = pl.read_csv(week.directory / "tax-2026.csv", infer_schema=False).to_dicts()
    own = [leg for leg in week.all_legs if leg["wallet"] == week.wallet]
    groups = statistics.grouped(own, lambda leg: (leg["twap_id"], leg["coin"], leg["fee_token"]))
    assert {
        (int(row["twap_id"]) if row["twap_id"] else None, row["coin"], row["fee_token"]): (
            int(row["fills"]),
            _known(row["closed_pnl"]),
            _known(row["fees"]),
            _known(row["bought"]),
            datetime.fromisoformat(row["first_fill"]).replace(tzinfo=UTC),
        )
        for row in found
    } == {
        key: (
            len(legs),
            sum(leg["closed_pnl"] for leg in legs),
            sum(leg["fee"] for leg in legs),
            sum((leg["sz"] for leg in legs if leg["side"] == "B"), Decimal(0)) or None,
            statistics.moment(min(leg["time"] for leg in legs)),
        )
        for key, legs in groups.items()
    }


def test_a_gap_is_found_by_its_hour_and_repaired_without_the_other_days(week: Installation) -> None:
    _, found, repaired = week.gap
    assert "13 h missing: no such object in node_fills_by_block" in found
    lines = [line for line in repaired.splitlines() if re.match(r"2026-03-\d\d", line)]
    assert [line[:10] for line in lines] == ["2026-03-11"]
    assert "whole" in lines[0]
    coverage = week.api.get("/api/v1/stats/users", start=str(DAYS[0]), end=str(DAYS[-1]), period="all", top=1)["coverage"]
    assert [run["state"] for run in coverage] == ["whole"]


def test_the_check_of_production_says_what_is_missing_and_then_nothing(week: Installation) -> None:
    said, _, _ = week.gap
    assert "2026-03-11" in said
    start, check = week.steps("Into production")
    week.sh(check[1])
    # What the first step starts has tests of its own; its options are there.
    program = start[1].split("hl up")[1].split()
    assert program[0] in week.sh("hl up --help")
