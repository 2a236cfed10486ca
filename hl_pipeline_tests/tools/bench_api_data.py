"""Databases for the API benchmark: a wallet with 50,000 TWAPs, fills and candles; a wallet over a year. Not a test."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import psycopg

from hl_pipeline.warehouse.embedded import embedded_url
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.servers.api import make_day

WALLET = "0x" + "ab" * 20
DAY = date(2025, 11, 3)
YEAR_START, YEAR_END = date(2025, 1, 1), date(2025, 12, 31)
FILLS_A_DAY, CANDLES_A_DAY = 100_000, 1_440
# For the year: the number of fills per day. One in ten belongs to WALLET.
_FILLS_A_DAY_OF_YEAR = 500

# 50,000 TWAPs of one wallet with 110,000 rows (one in five has a third), 250,000 of 5,000 others with 500,000.
_TWAPS = """
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
FROM hl.twap_statuses WHERE status = 'finished'
"""
# Every tenth fill of a day belongs to WALLET. Figures have ten decimals, as after loading.
_FILLS = """
INSERT INTO hl.fills (time, block_number, block_time_ns, oid, tid, twap_id, object_id, crossed, side, coin, wallet, px, sz,
                      start_position, closed_pnl, fee, fee_token, dir, hash, cloid, ordinal)
SELECT at, 600000000 + n, (extract(epoch FROM at) * 1000000)::bigint * 1000 + 123, 250000000000 + n, 1000000000000 + n,
       CASE WHEN n %% 20 = 0 THEN n END, 1, n %% 2 = 0, CASE WHEN n %% 2 = 0 THEN 'B' ELSE 'A' END,
       (ARRAY['BTC', 'ETH', 'SOL', 'HYPE', 'xyz:TSLA'])[1 + n %% 5],
       '0x' || CASE WHEN n %% 10 = 0 THEN repeat('ab', 20) ELSE lpad(to_hex(n %% 5000), 40, '0') END,
       (91.25 + n %% 100)::numeric(38, 10), (1.5 + n %% 7)::numeric(38, 10), (n %% 1000)::numeric(38, 10), 0.25::numeric(38, 10),
       0.0123::numeric(38, 10), 'USDC', 'Open Long', decode(lpad(to_hex(n), 64, '0'), 'hex'),
       CASE WHEN n %% 3 = 0 THEN decode(lpad(to_hex(n), 32, '0'), 'hex') END, n
FROM (SELECT n, day + n * interval '86400 seconds' / %(a_day)s AS at
      FROM generate_series(%(first)s::timestamp AT TIME ZONE 'UTC', %(last)s::timestamp AT TIME ZONE 'UTC', '1 day') day,
           generate_series(0, %(a_day)s - 1) n) fills
"""
_CANDLES = """
INSERT INTO hl.candles (coin, time, open, high, low, close, volume, notional, trades, date)
SELECT coin, minute, px, px + 1.5, px - 1.25, px + 0.125, 1234.5678::numeric(38, 10), 1234.5678 * px, 250, minute::date
FROM unnest(ARRAY['BTC', 'ETH', 'SOL', 'HYPE', 'xyz:TSLA']) coin,
     generate_series(timestamptz '2025-11-01Z', '2025-11-07 23:59Z', '1 minute') minute,
     LATERAL (SELECT (90 + extract(minute FROM minute) / 8)::numeric(38, 10) AS px) prices;
INSERT INTO hl.daily_stats (date, coin, kind, fills, non_market_rows, fees_known, trades, wallets)
SELECT day, coin, 'perp', 20000, 0, 20000, 10000, 100
FROM unnest(ARRAY['BTC', 'ETH', 'SOL', 'HYPE', 'xyz:TSLA']) coin, generate_series(date '2025-11-01', '2025-11-07', '1 day') day
"""
# The coverage of the rows: on the seventh of every month some hours are missing.
_DAYS = """
INSERT INTO hl.twap_days (date, state, explanation, objects, rows, duplicates, conflicts)
SELECT day::date, CASE WHEN extract(day FROM day) = 7 THEN 'incomplete' ELSE 'unprovable' END, 'bench', 1, 100, 0, 0
FROM generate_series(%(first)s::date, %(last)s, '1 day') day;
INSERT INTO hl.fills_days (date, rows, duplicates, state, explanation, candles_at, daily_stats_at, user_stats_at)
SELECT day::date, 100000, 0, CASE WHEN extract(day FROM day) = 7 THEN 'incomplete' ELSE 'whole' END, 'bench', now(), now(), now()
FROM generate_series(%(first)s::date, %(last)s, '1 day') day;
INSERT INTO hl.coverage (source, object_date, object_hour, expected, found, why, missing_ranges, missing_blocks)
SELECT source, day::date, hour, true, CASE WHEN extract(day FROM day) = 7 AND hour < 3 THEN 'missing' ELSE 'present' END, '',
       '{}', 0
FROM generate_series(%(first)s::date, %(last)s, '1 day') day, generate_series(0, 23) hour,
     (VALUES ('twap_statuses'), ('node_fills_by_block')) sources (source)
"""


@contextmanager
def bench_database(home: Path) -> Generator[str]:
    """Return the URL of a new database in `home`: 50,000 TWAPs of WALLET in two months, fills and candles of a week."""
    first, last = date(2025, 11, 1), date(2025, 11, 7)
    with _new_database(home) as url, psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(_TWAPS)
        _add_fills(connection, first, last, FILLS_A_DAY)
        connection.execute(_CANDLES)
        connection.execute(_DAYS, {"first": date(2025, 8, 17), "last": date(2026, 12, 31)})
        connection.execute("VACUUM ANALYZE")
        yield url


@contextmanager
def year_database(home: Path, partitions: int) -> Generator[str]:
    """Make a database with this many days in hl.fills up to YEAR_END, else like `bench_database`. Returns its URL."""
    first = YEAR_END - timedelta(days=partitions - 1)
    with _new_database(home) as url, psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(_TWAPS)
        _add_fills(connection, first, YEAR_END, _FILLS_A_DAY_OF_YEAR)
        connection.execute(_CANDLES)
        connection.execute(_DAYS, {"first": first, "last": YEAR_END})
        connection.execute("VACUUM ANALYZE")
        yield url


@contextmanager
def _new_database(home: Path) -> Generator[str]:
    name = f"api_bench_{uuid.uuid4().hex}"
    with psycopg.connect(embedded_url(home, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            url = embedded_url(home, name)
            migrate(url)
            yield url
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _add_fills(connection: psycopg.Connection, first: date, last: date, a_day: int) -> None:
    for day in range((last - first).days + 1):
        make_day(connection, first + timedelta(day))
    connection.execute(_FILLS, {"first": first, "last": last, "a_day": a_day})
