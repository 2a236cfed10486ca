"""The main path of the UI, clicked in a headless Chromium: a day, a backfill with an incomplete day, a shard, a sensor.

The page, and PostgreSQL afterwards, are compared with the records of the generator and of the info API's stand-in. Screenshots
of each state go to SCREENSHOTS_DIR, or to pytest's temporary directory.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest

from hl_pipeline.domain.shards import shard_of
from hl_pipeline.sample.generate import Sample, write_sample
from hl_pipeline.warehouse.embedded import embedded_url
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.info_api import InfoServer, User, make_user, serve_info
from hl_pipeline_tests.services import Up, up_in
from hl_pipeline_tests.tools.take_pictures import Page, browsing, find_browser

pytestmark = [pytest.mark.slow, pytest.mark.waits]

_BROWSER = find_browser()
_MISSING_HOUR = 13
_JOBS = "/locations/hl_pipeline/jobs"
_SENSOR = "node_data_objects"
_WIDTH, _HEIGHT = 1180, 1000
_INPUT = 'document.querySelector(\'input[placeholder^="No matching"], input[placeholder^="ex:"]\')'
_MENU = "[...document.querySelectorAll('*')].filter(e => e.textContent.trim() === 'Select a partition or create one').pop()"
_ENTRY = "[...document.querySelectorAll('span')].filter(e => e.textContent.trim() === {}).pop()"
_SWITCH = "document.querySelector('label[class*=formatSwitch]')"
# Where the row of a partition is, in the list of them that stands left of what is said of one.
_ROW = """
    name => {
      const found = [...document.querySelectorAll("div, span")].filter(e => e.textContent.trim() === name)
        .map(e => e.getBoundingClientRect()).filter(box => box.width && box.x < 346).pop();
      return found && found.y + found.height / 2;
    }
"""
_LIST_ENDS = 346
# Of a picture the pixel whose colour is the strongest.
_STRONGEST = """
    (async data => {
      const image = new Image();
      image.src = "data:image/png;base64," + data;
      await image.decode();
      const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
      canvas.drawImage(image, 0, 0);
      const { data: all } = canvas.getImageData(0, 0, image.width, image.height);
      const strength = at => Math.max(...all.slice(at, at + 3)) - Math.min(...all.slice(at, at + 3));
      const places = [...Array(all.length / 4).keys()].map(n => 4 * n);
      const best = places.reduce((one, other) => strength(one) >= strength(other) ? one : other);
      return [...all.slice(best, best + 3)];
    })
