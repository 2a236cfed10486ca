"""POST /info: Hyperliquid's own Python client gets from it what the real records say, in the same form and order."""

from __future__ import annotations

import json
import random
from collections.abc import Generator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from hyperliquid.info import Info
from hyperliquid.utils.error import ClientError, ServerError
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.integration.test_api_keys import EXPORTER, KEYS, READER
from hl_pipeline_tests.naive.info import PAGE, Fill, aggregated, as_text, candles, store_fills
from hl_pipeline_tests.records.reading import read_record
from hl_pipeline_tests.servers.api import OTHER, WALLET, Api, add, at, real_status_row, real_statuses, serving
from hl_pipeline_tests.servers.info_api import make_user

BUSY = make_user("busy", 12_500, slices=0.1)
ODD, OLD = "0x" + "3c" * 20, "0x" + "4d" * 20
START_MS = 1_763_683_200_000
_PERIODS = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "8h": 480, "12h": 720, "1d": 1440,
}  # fmt: skip


def _real_page() -> list[Fill]:
    return json.loads(read_record("user_fills_by_time_page.json"))


def _real_blocks() -> list[tuple[str, Fill]]:
    lines = read_record("node_fills_by_block_20260315_0.jsonl").splitlines()
    return [(user, fill) for line in lines for user, fill in json.loads(line)["events"]]


def _busy_fills() -> list[Fill]:
    """Fills of 28 hours, up to 11 in a millisecond, of which two in three are of the same order as the one before."""
    fills: list[Fill] = []
    for number, fill in enumerate(BUSY.fills):
        time = START_MS + (fill["time"] - BUSY.fills[0]["time"]) // 700
        is_same = number % 3 and fills[-1]["time"] == time
        fills.append({**fill, "time": time, **({name: fills[-1][name] for name in _ALIKE} if is_same else {})})
    return fills


_ALIKE = ("coin", "side", "oid", "dir", "crossed", "feeToken", "twapId")


def _odd_fills() -> list[Fill]:
    """Fills with every member that only some have, and members that nobody knows yet."""
    plain = {name: value for name, value in _real_page()[0].items() if name != "cloid"}
    rare: dict[str, Any] = {"builderFee": "0.01", "builder": OTHER, "deployerFee": "0.02", "priorityGas": "3.0"}
    liquidation = {"liquidatedUser": OTHER, "markPx": "257.0", "method": "market"}
    unknown = {"feeTrialEscrow": "1.50", "new": {"list": [1, 0.1, 12345678901234567890123], "none": None}}
    without_twap = {name: value for name, value in plain.items() if name != "twapId"}
    made: list[Fill] = [plain, {**plain, **rare}, {**plain, "liquidation": liquidation}, {**plain, **unknown}, without_twap]
    return [{**fill, "time": plain["time"] + number, "tid": number + 1} for number, fill in enumerate(made)]


def _minutes(count: int) -> list[dict[str, Any]]:
    rng = random.Random("minutes")
    made: list[dict[str, Any]] = []
    for number in sorted(rng.sample(range(count * 2), count)):
        low, more = rng.randrange(1, 10**6), rng.randrange(1, 10**4)
        values = {"o": low + rng.randrange(more), "h": low + more, "l": low, "c": low + rng.randrange(more)}
        prices = {name: f"{value / 1000:.3f}" for name, value in values.items()}
        made.append({"t": START_MS + number * 60_000, **prices, "v": f"{rng.randrange(10**8)}e-5", "n": rng.randrange(1, 99)})
    return made


MINUTES = _minutes(6_000)


def _fill_database(connection: psycopg.Connection, samples: Path) -> None:
    store_fills(connection, [(WALLET, fill) for fill in _real_page()])
    store_fills(connection, _real_blocks())
    store_fills(connection, [(ODD, fill) for fill in _odd_fills()])
    add(connection, "twap_statuses", *(real_status_row(event) for event in real_statuses(samples)))
    with connection.cursor().copy(
        "COPY hl.candles (coin, time, open, high, low, close, volume, notional, trades, date) FROM STDIN"
    ) as copy:
        for one in MINUTES:
            time = at("1970-01-01 00:00") + timedelta(milliseconds=one["t"])
            copy.write_row(("@107", time, one["o"], one["h"], one["l"], one["c"], one["v"], 0, one["n"], time.date()))
    days = [{"date": date(2025, 11, 21) + timedelta(number)} for number in range(120)]
    add(connection, "fills_days", *({**day, "candles_at": at("2026-03-17 00:00")} for day in days))
    coins = {
        "BTC": ("USDC", "0.00100"),
        "xyz:TSLA": ("USDC", 1),
        "@107": ("HYPE USDC", "97.25"),
        "PURR/USDC": ("USDC", 3),
        "#1890": ("USDC", 1),
    }
    for coin, (tokens, volume) in coins.items():
        fees = Json(dict.fromkeys(tokens.split(), "1"))
        add(connection, "daily_stats", {"date": days[0]["date"], "coin": coin, "volume": volume, "fees": fees})


