"""Protects hl_client: rows are those of the database, exact and complete, and what is missing cannot be overlooked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Json

from hl_client import (
    AccessError,
    Answer,
    AsyncClient,
    Client,
    IncompleteError,
    IncompleteWarning,
    NotFoundError,
    Result,
    WrongParameterError,
)
from hl_client.columns import KINDS, decimal_scale, type_of
from hl_client.questions import Lists
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.api import OTHER, WALLET, Api, add, at, ns, serving, status_row, twap_row

_DAY, _FILLS, _TWAP = date(2025, 11, 3), 5_003, 1_544_034
_BUILDER = "0x" + "b1" * 20
_PX = ["0.0000000001", "9999999999999999999999999999.9999999999", "9007199254740993.1234567891", "37.826"]


@dataclass(frozen=True, slots=True)
class Place:
    """An API with rows of one day; the day after is not loaded, and the one before lacks an hour."""

    api: Api
    url: str
    database: psycopg.Connection

    def rows(self, query: str) -> list[dict[str, Any]]:
        with self.database.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode()).fetchall()


@pytest.fixture(scope="module")
def place(new_database: NewDatabase) -> Generator[Place]:
    url = new_database()
    with connect(url, "test") as connection:
        _insert(connection)
    with serving(url) as api, connect(url, "test") as database:
        yield Place(api, url, database)


@pytest.fixture
def client(place: Place) -> Generator[Client]:
    with Client(place.api.url, on_incomplete="ignore") as client:
        yield client


def _insert(connection: psycopg.Connection) -> None:
    noon = at("2025-11-03 12:00")
    # Many of the same millisecond, so that a page ends within it.
    fills = [
        {"time": noon + timedelta(milliseconds=number // 50), "px": _PX[number % 4], "tid": 2**62 + number, "ordinal": number}
        | {"twap_id": _TWAP if number < 7 else None, "fee": "-0.0000000001", "fee_token": "HYPE", "oid": None}
        | {"block_time_ns": ns("2025-11-03 12:00", number), "extra": Json({"n": 1})}
        for number in range(_FILLS)
    ]
    add(connection, "fills", *fills)
    made = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at", "builder_stats_at"), at("2025-11-05 00:00"))
    lacks = {"state": "incomplete", "explanation": "1 of 25 objects missing: hour 7"}
    add(connection, "fills_days", {"date": _DAY, **made}, {"date": _DAY - timedelta(1), **lacks, **made})
    hole = {"found": "missing", "why": "no such object", "object_date": _DAY - timedelta(1), "object_hour": 7}
    add(connection, "coverage", {**hole, "judged_at": at("2025-11-05 00:00")})
    add(connection, "twap_days", {"date": _DAY, "twaps_at": at("2025-11-05 00:00")})
    for number in range(3):
        of = {"size_requested": "10.5", "size_executed": "0.1", "notional_executed": "1", "raw_payload": Json({"x": 0.1})}
        add(connection, "twap_statuses", status_row(_TWAP + number, ns(f"2025-11-03 1{number}:00"), **of))
    figures = {"size_observed": "7", "notional_observed": "700.00000000000000000001", "fees": Json({"HYPE": "-7E-10"})}
    add(
        connection,
        "twaps",
        twap_row(_TWAP, noon, **figures, slippage_bps="-1.25", vwap="100"),
    )
    add(connection, "twap_slice_days", {"twap_id": _TWAP, "date": _DAY})
    minutes = [{"coin": "SOL", "time": noon + timedelta(minutes=n), "date": _DAY, "open": _PX[n % 4]} for n in range(3)]
    add(connection, "candles", *minutes)
    add(connection, "daily_stats", {"date": _DAY, "coin": "SOL", "notional": _PX[2], "fees": Json({"USDC": "1.10"})})
    times = {"first_fill": noon, "last_fill": noon + timedelta(minutes=1)}
    volume = {"maker_notional": 0, "taker_notional": _PX[2], "closed_pnl": "-5.5", "fees_in_quote": "0.25"}
    add(connection, "user_stats", {"date": _DAY, "wallet": WALLET, **times, **volume, "fees": Json({"USDC": "0.25"})})
    add(connection, "user_stats", {"date": _DAY, "wallet": OTHER, **times})
    add(connection, "builder_stats", {"date": _DAY, "builder": _BUILDER, "notional": _PX[3], "fees": Json({})})
    for number, error in enumerate((None, "timed out", "not finished")):
        spent = (at("2025-11-03 23:59:59.999"), "bucket", "GET", f"key {number}", 100 + number, "0.0000004", error)
        columns = b"at, bucket, method, key, bytes, dollars, error"
        connection.execute(b"INSERT INTO hl.s3_requests (%b) VALUES (%%s, %%s, %%s, %%s, %%s, %%s, %%s)" % columns, spent)


def test_fills_are_those_of_the_database_over_pages_that_end_within_a_millisecond(place: Place, client: Client) -> None:
    fills = client.fills("2025-11-03", "2025-11-03", wallet=WALLET)

    stored = place.rows("SELECT *, hash AS h FROM hl.fills ORDER BY time, block_number, object_id, ordinal")
    assert len(fills) == len(stored) == _FILLS
    names = [name for name in KINDS["fills"] if name not in ("hash", "cloid")]
    assert [[row[name] for name in names] for row in fills] == [[row[name] for name in names] for row in stored]
    assert {type(row["px"]) for row in fills} == {Decimal}
    assert fills.is_complete
    assert not fills.has_more


@pytest.mark.parametrize("frame", ["polars", "arrow", "pandas"])
def test_a_frame_has_every_digit_and_the_sum_that_postgresql_computes(place: Place, client: Client, frame: str) -> None:
    fills = client.fills("2025-11-03", "2025-11-03", wallet=WALLET, limit=60)

    table = getattr(fills, f"to_{frame}")()

    [stored] = place.rows("SELECT sum(px) AS px, sum(fee) AS fee, max(tid) AS tid FROM hl.fills WHERE ordinal < 60")
    columns = {name: list(table[name].to_pylist() if frame == "arrow" else table[name]) for name in ("px", "fee", "tid")}
    with localcontext(prec=60):
        assert {"px": sum(columns["px"]), "fee": sum(columns["fee"]), "tid": max(columns["tid"])} == stored
    assert fills.has_more
    assert list(table.columns if frame != "arrow" else table.column_names) == list(KINDS["fills"])


def test_frames_without_rows_have_the_columns_and_types_of_those_with_rows(client: Client) -> None:
    one = client.fills("2025-11-03", "2025-11-03", wallet=WALLET, limit=1)
    none = client.fills("2025-11-04", "2025-11-04", wallet=WALLET)

    assert len(none) == 0
    assert none.to_polars().schema == one.to_polars().schema
    assert none.to_arrow().schema.types == one.to_arrow().schema.types
    assert none.to_pandas().dtypes.equals(one.to_pandas().dtypes)


def test_an_empty_list_of_a_day_that_is_not_loaded_is_not_complete(client: Client) -> None:
    none = client.fills("2025-11-04", "2025-11-04", wallet=WALLET)

    assert not none.is_complete
    assert [(run.first, run.last, run.state, run.note) for run in none.missing.days] == [
        (date(2025, 11, 4), date(2025, 11, 4), "absent", "not loaded")
    ]
    assert repr(none) == "<0 fills; INCOMPLETE: 2025-11-04: absent, not loaded>"
    assert json.loads(none.to_arrow().schema.metadata[b"coverage"]) == none.to_pandas().attrs["coverage"]


def test_missing_data_warns_or_raises_and_says_which_day_and_why(place: Place) -> None:
    told = "2025-11-02: partial, 1 of 25 objects missing: hour 7, 1 hole"
    with Client(place.api.url) as client, pytest.warns(IncompleteWarning, match=told) as found:
        client.fills("2025-11-02", "2025-11-03", wallet=WALLET, limit=1)
    assert found[0].filename == __file__
    with Client(place.api.url, on_incomplete="raise") as client:
        with pytest.raises(IncompleteError, match=told):
            client.fills("2025-11-02", "2025-11-03", wallet=WALLET, limit=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            client.fills("2025-11-03", "2025-11-03", wallet=WALLET, limit=1)


def test_pages_are_read_one_by_one_and_hold_every_row(client: Client) -> None:
    pages = [len(page) for page in client.pages.fills("2025-11-03", "2025-11-03", coin="SOL")]
    assert pages == [5_000, _FILLS - 5_000]


def test_the_async_client_gives_the_same(place: Place, client: Client) -> None:
    async def ask() -> tuple[Result, list[Result], Answer]:
        async with AsyncClient(place.api.url, on_incomplete="ignore") as asking:
            pages = [page async for page in asking.pages.fills("2025-11-03", "2025-11-03", wallet=WALLET, limit=9)]
            return await asking.twaps(WALLET, _DAY, _DAY), pages, await asking.twap(_TWAP)

    twaps, pages, twap = asyncio.run(ask())

    assert twaps == client.twaps(WALLET, _DAY, _DAY)
    assert [row for page in pages for row in page] == client.fills(_DAY, _DAY, wallet=WALLET, limit=9).rows
    assert twap == client.twap(_TWAP)


def test_twaps_have_their_figures_and_one_twap_its_events_and_coverage(place: Place, client: Client) -> None:
    twaps = client.twaps(WALLET, _DAY, _DAY)
    twap = client.twap(_TWAP)
    slices = client.twap_fills(_TWAP)

    events = place.rows("SELECT twap_id, time, size_requested FROM hl.twap_statuses ORDER BY time_ns DESC")
    [figures] = place.rows("SELECT notional_observed, slippage_bps, begins_at FROM hl.twaps")
    named = [(row["twap_id"], row["latest_ts"], row["size_requested"]) for row in twaps]
    assert named == [(row["twap_id"], row["time"], row["size_requested"]) for row in events]
    assert {name: twap["analytics"][name] for name in figures} == figures
    assert twap["analytics"]["fees"] == {"HYPE": Decimal("-7E-10")}
    assert twap["rows"][0]["raw"] == {"x": Decimal("0.1")}
    assert len(slices) == 7
    assert twap.coverage is not None
    assert [twap.is_complete, twap.coverage.is_proved] == [True, True]
    assert [twaps.is_complete, twaps.coverage.is_proved] == [True, False]
    frame = twaps.to_polars()
    assert frame.filter(frame["twap_id"] == _TWAP)["notional_observed"].to_list() == [figures["notional_observed"]]
    assert frame["fees"].to_list()[-1] == '{"HYPE": "-0.0000000007"}'


def test_statistics_candles_and_leaderboards_are_those_of_the_database(place: Place, client: Client) -> None:
    [stats] = client.stats(_DAY, _DAY)
    [summed] = client.stats(_DAY, _DAY, period="month", top=1)
    ranked = client.leaderboard("volume", start=_DAY, end=_DAY)
    candles = client.candles("SOL", "2025-11-03T12:00:00Z", datetime(2025, 11, 3, 12, 1, tzinfo=UTC))

    [stored] = place.rows("SELECT notional, fees FROM hl.daily_stats")
    assert (stats["notional"], stats["fees"]) == (stored["notional"], {"USDC": Decimal("1.10")})
    assert (summed["period_start"], summed["notional"]) == (date(2025, 11, 1), stored["notional"])
    assert [(row["rank"], row["wallet"], row["notional"]) for row in ranked] == [
        (1, WALLET, Decimal(_PX[2])),
        (None, OTHER, None),
    ]
    minutes = place.rows("SELECT time, open FROM hl.candles ORDER BY time LIMIT 2")
    assert [{"time": row["time"], "open": row["open"]} for row in candles] == minutes
    assert [row["wallet"] for row in client.wallet_stats(_DAY, _DAY)] == [WALLET, OTHER]
    assert [row["builder"] for row in client.leaderboard("builders", start=_DAY, end=_DAY)] == [_BUILDER]
    assert client.leaderboard("twaps", start=_DAY, end=_DAY)[0]["twaps"] == 1
    assert client.builders(_DAY, _DAY)[0]["notional"] == Decimal(_PX[3])
    assert client.wallet(WALLET, start=_DAY, end=_DAY)["closed_pnl"] == Decimal("-5.5")
    assert client.twap_flow("SOL", at="2025-11-03T12:30:00Z")["px"] == Decimal(2)


def test_coverage_is_a_list_of_days_that_is_complete_only_if_each_day_is(client: Client) -> None:
    days = client.coverage("2025-11-02", "2025-11-04", what="fills")
    hours = client.coverage_hours("2025-11-02", "2025-11-02", is_hole=True)

    assert [(row["date"].day, row["state"]) for row in days] == [(2, "incomplete"), (3, "whole"), (4, "never asked for")]
    assert [run.first.day for run in days.missing.days] == [2, 4]
    assert client.coverage(_DAY, _DAY, what="fills").is_complete
    assert not client.coverage(_DAY - timedelta(1), _DAY - timedelta(1)).is_complete
    assert [(row["object_hour"], row["state"]) for row in hours] == [(7, "missing")]


def test_the_cost_is_the_sum_of_the_ledger_with_requests_under_way(place: Place, client: Client) -> None:
    cost = client.cost(start="2025-11-03", end=_DAY)

    [stored] = place.rows("SELECT count(*) AS requests, sum(dollars) AS dollars FROM hl.s3_requests")
    assert {name: cost[name] for name in stored} == stored == {"requests": 3, "dollars": Decimal("0.0000012")}
    assert (cost["failed_requests"], cost["received_bytes"]) == (1, 201)
    spent = {name: cost[name] for name in ("requests", "failed_requests", "received_bytes", "dollars")}
    assert cost["buckets"] == [{"bucket": "bucket", **spent}]
    assert cost["months"] == [{"month": date(2025, 11, 1), **spent}]
    assert client.cost(start="2025-11-04")["dollars"] == client.cost(end="2025-11-02")["dollars"] == 0


def test_errors_carry_the_words_of_the_api(client: Client) -> None:
    with pytest.raises(WrongParameterError, match="end: must not be before start") as wrong:
        client.fills("2025-11-03", "2025-11-01", wallet="0x1")
    assert set(wrong.value.problems) == {"end", "wallet"}
    with pytest.raises(NotFoundError, match=r"no coin 'sol' is in the loaded days; did you mean SOL\?") as unknown:
        client.candles("sol", _DAY, _DAY)
    assert (unknown.value.candidates, unknown.value.status) == (["SOL"], 404)
    assert unknown.value.request_id
    with pytest.raises(NotFoundError, match="TWAP ID 5 not found"):
        client.twap(5)


def test_what_cannot_be_a_question_is_refused_before_it_is_sent(client: Client) -> None:
    with pytest.raises(ValueError, match="start: 2025-11-03 00:00:00 has no time zone"):
        client.fills(datetime(2025, 11, 3), _DAY, wallet=WALLET)  # noqa: DTZ001
    with pytest.raises(ValueError, match="limit: must be at least 1, not 0"):
        client.fills(_DAY, _DAY, wallet=WALLET, limit=0)
    with pytest.raises(ValueError, match="url: must begin with http"):
        Client("localhost:8000")


def test_the_key_is_that_of_the_argument_or_of_the_environment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "k" * 43
    with serving(place.url, HL_API_KEYS=f"me:{hashlib.sha256(key.encode()).hexdigest()}") as guarded:
        with Client(guarded.url) as client, pytest.raises(AccessError, match="a key is required"):
            client.cost()
        with Client(guarded.url, key=key) as client:
            assert client.cost()["requests"] == 3
        monkeypatch.setenv("HL_API_URL", guarded.url)
        monkeypatch.setenv("HL_API_KEY", key)
        with Client() as client:
            assert client.cost()["requests"] == 3


def test_the_columns_and_types_are_those_of_the_api(place: Place) -> None:
    schemas = place.api.get("/openapi.json")["components"]["schemas"]
    of = {
        "fills": "Fill", "twap_events": "TwapEvent", "candles": "Candle", "daily_stats": "DailyStats", "builders": "Builder",
        "daily_stats_by": "PeriodOfCoin", "user_stats": "UserStats", "user_stats_by": "PeriodOfWallet",
        "wallets_ranked": "RankedWallet", "twaps_ranked": "TwapsOfWallet", "coverage_days": "JudgedDay", "coverage_hours": "Hour",
        "builders_ranked": "RankedBuilder",
    }  # fmt: skip
    assert {*of, "twaps"} == set(KINDS)
    for kind, name in of.items():
        properties = schemas[name]["properties"]
        assert set(KINDS[kind]) == set(properties), kind
        assert {column: type_of(column) for column in properties} == {c: _type(c, p) for c, p in properties.items()}, kind
    inner = {**schemas["ListedTwap"]["properties"], **schemas["Analytics"]["properties"]}
    assert set(KINDS["twaps"]) == set(inner) - {"executed", "analytics", "coin"}
    for name in ("ListedTwap", "Analytics", "Flow", "WalletSummary", "TwapsOfSummary", "Cost", "SpentInMonth", "TwapFlow"):
        decimals = {c for c, p in schemas[name]["properties"].items() if _type(c, p) == "decimal"}
        assert {type_of(column) for column in decimals} <= {"decimal"}, name


def _type(column: str, schema: dict[str, Any]) -> str:
    """What a property of /openapi.json is, from its form and not from its name."""
    if column in ("twap_id", "block_time_ns"):
        return "integer"
    if column in ("raw", "extra", "fees", "sources", "missing_ranges", "edges"):
        return "json"
    [kind] = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    if kind.get("pattern", "").startswith(r"^-?\d+("):
        return "decimal"
    formats = {"date-time": "instant", "date": "day"}
    return formats.get(kind.get("format", ""), {"integer": "integer", "boolean": "boolean"}.get(kind.get("type"), "text"))


def test_a_decimal_that_does_not_fit_a_frame_is_an_error_and_stays_in_the_rows() -> None:
    from hl_client import Coverage

    rows = [{"px": Decimal("0.00000000001")}]
    result = Result("fills", rows, Coverage(()))
    for frame in (result.to_polars, result.to_arrow, result.to_pandas):
        with pytest.raises(ValueError, match=r"px: 1E-11 does not fit decimal\(38, 10\)"):
            frame()
    assert decimal_scale("px") == 10


def test_every_list_has_a_method_on_both_clients_and_in_pages() -> None:
    lists = {name for name in vars(Lists) if not name.startswith("_")}
    assert {"twaps", "twap_fills", "fills", "candles", "stats", "wallet_stats", "leaderboard", "builders"} < lists
    assert all(hasattr(one, name) for one in (Client, AsyncClient) for name in lists)
