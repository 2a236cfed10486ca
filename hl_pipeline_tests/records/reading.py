"""Decompresses the real records of this folder. README.md describes their origin."""

from __future__ import annotations

import lzma
from pathlib import Path

import lz4.frame

_RECORDS = Path(__file__).parent
_BLOCKS = "node_fills_by_block_20260315_0.jsonl"
_OBJECT_OF_BLOCKS = "s3/hl-mainnet-node-data/node_fills_by_block/hourly/20260315/0.lz4"


def read_record(name: str) -> bytes:
    """Return the bytes of a record, by a name like `node_trades_20250624_2.jsonl`."""
    packed = _RECORDS / f"{name}.xz"
    return lzma.decompress(packed.read_bytes()) if packed.exists() else (_RECORDS / name).read_bytes()


def unpack_records(directory: Path) -> None:
    """Write every record into `directory`, and the blocks also as the object of a bucket."""
    for path in _RECORDS.glob("*.json*"):
        name = path.name.removesuffix(".xz")
        (directory / name).write_bytes(read_record(name))
    target = directory / _OBJECT_OF_BLOCKS
    target.parent.mkdir(parents=True)
    target.write_bytes(lz4.frame.compress(read_record(_BLOCKS)))