@pytest.fixture(scope="module")
def database(new_database: NewDatabase, samples: Path) -> str:
    url = new_database()
    with connect(url, "test") as connection:
        _fill_database(connection, samples)
    return url


@pytest.fixture(scope="module")
def api(database: str) -> Generator[Api]:
    with serving(database) as api:
        yield api


@pytest.fixture(scope="module")
def busy(database: str, info: Info) -> Info:
    """The client, with a wallet of more fills than Hyperliquid's API reaches."""
    with connect(database, "test") as connection:
        store_fills(connection, [(BUSY.wallet, fill) for fill in _busy_fills()])
    return info


@pytest.fixture(scope="module")
def info(api: Api) -> Info:
    return Info(api.url, skip_ws=True)


def _ask(api: Api, **body: Any) -> requests.Response:
    return requests.post(f"{api.url}/info", json=body, timeout=60)


def _same(answer: object, expected: object) -> None:
    """The same values of the same types, in the same order of rows and members."""
    assert json.dumps(answer) == json.dumps(expected)


def test_the_real_page_of_user_fills_by_time_comes_back_identical(info: Info) -> None:
    page = _real_page()
    _same(info.user_fills_by_time(WALLET.upper().replace("X", "x"), page[0]["time"], page[-1]["time"]), page)
    _same(info.user_fills_by_time(WALLET, 0), page)
    _same(info.user_fills(WALLET), page[::-1])
    both = [fill for fill in page if page[5]["time"] <= fill["time"] <= page[6]["time"]]
    assert len(both) == 2
    _same(info.user_fills_by_time(WALLET, page[5]["time"], page[6]["time"]), both)
    assert info.user_fills_by_time(WALLET, page[-1]["time"] + 1) == info.user_fills_by_time(WALLET, 2, 1) == []
    assert info.user_fills("0x" + "5e" * 20) == []


def test_the_real_fills_of_a_node_are_fills_or_twap_slices_of_their_wallets(info: Info) -> None:
    blocks = _real_blocks()
    owners = [user for user, fill in blocks if fill["twapId"] is not None]
    for wallet in {*owners[::3], blocks[0][0], blocks[500][0], blocks[-1][0]}:
        own = [fill for user, fill in blocks if user == wallet]
        plain = [fill for fill in own if fill["twapId"] is None]
        slices = [{"fill": fill, "twapId": fill["twapId"]} for fill in own if fill["twapId"] is not None]
        _same(info.user_fills_by_time(wallet, 0), plain)
        _same(info.user_fills(wallet), plain[::-1])
        _same(info.user_twap_slice_fills(wallet), slices[::-1])
        asked = {"type": "userTwapSliceFillsByTime", "user": wallet, "startTime": 0}
        _same(info.post("/info", asked), slices)
    assert len(owners) == 8


@pytest.mark.slow
def test_a_history_of_12500_fills_is_paged_as_hyperliquids_without_its_limit_of_10000(busy: Info) -> None:
    fills = _busy_fills()
    for name, truth in (
        ("userFillsByTime", [fill for fill in fills if fill["twapId"] is None]),
        ("userTwapSliceFillsByTime", [{"fill": f, "twapId": f["twapId"]} for f in fills if f["twapId"] is not None]),
    ):
        found: dict[str, Any] = {}
        start, page = 0, [{}] * PAGE
        while len(page) == PAGE:
            page = busy.post("/info", {"type": name, "user": BUSY.wallet, "startTime": start})
            assert len(page) <= PAGE
            found |= {json.dumps(item): item for item in page}
            # The last time again: several fills share a millisecond.
            start = page[-1].get("fill", page[-1])["time"]
        _same(list(found.values()), _written(truth))
    newest = [fill for fill in _written(fills) if fill["twapId"] is None][::-1][:PAGE]
    _same(busy.user_fills(BUSY.wallet), newest)
    asked = {"type": "userFillsByTime", "user": BUSY.wallet, "startTime": 0, "reversed": True}
    answer = requests.post(f"{busy.base_url}/info", json=asked, timeout=60)
    assert answer.headers["X-More"] == "true"
    _same(answer.json(), newest)


