"""The explorer's pages: their figures are the API's, their links lead somewhere, and what a person types is never markup."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import requests
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.pages import Html
from hl_pipeline_tests.processes import free_port
from hl_pipeline_tests.servers.api import OTHER, WALLET, Api, add, at, ns, serving, status_row, twap_row

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
EVIL = "<b>\"'&"
DAY, NEXT = "2025-11-03", "2025-11-04"
TWAP, WITHOUT_ANALYTICS = 77, 79
PAGES = ("/", f"/wallet/{WALLET}", f"/twap/{TWAP}", f"/coin/SOL?day={DAY}", "/leaderboards", "/coverage", f"/coverage?day={DAY}")


def _fill(connection: psycopg.Connection) -> None:
    """Two days, of which the second lacks an hour, with a TWAP of 10 SOL in 4 minutes: three slices, the second of two fills."""
    made = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at", "builder_stats_at"), at("2025-11-05 00:00"))
    lacking = {"state": "incomplete", "explanation": "1 of 25 objects missing: hour 7."}
    add(connection, "fills_days", {"date": DAY, **made}, {"date": NEXT, **made, **lacking})
    add(connection, "twap_days", {"date": DAY, "twaps_at": at("2025-11-05 00:00")})
    add(connection, "coverage", {"object_date": NEXT, "object_hour": 6, "rows": 12})
    hole = {"found": "missing", "why": f"no such object {EVIL}", "source": "node_fills_by_block"}
    add(connection, "coverage", {"object_date": NEXT, "object_hour": 7, **hole})
    begins = at(f"{DAY} 10:00")
    figures = {
        "status": "finished",
        "size_requested": 10,
        "duration_minutes": 4,
        "planned_end": at(f"{DAY} 10:04"),
        "ended_at": at(f"{DAY} 10:04"),
        "size_observed": 9,
        "notional_observed": "900.9",
        "vwap": "100.1",
        "market_vwap": "100.0123456789",
        "slippage_bps": "-8.7643",
        "participation": "0.25",
        "first_slice_at": begins,
        "last_slice_at": at(f"{DAY} 10:02:30"),
        "slices": 3,
        "fills": 4,
        "fees": Json({"USDC": "0.5"}),
        "closed_pnl": "-1.25",
    }
    add(connection, "twaps", twap_row(TWAP, begins, **figures))
    add(connection, "twaps", twap_row(78, begins, coin=EVIL, wallet=OTHER, ended_at=at(f"{DAY} 10:01"), error=EVIL))
    add(connection, "twap_statuses", status_row(TWAP, ns(f"{DAY} 10:00"), size_requested=10))
    add(connection, "twap_statuses", status_row(TWAP, ns(f"{DAY} 10:04"), "finished", size_requested=10, size_executed=9))
    add(connection, "twap_statuses", status_row(78, ns(f"{DAY} 10:01"), "error", error=EVIL, coin=EVIL, wallet=OTHER))
    add(connection, "twap_slice_days", {"twap_id": TWAP, "date": DAY})
    slices = (("10:00:00", 3, 1, "100"), ("10:01:30", 2, 2, "101"), ("10:01:30", 1, 2, "98"), ("10:02:30", 3, 3, "100.2"))
    for number, (clock, size, order, px) in enumerate(slices):
        one = {"time": at(f"{DAY} {clock}"), "sz": size, "oid": order, "px": px, "tid": number + 1, "twap_id": TWAP}
        add(connection, "fills", one)
    add(connection, "twap_statuses", status_row(WITHOUT_ANALYTICS, ns(f"{NEXT} 11:00"), wallet=OTHER))
    add(connection, "twap_slice_days", {"twap_id": WITHOUT_ANALYTICS, "date": NEXT})
    add(connection, "fills", {"time": at(f"{NEXT} 11:00:30"), "tid": 9, "twap_id": WITHOUT_ANALYTICS, "wallet": OTHER})
    for clock, volume in (("09:58", 4), ("10:00", 12), ("10:01", 6), ("10:02", 24), ("10:03", 5)):
        add(connection, "candles", {"date": DAY, "coin": "SOL", "time": at(f"{DAY} {clock}"), "volume": volume})
    sums = {"notional": "5000", "twap_notional": "1250", "volume": 51, "fees": Json({})}
    for day in (DAY, NEXT):
        add(connection, "daily_stats", {"date": day, "coin": "SOL", **sums}, {"date": day, "coin": EVIL, **sums})
        times = {"first_fill": at(f"{day} 10:00"), "last_fill": at(f"{day} 10:03"), "fees": Json({"USDC": "0.5"})}
        add(connection, "user_stats", {"date": day, "wallet": WALLET, "maker_notional": 1, "taker_notional": 900, **times})


@pytest.fixture(scope="module")
def api(new_database: NewDatabase) -> Generator[Api]:
    url = new_database()
    with connect(url, "test") as connection:
        _fill(connection)
    with serving(url) as api:
        api.session.headers.update(BROWSER)
        yield api


def _page(api: Api, path: str, status: int = 200, **more: Any) -> Html:
    response = api.session.get(api.url + path, timeout=60, allow_redirects=False, **more)
    assert (response.status_code, response.headers["content-type"]) == (status, "text/html; charset=utf-8"), response.text
    assert "unsafe" not in response.headers["content-security-policy"]
    return Html(response.text)


def test_a_wallets_page_shows_the_figures_of_the_api(api: Api) -> None:
    [twap] = api.get("/api/v1/twaps", wallet=WALLET, start=DAY, end=NEXT)["twaps"]
    page = _page(api, f"/wallet/{WALLET}")

    _, row = page.tables[0]
    _, values = page.values[0]

    assert [row[0], *row[7:9]] == [str(TWAP), "25.00 %", "finished"]
    assert "buy SOL" in row[2]
    one = twap["analytics"]
    assert values[3:8] == [["10"], ["0.9"], [one["vwap"]], [one["slippage_bps"]], [one["participation"]]]
    assert (row[4], row[6].replace("\xa0", " "), row[9]) == ("90.0 %", "-8.76 bps", "match")
    assert f"{DAY} to {NEXT}" in page.words
    assert "1 of 2 days whole, 1 partial" in page.words


def test_a_twaps_table_has_each_candle_its_slices_and_the_straight_schedule(api: Api) -> None:
    page = _page(api, f"/twap/{TWAP}")

    _, *values = page.values[0]
    # Time, four prices, volume, slices, size, price, executed, due, share.
    shown = [(row[5], row[6], row[7], row[8], row[9], row[10], row[11]) for row in page.tables[0][1:]]

    assert shown == [
        ("4", "", "", "", "0", "0", ""),
        ("12", "1", "3", "100", "3", "2.5", "25.00 %"),
        ("6", "1", "3", "100", "6", "5", "50.00 %"),
        ("24", "1", "3", "100.2", "9", "7.5", "12.50 %"),
        ("5", "", "", "", "9", "10", ""),
    ]
    assert [row[11] for row in values] == [[], ["0.25"], ["0.5"], ["0.125"], []]


@pytest.mark.parametrize(
    ("paths", "files"),
    [(PAGES[1:3], 0), pytest.param(PAGES, 20, marks=pytest.mark.slow)],  # a hundred requests, a third of them for files
    ids=["wallet and TWAP", "all pages, and their files"],
)
def test_every_link_of_a_page_leads_somewhere(api: Api, paths: tuple[str, ...], files: int) -> None:
    pages = {path: _page(api, path) for path in paths}
    links = {link for page in pages.values() for link in page.links if not link.startswith("#")}
    links = {link for link in links if files or "format=" not in link}

    assert all(link.startswith("/") for link in links), links
    followed = {link: api.session.get(api.url + link, timeout=60, stream=True).status_code for link in links}

    assert {link: status for link, status in followed.items() if status != 200} == {}
    assert len([link for link in links if "format=" in link]) >= files
    for page in pages.values():
        assert len(page.ids) == len(set(page.ids))
        assert not page.open
        assert [tag for tag, given in page.tags if "style" in given or any(name.startswith("on") for name in given)] == []


def test_the_files_that_a_page_links_have_the_whole_range_and_its_json_the_page(api: Api) -> None:
    page = _page(api, f"/wallet/{WALLET}?asset=SOL")
    [as_json] = [link for link in page.links if link.startswith("/api/v1/twaps?") and "format" not in link]
    [as_csv] = [link for link in page.links if link.startswith("/api/v1/twaps?") and "format=csv" in link]

    assert as_json == f"/api/v1/twaps?wallet={WALLET}&start={DAY}&end={NEXT}&asset=SOL&limit=50"
    assert as_csv == f"/api/v1/twaps?wallet={WALLET}&start={DAY}&end={NEXT}&asset=SOL&format=csv"


@pytest.mark.parametrize("twap_id", [TWAP, WITHOUT_ANALYTICS])
def test_a_twaps_page_links_all_its_fills_in_every_format(api: Api, twap_id: int) -> None:
    page = _page(api, f"/twap/{twap_id}")
    files = {link.rpartition("=")[2]: link for link in page.links if f"/{twap_id}/fills?format=" in link}
    [fills] = api.pages(f"/api/v1/twaps/{twap_id}/fills", "fills", limit=5000)

    assert set(files) == {"csv", "ndjson", "parquet", "arrow"}
    assert [json.loads(line) for line in api.ask(files["ndjson"]).text.splitlines()] == fills
    assert len(fills) == {TWAP: 4, WITHOUT_ANALYTICS: 1}[twap_id]


def test_what_a_source_or_a_person_writes_is_text_on_every_page(api: Api) -> None:
    paths = (f"/wallet/{OTHER}", "/twap/78", f"/coin/{quote(EVIL, safe='')}?day={DAY}", f"/coverage?day={NEXT}", "/coverage", "/")
    bad = (f"/wallet/{quote(EVIL, safe='')}", f"/leaderboards?board={quote(EVIL)}", f"/coverage?month={quote(EVIL)}")
    for path, status in [*((path, 200) for path in paths), *((path, 422) for path in bad)]:
        page = _page(api, path, status)
        assert EVIL in page.words, path
        assert "b" not in {tag for tag, _ in page.tags}, path
    assert "<b>" not in _page(api, f"/coin/{quote(EVIL, safe='')}?day={DAY}").text.replace("<body>", "")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/wallet/0x12", 422, "An address is 0x and 40 hexadecimal digits"),
        ("/twap/5", 404, "TWAP ID 5 not found"),
        ("/twap/five", 422, "must be a whole number"),
        ("/coin/sol", 404, "Did you mean SOL?"),
        ("/coin/SOL?day=2025-13-01", 422, "day (2025-13-01) must be a day like 2025-11-03"),
        ("/coverage?month=11-2025", 422, "must be a month like 2025-11"),
        ("/leaderboards?period=5d", 422, "period (5d) must be '1d', '7d', '30d' or '90d'"),
        ("/twap/77?x=1", 422, "is not a parameter of this page"),
        ("/coverage?of=fills&of=fills", 422, "is given more than once"),
    ],
)
def test_an_error_is_a_page_that_says_what_is_accepted(api: Api, path: str, status: int, words: str) -> None:
    assert words in _page(api, path, status).words


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        (f" {WALLET.upper().replace('X', 'x')} ", f"/wallet/{WALLET}"),
        ("0x12", "/wallet/0x12"),
        ("77", "/twap/77"),
        ("PURR/USDC", "/coin/PURR%2FUSDC"),
        ("#1890", "/coin/%231890"),
        ("//evil.example", "/coin/%2F%2Fevil.example"),
        ("", "/"),
    ],
)
def test_the_search_leads_to_the_page_of_what_was_typed(api: Api, typed: str, path: str) -> None:
    found = api.session.get(f"{api.url}/search", params={"q": typed}, timeout=60, allow_redirects=False)

    assert (found.status_code, found.headers["location"]) == (303, path)


def test_the_calendar_links_an_hour_with_a_hole_to_the_reason(api: Api) -> None:
    page = _page(api, "/coverage?month=2025-11")
    rows = {row[0]: row for row in page.tables[0]}

    assert f"/coverage?day={NEXT}#h7" in page.links
    assert "missing, no such object" in rows[NEXT][8]
    assert [rows[NEXT][7], rows[NEXT][9], rows[NEXT][25]] == ["present", "never asked for", "incomplete"]
    assert "h7" in _page(api, f"/coverage?day={NEXT}").ids


def test_a_program_gets_json_at_the_root_and_a_browser_a_page(api: Api) -> None:
    page = api.session.get(f"{api.url}/", timeout=60)
    links = requests.get(f"{api.url}/", timeout=60)

    assert "text/html" in page.headers["content-type"]
    assert links.json()["service"] == "hl-pipeline"
    assert {"Accept"} <= set(page.headers["vary"].split(", ")) & set(links.headers["vary"].split(", "))


def test_while_the_database_is_away_a_page_says_so_in_its_words() -> None:
    with serving(f"postgresql://nobody@127.0.0.1:{free_port()}/hl", HL_API_POOL_TIMEOUT_SECONDS="0.1") as away:
        for path, words in (("/", "Connection refused"), (f"/wallet/{WALLET}", "the database is unavailable or busy")):
            page = _page(away, path, 503, headers=BROWSER)
            assert "The database does not answer" in page.words
            assert words in page.words


def test_pages_need_a_login_where_there_are_keys_and_work_below_a_path(new_database: NewDatabase) -> None:
    digest = hashlib.sha256(b"hl_key").hexdigest()
    with serving(new_database(), HL_API_KEYS=f"anna:{digest}", HL_API_PATH_PREFIX="/hl") as closed:
        for path in PAGES:
            answer = requests.get(closed.url + path, headers=BROWSER, timeout=60, allow_redirects=False)
            assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/hl/login")
        headers = {**BROWSER, "X-API-Key": "hl_key"}
        empty: dict[str, Any] = {"headers": headers, "timeout": 60, "allow_redirects": False}
        home = requests.get(f"{closed.url}/hl/", **empty)
        page = Html(home.text)
        assert "No day is loaded yet" in page.words
        assert all(link.startswith(("/hl/", "#")) for link in page.links)
        assert not [link for link in page.links if "format=" in link]
        assert (home.headers["cache-control"], "Cookie" in home.headers["vary"]) == ("private, no-cache", True)
        assert requests.get(f"{closed.url}/hl/search?q=5", **empty).headers["location"] == "/hl/twap/5"
        assert requests.get(f"{closed.url}/hl/static/none.js", **empty).status_code == 404