"""


@dataclass(frozen=True, slots=True)
class Clicked:
    """The UI of a running `hl up` in a browser, the buckets' days, and the info API's wallets of a shard."""

    page: Page
    up: Up
    sample: Sample
    days: list[date]
    shard: str
    users: list[User]
    pictures: Path

    def open(self, path: str) -> None:
        self.page.open(f"http://127.0.0.1:{self.up.ui.port}{path}")

    def wait(self, *texts: str, seconds: float = 60) -> None:
        wait_until(lambda: all(self.page.says(text) for text in texts), seconds, f"the page says {texts}")

    def reload_until(self, path: str, *texts: str, seconds: float = 240) -> None:
        """Look again and again, as a person does who waits for a run."""

        def says() -> bool:
            self.open(path)
            try:
                self.wait(*texts, seconds=30)
            except AssertionError:
                return False
            return True

        wait_until(says, seconds, f"{path} says {texts}")

    def click_on(self, element: str) -> None:
        """Click on the middle of the element that a JavaScript expression gives."""
        wait_until(lambda: bool(self.page.evaluate(f"!!({element})")), 30, f"there is {element}")
        middle = f"(box => [box.x + box.width / 2, box.y + box.height / 2])(({element}).getBoundingClientRect())"
        x, y = self.page.evaluate(middle)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        self.page.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.page.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)
        # A caret that blinks is never quiet.
        self.page.evaluate("document.activeElement?.blur()")

    def settle(self) -> bytes:
        """How the page looks once it has looked the same twice, or at last: a clock on it is never quiet."""
        before = b""
        deadline = time.monotonic() + 10
        while (now := self.page.photograph(_HEIGHT)) != before and time.monotonic() < deadline:
            before = now
            time.sleep(0.5)
        return now

    def picture(self, name: str) -> None:
        (self.pictures / f"{name}.png").write_bytes(self.settle())

    def colour(self, partition: str) -> str:
        """What a person sees beside a partition in the list of them: the colour of its dot."""
        wait_until(lambda: bool(self.page.evaluate(f"({_ROW})({json.dumps(partition)})")), 30, f"{partition} is in the list")
        middle = self.page.evaluate(f"({_ROW})({json.dumps(partition)})")
        clip = {"x": _LIST_ENDS - 36, "y": middle - 7, "width": 24, "height": 14, "scale": 1}
        picture = self.page.call("Page.captureScreenshot", format="png", clip=clip)["data"]
        strongest = f"({_STRONGEST})({json.dumps(picture)})"
        answer = self.page.call("Runtime.evaluate", expression=strongest, awaitPromise=True, returnByValue=True)
        red, green, _ = answer["result"]["value"]
        return "red" if red > green + 60 else "green" if green > red + 60 else "grey"

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(embedded_url(self.up.home), options="-c timezone=UTC") as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture
def clicked(directory: Path, tmp_path: Path) -> Iterator[Clicked]:
    if _BROWSER is None:
        pytest.skip("no Chromium is installed: make system-packages")
    # Within the dialog's 90 days; older than the days that a sensor looks for.
    first = datetime.now(UTC).date() - timedelta(days=9)
    days = [first + timedelta(days=n) for n in range(4)]
    sample = write_sample(directory / "sample", first_day=first, days=len(days), fills_per_hour=60)
    (sample.node_data_dir / f"node_fills_by_block/hourly/{days[2]:%Y%m%d}/{_MISSING_HOUR}.lz4").unlink()
    shard, users = _users_of_a_shard(sample, days[0])
    pictures = Path(os.environ.get("SCREENSHOTS_DIR") or tmp_path)
    pictures.mkdir(parents=True, exist_ok=True)
    # The environment, where tests have none, goes before .env.
    statuses = {"HL_TWAP_DATA_URL": str(sample.twap_data_dir)}
    with (
        serve_info(InfoServer({user.wallet: user for user in users})) as info,
        up_in(directory, statuses, HL_NODE_DATA_URL=str(sample.node_data_dir), HL_INFO_URL=info.url, HL_SENSORS="false") as up,
        _pages(_BROWSER, tmp_path) as page,
    ):
        up.ui.ask("mutation { setNuxSeen }")
        yield Clicked(page, up, sample, days, shard, users, pictures)
        assert up.program.interrupt(60) == 0


@contextmanager
def _pages(browser: str, directory: Path) -> Iterator[Page]:
    with browsing(browser, directory) as page:
        page.resize(_WIDTH, _HEIGHT)
        yield page


def _users_of_a_shard(sample: Sample, day: date) -> tuple[str, list[User]]:
    """The shard with the most of a day's wallets, and a history for each of these from before the buckets."""
    wallets = pl.read_parquet(sample.truth_dir / "fills.parquet").filter(pl.col("date") == day)["wallet"].unique().sort()
    shards: dict[str, list[str]] = {}
    for wallet in wallets:
        shards.setdefault(shard_of(wallet), []).append(wallet)
    shard = max(sorted(shards), key=lambda name: len(shards[name]))
    return shard, [User(wallet, make_user(wallet, 7 + n).fills) for n, wallet in enumerate(shards[shard])]


def test_the_main_path_by_clicks_shows_what_is_whole_and_brings_what_was_made(clicked: Clicked) -> None:
    _materialize_a_day(clicked)
    _backfill_three_days(clicked)
    _launch_a_shard(clicked)
    _switch_a_sensor(clicked)


