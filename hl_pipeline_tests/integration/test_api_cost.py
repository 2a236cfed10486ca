"""The cost of a response: it reads neither the tables of all days in its range nor all TWAPs of a wallet, and loses no rows."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

import psycopg
import pytest

from api import twap_pages
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.api import OTHER, WALLET, Api, add, at, ns, serving, status_row, twap_row

YEAR = {"start": "2025-01-01", "end": "2025-12-31"}
# Both sides of where parts of a range end, which are of 8, 32, 128 days and the rest; gaps of more than a part.
_DAYS = (0, 7, 8, 39, 40, 41, 167, 168, 299, 364)


@pytest.fixture(scope="module")
def served(new_database: NewDatabase) -> Generator[tuple[Api, str]]:
    url = new_database()
    with connect(url, "test") as connection:
        add(connection, "fills", *_fills_of_the_year())
    with serving(url, HL_API_STATEMENT_TIMEOUT_SECONDS="2") as api:
        yield api, url


@pytest.fixture
def api(served: tuple[Api, str]) -> Api:
    return served[0]


@pytest.fixture
def rows(served: tuple[Api, str]) -> Generator[psycopg.Connection]:
    """A connection to the API's database; the TWAPs and statistics that a test inserts are gone after it."""
    with connect(served[1], "test") as connection:
        yield connection
        connection.execute("TRUNCATE hl.twap_statuses, hl.twaps, hl.daily_stats")


def _fills_of_the_year() -> list[dict[str, Any]]:
    """In the order of time: at the first and the last moment of each day, of two coins, and one of another wallet."""
    fills: list[dict[str, Any]] = []
    for number in _DAYS:
        day = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(number)
        for moment in (day, datetime.combine(day.date(), time(23, 59, 59, 999000), UTC)):
            for wallet, coin in ((WALLET, "SOL"), (WALLET, "BTC"), (OTHER, "SOL")):
                fills.append({"time": moment, "tid": len(fills), "wallet": wallet, "coin": coin, "ordinal": len(fills)})
    return fills


@pytest.mark.parametrize("limit", [1, 7, 5000])
@pytest.mark.parametrize("asked", [{"wallet": WALLET}, {"coin": "SOL"}, {"wallet": OTHER, "coin": "SOL"}])
@pytest.mark.slow
def test_every_fill_of_a_year_comes_once_and_in_order(api: Api, asked: dict[str, str], limit: int) -> None:
    expected = [fill["tid"] for fill in _fills_of_the_year() if all(fill[name] == value for name, value in asked.items())]
    pages = api.pages("/api/v1/fills", "fills", **asked, **YEAR, limit=limit)
    assert [fill["tid"] for page in pages for fill in page] == expected
    assert all(len(page) == limit for page in pages[:-1])


def test_a_wallet_without_fills_has_none_in_a_year(api: Api) -> None:
    answer = api.get("/api/v1/fills", wallet="0x" + "3c" * 20, **YEAR)
    assert (answer["fills"], answer["next_cursor"]) == ([], None)


def test_a_page_of_a_year_does_not_touch_the_tables_of_later_days(api: Api, rows: psycopg.Connection) -> None:
    with rows.transaction():
        rows.execute("LOCK TABLE hl.fills_20251231 IN ACCESS EXCLUSIVE MODE")
        assert [fill["tid"] for fill in api.get("/api/v1/fills", wallet=WALLET, **YEAR, limit=3)["fills"]] == [0, 1, 3]
        assert api.ask("/api/v1/fills", wallet=WALLET, **YEAR).status_code == 504


@pytest.mark.parametrize("path", ["/api/v1/candles", "/api/v1/stats/daily", "/api/v1/fills"])
def test_a_coin_that_has_statistics_is_not_looked_for_in_fills(api: Api, rows: psycopg.Connection, path: str) -> None:
    add(rows, "daily_stats", {"date": at("2025-01-01 00:00").date(), "coin": "SOL"})
    with rows.transaction():
        rows.execute("LOCK TABLE hl.fills_20251231 IN ACCESS EXCLUSIVE MODE")
        assert api.ask(path, coin="SOL", start="2025-01-01", end="2025-01-02").status_code == 200


