"""Every list as CSV, NDJSON, Parquet and Arrow: row for row what its JSON answer has, whole and page by page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Generator
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.api import (
    OTHER,
    WALLET,
    Api,
    add,
    at,
    make_day,
    ns,
    serving,
    serving_process,
    status_row,
    twap_row,
)

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}
DAYS = {"start": "2025-11-03", "end": "2025-11-05"}
DATES = {"start_date": "2025-11-03", "end_date": "2025-11-05"}
LISTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "fills": ("/api/v1/fills", "fills", {"wallet": WALLET, **DAYS}),
    "fills of a coin": ("/api/v1/fills", "fills", {"coin": "SOL", **DAYS}),
    "slices": ("/api/v1/twaps/77/fills", "fills", {}),
    "twaps": ("/api/v1/twaps", "twaps", {"wallet": WALLET, **DAYS}),
    "twaps with events": ("/api/v1/twaps", "twaps", {"wallet": WALLET, "latest_per_twap": "false", **DAYS}),
    "daily stats": ("/api/v1/stats/daily", "stats", DAYS),
    "daily stats by": ("/api/v1/stats/daily", "stats", {"sort": "volume", **DAYS}),
    "user stats": ("/api/v1/stats/users", "stats", DAYS),
    "user stats by": ("/api/v1/stats/users", "stats", {"period": "week", **DAYS}),
    "candles": ("/api/v1/candles", "candles", {"coin": "SOL", **DAYS}),
    "candles by": ("/api/v1/candles", "candles", {"coin": "SOL", "interval": "1h", **DAYS}),
    "volume": ("/api/v1/leaderboards/volume", "ranking", DAYS),
    "pnl": ("/api/v1/leaderboards/pnl", "ranking", {"sort": "net_pnl", **DAYS}),
    "fees": ("/api/v1/leaderboards/fees", "ranking", DAYS),
    "twap board": ("/api/v1/leaderboards/twaps", "ranking", DAYS),
    "builder board": ("/api/v1/leaderboards/builders", "ranking", DAYS),
    "builders": ("/api/v1/builders", "builders", DAYS),
    "hours": ("/api/v1/coverage", "hours", DAYS),
    "days": ("/api/v1/coverage/days", "days", DAYS),
    "trades": ("/api/v1/trades", "trades", {"wallet_addresses": WALLET, **DATES}),
    "trades of two": ("/api/v1/trades", "trades", {"wallet_addresses": f"{WALLET},{OTHER}", **DATES}),
    "wallet's twaps": (f"/api/v1/wallets/{WALLET}/twaps", "twaps", DATES),
}
# Their cursors, or offsets, are made in different ways.
PAGED = ("fills", "twaps", "user stats by", "hours", "trades")
few_lists = pytest.mark.parametrize(
    "which", [one if one in PAGED else pytest.param(one, marks=pytest.mark.slow) for one in LISTS]
)
every_list = pytest.mark.parametrize("which", LISTS)
BUSY, MANY = "0x" + "3c" * 20, 110_000


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    """A database in which every list has rows, with values that are hard to keep."""
    url = new_database()
    with connect(url, "test") as connection:
        _fill(connection)
    return url


@pytest.fixture(scope="module")
def api(url: str) -> Generator[Api]:
    with serving(url) as api:
        yield api


def _fill(connection: psycopg.Connection) -> None:
    whole = {"block_number": 5, "block_time_ns": 2**62, "oid": 1, "twap_id": 77, "crossed": False, "dir": 'Buy, "all"\n'}
    exact = {"px": "99999999999999999.9999999999", "sz": "0.0000000001", "fee": "-0.5000", "fee_token": "USDC"}
    texts = {"hash": bytes(32), "cloid": bytes(range(16)), "builder": OTHER, "extra": Json({"new": [1.5, None, "é"]})}
    # Three fills of a millisecond: pages of one or two end within it.
    same = [{"time": at("2025-11-03 12:00:00.123"), "tid": 2**62 + n, **whole, **exact, **texts} for n in range(3)]
    add(connection, "fills", *same, {"time": at("2025-11-04 00:00:00"), "tid": 4, "coin": "PURR/USDC", "twap_id": 77})
    add(connection, "fills", {"time": at("2025-11-05 00:00:00"), "tid": 5, "wallet": OTHER, "liquidation_mark_px": "1.10"})
    for number, twap_id in enumerate((78, 79, 2**62)):
        payload = Json({"a": "b,\n", "n": number})
        add(connection, "twap_statuses", status_row(twap_id, ns("2025-11-03 12:00:00", number), raw_payload=payload))
    figures = {"vwap": "8.2266666667", "notional_observed": "12.34567890123456789012", "fees": Json({"USDC": "1"})}
    add(connection, "twaps", twap_row(77, at("2025-11-03 12:00:00.123"), is_complete=False, **figures))
    add(connection, "twaps", twap_row(78, at("2025-11-03 12:00:00.000001"), is_complete=None))
    for day in ("2025-11-03", "2025-11-04"):
        add(connection, "fills_days", {"date": day, **dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at"), at(day))})
        add(connection, "twap_days", {"date": day})
        for coin, kind in (("SOL", "perp"), ("PURR/USDC", "spot")):
            sums = {"volume": "1.5000", "notional": "0.00012345678901234567", "fees": Json({"USDC": "1"}), "kind": kind}
            add(connection, "daily_stats", {"date": day, "coin": coin, **sums, "is_complete": coin == "SOL"})
        for wallet in (WALLET, OTHER):
            times = {"first_fill": at(day), "last_fill": at(f"{day} 12:00:00.5")}
            sums = {"maker_notional": "10", "taker_notional": None if wallet == OTHER else "0.1", "closed_pnl": "-1.50"}
            fees = {"fees": Json({"USDC": "0.1", "HYPE": "-2"}), "fees_in_quote": "0.00000000000000000001"}
            add(connection, "user_stats", {"date": day, "wallet": wallet, **times, **sums, **fees})
        for builder in (OTHER, None):
            sums = {"notional": "5", "fees_in_quote": "0.1", "fees": Json({"USDC": "0.1"})}
            add(connection, "builder_stats", {"date": day, "builder": builder, **sums})
        for minute in (0, 1, 59):
            add(connection, "candles", {"coin": "SOL", "date": day, "time": at(f"{day} 05:{minute:02}:00"), "volume": None})
        for hour in (0, 1, 23):
            found = {"found": "blocks missing", "missing_ranges": "{[5,9),[20,21)}"} if hour else {}
            add(connection, "coverage", {"object_date": day, "object_hour": hour, **found})
        add(connection, "coverage", {"object_date": day, "object_hour": None, "source": "twap_statuses", "found": "missing"})


def _read(response: requests.Response, chosen: str) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == MEDIA_TYPES[chosen]
    if chosen == "csv":
        return [*csv.DictReader(io.StringIO(response.content.decode(), newline=""), strict=True)]
    if chosen == "ndjson":
        *lines, rest = response.content.split(b"\n")
        assert rest == b""
        return [json.loads(line) for line in lines]
    if chosen == "parquet":
        return pl.read_parquet(response.content).to_dicts()
    return pa.ipc.open_stream(response.content).read_all().to_pylist()


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a TWAP as files have it: `analytics` beside the event, `executed` as two columns. Other rows stay as they are."""
    if "analytics" not in row:
        return row
    figures = {name: value for name, value in (row["analytics"] or {}).items() if name not in row and name != "coin"}
    return {name: value for name, value in row.items() if name not in ("analytics", "executed")} | figures


