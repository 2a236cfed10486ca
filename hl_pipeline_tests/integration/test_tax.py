"""A wallet's year for its accounts: each fill in one line, totals of `user_stats`, a year's bounds, missing days, layouts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Generator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import polars as pl
import psycopg
import pyarrow as pa
import pytest
import requests
from psycopg.rows import dict_row

from api.parameters import TaxLayout, TaxLines
from api.tax import NO_TRADE_BEGINNINGS, NO_TRADE_DIRS
from hl_pipeline.cli import export as cli
from hl_pipeline.figures import trades
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.days import make_day
from hl_pipeline_tests.naive import statistics as naive
from hl_pipeline_tests.servers.api import OTHER, WALLET, Api, add, at, serving

TAX = f"/api/v1/wallets/{WALLET}/tax"
PAID = {"fee": "0.25", "fee_token": "USDC", "closed_pnl": "0", "crossed": True}
HASH = "0x" + "ab" * 32


def _fills() -> list[dict[str, Any]]:
    """Two years' fills of a wallet: at the bounds of 2025, of a TWAP over New Year and one within, bookings, unknown values."""
    new_year = {"twap_id": 7, "side": "A", "coin": "ETH", "dir": "Close Long", **PAID, "closed_pnl": "1.5"}
    inside = {"twap_id": 8, "side": "B", "dir": "Open Long", **PAID}
    return [
        {"time": at("2024-12-31 23:59:59.999"), "tid": 1, **PAID},
        {"time": at("2024-12-31 23:59:59"), "tid": 2, "px": 3000, "sz": 1, **new_year},
        {"time": at("2025-01-01 00:00:00"), "tid": 3, "px": 3001, "sz": "0.5", **new_year},
        {
            "time": at("2025-01-01 00:00:00"),
            "tid": 4,
            "px": "100.5",
            "sz": 2,
            "dir": "Open Long",
            "hash": bytes.fromhex("ab" * 32),
            **PAID,
        },
        {"time": at("2025-01-01 00:00:30.5"), "tid": 5, "px": 3002, "sz": "1", **new_year, "fee": "-0.75"},
        {"time": at("2025-06-01 10:00:00"), "tid": 6, "px": 100, "sz": 1, **inside},
        {"time": at("2025-06-01 10:00:30"), "tid": 7, "px": 101, "sz": 2, **inside},
        {
            "time": at("2025-06-01 10:00:15"),
            "tid": 8,
            "px": 1,
            "sz": 1,
            "coin": "@107",
            "dir": "Buy",
            **PAID,
            "fee_token": "HYPE",
        },
        {
            "time": at("2025-06-01 10:01:00"),
            "tid": 9,
            "px": 9,
            "sz": 4,
            "coin": "@107",
            "dir": "Spot Dust Conversion",
            "side": "A",
            **PAID,
        },
        {"time": at("2025-06-01 10:02:00"), "tid": 10, "px": 9, "sz": 3, "coin": "PURR/USDC", "side": "A", "dir": "Sell", **PAID},
        {"time": at("2025-06-01 10:03:00"), "tid": 11, "px": 10, "sz": 1, "dir": "Close Long", **PAID, "closed_pnl": "-2.5"},
        {"time": at("2025-06-01 10:04:00"), "tid": 12, "px": 10, "sz": 1},
        {"time": at("2025-12-31 23:59:59.999"), "tid": 13, "px": 10, "sz": 1, "dir": "Close Long", **PAID, "fee": 0},
        {"time": at("2026-01-01 00:00:00"), "tid": 14, **PAID},
        {"time": at("2025-06-01 10:00:00"), "tid": 15, "wallet": OTHER, **PAID},
    ]


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    with connect(url, "test") as connection:
        add(connection, "fills", *_fills())
        for day in ("2025-01-01", "2025-06-01", "2025-12-31"):
            add(connection, "fills_days", {"date": day})
        add(connection, "fills_days", {"date": "2025-06-02", "state": "incomplete", "explanation": "hour 7 is missing"})
        add(
            connection,
            "daily_stats",
            {"date": "2025-06-01", "coin": "@107", "kind": "spot", "fees": '{"HYPE": "1", "USDC": "1"}'},
        )
    return url


