"""/api/v1/twaps: each field that it promises, compared with the rows that the tests insert."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.profiles import scaled
from hl_pipeline_tests.servers.api import (
    OTHER,
    WALLET,
    Api,
    add,
    at,
    ns,
    real_status_row,
    real_statuses,
    serving,
    status_row,
    twap_row,
)

PATH = "/api/v1/twaps"
LAKE_UNKNOWN = "in the lake, which this API cannot read: HL_LAKE_URL is not set"
NOVEMBER = {"wallet": WALLET, "start": "2025-11-01", "end": "2025-11-30"}
_MARGIN = "Insufficient margin to place order."
ONE_RAW = {"time": "2025-11-03T12:30:00", "twap_id": 123456, "state": {"sz": "100.0", "minutes": 30}, "status": "finished"}


@pytest.fixture(scope="module")
def empty_api(new_database: NewDatabase) -> Generator[tuple[Api, str]]:
    """The API on a database, and its URL: each test has wallets of its own."""
    url = new_database()
    with serving(url) as api:
        yield api, url


@pytest.fixture
def api(empty_api: tuple[Api, str]) -> Api:
    return empty_api[0]


@pytest.fixture
def rows(empty_api: tuple[Api, str]) -> Generator[psycopg.Connection]:
    """A connection to the API's database; what a test inserts is gone after it."""
    with connect(empty_api[1], "test") as connection:
        yield connection
        connection.execute(
            "TRUNCATE hl.twap_statuses, hl.twaps, hl.twap_slice_days, hl.twap_days, hl.fills, hl.fills_days CASCADE"
        )


def _add_one(rows: psycopg.Connection) -> None:
    """TWAP 123456: activated and finished, with its figures."""
    known = {"started_at": at("2025-11-03 12:00:00"), "duration_minutes": 30, "reduce_only": False, "randomize": True}
    done = {"size_requested": "100.000", "size_executed": "100.0000000000", "notional_executed": "9050.00"}
    add(
        rows,
        "twap_statuses",
        status_row(123456, ns("2025-11-03 12:00:00.25", 7), size_requested=100, size_executed=0, notional_executed=0, **known),
        status_row(123456, ns("2025-11-03 12:30:00"), "finished", **known, **done, raw_payload=Json(ONE_RAW)),
    )
    figures = {
        "status": "finished",
        "started_at": at("2025-11-03 12:00:00"),
        "planned_end": at("2025-11-03 12:30:00.25"),
        "ended_at": at("2025-11-03 12:30:00.000001"),
        "duration_minutes": 30,
        "size_reported": "100.0",
        "size_observed": "100.0000000000",
        "notional_observed": "9050.12345678901234567890",
        "vwap": "90.5012345679",
        "fees": Json({"HYPE": "0.10", "USDC": "-4.5"}),
        "slippage_bps": "-0.0100",
        "is_complete": True,
    }
    add(rows, "twaps", twap_row(123456, at("2025-11-03 12:00:00.25"), **figures))


