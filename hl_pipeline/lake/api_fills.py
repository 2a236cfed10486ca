"""The part of the lake that comes from the info API.

    api_fills/date=2024-11-03/shard=3f.parquet   the fills of that day (UTC, of the event) of the wallets of a shard, each once,
                                                 by time and wallet, of each in the API's order
    api_fills/shard=3f.bad.jsonl                 rejected items of these wallets, if any
    api_fills/shard=3f.wallets.json              the finished wallets, so that a new database does not fetch them again

A wallet's shard is the first byte of sha256 of its lower-case address. This never changes; hl.shard_of does the same in SQL.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from io import BytesIO
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from hl_pipeline.domain.datasets import API_FILLS
from hl_pipeline.domain.records import ApiShard
from hl_pipeline.formats.api_fills import PARSER
from hl_pipeline.formats.arrow import as_arrow
from hl_pipeline.formats.fills import FILL_KEY, FILL_SCHEMA, BadLine, empty_fills
from hl_pipeline.lake.fills import read_fills
from hl_pipeline.lake.store import Lake, exists, list_files, open_file, read_meta, replacing, write_table

_PROGRESS = ".wallets.json"


def api_fills_path(day: date, shard: str) -> str:
    """Return the path of a shard's fills of a day, relative to the lake's root."""
    return f"{API_FILLS}/date={day}/shard={shard}.parquet"


def api_bad_path(shard: str) -> str:
    """Return the path of a shard's quarantined items, relative to the lake's root."""
    return f"{API_FILLS}/shard={shard}.bad.jsonl"


def write_api_progress(lake: Lake, shard: str, wallets: str) -> None:
    """Replace the backfill progress of a shard in the lake by `wallets` (JSON from warehouse.backfill_progress)."""
    with replacing(lake, f"{API_FILLS}/shard={shard}{_PROGRESS}") as temporary:
        temporary.write_text(wallets, encoding="utf-8")


def read_api_progress(lake: Lake) -> Iterator[tuple[str, list[BadLine]]]:
    """Yield the backfill progress (JSON) and the rejected items of each shard."""
    paths = list_files(lake, API_FILLS)
    for path in (path for path in paths if path.endswith(_PROGRESS)):
        with open_file(lake, path) as file:
            wallets = file.read().decode()
        bad: list[BadLine] = []
        if (quarantine := path.removesuffix(_PROGRESS) + ".bad.jsonl") in paths:
            with open_file(lake, quarantine) as file:
                bad = [_bad_line(json.loads(line)) for line in file.read().splitlines()]
        yield wallets, bad


def _bad_line(record: dict[str, Any]) -> BadLine:
    text = record["text"].encode() if "text" in record else base64.b64decode(record["base64"])
    return BadLine(record["line"], record["event"], record["reason"], text)


def add_api_fills(lake: Lake, day: date, shard: str, fills: pl.DataFrame) -> ApiShard:
    """Add `fills` (FILL_SCHEMA, of that day, each wallet in API order) to the shard's fills in the lake. Existing fills do not
    change. `line` counts the rows of the file from 1; it is NULL if an earlier version did not keep the API order.

    One writer per shard at a time: the caller must hold its lock.
    """
    path = api_fills_path(day, shard)
    known = read_meta(lake, path, ApiShard) if exists(lake, path) else None
    before = empty_fills() if known is None else read_fills(lake, known).select(*FILL_SCHEMA)
    came = fills.with_columns(line=pl.int_range(pl.len()) + before.height + 1)
    # A row with twap_id takes precedence over one without; the fill keeps its first position.
    rows = (
        pl.concat([before, came])
        .with_columns(pl.col("line").min().over(FILL_KEY))
        .sort("time", "wallet", "coin", "side", "tid", "twap_id", nulls_last=True, maintain_order=True)
        .unique(FILL_KEY, keep="first", maintain_order=True)
        .sort("time", "wallet", "line", nulls_last=True, maintain_order=True)
        .with_columns(line=pl.when(pl.col("line").is_not_null()).then(pl.int_range(pl.len()) + 1))
    )
    table = as_arrow(rows)
    etag = _digest(table)
    if known is not None and known.etag == etag:
        return known
    times = rows["time"].cast(pl.Int64)
    meta = ApiShard(
        key=path,
        etag=etag,
        shard=shard,
        date=str(day),
        parser=PARSER,
        rows=rows.height,
        wallets=rows["wallet"].n_unique(),
        first_time_ms=int(times[0]),
        last_time_ms=int(times[-1]),
        fetched_at=datetime.now(UTC).isoformat(),
    )
    with replacing(lake, path) as temporary:
        write_table(temporary, table, meta, compression_level=1)
    return meta


def read_api_shards(lake: Lake, day: date) -> tuple[list[ApiShard], list[str]]:
    """Return the shards with fills of a day in the lake, and the wallets of these fills, both sorted."""
    shards: list[ApiShard] = []
    wallets: set[str] = set()
    for path in list_files(lake, f"{API_FILLS}/date={day}"):
        shards.append(read_meta(lake, path, ApiShard))
        with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
            wallets.update(pq.read_table(file, columns=["wallet"])["wallet"].unique().to_pylist())
    return shards, sorted(wallets)


def _digest(table: pa.Table) -> str:
    """Return a digest that depends only on the contents of a table: of its Parquet form, which stores no bytes for NULL."""
    written = BytesIO()
    pq.write_table(table, written)
    return hashlib.md5(written.getvalue(), usedforsecurity=False).hexdigest()
