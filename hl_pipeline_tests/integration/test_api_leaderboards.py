"""Leaderboards, builders, wallets and the flow of TWAPs equal a second, naive computation, page by page and in each format."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Generator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.naive import leaderboards as naive
from hl_pipeline_tests.profiles import few
from hl_pipeline_tests.servers.api import Api, add, at, serving, twap_row

BOARDS = "/api/v1/leaderboards"
FIRST, LAST = date(2025, 9, 22), date(2025, 10, 5)
DAYS = [FIRST + timedelta(number) for number in range((LAST - FIRST).days + 1)]
SPAN = {"start": str(FIRST), "end": str(LAST)}
WALLETS = ["0x" + f"{number:040x}" for number in range(12)]
BUILDERS = [*("0x" + f"{number:040x}" for number in range(100, 105)), None]
COINS = ["SOL", "@107", "xyz:TSLA"]
SORTS = {
    "volume": ("notional", "maker_notional", "taker_notional", "fills"),
    "pnl": ("closed_pnl", "net_pnl"),
    "fees": ("fees_in_quote",),
    "twaps": ("twaps", "notional", "slices", "closed_pnl"),
    "builders": ("fees_in_quote", "notional", "fills"),
}


def _perhaps(chance: random.Random, value: Any, unknown: float = 0.02) -> Any:
    return None if chance.random() < unknown else value


def _users() -> list[dict[str, Any]]:
    """Some days of twelve wallets, with equal figures, unknown ones, and bookings that are no trades. The last one only has
    bookings."""
    chance = random.Random(3)
    rows: list[dict[str, Any]] = []
    for day in DAYS:
        for wallet in WALLETS:
            if chance.random() < 0.4:
                continue
            time = datetime(day.year, day.month, day.day, chance.randrange(20), tzinfo=UTC)
            fees = {"USDC": str(Decimal(chance.randrange(-50, 400)) / 100), "HYPE": str(Decimal(chance.randrange(9)) / 10**8)}
            traded = wallet != WALLETS[-1]
            rows.append(
                {
                    "date": day,
                    "wallet": wallet,
                    "fills": chance.randrange(1, 4) * traded,
                    "non_market_rows": chance.randrange(3) if traded else 7,
                    "maker_notional": _perhaps(chance, Decimal(chance.randrange(3)) * 100 * traded),
                    "taker_notional": Decimal(chance.choice([0, 100, 10**17 + 1])) / 10**8 * traded,
                    "closed_pnl": _perhaps(chance, Decimal(chance.choice([0, 0, 5, -5, 12345678901])) / 10**7),
                    "fees": _perhaps(chance, fees),
                    "fees_in_quote": _perhaps(chance, Decimal(fees["USDC"]) + Decimal(chance.randrange(10**6)) / 10**20),
                    "is_complete": chance.choice([True, True, True, False, None]),
                    "coins": chance.randrange(1, 5),
                    "first_fill": time,
                    "last_fill": time + timedelta(hours=1),
                }
            )
    return rows


def _builders() -> list[dict[str, Any]]:
    chance = random.Random(4)
    return [
        {
            "date": day,
            "builder": builder,
            "coin": coin,
            "fills": chance.randrange(4),
            "non_market_rows": chance.randrange(2),
            "fills_with_fee": chance.randrange(2),
            "notional": _perhaps(chance, Decimal(chance.randrange(4)) / 10**20),
            "fees_in_quote": _perhaps(chance, Decimal(chance.randrange(3)) / 4),
            "fees": _perhaps(chance, {"USDC": str(Decimal(chance.randrange(3)) / 4)} if chance.random() < 0.8 else {}),
            "is_complete": chance.choice([True, True, False]),
        }
        for day in DAYS
        for builder in BUILDERS
        for coin in COINS
        if chance.random() < 0.4
    ]


def _twaps() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """TWAPs of any kind, and their slices: not begun, without an end, a size or a duration, ended early or late."""
    chance = random.Random(6)
    rows: list[dict[str, Any]] = []
    slices: list[dict[str, Any]] = []
    for twap_id in range(1, 241):
        placed = at("2025-09-25 00:00") + timedelta(milliseconds=chance.randrange(4 * 86_400_000))
        minutes = _perhaps(chance, chance.choice([5, 30, 720, 1440]), 0.1)
        begins = _perhaps(chance, placed, 0.05)
        length = timedelta(minutes=minutes or 60)
        ends = _perhaps(chance, placed + length * chance.choice([0.3, 0.99, 1.01]), 0.3)
        planned = None if minutes is None or begins is None else begins + length
        own: list[dict[str, Any]] = []
        for number in range(chance.randrange(4) if begins else 0):
            time = placed + timedelta(
                milliseconds=round(number / 4 * ((ends or placed + length) - placed) / timedelta(milliseconds=1))
            )
            sz, px = Decimal(chance.randrange(1, 10**12)) / 10**10, Decimal(chance.randrange(1, 10**12)) / 10**8
            own.append({"twap_id": twap_id, "time": time, "sz": sz, "px": px, "tid": twap_id * 10 + number})
        seen_to = max(filter(None, [placed + timedelta(minutes=(minutes or 4320) + 1), ends, *(one["time"] for one in own)]))
        rows.append(
            {
                "twap_id": twap_id,
                "wallet": chance.choice(WALLETS),
                "coin": chance.choice([*COINS, "SOL", "SOL"]),
                "side": chance.choice("AB"),
                "verdict": "match" if ends else "running",
                "started_at": placed,
                "begins_at": begins,
                "planned_end": planned,
                "ended_at": ends,
                "size_requested": _perhaps(chance, Decimal(chance.randrange(1, 10**13)) / 10**10, 0.1),
                "fills": len(own),
                "slices": len(own),
                "size_observed": sum((one["sz"] for one in own), Decimal(0)),
                "notional_observed": sum((one["px"] * one["sz"] for one in own), Decimal(0)),
                "first_slice_at": own[0]["time"] if own else None,
                "last_slice_at": own[-1]["time"] if own else None,
                "closed_pnl": _perhaps(chance, Decimal(chance.randrange(-2, 3))),
                "fees": _perhaps(chance, {"USDC": "0.5"} if own else {}),
                "is_complete": chance.choice([True, True, False, None]),
                "seen_from": placed - timedelta(hours=1),
                "seen_to": seen_to,
            }
        )
        slices += own
    return rows, slices


USERS, BUILDER_ROWS, (TWAPS, SLICES) = _users(), _builders(), _twaps()
# The fills of this day are only in the lake.
THINNED = date(2025, 9, 26)
PX = Decimal("195.1234567891")


def _insert(connection: psycopg.Connection) -> None:
    coins = {row["twap_id"]: row for row in TWAPS}
    with connection.transaction():
        add(connection, "user_stats", *(_as_json(row) for row in USERS))
        add(connection, "builder_stats", *(_as_json(row) for row in BUILDER_ROWS))
        add(connection, "daily_stats", *({"date": FIRST, "coin": coin} for coin in COINS))
        add(connection, "candles", {"coin": "SOL", "time": at("2025-09-26 11:59"), "date": THINNED, "close": PX})
        for row in TWAPS:
            add(connection, "twaps", _as_json({**twap_row(row["twap_id"], row["begins_at"]), **row}))
        for one in SLICES:
            if one["time"].date() == THINNED:
                continue
            owner = {name: coins[one["twap_id"]][name] for name in ("coin", "wallet", "side")}
            add(connection, "fills", {**one, **owner})
        days = {(one["twap_id"], one["time"].date()) for one in SLICES}
        add(connection, "twap_slice_days", *({"twap_id": twap_id, "date": day} for twap_id, day in sorted(days)))
    made = dict.fromkeys(("user_stats_at", "builder_stats_at", "daily_stats_at"), at("2025-10-06 00:00"))
    for day in DAYS:
        thinned = {"thinned_at": at("2025-10-20 00:00") if day == THINNED else None}
        add(connection, "fills_days", {"date": day, **made, **thinned})
        add(connection, "twap_days", {"date": day, "twaps_at": at("2025-10-06 00:00")})
    # A day that still grows does not end a period, and a day without a source neither.
    add(connection, "fills_days", {"date": LAST + timedelta(1), "state": "pending", **made})
    add(connection, "twap_days", {"date": LAST + timedelta(1), "state": "pending", "twaps_at": at("2025-10-06 00:00")})
    add(connection, "fills_days", {"date": LAST + timedelta(2), "state": "no source", **made})


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "fees": None if row["fees"] is None else Json(row["fees"])}


@pytest.fixture(scope="module")
def api(new_database: NewDatabase) -> Generator[Api]:
    url = new_database()
    with connect(url, "test") as connection:
        _insert(connection)
    with serving(url) as api:
        yield api


def _totals(board: str, first: date, last: date, coin: str | None) -> dict[str, dict[str, Any]]:
    if board == "builders":
        rows = [row for row in BUILDER_ROWS if first <= row["date"] <= last and coin in (None, row["coin"])]
        return naive.totals_of_builders(rows)
    if board == "twaps":
        begun = [row for row in TWAPS if row["begins_at"] and first <= row["begins_at"].date() <= last]
        return naive.totals_of_twaps(row for row in begun if coin in (None, row["coin"]))
    return naive.totals_of_wallets(row for row in USERS if first <= row["date"] <= last)


def _as_answered(value: Any) -> Any:
    """A row of the naive way as JSON has it."""
    if isinstance(value, dict):
        return {name: _as_answered(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_as_answered(one) for one in value]
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S") + (f".{value.microsecond // 1000:03}" if value.microsecond else "") + "Z"
    return value


@pytest.mark.parametrize("board", few(["volume", "twaps", "builders", "pnl", "fees"], 2))
def test_a_leaderboard_is_what_the_second_way_gives_in_pages_of_any_size(api: Api, board: str) -> None:
    for number, sort in enumerate(SORTS[board]):
        for order, top, (first, last), coin in (
            ("desc", None, (FIRST, LAST), None),
            ("asc", None, (DAYS[3], DAYS[6]), None),
            ("desc", 3, (DAYS[4], DAYS[4]), None),
            ("asc", 2, (FIRST, LAST), "SOL" if board in ("twaps", "builders") else None),
        ):
            asked: dict[str, Any] = {"start": first, "end": last, "sort": sort, "order": order}
            asked |= ({"top": top} if top else {}) | ({"coin": coin} if coin else {})
            answer = api.get(f"{BOARDS}/{board}", **asked, limit=5000)
            expected = _as_answered(naive.ranked(_totals(board, first, last, coin), sort, order, top))
            assert answer["ranking"] == expected, (sort, order)
            assert expected
            head = {"leaderboard": board, "sort": sort, "order": order, "top": top, "start": str(first), "end": str(last)}
            assert head.items() <= answer.items()
            assert answer["period"] is None
            for limit in (1, 4) if number == 0 else (3,):
                pages = api.pages(f"{BOARDS}/{board}", "ranking", **asked, limit=limit)
                assert [row for page in pages for row in page] == answer["ranking"]


def test_the_rows_have_ties_unknown_values_and_an_unknown_builder() -> None:
    wallets = naive.ranked(_totals("pnl", DAYS[4], DAYS[4], None), "closed_pnl")
    ranks = [row["rank"] for row in wallets if row["rank"] is not None]
    assert len(ranks) > len(set(ranks))
    assert None in [row["rank"] for row in naive.ranked(_totals("volume", FIRST, LAST, None), "notional")]
    assert "" in _totals("builders", FIRST, LAST, None)
    assert any(row["begins_at"] is None for row in TWAPS)


@pytest.mark.parametrize(("period", "days"), [("1d", 1), ("7d", 7), ("30d", 30), ("90d", 90)])
def test_a_period_ends_on_the_newest_day_that_is_loaded_and_over(api: Api, period: str, days: int) -> None:
    for board in ("volume", "twaps", "builders"):
        answer = api.get(f"{BOARDS}/{board}", period=period)
        start = LAST - timedelta(days - 1)
        assert (answer["period"], answer["start"], answer["end"]) == (period, str(start), str(LAST))
        assert answer["ranking"] == api.get(f"{BOARDS}/{board}", start=start, end=LAST)["ranking"]
        runs = [(run["from"], run["to"], run["state"]) for run in answer["coverage"]]
        state = "unprovable" if board == "twaps" else "whole"
        assert runs[-1] == (str(max(start, FIRST)), str(LAST), state)
        assert (days > 14) == (runs[0] == (str(start), "2025-09-21", "absent"))


def test_the_pages_of_a_period_have_the_same_days_when_another_day_is_loaded(database_url: str) -> None:
    times = {"first_fill": at("2025-09-01 00:00"), "last_fill": at("2025-09-01 00:00")}
    figures = {"maker_notional": 1, "taker_notional": 1, **times}
    with connect(database_url, "test") as connection, serving(database_url) as api:
        add(connection, "user_stats", *({"date": "2025-09-01", "wallet": wallet, **figures} for wallet in WALLETS[:3]))
        add(connection, "fills_days", {"date": "2025-09-01", "user_stats_at": at("2025-09-02 00:00")})
        first = api.get(f"{BOARDS}/volume", period="1d", limit=2)
        add(connection, "fills_days", {"date": "2025-09-02", "user_stats_at": at("2025-09-03 00:00")})
        second = api.get(f"{BOARDS}/volume", period="1d", limit=2, cursor=first["next_cursor"])
        assert [row["wallet"] for row in first["ranking"] + second["ranking"]] == WALLETS[:3]
        assert [row["rank"] for row in first["ranking"] + second["ranking"]] == [1, 1, 1]
        assert (second["start"], second["end"]) == ("2025-09-01", "2025-09-01")
        assert api.get(f"{BOARDS}/volume", period="1d")["start"] == "2025-09-02"


@pytest.mark.parametrize("chosen", ["csv", "parquet"])
@pytest.mark.parametrize("path", [*(f"leaderboards/{board}" for board in SORTS), "builders"])
def test_a_file_has_the_rows_of_the_json(api: Api, path: str, chosen: str) -> None:
    whole = api.get(f"/api/v1/{path}", **SPAN, limit=5000)
    rows = whole["builders" if path == "builders" else "ranking"]
    response = api.ask(f"/api/v1/{path}", **SPAN, format=chosen)
    assert response.status_code == 200, response.text
    if chosen == "csv":
        found: list[dict[str, Any]] = [*csv.DictReader(io.StringIO(response.text, newline=""))]
    else:
        found = pq.read_table(io.BytesIO(response.content)).to_pylist()
    assert [[*row] for row in found] == [[*row] for row in rows]
    for name in rows[0]:
        if name in ("notional", "fees_in_quote", "net_pnl", "closed_pnl", "fills", "rank"):
            assert [_number(row[name]) for row in found] == [_number(row[name]) for row in rows], name
    assert "whole" in response.headers["X-Coverage"] or "unprovable" in response.headers["X-Coverage"]


def _number(value: object) -> Decimal | None:
    return None if value in (None, "") else Decimal(str(value))


def test_builders_are_listed_by_address_with_their_sums(api: Api) -> None:
    for coin in (None, "@107"):
        asked: dict[str, Any] = {"start": DAYS[2], "end": DAYS[9]} | ({"coin": coin} if coin else {})
        totals = _totals("builders", DAYS[2], DAYS[9], coin)
        answer = api.get("/api/v1/builders", **asked)
        assert answer["builders"] == _as_answered([totals[name] for name in sorted(totals)])
        pages = api.pages("/api/v1/builders", "builders", **asked, limit=2)
        assert [row for page in pages for row in page] == answer["builders"]
        assert [run["state"] for run in answer["coverage"]] == ["whole"]


def test_a_wallet_is_summed_up_over_all_days_or_some(api: Api) -> None:
    for wallet in WALLETS:
        for asked, (first, last) in (({}, (FIRST, LAST)), ({"start": DAYS[3], "end": DAYS[5]}, (DAYS[3], DAYS[5]))):
            answer = api.get(f"/api/v1/wallets/{wallet.upper().replace('0X', '0x')}", **asked)
            rows = [row for row in USERS if row["wallet"] == wallet and first <= row["date"] <= last]
            placed = [
                row
                for row in TWAPS
                if row["wallet"] == wallet and first <= (row["begins_at"] or row["started_at"]).date() <= last
            ]
            if rows:
                total = _as_answered(naive.totals_of_wallets(rows)[wallet])
                assert {name: answer[name] for name in total} == total
                assert answer["most_coins_in_a_day"] == max(row["coins"] for row in rows)
                assert answer["non_market_rows"] == sum(row["non_market_rows"] for row in rows)
            _has_sums_of_twaps(answer["twaps"], placed)
            coins = {one["coin"]: one for one in answer["twaps"]["coins"]}
            assert coins.keys() == {row["coin"] for row in placed}
            for coin, one in coins.items():
                _has_sums_of_twaps(one, [row for row in placed if row["coin"] == coin])
            assert (answer["start"], answer["wallet"]) == (str(first), wallet)
            assert [answer[name][0]["from"] for name in ("coverage", "coverage_of_twaps")] == [str(first)] * 2


def _has_sums_of_twaps(answer: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    expected = _as_answered(naive.of_twaps(rows))
    expected |= {"not_begun": sum(row["begins_at"] is None for row in rows)}
    expected |= {"running": sum(row["verdict"] == "running" for row in rows)}
    for name in set(expected) - {"coins", "is_complete"}:
        assert answer[name] == expected[name], name


def test_a_wallet_without_rows_did_nothing_on_the_days_that_are_loaded(api: Api, database_url: str) -> None:
    nobody = "0x" + "99" * 20
    answer = api.get(f"/api/v1/wallets/{nobody}")
    nothing = {"first_fill": None, "fills": 0, "notional": "0", "closed_pnl": "0", "fees": {}, "is_complete": None}
    assert nothing.items() <= answer.items()
    assert (answer["twaps"]["twaps"], answer["twaps"]["coins"]) == (0, [])
    assert (answer["coverage"][0]["to"], answer["coverage"][0]["state"]) == (str(LAST), "whole")
    with serving(database_url) as empty:
        assert [run["state"] for run in empty.get(f"/api/v1/wallets/{nobody}")["coverage"]] == ["absent"]


def test_the_flow_of_twaps_at_any_moment_is_what_the_second_way_gives(api: Api) -> None:
    chance = random.Random(9)
    # Moments of slices, ends and beginnings are among them, since they are the edges.
    edges = [row[name] for row in TWAPS for name in ("begins_at", "planned_end", "ended_at", "last_slice_at") if row[name]]
    moments = [at("2025-09-26 12:00"), at("2025-09-26 12:30"), *chance.sample(edges, 25)]
    moments += [at("2025-09-25 00:00") + timedelta(milliseconds=chance.randrange(5 * 86_400_000)) for _ in range(25)]
    unknown = [0, 0]
    for moment in moments:
        coin = chance.choice(COINS) if moment > moments[1] else "SOL"
        known = coin == "SOL" and at("2025-09-26 12:00") <= moment < at("2025-09-26 13:00")
        answer = api.get(f"/api/v1/coins/{coin.replace('/', '%2F')}/twap-flow", at=moment.isoformat())
        expected = naive.flow([row for row in TWAPS if row["coin"] == coin], SLICES, {THINNED}, moment, PX if known else None)
        assert {name: answer[name] for name in expected} == expected, moment
        unknown[0] += answer["executed"]["unknown"]
        unknown[1] += answer["next_1h"]["unknown"]
        assert answer["coverage"][0]["from"] == str((moment - timedelta(days=3)).date())
    assert min(unknown) > 0


def test_a_coin_with_a_slash_has_a_flow_and_an_unknown_coin_is_refused(database_url: str) -> None:
    with connect(database_url, "test") as connection:
        add(connection, "daily_stats", {"date": FIRST, "coin": "PURR/USDC"})
    with serving(database_url) as api:
        answer = api.get("/api/v1/coins/PURR%2FUSDC/twap-flow", at="2025-09-26")
        assert (answer["coin"], answer["at"], answer["px"]) == ("PURR/USDC", "2025-09-26T00:00:00Z", None)
        zero = dict.fromkeys(("known_buy_size", "known_sell_size", "net_size", "gross_size"), "0")
        assert answer["next_1h"] == {"unknown": 0, **zero, "net_notional": "0", "gross_notional": "0"}
        for path, asked in (
            ("/api/v1/coins/purr%2Fusdc/twap-flow", {"at": "2025-09-26"}),
            (f"{BOARDS}/twaps", {**SPAN, "coin": "purr/usdc"}),
            (f"{BOARDS}/builders", {**SPAN, "coin": "purr/usdc"}),
            ("/api/v1/builders", {**SPAN, "coin": "purr/usdc"}),
        ):
            refused = api.ask(path, **asked)
            assert (refused.status_code, refused.json()["candidates"]) == (404, ["PURR/USDC"]), path


def test_a_ranking_that_cannot_be_is_refused_by_name(api: Api, database_url: str) -> None:
    board = f"{BOARDS}/volume"
    assert api.refuses(board) == {"period": "give start and end, or a period"}
    assert api.refuses(board, start="2025-09-22") == {"period": "give start and end, or a period"}
    assert api.refuses(board, **SPAN, period="7d") == {"period": "cannot be combined with start or end"}
    assert api.refuses(board, start="2025-09-22", end="2025-09-21") == {"end": "must not be before start"}
    assert api.refuses(board, period="2w") == {"period": "must be '1d', '7d', '30d' or '90d'"}
    assert api.refuses(f"{BOARDS}/pnl", **SPAN, sort="notional") == {"sort": "must be 'closed_pnl' or 'net_pnl'"}
    assert api.refuses(board, **SPAN, top=0) == {"top": "must be at least 1"}
    assert "coin" in api.refuses(board, **SPAN, coin="SOL")
    cursor = api.get(board, **SPAN, limit=1)["next_cursor"]
    assert set(api.refuses(board, **SPAN, sort="fills", cursor=cursor)) == {"cursor"}
    assert set(api.refuses("/api/v1/wallets/0x12")) == {"wallet"}
    assert set(api.refuses("/api/v1/coins/SOL/twap-flow")) == {"at"}
    assert set(api.refuses("/api/v1/coins/SOL/twap-flow", at="2025-09-26", hours=2)) == {"hours"}
    with serving(database_url) as empty:
        assert empty.refuses(board, period="7d") == {"period": "no day is loaded yet: give start and end"}