def test_a_page_of_twaps_reads_few_of_a_wallet_that_has_many(api: Api, rows: psycopg.Connection) -> None:
    rows.execute(
        """
        INSERT INTO hl.twap_statuses (twap_id, time, time_ns, date, status, wallet, coin, side, object, raw_payload)
        SELECT id, at, extract(epoch FROM at)::bigint * 1000000000, at::date, 'finished', %(wallet)s, 'SOL', 'B', 'test', '{}'
        FROM (SELECT id, timestamptz '2025-11-03Z' + id * interval '10 s' AS at FROM generate_series(1, 5000) id) ids;
        """,
        {"wallet": WALLET},
    )
    rows.execute(
        """
        INSERT INTO hl.twaps (twap_id, wallet, coin, side, verdict, begins_at, ended_at, statuses, fills, slices, size_observed,
                              notional_observed, whole_minutes, own_volume, own_notional, seen_from, seen_to)
        SELECT twap_id, wallet, coin, side, 'match', time - interval '5 minutes', time, 1, 0, 0, 0, 0, 5, 0, 0, time, time
        FROM hl.twap_statuses
        """
    )
    rows.execute("ANALYZE hl.twap_statuses, hl.twaps")
    listed = api.get("/api/v1/twaps", wallet=WALLET, start="2025-11-03", end="2025-11-03", limit=10)["twaps"]
    assert [int(twap["twap_id"]) for twap in listed] == [*range(5000, 4990, -1)]
    # Of hl.twaps: those that are listed, and those that run at the end of the range.
    end = at("2025-11-03 12:00:00")
    values = {
        "start": at("2025-11-03 00:00:00"),
        "end": end,
        "start_ns": ns("2025-11-03 00:00:00"),
        "end_ns": ns("2025-11-03 12:00:00"),
    }
    values |= {
        "wallet": WALLET,
        "asset": None,
        "before_ns": 2**63 - 1,
        "before_id": 0,
        "all_rows": False,
        "offset": 0,
        "limit": 11,
    }
    rows.execute("SET enable_sort = off")
    [(plan,)] = rows.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + twap_pages.TWAPS, values).fetchall()
    assert sum(_rows_read(plan[0]["Plan"])) < 100


def _rows_read(plan: dict[str, Any]) -> Iterator[float]:
    """How many rows of hl.twaps each scan of a plan reads."""
    if plan.get("Relation Name") == "twaps":
        yield (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    for child in plan.get("Plans", ()):
        yield from _rows_read(child)


@pytest.mark.parametrize(
    ("ended_at", "last_slice_at", "is_there"),
    [
        (None, "2025-11-03 12:00:00", True),
        ("2025-11-02 10:00:00", "2025-11-03 12:00:00", True),
        ("2025-11-02 10:00:00", "2025-11-05 12:00:00", True),
        ("2025-11-05 10:00:00", "2025-11-02 12:00:00", True),
        ("2025-11-05 10:00:00", None, True),
        ("2025-11-02 10:00:00", "2025-11-02 09:00:00", False),
        ("2025-11-02 10:00:00", None, False),
    ],
)
def test_a_twap_that_began_before_is_there_by_its_end_or_its_last_slice(
    api: Api, rows: psycopg.Connection, ended_at: str | None, last_slice_at: str | None, is_there: bool
) -> None:
    known = {"ended_at": ended_at and at(ended_at), "last_slice_at": last_slice_at and at(last_slice_at)}
    add(rows, "twaps", twap_row(1, at("2025-11-01 12:00:00"), **known))
    add(rows, "twap_statuses", status_row(1, ns("2025-11-01 12:00:00")))
    found = api.get("/api/v1/twaps", wallet=WALLET, start="2025-11-03", end="2025-11-03")["twaps"]
    assert [twap["twap_id"] for twap in found] == (["1"] if is_there else [])
