"""/api/v1/fills, /stats and /candles: what they promise, and how every list describes the days that are present."""

from __future__ import annotations

import random
import time
from collections.abc import Generator
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.api import OTHER, WALLET, Api, add, at, serving

FILLS, DAILY, USERS, CANDLES = "/api/v1/fills", "/api/v1/stats/daily", "/api/v1/stats/users", "/api/v1/candles"
NOVEMBER = {"start": "2025-11-01", "end": "2025-11-30"}
COINS = ["SOL", "xyz:TSLA", "PURR/USDC", "@107", "#1890", "kPEPE", "a&b=c%20d+e"]
LAKE_ALONE = "in the lake, which this API cannot read: HL_LAKE_URL is not set"
NOT_MADE = "not made since its fills were loaded"
NOW = at("2026-01-01 00:00")


@pytest.fixture(scope="module")
def running(new_database: NewDatabase) -> Generator[tuple[Api, str]]:
    url = new_database()
    with serving(url) as api:
        yield api, url


@pytest.fixture
def api(running: tuple[Api, str]) -> Api:
    return running[0]


@pytest.fixture
def rows(running: tuple[Api, str]) -> Generator[psycopg.Connection]:
    """A connection to the API's database; what a test inserts is gone after it."""
    with connect(running[1], "test") as connection:
        yield connection
        connection.execute(
            "TRUNCATE hl.fills, hl.fills_days, hl.twap_days, hl.candles, hl.daily_stats, hl.user_stats, hl.builder_stats, "
            "hl.twaps CASCADE"
        )


def test_a_fill_has_every_column_in_its_form(api: Api, rows: psycopg.Connection) -> None:
    values: dict[str, Any] = {
        "time": at("2025-11-03 12:30:00.5"),
        "block_number": 817824346,
        "block_time_ns": 1762173000500000001,
        "oid": 560_000_000_001,
        "tid": 2**50 - 1,
        "twap_id": 1544034,
        "object_id": 3_025_000,
        "crossed": True,
        "side": "A",
        "coin": "xyz:TSLA",
        "px": "257.3100000000",
        "sz": "0.0000014866",
        "start_position": "12817942.2417900003",
        "closed_pnl": "-0.5000000000",
        "fee": "-0.0010000000",
        "fee_token": "USDC",
        "dir": "Long > Short",
        "hash": bytes(range(32)),
        "cloid": bytes(range(16)),
        "builder": OTHER,
        "builder_fee": "0.01",
        "deployer_fee": "0.02",
        "priority_gas": "0.03",
        "liquidated_user": WALLET,
        "liquidation_mark_px": "257",
        "liquidation_method": "market",
        "extra": Json({"new": [1, "2"]}),
        "counterparty_oid": 5,
        "ordinal": 271_828,
    }
    add(rows, "fills", values, {"time": at("2025-11-03 12:31:00")})
    first, second = api.get(FILLS, wallet=WALLET, **NOVEMBER)["fills"]
    assert first == {
        "time": "2025-11-03T12:30:00.500Z",
        "block_number": 817824346,
        "block_time_ns": "1762173000500000001",
        "coin": "xyz:TSLA",
        "wallet": WALLET,
        "side": "A",
        "px": "257.31",
        "sz": "0.0000014866",
        "start_position": "12817942.2417900003",
        "dir": "Long > Short",
        "closed_pnl": "-0.5",
        "hash": "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "oid": 560_000_000_001,
        "counterparty_oid": 5,
        "crossed": True,
        "fee": "-0.001",
        "tid": 2**50 - 1,
        "cloid": "0x000102030405060708090a0b0c0d0e0f",
        "fee_token": "USDC",
        "builder": OTHER,
        "builder_fee": "0.01",
        "deployer_fee": "0.02",
        "priority_gas": "0.03",
        "twap_id": "1544034",
        "liquidated_user": WALLET,
        "liquidation_mark_px": "257",
        "liquidation_method": "market",
        "extra": {"new": [1, "2"]},
        "object_id": 3_025_000,
        "ordinal": 271_828,
    }
    given = {"time", "coin", "wallet", "side", "px", "sz", "object_id"}
    assert {name for name, value in second.items() if value is not None} == given
    assert {name for name in second if name not in given} == set(first) - given
    assert set(first) == set(values) | {"wallet"}


