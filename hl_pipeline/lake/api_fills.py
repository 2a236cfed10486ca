"""The part of the lake that comes from the info API.

    api_fills/date=2024-11-03/shard=3f.parquet   the fills of that day (UTC, of the event) of the wallets of a shard, each once,
                                                 by time and wallet, of each in the API's order
    api_fills/shard=3f.bad.jsonl                 what of these wallets could not be taken, if anything
    api_fills/shard=3f.wallets.json              which of them were asked to their end, so that a new database asks none again

A wallet's shard is the first byte of sha256 of its address in lower case, for ever; hl.shard_of says the same in PostgreSQL.
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
    """Where a shard's fills of a day are, from the lake's root."""
    return f"{API_FILLS}/date={day}/shard={shard}.parquet"


def api_bad_path(shard: str) -> str:
    """Where a shard's quarantined fills are, from the lake's root."""
    return f"{API_FILLS}/shard={shard}.bad.jsonl"


def write_api_progress(lake: Lake, shard: str, wallets: str) -> None:
    """Make `wallets` (JSON, made by warehouse.backfill_progress) all that the lake says of how far the shard's wallets are."""
    with replacing(lake, f"{API_FILLS}/shard={shard}{_PROGRESS}") as temporary:
        temporary.write_text(wallets, encoding="utf-8")


def read_api_progress(lake: Lake) -> Iterator[tuple[str, list[BadLine]]]:
    """Of each shard how far its wallets are (JSON), and the items that could not be taken."""
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
    """Put `fills` (FILL_SCHEMA, of that day, of each wallet in the API's order) to those of the shard that the lake has of it;
    what it has already changes nothing. `line` in the file counts its rows from 1; it is NULL where an earlier version has not
    kept in which order the API gave them.

    One writer a shard at a time (the caller holds its lock).
    """
    path = api_fills_path(day, shard)
    known = read_meta(lake, path, ApiShard) if exists(lake, path) else None
    before = empty_fills() if known is None else read_fills(lake, known).select(*FILL_SCHEMA)
    came = fills.with_columns(line=pl.int_range(pl.len()) + before.height + 1)
    # The row that knows of its TWAP goes before one that does not; the fill stands where it came first.
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
    """The shards of which the lake has fills of a day, and the wallets that these fills are of, both in order."""
    shards: list[ApiShard] = []
    wallets: set[str] = set()
    for path in list_files(lake, f"{API_FILLS}/date={day}"):
        shards.append(read_meta(lake, path, ApiShard))
        with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
            wallets.update(pq.read_table(file, columns=["wallet"])["wallet"].unique().to_pylist())
    return shards, sorted(wallets)


def _digest(table: pa.Table) -> str:
    """Of what a table holds, however it came to be: of its Parquet, where nothing stands for what is NULL."""
    written = BytesIO()
    pq.write_table(table, written)
    return hashlib.md5(written.getvalue(), usedforsecurity=False).hexdigest()
