"""The 256 shards of wallets, by the first byte of sha256 of the lower-case address. hl.shard_of does the same in PostgreSQL."""

from __future__ import annotations

import hashlib

SHARDS = tuple(f"{number:02x}" for number in range(256))


def shard_of(wallet: str) -> str:
    """Return the shard of a wallet as two hex digits."""
    return hashlib.sha256(wallet.lower().encode()).hexdigest()[:2]
