"""CSV and Parquet exports of fills and TWAPs: the whole range, exact, in bounded memory. A truncated file never looks whole."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Generator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from psycopg.rows import dict_row
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.api import (
    OTHER,
    WALLET,
    Api,
    ApiProcess,
    add,
    at,
    make_day,
    ns,
    serving,
    serving_process,
    status_row,
    twap_row,
)

FILLS, TWAPS = "/api/v1/fills", "/api/v1/twaps"
NOVEMBER = {"wallet": WALLET, "start": "2025-11-01", "end": "2025-11-30"}
BUSY, MANY = "0x" + "3c" * 20, 200_000
CSV, PARQUET = "text/csv; charset=utf-8", "application/vnd.apache.parquet"


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    """A database with fills and TWAPs, every column of some of them set, and a wallet with very many."""
    url = new_database()
    with connect(url, "test") as connection:
        _fill(connection)
    return url


def _fill(connection: psycopg.Connection) -> None:
    whole = {
        "block_number": 5,
        "block_time_ns": 2**62,
        "oid": 1,
        "tid": 9,
        "twap_id": 77,
        "crossed": False,
        "dir": 'Buy, "all"\n',
    }
    exact = {"px": "9999999999999999999999999999.9999999999", "sz": "0.0000000001", "fee": "-0.5000", "fee_token": "USDC"}
    texts = {
        "hash": bytes(32),
        "cloid": bytes(range(16)),
        "builder": OTHER,
        "extra": Json({"new": [1.5, None]}),
        "coin": "PURR/USDC",
    }
    add(connection, "fills", {"time": at("2025-11-03 12:00:00.123"), **whole, **exact, **texts})
    add(
        connection, "fills", {"time": at("2025-11-04 00:00:00")}, {"time": at("2025-11-05 00:00:00"), "coin": "BTC", "tid": 2**62}
    )
    for twap_id in range(1200):
        add(connection, "twap_statuses", status_row(twap_id, ns("2025-11-03 12:00:00", twap_id * 1000)))
    done = {"status": "finished", "size_executed": "1.50", "notional_executed": "12.3400", "raw_payload": Json({"a": "b,c"})}
    add(connection, "twap_statuses", status_row(5000, ns("2025-11-03 13:00:00", 1), duration_minutes=30, randomize=True, **done))
    figures = {"vwap": "8.2266666667", "notional_observed": "12.34567890123456789012", "fees": Json({"USDC": "1"}), "coin": "SOL"}
    add(connection, "twaps", twap_row(5000, at("2025-11-03 12:30:00.000001"), is_complete=False, **figures))
    make_day(connection, at("2025-11-10 00:00").date())
    connection.execute(
        "INSERT INTO hl.fills (time, coin, wallet, side, px, sz, fee, tid, oid, dir, hash, object_id) "
        "SELECT timestamptz '2025-11-10Z' + n * interval '100 ms', 'SOL', %s, 'B', 100 + n * 0.01, 0.5, 0.001, n, n, "
        "'Open Long', decode(repeat('00', 32), 'hex'), 1 FROM generate_series(1, %s) n",
        [BUSY, MANY],
    )
    connection.execute("ANALYZE")


@pytest.fixture(scope="module")
def api(url: str) -> Generator[Api]:
    with serving(url) as api:
        yield api


def _read_csv(response: requests.Response) -> list[dict[str, str | None]]:
    assert (response.status_code, response.headers["content-type"]) == (200, CSV)
    rows = csv.DictReader(io.StringIO(response.text, newline=""), strict=True)
    return [{name: value or None for name, value in row.items()} for row in rows]


def _read_parquet(response: requests.Response) -> pa.Table:
    assert (response.status_code, response.headers["content-type"]) == (200, PARQUET)
    return pq.read_table(io.BytesIO(response.content))


def _as_text(value: Any) -> str | None:
    """As CSV has what JSON has."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_a_csv_of_fills_has_the_fields_and_values_of_json(api: Api) -> None:
    fills = api.get(FILLS, **NOVEMBER)["fills"]
    found = _read_csv(api.ask(FILLS, **NOVEMBER, format="csv"))
    assert len(found) == 3
    assert [*found[0]] == [*fills[0]]
    assert found[0].pop("extra") == '{"new": [1.5, null]}'
    assert fills[0].pop("extra") == {"new": [1.5, None]}
    assert found == [{name: _as_text(value) for name, value in fill.items()} for fill in fills]


