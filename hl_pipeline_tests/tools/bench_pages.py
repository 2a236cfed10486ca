"""How long each page of the explorer takes: its first request after the API started, and later ones. Not a test.

`python -m hl_pipeline_tests.tools.bench_pages` loads two sample days. For each page it starts the API and asks for the page, then
starts it again and opens the page in a headless Chromium with an empty cache (cold), and then several times (warm). "HTML" and
"CPU" are of the page alone: until the client has it, and of the API's process. "Loaded" is the end of the load event in the
browser, with styles, scripts and charts. PostgreSQL starts once. `--keep DIRECTORY` keeps the sample for the next call. Other
programs change the times, so the load of the machine is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests
from rich.console import Console
from rich.table import Column, Table

from hl_pipeline.warehouse.embedded import hold
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.explorer import choose_twap, load_sample, page_paths
from hl_pipeline_tests.servers.api import serving_process
from hl_pipeline_tests.tools.take_pictures import Page, browsing, find_browser

_AS_BROWSER = {"Accept": "text/html"}


@dataclass(frozen=True, slots=True)
class _Cost:
    """Milliseconds of a request for a page: of the client, and of the API's CPU."""

    wall: float
    cpu: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, help="how often the API starts for each page")
    options.add_argument("--warm", type=int, default=10, help="warm requests of each round")
    options.add_argument("--keep", type=Path, help="directory of the sample")
    chosen = options.parse_args()
    with ExitStack() as stack:
        # A kept home has no profile of an earlier Chromium.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hl-pages-bench-")))
        home = chosen.keep or directory / "home"
        home.mkdir(exist_ok=True)
        url = stack.enter_context(hold(home))
        if not (home / "sample").exists():
            migrate(url)
            load_sample(home, url)
        browser = find_browser()
        page = None if browser is None else stack.enter_context(browsing(browser, directory))
        console = Console(width=120)
        console.print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; ms, medians of {chosen.rounds} (most)")
        columns = ("HTML", "CPU", "loaded", "warm: HTML", "CPU", "loaded")
        table = Table("", *(Column(name, justify="right") for name in columns), box=None, header_style="bold")
        for name, path in page_paths(choose_twap(url)).items():
            table.add_row(name, *_measure(url, home, path, page, chosen.rounds, chosen.warm))
        console.print(table)
        console.print(f"load {os.getloadavg()[0]:.1f} after")


def _measure(url: str, home: Path, path: str, page: Page | None, rounds: int, warm: int) -> list[str]:
    """Return the figures of a page."""
    cold: list[_Cost] = []
    later: list[_Cost] = []
    loaded: list[float] = []
    loaded_later: list[float] = []
    for _ in range(rounds):
        with _serving(url, home) as (base, process):
            cold.append(_ask(base + path, process, 1))
            later.append(_ask(base + path, process, warm))
        if page is not None:
            with _serving(url, home) as (base, _):
                page.call("Network.clearBrowserCache")
                loaded.append(_open(page, base + path))
                loaded_later += [_open(page, base + path) for _ in range(warm)]
    return [
        *(_say([one.wall for one in cold]), _say([one.cpu for one in cold]), _say(loaded)),
        *(_say([one.wall for one in later]), _say([one.cpu for one in later]), _say(loaded_later)),
    ]


def _say(values: list[float]) -> str:
    """Return the median, and the most."""
    return f"{statistics.median(values):,.0f} ({max(values):,.0f})" if values else "no Chromium"


@contextmanager
def _serving(url: str, home: Path) -> Generator[tuple[str, psutil.Process]]:
    with serving_process(url, home) as api:
        [process] = [one for one in api.program.tree() if "api.app:app" in one.cmdline()]
        yield api.url, process


def _ask(url: str, process: psutil.Process, times: int) -> _Cost:
    began, cpu = time.perf_counter(), _cpu(process)
    with requests.Session() as session:
        for _ in range(times):
            response = session.get(url, headers=_AS_BROWSER, timeout=60)
            assert response.status_code == 200, response.text
    return _Cost((time.perf_counter() - began) / times * 1000, (_cpu(process) - cpu) / times * 1000)


def _cpu(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def _open(page: Page, url: str) -> float:
    """Open a page in the browser. Returns the milliseconds until it was loaded."""
    page.open(url)
    return page.load_seconds() * 1000


if __name__ == "__main__":
    main()
