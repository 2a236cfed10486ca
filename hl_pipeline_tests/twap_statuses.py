"""One TWAP status in every form that a source may use, and the row that it becomes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hl_pipeline.formats.twap_statuses import DecodedStatuses, decode_json_lines, decode_parquet
from hl_pipeline_tests.records.reading import read_record
from hl_pipeline_tests.strategies import as_lines

REAL = read_record("twap_statuses_node.jsonl")
LINES = REAL.splitlines(keepends=True)
STATUS: dict[str, Any] = json.loads(LINES[2])
BLOCK: dict[str, Any] = json.loads(LINES[1])
USER = "0xb90e02bd0033897061b272186d9f16340f153e87"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# 2026-01-28T15:00:05.423822681
TIME_NS = 1769612405423822681
EXPECTED: dict[str, Any] = {
    "twap_id": 1544034,
    "time_ns": TIME_NS,
    "status": "activated",
    "error": None,
    "wallet": USER,
    "coin": "ETH",
    "side": "A",
    "size_requested": Decimal(10),
    "size_executed": Decimal(0),
    "notional_executed": Decimal(0),
    "duration_minutes": 5,
    "reduce_only": False,
    "randomize": False,
    "started_at": datetime(2026, 1, 28, 15, 0, 5, 423000, UTC),
}
FLAT: dict[str, Any] = {
    "twap_id": 1544034,
    "time": "2026-01-28T15:00:05.423822681",
    "state_user": USER,
    "state_coin": "ETH",
    "state_side": "A",
    "state_sz": "10.0",
    "state_executedSz": "0.0",
    "state_executedNtl": "0.0",
    "state_minutes": 5,
    "state_reduceOnly": False,
    "state_randomize": False,
    "state_timestamp": 1769612405423,
    "status": "activated",
}


def from_json(made: Any) -> DecodedStatuses:
    return decode_json_lines(as_lines([made], spaced=False, ascii_only=True), 1)


def changed(state: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the real plain status with changes. An ellipsis removes a field."""
    made = STATUS | {"state": STATUS["state"] | (state or {})} | changes
    made["state"] = {key: value for key, value in made["state"].items() if value is not ...}
    return {key: value for key, value in made.items() if value is not ...}


def parquet_file(columns: dict[str, Any], **how: Any) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **how)
    file.seek(0)
    return file


def from_parquet(columns: Mapping[str, Any], **how: Any) -> DecodedStatuses:
    """Decode a small Parquet file: FLAT with `columns` replaced or added. An ellipsis removes a column."""
    rows = next((len(value) for value in columns.values() if isinstance(value, list | pa.Array)), 1)
    whole = {name: [value] * rows for name, value in FLAT.items() if name not in columns}
    [decoded] = decode_parquet(parquet_file(whole | {name: value for name, value in columns.items() if value is not ...}, **how))
    return decoded


def only_row(decoded: DecodedStatuses) -> dict[str, Any]:
    """Return the only row, without its place and its source."""
    assert decoded.bad == []
    [row] = decoded.statuses.to_dicts()
    return {name: value for name, value in row.items() if name not in ("block_number", "line", "raw")}


def only_reason(decoded: DecodedStatuses) -> str:
    assert decoded.statuses.height == 0
    [bad] = decoded.bad
    return bad.reason


def timestamps(value: int | None, unit: str, zone: str | None = None) -> pa.Array:
    return pa.array([value], pa.int64()).cast(pa.timestamp(unit, zone))
