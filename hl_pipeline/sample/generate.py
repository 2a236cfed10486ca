"""Writes a seeded sample bucket of fills of any size, in the datasets of its days, a bucket of TWAP statuses, and the true
values.

Imports nothing of the pipeline outside `sample`, so that decoders are tested against independent values: the truth is summed from
the integers that the fills were generated from, never read back from the JSON. Nothing here decodes.

The hour decides which objects exist, as in the real bucket: `node_trades` 2025-03-22 … 2025-06-21 without
`NODE_TRADES_MISSING_DAYS`, `node_fills` 2025-05-25T14:21:17 … 2025-07-27T08:55:03, `node_fills_by_block` from
2025-07-27T08:50:10.27 on. All objects of an hour are written from the same legs. About 2 % of the trades have only one leg in the
fills, but both in `node_trades`, which has no dust and no other non-market rows.

The truth covers what the objects contain: the union of all objects, each leg once, from its best source (by_block, then
`node_fills`, then `node_trades`). For a leg that is only in `node_trades`, values such as tid, dir, fee, pnl and liquidation are
unknown: they are in no sum and no count, and not in `fees.parquet`.

TWAP statuses exist from 2025-08-17 on, with times from `first_day` 00:00 to the last block, each in the objects of its day.
`status_objects` has the layouts of the days. Next to the first Parquet object is a junk file without data. An `activated` status
has the time of its TWAP's first slice. The executed size of an end status is the exact sum of all slices, including those whose
legs are in no object. For a TWAP that began before the sample, earlier slices have prices that appear nowhere else.

`truth/fills.parquet`: a row per `date` (UTC day of the fill's time), `coin`, `wallet`, sorted so: `rows`, `taker_rows`,
`twap_rows` (with a twapId), `liquidation_rows`, `non_market_rows` (dust, Settlement, Split/Merge/Negate Outcome; a dir nobody
knows counts as market), and exact sums over all rows: `sz_sum`, `taker_sz_sum`, `start_position_sum`, `closed_pnl_sum`, `fee_sum`
(numerically over all tokens), `builder_fee_sum`: Decimal(38,10); `notional_sum` (px * sz): Decimal(38,20); `tid_sum`, `oid_sum`:
Decimal(38,0), no modulo. `truth/fees.parquet`: `rows`, `fee_sum` per `date`, `coin`, `wallet`, `fee_token`. `truth/days.json`:
`days` by event date: rows, trades (distinct tid of market rows, tid not 0), single_leg_tids and self_trades (of those),
dust_rows, twap_rows, twaps (distinct twapIds), liquidation_rows, non_market_rows, unknown_dir_rows, unknown_field_rows,
missing_twap_key_rows, first_time_ms, last_time_ms; and `objects` by key: rows (legs: two a line in `node_trades`), bytes
(compressed), and of by_block blocks, empty_blocks, first_block, last_block, of the others lines. `truth/legs.parquet`, with
`record_legs`: a row per leg that can be had, by time and, within a block, in the order of the file: `source` (dataset) and `key`
of the object it is from; `time` (ms), `block_time_ns` (true in all, though `node_fills` has ms only), `block_number` (null but in
by_block), `coin`, `wallet`, `side` (B, A); `px`, `sz`, `start_position`, `closed_pnl`, `fee`, `builder_fee`, `deployer_fee`,
`priority_gas`: Decimal(38,10); `dir`, `crossed`, `oid`, `counterparty_oid` (of the trade's other leg, only from `node_trades`),
`tid` (the true one, from `node_trades` too), `twap_id`, `fee_token`, `builder`, `liquidated_user`, `liquidation_mark_px`
(Decimal), `trade` (the generator's number of the trade, null if none), `is_market`. Null is what a row does not have, or from
`node_trades` cannot tell. `truth/statuses.parquet`: a row per status that is in an object, by time: `twap_id`, `time_ns` (whole
ms where only a pathed object has it), `status`, `error` (its message, or null), `wallet` (lower case), `coin`, `side` (B, A),
`size_requested`, `size_executed`, `notional_executed`: Decimal(38,10), `duration_minutes`, `reduce_only`, `randomize`,
`started_at_ms` (`state.timestamp`), `keys`: every object that has it, relative to the directory of the statuses.
`truth/twaps.json`: `status_objects` by key: rows (events), layout, bytes; and by kind the ids of the TWAPs that begin in the
sample and not before there were statuses: `ordinary` (it has finished, all slices and statuses are there, and it did not wait),
`terminated`, `error_at_once` (no slice, activated or not), `error_after_slices`, `running` (no end until the last block): none is
in two of these, but it may be in others too: `over_midnight` (slices on more than one day), `three_days` (on three),
`no_last_status` (finished, but no object says so), `no_status` (in no object), `missing_slices` (the owner's legs of some slices
are in no object of fills, the other legs are there alone), `waited_for_trigger`. `begun_before`: all others with a slice in the
sample.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.random import Generator

from hl_pipeline.sample.legs import legs_table
from hl_pipeline.sample.positions import Positions
from hl_pipeline.sample.sources import (
    SOURCES,
    TRADES,
    DrawnHour,
    first_possible_day,
    ns_of,
    object_key,
    sources_at,
    take_held,
    take_known,
    which_hold,
)
from hl_pipeline.sample.statuses import Statuses
from hl_pipeline.sample.text import World, write_object
from hl_pipeline.sample.truth import Truth
from hl_pipeline.sample.twaps import draw_twaps
from hl_pipeline.sample.values import (
    HOUR_NS,
    Ints,
    draw_dust,
    draw_legs,
    draw_markets,
    draw_orders,
)

_FIRST_BLOCK = 923_950_000
_MOST_BLOCKS_AN_HOUR = 46_800


@dataclass(frozen=True, slots=True)
class Sample:
    """The result: paths of the buckets and the truth, number of fills in the objects, number of objects, compressed bytes."""

    node_data_dir: Path
    twap_data_dir: Path
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
    record_legs: bool = False,
) -> Sample:
    """Write the objects of `days` days and hour 0 of the day after, and the truth. The same arguments give the same bytes.

    `target/hl-mainnet-node-data/<dataset>/hourly/YYYYMMDD/H.lz4`, `target/artemis-hyperliquid-data/raw/twap_statuses/` and
    `target/truth/` (see the module).
    With `hours` it ends after so many, for trials of size. Event days `first_day` … `first_day + days - 1` are whole; a few
    rows belong to the day before and after. About `fills_per_hour` rows an hour, three minutes' worth in the last one, and
    the dust of each midnight. What is rare comes about once a day at least, however small the sample. `progress` gets the
    number of fills that can be had so far, after each hour. What is in `target` is written over, but objects of a larger
    sample stay: begin with an empty one. `ValueError` where the first hour has no object in any dataset.
    """
    if days < 1 or fills_per_hour < 1:
        raise ValueError(f"days and fills_per_hour must be at least 1, got {days} and {fills_per_hour}")
    node_data_dir, truth_dir = target / "hl-mainnet-node-data", target / "truth"
    twap_data_dir = target / "artemis-hyperliquid-data/raw/twap_statuses"
    if (possible := first_possible_day(first_day)) != first_day:
        raise ValueError(f"the bucket has no object for {first_day}: the next day with one is {possible}")
    truth_dir.mkdir(parents=True, exist_ok=True)
    start_ns = ns_of(first_day)
    hours = (24 * days if hours is None else hours) + 1
    world = _draw_world(np.random.default_rng([seed, hours]), start_ns, hours, fills_per_hour)

    truth, statuses = Truth(truth_dir, world), Statuses(twap_data_dir, truth_dir, world, start_ns)
    fills = objects = size = 0
    for hour in _draw_hours(world, start_ns, hours, fills_per_hour, seed):
        held = which_hold(hour)
        for source, rows in zip(SOURCES, held, strict=True):
            if rows.any():
                made = take_held(hour, source, rows)
                written = write_object(node_data_dir / object_key(source, hour.hour_ns), source, world, made)
                truth.add_object(source, made, written)
                objects, size = objects + 1, size + written
        statuses.add_hour(hour)
        known = take_known(hour, held)
        truth.add_legs(known)
        if record_legs:
            truth.append("legs", legs_table(world, known))
        fills += len(known.legs["block"])
        if progress:
            progress(fills)
    truth.close()
    statuses.close()
    return Sample(node_data_dir, twap_data_dir, truth_dir, fills, objects, size)


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


def _draw_hours(world: World, start_ns: int, hours: int, fills_per_hour: int, seed: int) -> Iterator[DrawnHour]:
    wallets = len(world.wallets)
    dust_rows = min(1_300, max(20, 1_300 * fills_per_hour // 20_000))
    rare = max(1e-4, 0.25 / fills_per_hour)
    next_block, last_ns, next_order = _FIRST_BLOCK, 0, 0
    positions = Positions(world.markets, world.twaps)
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
            whole_trades=TRADES in sources_at(hour_ns),
            move=positions.move,
        )
        next_order += len(orders.block)
        if hour % 24 == 0:
            midnight = int(np.searchsorted(block_ns, hour_ns))
            dust = draw_dust(rng, world.markets, wallets, block=midnight, rows=dust_rows, order=next_order)
            next_order += 1
            at = int(np.searchsorted(legs["block"], midnight))
            legs = {name: np.concatenate([legs[name][:at], dust[name], legs[name][at:]]) for name in legs}
        yield DrawnHour(hour_ns, local_ns, block_ns, next_block, legs)
        next_block, last_ns = next_block + blocks, int(block_ns[-1])


def _draw_block_times(rng: Generator, hour_ns: int, span_ns: int, blocks: int, after_ns: int) -> tuple[Ints, Ints]:
    """Draw local times within the hour, and block times 50 to 400 ms earlier. Both ascend; the first block is before the hour."""
    local_ns = hour_ns + ((np.arange(blocks) + rng.random(blocks)) * (span_ns / blocks)).astype(np.int64)
    local_ns[0] = hour_ns + rng.integers(1, min(45 * 10**6, span_ns // blocks))
    block_ns = local_ns - rng.integers(51 * 10**6, 400 * 10**6, blocks)
    return local_ns, np.maximum(np.maximum.accumulate(block_ns), after_ns + 1) + np.arange(blocks)
