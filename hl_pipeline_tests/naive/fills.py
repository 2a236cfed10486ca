"""An independent reader: it reads objects and rows as simply as possible, to check the pipeline without using its code."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import lz4.frame
import psycopg
from psycopg.rows import dict_row

SOURCE = "node_fills_by_block"
_NUMBERS = ("px", "sz", "startPosition", "closedPnl", "fee", "builderFee", "deployerFee", "priorityGas")
_COLUMNS = {
    "coin": "coin",
    "px": "px",
    "sz": "sz",
    "side": "side",
    "startPosition": "start_position",
    "dir": "dir",
    "closedPnl": "closed_pnl",
    "oid": "oid",
    "crossed": "crossed",
    "fee": "fee",
    "tid": "tid",
    "feeToken": "fee_token",
    "builder": "builder",
    "builderFee": "builder_fee",
    "deployerFee": "deployer_fee",
    "priorityGas": "priority_gas",
}


def object_path(bucket: Path, hour: datetime, codec: str = "lz4") -> Path:
    return bucket / SOURCE / "hourly" / f"{hour:%Y%m%d}" / f"{hour.hour}.{codec}"


def write_object(bucket: Path, hour: datetime, content: bytes, codec: str = "lz4") -> Path:
    """Write `content` (lines) as the object of an hour."""
    path = object_path(bucket, hour, codec)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lz4.frame.compress(content) if codec == "lz4" else gzip.compress(content))
    return path


def read_bucket(bucket: Path) -> list[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Read every fill of a bucket directory as (block without its events, user, fill), with numbers as Decimal.

    The fills are in the order of the objects and of each object's content. The block's `ordinal` counts them within an object.
    """
    found: list[tuple[dict[str, Any], str, dict[str, Any]]] = []
    for path in sorted(bucket.glob(f"{SOURCE}/hourly/*/*.lz4"), key=lambda path: (path.parent.name, int(path.stem))):
        ordinal = count()
        for line in lz4.frame.decompress(path.read_bytes()).decode().splitlines():
            block = json.loads(line, parse_float=Decimal)
            block["object"] = str(path.relative_to(bucket))
            found += [({**block, "events": None, "ordinal": next(ordinal)}, user, fill) for user, fill in block["events"]]
    return found


def expected_fill(block: dict[str, Any], user: str, fill: dict[str, Any]) -> dict[str, Any]:
    """Return a fill of the source in the form of `stored_fill`."""
    numbers = {name: Decimal(fill[name]) for name in _NUMBERS if fill.get(name) is not None}
    expected = {**fill, **numbers, "user": user.lower()}
    expected |= {name: block[name] for name in ("block_number", "object", "ordinal")}
    seconds, nanoseconds = block["block_time"].split(".")
    moment = datetime.fromisoformat(seconds).replace(tzinfo=UTC)
    expected["block_time_ns"] = int(moment.timestamp()) * 10**9 + int(nanoseconds)
    if fill.get("liquidation"):
        expected["liquidation"] = {**fill["liquidation"], "markPx": Decimal(fill["liquidation"]["markPx"])}
    return expected


def stored_fill(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a row of hl.fills (with object_key) back to its fill, with the fields that `expected_fill` adds."""
    extra = row["extra"] or {}
    missing = extra.pop("_missing", [])
    fill = {name: row[column] for name, column in _COLUMNS.items() if row[column] is not None}
    fill |= {"user": row["wallet"], "block_number": row["block_number"], "object": row["object_key"]}
    fill["ordinal"] = row["ordinal"]
    fill["time"] = (row["time"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    fill["block_time_ns"] = row["block_time_ns"]
    if "twapId" not in missing:
        fill["twapId"] = row["twap_id"]
    fill |= {name: "0x" + row[name].hex() for name in ("hash", "cloid") if row[name] is not None}
    if row["liquidated_user"] is not None:
        fill["liquidation"] = {
            "liquidatedUser": row["liquidated_user"],
            "markPx": row["liquidation_mark_px"],
            "method": row["liquidation_method"],
        }
    return fill | extra


def stored_fills(database_url: str) -> list[dict[str, Any]]:
    """Return all of hl.fills in the form of `stored_fill`, with their `date`, in the order of the source."""
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        cursor = connection.cursor(row_factory=dict_row)
        cursor.execute(
            "SELECT f.*, l.object_key, f.time::date AS date FROM hl.fills f JOIN hl.s3_ingest_log l USING (object_id) "
            "ORDER BY time, block_number, object_id, ordinal"
        )
        return [{**stored_fill(row), "date": row["date"]} for row in cursor]


def without(fills: Iterable[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in fill.items() if name not in names} for fill in fills]


def in_order(fills: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort fills by their key."""
    return sorted(fills, key=lambda fill: (fill["time"], fill["coin"], fill["user"], fill["side"], fill["tid"]))


def event_day(fill: dict[str, Any]) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=fill["time"])).date()
