"""The other dialect: its paths return the rows of the main ones, under its own names, paged by offset."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.integration.test_api_keys import KEYS
from hl_pipeline_tests.servers.api import OTHER, WALLET, Api, add, at, ns, serving, status_row, twap_row

TRADES = "/api/v1/trades"
THIRD = "0x" + "3c" * 20
COINS = ("SOL", "@107", "xyz:TSLA")


def _rows() -> list[dict[str, Any]]:
    """Fills of three wallets over ten days, three in each millisecond. Every seventh is a slice."""
    rows: list[dict[str, Any]] = []
    for number in range(90):
        time = at("2025-11-03 12:00") + timedelta(hours=3 * (number // 3))
        own = {"wallet": (WALLET, OTHER, THIRD)[number % 3], "coin": COINS[number % 4 % 3], "tid": number + 1}
        rows.append({**own, "time": time, "ordinal": number, "twap_id": 1544034 if number % 7 == 0 else None})
    return rows


def _fill_database(connection: psycopg.Connection) -> None:
    add(connection, "fills", *_rows())
    days = [at("2025-11-03 00:00").date() + timedelta(number) for number in range(12)]
    made = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at"), at("2025-12-01 00:00"))
    add(connection, "fills_days", *({"date": day, "state": "whole" if day.day != 5 else "incomplete", **made} for day in days))
    add(connection, "twap_days", {"date": days[0]})
    add(connection, "daily_stats", *({"date": days[0], "coin": coin, "fees": Json({})} for coin in COINS))
    for number in range(5):
        began = at("2025-11-03 12:00") + timedelta(days=number)
        placed = ns("2025-11-03 12:00") + number * 86_400 * 10**9
        add(connection, "twap_statuses", status_row(1544034 + number, placed, coin=COINS[number % 2]))
        add(connection, "twaps", twap_row(1544034 + number, began, coin=COINS[number % 2]))
    add(connection, "s3_ingest_log", {"object_key": "0.lz4", "object_date": days[0], "loaded_at": at("2025-12-01 00:00")})


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    with connect(url, "test") as connection:
        _fill_database(connection)
    return url


@pytest.fixture(scope="module")
def api(url: str) -> Generator[Api]:
    with serving(url) as api:
        yield api


@pytest.mark.parametrize(
    "asked",
    [
        {"wallet_addresses": WALLET},
        {"wallet_addresses": f"{WALLET.upper().replace('X', 'x')},{THIRD},{WALLET}"},
        {"wallet_addresses": f"{WALLET},{OTHER},{THIRD}", "asset": "@107"},
        {"wallet_addresses": f"{WALLET},{OTHER}", "twap_id": 1544034},
        {"twap_id": 1544034},
        {"asset": "xyz:TSLA"},
        {"wallet_addresses": f"{OTHER},{THIRD}", "start_date": "2025-11-05T12:00:00Z", "end_date": "2025-11-07"},
    ],
)
def test_trades_are_the_fills_of_the_filters_in_pages(api: Api, asked: dict[str, Any]) -> None:
    start, end = at(asked.get("start_date", "2023-01-01").removesuffix("Z")), asked.get("end_date", "2026-01-01")
    wallets = asked.get("wallet_addresses", f"{WALLET},{OTHER},{THIRD}").lower().split(",")
    expected = [
        row["tid"]
        for row in _rows()
        if row["wallet"] in wallets
        and row["coin"] == asked.get("asset", row["coin"])
        and row["twap_id"] == asked.get("twap_id", row["twap_id"])
        and start <= row["time"] < at(end) + timedelta(days=1)
    ]
    found: list[int] = []
    offset: int | None = 0
    while offset is not None:
        answer = api.get(TRADES, **asked, limit=7, offset=offset)
        assert (answer["limit"], answer["offset"]) == (7, offset)
        found += [trade["tid"] for trade in answer["trades"]]
        offset = answer["next_offset"]
    assert found == expected
    assert len(found) > 4


def test_a_trade_is_a_fill_of_the_main_path_with_the_same_coverage(api: Api) -> None:
    whole = api.get("/api/v1/fills", wallet=WALLET, start="2025-11-03", end="2025-11-20")
    answer = api.get(TRADES, wallet_addresses=WALLET, start_date="2025-11-03", end_date="2025-11-20")
    assert answer["trades"] == whole["fills"]
    assert answer["coverage"] == whole["coverage"]
    several = api.get(TRADES, wallet_addresses=f"{WALLET},{'0x' + '00' * 20}", start_date="2025-11-03", end_date="2025-11-20")
    assert several["trades"] == whole["fills"]
    assert {trade["twap_id"] for trade in answer["trades"]} == {None, "1544034"}


def test_twaps_are_those_of_the_main_paths(api: Api) -> None:
    whole = api.get("/api/v1/twaps", wallet=WALLET, start="2025-11-01", end="2025-11-30")
    assert len(whole["twaps"]) == 5
    path = f"/api/v1/wallets/{WALLET}/twaps"
    assert api.get(path)["twaps"] == whole["twaps"]
    answer = api.get(path, start_date="2025-11-01", end_date="2025-11-30", limit=2, offset=2)
    assert answer["twaps"] == whole["twaps"][2:4]
    assert (answer["next_offset"], answer["coverage"]) == (4, whole["coverage"])
    some = api.get(path, asset="@107", start_date="2025-11-05")
    assert (len(some["twaps"]), some["next_offset"]) == (1, None)
    assert api.get("/api/v1/twap/1544035") == api.get("/api/v1/twaps/1544035")
    assert api.ask("/api/v1/twap/7").json() == {"detail": "TWAP ID 7 not found"}


def test_the_status_says_which_days_are_there_and_the_health_needs_no_key(api: Api, url: str) -> None:
    health = api.get("/healthz")
    assert api.get("/health") == health
    status = api.get("/api/v1/status")
    days = {"first": "2025-11-03", "last": "2025-11-14", "days": 12, "whole_days": 11}
    assert (status["fills"], status["status"]) == (days, "healthy")
    assert status["twap_statuses"] == {"first": "2025-11-03", "last": "2025-11-03", "days": 1, "whole_days": 0}
    assert {name: status[name] for name in health} == health
    with serving(url, HL_API_KEYS=KEYS) as closed:
        assert closed.get("/health") == health
        assert [closed.ask(path).status_code for path in ("/api/v1/status", TRADES)] == [401, 401]


def test_wrong_parameters_are_refused_by_name(api: Api) -> None:
    addresses = "must be 1 to 100 addresses, each 0x and 40 hexadecimal digits, separated by commas"
    assert api.refuses(TRADES) == {"twap_id": "give wallet_addresses, an asset, a twap_id, or several of them"}
    assert api.refuses(TRADES, wallet_addresses=f"{WALLET};{OTHER}") == {"wallet_addresses": addresses}
    assert api.refuses(TRADES, wallet_addresses=",".join([WALLET] * 101)) == {"wallet_addresses": addresses}
    wrong = api.refuses(TRADES, asset="SOL", start_date="2025-11-05", end_date="2025-11-04", twap_id="x", offset=-1)
    assert wrong == {
        "end_date": "must not be before start_date",
        "twap_id": "must be a whole number",
        "offset": "must be at least 0",
    }
    assert "did you mean SOL?" in api.ask(TRADES, asset="sol").json()["detail"]
    assert api.refuses(f"/api/v1/wallets/{WALLET}x/twaps") == {"wallet": "must be 0x and 40 hexadecimal digits"}