def _materialize_a_day(ui: Clicked) -> None:
    day = ui.days[0]
    ui.open("/jobs")
    ui.wait("ingest_days", "backfill_shards", "rebuild_days")
    ui.picture("jobs")
    ui.page.click("ingest_days")
    ui.wait("Objects already in the lake are not downloaded again.")
    ui.settle()
    _choose_days(ui, str(day), "1 partition")
    ui.picture("day-chosen")
    ui.page.click("Launch 1 run")
    ui.wait("Launched run")
    ui.picture("day-launched")

    ui.reload_until(f"/assets/whole_days?view=partitions&partition={day}", "Materialized (1)", "Whole: 25 objects")

    ui.wait("Failed (0)", "explanation", "no block missing")
    ui.picture("day-whole")
    assert ui.colour(str(day)) == "green"
    rows = _truth_of(ui, day)["rows"]
    ui.open(f"/assets/fills?view=partitions&partition={day}")
    ui.wait("partition_row_count", str(rows))
    ui.picture("day-fills")
    assert ui.rows("SELECT date, rows, state FROM hl.fills_days") == [(day, rows, "whole")]
    _assert_fills_are_those_made(ui, [day])


def _backfill_three_days(ui: Clicked) -> None:
    whole, incomplete, other = ui.days[1:]
    ui.open(f"{_JOBS}/ingest_days")
    ui.wait("Objects already in the lake are not downloaded again.")
    ui.settle()
    _choose_days(ui, f"[{whole}...{other}]", "3 partitions")
    ui.picture("backfill-chosen")
    ui.page.click("Launch backfill")
    ui.wait("backfill")

    ui.reload_until("/assets/whole_days?view=partitions", "Materialized (3)", "Failed (1)", "Materializing (0)", seconds=400)

    assert {str(day): ui.colour(str(day)) for day in ui.days} == {
        str(day): "red" if day == incomplete else "green" for day in ui.days
    }
    ui.open(f"/assets/whole_days?view=partitions&partition={incomplete}")
    ui.wait("failed, and did not materialize this asset")
    ui.picture("backfill-incomplete")
    ui.page.click("View logs")
    ui.wait(f"1 of 25 objects missing: {incomplete} {_MISSING_HOUR} h (no such object in node_fills_by_block)")
    ui.picture("backfill-why")
    # What there is of the day is there, and green: only the verdict is red.
    ui.open(f"/assets/fills?view=partitions&partition={incomplete}")
    ui.wait("Materialized (4)", "Failed (0)", "1 of 25 objects missing")
    ui.picture("backfill-fills")
    ui.open(f"{_JOBS}/ingest_days/partitions")
    ui.wait("Missing partitions")
    ui.page.click("Show per-asset status")
    ui.wait("whole_days")
    ui.picture("backfill-partitions")
    states = ui.rows("SELECT date, state FROM hl.fills_days ORDER BY date")
    assert states == [(day, "incomplete" if day == incomplete else "whole") for day in ui.days]
    _assert_fills_are_those_made(ui, [ui.days[0], whole, other])
    key = f"node_fills_by_block/hourly/{incomplete:%Y%m%d}/{_MISSING_HOUR}.lz4"
    objects = json.loads((ui.sample.truth_dir / "days.json").read_text())["objects"]
    stored = ui.rows("SELECT count(*) FROM hl.fills")[0][0]
    # All but what the lost object had; what it had of its day is all that it had.
    assert stored == sum(_truth_of(ui, day)["rows"] for day in ui.days) - objects[key]["rows"]