def _written(items: list[Any]) -> list[Any]:
    """The generated fills with their numbers and members as Hyperliquid writes them."""
    numbers = ("px", "sz", "startPosition", "closedPnl", "fee")
    order = [*_real_page()[0]]

    def write(fill: Fill) -> Fill:
        values = {**fill, **{name: as_text(fill[name]) for name in numbers}}
        return {name: values[name] for name in order if name in values}

    return [{"fill": write(item["fill"]), "twapId": item["twapId"]} if "fill" in item else write(item) for item in items]


@pytest.mark.slow
def test_aggregated_by_time_a_page_has_2000_whole_orders(busy: Info) -> None:
    plain = [fill for fill in _written(_busy_fills()) if fill["twapId"] is None]
    expected = aggregated(plain)
    assert PAGE < len(expected) < len(plain) - 500
    _same(busy.user_fills_by_time(BUSY.wallet, 0, aggregate_by_time=True), expected[:PAGE])
    end = expected[-300]["time"]
    some = [fill for fill in expected if fill["time"] >= end]
    _same(busy.user_fills_by_time(BUSY.wallet, end, aggregate_by_time=True), some)


def test_aggregated_by_time_the_fills_of_an_order_in_a_block_are_one(info: Info) -> None:
    expected = aggregated(_real_page())
    assert len(expected) < PAGE
    _same(info.user_fills_by_time(WALLET, 0, aggregate_by_time=True), expected)
    newest = info.post("/info", {"type": "userFills", "user": WALLET, "aggregateByTime": True})
    assert sorted(fill["sz"] for fill in newest) == sorted(fill["sz"] for fill in expected)


def test_members_that_only_some_fills_have_come_back_as_they_were(api: Api) -> None:
    answer = _ask(api, type="userFillsByTime", user=ODD, startTime=0)
    assert answer.json() == _odd_fills()
    assert "[1,0.1,12345678901234567890123]" in answer.text


def test_a_fill_whose_members_are_not_all_known_is_left_out_and_counted(api: Api, database: str) -> None:
    known = {
        "start_position": 0,
        "dir": "Buy",
        "closed_pnl": 0,
        "hash": bytes(32),
        "oid": 1,
        "crossed": True,
        "fee": 0,
        "tid": 7,
        "fee_token": "USDC",
    }
    time = at("2025-11-22 12:00")
    with connect(database, "test") as connection:
        lacking = [{**known, name: None} for name in known]
        add(connection, "fills", *({**row, "time": time, "wallet": OLD, "oid": row["oid"]} for row in [known, *lacking]))
        add(connection, "fills", {**lacking[0], "time": time, "wallet": OLD, "twap_id": 1})
        add(connection, "fills", {**lacking[0], "time": time + timedelta(days=30), "wallet": OLD})
    for kind, end, left_out in (("userFillsByTime", at("2025-11-23 00:00"), 9), ("userFills", None, 10)):
        bounds = {} if end is None else {"startTime": 0, "endTime": round(end.timestamp() * 1000)}
        answer = _ask(api, type=kind, user=OLD, **bounds)
        assert [fill["tid"] for fill in answer.json()] == [7]
        assert answer.headers["X-Left-Out"] == str(left_out)
    assert _ask(api, type="userTwapSliceFills", user=OLD).headers["X-Left-Out"] == "1"
    full = _ask(api, type="userFillsByTime", user=WALLET, startTime=0)
    assert (full.headers["X-Left-Out"], full.headers.get("X-More")) == ("0", None)


def test_the_headers_say_which_days_are_there(api: Api) -> None:
    start, end = (round(at(f"2025-11-{day} 00:00").timestamp() * 1000) for day in (19, 22))
    answer = _ask(api, type="userFillsByTime", user=WALLET, startTime=start, endTime=end)
    assert json.loads(answer.headers["X-Coverage"]) == [
        {"from": "2025-11-19", "to": "2025-11-20", "state": "absent", "note": "not loaded"},
        {"from": "2025-11-21", "to": "2025-11-22", "state": "whole"},
    ]


