"""An archive for the benchmark of the lake: days at rest, published and recorded, each with fills of one wallet. Not a test.

The rows are made in Arrow, because decoding 50 million fills would take an hour. Files, catalog and ledger are made by the
project's own functions.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from hl_pipeline.lake.compacted_fills import SCHEMA, TABLE, ensure_fills_table, write_sorted
from hl_pipeline.lake.iceberg import new_data_path, publish_day
from hl_pipeline.lake.store import Lake, replacing
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.warehouse.lake_days import LakeDay, record_lake_day
from hl_pipeline.warehouse.locks import lock_iceberg_table
from hl_pipeline_tests.tools.bench_s3 import LOADED

WALLET = "0x" + "ab" * 20
LAST = date(2026, 3, 31)
COINS = ("BTC", "ETH", "SOL", "HYPE", "xyz:TSLA", "DOGE", "PURR/USDC", "@107")
_WALLETS = 4_000
_TEN_DECIMALS = 10**10
_DAY_NS = 86_400 * 10**9


def make_archive(connection: psycopg.Connection, lake: Lake, *, days: int, fills: int, of_wallet: int) -> None:
    """Publish `days` days of `fills` fills up to LAST, thinned, of which WALLET has `of_wallet` a day."""
    etag = hashlib.md5(usedforsecurity=False).hexdigest()
    psycopg.ClientCursor(connection).execute(LOADED, {"today": LAST, "etag": etag, "days": days})
    connection.execute("UPDATE hl.fills_days SET rows = %s, thinned_at = now()", [fills])
    connection.execute(
        "INSERT INTO hl.daily_stats (date, coin, kind, fills, non_market_rows, fees_known, trades, wallets) "
        "SELECT date, coin, 'perp', 1, 0, 1, 1, 1 FROM hl.fills_days, unnest(%s::text[]) coin",
        [[*COINS]],
    )
    loaded: dict[date, datetime] = dict(connection.execute("SELECT date, loaded_at FROM hl.fills_days").fetchall())
    template = _fills_of_a_day(fills, of_wallet)
    with opened_catalog(connection, lake) as catalog:
        for day, loaded_at in sorted(loaded.items()):
            path = new_data_path(TABLE, day)
            facts: dict[str, Any] = {"day": day, "state": "whole", "made_from": "bench", "loaded_at": loaded_at, "objects": []}
            with replacing(lake, path) as temporary:
                batches = _on_day(template, day).to_reader(50_000)
                rows, unknown, notional = write_sorted(temporary, batches, facts)
                size = temporary.stat().st_size
            with lock_iceberg_table(connection, TABLE):
                snapshot = publish_day(ensure_fills_table(catalog, lake), lake, day, [path], {"rows": str(rows)})
            made = LakeDay(day, [path], rows, size, snapshot, "whole", "bench", loaded_at, notional or Decimal(0), unknown)
            record_lake_day(connection, TABLE, made)


def _fills_of_a_day(count: int, of_wallet: int) -> pa.Table:
    """Return sorted fills of 1970-01-01. Few wallets have most of them."""
    random = np.random.default_rng(20)
    addresses = sorted([WALLET, *(f"0x{random.bytes(20).hex()}" for _ in range(_WALLETS))])
    others = [number for number, address in enumerate(addresses) if address != WALLET]
    weights = 1 / (1 + np.arange(len(others))) ** 0.9
    wallet = np.concatenate(
        [
            np.full(of_wallet, addresses.index(WALLET)),
            np.array(others)[random.choice(len(others), count - of_wallet, p=weights / weights.sum())],
        ]
    )
    ms = random.integers(0, 86_400_000, count)
    order = np.lexsort((ms, wallet))
    wallet, ms = wallet[order], ms[order]
    coin = random.integers(0, len(COINS), count)
    px = (coin + 1) * 1_234_567 * 10**4 + random.integers(0, 10**6, count) * 10**4
    number = np.arange(count)
    side = random.integers(0, 2, count)
    hour = (ms // 3_600_000).astype(np.int64)
    columns: dict[str, Any] = {
        "time": pa.array(ms * 1000, pa.timestamp("us", "UTC")),
        "block_number": pa.array(600_000_000 + ms // 80),
        "block_time_ns": pa.array(ms * 1_000_000 + 123),
        "coin": pa.DictionaryArray.from_arrays(coin, [*COINS]).cast(pa.string()),
        "wallet": pa.DictionaryArray.from_arrays(wallet, addresses).cast(pa.string()),
        "side": pa.DictionaryArray.from_arrays(side, ["A", "B"]).cast(pa.string()),
        "px": _decimals(px),
        "sz": _decimals(random.integers(1, 10**5, count) * 10**6),
        "start_position": _decimals(random.integers(-(10**7), 10**7, count) * 10**6),
        "dir": pa.DictionaryArray.from_arrays(random.integers(0, 2, count), ["Open Long", "Close Long"]).cast(pa.string()),
        "closed_pnl": _decimals(np.where(side == 1, random.integers(-(10**6), 10**6, count) * 10**5, 0)),
        "hash": pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), count, [None, pa.py_buffer(random.bytes(32 * count))]),
        "oid": pa.array(250_000_000_000 + random.integers(0, 10**8, count)),
        "crossed": pa.array(side == 0),
        "fee": _decimals(random.integers(0, 10**6, count) * 10**4),
        "tid": pa.array(random.integers(10**11, 10**15, count)),
        "fee_token": pa.array(["USDC"] * count),
        "twap_id": pa.array(np.where(number % 20 == 0, number, 0), mask=number % 20 != 0),
        "object": pa.DictionaryArray.from_arrays(hour, [str(n) for n in range(24)]).cast(pa.string()),
        "ordinal": pa.array(number.astype(np.int32)),
    }
    fields = [SCHEMA.field(n) for n in range(len(SCHEMA) - 1)]
    arrays = [columns[f.name].cast(f.type) if f.name in columns else pa.nulls(count, f.type) for f in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _decimals(unscaled: np.ndarray[Any, Any]) -> pa.Array:
    """Return numbers in units of 1e-10 as decimals."""
    whole = pa.array(unscaled.astype(np.int64)).cast(pa.decimal128(38, 0))
    return pa.Array.from_buffers(pa.decimal128(38, 10), len(whole), whole.buffers())


def _on_day(template: pa.Table, day: date) -> pa.Table:
    """Move the fills to a day."""
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    days = (day - date(1970, 1, 1)).days
    objects = pa.array([f"node_fills_by_block/hourly/{since:%Y%m%d}/{hour}.lz4" for hour in range(24)])
    hours = template["object"].combine_chunks().cast(pa.int32())
    moved = {
        "time": pa.array(template["time"].to_numpy() + np.timedelta64(days, "D"), pa.timestamp("us", "UTC")),
        "block_time_ns": pa.array(template["block_time_ns"].to_numpy() + days * _DAY_NS),
        "block_number": pa.array(template["block_number"].to_numpy() + days * 1_080_000),
        "object": pa.DictionaryArray.from_arrays(hours, objects).cast(pa.string()),
    }
    for name, values in moved.items():
        index = template.schema.get_field_index(name)
        template = template.set_column(index, template.schema.field(index), values.cast(template.schema.field(index).type))
    return template


def first_day(days: int) -> date:
    """Return the first day of an archive."""
    return LAST - timedelta(days=days - 1)
