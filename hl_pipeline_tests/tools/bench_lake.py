"""A wallet's fills from the compacted lake through the API: from a directory and from S3. Not a test.

`make bench-lake` makes an archive of 50 days with a million fills each, in which a wallet has 10,000 fills, and asks the API for
them: pages one after the other as a client turns them, in a process with its own settings, without its cache of answers. The S3
is a server of this machine, without and with a latency. `--keep DIRECTORY` keeps the archive for the next call.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import requests

from hl_pipeline.lake.store import open_lake
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.embedded import embedded_url, hold
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.servers.api import ApiProcess, serving_process
from hl_pipeline_tests.servers.static_s3 import serve_directory
from hl_pipeline_tests.tools.bench_lake_data import LAST, WALLET, first_day, make_archive

_DATABASE = "bench_lake"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--days", type=int, default=50)
    options.add_argument("--fills", type=int, default=1_000_000, help="a day")
    options.add_argument("--of-wallet", type=int, default=10_000, help="in all days")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--latency-ms", type=float, default=15, help="of S3, in the last measurement")
    options.add_argument("--keep", type=Path, help="directory of the archive")
    chosen = options.parse_args()
    with ExitStack() as stack:
        home = chosen.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hl-lake-bench-")))
        home.mkdir(exist_ok=True)
        stack.enter_context(hold(home))
        url = embedded_url(home, _DATABASE)
        if not (home / "archive").exists():
            _make(home, url, chosen.days, chosen.fills, chosen.of_wallet)
        print(f"load of the machine: {os.getloadavg()[0]:.1f}")  # noqa: T201
        lakes: list[tuple[str, str, float]] = [
            ("directory", str(home / "archive"), -1),
            ("S3", "s3://archive", 0),
            (f"S3, {chosen.latency_ms:g} ms", "s3://archive", chosen.latency_ms / 1000),
        ]
        for name, lake_url, latency in lakes:
            with ExitStack() as serving:
                access = {} if latency < 0 else serving.enter_context(serve_directory(home, latency))
                api = serving.enter_context(
                    serving_process(
                        url, home, HL_LAKE_URL=lake_url, HL_API_CACHE_MB="0", HL_API_STATEMENT_TIMEOUT_SECONDS="60", **access
                    )
                )
                _measure(name, api, chosen.days, chosen.rounds, chosen.of_wallet)


def _make(home: Path, url: str, days: int, fills: int, of_wallet: int) -> None:
    with connect(embedded_url(home, "postgres"), "bench") as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {_DATABASE}".encode())
        connection.execute(f"CREATE DATABASE {_DATABASE}".encode())
    migrate(url)
    began = time.perf_counter()
    with connect(url, "bench") as connection:
        make_archive(connection, open_lake(str(home / "making")), days=days, fills=fills, of_wallet=of_wallet // days)
    (home / "making").rename(home / "archive")
    size = sum(path.stat().st_size for path in (home / "archive").rglob("*.parquet"))
    print(f"{days} days of {fills:,} fills: {size / days / fills:.0f} bytes a fill, {time.perf_counter() - began:.0f} s")  # noqa: T201


def _measure(name: str, api: ApiProcess, days: int, rounds: int, of_wallet: int) -> None:
    process = psutil.Process(api.program.process.pid)
    began_mb = process.memory_info().rss / 1e6
    first = {"wallet": WALLET, "start": str(first_day(days)), "end": str(LAST)}
    session = requests.Session()
    cold = next(_pages(session, api, first, 100))[0]
    print(f"\n{name}: first request {cold * 1000:.0f} ms; RSS before it {began_mb:.0f} MB")  # noqa: T201
    for title, asked, limit in (
        ("first page of 100", first, 100),
        ("pages of 100", first, 100),
        ("pages of 1,000", first, 1_000),
        ("pages of 5,000", first, 5_000),
        ("a day", {**first, "start": str(LAST)}, 1_000),
        ("a wallet without fills", {**first, "wallet": "0x" + "cd" * 20}, 100),
    ):
        took: list[float] = []
        cpu = sum(process.cpu_times()[:2])
        for _ in range(rounds * (20 if title.startswith(("first", "a ")) else 1)):
            pages = _pages(session, api, asked, limit)
            if title.startswith("first"):
                took.append(next(pages)[0])
                continue
            walked = [*pages]
            took += [seconds for seconds, _ in walked]
            assert title.startswith("a ") or sum(count for _, count in walked) == of_wallet
        cpu = (sum(process.cpu_times()[:2]) - cpu) / len(took)
        p50, p95, p99 = (sorted(took)[min(len(took) - 1, int(len(took) * share))] * 1000 for share in (0.5, 0.95, 0.99))
        rss = process.memory_info().rss / 1e6
        print(  # noqa: T201
            f"{title:<24} p50 {p50:6.0f}  p95 {p95:6.0f}  p99 {p99:6.0f} ms  "
            f"CPU {cpu * 1000:5.0f} ms  n {len(took):4}  RSS {rss:4.0f} MB"
        )
    status = Path(f"/proc/{process.pid}/status").read_text()
    print("most RSS", next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "KiB")  # noqa: T201


def _pages(session: requests.Session, api: ApiProcess, asked: dict[str, Any], limit: int) -> Iterator[tuple[float, int]]:
    """Yield the seconds of each page, and how many fills it has."""
    cursor: dict[str, str] = {}
    while True:
        began = time.perf_counter()
        response = session.get(f"{api.url}/api/v1/fills", params={**asked, "limit": limit, **cursor}, timeout=120)
        took = time.perf_counter() - began
        assert response.status_code == 200, response.text
        answer = response.json()
        yield took, len(answer["fills"])
        if answer["next_cursor"] is None:
            return
        cursor = {"cursor": answer["next_cursor"]}


if __name__ == "__main__":
    main()