def _launch_a_shard(ui: Clicked) -> None:
    ui.open(f"{_JOBS}/backfill_shards")
    ui.wait("Finished wallets are not fetched again.")
    ui.settle()
    ui.page.click("Materialize")
    ui.wait("Partition selection")
    ui.settle()
    ui.click_on(_MENU)
    ui.page.call("Input.insertText", text=ui.shard)
    ui.click_on(_ENTRY.format(json.dumps(ui.shard)))
    ui.page.let_go()
    ui.wait("1 partition", "Launch 1 run")
    ui.picture("shard-chosen")
    ui.page.click("Launch 1 run")
    ui.wait("Launched run")

    ui.reload_until(f"/assets/whole_shards?view=partitions&partition={ui.shard}", "Materialized (1)", "explanation")

    ui.picture("shard-whole")
    assert ui.colour(ui.shard) == "green"
    fills = sum(len(user.fills) for user in ui.users)
    ui.open(f"/assets/raw_api_fills?view=partitions&partition={ui.shard}")
    ui.wait("wallets_complete", "fills_now")
    ui.picture("shard-fills")
    assert ui.page.says(str(fills))
    progress = ui.rows("SELECT wallet, state, fills FROM hl.backfill_progress ORDER BY wallet")
    assert [row for row in progress if row[1] != "pending"] == [
        (user.wallet, "complete", len(user.fills)) for user in sorted(ui.users, key=lambda user: user.wallet)
    ]
    touched = {datetime.fromtimestamp(fill["time"] / 1000, UTC).date() for user in ui.users for fill in user.fills}
    assert {day for (day,) in ui.rows("SELECT date FROM hl.dirty_days")} == touched


def _switch_a_sensor(ui: Clicked) -> None:
    ui.open("/automation")
    ui.wait(_SENSOR, "compact", "reconcile", "thin_runs_nightly", "twap_data_objects", "vacuum_lake_nightly")
    ui.picture("sensors")
    ui.page.click(_SENSOR)
    ui.wait("Launches a run for each recent day with new or changed objects of fills.")
    ui.settle()
    assert _sensor_state(ui) == "STOPPED"
    ui.click_on(_SWITCH)
    wait_until(lambda: _sensor_state(ui) == "RUNNING", 30, "the sensor is on")
    ui.reload_until(f"/locations/hl_pipeline/sensors/{_SENSOR}", "0 runs requested")
    ui.picture("sensor-on")
    ui.click_on(_SWITCH)
    wait_until(lambda: _sensor_state(ui) == "STOPPED", 30, "the sensor is off")
    ui.picture("sensor-off")


def _choose_days(ui: Clicked, days: str, said: str) -> None:
    """Open the dialog of a job and type the days; nothing in it warns of anything."""
    ui.page.click("Materialize")
    ui.wait("Partition selection")
    ui.settle()

    def is_taken() -> bool:
        """The dialog loads what is there of the days meanwhile, and may forget what was typed before it knew them."""
        ui.click_on(_INPUT)
        ui.page.evaluate(f"{_INPUT}.select()")
        ui.type(days)
        ui.settle()
        return ui.page.says(said)

    wait_until(is_taken, 90, f"the dialog says {said}")
    assert not ui.page.says("have not been materialized")


def _truth_of(ui: Clicked, day: date) -> dict[str, int]:
    return json.loads((ui.sample.truth_dir / "days.json").read_text())["days"][str(day)]


def _assert_fills_are_those_made(ui: Clicked, days: list[date]) -> None:
    listed = ", ".join(f"'{day}'" for day in days)
    stored = ui.rows(
        "SELECT time::date, coin, wallet, count(*), sum(sz), sum(fee), sum(closed_pnl) FROM hl.fills "
        f"WHERE time::date IN ({listed}) GROUP BY 1, 2, 3"
    )
    made = pl.read_parquet(ui.sample.truth_dir / "fills.parquet").filter(pl.col("date").is_in(days))
    expected = made.select("date", "coin", "wallet", "rows", "sz_sum", "fee_sum", "closed_pnl_sum").sort(pl.all()).rows()
    assert sorted(stored) == expected


def _sensor_state(ui: Clicked) -> str:
    query = """
      query($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) { ... on Sensor { sensorState { status } } } }
    """
    sensor = {"repositoryLocationName": "hl_pipeline", "repositoryName": "__repository__", "sensorName": _SENSOR}
    return ui.up.ui.ask(query, sensor=sensor)["sensorOrError"]["sensorState"]["status"]