@pytest.fixture(scope="module")
def api(url: str) -> Generator[Api]:
    with serving(url) as api:
        yield api


def _read(content: bytes) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)]


def _lines(api: Api, **asked: Any) -> list[dict[str, str]]:
    response = api.ask(TAX, year=2025, **asked)
    assert response.status_code == 200, response.text
    return [row for row in _read(response.content) if row.get("line") != "missing"]


def test_a_twap_is_a_line_and_every_other_fill_is_one(api: Api) -> None:
    lines = _lines(api)
    assert [(line["line"], line["twap_id"] or line["tid"]) for line in lines] == [
        *(("fill", "4"), ("twap", "7"), ("fill", "8"), ("twap", "8"), ("fill", "9"), ("fill", "10")),
        *(("fill", "11"), ("fill", "12"), ("fill", "13")),
    ]
    over_new_year, inside = (line for line in lines if line["line"] == "twap")
    # Of 2025 are two of its three slices.
    assert over_new_year | {"notional": "4502.5", "vwap": "3001.6666666667", "size": "1.5", "closed_pnl": "3"} == over_new_year
    assert over_new_year | {"fills": "2", "fees": '{"USDC": "-0.5"}', "fee": "-0.5", "fee_token": "USDC"} == over_new_year
    assert (over_new_year["first_time"], over_new_year["last_time"]) == ("2025-01-01T00:00:00Z", "2025-01-01T00:00:30.500Z")
    assert (over_new_year["dir"], over_new_year["tid"], over_new_year["side"]) == ("Close Long", "", "A")
    assert (inside["vwap"], inside["size"], inside["fees"]) == ("100.6666666667", "3", '{"USDC": "0.5"}')
    first, booking, unknown, last = (lines[n] for n in (0, 4, 7, 8))
    assert (first["hash"], first["vwap"], first["notional"], first["is_trade"]) == (HASH, "100.5", "201", "true")
    assert (booking["is_trade"], booking["notional"], booking["size"]) == ("false", "", "4")
    assert [unknown[name] for name in ("closed_pnl", "fee", "fee_token", "fees")] == [""] * 4
    assert (last["fee"], last["fees"], last["closed_pnl"]) == ("0", '{"USDC": "0"}', "0")


def test_every_fill_of_the_year_is_a_line_if_asked(api: Api) -> None:
    lines = _lines(api, lines="fills")
    assert [line["tid"] for line in lines] == ["3", "4", "5", "6", "8", "7", "9", "10", "11", "12", "13"]
    assert {line["line"] for line in lines} == {"fill"}
    assert [line["twap_id"] for line in lines if line["twap_id"]] == ["7", "7", "8", "8"]
    grouped = _lines(api)
    for name in ("size", "notional", "closed_pnl", "fee"):
        assert sum(Decimal(line[name] or 0) for line in lines) == sum(Decimal(line[name] or 0) for line in grouped)


def test_days_that_are_missing_are_lines_of_the_file(api: Api) -> None:
    response = api.ask(TAX, year=2025)
    missing = [row for row in _read(response.content) if row["line"] == "missing"]
    assert [(row["first_time"], row["last_time"], row["note"]) for row in missing] == [
        ("2025-01-02T00:00:00Z", "2025-05-31T23:59:59.999Z", "absent: not loaded"),
        ("2025-06-02T00:00:00Z", "2025-06-02T23:59:59.999Z", "partial: hour 7 is missing"),
        ("2025-06-03T00:00:00Z", "2025-12-30T23:59:59.999Z", "absent: not loaded"),
    ]
    states = [run["state"] for run in json.loads(response.headers["X-Coverage"])]
    assert states == ["whole", "absent", "whole", "partial", "absent", "whole"]
    assert response.headers["content-disposition"] == f'attachment; filename="tax-{WALLET}-2025.csv"'