def test_a_parquet_of_fills_is_equal_to_the_table(api: Api, url: str) -> None:
    table = _read_parquet(api.ask(FILLS, **NOVEMBER, format="parquet"))
    numeric = {
        column: pa.decimal128(38, 10) for column in ("px", "sz", "fee", "start_position", "closed_pnl", "liquidation_mark_px")
    }
    others = {"time": pa.timestamp("ms", "UTC"), "tid": pa.int64(), "twap_id": pa.int64(), "block_time_ns": pa.int64()}
    texts = {"hash": pa.string(), "dir": pa.string(), "extra": pa.string(), "crossed": pa.bool_(), "object_id": pa.int32()}
    for name, kind in {**numeric, **others, **texts}.items():
        assert table.schema.field(name).type == kind, name
    with connect(url, "test") as connection:
        cursor = connection.cursor(row_factory=dict_row)
        expected = cursor.execute("SELECT * FROM hl.fills WHERE wallet = %s ORDER BY time", [WALLET]).fetchall()
    found = table.to_pylist()
    assert len(found) == 3
    for row, truth in zip(found, expected, strict=True):
        for name in ("hash", "cloid"):
            truth[name] = truth[name] and "0x" + truth[name].hex()
        truth["extra"] = truth["extra"] and '{"new": [1.5, null]}'
        assert row == truth


@pytest.mark.parametrize(("table", "path"), [("daily_stats", "/api/v1/stats/daily"), ("user_stats", "/api/v1/stats/users")])
def test_a_parquet_of_statistics_has_fees_in_quote_to_the_last_digit(api: Api, url: str, table: str, path: str) -> None:
    moment = at("2025-12-01 12:00:00")
    named = (
        {"coin": "PURR/USDC", "kind": "spot"}
        if table == "daily_stats"
        else {"wallet": OTHER, "first_fill": moment, "last_fill": moment}
    )
    with connect(url, "test") as connection:
        add(connection, table, {"date": moment.date(), "fees_in_quote": "0.00012345678901234567", **named})
        try:
            [row] = _read_parquet(api.ask(path, start="2025-12-01", end="2025-12-01", format="parquet")).to_pylist()
        finally:
            # With statistics of one coin the API would know no other.
            connection.execute(f"DELETE FROM hl.{table}".encode())
    assert row["fees_in_quote"] == Decimal("0.00012345678901234567")


def test_an_export_of_twaps_has_figures_beside_events(api: Api) -> None:
    table = _read_parquet(api.ask(TWAPS, **NOVEMBER, format="parquet"))
    assert table.num_rows == 1201
    first = {name: value for name, value in table.slice(0, 1).to_pylist()[0].items() if value not in (None, 0)}
    assert first == {
        "twap_id": 5000,
        "wallet": WALLET,
        "asset": "SOL",
        "side": "B",
        "status": "finished",
        "duration_minutes": 30,
        "latest_ts": at("2025-11-03 13:00:00"),
        "size_executed": Decimal("1.5"),
        "notional_executed": Decimal("12.34"),
        "randomize": True,
        "raw": '{"a": "b,c"}',
        "verdict": "match",
        "begins_at": at("2025-11-03 12:30:00.000001"),
        "statuses": 2,
        "fills": 1,
        "slices": 1,
        "notional_observed": Decimal("12.34567890123456789012"),
        "vwap": Decimal("8.2266666667"),
        "fees": '{"USDC": "1"}',
        "seen_from": at("2025-11-03 12:30:00.000001"),
        "seen_to": at("2025-11-03 12:30:00.000001"),
    }
    assert table.schema.field("latest_ts").type == pa.timestamp("us", "UTC")
    assert table.schema.field("notional_observed").type == pa.decimal128(38, 20)
    assert table.schema.field("is_complete").type == pa.bool_()
    item = api.get(TWAPS, **NOVEMBER, limit=1)["twaps"][0]
    analytics = item["analytics"]
    nested = {"executed", "analytics"}
    assert set(table.schema.names) == (set(item) - nested) | (set(analytics) - {"coin"})
    rows = _read_csv(api.ask(TWAPS, **NOVEMBER, format="csv"))
    assert [*rows[0]] == table.schema.names
    assert (rows[0]["vwap"], rows[0]["raw"], rows[0]["is_complete"]) == ("8.2266666667", '{"a": "b,c"}', "false")
    assert rows[0]["begins_at"] == analytics["begins_at"]
    assert [row["twap_id"] for row in rows] == [str(number) for number in table["twap_id"].to_pylist()]
    assert rows[1:] == sorted(rows[1:], key=lambda row: int(row["twap_id"] or 0), reverse=True)