def test_an_answer_says_what_was_asked(api: Api) -> None:
    answer = api.get(FILLS, wallet=WALLET, coin="SOL", start="2025-11-03", end="2025-11-04T12:00:00.5+02:00")
    absent = [{"from": "2025-11-03", "to": "2025-11-04", "state": "absent", "note": "not loaded"}]
    head = {"wallet": WALLET, "coin": "SOL", "start": "2025-11-03T00:00:00Z", "end": "2025-11-04T10:00:00.500Z"}
    assert answer == {**head, "fills": [], "next_cursor": None, "coverage": absent}
    days = {"start": "2025-11-03", "end": "2025-11-04"}
    assert api.get(DAILY, coin="SOL", **days) == {**days, "coin": "SOL", "stats": [], "next_cursor": None, "coverage": absent}
    assert api.get(USERS, **days) == {**days, "wallet": None, "stats": [], "next_cursor": None, "coverage": absent}
    candles = api.get(CANDLES, coin="SOL", **days)
    head = {"coin": "SOL", "interval": "1m", "start": "2025-11-03T00:00:00Z", "end": "2025-11-04T23:59:59.999999Z"}
    assert candles == {**head, "candles": [], "next_cursor": None, "coverage": absent}


def test_fills_are_found_by_wallet_by_coin_and_by_both(api: Api, rows: psycopg.Connection) -> None:
    tid = 0
    for wallet in (WALLET, OTHER):
        for coin in COINS:
            tid += 1
            add(rows, "fills", {"time": at("2025-11-03 12:00:00"), "wallet": wallet, "coin": coin, "tid": tid})
    assert sorted(fill["coin"] for fill in api.get(FILLS, wallet=WALLET, **NOVEMBER)["fills"]) == sorted(COINS)
    for coin in COINS:
        found = api.get(FILLS, coin=coin, **NOVEMBER)
        assert found["coin"] == coin
        assert [(fill["coin"], fill["wallet"]) for fill in found["fills"]] == [(coin, WALLET), (coin, OTHER)]
        [fill] = api.get(FILLS, wallet=OTHER.upper().replace("X", "x"), coin=coin, **NOVEMBER)["fills"]
        assert (fill["coin"], fill["wallet"]) == (coin, OTHER)
    assert api.refuses(FILLS, **NOVEMBER) == {"coin": "give a wallet, a coin, or both"}


def test_pages_are_the_whole_list_whatever_ties(api: Api, rows: psycopg.Connection) -> None:
    """Fills alike in all but the last part of their key, with and without tid, over midnight and a day without a table; of none
    is the ordinal known, as in days that version 0.1.0 loaded.
    """
    chance = random.Random(7)
    fills = [
        {"time": at(moment), "wallet": wallet, "coin": coin, "side": side, **numbers}
        for moment in ("2025-11-03 23:59:59.999", "2025-11-04 00:00:00", "2025-11-06 12:00:00")
        for wallet in (WALLET, OTHER)
        for coin in ("SOL", "#1890")
        for side in ("A", "B")
        for numbers in (
            {"tid": 0, "oid": 1},
            {"tid": 5, "oid": 1},
            {"tid": 6, "oid": 1},
            {"oid": 7, "counterparty_oid": 8},
            {"oid": 7, "counterparty_oid": 9},
            {"oid": 8, "counterparty_oid": None},
        )
    ]
    chance.shuffle(fills)
    add(rows, "fills", *fills)
    for asked, many in (({"wallet": WALLET}, 72), ({"coin": "SOL"}, 72), ({"wallet": WALLET, "coin": "#1890"}, 36)):
        whole = api.get(FILLS, **asked, **NOVEMBER)["fills"]
        assert len(whole) == many
        assert whole == sorted(whole, key=_key)
        for limit in (1, 5, 35, 36, 37):
            assert [fill for page in api.pages(FILLS, "fills", **asked, **NOVEMBER, limit=limit) for fill in page] == whole


def _key(fill: dict[str, Any]) -> tuple[Any, ...]:
    """What is unknown comes last."""
    numbers = ((fill[name] is None, fill[name] or 0) for name in ("tid", "oid", "counterparty_oid"))
    return fill["time"], fill["coin"], fill["wallet"], fill["side"], *numbers


def test_fills_that_come_in_between_pages_neither_hide_nor_repeat_others(api: Api, rows: psycopg.Connection) -> None:
    for tid in (10, 20, 30, 40):
        add(rows, "fills", {"time": at("2025-11-03 12:00:00"), "tid": tid})
    first = api.get(FILLS, wallet=WALLET, **NOVEMBER, limit=2)
    add(rows, "fills", {"time": at("2025-11-03 11:59:59"), "tid": 5}, {"time": at("2025-11-03 12:00:00"), "tid": 25})
    second = api.get(FILLS, wallet=WALLET, **NOVEMBER, limit=9, cursor=first["next_cursor"])
    assert [fill["tid"] for fill in first["fills"] + second["fills"]] == [10, 20, 25, 30, 40]


