"""Candles of any interval, statistics by period and rank: exact to the digit, page by page, in each format."""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from collections.abc import Generator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.profiles import few
from hl_pipeline_tests.servers.api import Api, add, at, serving

CANDLES, DAILY, USERS = "/api/v1/candles", "/api/v1/stats/daily", "/api/v1/stats/users"
MINUTES = {"5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
# Two whole weeks that begin on a Monday, the last one in two months.
FIRST, LAST = date(2025, 9, 22), date(2025, 10, 5)
SPAN = {"start": str(FIRST), "end": str(LAST)}
WALLETS = ["0x" + f"{number:040x}" for number in range(12)]
every_format = pytest.mark.parametrize("chosen", ["csv", "parquet"])


def _candles() -> list[dict[str, Any]]:
    """Some minutes of three days, with gaps of minutes and hours, figures of many digits; one minute's sums are unknown."""
    chance = random.Random(5)
    rows: list[dict[str, Any]] = []
    for minute in range(3 * 1440):
        # No minute in a part of the second day, few in the first hours.
        if 1440 + 300 <= minute < 1440 + 800 or chance.random() < (0.98 if minute < 500 else 0.4):
            continue
        low, high = sorted(Decimal(chance.randrange(1, 10**17)) / 10**10 for _ in range(2))
        time = at("2025-09-22 00:00") + timedelta(minutes=minute)
        row: dict[str, Any] = {"coin": "SOL", "time": time, "date": time.date(), "trades": chance.randrange(1, 9)}
        row |= {"low": low, "high": high, "open": low, "close": high} if chance.random() < 0.5 else {}
        row = {"low": low, "high": high, "open": high, "close": low, **row}
        row |= {"volume": Decimal(chance.randrange(10**26)) / 10**10, "notional": Decimal(chance.randrange(10**28)) / 10**20}
        rows.append(row)
    rows[-1] |= {"volume": None, "notional": None}
    return rows


def _users() -> list[dict[str, Any]]:
    """Twelve wallets over two weeks; who has a row on which day, which sums are unknown, and equal figures, by chance."""
    chance = random.Random(8)
    rows: list[dict[str, Any]] = []
    for number in range((LAST - FIRST).days + 1):
        for wallet in WALLETS:
            if chance.random() < 0.3:
                continue
            day = FIRST + timedelta(number)
            time = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
            maker = None if chance.random() < 0.03 else Decimal(chance.randrange(3)) * 100
            fees = {"USDC": str(Decimal(chance.randrange(1, 400)) / 100)}
            rows.append(
                {
                    "date": day,
                    "wallet": wallet,
                    "fills": chance.randrange(1, 5),
                    "maker_notional": maker,
                    "taker_notional": Decimal(chance.randrange(10**12)) / 10**8,
                    "closed_pnl": Decimal(chance.randrange(-(10**9), 10**9)) / 10**7,
                    "fees": fees,
                    "fees_in_quote": Decimal(fees["USDC"]),
                    "first_fill": time,
                    "last_fill": time + timedelta(hours=1),
                }
            )
    return rows


CANDLE_ROWS, USER_ROWS = _candles(), _users()
DAILY_ROWS = [
    {"date": FIRST + timedelta(number), "coin": coin, "notional": Decimal(number * place), "volume": Decimal(2), "trades": number}
    for number in range((LAST - FIRST).days + 1)
    for place, coin in enumerate(["ETH", "BTC", "@107", "xyz:TSLA"])
]


@pytest.fixture(scope="module")
def api(new_database: NewDatabase) -> Generator[Api]:
    url = new_database()
    with connect(url, "test") as connection:
        _insert(connection)
    with serving(url) as api:
        yield api


def _insert(connection: psycopg.Connection) -> None:
    with connection.transaction():
        add(connection, "candles", *CANDLE_ROWS, {"coin": "BTC", "time": at("2025-09-22 00:00"), "date": FIRST})
        add(connection, "user_stats", *({**row, "fees": Json(row["fees"])} for row in USER_ROWS))
        add(connection, "daily_stats", *DAILY_ROWS, {"date": FIRST, "coin": "SOL"})
    for number in range((LAST - FIRST).days + 1):
        made = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at"), at("2025-10-06 00:00"))
        add(connection, "fills_days", {"date": FIRST + timedelta(number), **made})


def _plain(number: Decimal | None) -> str | None:
    text = None if number is None else f"{number:f}"
    return text.rstrip("0").rstrip(".") if text and "." in text else text


def _expected(start: datetime, end: datetime, minutes: int) -> list[dict[str, Any]]:
    """The candles that begin from `start` to `end`, made of the minutes one by one."""
    groups: defaultdict[datetime, list[dict[str, Any]]] = defaultdict(list)
    for row in CANDLE_ROWS:
        midnight = row["time"].replace(hour=0, minute=0)
        begin = midnight + (row["time"] - midnight) // timedelta(minutes=minutes) * timedelta(minutes=minutes)
        groups[begin].append(row)
    made: list[dict[str, Any]] = []
    for begin in sorted(groups):
        if not start <= begin <= end:
            continue
        rows = sorted(groups[begin], key=lambda row: row["time"])
        with localcontext(prec=60):
            sums = {
                name: None if any(row[name] is None for row in rows) else sum((row[name] for row in rows), Decimal())
                for name in ("volume", "notional")
            }
        prices = {
            "open": rows[0]["open"],
            "high": max(row["high"] for row in rows),
            "low": min(row["low"] for row in rows),
            "close": rows[-1]["close"],
        }
        made.append(
            {
                "coin": "SOL",
                "time": f"{begin:%Y-%m-%dT%H:%M:%SZ}",
                **{name: _plain(value) for name, value in (prices | sums).items()},
                "trades": sum(row["trades"] for row in rows),
                "date": f"{begin:%Y-%m-%d}",
            }
        )
    return made


@pytest.mark.parametrize("interval", few([*MINUTES], 2))
def test_a_candle_of_any_interval_is_made_of_all_its_minutes(api: Api, interval: str) -> None:
    for start, end in (
        ("2025-09-22", "2025-09-24"),
        ("2025-09-22T00:07:00Z", "2025-09-24T13:59:59.5Z"),
        ("2025-09-23T23:59:00Z", "2025-09-24T00:00:00Z"),
        ("2025-09-22T23:59:59.999999Z", "2025-09-23T04:00:00Z"),
    ):
        answer = api.get(CANDLES, coin="SOL", interval=interval, start=start, end=end, limit=5000)
        first, last = datetime.fromisoformat(answer["start"]), datetime.fromisoformat(answer["end"])
        assert answer["candles"] == _expected(first, last, MINUTES[interval])
        assert answer["interval"] == interval
        for limit in (7, 1 if len(answer["candles"]) < 60 else 100):
            pages = api.pages(CANDLES, "candles", coin="SOL", interval=interval, start=start, end=end, limit=limit)
            assert [row for page in pages for row in page] == answer["candles"]


def test_a_minute_is_the_interval_that_is_not_asked_for(api: Api) -> None:
    asked = {"coin": "SOL", "start": "2025-09-22", "end": "2025-09-22", "limit": 5000}
    answer = api.get(CANDLES, **asked)
    assert answer["candles"] == _expected(at("2025-09-22 00:00"), at("2025-09-22 23:59:59"), 1)
    assert answer == api.get(CANDLES, **asked, interval="1m")
    message = {"interval": "must be '1m', '5m', '15m', '1h', '4h' or '1d'"}
    assert api.refuses(CANDLES, **asked | {"interval": "2h"}) == message
    cursor = api.get(CANDLES, **asked | {"limit": 1})["next_cursor"]
    wrong = {"cursor": "is not a next_cursor of this path with these parameters"}
    assert api.refuses(CANDLES, **asked, interval="1h", cursor=cursor) == wrong


def _rows(api: Api, path: str, chosen: str, **parameters: Any) -> list[dict[str, Any]]:
    """The rows of a file, as JSON would have them."""
    response = api.ask(path, **parameters, format=chosen)
    assert response.status_code == 200, response.text
    if chosen == "csv":
        return [
            {name: value or None for name, value in row.items()}
            for row in csv.DictReader(io.StringIO(response.text, newline=""), strict=True)
        ]
    return [
        {name: _plain(value) if isinstance(value, Decimal) else value for name, value in row.items()}
        for row in pq.read_table(io.BytesIO(response.content)).to_pylist()
    ]


@every_format
@pytest.mark.parametrize("interval", ["1m", "4h"])
def test_candles_as_a_file_are_those_of_json(api: Api, chosen: str, interval: str) -> None:
    asked = {"coin": "SOL", "interval": interval, "start": "2025-09-22", "end": "2025-09-24"}
    truth = _expected(at("2025-09-22 00:00"), at("2025-09-24 23:59:59"), MINUTES.get(interval, 1))
    found = _rows(api, CANDLES, chosen, **asked)
    assert len(found) == len(truth) > (500 if interval == "1m" else 10)
    assert [*found[0]] == [*truth[0]]
    for name in ("open", "high", "low", "close", "volume", "notional"):
        assert [row[name] for row in found] == [row[name] for row in truth]
    assert [int(row["trades"]) for row in found] == [row["trades"] for row in truth]
    assert [str(row["date"]) for row in found] == [row["date"] for row in truth]
    name = api.ask(CANDLES, **asked, format=chosen).headers["content-disposition"]
    assert name == f'attachment; filename="candles-SOL-{interval}-20250922-20250924.{chosen}"'


@every_format
@pytest.mark.parametrize("path", [DAILY, USERS])
@pytest.mark.parametrize("beside", [{}, {"period": "week"}, {"sort": "notional", "top": 3}])
def test_statistics_as_a_file_are_those_of_json(api: Api, path: str, chosen: str, beside: dict[str, Any]) -> None:
    truth = api.get(path, **SPAN, **beside, limit=5000)["stats"]
    found = _rows(api, path, chosen, **SPAN, **beside)
    assert [[*row] for row in found] == [[*row] for row in truth]
    for name in ("wallet" if path == USERS else "coin", "notional" if path == DAILY else "taker_notional"):
        assert [row[name] for row in found] == [row[name] for row in truth]
    assert [int(row["fills"]) for row in found] == [row["fills"] for row in truth]
    assert len(_rows(api, path, chosen, **SPAN, **beside, limit=2)) == 2


def test_the_columns_of_a_parquet_file_have_their_types(api: Api) -> None:
    response = api.ask(USERS, **SPAN, sort="fees_in_quote", format="parquet")
    schema = pq.read_schema(io.BytesIO(response.content))
    types = {"fills": pa.int64(), "period_start": pa.date32(), "first_fill": pa.timestamp("us", "UTC"), "is_complete": pa.bool_()}
    types |= {"fees_in_quote": pa.decimal128(38, 20), "notional": pa.decimal128(38, 20), "wallet": pa.string()}
    assert {name: schema.field(name).type for name in types} == types


def _period_start(period: str, day: date) -> str | None:
    starts = {
        "day": day,
        "week": day - timedelta(day.weekday()),
        "month": day.replace(day=1),
        "year": day.replace(month=1, day=1),
        "all": None,
    }
    start = starts[period]
    return None if start is None else str(start)


def _value(row: dict[str, Any], figure: str) -> Decimal | None:
    if figure == "fees_in_quote":
        return Decimal(row["fees"]["USDC"])
    if figure == "notional":
        return None if row["maker_notional"] is None else row["maker_notional"] + row["taker_notional"]
    return None if row[figure] is None else Decimal(row[figure])


def _ranked(period: str, figure: str, *, order: str = "desc", top: int | None = None) -> list[tuple[str | None, str, str | None]]:
    """Period, wallet and figure of each row, added up and ordered in Python: the unknown last, then by wallet."""
    sums: defaultdict[str | None, defaultdict[str, list[Decimal | None]]] = defaultdict(lambda: defaultdict(list))
    for row in USER_ROWS:
        sums[_period_start(period, row["date"])][row["wallet"]].append(_value(row, figure))
    ranked: list[tuple[str | None, str, str | None]] = []
    for start in sorted(sums, key=lambda start: start or ""):
        known = {w: sum(v for v in values if v is not None) for w, values in sums[start].items() if None not in values}
        unknown = sorted(set(sums[start]) - set(known))
        sign = 1 if order == "asc" else -1
        wallets = [*sorted(known, key=lambda wallet: (sign * known[wallet], wallet)), *unknown]
        ranked += [(start, w, _plain(Decimal(known[w])) if w in known else None) for w in wallets[:top]]
    return ranked


@pytest.mark.parametrize("period", ["day", "week", "month", "year", "all"])
@pytest.mark.parametrize("figure", ["fees_in_quote", "notional", "maker_notional", "closed_pnl", "fills"])
def test_wallets_come_by_what_they_did_in_each_period_in_pages_of_any_size(api: Api, period: str, figure: str) -> None:
    for order, top in (("desc", None), ("asc", None), ("desc", 3), ("asc", 1)):
        asked: dict[str, Any] = {**SPAN, "period": period, "sort": figure, "order": order} | ({"top": top} if top else {})
        whole = api.get(USERS, **asked, limit=5000)
        found = [(row["period_start"], row["wallet"], row[figure]) for row in whole["stats"]]
        assert [(start, wallet, value if value is None else str(value)) for start, wallet, value in found] == _ranked(
            period, figure, order=order, top=top
        )
        assert {name: whole[name] for name in ("period", "sort", "order", "top")} == {
            "period": period,
            "sort": figure,
            "order": order,
            "top": top,
        }
        for limit in (1, 5) if period in ("week", "all") else (11,):
            pages = api.pages(USERS, "stats", **asked, limit=limit)
            assert all(len(page) <= limit for page in pages)
            assert [row for page in pages for row in page] == whole["stats"]


def test_who_paid_most_fees_in_a_week_is_one_request(api: Api) -> None:
    week = {"start": "2025-09-29", "end": "2025-10-05"}
    rows = api.get(USERS, **week, sort="fees_in_quote", top=3)["stats"]
    paid: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in USER_ROWS:
        if date(2025, 9, 29) <= row["date"]:
            paid[row["wallet"]] += Decimal(row["fees"]["USDC"])
    truth = sorted(paid, key=lambda wallet: (-paid[wallet], wallet))[:3]
    assert [(row["wallet"], row["fees_in_quote"]) for row in rows] == [(wallet, _plain(paid[wallet])) for wallet in truth]
    assert all(row["period_start"] is None and row["fees"] == {"USDC": row["fees_in_quote"]} for row in rows)


def test_coins_are_added_up_by_period_and_ranked(api: Api) -> None:
    weeks = api.get(DAILY, **SPAN, period="week", sort="notional", top=2)["stats"]
    # Of place p in the list: p times the sum of the days' numbers, 0 to 6 and 7 to 13.
    assert [(row["period_start"], row["coin"], row["notional"], row["days"]) for row in weeks] == [
        ("2025-09-22", "xyz:TSLA", "63", 7),
        ("2025-09-22", "@107", "42", 7),
        ("2025-09-29", "xyz:TSLA", "210", 7),
        ("2025-09-29", "@107", "140", 7),
    ]
    # SOL has one day, and no notional that is known: last.
    named = api.get(DAILY, **SPAN, period="all")["stats"]
    assert [row["coin"] for row in named] == sorted({"ETH", "BTC", "@107", "xyz:TSLA", "SOL"})
    by_least = api.get(DAILY, **SPAN, sort="notional", order="asc")["stats"]
    assert [row["coin"] for row in by_least] == ["ETH", "BTC", "@107", "xyz:TSLA", "SOL"]
    assert [row["coin"] for row in api.get(DAILY, **SPAN, top=1)["stats"]] == ["xyz:TSLA"]
    [_, one] = api.get(DAILY, **SPAN, period="month", coin="BTC")["stats"]
    assert (one["trades"], one["notional"], one["vwap"]) == (55, "55", "5.5")
    pages = api.pages(DAILY, "stats", **SPAN, period="all", limit=2)
    assert [row for page in pages for row in page] == named


def test_a_ranking_that_cannot_be_is_refused_by_name(api: Api) -> None:
    assert api.refuses(USERS, **SPAN, sort="wallet") == {
        "sort": "must be 'notional', 'maker_notional', 'taker_notional', 'fills', 'closed_pnl' or 'fees_in_quote'"
    }
    assert api.refuses(USERS, **SPAN, period="decade") == {"period": "must be 'day', 'week', 'month', 'year' or 'all'"}
    assert api.refuses(DAILY, **SPAN, top=0) == {"top": "must be at least 1"}
    assert set(api.refuses(DAILY, **SPAN, order="up", sort="closed_pnl")) == {"order", "sort"}
    cursor = api.get(USERS, **SPAN, sort="fills", limit=1)["next_cursor"]
    assert set(api.refuses(USERS, **SPAN, sort="closed_pnl", cursor=cursor)) == {"cursor"}
