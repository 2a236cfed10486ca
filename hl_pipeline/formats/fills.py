"""The fill: one typed schema for every source, and what becomes of a value that does not fit it.

Only the shape of a fill belongs here; how bytes become fills is the matter of one file per format.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

PRICE_TYPE = pl.Decimal(38, 10)
DECIMAL_TEXT = r"-?[0-9]{1,28}(?:\.[0-9]{1,10})?"
"""Pattern of the texts that polars casts to PRICE_TYPE exactly; any other text is for `exact` to judge."""

# JSON key -> column, in Hyperliquid's own terms. A fill carries the first group always, of the second what it has.
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
# Without these a fill can be neither placed nor counted once.
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

`extra` is a JSON object or NULL. It holds what the columns cannot: unknown fields under their own names; known fields whose
value is not of the known form; a null written out where the field is usually left out; and under `_missing` the regular
fields that were not there at all (so that `twapId: null` and no `twapId` stay apart); under `_block` unknown fields of the block,
under `_slice` those that `userTwapSliceFillsByTime` has around a fill.
A leg of `node_trades` has there what its own object and its trade have beyond their regular keys: unknown fields of the leg under
their own names; under `_trade`, on both legs, unknown fields of the trade, a hash that is none and a `trade_dir_override` other
than "Na"; under `_missing` those of hash, trade_dir_override, start_pos, twap_id and cloid that were not there. What that source
never has (tid, fee, dir, ...) is NULL in its column and not named in `extra`.

`counterparty_oid` is the order of a trade's other leg. Only `node_trades` tells it, where it stands in for the tid that is not
there; elsewhere it is NULL.
"""
OUR_NAMES = ("_missing", "_block", "_slice", "_trade")
"""The keys of `extra` that no field of a source may have."""

SUMMED_BELOW = 10**18
"""A price or size from here on is in no sum: too many of them would be more than a Decimal(38,10) holds."""

FILL_KEY = ("time", "coin", "wallet", "side", "tid")
"""What identifies a fill that has a tid (without one: `domain.deduplicate.LEG_KEY`).

Both legs of a trade share `tid`, a self-trade also the wallet, the dust of a day has `tid` 0.
"""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line, or one event of it, that could not be taken: `line` and `event` count from 1, no `event`: the whole line."""

    line: int
    event: int | None
    reason: str
    text: bytes


def in_fill_schema(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the columns of FILL_SCHEMA in its order, NULL where it has none."""
    there = set(frame.columns)
    return frame.select(pl.col(name) if name in there else pl.lit(None, dtype).alias(name) for name, dtype in FILL_SCHEMA.items())


def empty_fills() -> pl.DataFrame:
    """A frame of FILL_SCHEMA with no rows."""
    return pl.DataFrame(schema=FILL_SCHEMA)


SLICE_COLUMNS = ("twap_id", "time", "wallet", "coin", "side", "px", "sz", "oid", "crossed", "fee", "fee_token", "closed_pnl")
"""The columns of fills that the figures of TWAPs are made of."""


DAY_SCHEMA: dict[str, pl.DataType] = {**FILL_SCHEMA, "object": pl.String(), "ordinal": pl.Int32()}
"""Columns of a day's fills: those of FILL_SCHEMA, the key of the fill's object, and its place among the object's fills, from 0;
NULL where nothing tells in which order the object had them.
"""

NO_FILLS = pl.DataFrame(schema=DAY_SCHEMA)
"""What a day's fills are when there are none."""
