"""Takes the pictures of docs/pictures: the UI and the explorer of a small sample in a headless Chromium.

`python -m hl_pipeline_tests.tools.take_pictures` makes a sample bucket in a temporary home, ingests its days, starts `hl up` on
it and photographs pages; at the end it ingests a day that lacks an object, whose failing check is in the last picture. It
takes a few minutes and touches nothing else. Chromium (Debian: package `chromium`) must be installed; it is driven with the
DevTools protocol. The sample's days are the latest ones, because the plots and the grid of days show no others at first.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.processes import (
    PROJECT,
    Ui,
    free_port,
    program,
    run,
    started,
    users_environment,
    wait_until,
)

PICTURES = PROJECT / "docs" / "pictures"
_DAYS = 30
_SHOWN = 14  # the number of latest days in the list of days
_FILLS_PER_HOUR = 200
_INCOMPLETE = 21  # a day of the sample, counted from 0
_MISSING_HOUR = 13
_WIDTH = 1180
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--disable-gpu",
    "--disable-quic",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# What the UI keeps of its user's choices: the navigation as icons, what a node of the graph says, no more than
# the description above the plots.
_CHOICES = {
    "dagster-nav-collapsed": True,
    "asset-node-facets": ["description", "checks", "latest-event", "kind-tag", "partitions"],
    "collapsible-section-Status": True,
    "collapsible-section-Columns": True,
}
# The last button whose text begins so; one without text is known by the name of its icon.
_FIND = """
    label => [...document.querySelectorAll("button, a, [role=button]")].findLast(
      e => (e.textContent.trim() || e.querySelector("[aria-label]")?.ariaLabel || "").startsWith(label))
"""
_PLACE = f"""
    label => {{
      const found = ({_FIND})(label);
      if (!found) return null;
      found.scrollIntoView({{block: "nearest"}});
      const box = found.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    }}