def test_the_list_has_the_latest_event_of_each_twap_key_by_key(api: Api, rows: psycopg.Connection) -> None:
    _add_one(rows)
    answer = api.get(PATH, **NOVEMBER)
    [item] = answer["twaps"]
    analytics = item.pop("analytics")
    assert item == {
        "twap_id": "123456",
        "wallet": WALLET,
        "asset": "SOL",
        "side": "B",
        "status": "finished",
        "error": None,
        "duration_minutes": 30,
        "started_at": "2025-11-03T12:00:00Z",
        "latest_ts": "2025-11-03T12:30:00Z",
        "size_requested": "100",
        "size_executed": "100",
        "notional_executed": "9050",
        "executed": {"size": "100", "notional": "9050"},
        "reduce_only": False,
        "randomize": True,
        "raw": ONE_RAW,
    }
    known = {name: value for name, value in analytics.items() if value not in (None, 0, "0")}
    assert known == {
        "twap_id": "123456",
        "wallet": WALLET,
        "coin": "SOL",
        "side": "B",
        "status": "finished",
        "verdict": "match",
        "started_at": "2025-11-03T12:00:00Z",
        "begins_at": "2025-11-03T12:00:00.250Z",
        "planned_end": "2025-11-03T12:30:00.250Z",
        "ended_at": "2025-11-03T12:30:00.000001Z",
        "duration_minutes": 30,
        "statuses": 2,
        "fills": 1,
        "slices": 1,
        "size_reported": "100",
        "size_observed": "100",
        "notional_observed": "9050.1234567890123456789",
        "vwap": "90.5012345679",
        "fees": {"HYPE": "0.10", "USDC": "-4.5"},
        "slippage_bps": "-0.01",
        "is_complete": True,
        "seen_from": "2025-11-03T12:00:00.250Z",
        "seen_to": "2025-11-03T12:00:00.250Z",
    }
    [columns] = rows.execute(
        "SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = 'hl.twaps'::regclass AND attnum > 0"
    ).fetchall()
    assert set(analytics) == set(columns[0])
    del answer["twaps"]
    assert answer == {
        "wallet": WALLET,
        "start": "2025-11-01T00:00:00Z",
        "end": "2025-11-30T23:59:59.999999Z",
        "next_cursor": None,
        "coverage": [{"from": "2025-11-01", "to": "2025-11-30", "state": "absent", "note": "not loaded"}],
    }


def test_all_rows_are_those_of_the_range_newest_first(api: Api, rows: psycopg.Connection) -> None:
    events = [("12:00:00", "activated"), ("12:10:00", "error"), ("12:10:00", "stopped"), ("12:20:00", "terminated")]
    for time, status in events:
        add(rows, "twap_statuses", status_row(1, ns(f"2025-11-03 {time}"), status, raw_payload=Json({"is": status})))
    asked = {"wallet": WALLET, "start": "2025-11-03T12:00:01", "end": "2025-11-03T12:10:00"}
    [item] = api.get(PATH, **asked, latest_per_twap="false")["twaps"]
    assert item["status"] == "stopped"
    assert item["raw"] == {"latest": {"is": "stopped"}, "all_rows": [{"is": "stopped"}, {"is": "error"}]}
    [item] = api.get(PATH, **asked, latest_per_twap="true")["twaps"]
    assert item["raw"] == {"is": "stopped"}


def test_one_twap_has_all_its_events_newest_first(api: Api, rows: psycopg.Connection) -> None:
    _add_one(rows)
    answer = api.get(f"{PATH}/123456")
    assert set(answer) == {"twap_id", "rows", "analytics"}
    assert answer["twap_id"] == "123456"
    assert answer["rows"][0] == {
        "wallet": WALLET,
        "ts": "2025-11-03T12:30:00Z",
        "asset": "SOL",
        "side": "B",
        "size_requested": "100",
        "size_executed": "100",
        "notional_executed": "9050",
        "status": "finished",
        "error": None,
        "duration_minutes": 30,
        "started_at": "2025-11-03T12:00:00Z",
        "reduce_only": False,
        "randomize": True,
        "raw": ONE_RAW,
    }
    assert [(row["ts"], row["status"]) for row in answer["rows"]] == [
        ("2025-11-03T12:30:00Z", "finished"),
        ("2025-11-03T12:00:00.250Z", "activated"),
    ]
    assert answer["analytics"]["vwap"] == "90.5012345679"
    assert answer["analytics"] == api.get(f"{PATH}/123456/analytics") == api.get(PATH, **NOVEMBER)["twaps"][0]["analytics"]


def test_a_twap_that_nobody_knows_is_not_found_anywhere(api: Api) -> None:
    for path in ("", "/analytics", "/fills"):
        response = api.ask(f"{PATH}/123456{path}")
        assert (response.status_code, response.json()) == (404, {"detail": "TWAP ID 123456 not found"})