def test_daily_stats_have_every_column_and_come_in_pages(api: Api, rows: psycopg.Connection) -> None:
    values: dict[str, Any] = {
        "volume": "3.0",
        "notional": "10.00",
        "fees": Json({"USDC": "0.5"}),
        "is_complete": True,
        "open": "3.50",
    }
    for day in ("2025-11-01", "2025-11-03", "2025-11-30", "2025-12-01"):
        for coin in COINS:
            add(rows, "daily_stats", {"date": day, "coin": coin, **values})
    whole = api.get(DAILY, **NOVEMBER)["stats"]
    assert [(row["date"], row["coin"]) for row in whole] == [
        (day, coin) for day in ("2025-11-01", "2025-11-03", "2025-11-30") for coin in sorted(COINS)
    ]
    some = {"date": "2025-11-01", "coin": "#1890", "kind": "perp", "volume": "3", "notional": "10", "vwap": "3.3333333333"}
    assert {name: whole[0][name] for name in some} == some
    assert (whole[0]["fees"], whole[0]["is_complete"], whole[0]["open"], whole[0]["buys"]) == ({"USDC": "0.5"}, True, "3.5", None)
    assert set(whole[0]) == _columns(rows, "daily_stats")
    for limit in (1, 4, 21):
        assert [row for page in api.pages(DAILY, "stats", **NOVEMBER, limit=limit) for row in page] == whole
    for coin in COINS:
        of_coin = api.pages(DAILY, "stats", **NOVEMBER, coin=coin, limit=2)
        assert [row for page in of_coin for row in page] == [row for row in whole if row["coin"] == coin]


def test_user_stats_have_every_column_and_come_in_pages(api: Api, rows: psycopg.Connection) -> None:
    values = {"first_fill": at("2025-11-01 00:00:00.001"), "last_fill": at("2025-11-01 23:59:59"), "closed_pnl": "-1.50"}
    wallets = ["0x" + f"{number:040x}" for number in range(9)]
    for day in ("2025-11-01", "2025-11-02"):
        for wallet in wallets:
            add(rows, "user_stats", {"date": day, "wallet": wallet, **values})
    whole = api.get(USERS, **NOVEMBER)["stats"]
    assert [(row["date"], row["wallet"]) for row in whole] == [(d, w) for d in ("2025-11-01", "2025-11-02") for w in wallets]
    assert set(whole[0]) == _columns(rows, "user_stats")
    assert (whole[0]["first_fill"], whole[0]["closed_pnl"]) == ("2025-11-01T00:00:00.001Z", "-1.5")
    assert whole[0]["sources"] == ["node_fills_by_block"]
    for limit in (1, 5, 18):
        assert [row for page in api.pages(USERS, "stats", **NOVEMBER, limit=limit) for row in page] == whole
    of_wallet = api.pages(USERS, "stats", **NOVEMBER, wallet=wallets[3], limit=1)
    assert [row for page in of_wallet for row in page] == [row for row in whole if row["wallet"] == wallets[3]]


def test_candles_have_every_column_and_come_in_pages(api: Api, rows: psycopg.Connection) -> None:
    minutes = [at("2025-11-03 23:58:00") + timedelta(minutes=number) for number in range(5)]
    for coin in COINS:
        add(rows, "candles", *({"coin": coin, "time": minute, "date": minute.date(), "volume": "10.50"} for minute in minutes))
    whole: list[dict[str, Any]] = []
    for coin in COINS:
        asked = {"coin": coin, "start": "2025-11-03T23:59:00Z", "end": "2025-11-04T00:01:00Z"}
        whole = [row for page in api.pages(CANDLES, "candles", **asked, limit=1) for row in page]
        assert whole == api.get(CANDLES, **asked)["candles"]
        assert [row["time"] for row in whole] == ["2025-11-03T23:59:00Z", "2025-11-04T00:00:00Z", "2025-11-04T00:01:00Z"]
    assert whole[0] == {
        "coin": COINS[-1],
        "time": "2025-11-03T23:59:00Z",
        "open": "1",
        "high": "2",
        "low": "1",
        "close": "2",
        "volume": "10.5",
        "notional": "15",
        "trades": 3,
        "date": "2025-11-03",
    }
    assert set(whole[0]) == _columns(rows, "candles")