def _as_texts(row: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Return a row of CSV or JSON as texts, with JSON parsed."""
    texts: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(expected[name], dict | list):
            texts[name] = json.loads(value) if isinstance(value, str) else value
        else:
            texts[name] = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return texts


def _as_json(name: str, value: Any, expected: Any) -> Any:
    """Return a typed value as JSON has it."""
    if isinstance(value, Decimal):
        assert value == 0 or isinstance(expected, str)
        return f"{value.normalize():f}"
    if isinstance(value, datetime):
        digits = "seconds" if value.microsecond == 0 else "milliseconds" if value.microsecond % 1000 == 0 else "microseconds"
        return value.replace(tzinfo=None).isoformat(timespec=digits) + "Z"
    if isinstance(value, date) or name in ("twap_id", "block_time_ns"):
        return None if value is None else str(value)
    return json.loads(value) if isinstance(expected, dict | list) else value


@every_list
def test_a_file_has_the_rows_of_the_json_answer(api: Api, which: str) -> None:
    path, name, asked = LISTS[which]
    listed = [_flat(row) for row in api.get(path, **asked)[name]]
    assert listed
    for chosen in MEDIA_TYPES:
        found = _read(api.ask(path, **asked, format=chosen), chosen)
        columns = [*found[0]]
        assert set(columns) >= set().union(*listed)
        rows = [{column: row.get(column) for column in columns} for row in listed]
        if chosen == "csv":
            assert [_as_texts(row, rows[number]) for number, row in enumerate(found)] == [_as_texts(row, row) for row in rows]
        elif chosen == "ndjson":
            assert found == rows
        else:
            typed = [{n: _as_json(n, v, rows[number][n]) for n, v in row.items()} for number, row in enumerate(found)]
            assert typed == rows


@pytest.mark.parametrize("limit", [1, 2])
@few_lists
def test_pages_of_a_file_join_to_the_whole(api: Api, which: str, limit: int) -> None:
    path, name, asked = LISTS[which]
    rows = _read(api.ask(path, **asked, format="ndjson"), "ndjson")
    found, here, place = [], api.ask(path, **asked, format="ndjson", limit=limit), {}
    while True:
        page = _read(here, "ndjson")
        answer = api.get(path, **asked, limit=limit, **place)
        assert len(answer[name]) == len(page)
        found += page
        following = next(key for key in answer if key in ("next_cursor", "next_offset"))
        header = {"next_cursor": "X-Next-Cursor", "next_offset": "X-Next-Offset"}[following]
        assert here.headers.get(header) == (None if answer[following] is None else str(answer[following]))
        if answer[following] is None:
            break
        place = {following.removeprefix("next_"): here.headers[header]}
        here = api.ask(path, **asked, format="ndjson", limit=limit, **place)
    assert found == rows


@few_lists
def test_a_file_carries_the_coverage_of_the_json_answer(api: Api, which: str) -> None:
    path, _, asked = LISTS[which]
    answer = api.get(path, **asked)
    told = {name: answer[name] for name in ("coverage", "info_api") if name in answer and "/coverage" not in path}
    for chosen in ("parquet", "arrow"):
        content = io.BytesIO(api.ask(path, **asked, format=chosen).content)
        schema = pq.read_schema(content) if chosen == "parquet" else pa.ipc.open_stream(content).schema
        assert {name.decode(): json.loads(text) for name, text in (schema.metadata or {}).items()} == told
    for chosen in ("csv", "ndjson"):
        headers = api.ask(path, **asked, format=chosen).headers
        runs = [{name: value for name, value in run.items() if name != "hours"} for run in told.get("coverage", [])]
        assert json.loads(headers.get("X-Coverage", "[]")) == runs


@pytest.mark.parametrize(
    "accept", ["text/html", "application/xml, text/plain;q=0.5", "image/*", "application/json;q=0, text/html"]
)
@pytest.mark.parametrize("which", ["fills", "slices", "hours", "trades"])
def test_an_unknown_format_is_refused_with_the_known_ones(api: Api, which: str, accept: str) -> None:
    path, _, asked = LISTS[which]
    refused = requests.get(api.url + path, asked, headers={"Accept": accept}, timeout=60)
    assert (refused.status_code, refused.headers["content-type"]) == (406, "application/json")
    assert refused.json()["detail"] == (
        f"`Accept: {accept}` has no format of this path; it has application/json, text/csv, application/x-ndjson, "
        "application/vnd.apache.parquet, application/vnd.apache.arrow.stream; `format` (json, csv, ndjson, parquet, arrow) "
        "overrides Accept"
    )
    assert api.refuses(path, **asked, format="xml") == {"format": "must be 'json', 'csv', 'ndjson', 'parquet' or 'arrow'"}
    assert requests.get(api.url + path, {**asked, "format": "ndjson"}, headers={"Accept": accept}, timeout=60).ok


@pytest.mark.slow
def test_the_openapi_lists_the_formats_of_each_list(api: Api) -> None:
    paths = api.get("/openapi.json")["paths"]
    known = {"application/json", *(one.partition(";")[0] for one in MEDIA_TYPES.values())}
    listed = {path for path, _, _ in LISTS.values()}
    by_template = {
        "/api/v1/twaps/77/fills": "/api/v1/twaps/{twap_id}/fills",
        f"/api/v1/wallets/{WALLET}/twaps": "/api/v1/wallets/{wallet}/twaps",
    }
    for path in listed:
        responses = paths[by_template.get(path, path)]["get"]["responses"]
        assert set(responses["200"]["content"]) == known, path
        assert {"X-Coverage", "X-Next-Cursor"} <= set(responses["200"]["headers"])
        assert "406" in responses


@pytest.mark.slow
def test_paging_over_many_rows_takes_little_memory(new_database: NewDatabase, tmp_path: Path) -> None:
    url = new_database()
    with connect(url, "test") as connection:
        make_day(connection, date(2025, 11, 10))
        connection.execute(
            "INSERT INTO hl.fills (time, coin, wallet, side, px, sz, fee, tid, oid, dir, hash, object_id) "
            "SELECT timestamptz '2025-11-10Z' + n / 7 * interval '100 ms', 'SOL', %s, 'B', 100, 0.5, 0.001, n, n, "
            "'Open Long', decode(repeat('00', 32), 'hex'), 1 FROM generate_series(1, %s) n",
            [BUSY, MANY],
        )
        connection.execute("ANALYZE")
    day = {"wallet": BUSY, "start": "2025-11-10", "end": "2025-11-10", "limit": "5000"}
    with serving_process(url, tmp_path) as api:
        [process] = [one for one in api.program.tree() if "api.app:app" in one.cmdline()]
        for chosen in MEDIA_TYPES:
            _read(api.ask("/api/v1/fills", **day, format=chosen), chosen)
        used = [process.memory_info().rss]
        for chosen in ("ndjson", "arrow"):
            tids: list[int] = []
            place: dict[str, str] = {}
            while True:
                response = api.ask("/api/v1/fills", **day, **place, format=chosen)
                tids += [row["tid"] for row in _read(response, chosen)]
                used.append(process.memory_info().rss)
                if "X-Next-Cursor" not in response.headers:
                    break
                place = {"cursor": response.headers["X-Next-Cursor"]}
            assert tids == [*range(1, MANY + 1)]
        assert (max(used) - used[0]) / 2**20 < 60
        assert max(after - before for before, after in pairwise(used)) / 2**20 < 60