def test_twap_history_has_the_real_events_with_seconds_newest_first(info: Info, samples: Path) -> None:
    for event in real_statuses(samples):
        status = event["status"]
        expected = {
            "time": round(at(event["time"].partition(".")[0].replace("T", " ")).timestamp()),
            "state": event["state"],
            "status": {"status": "error", "description": status["error"]} if isinstance(status, dict) else {"status": status},
            "twapId": event["twap_id"],
        }
        answer = info.post("/info", {"type": "twapHistory", "user": event["state"]["user"]})
        wanted = {**expected, "state": {name: expected["state"][name] for name in ("coin", "user", *_STATE)}}
        _same(answer, [wanted])


_STATE = ("side", "sz", "executedSz", "executedNtl", "minutes", "reduceOnly", "randomize", "timestamp")


def test_twap_history_keeps_a_trigger_and_leaves_out_events_with_unknown_members(api: Api, database: str) -> None:
    [event, *_] = real_statuses(Path(__file__).parents[1] / "records")
    user = "0x" + "6f" * 20
    state = {**event["state"], "user": user, "trigger": {"px": "1.0", "above": True}, "stopPx": None}
    with connect(database, "test") as connection:
        later = {**event, "state": state, "time": "2026-07-09T19:00:45.9", "twap_id": 5}
        add(connection, "twap_statuses", real_status_row(later), {**real_status_row({**later, "twap_id": 6}), "randomize": None})
    answer = _ask(api, type="twapHistory", user=user)
    [found] = answer.json()
    assert (found["twapId"], found["time"], found["state"]) == (5, 1783623645, state)
    assert answer.headers["X-Left-Out"] == "1"


@pytest.mark.parametrize(
    "interval", [one if one in ("1m", "1d") else pytest.param(one, marks=pytest.mark.slow) for one in _PERIODS]
)
def test_candles_of_every_interval_are_the_sums_of_their_minutes(info: Info, interval: str) -> None:
    expected = candles(MINUTES, "@107", interval, _PERIODS[interval])
    _same(info.candles_snapshot("@107", interval, 0, 2 * 10**12), expected[-5_000:])
    inner = [one for one in expected if expected[1]["t"] <= one["t"] <= expected[3]["t"]]
    _same(info.candles_snapshot("@107", interval, expected[1]["t"], expected[3]["t"]), inner)
    _same(info.candles_snapshot("@107", interval, expected[0]["t"] + 1, expected[2]["t"] - 1), expected[1:2])


def test_the_minimal_universe_knows_the_coins_that_were_seen_and_is_marked(info: Info, api: Api) -> None:
    assert info.name_to_coin == {"@107": "@107", "HYPE/USDC": "@107", "PURR/USDC": "PURR/USDC", "BTC": "BTC"}
    assert (info.coin_to_asset["@107"], info.asset_to_sz_decimals[10_107], info.asset_to_sz_decimals[0]) == (10_107, 2, 3)
    assert info.meta(dex="xyz")["universe"] == [{"szDecimals": 0, "name": "xyz:TSLA"}]
    for asked in ("meta", "spotMeta"):
        answer = _ask(api, type=asked)
        assert (answer.json()["synthetic"], answer.headers["X-Synthetic"]) == (True, "true")


def test_a_snapshot_file_is_the_universe_and_a_wrong_one_is_named(database: str, tmp_path: Path) -> None:
    path = tmp_path / "universe.json"
    snapshot = {
        "meta": {"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 40}], "marginTables": []},
        "spotMeta": {"universe": [], "tokens": [{"name": "USDC", "szDecimals": 8, "index": 0}]},
    }
    path.write_text(json.dumps(snapshot))
    with serving(database, HL_API_META_FILE=str(path)) as api:
        for asked, expected in snapshot.items():
            answer = _ask(api, type=asked)
            assert (answer.json(), "X-Synthetic" in answer.headers) == (expected, False)
        assert _ask(api, type="meta", dex="xyz").json()["synthetic"] is True
    for text, said in (
        ("{}", "meta: Field required"),
        ("no", "Invalid JSON"),
        (None, "HL_API_META_FILE .*universe.json is not a file"),
    ):
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises(SystemExit, match=said), serving(database, HL_API_META_FILE=str(path)):
            pass


_USER = {"user": WALLET}
_CANDLE = {"coin": "@107", "interval": "1m", "startTime": 0}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"type": "openOrders", **_USER}, "type: unknown variant 'openOrders', expected one of 'userFills', 'userTwap"),
        (_USER, "missing field `type`"),
        ({"type": "userFills"}, "user: is required"),
        ({"type": "userFills", "user": "0x12"}, "user: must be 0x and 40 hexadecimal digits"),
        ({"type": "userFillsByTime", **_USER}, "startTime: is required"),
        ({"type": "userFillsByTime", **_USER, "startTime": "0"}, "startTime: must be a whole number of milliseconds since 1970"),
        ({"type": "userFillsByTime", **_USER, "startTime": 1763744288013000000}, "startTime: must be a whole number of"),
        ({"type": "userFillsByTime", **_USER, "startTime": -1}, "startTime: must be a whole number of milliseconds"),
        ({"type": "userFills", **_USER, "aggregateByTime": 1}, "aggregateByTime: must be true or false"),
        ({"type": "candleSnapshot"}, "req: is required"),
        ({"type": "candleSnapshot", "req": {**_CANDLE, "interval": "1w"}}, "req.interval: must be '1m', '3m', '5m', '15m'"),
        ({"type": "candleSnapshot", "req": {**_CANDLE, "coin": "a b"}}, "req.coin: must be a coin, 1 to 64 characters"),
    ],
)  # fmt: skip
def test_a_wrong_question_gets_422_in_hyperliquids_words(info: Info, body: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError) as caught:
        info.post("/info", body)
    words = "Failed to deserialize the JSON body into the target type: "
    assert caught.value.status_code == 422
    assert caught.value.error_message.startswith(words + said)