def _columns(rows: psycopg.Connection, table: str) -> set[str]:
    found = rows.execute(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        [f"hl.{table}"],
    )
    return {name for (name,) in found}


def _coverage(api: Api, path: str, **parameters: Any) -> list[tuple[str, str, str, str | None]]:
    runs = api.get(path, **parameters)["coverage"]
    assert all(set(run) <= {"from", "to", "state", "note"} for run in runs)
    return [(run["from"], run["to"], run["state"], run.get("note")) for run in runs]


def test_coverage_tells_the_states_of_days_apart(api: Api, rows: psycopg.Connection) -> None:
    made = {"candles_at": NOW, "daily_stats_at": NOW, "user_stats_at": NOW}
    for day, values in {
        "2025-11-02": made,
        "2025-11-03": made,
        "2025-11-04": {**made, "state": "unprovable"},
        "2025-11-05": {**made, "state": "incomplete", "explanation": "hour 3 is missing"},
        "2025-11-06": {**made, "state": "pending", "explanation": "hour 4 is due"},
        "2025-11-07": {**made, "thinned_at": NOW},
        "2025-11-08": {**made, "thinned_at": NOW},
        "2025-11-10": {**made, "state": "no source", "explanation": "before its time"},
        "2025-11-11": {**made, "state": None},
        "2025-11-12": {"candles_at": NOW},
        "2025-11-13": {**made, "state": "incomplete", "explanation": "hour 5 is missing"},
    }.items():
        add(rows, "fills_days", {"date": day, **values})
    asked = {"start": "2025-11-01T12:00:00Z", "end": "2025-11-14T00:00:00Z"}
    before = [
        ("2025-11-01", "2025-11-01", "absent", "not loaded"),
        ("2025-11-02", "2025-11-03", "whole", None),
        ("2025-11-04", "2025-11-04", "unprovable", None),
        ("2025-11-05", "2025-11-06", "partial", None),
    ]
    after = [
        ("2025-11-09", "2025-11-09", "absent", "not loaded"),
        ("2025-11-10", "2025-11-10", "absent", "no source has it"),
        ("2025-11-11", "2025-11-11", "unprovable", None),
    ]
    last = [
        ("2025-11-13", "2025-11-13", "partial", "hour 5 is missing"),
        ("2025-11-14", "2025-11-14", "absent", "not loaded"),
    ]
    thinned = ("2025-11-07", "2025-11-08", "absent", LAKE_ALONE)
    whole = ("2025-11-12", "2025-11-12", "whole", None)
    assert _coverage(api, FILLS, wallet=WALLET, **asked) == [*before, thinned, *after, whole, *last]
    kept = ("2025-11-07", "2025-11-08", "whole", None)
    assert _coverage(api, CANDLES, coin="SOL", **asked) == [*before, kept, *after, whole, *last]
    not_made = ("2025-11-12", "2025-11-12", "absent", NOT_MADE)
    days = {"start": "2025-11-01", "end": "2025-11-14"}
    assert _coverage(api, DAILY, **days) == [*before, kept, *after, not_made, *last]
    assert _coverage(api, USERS, **days) == [*before, kept, *after, not_made, *last]
    one = {"start": "2025-11-05", "end": "2025-11-05T00:00:00Z"}
    assert _coverage(api, FILLS, coin="SOL", **one) == [("2025-11-05", "2025-11-05", "partial", "hour 3 is missing")]


def test_coverage_of_twaps_is_that_of_their_statuses(api: Api, rows: psycopg.Connection) -> None:
    add(rows, "twap_days", {"date": "2025-11-02"}, {"date": "2025-11-03"}, {"date": "2025-11-05", "state": "no source"})
    add(rows, "twap_days", {"date": "2025-11-06", "state": "incomplete", "explanation": "an object is missing"})
    add(rows, "twap_days", {"date": "2025-11-08", "state": "pending", "explanation": "it is due"})
    assert _coverage(api, "/api/v1/twaps", wallet=WALLET, start="2025-11-03", end="2025-11-09") == [
        ("2025-11-03", "2025-11-03", "unprovable", None),
        ("2025-11-04", "2025-11-04", "absent", "not loaded"),
        ("2025-11-05", "2025-11-05", "absent", "no source has it"),
        ("2025-11-06", "2025-11-06", "partial", "an object is missing"),
        ("2025-11-07", "2025-11-07", "absent", "not loaded"),
        ("2025-11-08", "2025-11-08", "partial", "it is due"),
        ("2025-11-09", "2025-11-09", "absent", "not loaded"),
    ]