def test_an_export_is_of_the_whole_range_unless_limited(api: Api) -> None:
    assert len(_read_csv(api.ask(TWAPS, **NOVEMBER, format="csv"))) == 1201
    assert len(_read_csv(api.ask(TWAPS, **NOVEMBER, format="csv", limit=7, offset=3))) == 7
    assert _read_parquet(api.ask(TWAPS, **NOVEMBER, format="parquet", limit=7)).num_rows == 7
    cursor = api.get(TWAPS, **NOVEMBER, limit=1000)["next_cursor"]
    assert len(_read_csv(api.ask(TWAPS, **NOVEMBER, format="csv", cursor=cursor))) == 201
    assert _read_csv(api.ask(TWAPS, **NOVEMBER, format="csv", asset="BTC")) == []
    assert _read_parquet(api.ask(TWAPS, **NOVEMBER, format="parquet", asset="BTC")).num_rows == 0
    raw = _read_csv(api.ask(TWAPS, **NOVEMBER, format="csv", limit=1, latest_per_twap="false"))[0]["raw"]
    assert raw == '{"latest": {"a": "b,c"}, "all_rows": [{"a": "b,c"}]}'


@pytest.mark.parametrize(
    ("accept", "asked", "given"),
    [
        ("", None, "application/json"),
        ("*/*", None, "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", None, "application/json"),
        ("text/csv", None, CSV),
        ("TEXT/CSV; charset=utf-8", None, CSV),
        ("application/vnd.apache.parquet", None, PARQUET),
        ("application/json, text/csv", None, "application/json"),
        ("application/json;q=0.5, text/csv;q=0.9", None, CSV),
        ("text/csv;q=0.5, application/vnd.apache.parquet;q=0.6, */*", None, PARQUET),
        ("text/csv;q=0", None, "application/json"),
        ("text/*", None, CSV),
        ("text/html, application/*;q=0.5", None, "application/json"),
        ("application/x-ndjson", None, "application/x-ndjson"),
        ("application/vnd.apache.arrow.stream, */*;q=0.1", None, "application/vnd.apache.arrow.stream"),
        ("text/csv", "json", "application/json"),
        ("text/csv", "parquet", PARQUET),
        ("application/vnd.apache.parquet", "csv", CSV),
    ],
)
@pytest.mark.parametrize("path", [FILLS, TWAPS])
def test_the_format_is_the_one_that_was_asked_for(api: Api, path: str, accept: str, asked: str | None, given: str) -> None:
    parameters = {**NOVEMBER, **({"format": asked} if asked else {})}
    response = requests.get(api.url + path, params=parameters, headers={"Accept": accept}, timeout=60)
    assert (response.status_code, response.headers["content-type"]) == (200, given)


def test_a_file_has_a_name(api: Api) -> None:
    asked = {"coin": "PURR/USDC", "start": "2025-11-01", "end": "2025-11-30", "format": "csv"}
    name = api.ask(FILLS, **asked).headers["content-disposition"]
    assert name == 'attachment; filename="fills-PURR_USDC-20251101-20251130.csv"'
    name = api.ask(TWAPS, **NOVEMBER, format="parquet").headers["content-disposition"]
    assert name == f'attachment; filename="twaps-{WALLET}-20251101-20251130.parquet"'
    head = requests.head(api.url + FILLS, params=asked, timeout=60)
    assert (head.status_code, head.content, head.headers["content-type"]) == (200, b"", CSV)


