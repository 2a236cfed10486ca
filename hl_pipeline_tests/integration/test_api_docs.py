"""Each example in docs/rest/ is a real response of the API, from the real records and a few additional rows."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Generator
from contextlib import redirect_stdout
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
import requests
from psycopg.types.json import Json

from hl_client import IncompleteWarning
from hl_pipeline.formats.fills import DAY_SCHEMA
from hl_pipeline.lake.fills import write_fills_hour
from hl_pipeline.lake.store import open_lake
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.documents import blocks, pages
from hl_pipeline_tests.processes import PROJECT
from hl_pipeline_tests.servers.api import OTHER, Api, add, at, ns, real_status_row, real_statuses, serving, twap_row

DOCUMENTS = sorted((PROJECT / "docs" / "rest").glob("*.md"))
TEXT = "\n".join(document.read_text() for document in DOCUMENTS)
EXAMPLE = re.compile(r"```sh\ncurl '(\S+)'\n```\n+```(json|csv)\n(.*?)```", re.DOTALL)
QUESTION = re.compile(
    r"```sh\ncurl http://127.0.0.1:8000/info -H 'Content-Type: application/json' -d '(.*?)'\n```\n+```json\n(.*?)```", re.DOTALL
)
OF_CLIENT = re.findall(
    r"```python\n(.*?)```\n+```text\n(.*?)```", (PROJECT / "docs" / "guides" / "python-client.md").read_text(), re.DOTALL
)
HOST = "http://127.0.0.1:8000"
_REQUEST = re.compile(rf"'{re.escape(HOST)}(/[^']+)'")
_EXAMPLES = {url for url, _, _ in EXAMPLE.findall(TEXT)}
_WALLET = "0x9d097697e5b82a52f6b82c16c148a753bbf5c8ae"
_BUILDER = "0x" + "b1" * 20
_EPOCH = at("1970-01-01 00:00")
_MADE = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at", "builder_stats_at"), at("2026-03-17 00:00"))
# The figures of TWAP 2018017: what it was asked for and reported is real, what its slices and the market show is not.
_FIGURES: dict[str, Any] = {
    "wallet": "0xa6c9c1886ebfc76a4f409cb325e85916c0c4632c",
    "coin": "xyz:LITE",
    "status": "finished",
    "started_at": at("2026-07-09 18:56:06.714"),
    "planned_end": at("2026-07-09 19:01:06.714"),
    "ended_at": at("2026-07-09 19:00:44.010"),
    "duration_minutes": 5,
    "reduce_only": False,
    "randomize": False,
    "fills": 10,
    "slices": 10,
    "slices_due": 10,
    "size_requested": "0.124",
    "size_reported": "0.124",
    "notional_reported": "99.4204",
    "size_observed": "0.124",
    "notional_observed": "99.4204",
    "first_slice_at": at("2026-07-09 18:56:07.100"),
    "last_slice_at": at("2026-07-09 19:00:44.010"),
    "vwap": "801.7774193548",
    "whole_minutes": 3,
    "market_volume": "40.5",
    "market_notional": "32455.89",
    "own_volume": "0.074",
    "own_notional": "59.3305",
    "market_vwap": "801.3800000000",
    "market_vwap_without_own": "801.3792979765",
    "participation": "0.0018271605",
    "arrival_px": "801.1",
    "slippage_bps": "4.9592",
    "slippage_without_own_bps": "4.9680",
    "slippage_arrival_bps": "8.4561",
    "schedule_deviation": "0.0161290323",
    "maker_share": "0.1",
    "fees": Json({"USDC": "0.0447"}),
    "closed_pnl": "0",
    "is_complete": True,
    "seen_from": at("2026-07-09 17:56:06.714"),
    "seen_to": at("2026-07-09 19:00:44.010"),
}

_STATS: dict[str, Any] = {
    "fills": 768,
    "non_market_rows": 12,
    "fees_known": 780,
    "fees_in_quote": "18.7663",
    "trades": 384,
    "volume": "1251.5",
    "notional": "47339.2375",
    "buys": 210,
    "sells": 174,
    "buy_volume": "700.25",
    "sell_volume": "551.25",
    "buy_notional": "26487.65625",
    "sell_notional": "20851.58125",
    "liquidations": 0,
    "liquidation_notional": 0,
    "twap_volume": "120.49",
    "twap_notional": "4557.65474",
    "builder_volume": "90",
    "builder_notional": "3404.34",
    "wallets": 96,
    "open": "37.8",
    "high": "37.91",
    "low": "37.7",
    "close": "37.826",
    "fees": Json({"HYPE": "0.29154", "USDC": "7.7384"}),
    "is_complete": True,
}


def _insert(connection: psycopg.Connection, samples: Path) -> None:
    add(connection, "twap_statuses", *(real_status_row(event) for event in real_statuses(samples)))
    lines = (samples / "node_fills_by_block_20260315_0.jsonl").read_text().splitlines()
    events = ((block, *event) for block in map(json.loads, lines) for event in block["events"])
    for ordinal, (block, wallet, fill) in enumerate(events):
        if fill.get("twapId") in (1670761, 1671203):
            add(connection, "fills", {**_fill(block, wallet, fill), "ordinal": ordinal})
    add(connection, "twaps", twap_row(2018017, at("2026-07-09 18:56:06.714"), **_FIGURES))
    slice_at = at("2026-03-15 00:00:00.099")
    add(connection, "twaps", twap_row(1671203, slice_at, coin="PENGU", side="A", verdict="status_missing", statuses=0))
    add(connection, "twap_slice_days", {"twap_id": 1671203, "date": "2026-03-15"}, {"twap_id": 1671203, "date": "2026-03-16"})
    add(
        connection,
        "twap_days",
        {"date": "2026-07-09", "twaps_at": at("2026-07-10 02:00")},
        {"date": "2026-07-10", "state": "pending", "explanation": "not due"},
    )
    add(connection, "fills_days", {"date": "2026-03-14", "thinned_at": at("2026-06-01 00:00"), **_MADE})
    add(connection, "fills_hours", {"date": "2026-03-14", "hour": 12})
    lacks = {"state": "incomplete", "explanation": "1 of 25 objects missing: hour 7. 3 blocks missing in that of hour 9."}
    for hour in range(25):
        _add_hour(connection, at("2026-03-16 00:00") + timedelta(hours=hour))
    loaded = {"loaded_at": at("2026-03-17 02:06:00"), **_MADE}
    add(connection, "fills_days", {"date": "2026-03-15", **loaded}, {"date": "2026-03-16", **lacks, **loaded})
    day = {"date": "2026-03-15"}
    add(connection, "daily_stats", {**day, "coin": "@107", "kind": "spot", **_STATS})
    wallet = {"wallet": "0x9d097697e5b82a52f6b82c16c148a753bbf5c8ae", "coins": 2, "twaps": 2, "fees": Json({"USDC": "0.031289"})}
    times = {"first_fill": slice_at, "last_fill": at("2026-03-15 00:00:01.071"), "is_complete": True, "maker_fills": 0}
    notionals = {"maker_notional": 0, "taker_notional": "45.291564"}
    add(
        connection,
        "user_stats",
        {**day, **wallet, **times, **notionals, "taker_fills": 2, "closed_pnl": 0, "fees_in_quote": "0.031289"},
    )
    built = {"fees": Json({"USDC": "12.25", "HYPE": "0.5"}), "fees_in_quote": "31.15", "notional": "24500.5"}
    add(
        connection,
        "builder_stats",
        {
            **day,
            "builder": _BUILDER,
            "coin": "@107",
            "fills": 40,
            "fills_with_fee": 38,
            "wallets": 9,
            "is_complete": True,
            **built,
        },
        {**day, "builder": _BUILDER, "coin": "BTC", "fills": 2, "fills_with_fee": 0, "wallets": 1, "is_complete": True}
        | {"fees": Json({}), "fees_in_quote": 0, "notional": "135.25"},
    )
    add(connection, "candles", {"coin": "xyz:LITE", "time": at("2026-07-09 18:57:00"), "date": "2026-07-09", "close": "801.5"})
    minute = {"open": "37.82", "high": "37.83", "low": "37.81", "close": "37.826", "volume": "97.25", "notional": "3678.3"}
    for number in range(2):
        add(connection, "candles", {**day, **minute, "coin": "@107", "time": at("2026-03-15 00:00") + timedelta(minutes=number)})
    _add_requests(connection)
    hour = {"object_date": "2026-03-15", "object_hour": 0, "object_id": 3_028_056}
    key = "node_fills_by_block/hourly/20260315/0.lz4"
    add(connection, "s3_ingest_log", {"object_key": key, "loaded_at": at("2026-03-15 02:04:11.250"), **hour})


def _add_requests(connection: psycopg.Connection) -> None:
    """The requests that brought three objects, one of them at the second attempt."""
    requests_of = [
        ("LIST", "node_fills_by_block/hourly/20260315/", 6_211, "0.0000047", None),
        ("GET", "node_fills_by_block/hourly/20260315/0.lz4", 84_120_400, "0.0096745", None),
        ("GET", "node_fills_by_block/hourly/20260315/1.lz4", 1_048_576, "0.0001210", "connection reset"),
        ("GET", "node_fills_by_block/hourly/20260315/1.lz4", 79_004_112, "0.0090862", None),
    ]
    for method, key, size, dollars, error in requests_of:
        connection.execute(
            b"INSERT INTO hl.s3_requests (at, bucket, method, key, bytes, dollars, error) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (at("2026-03-17 02:04:00"), "hl-mainnet-node-data", method, key, size, dollars, error),
        )


def _add_hour(connection: psycopg.Connection, hour: datetime) -> None:
    """Of node_fills_by_block: there, but for one that is missing and one in which blocks are, which is acknowledged."""
    place = {"object_date": hour.date(), "object_hour": hour.hour, "judged_at": at("2026-03-17 02:06:00")}
    if (hour.day, hour.hour) == (16, 7):
        add(connection, "coverage", {**place, "found": "missing", "why": "no such object in node_fills_by_block"})
        return
    first = 924_310_000 + (hour.day - 16) * 1_200_000 + hour.hour * 50_000
    key = f"node_fills_by_block/hourly/{hour:%Y%m%d}/{hour.hour}.lz4"
    values: dict[str, Any] = {"object_key": key, "etag": "5f363e0e58a95f06cbe9bbc662c5dfb6", "rows": 271_828, "bad_lines": 0}
    values |= {"first_block": first, "last_block": first + 49_999, "fetched_at": at("2026-03-17 02:04:11.250")}
    if (hour.day, hour.hour) == (16, 9):
        lost = {"missing_blocks": 3, "missing_ranges": f"{{[{first + 11},{first + 14})}}", "found": "blocks missing"}
        values |= {**lost, "why": f"{first + 11}-{first + 13} in {key}", "note": "the node was down"}
    add(connection, "coverage", {**place, **values})


def _fill(block: dict[str, Any], wallet: str, fill: dict[str, Any]) -> dict[str, Any]:
    seconds, _, fraction = block["block_time"].partition(".")
    named = {"startPosition": "start_position", "closedPnl": "closed_pnl", "feeToken": "fee_token", "twapId": "twap_id"}
    return {
        **{named.get(name, name): value for name, value in fill.items()},
        "time": _EPOCH + timedelta(milliseconds=fill["time"]),
        "hash": bytes.fromhex(fill["hash"][2:]),
        "wallet": wallet,
        "block_number": block["block_number"],
        "block_time_ns": ns(seconds, int(fraction)),
        "object_id": 3_028_056,
    }


@pytest.fixture(scope="module")
def api(new_database: NewDatabase, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Api]:
    url = new_database()
    with connect(url, "test") as connection:
        _insert(connection, samples)
    lake = tmp_path_factory.mktemp("lake")
    thinned = {"time": at("2026-03-14 12:00"), "wallet": OTHER, "coin": "BTC"}
    write_fills_hour(open_lake(str(lake)), date(2026, 3, 14), 12, pl.DataFrame([thinned], schema=DAY_SCHEMA), [])
    with serving(url, HL_LAKE_URL=str(lake)) as api:
        yield api


@pytest.mark.parametrize(("url", "language", "answer"), EXAMPLE.findall(TEXT))
def test_each_example_is_what_the_api_answers(api: Api, url: str, language: str, answer: str) -> None:
    response = api.ask(url.removeprefix(HOST))
    assert (response.json() if language == "json" else response.text.replace("\r\n", "\n")) == (
        json.loads(answer) if language == "json" else answer
    )


def test_each_path_is_named_and_no_answer_stands_without_its_request(api: Api) -> None:
    for path in api.get("/openapi.json")["paths"]:
        assert f"`GET {path}`" in TEXT, path
    assert len(EXAMPLE.findall(TEXT)) + len(QUESTION.findall(TEXT)) == TEXT.count("```json") + TEXT.count("```csv")


@pytest.mark.parametrize(("code", "shown"), OF_CLIENT)
def test_each_example_of_the_client_prints_what_the_guide_shows(
    api: Api, code: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HL_API_URL", api.url)
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore", IncompleteWarning)
        exec(code, {})
    assert printed.getvalue() == shown


def test_the_guide_of_the_client_has_ten_short_examples() -> None:
    assert len(OF_CLIENT) == 10
    assert max(len(code.splitlines()) for code, _ in OF_CLIENT) <= 12


@pytest.mark.parametrize(("question", "answer"), QUESTION.findall(TEXT))
def test_each_question_to_info_gets_the_answer_shown(api: Api, question: str, answer: str) -> None:
    response = requests.post(f"{api.url}/info", json=json.loads(question), timeout=60)
    assert response.json() == json.loads(answer)


def test_the_example_of_hyperliquids_client_runs_as_shown(api: Api) -> None:
    [program] = [block.text for block in blocks("python") if "hyperliquid" in block.text]
    names: dict[str, Any] = {}
    exec(program.replace(HOST, api.url), names)
    assert len(names["slices"]) == 2
    assert names["candles"][0]["s"] == "@107"


@pytest.mark.parametrize("url", sorted(set(_REQUEST.findall("\n".join(page.read_text() for page in pages())))))
def test_each_request_of_any_page_is_one_that_the_api_takes(api: Api, url: str) -> None:
    """Those of wallets and coins that are not here may find nothing, but none is refused."""
    assert api.ask(url.removeprefix(HOST)).status_code in ((200, 404, 422) if HOST + url in _EXAMPLES else (200, 404)), url


def test_the_loop_over_pages_gives_every_fill_once(api: Api) -> None:
    [code] = [block.text for block in blocks("python") if "def fills" in block.text]
    names: dict[str, Any] = {}
    exec(code.replace(HOST, api.url), names)
    found = list(names["fills"](wallet=_WALLET, start="2026-03-15", end="2026-03-15", limit=1))
    assert [fill["ordinal"] for fill in found] == [1357, 1371]


def test_a_parquet_file_has_its_coverage_as_the_page_reads_it(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = [block.text for block in blocks("python") if 'metadata[b"coverage"]' in block.text]
    [name] = re.findall(r'"(fills-[\w-]+\.parquet)"', code)
    asked = f"/api/v1/fills?wallet={_WALLET}&start=2026-03-15&end=2026-03-15&format=parquet"
    (tmp_path / name).write_bytes(api.ask(asked).content)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert [run["state"] for run in names["coverage"]] == ["whole"]