def test_bodies_that_are_no_question_are_refused_in_plain_text(api: Api) -> None:
    def post(body: bytes, kind: str = "application/json") -> tuple[int, str]:
        answer = requests.post(f"{api.url}/info", data=body, headers={"Content-Type": kind}, timeout=60)
        assert answer.headers["Content-Type"].startswith("text/plain")
        return answer.status_code, answer.text

    assert post(b"{") == (400, "Failed to parse the request body as JSON: EOF while parsing an object at line 1 column 1")
    assert post(b"[]")[0] == 422
    assert post(b'{"type": "meta"}', "text/plain") == (415, "Expected request with `Content-Type: application/json`")
    assert post(b" " * 10_001) == (413, "the body must be at most 10,000 bytes")
    status, text = post(b'{"type": "candleSnapshot", "req": {"coin": "btc", "interval": "1m", "startTime": 0}}')
    assert (status, text) == (422, "no coin 'btc' is in the loaded days; did you mean BTC?")
    assert api.ask("/info").status_code == 405
    assert requests.post(f"{api.url}/api/v1/fills", json={}, timeout=60).status_code == 405


def test_keys_limits_and_origins_hold_for_it_as_for_the_other_paths(database: str) -> None:
    origin = "https://app.example.com"
    with serving(database, HL_API_KEYS=KEYS, HL_API_CORS_ORIGINS=origin, HL_API_REQUESTS_PER_MINUTE="3") as api:
        with pytest.raises(ClientError) as caught:
            Info(api.url, skip_ws=True)
        assert (caught.value.status_code, caught.value.error_message[:17]) == (401, "a key is required")
        client = Info(api.url, skip_ws=True, meta={"universe": []}, spot_meta={"universe": [], "tokens": []})
        client.session.headers["X-API-Key"] = EXPORTER
        _same(client.user_fills(WALLET), _real_page()[::-1])
        asks = {"Origin": origin, "Access-Control-Request-Headers": "content-type,x-api-key"}
        for path, method, allowed in (("/info", "POST", True), ("/info", "GET", False), ("/api/v1/fills", "POST", False)):
            headers = {**asks, "Access-Control-Request-Method": method}
            assert requests.options(api.url + path, headers=headers, timeout=60).ok is allowed
        statuses: list[int] = []
        answer = requests.Response()
        for _ in range(4):
            answer = requests.post(
                f"{api.url}/info", json={"type": "meta"}, headers={"X-API-Key": READER, "Origin": origin}, timeout=60
            )
            statuses.append(answer.status_code)
        assert statuses == [200, 200, 200, 429]
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert (answer.headers["Access-Control-Allow-Origin"], int(answer.headers["Retry-After"]) > 0) == (origin, True)


def test_without_a_database_the_client_gets_a_server_error(tmp_path: Path) -> None:
    nowhere = f"postgresql://nobody@/none?host={tmp_path}"
    with serving(nowhere, HL_API_POOL_TIMEOUT_SECONDS="0.2") as api, pytest.raises(ServerError) as caught:
        Info(api.url, skip_ws=True)
    assert caught.value.status_code == 503