def test_coverage_of_any_days_is_their_states_without_gaps(api: Api, rows: psycopg.Connection) -> None:
    chance = random.Random(11)
    first = date(2025, 1, 1)
    states = {first + timedelta(number): chance.choice(["unprovable", "incomplete", None, None]) for number in range(120)}
    known = {"unprovable": "unprovable", "incomplete": "partial", None: "absent"}
    add(rows, "twap_days", *({"date": day, "state": state} for day, state in states.items() if state))
    for _ in range(30):
        start, end = sorted(first + timedelta(chance.randint(-20, 140)) for _ in range(2))
        start = max(start, date(2023, 1, 1))
        runs = _coverage(api, "/api/v1/twaps", wallet=WALLET, start=str(start), end=str(end))
        told = {
            date.fromisoformat(begins) + timedelta(number): state
            for begins, ends, state, _ in runs
            for number in range((date.fromisoformat(ends) - date.fromisoformat(begins)).days + 1)
        }
        days = [start + timedelta(number) for number in range((end - start).days + 1)]
        assert told == {day: known[states.get(day)] for day in days}
        assert all(one[2] != two[2] for one, two in pairwise(runs))


def test_a_range_of_centuries_is_answered_at_once(api: Api, rows: psycopg.Connection) -> None:
    add(rows, "twap_days", {"date": "2025-11-02"})
    began = time.monotonic()
    runs = _coverage(api, "/api/v1/twaps", wallet=WALLET, start="2023-01-01", end="2200-12-31")
    assert time.monotonic() - began < 2
    assert [(run[0], run[1], run[2]) for run in runs] == [
        ("2023-01-01", "2025-11-01", "absent"),
        ("2025-11-02", "2025-11-02", "unprovable"),
        ("2025-11-03", "2200-12-31", "absent"),
    ]


@pytest.mark.parametrize(
    ("path", "parameters", "wrong"),
    [
        (FILLS, {"wallet": "0x12"}, {"wallet": "must be 0x and 40 hexadecimal digits"}),
        (FILLS, {"wallet": WALLET + "0"}, {"wallet": "must be 0x and 40 hexadecimal digits"}),
        (FILLS, {"wallet": WALLET, "end": "2025-10-31"}, {"end": "must not be before start"}),
        (FILLS, {"wallet": WALLET, "limit": 0}, {"limit": "must be at least 1"}),
        (FILLS, {"wallet": WALLET, "limit": 5001}, {"limit": "must be at most 5000"}),
        (FILLS, {"wallet": WALLET, "limit": "1_0"}, {"limit": "must be a whole number"}),
        (FILLS, {"wallet": WALLET, "limit": "10.0"}, {"limit": "must be a whole number"}),
        (FILLS, {"wallet": WALLET, "start": "2022-12-31"}, {"start": "must be from 2023-01-01 to 2200-12-31"}),
        (FILLS, {"wallet": WALLET, "start": "2023-01-01T00:00:00+00:01"}, {"start": "must be from 2023-01-01 to 2200-12-31"}),
        (FILLS, {"wallet": WALLET, "end": "2201-01-01"}, {"end": "must be from 2023-01-01 to 2200-12-31"}),
        (FILLS, {"coin": ""}, {"coin": "must be a coin, 1 to 64 characters without a space: SOL, "}),
        (FILLS, {"coin": "A\x00B"}, {"coin": "must be a coin, 1 to 64 characters without a space: SOL, "}),
        (FILLS, {"coin": "SOL", "offset": 1}, {"offset": "is not a parameter of this path; its parameters are: "}),
        (FILLS, {"coin": "SOL", "format": "xml"}, {"format": "must be 'json', 'csv', 'ndjson', 'parquet' or 'arrow'"}),
        (DAILY, {"start": "2025-11-03T00:00:00Z"}, {"start": "must be a day like 2025-11-03"}),
        (DAILY, {"end": "2025-10-31"}, {"end": "must not be before start"}),
        (DAILY, {"start": "1999-01-01"}, {"start": "must be from 2023-01-01 to 2200-12-31"}),
        (
            DAILY,
            {"wallet": WALLET},
            {"wallet": "is not a parameter of this path; its parameters are: coin, start, end, limit, cursor"},
        ),
        (
            USERS,
            {"coin": "SOL"},
            {"coin": "is not a parameter of this path; its parameters are: wallet, start, end, limit, cursor"},
        ),
        (CANDLES, {}, {"coin": "is required"}),
        ("/api/v1/twaps", {}, {"wallet": "is required"}),
        ("/api/v1/twaps", {"wallet": WALLET, "latest_per_twap": "1"}, {"latest_per_twap": "must be true or false"}),
        ("/api/v1/twaps", {"wallet": WALLET, "offset": -1}, {"offset": "must be at least 0"}),
        ("/api/v1/twaps", {"wallet": WALLET, "coin": "SOL"}, {"coin": "is not a parameter of this path; its parameters are: "}),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_may_be(
    api: Api, path: str, parameters: dict[str, Any], wrong: dict[str, str]
) -> None:
    found = api.refuses(path, **{**NOVEMBER, **parameters})
    assert set(found) == set(wrong)
    assert all(found[name].startswith(text) for name, text in wrong.items()), found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1762128000",
        "2025-11-31",
        "2025-11-3",
        "20251103",
        "2025-W44-1",
        "2025-11-03T25:00",
        "2025-11-03T12:00:00+25:00",
    ],
)
def test_what_is_no_instant_is_refused(api: Api, text: str) -> None:
    message = "must be a day (2025-11-03) or an instant (2025-11-03T12:30:00Z, 2025-11-03T12:30:00.5+02:00)"
    assert api.refuses(FILLS, wallet=WALLET, start=text, end="2025-11-30") == {"start": message}
    assert api.refuses(FILLS, wallet=WALLET, start="2025-11-01", end=text) == {"end": message}


