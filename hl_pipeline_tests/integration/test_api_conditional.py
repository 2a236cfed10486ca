"""ETag, If-None-Match and Cache-Control: a client keeps what cannot change, and is told of a day that was repaired."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import requests

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.api import WALLET, Api, add, at, serving, twap_row

WHOLE, BROKEN = "2025-11-03", "2025-11-04"
MADE = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at"), at("2025-11-05 00:00"))
KEY = "hl_some-key"
KEYS = f"bot:{hashlib.sha256(KEY.encode()).hexdigest()}"
CHECKED, KEPT = "public, no-cache", "public, max-age=300"


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    with connect(url, "test") as connection:
        fill = {"wallet": WALLET, "tid": 1, "twap_id": 7}
        add(connection, "fills", {"time": at(f"{WHOLE} 12:00"), **fill}, {"time": at(f"{BROKEN} 12:00"), **fill})
        add(
            connection,
            "fills_days",
            {"date": WHOLE, **MADE},
            {"date": today, **MADE},
            {"date": BROKEN, "state": "incomplete", **MADE},
        )
        add(connection, "twaps", twap_row(7, at(f"{WHOLE} 12:00")))
        add(connection, "twap_slice_days", {"twap_id": 7, "date": WHOLE})
        add(connection, "candles", {"date": WHOLE, "coin": "SOL", "time": at(f"{WHOLE} 12:00")})
        add(connection, "daily_stats", {"date": WHOLE, "coin": "SOL"})
        times = {"first_fill": at(f"{WHOLE} 12:00"), "last_fill": at(f"{WHOLE} 12:00")}
        add(connection, "user_stats", {"date": WHOLE, "wallet": WALLET, **times})
    return url


@pytest.fixture(scope="module", params=["32", "0"])
def api(request: pytest.FixtureRequest, url: str) -> Generator[Api]:
    """With answers kept in memory, and without."""
    with serving(url, HL_API_CACHE_MB=request.param) as api:
        yield api


@pytest.fixture
def rows(url: str) -> Generator[psycopg.Connection]:
    with connect(url, "test") as connection:
        yield connection


def _fills(first: str, last: str = "") -> str:
    return f"/api/v1/fills?wallet={WALLET}&start={first}&end={last or first}"


def _ask(api: Api, path: str, etag: str | None = None, method: str = "GET", **headers: str) -> requests.Response:
    sent = headers if etag is None else {"If-None-Match": etag, **headers}
    return requests.request(method, api.url + path, headers=sent, timeout=20)


LISTS = [
    _fills(WHOLE),
    f"/api/v1/candles?coin=SOL&start={WHOLE}&end={WHOLE}",
    f"/api/v1/stats/daily?start={WHOLE}&end={WHOLE}",
    f"/api/v1/stats/users?start={WHOLE}&end={WHOLE}&top=3",
    "/api/v1/twaps/7/fills",
]
OTHERS = [
    f"/api/v1/twaps?wallet={WALLET}&start={WHOLE}&end={WHOLE}",
    "/api/v1/twaps/7",
    "/api/v1/twaps/7/analytics",
    f"/api/v1/coverage?start={WHOLE}&end={WHOLE}",
    f"/api/v1/coverage/days?start={WHOLE}&end={WHOLE}",
]


@pytest.mark.parametrize("path", LISTS + OTHERS)
def test_an_answer_that_the_client_has_is_not_sent_again(api: Api, path: str) -> None:
    first = _ask(api, path)
    etag = first.headers["etag"]
    assert first.status_code == 200
    assert etag.startswith('W/"')
    assert first.headers["cache-control"] == (KEPT if path in LISTS else CHECKED)
    # A short answer is never compressed.
    is_long = len(first.content) >= 1000
    assert first.headers["vary"] == ("Accept, Accept-Encoding" if is_long else "Accept")
    for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        for method in ("GET", "HEAD"):
            again = _ask(api, path, known, method)
            assert (again.status_code, again.content) == (304, b"")
            assert (again.headers["etag"], again.headers["cache-control"]) == (etag, first.headers["cache-control"])
            assert again.headers["vary"] == "Accept, Accept-Encoding"
            assert not {"content-length", "content-type"} & {name.lower() for name in again.headers}
    for known in ('W/"other"', "", etag[3:-1]):
        assert (_ask(api, path, known).content, _ask(api, path, known).headers["etag"]) == (first.content, etag)
    head = _ask(api, path, method="HEAD")
    of_each = {"date": "", "x-request-id": ""}
    assert {**head.headers, **of_each} == {**first.headers, **of_each}


def test_a_day_that_is_repaired_changes_its_etag_and_only_then(api: Api, rows: psycopg.Connection) -> None:
    before = _ask(api, _fills(WHOLE)).headers["etag"]
    rows.execute("UPDATE hl.fills SET px = px + 1 WHERE time::date = %s", [BROKEN])
    assert _ask(api, _fills(WHOLE), before).status_code == 304
    rows.execute("UPDATE hl.fills SET px = px + 1 WHERE time::date = %s", [WHOLE])
    after = _ask(api, _fills(WHOLE), before)
    assert after.status_code == 200
    assert after.headers["etag"] != before
    # A verdict alone changes it too.
    rows.execute("UPDATE hl.fills_days SET state = 'incomplete' WHERE date = %s", [WHOLE])
    try:
        worse = _ask(api, _fills(WHOLE), after.headers["etag"])
        assert (worse.status_code, worse.headers["cache-control"]) == (200, CHECKED)
    finally:
        rows.execute("UPDATE hl.fills_days SET state = 'whole' WHERE date = %s", [WHOLE])
    assert _ask(api, _fills(WHOLE), after.headers["etag"]).status_code == 304


def test_a_range_that_is_not_over_or_not_whole_is_asked_for_again_each_time(api: Api) -> None:
    today = datetime.now(UTC).date()
    ranges = {
        (WHOLE, WHOLE): KEPT,
        (BROKEN, BROKEN): CHECKED,
        (WHOLE, BROKEN): CHECKED,
        ("2025-11-02", WHOLE): CHECKED,
        (f"{today}", f"{today}"): CHECKED,
        (f"{today}", f"{today + timedelta(1)}"): CHECKED,
    }
    assert {one: _ask(api, _fills(*one)).headers["cache-control"] for one in ranges} == ranges


def test_with_keys_no_shared_cache_may_keep_an_answer(url: str) -> None:
    with serving(url, HL_API_KEYS=KEYS) as api:
        kept = _ask(api, _fills(WHOLE), Authorization=f"Bearer {KEY}")
        checked = _ask(api, _fills(BROKEN), **{"X-API-Key": KEY})
        assert [one.headers["cache-control"] for one in (kept, checked)] == ["private, max-age=300", "private, no-cache"]
        assert {one.headers["vary"] for one in (kept, checked)} == {"Accept, Authorization, X-API-Key, Cookie"}
        assert _ask(api, _fills(WHOLE), kept.headers["etag"]).status_code == 401


def test_errors_and_files_have_no_etag(api: Api) -> None:
    for path in ("/api/v1/fills", "/api/v1/twaps/12345", f"{_fills(WHOLE)}&format=csv", f"{_fills(WHOLE)}&format=parquet"):
        response = _ask(api, path, "*")
        assert response.status_code in (200, 404, 422)
        assert not {"etag", "cache-control"} & set(response.headers)
