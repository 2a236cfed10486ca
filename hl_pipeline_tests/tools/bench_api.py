"""The API under load: a real uvicorn process before a real PostgreSQL, a wallet with 50,000 TWAPs. No test.

`python -m hl_pipeline_tests.tools.bench_api` prints the figures; `measure` gives them to `make bench`.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from hl_pipeline.warehouse.embedded import embedded_url, hold
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.servers.api import serving_process

WALLET = "0x" + "ab" * 20
RANGE = f"wallet={WALLET}&start=2025-11-01&end=2025-12-31"
PATHS = {
    "ten TWAPs": f"/api/v1/twaps?{RANGE}&limit=10",
    "ten TWAPs of a coin": f"/api/v1/twaps?{RANGE}&limit=10&asset=SOL",
    "one TWAP's events": "/api/v1/twaps/25000",
}
_ONE_CLIENT_REQUESTS, _CLIENTS, _SECONDS = 1_000, 32, 5.0

# 50,000 TWAPs of one wallet with 110,000 rows (one in five has a third), 250,000 of 5,000 others with 500,000.
_FILL = """
INSERT INTO hl.twap_statuses (twap_id, time, status, wallet, coin, side, size_requested, size_executed, notional_executed,
                              duration_minutes, reduce_only, randomize, started_at, object, raw_payload, time_ns, date)
SELECT id, at, status, wallet, coin, side, 100.5, executed, executed * 91.2, 30, false, true, begins, 'bench',
       jsonb_build_object('time', at, 'twap_id', id, 'status', status, 'state', jsonb_build_object(
           'coin', coin, 'user', wallet, 'side', side, 'sz', '100.5', 'executedSz', executed::text, 'minutes', 30,
           'executedNtl', (executed * 91.2)::text, 'reduceOnly', false, 'randomize', true, 'timestamp', 1783623366714)),
       (extract(epoch FROM at) * 1000000)::bigint * 1000 + 123, at::date
FROM (SELECT *, begins + minute * interval '1 minute' AS at
      FROM (SELECT id, '0x' || CASE WHEN id <= 50000 THEN repeat('ab', 20) ELSE lpad(to_hex(id % 5000), 40, '0') END AS wallet,
                   (ARRAY['BTC', 'ETH', 'SOL', 'HYPE', 'xyz:TSLA'])[1 + id % 5] AS coin,
                   CASE WHEN id % 2 = 0 THEN 'B' ELSE 'A' END AS side,
                   timestamptz '2025-11-01 00:00:00.123456Z' + (id % 50000) * interval '100 seconds' AS begins
            FROM generate_series(1, 300000) id) twaps,
           (VALUES ('activated', 0, 0.0), ('finished', 30, 100.5), ('error', 31, 100.5)) events (status, minute, executed)
      WHERE status <> 'error' OR id <= 10000) rows;
INSERT INTO hl.twaps (twap_id, wallet, coin, side, status, verdict, started_at, begins_at, planned_end, ended_at,
                      duration_minutes, reduce_only, randomize, statuses, size_requested, size_reported, notional_reported,
                      fills, slices, slices_due, size_observed, notional_observed, first_slice_at, last_slice_at, vwap,
                      whole_minutes, market_volume, market_notional, market_vwap, own_volume, own_notional,
                      market_vwap_without_own, participation, arrival_px, slippage_bps, slippage_without_own_bps,
                      slippage_arrival_bps, schedule_deviation, maker_share, fees, closed_pnl, is_complete, seen_from, seen_to)
SELECT twap_id, wallet, coin, side, status, 'match', started_at, started_at, time, time, 30, false, true, 2, 100.5, 100.5,
       9165.6, 160, 60, 60, 100.5, 9165.6, started_at, time, 91.2, 29, 100000.123, 9120000.55, 91.199, 100.5, 9165.6, 91.198,
       0.001005, 91.1, 0.11, 0.12, 10.98, 0.01, 0.5, '{"USDC": "4.1"}', 0, true, started_at, time
FROM hl.twap_statuses WHERE status = 'finished';
INSERT INTO hl.twap_days (date, state, explanation, objects, rows, duplicates, conflicts)
SELECT day::date, CASE WHEN extract(day FROM day) = 7 THEN 'incomplete' ELSE 'unprovable' END, 'bench', 1, 100, 0, 0
FROM generate_series('2025-08-17'::date, '2026-12-31', '1 day') day;
INSERT INTO hl.coverage (source, object_date, object_hour, expected, found, why, missing_ranges, missing_blocks)
SELECT source, day::date, hour, true, CASE WHEN extract(day FROM day) = 7 AND hour < 3 THEN 'missing' ELSE 'unprovable' END, '',
       '{}', 0
FROM generate_series('2025-08-17'::date, '2026-12-31', '1 day') day, generate_series(0, 23) hour,
     (VALUES ('twap_statuses'), ('node_fills_by_block')) sources (source);
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hl-api-bench-") as directory, hold(Path(directory)):
        for name, value in measure(Path(directory)).items():
            print(f"{name:<45}{value:>10,.1f}")  # noqa: T201


def measure(home: Path) -> dict[str, float]:
    """Milliseconds and requests a second by name, of one uvicorn worker, in a database of its own on the server in `home`."""
    name = f"api_bench_{uuid.uuid4().hex}"
    with psycopg.connect(embedded_url(home, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = embedded_url(home, name)
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_FILL.encode())
        connection.execute("VACUUM ANALYZE")
    figures: dict[str, float] = {}
    with serving_process(url, home) as api:
        port = urlsplit(api.url).port
        assert port is not None
        for what, path in PATHS.items():
            asyncio.run(_run(port, path, clients=_CLIENTS, seconds=1.0))
            one = asyncio.run(_run(port, path, clients=1, requests=_ONE_CLIENT_REQUESTS))
            many = asyncio.run(_run(port, path, clients=_CLIENTS, seconds=_SECONDS))
            figures[f"{what}: p50 ms, one client"] = statistics.median(one)
            figures[f"{what}: p95 ms, one client"] = _quantile(one, 0.95)
            figures[f"{what}: requests/s, {_CLIENTS} clients"] = len(many) / _SECONDS
            figures[f"{what}: p99 ms, {_CLIENTS} clients"] = _quantile(many, 0.99)
    with psycopg.connect(embedded_url(home, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    return figures


async def _run(port: int, path: str, *, clients: int, requests: int = sys.maxsize, seconds: float = 3600.0) -> list[float]:
    """Milliseconds of each request of `clients` that ask one after the other, each on a connection that it keeps."""
    deadline = time.perf_counter() + seconds
    took: list[float] = []
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while len(took) < requests and time.perf_counter() < deadline:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            took.append((time.perf_counter() - began) * 1000)
        writer.close()

    await asyncio.gather(*(ask() for _ in range(clients)))
    return took


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


if __name__ == "__main__":
    main()