def test_all_that_is_wrong_is_said_at_once_in_the_usual_form(api: Api) -> None:
    response = api.ask("/api/v1/twaps", wallet="x", start="y", end="z", limit="w", foo="bar")
    assert response.status_code == 422
    errors = response.json()["detail"]
    assert {error["loc"][1] for error in errors} == {"wallet", "start", "end", "limit", "foo"}
    assert all(set(error) == {"type", "loc", "msg", "input"} and error["loc"][0] == "query" for error in errors)


@pytest.mark.parametrize("twap_id", ["x", "1.0", "9223372036854775808", "-9223372036854775809", "1_0", "%20", "٣"])
@pytest.mark.parametrize("path", ["", "/fills", "/analytics"])
def test_a_twap_id_that_is_no_number_of_64_bits_is_refused(api: Api, twap_id: str, path: str) -> None:
    assert set(api.refuses(f"/api/v1/twaps/{twap_id}{path}")) == {"twap_id"}
    assert api.ask(f"/api/v1/twaps/9223372036854775807{path}").status_code == 404


def test_a_wallet_that_the_info_api_was_asked_for_says_how_far_that_reaches(api: Api, rows: psycopg.Connection) -> None:
    rows.execute(
        "INSERT INTO hl.backfill_progress (wallet, state, window_start, window_end, oldest, reason) "
        "VALUES (%s, 'truncated', '2023-02-26', '2025-05-26', '2024-11-03 12:30:00.5', 'too many')",
        [WALLET],
    )
    asked = {"start": "2024-01-01", "end": "2024-12-31"}
    said = {
        "state": "truncated",
        "from": "2023-02-26T00:00:00Z",
        "to": "2025-05-26T00:00:00Z",
        "oldest": "2024-11-03T12:30:00.500Z",
        "note": "too many",
    }
    assert api.get(FILLS, wallet=WALLET, **asked)["info_api"] == said
    assert api.get("/api/v1/stats/users", wallet=WALLET, **asked)["info_api"] == said
    assert api.get("/api/v1/twaps", wallet=WALLET, **asked)["info_api"] == said | {"statuses_asked_at": None}
    for path in (FILLS, "/api/v1/twaps", "/api/v1/stats/users"):
        assert "info_api" not in api.get(path, wallet=WALLET, **NOVEMBER)
        assert api.get(path, wallet=OTHER, **asked)["info_api"]["state"] == "not asked"
    assert "info_api" not in api.get("/api/v1/stats/users", **asked)
    window = {"from": said["from"], "to": said["to"]}
    counts = {"complete": 0, "truncated": 1, "failed": 0, "not_asked": 0}
    assert api.get("/api/v1/coverage", **asked)["info_api"] == window | counts
    assert "info_api" not in api.get("/api/v1/coverage", **NOVEMBER)
    rows.execute("DELETE FROM hl.backfill_progress")