@pytest.mark.parametrize("chosen", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("path", "beside"),
    [
        (FILLS, {"wallet": WALLET}),
        (TWAPS, {"wallet": WALLET}),
        ("/api/v1/candles", {"coin": "SOL"}),
        ("/api/v1/stats/daily", {}),
        ("/api/v1/stats/users", {"wallet": WALLET, "period": "week"}),
    ],
)
def test_a_file_of_days_that_are_not_there_says_so(api: Api, path: str, beside: dict[str, str], chosen: str) -> None:
    """As JSON does; of a wallet before the buckets also what the info API was asked for."""
    asked = {**beside, "start": "2024-02-01", "end": "2024-02-03"}
    answer = api.get(path, **asked)
    assert answer["coverage"] == [{"from": "2024-02-01", "to": "2024-02-03", "state": "absent", "note": "not loaded"}]
    assert ("info_api" in answer) == ("wallet" in beside)
    told = {name: answer[name] for name in ("coverage", "info_api") if name in answer}
    response = api.ask(path, **asked, format=chosen)
    head = requests.head(api.url + path, params={**asked, "format": chosen}, timeout=60)
    for headers in (response.headers, head.headers):
        assert json.loads(headers["x-coverage"]) == told["coverage"]
        assert ("x-info-api" in headers) == ("info_api" in told)
        assert json.loads(headers.get("x-info-api", "null")) == told.get("info_api")
        assert "x-coverage-left-off" not in headers
    if chosen == "parquet":
        table = _read_parquet(response)
        assert table.num_rows == 0
        metadata = {name.decode(): json.loads(text) for name, text in table.schema.metadata.items()}
        assert metadata == told
    else:
        assert response.text.count("\n") == 1


def test_coverage_of_many_days_is_cut_in_the_header_and_whole_in_the_file(database_url: str) -> None:
    with connect(database_url, "test") as connection:
        for day in range(1, 31, 2):
            why = {"state": "incomplete", "explanation": f"hour {day} lacks — “{'x' * 300}”"}
            add(connection, "fills_days", {"date": f"2025-11-{day:02}", **why})
            add(connection, "coverage", {"object_date": f"2025-11-{day:02}", "object_hour": 3, "found": "missing"})
    with serving(database_url) as api:
        truth = api.get(FILLS, **NOVEMBER)["coverage"]
        response = api.ask(FILLS, **NOVEMBER, format="parquet")
    shown, left = json.loads(response.headers["x-coverage"]), int(response.headers["x-coverage-left-off"])
    assert len(response.headers["x-coverage"]) <= 4_100
    assert shown == [{name: value for name, value in run.items() if name != "hours"} for run in truth[: len(shown)]]
    assert (len(truth), 0 < left < 30) == (30, True)
    assert len(shown) + left == len(truth)
    assert json.loads(_read_parquet(response).schema.metadata[b"coverage"]) == truth


@pytest.fixture
def big(url: str, tmp_path: Path) -> Generator[ApiProcess]:
    with serving_process(url, tmp_path) as api:
        yield api


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["csv", "ndjson", "parquet", "arrow"])
def test_a_big_export_is_whole_and_takes_little_memory(big: ApiProcess, chosen: str) -> None:
    [process] = [one for one in big.program.tree() if "api.app:app" in one.cmdline()]
    _drain(big, chosen, limit=5000)
    before = process.memory_info().rss
    most = before
    path = {"wallet": BUSY, "start": "2025-11-10", "end": "2025-11-10", "format": chosen}
    body = io.BytesIO()
    with requests.get(big.url + FILLS, params=path, stream=True, timeout=60) as response:
        for chunk in response.iter_content(1 << 20):
            body.write(chunk)
            most = max(most, process.memory_info().rss)
    if chosen == "csv":
        assert body.getvalue().count(b"\r\n") == MANY + 1
        assert len(body.getvalue()) > 30_000_000
    elif chosen == "ndjson":
        assert [json.loads(line)["tid"] for line in body.getvalue().splitlines()] == [*range(1, MANY + 1)]
    elif chosen == "arrow":
        body.seek(0)
        assert [tid for batch in pa.ipc.open_stream(body) for tid in batch["tid"].to_pylist()] == [*range(1, MANY + 1)]
    else:
        table = pq.read_table(body, columns=["tid", "px"])
        assert table["tid"].to_pylist() == [*range(1, MANY + 1)]
        assert table["px"][-1].as_py() == 100 + Decimal(MANY) / 100
        assert pq.ParquetFile(body).num_row_groups == MANY // 50_000
    assert (most - before) / 2**20 < {"csv": 20, "ndjson": 20, "parquet": 100, "arrow": 40}[chosen]


