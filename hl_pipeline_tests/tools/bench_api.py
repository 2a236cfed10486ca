"""The API under load: one real uvicorn worker with a real PostgreSQL, and its references in the same run. Not a test.

`python -m hl_pipeline_tests.tools.bench_api` prints the medians of its runs; `measure` gives one run's figures to `make bench`.
The references are a FastAPI route that returns a constant, routes that write the same responses with orjson, and a plain query
for the same rows through psycopg. uvicorn serves the routes with the same options to the same clients. With
`--partitions 30 365 1300`, it measures pages of a wallet over a year, with this many days in hl.fills.

The clients are persistent sockets in this process (`bench_api_clients`). On two cores they take time from uvicorn and
PostgreSQL: "client CPU %" shows how much of one core.

Each page is measured twice: with the API's cache, which repeats an answer while the database is unchanged, and without it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import requests

from hl_pipeline.warehouse.embedded import hold
from hl_pipeline_tests.servers.api import Api, serving_process
from hl_pipeline_tests.tools.bench_api_clients import Load, put_under_load
from hl_pipeline_tests.tools.bench_api_data import DAY, WALLET, YEAR_END, YEAR_START, bench_database, year_database
from hl_pipeline_tests.tools.bench_api_reference import ANSWERS

_CLIENTS, _CONNECTIONS = 32, 4


@dataclass(frozen=True, slots=True)
class Page:
    """A request to the API, and a plain query for its rows."""

    path: str
    query: str


_TWO_MONTHS = "start=2025-11-01&end=2025-12-31"
PAGES = {
    "ten TWAPs": Page(
        f"/api/v1/twaps?wallet={WALLET}&{_TWO_MONTHS}&limit=10",
        f"SELECT * FROM hl.twap_statuses WHERE wallet = '{WALLET}' ORDER BY time_ns DESC LIMIT 10",
    ),
    "ten TWAPs of a coin": Page(
        f"/api/v1/twaps?wallet={WALLET}&{_TWO_MONTHS}&limit=10&asset=SOL",
        f"SELECT * FROM hl.twap_statuses WHERE wallet = '{WALLET}' AND coin = 'SOL' ORDER BY time_ns DESC LIMIT 10",
    ),
    "one TWAP's events": Page("/api/v1/twaps/25000", "SELECT * FROM hl.twap_statuses WHERE twap_id = 25000"),
    "100 fills": Page(
        f"/api/v1/fills?wallet={WALLET}&start={DAY}&end={DAY}&limit=100",
        f"SELECT * FROM hl.fills WHERE wallet = '{WALLET}' AND time BETWEEN '{DAY}Z' AND '{DAY} 23:59:59.999999Z' "
        "ORDER BY time LIMIT 100",
    ),
    "1,440 candles": Page(
        f"/api/v1/candles?coin=SOL&start={DAY}&end={DAY}&limit=1440",
        f"SELECT * FROM hl.candles WHERE coin = 'SOL' AND time BETWEEN '{DAY}Z' AND '{DAY} 23:59:59.999999Z' ORDER BY time",
    ),
}
_A_YEAR = f"wallet={WALLET}&start={YEAR_START}&end={YEAR_END}"
OVER_A_YEAR = {
    "100 fills": f"/api/v1/fills?{_A_YEAR}&limit=100",
    "100 fills of a wallet that has none": f"/api/v1/fills?wallet={'0x' + 'cd' * 20}&start={YEAR_START}&end={YEAR_END}&limit=100",
    "the last day's fills": f"/api/v1/fills?wallet={WALLET}&start={YEAR_END}&end={YEAR_END}&limit=100",
    "ten TWAPs": f"/api/v1/twaps?{_A_YEAR}&limit=10",
    "a day's candles": f"/api/v1/candles?coin=SOL&start={DAY}&end={DAY}&limit=1440",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    options.add_argument(
        "--partitions", type=int, nargs="+", default=[], help="a wallet over a year, with so many days in hl.fills"
    )
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hl-api-bench-") as directory, hold(Path(directory)):
        home = Path(directory)
        if chosen.partitions:
            runs = _measure_years(home, chosen.partitions, chosen.runs, chosen.seconds)
        else:
            with bench_database(home) as url:
                runs = [_measure(home, url, chosen.seconds) for _ in range(chosen.runs)]
    for name in runs[0]:
        values = sorted(run[name] for run in runs)
        print(f"{name:<60}{statistics.median(values):>12,.2f}{values[0]:>12,.2f}{values[-1]:>12,.2f}")  # noqa: T201


def measure(home: Path) -> dict[str, float]:
    """Measure figures by name in a separate database on the server in `home`. Adds half a minute to `make bench`."""
    with bench_database(home) as url:
        return _measure(home, url, 1.0)


def _measure(home: Path, url: str, seconds: float) -> dict[str, float]:
    figures: dict[str, float] = {}
    answers = home / "answers"
    answers.mkdir(exist_ok=True)
    reference = "hl_pipeline_tests.tools.bench_api_reference:create_app"
    with ExitStack() as stack:
        api = stack.enter_context(serving_process(url, home))
        reading = stack.enter_context(serving_process(url, home, HL_API_CACHE_MB="0"))
        for name, page in PAGES.items():
            (answers / f"{_route(name)}.json").write_bytes(_answer(api, page.path))
        variables = {ANSWERS: str(answers)}
        plain = stack.enter_context(serving_process(url, home, "--factory", app=reference, **variables))
        constant = _measure_route(plain, "/constant", seconds)
        figures |= _named("a constant", constant)
        for name, page in PAGES.items():
            dumped = _measure_route(plain, f"/{_route(name)}", seconds)
            figures |= _named(f"{name}, orjson alone", dumped)
            for title, server in ((f"{name}, repeated", api), (f"{name}, read each time", reading)):
                measured = _measure_route(server, page.path, seconds)
                figures |= _named(title, measured)
                figures[f"{title}: share of a constant's requests/s"] = measured.rate / constant.rate
                figures[f"{title}: share of orjson's requests/s"] = measured.rate / dumped.rate
            figures |= _measure_query(name, url, page.query, seconds)
    return figures


def _measure_years(home: Path, partitions: list[int], runs: int, seconds: float) -> list[dict[str, float]]:
    """Measure pages over a year in each run, with each number of partitions in turn."""
    with ExitStack() as stack:
        apis: dict[int, Api] = {}
        for count in partitions:
            url = stack.enter_context(year_database(home, count))
            apis[count] = stack.enter_context(serving_process(url, home, HL_API_CACHE_MB="0"))
        return [
            {
                title: figure
                for name, path in OVER_A_YEAR.items()
                for count, api in apis.items()
                for title, figure in _named(
                    f"{name}, {count:,} partitions", _measure_route(api, path, seconds, clients=_CONNECTIONS)
                ).items()
            }
            for _ in range(runs)
        ]


@dataclass(frozen=True, slots=True)
class _Measured:
    """Measure with one client, and with `clients` concurrent ones."""

    clients: int
    one: Load
    many: Load

    @property
    def rate(self) -> float:
        return self.many.rate


def _measure_route(api: Api, path: str, seconds: float, *, clients: int = _CLIENTS) -> _Measured:
    port = urlsplit(api.url).port
    assert port is not None
    put_under_load(port, path, clients=clients, seconds=seconds / 4)
    one = put_under_load(port, path, clients=1, seconds=seconds / 2)
    return _Measured(clients, one, put_under_load(port, path, clients=clients, seconds=seconds))


def _named(name: str, measured: _Measured) -> dict[str, float]:
    one, many = measured.one, measured.many
    return {
        f"{name}: p50 ms, one client": one.quantile(0.50),
        f"{name}: p95 ms, one client": one.quantile(0.95),
        f"{name}: requests/s, {measured.clients} clients": many.rate,
        f"{name}: p95 ms, {measured.clients} clients": many.quantile(0.95),
        f"{name}: client CPU %": 100 * many.cpu_share,
    }


def _measure_query(name: str, url: str, query: str, seconds: float) -> dict[str, float]:
    """Measure the query alone: on one connection, and on as many as a worker of the API has."""
    one = asyncio.run(_query(url, query, 1, seconds / 2))
    many = asyncio.run(_query(url, query, _CONNECTIONS, seconds))
    return {
        f"{name}, plain SQL: p50 ms, one connection": one.quantile(0.50),
        f"{name}, plain SQL: p95 ms, one connection": one.quantile(0.95),
        f"{name}, plain SQL: queries/s, {_CONNECTIONS} connections": many.rate,
    }


async def _query(url: str, query: str, connections: int, seconds: float) -> Load:
    took: list[float] = []
    cpu, began_all = time.process_time(), time.perf_counter()

    async def ask() -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while (began := time.perf_counter()) < began_all + seconds:
                await (await connection.execute(query.encode(), prepare=True)).fetchall()
                took.append(time.perf_counter() - began)

    await asyncio.gather(*(ask() for _ in range(connections)))
    return Load(took, time.perf_counter() - began_all, time.process_time() - cpu)


def _answer(api: Api, path: str) -> bytes:
    response = requests.get(api.url + path, timeout=60)
    assert response.status_code == 200, response.text
    return response.content


def _route(name: str) -> str:
    return "".join(letter for letter in name if letter.isalnum())


if __name__ == "__main__":
    main()