def test_the_formats_have_the_same_lines(api: Api) -> None:
    truth = _read(api.ask(TAX, year=2025).content)
    for chosen, accept in (("ndjson", None), ("parquet", None), ("arrow", None), (None, "application/x-ndjson")):
        headers = {"Accept": accept} if accept else {}
        response = requests.get(
            api.url + TAX, {"year": 2025, **({"format": chosen} if chosen else {})}, headers=headers, timeout=60
        )
        if chosen == "parquet":
            table = pl.read_parquet(response.content)
            assert table.schema["notional"] == pl.Decimal(38, 20)
            rows = table.to_dicts()
        elif chosen == "arrow":
            rows = pa.ipc.open_stream(response.content).read_all().to_pylist()
        else:
            rows = [json.loads(line) for line in response.content.splitlines()]
        assert [row["line"] for row in rows] == [row["line"] for row in truth]
        for name in ("size", "vwap", "notional", "closed_pnl", "fee", "twap_id", "tid", "fills"):
            expected = [Decimal(row[name]) if row[name] else None for row in truth]
            assert [None if row[name] is None else Decimal(row[name]) for row in rows] == expected, (chosen, name)


def test_hl_writes_what_rest_returns(api: Api, url: str, tmp_path: Path) -> None:
    environment = {"HL_HOME": str(tmp_path / "home"), "HL_DATABASE_URL": url}
    asked = ("export", "tax", "--wallet", WALLET.upper().replace("0X", "0x"), "--year", "2025")
    done = run_in_process(tmp_path, environment, *asked)
    assert done.stdout.encode() == api.ask(TAX, year=2025).content
    # Days are missing, and named.
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "missing: 2025-01-02 to 2025-05-31 (150 days), absent: not loaded",
        "missing: 2025-06-02 to 2025-06-02 (1 day), partial: hour 7 is missing",
        "missing: 2025-06-03 to 2025-12-30 (211 days), absent: not loaded",
    ]
    for wrong, message in (
        (("--wallet", "0x12", "--year", "2025"), "--wallet is '0x12'; it must be 0x and 40 hex digits"),
        (("--wallet", WALLET, "--year", "2022"), "'--year': must be greater than or equal to 2023"),
        (("--wallet", WALLET, "--year", "2025", "--layout", "turbotax"), "turbotax"),
    ):
        done = run_in_process(tmp_path, environment, "export", "tax", *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr


@pytest.mark.slow
def test_hl_replaces_a_file_once_the_new_one_is_whole(api: Api, url: str, tmp_path: Path) -> None:
    (tmp_path / "year.parquet").write_text("an earlier one")
    environment = {"HL_HOME": str(tmp_path / "home"), "HL_DATABASE_URL": url}
    asked = ("export", "tax", "--wallet", WALLET, "--year", "2025")
    options = ("--format", "parquet", "--layout", "koinly", "--lines", "fills", "--output", "year.parquet")
    done = run_in_process(tmp_path, environment, *asked, *options)
    assert (done.returncode, done.stdout) == (3, "")
    answer = api.ask(TAX, year=2025, format="parquet", layout="koinly", lines="fills")
    assert pl.read_parquet(tmp_path / "year.parquet").equals(pl.read_parquet(answer.content))
    assert [path.name for path in tmp_path.glob("*year*")] == ["year.parquet"]
    done = run_in_process(tmp_path, environment, *asked, "--output", "nowhere/year.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such file or directory" in done.stderr


def test_a_wrong_parameter_of_a_tax_file_is_refused(api: Api) -> None:
    assert api.refuses(TAX) == {"year": "is required"}
    assert api.refuses(TAX, year=2022) == {"year": "must be at least 2023"}
    assert api.refuses(TAX, year=2025, format="json") == {"format": "must be 'csv', 'ndjson', 'parquet' or 'arrow'"}
    layouts = "must be 'default', 'koinly', 'cointracker', 'awaken' or 'awaken-spot'"
    assert api.refuses(TAX, year=2025, layout="x", lines="y") == {"layout": layouts, "lines": "must be 'twaps' or 'fills'"}
    refused = requests.get(f"{api.url}{TAX}?year=2025", headers={"Accept": "application/json"}, timeout=60)
    assert refused.status_code == 406
    assert "it has text/csv, application/x-ndjson" in refused.json()["detail"]


def test_hl_and_rest_know_the_same_layouts_lines_and_bookings() -> None:
    assert tuple(one.value for one in cli.TaxLayout) == get_args(TaxLayout)
    assert tuple(one.value for one in cli.TaxLines) == get_args(TaxLines)
    assert (NO_TRADE_DIRS, NO_TRADE_BEGINNINGS) == (trades.NO_TRADE_DIRS, trades.NO_TRADE_BEGINNINGS)


def test_koinly_has_profit_fees_and_spot_trades(api: Api) -> None:
    content = api.ask(TAX, year=2025, layout="koinly").content
    assert content.decode().splitlines()[0] == (
        "Date,Sent Amount,Sent Currency,Received Amount,Received Currency,Fee Amount,Fee Currency,Net Worth Amount,"
        "Net Worth Currency,Label,Description,TxHash"
    )
    rows = [
        (*(row[f"{what} Amount"] + row[f"{what} Currency"] for what in ("Sent", "Received", "Fee")), row["Label"])
        for row in _read(content)
    ]
    assert rows == [
        ("0.25USDC", "", "", "margin fee"),
        ("", "3USDC", "", "realized gain"),
        ("", "0.5USDC", "", "fee refund"),
        ("1USDC", "1HYPE", "0.25HYPE", ""),
        ("0.5USDC", "", "", "margin fee"),
        ("4HYPE", "36USDC", "0.25USDC", ""),
        ("3PURR", "27USDC", "0.25USDC", ""),
        ("2.5USDC", "", "", "realized gain"),
        ("0.25USDC", "", "", "margin fee"),
        ("", "", "", "realized gain"),
        ("", "", "", "margin fee"),
    ]
    first, twap, unknown = (_read(content)[n] for n in (0, 1, 9))
    assert (first["Date"], first["TxHash"]) == ("2025-01-01 00:00:00 UTC", HASH)
    assert twap["Description"] == "TWAP 7, 2 fills, sells 1.5 ETH at 3001.6666666667, Close Long"
    assert unknown["Description"] == "fill 12, buys 1 SOL at 10, unknown profit: fill in the amount"


def test_cointracker_has_margin_gains_losses_and_fees(api: Api) -> None:
    rows = _read(api.ask(TAX, year=2025, layout="cointracker").content)
    assert [*rows[0]] == [
        *("Date", "Received Quantity", "Received Currency", "Sent Quantity", "Sent Currency", "Fee Amount", "Fee Currency", "Tag")
    ]
    assert [row["Tag"] for row in rows] == [
        *("margin fee", "margin gain", "margin rebate", "", "margin fee", "", "", "margin loss", "margin fee"),
        *("unknown profit: fill in the amount", "unknown fee: fill in the amount"),
    ]
    assert [*rows[3].values()] == ["06/01/2025 10:00:15", "1", "HYPE", "1", "USDC", "0.25", "HYPE", ""]


def test_awaken_has_perpetuals_and_spot_in_two_files(api: Api) -> None:
    perps = _read(api.ask(TAX, year=2025, layout="awaken").content)
    assert [*perps[0]] == ["Date", "Asset", "Amount", "Fee", "P&L", "Payment Token", "ID", "Notes", "Tag", "Transaction Hash"]
    shown = [(row["Asset"], row["Amount"], row["Fee"], row["P&L"], row["Tag"], row["ID"]) for row in perps]
    assert shown == [
        ("SOL", "2", "0.25", "0", "open_position", "4"),
        # A rebate is part of P&L, because a fee may not be negative.
        ("ETH", "1.5", "0", "3.5", "close_position", "7"),
        ("SOL", "3", "0.5", "0", "open_position", "8"),
        ("SOL", "1", "0.25", "-2.5", "close_position", "11"),
        ("SOL", "1", "", "", "open_position", "12"),
        ("SOL", "1", "0", "0", "close_position", "13"),
    ]
    assert perps[1]["Notes"].endswith("P&L includes a rebate of 0.5")
    spot = _read(api.ask(TAX, year=2025, layout="awaken-spot").content)
    assert [
        (row["Sent Quantity"] + row["Sent Currency"], row["Received Quantity"] + row["Received Currency"]) for row in spot
    ] == [
        ("1USDC", "1HYPE"),
        ("4HYPE", "36USDC"),
        ("3PURR", "27USDC"),
    ]


OLD_DAYS = (date(2025, 5, 25), date(2025, 5, 26), date(2025, 6, 1))


@dataclass(frozen=True, slots=True)
class Generated:
    """A database with generated days of two years, the naive totals of each year and wallet, and the TWAPs in its legs."""

    url: str
    totals: dict[tuple[int, str], naive.Row]
    twaps: dict[tuple[int, str], set[str]]


@pytest.fixture(scope="module")
def generated(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    directory = tmp_path_factory.mktemp("tax")
    legs: dict[date, list[naive.Leg]] = {}
    for first, days in ((OLD_DAYS[0], 2), (OLD_DAYS[2], 1), (date(2026, 3, 15), 1)):
        sample = write_sample(directory, first_day=first, days=days, fills_per_hour=25, record_legs=True)
        legs |= {day: naive.read_legs(sample.truth_dir, day) for day in (first + timedelta(days=n) for n in range(days))}
    environment = {
        "HL_HOME": str(directory / "home"),
        "HL_DATABASE_URL": (url := new_database()),
        "HL_LAKE_URL": str(directory / "lake"),
        "HL_NODE_DATA_URL": str(sample.node_data_dir),
    }
    twaps: dict[tuple[int, str], set[str]] = {}
    for day, of_day in legs.items():
        make_day(environment, day, ["raw_fills", "fills", "daily_stats", "user_stats"])
        for leg in of_day:
            if leg["twap_id"] is not None:
                twaps.setdefault((day.year, leg["wallet"]), set()).add(str(leg["twap_id"]))
    users = {
        day: {wallet: row | {"is_complete": None} for wallet, row in naive.user_stats(of_day).items()}
        for day, of_day in legs.items()
    }
    totals = {(start.year, wallet): row for (start, wallet), row in naive.by_period("year", users).items() if start is not None}
    return Generated(url, totals, twaps)


@pytest.mark.slow
@pytest.mark.parametrize("lines", get_args(TaxLines))
def test_the_totals_of_every_wallet_are_those_of_its_statistics(generated: Generated, lines: str) -> None:
    """They equal `hl.user_stats` of the year, and the legs of the generator added up naively."""
    with psycopg.connect(generated.url) as connection:
        cursor = connection.cursor(row_factory=dict_row).execute("SELECT * FROM hl.user_stats_by('year')")
        stored = {(row["period_start"].year, row["wallet"]): row for row in cursor}
    assert stored.keys() == generated.totals.keys()
    seen = {"known": 0, "unknown": 0, "twaps": 0}
    with serving(generated.url) as api:
        for (year, wallet), own in generated.totals.items():
            response = api.ask(f"/api/v1/wallets/{wallet}/tax", year=year, lines=lines, format="ndjson")
            rows = [row for row in map(json.loads, response.content.splitlines()) if row["line"] != "missing"]
            market = [row for row in rows if row["is_trade"]]
            assert sum(row["fills"] for row in market) == own["fills"]
            assert sum(row["fills"] for row in rows) == own["fills"] + own["non_market_rows"]
            for of in (own, stored[year, wallet]):
                volume = None if of["maker_notional"] is None else of["maker_notional"] + of["taker_notional"]
                assert volume in (None, sum(Decimal(row["notional"]) for row in market))
                assert _sum(row["closed_pnl"] for row in rows) == of["closed_pnl"]
                assert _fees(rows) == (None if of["fees"] is None else {token: Decimal(fee) for token, fee in of["fees"].items()})
            twaps = [row["twap_id"] for row in rows if row["line"] == "twap"]
            assert sorted(twaps) == sorted(generated.twaps.get((year, wallet), ()) if lines == "twaps" else ())
            seen["known" if own["fees"] is not None else "unknown"] += 1
            seen["twaps"] += len(twaps)
    assert min(seen["known"], seen["unknown"]) > 10
    assert (seen["twaps"] > 10) == (lines == "twaps")


def _sum(values: Any) -> Decimal | None:
    known = [*values]
    return None if None in known else sum(map(Decimal, known), Decimal(0))


def _fees(rows: list[dict[str, Any]]) -> dict[str, Decimal] | None:
    if any(row["fees"] is None for row in rows):
        return None
    total: dict[str, Decimal] = {}
    for row in rows:
        for token, fee in row["fees"].items():
            total[token] = total.get(token, Decimal(0)) + Decimal(fee)
    return total
