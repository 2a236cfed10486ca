"""The schema of a fill, the same for every source, and the rules for values that do not fit it.

Only the schema belongs here. Each format has a module that decodes bytes to fills.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

PRICE_TYPE = pl.Decimal(38, 10)
DECIMAL_TEXT = r"-?[0-9]{1,28}(?:\.[0-9]{1,10})?"
"""Pattern of strings that polars casts to PRICE_TYPE exactly; any other string goes to `exact_decode`."""

# JSON key -> column, in Hyperliquid's own terms. Every fill has the first group; the second group is optional.
REGULAR_FIELDS: dict[str, str] = {
    "coin": "coin",
    "px": "px",
    "sz": "sz",
    "side": "side",
    "time": "time",
    "startPosition": "start_position",
    "dir": "dir",
    "closedPnl": "closed_pnl",
    "hash": "hash",
    "oid": "oid",
    "crossed": "crossed",
    "fee": "fee",
    "tid": "tid",
    "feeToken": "fee_token",
    "twapId": "twap_id",
}
OPTIONAL_FIELDS: dict[str, str] = {
    "cloid": "cloid",
    "builder": "builder",
    "builderFee": "builder_fee",
    "deployerFee": "deployer_fee",
    "priorityGas": "priority_gas",
}
LIQUIDATION_FIELDS: dict[str, str] = {
    "liquidatedUser": "liquidated_user",
    "markPx": "liquidation_mark_px",
    "method": "liquidation_method",
}
# Without these, a fill can be neither dated nor deduplicated.
REQUIRED_FIELDS = ("coin", "px", "sz", "side", "time", "tid")
DECIMAL_FIELDS = ("px", "sz", "startPosition", "closedPnl", "fee", "builderFee", "deployerFee", "priorityGas")
INTEGER_FIELDS = ("time", "oid", "tid", "twapId")
HEX_FIELDS = {"hash": 32, "cloid": 16}  # bytes

FILL_SCHEMA: dict[str, pl.DataType] = {
    "time": pl.Datetime("ms", "UTC"),
    "block_number": pl.Int64(),
    "block_time_ns": pl.Int64(),
    "local_time_ns": pl.Int64(),
    "coin": pl.String(),
    "wallet": pl.String(),
    "side": pl.String(),
    "px": PRICE_TYPE,
    "sz": PRICE_TYPE,
    "start_position": PRICE_TYPE,
    "dir": pl.String(),
    "closed_pnl": PRICE_TYPE,
    "hash": pl.Binary(),
    "oid": pl.Int64(),
    "counterparty_oid": pl.Int64(),
    "crossed": pl.Boolean(),
    "fee": PRICE_TYPE,
    "tid": pl.Int64(),
    "cloid": pl.Binary(),
    "fee_token": pl.String(),
    "builder": pl.String(),
    "builder_fee": PRICE_TYPE,
    "deployer_fee": PRICE_TYPE,
    "priority_gas": PRICE_TYPE,
    "twap_id": pl.Int64(),
    "liquidated_user": pl.String(),
    "liquidation_mark_px": PRICE_TYPE,
    "liquidation_method": pl.String(),
    "extra": pl.String(),
    "line": pl.Int64(),
}
"""Columns of a decoded fill. `time` is the event (UTC, ms); `*_ns` are nanoseconds since 1970, UTC; `side` is `B` or `A`;
`wallet`, `builder` and `liquidated_user` are lower case; `hash` has 32 bytes and `cloid` 16; `line` counts from 1.

`extra` is a JSON object or NULL. It has everything that fits no column:

* unknown fields under their own names, and known fields with a value of unknown form
* an explicit null where the field is usually absent
* under `_missing`, regular fields that were absent (so that `twapId: null` and no `twapId` differ)
* under `_block`, unknown fields of the block
* under `_slice`, unknown fields that `userTwapSliceFillsByTime` has around a fill

For a leg of `node_trades`, `extra` has unknown fields of the leg under their own names. Under `_trade`, both legs have unknown
fields of the trade, an invalid hash, and a `trade_dir_override` other than "Na". Under `_missing` are the absent ones of hash,
trade_dir_override, start_pos, twap_id and cloid. Columns that this source never has (tid, fee, dir, ...) are NULL and are not in
`extra`.

`counterparty_oid` is the order of a trade's other leg. Only `node_trades` has it, as a replacement for the tid; otherwise NULL.
"""
OUR_NAMES = ("_missing", "_block", "_slice", "_trade")
"""The keys of `extra` that no field of a source may have."""

SUMMED_BELOW = 10**18
"""Prices and sizes from here on are excluded from sums, which could otherwise overflow Decimal(38,10)."""

FILL_KEY = ("time", "coin", "wallet", "side", "tid")
"""The columns that identify a fill with a tid (without one: `domain.deduplicate.LEG_KEY`).

Both legs of a trade share `tid`, a self-trade also the wallet, the dust of a day has `tid` 0.
"""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A rejected line, or a rejected event of it. `line` and `event` count from 1. `event` None: the whole line."""

    line: int
    event: int | None
    reason: str
    text: bytes


def in_fill_schema(frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` with the columns of FILL_SCHEMA in its order; missing columns are NULL."""
    there = set(frame.columns)
    return frame.select(pl.col(name) if name in there else pl.lit(None, dtype).alias(name) for name, dtype in FILL_SCHEMA.items())


def empty_fills() -> pl.DataFrame:
    """Return an empty frame of FILL_SCHEMA."""
    return pl.DataFrame(schema=FILL_SCHEMA)


SLICE_COLUMNS = ("twap_id", "time", "wallet", "coin", "side", "px", "sz", "oid", "crossed", "fee", "fee_token", "closed_pnl")
"""The columns of fills that TWAP analytics use."""


DAY_SCHEMA: dict[str, pl.DataType] = {**FILL_SCHEMA, "object": pl.String(), "ordinal": pl.Int32()}
"""Columns of a day's fills: FILL_SCHEMA, the key of the source object, and the position among its fills, from 0 (NULL if the
order is unknown).
"""

NO_FILLS = pl.DataFrame(schema=DAY_SCHEMA)
"""An empty frame of DAY_SCHEMA."""
