"""The explorer in a headless Chromium, on a sample that `hl ingest` has loaded: as a person sees it, with and without JavaScript.

Each page loads without an error or a request to another host, has nothing that axe-core objects to, fits into 320 pixels, and
shows the figures of the API. Screenshots go to SCREENSHOTS_DIR, or to pytest's temporary directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.explorer import LAST, MISSING_HOUR, Twap, choose_twap, load_sample, page_paths
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.api import Api, serving
from hl_pipeline_tests.tools.take_pictures import Page, browsing, find_browser

pytestmark = pytest.mark.slow

_BROWSER = find_browser()
_MOST_SECONDS = 5
_MOST_TABS = 40
_DRAWN = """
    [...document.querySelectorAll("#charts canvas")].map(canvas => {
      const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return new Set(new Uint32Array(all.buffer)).size > 3;
    })
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """The API on the sample, a page of a browser, and the paths of the explorer's pages by name."""

    api: Api
    page: Page
    paths: dict[str, str]
    twap: Twap
    pictures: Path

    def open(self, name: str, *, width: int = 1280, scheme: str = "light") -> None:
        self.page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.page.resize(width, 900)
        self.page.events.clear()
        self.page.open(self.api.url + self.paths[name])
        # A chart of uPlot is drawn in the next microtask, and sized by an observer.
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.fixture(scope="module")
def loaded(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = new_database()
    load_sample(tmp_path_factory.mktemp("explorer"), url)
    return url


@pytest.fixture(scope="module")
def shown(loaded: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Shown]:
    if _BROWSER is None:
        pytest.skip("no Chromium is installed: make system-packages")
    twap = choose_twap(loaded)
    paths = {**page_paths(twap), "error": "/wallet/0x12"}
    directory = tmp_path_factory.mktemp("browser")
    pictures = Path(os.environ.get("SCREENSHOTS_DIR") or directory)
    pictures.mkdir(parents=True, exist_ok=True)
    with serving(loaded) as api, browsing(_BROWSER, directory) as page:
        for domain in ("Network", "Log", "Runtime"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        yield Shown(api, page, paths, twap, pictures)


def test_each_page_loads_in_time_without_an_error_or_a_request_elsewhere(shown: Shown) -> None:
    taken: dict[str, float] = {}
    for name in shown.paths:
        shown.open(name)
        events = shown.page.events
        asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        # The page of an error has its status, which Chromium logs.
        logged = [event["params"]["entry"] for event in events if event["method"] == "Log.entryAdded"]
        wrong = [entry for entry in logged if not (name == "error" and entry["source"] == "network")]
        wrong += [event for event in events if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")]
        seconds = shown.page.load_seconds()
        taken[name] = round(seconds, 2)

        assert wrong == [], name
        assert asked, name
        # Chromium's own icon of a field for a day is a data: URL.
        assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {urlsplit(shown.api.url).netloc}, name
        assert seconds < _MOST_SECONDS, name
    print(f"load {os.getloadavg()[0]:.1f}, seconds until loaded: {json.dumps(taken)}")  # noqa: T201


@pytest.mark.parametrize(("side", "width", "scheme"), [("phone", 390, "dark"), ("desktop", 1280, "light")])
def test_axe_core_finds_nothing_on_any_page(shown: Shown, side: str, width: int, scheme: str) -> None:
    violations: list[tuple[str, ...]] = []
    axe = (resources.files("axe_core_python") / "axe.min.js").read_text()
    for name in shown.paths:
        shown.open(name, width=width, scheme=scheme)
        shown.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        shown.page.call("Runtime.evaluate", expression=axe)
        found = shown.page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(found => JSON.stringify(found))")
        violations += [
            (name, one["id"], str(node["target"]), node["failureSummary"])
            for one in json.loads(found)["violations"]
            for node in one["nodes"]
        ]
        height = min(shown.page.evaluate("document.documentElement.scrollHeight"), 2600)
        (shown.pictures / f"{name}-{side}-{scheme}.png").write_bytes(shown.page.photograph(height))
    assert violations == []


def test_no_page_is_wider_than_a_window_of_320_pixels(shown: Shown) -> None:
    wide: dict[str, int] = {}
    for name in shown.paths:
        shown.open(name, width=320)
        shown.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        wide[name] = shown.page.evaluate("document.documentElement.scrollWidth")
    assert {name: width for name, width in wide.items() if width > 320} == {}


def test_the_figures_of_a_twap_are_the_apis_and_its_picture_is_drawn(shown: Shown) -> None:
    twap_id, coin = shown.twap.twap_id, shown.twap.coin
    one = shown.api.get(f"/api/v1/twaps/{twap_id}/analytics")
    [fills] = shown.api.pages(f"/api/v1/twaps/{twap_id}/fills", "fills", limit=5000)

    shown.open("twap")

    values = shown.page.evaluate("[...document.querySelectorAll('.cards data')].map(data => data.value)")
    names = ("slippage_bps", "slippage_arrival_bps", "participation", "vwap", "market_vwap", "arrival_px")
    assert {one[name] for name in names} <= set(values)
    assert one["verdict"] in shown.page.evaluate("document.querySelector('.cards').innerText")
    assert shown.page.evaluate(_DRAWN) == [True] * 3
    data = json.loads(shown.page.evaluate("document.getElementById('chart-data').textContent"))
    assert (data["coin"], len(data["slices"][0])) == (coin, one["slices"])
    assert sum(map(Decimal, map(str, data["own"]))) == sum(Decimal(fill["sz"]) for fill in fills) == Decimal(one["size_observed"])
    executed = shown.page.evaluate("[...document.querySelectorAll('details tr')].at(-1).cells[9].querySelector('data').value")
    assert Decimal(executed) == Decimal(one["size_observed"])


def test_the_rows_of_a_wallet_and_of_a_leaderboard_are_the_apis(shown: Shown) -> None:
    wallet = shown.twap.wallet
    summary = shown.api.get(f"/api/v1/wallets/{wallet}")
    twaps = shown.api.get("/api/v1/twaps", wallet=wallet, start=summary["start"], end=summary["end"])["twaps"]
    shown.open("wallet")
    rows = shown.page.evaluate(
        "[...document.querySelectorAll('.cardlike tbody tr')].map(row => "
        "[row.cells[0].innerText, row.querySelector('[data-label=Slippage] data')?.value ?? null, row.cells[9].innerText])"
    )
    assert rows == [
        [one["twap_id"], one["analytics"]["slippage_bps"], one["analytics"]["verdict"].replace("_", " ")] for one in twaps
    ]
    values = shown.page.evaluate("[...document.querySelectorAll('.cards data')].map(data => data.value)")
    assert {summary["notional"], summary["closed_pnl"], summary["fees_in_quote"], summary["twaps"]["notional"]} <= set(values)

    ranking = shown.api.get("/api/v1/leaderboards/pnl", period="7d", limit=50)["ranking"]
    shown.open("leaderboards")
    rows = shown.page.evaluate(
        "[...document.querySelectorAll('tbody tr')].map("
        "row => [row.querySelector('a').title, row.cells[2].querySelector('data').value])"
    )
    assert rows == [[one["wallet"], one["closed_pnl"]] for one in ranking]


def test_a_person_follows_a_hole_to_its_reason_with_the_keyboard(shown: Shown) -> None:
    shown.open("coverage")
    tip = "getComputedStyle(document.querySelector('a.cell .tip')).clipPath"
    assert shown.page.evaluate(tip) != "none"

    for _ in range(_MOST_TABS):
        _press(shown.page, "Tab", 9)
        if shown.page.evaluate("document.activeElement.matches('a.cell')"):
            break

    assert shown.page.evaluate(tip) == "none"
    assert f"{LAST}, hour {MISSING_HOUR}" in shown.page.evaluate("document.activeElement.innerText")
    _press(shown.page, "Enter", 13)
    wait_until(lambda: shown.page.says("Objects of the day"), 30, "the day's page is there")
    assert shown.page.evaluate("document.querySelector('tr:target').innerText").split()[:3] == [
        "13",
        "node_fills_by_block",
        "missing",
    ]


def _press(page: Page, key: str, code: int) -> None:
    text = {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)


def test_a_search_leads_from_a_coin_that_is_misspelled_to_its_page(shown: Shown) -> None:
    coin = shown.twap.coin
    shown.open("home")
    shown.page.evaluate(f"document.querySelector('main [name=q]').value = {json.dumps(coin.swapcase())}")
    shown.page.evaluate("document.querySelector('main form').requestSubmit()")
    wait_until(lambda: shown.page.says("Did you mean"), 30, "the page suggests coins")
    shown.page.click(coin)
    wait_until(lambda: shown.page.says("Market and TWAP flow"), 30, "the coin's page is there")
    assert shown.page.evaluate("decodeURIComponent(location.pathname)") == f"/coin/{coin}"


def test_without_javascript_the_same_figures_are_in_tables(shown: Shown) -> None:
    with_script: dict[str, str] = {}
    rows = "[...document.querySelectorAll('details tbody')].map(body => body.textContent).join()"
    for name in ("twap", "coin"):
        shown.open(name)
        assert shown.page.evaluate("document.querySelector('details').open") is False
        with_script[name] = shown.page.evaluate(rows)
    shown.page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        for name in ("twap", "coin"):
            shown.page.resize(1280, 900)
            shown.page.open(shown.api.url + shown.paths[name])
            assert shown.page.evaluate("document.querySelectorAll('canvas').length") == 0
            assert shown.page.evaluate("document.querySelector('details').open") is True
            assert shown.page.evaluate("getComputedStyle(document.querySelector('#charts')).display") == "none"
            assert shown.page.evaluate(rows) == with_script[name] != ""
    finally:
        shown.page.call("Emulation.setScriptExecutionDisabled", value=False)