@pytest.mark.slow
@pytest.mark.parametrize("lines", ["twaps", "fills"])
def test_a_tax_file_of_many_fills_takes_little_memory(big: ApiProcess, lines: str) -> None:
    [process] = [one for one in big.program.tree() if "api.app:app" in one.cmdline()]
    _drain(big, "csv", limit=5000)
    before = most = process.memory_info().rss
    lengths, path = [], f"{big.url}/api/v1/wallets/{BUSY}/tax"
    with requests.get(path, {"year": "2025", "lines": lines}, stream=True, timeout=120) as response:
        for line in response.iter_lines(1 << 20):
            # A line may end between two chunks, and an empty one follows.
            lengths += [len(line)] if line else []
            if len(lengths) % 1000 == 0:
                most = max(most, process.memory_info().rss)
    # The header, and the year, of which no day was judged.
    assert len(lengths) == 1 + 1 + MANY
    assert (most - before) / 2**20 < 20


def _drain(api: Api, chosen: str, **parameters: Any) -> None:
    api.ask(FILLS, wallet=BUSY, start="2025-11-10", end="2025-11-10", format=chosen, **parameters).content  # noqa: B018


def _backends(url: str) -> list[int]:
    """Those that are in an export."""
    with connect(url, "test") as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'hl api' AND datname = current_database() "
            "AND query LIKE 'FETCH%' AND xact_start IS NOT NULL"
        ).fetchall()
    return [pid for (pid,) in rows]


@pytest.mark.parametrize("chosen", ["csv", "parquet", "arrow"])
def test_an_error_in_the_middle_breaks_the_transfer(api: Api, url: str, chosen: str) -> None:
    path = {"wallet": BUSY, "start": "2025-11-10", "end": "2025-11-10", "format": chosen}
    with requests.get(api.url + FILLS, params=path, stream=True, timeout=60) as response:
        assert response.status_code == 200
        assert response.raw.read(10)
        [pid] = _backends(url)
        with connect(url, "test") as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            for _ in response.iter_content(1 << 20):
                pass
    api.get(FILLS, **NOVEMBER)
    _drain(api, chosen, limit=5)


def test_who_goes_away_frees_the_connection(api: Api, url: str) -> None:
    path = {"wallet": BUSY, "start": "2025-11-10", "end": "2025-11-10", "format": "csv"}
    for _ in range(5):
        with requests.get(api.url + FILLS, params=path, stream=True, timeout=60) as response:
            assert response.raw.read(10)
    wait_until(lambda: not _backends(url), 10, "no export is left")


def test_exports_are_counted_and_keep_no_other_request_waiting(api: Api, url: str) -> None:
    path = {"wallet": BUSY, "start": "2025-11-10", "end": "2025-11-10", "format": "csv"}
    streams = [requests.get(api.url + FILLS, params=path, stream=True, timeout=60) for _ in range(2)]
    try:
        assert all(stream.raw.read(10) for stream in streams)
        refused = api.ask(FILLS, **path)
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/json")
        api.get(FILLS, **NOVEMBER)
    finally:
        for stream in streams:
            stream.close()
    wait_until(lambda: not _backends(url), 10, "no export is left")
    _drain(api, "csv", limit=5)


def test_an_export_that_takes_too_long_is_broken_off(url: str) -> None:
    path = {"wallet": BUSY, "start": "2025-11-10", "end": "2025-11-10", "format": "csv"}
    with serving(url, HL_API_EXPORT_TIMEOUT_SECONDS="1") as api:
        began = datetime.now(UTC)
        with requests.get(api.url + FILLS, params=path, stream=True, timeout=60) as response:
            assert response.raw.read(10)
            # The client reads no more: what is under way fills the buffers, and then nothing moves.
            wait_until(lambda: not _backends(url), 10, "the export was broken off")
            assert (datetime.now(UTC) - began).total_seconds() >= 1
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                for _ in response.iter_content(1 << 20):
                    pass