"""
# Where there is something to read, or to click on, the navigation aside; the last such place, or that of a text.
_PLACES = """
    [...document.querySelectorAll("body *")]
      .filter(e => e.matches("canvas, button") || [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
      .map(e => [e.textContent.trim(), e.getBoundingClientRect()])
      .filter(([_, box]) => box.width && box.height && box.left > 70)
"""
_END = f"""
    text => text === null
      ? Math.max(...({_PLACES}).map(([_, box]) => box.bottom)) + 24
      : Math.max(...({_PLACES}).filter(([found, _]) => found === text).map(([_, box]) => box.top)) - 18
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The generated buckets and their days. The day `incomplete` is missing an object."""

    bucket: Path
    statuses: Path
    days: list[date]
    incomplete: date


@dataclass(frozen=True, slots=True)
class Picture:
    """A page of the UI, which is ready when all of `clicks` were clicked on and it says all of `says`.

    The picture ends above the text `until`, or where there is nothing more to read, or at `height`. `is_reopened`: after the
    clicks, so that the page shows all of what they have opened.
    """

    name: str
    path: str
    says: tuple[str, ...]
    clicks: tuple[str, ...] = ()
    until: str | None = None
    height: int = 1400
    width: int = _WIDTH
    is_of_api: bool = False
    is_reopened: bool = False
    is_dark: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """The URLs of the UI and the REST API, and the environment of `hl`."""

    ui: str
    api: str
    environment: dict[str, str]


class Page:
    """A page of a browser, controlled over its DevTools socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.width = _WIDTH
        self.events: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        answer = self._receive("id", number)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self, name: str, value: object) -> dict[str, Any]:
        """Return the next message with this key. Events before it go to `events`."""
        while True:
            message = json.loads(self._socket.recv(60))
            if "method" in message:
                self.events.append(message)
            if message.get(name) == value:
                return message

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self._receive("method", "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, or of the promise that it gives."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def load_seconds(self) -> float:
        """Return how long the opened page took, from the navigation to the end of its load event."""
        # The event ends after its handlers, so not before the next frame.
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        [milliseconds] = self.evaluate("performance.getEntriesByType('navigation').map(one => one.loadEventEnd - one.startTime)")
        return milliseconds / 1000

    def resize(self, width: int, height: int) -> None:
        self.width = width
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def says(self, text: str) -> bool:
        return text in (self.evaluate("document.body?.innerText") or "")

    def click(self, label: str) -> None:
        """Click on the button or link with this label."""
        wait_until(lambda: self.evaluate(f"({_PLACE})({json.dumps(label)})") is not None, 20, f"there is {label!r}")
        x, y = self.evaluate(f"({_PLACE})({json.dumps(label)})")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)

    def let_go(self) -> None:
        """Close anything that a click has opened over the page, and remove the focus from buttons."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Escape", code="Escape", windowsVirtualKeyCode=27)
        self.evaluate("document.activeElement?.blur()")

    def photograph(self, height: float) -> bytes:
        clip = {"x": 0, "y": 0, "width": self.width, "height": height, "scale": 1}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", clip=clip)["data"])

    def settle(self, height: int) -> None:
        """Wait until the page has looked the same for a second."""
        looks: list[bytes] = []

        def is_quiet() -> bool:
            looks.append(self.photograph(height))
            return len(looks) > 5 and len({*looks[-5:]}) == 1

        wait_until(is_quiet, 90, "the page is quiet")


def main() -> None:
    browser = find_browser()
    if browser is None:
        sys.exit(f"none of {', '.join(_BROWSERS)} is installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(prefix="hl-pics-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        sample = make_sample(directory)
        with _serving(directory, sample) as served, browsing(browser, directory) as page:
            PICTURES.mkdir(parents=True, exist_ok=True)
            for picture in [*explorer_pictures(served.api, sample.incomplete), *pictures(sample)]:
                if picture.name == "checks":
                    # The tab of the checks shows the latest check.
                    _ingest(served.environment, directory, sample.incomplete, sample.incomplete)
                file = PICTURES / f"{picture.name}.png"
                file.write_bytes(take(page, served, picture))
                _say(f"{file.relative_to(PROJECT)}  {file.stat().st_size / 1000:.0f} kB")


def find_browser() -> str | None:
    """Return the path of a Chromium, if one is installed."""
    return next((found for name in _BROWSERS if (found := shutil.which(name))), None)


def pictures(sample: Sample) -> list[Picture]:
    shown = f"default_range=[{sample.days[-_SHOWN]}...{sample.days[-1]}]"
    day = sample.days[-2]
    return [
        Picture(
            "asset-graph",
            "/asset-groups",
            ("raw_fills", "user_stats", "raw_twap_statuses", "raw_api_fills", "whole_days"),
            clicks=("settings", "Expand all groups"),
            width=1440,
            height=1060,
            is_reopened=True,
        ),
        Picture("day", f"/assets/fills?view=partitions&partition={day}&{shown}", ("Metadata", "partition_row_count")),
        Picture(
            "partitions",
            "/locations/hl_pipeline/jobs/ingest_days/partitions",
            ("Total partitions", "user_stats"),
            until="Run duration",
            clicks=("Show per-asset status",),
        ),
        Picture("plots", "/assets/daily_stats", ("Description",), clicks=("Plots",), height=884),
        Picture("api", "/docs", ("/api/v1/twaps", "/api/v1/candles"), height=760, is_of_api=True),
        Picture("checks", "/assets/fills?view=checks&checkDetail=day_is_whole", ("Latest execution", "Failed"), until="Plots"),
    ]


def explorer_pictures(api: str, incomplete: date) -> list[Picture]:
    """Return the pictures of the API's own pages: a TWAP with many slices, its wallet, a phone, and an incomplete day."""
    wallets = _ask(api, "leaderboards/twaps", period="30d", top="20")["ranking"]
    twaps = [
        one["analytics"]
        for wallet in wallets
        for one in _ask(api, "twaps", wallet=wallet["wallet"], start="2025-01-01", end="2200-01-01")["twaps"]
    ]
    known = [one for one in twaps if one["verdict"] == "match" and one["slippage_bps"] is not None and one["slices"] <= 200]
    twap = max(known, key=lambda one: one["slices"])
    path, table = f"/twap/{twap['twap_id']}", "The same figures as a table"
    return [
        Picture("explorer-twap", path, (table,), height=1400, is_of_api=True),
        Picture("explorer-phone", path, (table,), height=1250, width=390, is_of_api=True, is_dark=True),
        Picture("explorer-wallet", f"/wallet/{wallets[0]['wallet']}", ("Newest first",), height=820, is_of_api=True),
        Picture("explorer-coverage", f"/coverage?month={incomplete:%Y-%m}", ("Verdict",), height=760, is_of_api=True),
    ]


def _ask(api: str, path: str, **parameters: str) -> dict[str, Any]:
    return requests.get(f"{api}/api/v1/{path}", params=parameters, timeout=60).json()


def take(page: Page, served: Served, picture: Picture) -> bytes:
    """Return the picture as a PNG file."""
    scheme = "dark" if picture.is_dark else "light"
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.resize(picture.width, picture.height)
    url = (served.api if picture.is_of_api else served.ui) + picture.path
    page.open(url)
    for label in picture.clicks:
        page.settle(picture.height)  # content that loads later would move the button
        page.click(label)
    if picture.is_reopened:
        page.settle(picture.height)
        page.open(url)
    wait_until(lambda: all(page.says(text) for text in picture.says), 30, f"{picture.path} says {picture.says}")
    page.let_go()
    page.settle(picture.height)
    return page.photograph(min(page.evaluate(f"({_END})({json.dumps(picture.until)})"), picture.height))


def make_sample(directory: Path) -> Sample:
    """Make a bucket of the latest days whose objects are due. One of them is missing an object."""
    first = (datetime.now(UTC) - timedelta(hours=4)).date() - timedelta(days=_DAYS)
    days = [first + timedelta(days=n) for n in range(_DAYS)]
    _say(f"a sample of {days[0]} to {days[-1]}")
    made = write_sample(directory / "sample", first_day=first, days=_DAYS, fills_per_hour=_FILLS_PER_HOUR)
    (made.node_data_dir / f"node_fills_by_block/hourly/{days[_INCOMPLETE]:%Y%m%d}/{_MISSING_HOUR}.lz4").unlink()
    return Sample(made.node_data_dir, made.twap_data_dir, days, days[_INCOMPLETE])


def _ingest(environment: dict[str, str], directory: Path, first: date, last: date) -> None:
    done = run([program("hl"), "ingest", "--from", str(first), "--to", str(last)], environment, directory, 600)
    assert done.returncode in (0, 3), done.stdout
    _say(done.stdout.rstrip())


@contextmanager
def _serving(directory: Path, sample: Sample) -> Generator[Served]:
    """Run `hl up` with the sample's days ingested, in a separate home, without the user's settings."""
    port, api_port = free_port(), free_port()
    own = {"HL_HOME": "home", "HL_PORT": str(port), "HL_API_PORT": str(api_port), "HL_NODE_DATA_URL": str(sample.bucket)}
    # A sensor would start the day after the last one, which has one object.
    own |= {"HL_TWAP_DATA_URL": str(sample.statuses), "HL_SENSORS": "false"}
    environment = {name: value for name, value in users_environment().items() if not name.startswith("HL_")} | own
    # Leave out the day with a missing object: the graph is green until that day is ingested.
    for first, last in ((sample.days[0], sample.days[_INCOMPLETE - 1]), (sample.days[_INCOMPLETE + 1], sample.days[-1])):
        _ingest(environment, directory, first, last)
    with started([program("hl"), "up"], environment, directory, directory / "up.log") as up:
        try:
            ui = Ui(port)
            wait_until(lambda: up.answers(ui.health), 90, "the UI answers")
            ui.ask("mutation { setNuxSeen }")
            yield Served(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{api_port}", environment)
        finally:
            up.interrupt(60)


@contextmanager
def browsing(browser: str, directory: Path) -> Generator[Page]:
    """Open an empty page of a Chromium that has the user's choices, and runs in UTC."""
    profile = directory / "browser"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [browser, *_FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
    with started(command, {**os.environ}, directory, directory / "browser.log") as running:
        written = profile / "DevToolsActivePort"
        wait_until(lambda: written.exists() and written.read_text().strip() != "", 60, f"{browser} is there")
        port = written.read_text().split()[0]
        targets = requests.get(f"http://127.0.0.1:{port}/json", timeout=10).json()
        address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        with connect(address, max_size=None) as socket:
            page = Page(socket)
            choices = "".join(f"localStorage.setItem({json.dumps(k)}, {json.dumps(json.dumps(v))});" for k, v in _CHOICES.items())
            page.call("Page.enable")
            page.call("Page.addScriptToEvaluateOnNewDocument", source=f"try {{ {choices} }} catch {{}}")
            page.call("Emulation.setTimezoneOverride", timezoneId="UTC")
            yield page
        running.process.terminate()
        running.process.wait(20)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what the script shows


if __name__ == "__main__":
    main()