def test_a_twap_known_by_its_slices_alone_has_figures_and_no_events(api: Api, rows: psycopg.Connection) -> None:
    add(rows, "twaps", twap_row(7, at("2025-11-03 12:00:00"), verdict="status_missing", statuses=0))
    answer = api.get(f"{PATH}/7")
    assert answer["rows"] == []
    assert answer["analytics"]["verdict"] == "status_missing"
    assert [item["status"] for item in api.get(PATH, **NOVEMBER)["twaps"]] == [None]


def test_a_twap_without_figures_says_so(api: Api, rows: psycopg.Connection) -> None:
    add(rows, "twap_statuses", status_row(8, ns("2025-11-03 12:00:00")))
    assert api.get(f"{PATH}/8")["analytics"] is None
    assert api.get(PATH, **NOVEMBER)["twaps"][0]["analytics"] is None
    response = api.ask(f"{PATH}/8/analytics")
    assert response.status_code == 404
    assert "has no analytics yet" in response.json()["detail"]


def test_an_empty_list_is_no_error(api: Api) -> None:
    assert api.get(PATH, **NOVEMBER)["twaps"] == []


def test_the_real_statuses_come_through_to_the_last_digit(api: Api, rows: psycopg.Connection, samples: Path) -> None:
    real = real_statuses(samples)
    assert [event["twap_id"] for event in real] == [2018017, 2017981, 1430699, 1544034]
    add(rows, "twap_statuses", *(real_status_row(event) for event in real))
    expected = {
        2018017: ("xyz:LITE", "B", "finished", None, 5, "2026-07-09T19:00:44.010972Z", "0.124", "0.124", "99.4204"),
        2017981: ("ZEC", "B", "error", _MARGIN, 25, "2026-07-09T19:00:44.010972Z", "3.55", "2.29", "1132.9198"),
        1430699: ("HYPE", "A", "activated", None, 10, "2025-12-04T17:00:22.417074Z", "108.36", "0", "0"),
        1544034: ("ETH", "A", "activated", None, 5, "2026-01-28T15:00:05.423822Z", "10", "0", "0"),
    }
    started = {1430699: "2025-12-04T17:00:22.417Z", 1544034: "2026-01-28T15:00:05.423Z"}
    for event in real:
        coin, side, status, error, minutes, ts, requested, executed, notional = expected[event["twap_id"]]
        listed = api.get(PATH, wallet=event["state"]["user"].upper().replace("X", "x", 1), start="2025-11-01", end="2026-12-31")
        assert listed["wallet"] == event["state"]["user"]
        [item] = listed["twaps"]
        [row] = api.get(f"{PATH}/{event['twap_id']}")["rows"]
        assert (item["latest_ts"], item["executed"]) == (ts, {"size": executed, "notional": notional})
        assert row["ts"] == ts
        for answer in (item, row):
            assert (answer["wallet"], answer["asset"], answer["side"]) == (event["state"]["user"], coin, side)
            assert (answer["status"], answer["error"], answer["duration_minutes"]) == (status, error, minutes)
            assert (answer["size_requested"], answer["size_executed"]) == (requested, executed)
            assert (answer["notional_executed"], answer["raw"]) == (notional, event)
            assert answer["started_at"] == started.get(event["twap_id"], answer["started_at"])
            assert answer["randomize"] is event["state"]["randomize"]


def test_stored_json_keeps_its_digits(api: Api, rows: psycopg.Connection) -> None:
    row = status_row(9, ns("2025-11-03 12:00:00"))
    add(rows, "twap_statuses", row)
    rows.execute("""UPDATE hl.twap_statuses SET raw_payload = '{"sz": 123456789012345678901234567890.12345678901234567890}'""")
    assert '{"sz": 123456789012345678901234567890.12345678901234567890}' in api.ask(f"{PATH}/9").text


