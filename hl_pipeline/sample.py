"""A seeded sample bucket of `node_fills_by_block` as large as wanted, and beside it the truth about what it holds.

Imports nothing of the pipeline but its own `sample_*`, so that the decoder is tested against an independent account: the
truth is summed from the integers the fills were made of, never read back from the JSON. Nothing here decodes.

`truth/fills.parquet`: a row per `date` (UTC day of the fill's time), `coin`, `wallet`, sorted so: `rows`, `taker_rows`,
`twap_rows` (with a twapId), `liquidation_rows`, `non_market_rows` (dust, Settlement, Split/Merge/Negate Outcome; a dir
nobody knows counts as market), and exact sums over all rows: `sz_sum`, `taker_sz_sum`, `start_position_sum`,
`closed_pnl_sum`, `fee_sum` (numerically over all tokens), `builder_fee_sum`: Decimal(38,10); `notional_sum` (px * sz):
Decimal(38,20); `tid_sum`, `oid_sum`: Decimal(38,0), no modulo.
`truth/fees.parquet`: `rows`, `fee_sum` per `date`, `coin`, `wallet`, `fee_token`.
`truth/days.json`: `days` by event date: rows, trades (distinct tid of market rows, tid not 0), single_leg_tids and
self_trades (of those), dust_rows, twap_rows, twaps (distinct twapIds), liquidation_rows, non_market_rows,
unknown_dir_rows, unknown_field_rows, missing_twap_key_rows, first_time_ms, last_time_ms; and `objects` by key: rows,
blocks, empty_blocks, first_block, last_block, bytes (compressed).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.random import Generator

from hl_pipeline.sample_text import DrawnObject, World, write_object
from hl_pipeline.sample_truth import Truth
from hl_pipeline.sample_values import (
    HOUR_NS,
    Ints,
    draw_dust,
    draw_legs,
    draw_markets,
    draw_orders,
    draw_twaps,
)

_FIRST_BLOCK = 923_950_000
_MOST_BLOCKS_AN_HOUR = 46_800
_DAY_NS = 24 * HOUR_NS


@dataclass(frozen=True, slots=True)
class Sample:
    """What was written: where the bucket and the truth are, rows, objects and compressed bytes."""

    node_data_dir: Path
    truth_dir: Path
    fills: int
    objects: int
    bytes: int


def write_sample(
    target: Path,
    *,
    first_day: date,
    days: int = 1,
    hours: int | None = None,
    fills_per_hour: int,
    seed: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Sample:
    """Writes the objects of `days` days and hour 0 of the day after, and the truth; the same arguments, the same bytes.

    `target/hl-mainnet-node-data/node_fills_by_block/hourly/YYYYMMDD/H.lz4` and `target/truth/` (see the module).
    With `hours` it ends after so many, for trials of size. Event days `first_day` … `first_day + days - 1` are whole; a few
    rows belong to the day before and after. About `fills_per_hour` rows an object, three minutes' worth in the last one, and
    the dust of each midnight. What is rare comes about once a day at least, however small the sample. `progress` gets the
    number of fills written so far, after each object. What is in `target` is written over, but objects of a larger sample
    stay: begin with an empty one.
    """
    if days < 1 or fills_per_hour < 1:
        raise ValueError(f"days and fills_per_hour must be at least 1, got {days} and {fills_per_hour}")
    node_data_dir, truth_dir = target / "hl-mainnet-node-data", target / "truth"
    truth_dir.mkdir(parents=True, exist_ok=True)
    start_ns = (first_day - date(1970, 1, 1)).days * _DAY_NS
    hours = (24 * days if hours is None else hours) + 1
    world = _draw_world(np.random.default_rng([seed, hours]), start_ns, hours, fills_per_hour)

    truth = Truth(truth_dir, world)
    fills = size = 0
    for made in _draw_objects(world, start_ns, hours, fills_per_hour, seed):
        written = write_object(node_data_dir / made.key, world, made)
        truth.add(made, written)
        fills, size = fills + len(made.legs["block"]), size + written
        if progress:
            progress(fills)
    truth.close()
    return Sample(node_data_dir, truth_dir, fills, hours, size)


def _draw_world(rng: Generator, start_ns: int, hours: int, fills_per_hour: int) -> World:
    wallets = min(max(fills_per_hour * 24 // 200, 200), 60_000)
    markets = draw_markets(rng)
    return World(
        markets=markets,
        twaps=draw_twaps(rng, markets, wallets, start_ns=start_ns, hours=hours, fills_per_hour=fills_per_hour),
        coins=np.array(markets.names, "S"),
        tokens=np.array(markets.tokens, "S"),
        wallets=np.array([rng.bytes(20).hex() for _ in range(wallets)], "S"),
        builders=np.array([rng.bytes(20).hex() for _ in range(8)], "S"),
    )


def _draw_objects(world: World, start_ns: int, hours: int, fills_per_hour: int, seed: int) -> Iterator[DrawnObject]:
    wallets = len(world.wallets)
    dust_rows = min(1_300, max(20, 1_300 * fills_per_hour // 20_000))
    rare = max(1e-4, 0.25 / fills_per_hour)
    next_block, last_ns, next_order = _FIRST_BLOCK, 0, 0
    for hour in range(hours):
        rng = np.random.default_rng([seed, hours, hour])
        hour_ns, part = start_ns + hour * HOUR_NS, 1.0 if hour < hours - 1 else 0.05
        blocks = max(5, int(min(_MOST_BLOCKS_AN_HOUR, fills_per_hour / 4.3) * part))
        local_ns, block_ns = _draw_block_times(rng, hour_ns, int(HOUR_NS * part), blocks, last_ns)
        orders = draw_orders(
            rng, world.twaps, block_ns, last_ns or int(block_ns[0]) - 1, trades=int(fills_per_hour * part / 1.98)
        )
        legs = draw_legs(
            rng,
            world.markets,
            world.twaps,
            wallets,
            orders,
            block_ns=block_ns,
            rare=rare,
            first_order=next_order,
        )
        next_order += len(orders.block)
        if hour % 24 == 0:
            midnight = int(np.searchsorted(block_ns, hour_ns))
            dust = draw_dust(rng, world.markets, wallets, block=midnight, rows=dust_rows, order=next_order)
            next_order += 1
            at = int(np.searchsorted(legs["block"], midnight))
            legs = {name: np.concatenate([legs[name][:at], dust[name], legs[name][at:]]) for name in legs}
        day = date(1970, 1, 1) + timedelta(days=hour_ns // _DAY_NS)
        key = f"node_fills_by_block/hourly/{day:%Y%m%d}/{hour % 24}.lz4"
        yield DrawnObject(key, local_ns, block_ns, next_block, legs)
        next_block, last_ns = next_block + blocks, int(block_ns[-1])


def _draw_block_times(rng: Generator, hour_ns: int, span_ns: int, blocks: int, after_ns: int) -> tuple[Ints, Ints]:
    """Local times within the hour, block times 50 to 400 ms before; both rise, the first block is before the hour."""
    local_ns = hour_ns + ((np.arange(blocks) + rng.random(blocks)) * (span_ns / blocks)).astype(np.int64)
    local_ns[0] = hour_ns + rng.integers(1, min(45 * 10**6, span_ns // blocks))
    block_ns = local_ns - rng.integers(51 * 10**6, 400 * 10**6, blocks)
    return local_ns, np.maximum(np.maximum.accumulate(block_ns), after_ns + 1) + np.arange(blocks)
