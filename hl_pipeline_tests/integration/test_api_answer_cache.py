"""Cached responses equal what the database would return at that moment. A commit or a new server invalidates them."""

from __future__ import annotations

import random
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.api import OTHER, WALLET, Api, add, at, serving, twap_row

DAY = {"start": "2025-11-03", "end": "2025-11-03"}
_REQUESTS = 80


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    with connect(url, "test") as connection:
        add(connection, "fills", *({"time": at("2025-11-03 12:00"), "tid": n, "wallet": WALLET, "px": n} for n in range(1, 9)))
    return url


@pytest.fixture
def api(url: str) -> Generator[Api]:
    with serving(url) as api:
        yield api


@pytest.fixture
def rows(url: str) -> Generator[psycopg.Connection]:
    with connect(url, "test") as connection:
        yield connection


def _figure(api: Api, name: str) -> float:
    families = text_string_to_metric_families(api.ask("/metrics").text)
    return next(sample.value for family in families for sample in family.samples if sample.name == name)


def _ask_until_repeated(api: Api, **values: str) -> list[requests.Response]:
    """Ask for fills until the cache responds. The pool's next connection, or a commit in another database, empties it first."""
    responses: list[requests.Response] = []

    def is_repeated() -> bool:
        responses.append(api.ask("/api/v1/fills", **DAY, **values))
        return _figure(api, "hl_api_cache_hits_total") > 0

    wait_until(is_repeated, 10, "a response comes from the cache")
    return responses


def test_an_unchanged_database_is_not_queried_twice(api: Api) -> None:
    responses = _ask_until_repeated(api, wallet=WALLET)
    assert len(responses) > 1
    assert {(response.content, response.headers["content-type"]) for response in responses} == {
        (responses[0].content, "application/json")
    }
    assert _figure(api, "hl_api_cache_bytes") == len(responses[0].content)


@pytest.mark.parametrize("kept_mb", ["32", pytest.param("0.02", marks=pytest.mark.slow)])
def test_each_answer_is_what_an_api_without_memory_gives_while_rows_change(url: str, kept_mb: str) -> None:
    """0.02 MB hold a few answers alone, so that most are pushed out."""
    order = random.Random(20251103)
    asked = [
        {"wallet": WALLET},
        {"wallet": OTHER},
        {"coin": "SOL"},
        {"wallet": WALLET, "limit": 3},
        {"wallet": WALLET, "offset": 2},
    ]
    with serving(url, HL_API_CACHE_MB=kept_mb) as api, serving(url, HL_API_CACHE_MB="0") as plain, connect(url, "test") as rows:
        for _ in range(_REQUESTS):
            if order.random() < 0.4:
                rows.execute("UPDATE hl.fills SET px = px + 1 WHERE tid = %s", [order.randint(1, 8)])
            values = order.choice(asked)
            assert api.ask("/api/v1/fills", **DAY, **values).content == plain.ask("/api/v1/fills", **DAY, **values).content
        assert 0 < _figure(api, "hl_api_cache_bytes") <= float(kept_mb) * 1_000_000
        assert 0 < _figure(api, "hl_api_cache_hits_total") < _REQUESTS
        assert _figure(plain, "hl_api_cache_hits_total") == 0


def test_what_was_committed_before_a_request_is_in_its_answer(api: Api, url: str) -> None:
    """Readers share the check for changes; each of them commits a price just before it asks, and reads it or a later one."""
    counter, lock = [1000], threading.Lock()

    def write_and_read(_: int) -> tuple[int, int]:
        session = Api(api.url)
        with psycopg.connect(url, autocommit=True) as connection:
            with lock:
                counter[0] += 1
                written = counter[0]
                connection.execute("UPDATE hl.fills SET px = %s WHERE tid = 1", [written])
            fills = session.get("/api/v1/fills", wallet=WALLET, **DAY)["fills"]
        return written, next(int(fill["px"]) for fill in fills if fill["tid"] == 1)

    with ThreadPoolExecutor(8) as readers:
        found = list(readers.map(write_and_read, range(_REQUESTS)))
    assert [(written, read) for written, read in found if read < written] == []


def test_a_transaction_in_progress_changes_nothing_until_it_ends(api: Api, rows: psycopg.Connection) -> None:
    with rows.transaction():
        add(rows, "twaps", twap_row(77, at("2025-11-03 12:00:00")))
        assert [api.ask("/api/v1/twaps/77").status_code for _ in range(3)] == [404, 404, 404]
    assert api.get("/api/v1/twaps/77")["twap_id"] == "77"
    with rows.transaction(force_rollback=True):
        rows.execute("DELETE FROM hl.twaps WHERE twap_id = 77")
        assert api.get("/api/v1/twaps/77")["twap_id"] == "77"
    assert api.get("/api/v1/twaps/77")["twap_id"] == "77"
    rows.execute("DELETE FROM hl.twaps WHERE twap_id = 77")
    assert api.ask("/api/v1/twaps/77").status_code == 404


def test_refusals_and_exports_are_not_kept(api: Api) -> None:
    for _ in range(2):
        assert api.ask("/api/v1/fills", wallet="0x1", **DAY).status_code == 422
        assert api.ask("/api/v1/fills", wallet=WALLET, **DAY, format="csv").headers["content-type"].startswith("text/csv")
    assert _figure(api, "hl_api_cache_bytes") == 0
    by_header = api.session.get(f"{api.url}/api/v1/fills", params={"wallet": WALLET, **DAY}, headers={"Accept": "text/csv"})
    assert by_header.headers["content-type"].startswith("text/csv")
    assert api.ask("/api/v1/fills", wallet=WALLET, **DAY).headers["content-type"] == "application/json"


def test_new_connections_forget_what_another_server_may_have_said(api: Api, rows: psycopg.Connection) -> None:
    _ask_until_repeated(api, wallet=WALLET)
    rows.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hl api'")
    status = [api.ask("/api/v1/fills", wallet=OTHER, **DAY).status_code for _ in range(3)]
    assert status[-1] == 200
    hits = _figure(api, "hl_api_cache_hits_total")
    assert api.get("/api/v1/fills", wallet=WALLET, **DAY)["fills"]
    assert _figure(api, "hl_api_cache_hits_total") == hits


def test_an_export_waits_for_no_connection_of_other_requests(url: str, rows: psycopg.Connection) -> None:
    candles = {"coin": "SOL", **DAY, "format": "csv"}
    limits = {"HL_API_POOL_SIZE": "1", "HL_API_POOL_TIMEOUT_SECONDS": "0.5"}
    with serving(url, **limits) as api, ThreadPoolExecutor(1) as client:
        with rows.transaction():
            rows.execute("LOCK hl.user_stats IN ACCESS EXCLUSIVE MODE")
            waiting = client.submit(Api(api.url).get, "/api/v1/stats/users", **DAY)
            wait_until(lambda: api.ask("/api/v1/twaps/6").status_code == 503, 10, "the only connection is in use")
            assert api.ask("/api/v1/candles", **candles).status_code == 200
        assert waiting.result()["stats"] == []