def test_the_ends_of_the_range_are_in_it_to_the_microsecond(api: Api, rows: psycopg.Connection) -> None:
    edge = "2025-11-03 12:00:00.000001"
    for twap_id, time in enumerate([ns(edge) - 1, ns(edge), ns(edge, 999), ns(edge, 1000)]):
        add(rows, "twap_statuses", status_row(twap_id, time))
    found = api.get(PATH, wallet=WALLET, start="2025-11-03T12:00:00.000001Z", end="2025-11-03T13:00:00.000001+01:00")
    assert [item["twap_id"] for item in found["twaps"]] == ["2", "1"]
    assert (found["start"], found["end"]) == ("2025-11-03T12:00:00.000001Z", "2025-11-03T12:00:00.000001Z")


def test_a_day_is_the_whole_day_and_a_time_without_a_zone_is_utc(api: Api, rows: psycopg.Connection) -> None:
    add(rows, "twap_statuses", status_row(1, ns("2025-11-03 00:00:00")), status_row(2, ns("2025-11-03 23:59:59.999999", 999)))
    add(rows, "twap_statuses", status_row(3, ns("2025-11-04 00:00:00")), status_row(4, ns("2025-11-02 23:59:59.999999", 999)))
    assert [item["twap_id"] for item in api.get(PATH, wallet=WALLET, start="2025-11-03", end="2025-11-03")["twaps"]] == ["2", "1"]
    for start, end in [
        ("2025-11-04T00:00", "2025-11-04T00:00:00"),
        ("2025-11-04 00:00Z", "2025-11-04t00:00:00.0z"),
        # A + in a URL is a space.
        ("2025-11-04T05:30:00 05:30", "2025-11-03T22:00:00-02:00"),
    ]:
        found = api.get(PATH, wallet=WALLET, start=start, end=end)
        assert [item["twap_id"] for item in found["twaps"]] == ["3"]
        assert (found["start"], found["end"]) == ("2025-11-04T00:00:00Z", "2025-11-04T00:00:00Z")


def test_a_wallet_sees_its_own_rows_alone(api: Api, rows: psycopg.Connection) -> None:
    """Two wallets at one TWAP is a conflict in the data: each is shown what is its own."""
    add(rows, "twap_statuses", status_row(1, ns("2025-11-03 12:00:00")))
    add(rows, "twap_statuses", status_row(1, ns("2025-11-03 13:00:00"), "finished", wallet=OTHER))
    assert [item["status"] for item in api.get(PATH, **NOVEMBER)["twaps"]] == ["activated"]
    assert [item["status"] for item in api.get(PATH, **{**NOVEMBER, "wallet": OTHER})["twaps"]] == ["finished"]


