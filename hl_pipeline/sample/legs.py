"""Builds the rows of `truth/legs.parquet` from the drawn integers; `generate` describes the columns."""

import numpy as np
import pyarrow as pa

from hl_pipeline.sample.sources import BY_BLOCK, SOURCES, TRADES, DrawnHour, object_key
from hl_pipeline.sample.text import World
from hl_pipeline.sample.truth import exact
from hl_pipeline.sample.values import DIRS, FIRST_NON_MARKET_DIR, Bools, Ints


def legs_table(world: World, known: DrawnHour) -> pa.Table:
    """Return a row for each known leg of an hour (see `take_known`), in order."""
    legs, block_ns = known.legs, known.block_ns[known.legs["block"]]
    source, told = legs["source"], legs["source"] != SOURCES.index(TRADES)
    is_market, by_block = legs["dir"] < FIRST_NON_MARKET_DIR, source == SOURCES.index(BY_BLOCK)
    wallets, builders = (np.char.add("0x", names.astype(str)) for names in (world.wallets, world.builders))
    keys = np.array([object_key(name, known.hour_ns) for name in SOURCES])
    liquidated = legs["liquidated"] >= 0

    def decimals(name: str, there: Bools) -> pa.Array:
        return exact(legs[name], legs[name] >> 63, 10, there)

    def optional(name: str) -> pa.Array:
        return decimals(name, legs[name] >= 0)

    every = np.ones(len(source), bool)
    return pa.table(
        {
            "source": _named(np.array(SOURCES), source),
            "key": _named(keys, source),
            "time": pa.array(block_ns // 10**6),
            "block_time_ns": pa.array(block_ns),
            "block_number": pa.array(known.first_block + legs["block"], mask=~by_block),
            "coin": _named(world.coins.astype(str), legs["coin"]),
            "wallet": _named(wallets, legs["wallet"]),
            "side": _named(np.array(["A", "B"]), legs["buy"].astype(np.int64)),
            **{name: decimals(column, every) for name, column in (("px", "px"), ("sz", "sz"), ("start_position", "start"))},
            **{name: decimals(column, told) for name, column in (("closed_pnl", "pnl"), ("fee", "fee"))},
            **{name: optional(name) for name in ("builder_fee", "deployer_fee", "priority_gas")},
            "dir": _named(np.array(DIRS), legs["dir"]),
            "crossed": pa.array(legs["crossed"]),
            "oid": pa.array(legs["oid"]),
            "counterparty_oid": _number(legs["other_oid"]),
            "tid": pa.array(legs["tid"]),
            "twap_id": _number(legs["twap"]),
            "fee_token": _named(world.tokens.astype(str), legs["token"]),
            "builder": _named(builders, legs["builder"]),
            "liquidated_user": _named(wallets, legs["liquidated"]),
            "liquidation_mark_px": decimals("mark_px", liquidated),
            "trade": pa.array(legs["trade"], mask=~is_market),
            "is_market": pa.array(is_market),
        }
    )


def _number(values: Ints) -> pa.Array:
    """Convert integers from 0; negative ones become null."""
    return pa.array(values, mask=values < 0)


def _named(names: np.ndarray, numbers: Ints) -> pa.Array:
    """Return the names of the numbers; a negative number becomes null."""
    return pa.array(names.tolist(), pa.string()).take(_number(numbers))