def test_pages_of_all_sizes_are_the_whole_list_with_ties_in_time(api: Api, rows: psycopg.Connection) -> None:
    for twap_id in range(23):
        add(rows, "twap_statuses", status_row(twap_id, ns("2025-11-03 12:00:00", twap_id // 5)))
        if twap_id % 3 == 0:
            add(rows, "twap_statuses", status_row(twap_id, ns("2025-11-03 12:00:00", 3), "finished"))
    whole = api.get(PATH, **NOVEMBER)["twaps"]
    assert len(whole) == 23
    for limit in (1, 2, 5, 22, 23, 24):
        pages = api.pages(PATH, "twaps", **NOVEMBER, limit=limit)
        assert [item for page in pages for item in page] == whole
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
        assert pages[-1]
        offsets = range(0, 23, limit)
        assert [item for offset in offsets for item in api.get(PATH, **NOVEMBER, limit=limit, offset=offset)["twaps"]] == whole
    assert api.get(PATH, **NOVEMBER, offset=23) == {**api.get(PATH, **NOVEMBER, offset=1000), "twaps": []}


def test_what_comes_in_between_pages_neither_hides_nor_repeats_what_was_there(api: Api, rows: psycopg.Connection) -> None:
    for twap_id in range(10, 20):
        add(rows, "twap_statuses", status_row(twap_id, ns("2025-11-03 12:00:00", twap_id)))
    first = api.get(PATH, **NOVEMBER, limit=4)
    add(
        rows,
        "twap_statuses",
        status_row(30, ns("2025-11-03 12:00:00", 99)),
        status_row(19, ns("2025-11-03 13:00:00"), "finished"),
    )
    second = api.get(PATH, **NOVEMBER, limit=4, cursor=first["next_cursor"])
    add(rows, "twap_statuses", status_row(5, ns("2025-11-03 12:00:00", 1)))
    third = api.get(PATH, **NOVEMBER, limit=4, cursor=second["next_cursor"])
    seen = [int(item["twap_id"]) for page in (first, second, third) for item in page["twaps"]]
    assert seen == [19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 5]
    assert third["next_cursor"] is None


def test_a_cursor_goes_with_its_own_list_alone(api: Api, rows: psycopg.Connection) -> None:
    for twap_id in range(3):
        add(rows, "twap_statuses", status_row(twap_id, ns("2025-11-03 12:00:00", twap_id)))
    cursor = api.get(PATH, **NOVEMBER, limit=1)["next_cursor"]
    api.get(PATH, **NOVEMBER, limit=2, cursor=cursor)
    api.get(PATH, **{**NOVEMBER, "wallet": WALLET.upper().replace("X", "x")}, latest_per_twap="true", cursor=cursor)
    wrong = "is not a next_cursor of this path with these parameters"
    for other in (
        {"wallet": OTHER},
        {"start": "2025-11-02"},
        {"end": "2025-11-29"},
        {"asset": "SOL"},
        {"latest_per_twap": "false"},
    ):
        assert api.refuses(PATH, **{**NOVEMBER, **other}, cursor=cursor) == {"cursor": wrong}
    for forged in ("", "x", "äöü", cursor[:-2], cursor[:12] + "A" + cursor[13:], cursor + "AAAA", "AAAA" * 50, "=" * 8):
        assert api.refuses(PATH, **NOVEMBER, cursor=forged) == {"cursor": wrong}
    assert api.refuses("/api/v1/fills", **NOVEMBER, cursor=cursor) == {"cursor": wrong}
    assert api.refuses(PATH, **NOVEMBER, cursor=cursor, offset=1) == {"offset": "cannot be combined with cursor: use one of them"}


@dataclass(frozen=True, slots=True)
class Event:
    twap_id: int
    time_ns: int
    status: str
    wallet: str
    coin: str


def _naive(events: list[Event], wallet: str, first_ns: int, last_ns: int, coin: str | None) -> list[list[Event]]:
    """The events of each TWAP in the range, newest first, and so the TWAPs: no SQL, no index, no trick."""
    places = {"waitingForTrigger": 0, "activated": 1}
    of_twap: dict[int, list[Event]] = {}
    for event in events:
        if event.wallet == wallet and first_ns <= event.time_ns <= last_ns and coin in (None, event.coin):
            of_twap.setdefault(event.twap_id, []).append(event)
    for several in of_twap.values():
        several.sort(key=lambda one: (one.time_ns, places.get(one.status, 2), one.status), reverse=True)
    return sorted(of_twap.values(), key=lambda several: (several[0].time_ns, several[0].twap_id), reverse=True)


@pytest.mark.random
def test_the_latest_events_are_those_that_a_naive_computation_finds(api: Api, rows: psycopg.Connection) -> None:
    chance = random.Random(20251103)
    base = ns("2025-11-03 12:00:00")
    events: list[Event] = []
    for twap_id in range(300):
        wallet, coin = chance.choice([WALLET, WALLET, OTHER]), chance.choice(["SOL", "xyz:TSLA", "PURR/USDC", "@107", "#1890"])
        # Few moments, so that many share one; statuses at the same time are common.
        moments = [base + chance.choice([0, 1, 999, 1000, 1001, 5_000, 2_000_000]) for _ in range(chance.randint(1, 4))]
        kinds = chance.sample(["waitingForTrigger", "activated", "finished", "terminated", "error"], len(moments))
        events.extend(Event(twap_id, moment, kind, wallet, coin) for moment, kind in zip(moments, kinds, strict=True))
    with rows.transaction():
        made: list[dict[str, Any]] = []
        for event in events:
            raw = Json({"time_ns": str(event.time_ns), "status": event.status})
            about = {"wallet": event.wallet, "coin": event.coin, "raw_payload": raw}
            made.append(status_row(event.twap_id, event.time_ns, event.status, **about))
        add(rows, "twap_statuses", *made)
    edges = [base + micro * 1000 for micro in (-1, 0, 1, 2, 5, 6, 2000)]
    for _ in range(scaled(60)):
        first_ns, last_ns = sorted(chance.choices(edges, k=2))
        wallet, coin = (
            chance.choice([WALLET, OTHER]),
            chance.choice([None, "SOL", "xyz:TSLA", "PURR/USDC", "@107", "#1890", "BTC"]),
        )
        limit = chance.choice([1, 7, 500])
        asked = {"wallet": wallet, "start": _iso(first_ns), "end": _iso(last_ns), **({"asset": coin} if coin else {})}
        expected = _naive(events, wallet, first_ns, last_ns + 999, coin)
        pages = api.pages(PATH, "twaps", **asked, limit=limit, latest_per_twap="false")
        found = [item for page in pages for item in page]
        assert [(item["twap_id"], item["asset"], item["status"]) for item in found] == [
            (str(several[0].twap_id), several[0].coin, several[0].status) for several in expected
        ]
        assert [item["raw"]["all_rows"] for item in found] == [
            [{"time_ns": str(event.time_ns), "status": event.status} for event in several] for several in expected
        ]
        assert [item["raw"]["latest"] for item in found] == [item["raw"]["all_rows"][0] for item in found]


def _iso(time_ns: int) -> str:
    return (datetime.fromisoformat("1970-01-01T00:00:00Z") + timedelta(microseconds=time_ns // 1000)).isoformat()


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("asset", [{}, {"asset": "SOL"}])
def test_a_page_reads_few_rows_however_many_a_wallet_has(
    api: Api, rows: psycopg.Connection, analyzed: bool, asset: dict[str, str]
) -> None:
    """Whatever the statistics say, and when the statement was prepared for a wallet with few."""
    for _ in range(20):
        api.get(PATH, **NOVEMBER, **asset, limit=10)
    rows.execute(
        "INSERT INTO hl.twap_statuses (twap_id, time, time_ns, date, status, wallet, coin, side, object, raw_payload) "
        "SELECT id, timestamptz '2025-11-03Z' + id * interval '1 s', 1762128000000000000 + id * 1000000000::bigint, "
        "'2025-11-03', 'activated', CASE WHEN id > 500 THEN %s ELSE '0x' || id END, 'SOL', 'B', 'test', '{}' "
        "FROM generate_series(1, 20000) id",
        [WALLET],
    )
    if analyzed:
        rows.execute("ANALYZE hl.twap_statuses")
    read = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relid = 'hl.twap_statuses'::regclass"
    before = _number(rows, read)
    asked = 0

    def told() -> bool:
        # A backend tells what it did when a transaction ends, at most once a second.
        nonlocal asked
        asked += 10
        pages = [api.get(PATH, **NOVEMBER, **asset, limit=10)["twaps"] for _ in range(10)]
        assert {len(page) for page in pages} == {10}
        return asked > 40 and _number(rows, read) > before

    wait_until(told, 60, "PostgreSQL tells what was read")
    assert _number(rows, read) - before < asked * 100


def _number(rows: psycopg.Connection, query: str) -> int:
    found = rows.execute(query.encode()).fetchone()
    assert found is not None
    return found[0]


def test_the_slices_of_a_twap_come_in_pages_with_the_days_that_are_there(api: Api, rows: psycopg.Connection) -> None:
    add(rows, "twaps", twap_row(5, at("2025-11-03 23:00:00"), ended_at=at("2025-11-06 01:00:00")))
    times = ["2025-11-03 23:00:00", "2025-11-03 23:00:30", "2025-11-04 00:00:00", "2025-11-05 23:59:59.999"]
    for number, time in enumerate(times):
        add(rows, "fills", {"time": at(time), "twap_id": 5, "tid": number + 1, "oid": 10 + number})
        add(rows, "fills", {"time": at(time), "twap_id": 6, "tid": number + 100}, {"time": at(time), "tid": number + 200})
    add(rows, "fills_days", {"date": "2025-11-03"}, {"date": "2025-11-04", "thinned_at": at("2026-01-01 00:00")})
    add(rows, "fills_days", {"date": "2025-11-05", "state": "incomplete", "explanation": "2 hours are missing"})
    whole = api.get(f"{PATH}/5/fills")
    assert [(fill["time"], fill["tid"], fill["twap_id"]) for fill in whole["fills"]] == [
        ("2025-11-03T23:00:00Z", 1, "5"),
        ("2025-11-03T23:00:30Z", 2, "5"),
        ("2025-11-04T00:00:00Z", 3, "5"),
        ("2025-11-05T23:59:59.999Z", 4, "5"),
    ]
    assert whole["coverage"] == [
        {"from": "2025-11-03", "to": "2025-11-03", "state": "whole"},
        {"from": "2025-11-04", "to": "2025-11-04", "state": "absent", "note": LAKE_UNKNOWN},
        {"from": "2025-11-05", "to": "2025-11-05", "state": "partial", "note": "2 hours are missing"},
        {"from": "2025-11-06", "to": "2025-11-06", "state": "absent", "note": "not loaded"},
    ]
    assert [fill for page in api.pages(f"{PATH}/5/fills", "fills", limit=1) for fill in page] == whole["fills"]
    cursor = api.get(f"{PATH}/5/fills", limit=1)["next_cursor"]
    add(rows, "twaps", twap_row(6, at("2025-11-03 23:00:00")))
    assert "cursor" in api.refuses(f"{PATH}/6/fills", cursor=cursor)


def test_slices_are_looked_for_on_the_days_that_statuses_and_slices_know(api: Api, rows: psycopg.Connection) -> None:
    add(
        rows,
        "twap_statuses",
        status_row(5, ns("2025-11-04 12:00:00"), started_at=at("2025-11-04 11:00:00"), duration_minutes=1440),
    )
    assert _days(api, 5) == ("2025-11-04", "2025-11-05")
    add(rows, "twap_slice_days", {"twap_id": 5, "date": "2025-11-02"}, {"twap_id": 5, "date": "2025-11-07"})
    assert _days(api, 5) == ("2025-11-02", "2025-11-07")


def _days(api: Api, twap_id: int) -> tuple[str, str]:
    coverage = api.get(f"{PATH}/{twap_id}/fills")["coverage"]
    return coverage[0]["from"], coverage[-1]["to"]


def test_decimals_have_neither_exponent_nor_trailing_zeros(api: Api, rows: psycopg.Connection) -> None:
    texts = ["0", "0.0000000000", "100.00", "-0.10", "1E+3", "1E-10", "0.0000014866", "9999999999999999999999999999.9999999999"]
    for number, text in enumerate(texts):
        add(rows, "twap_statuses", status_row(number, ns("2025-11-03 12:00:00", number), size_requested=Decimal(text)))
    found = [item["size_requested"] for item in api.get(PATH, **NOVEMBER)["twaps"]][::-1]
    assert found == ["0", "0", "100", "-0.1", "1000", "0.0000000001", "0.0000014866", "9999999999999999999999999999.9999999999"]
