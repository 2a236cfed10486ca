"""Draws the sample's fills as arrays of integers: markets, wallets, TWAPs, and an hour's orders and legs.

No text and no files: `text` and `truth` turn the arrays into objects and sums. Every price, size, position and fee is an int64 in
units of 1e-10; times are ns since 1970. Floats only select integers; they are never written or summed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

UNIT = 10**10
HOUR_NS = 3_600 * 10**9
SLICE_NS = 30 * 10**9

PERP, HIP3, SPOT, OUTCOME = range(4)
PLAIN, LIQUIDATED, DELEVERAGED, NON_MARKET, UNKNOWN = range(5)

DIRS = (
    *("Open Long", "Close Short", "Short > Long", "Open Short", "Close Long", "Long > Short", "Buy", "Sell"),
    *("Liquidated Cross Short", "Liquidated Isolated Short", "Liquidated Cross Long", "Liquidated Isolated Long"),
    *("Auto-Deleveraging", "Frobnicate Outcome"),
    *("Split Outcome", "Merge Outcome", "Settlement", "Negate Outcome", "Spot Dust Conversion"),
)
UNKNOWN_DIR = DIRS.index("Frobnicate Outcome")
DUST_DIR = DIRS.index("Spot Dust Conversion")
FIRST_NON_MARKET_DIR = DIRS.index("Split Outcome")

_TID_BITS = 50
_FIRST_OID = 350_000_000_000
_OIDS_PER_ORDER = 41
_TRADES_PER_ORDER = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 5, 8])
_DUST_MARKETS = 20
_TAKER_RATES = np.array([4.5e-4, 4.05e-4, 3.15e-4, 2.88e-4, 4.5e-4, 0.0, 2.6e-4])
_MAKER_RATES = np.array([-3e-5, 1.5e-4, -2e-5, 0.0, -3e-5, 8e-5, -1e-5, -2e-5, 1.2e-4])
# The bounds that keep every number below 1e8 (`sample` writes eight integral digits) and products inside 128 bits.
MOST_USD = 2e5
_MOST_UNITS_HELD = 4e7
_MOST_UNITS_TRADED = 5e6
_MOST_UNITS_OF_PERPS = 5e5  # their positions go on from fill to fill and may wander

_PERPS = """
kPEPE XRP DOGE FARTCOIN PUMP SUI ZEC AAVE LINK ENA BNB AVAX ADA UNI WLD LTC BCH NEAR ARB OP TIA SEI APT INJ TRUMP
kBONK kSHIB WIF PENGU VIRTUAL ASTER LIT XPL MON HBAR DOT FIL CRV LDO JUP ONDO TAO RENDER PAXG XMR TRX TON ICP ETC ALGO
STX GALA SAND AXS DYDX GMX SNX COMP MKR PENDLE ETHFI EIGEN STRK ZK BLAST ZRO IO NOT POPCAT MEW BOME TURBO BRETT
MOODENG GOAT PNUT GRASS MOVE ME USUAL BERA KAITO IP LAYER INIT BABY WCT STBL AZTEC SOPH RESOLV SYRUP SPX ANIME MELANIA
VINE GRIFFAIN AIXBT ZEREBRO BIO S JTO PYTH W DYM ALT MANTA ACE CFX IMX RUNE kLUNC FTT YGG CYBER ARK BLUR RSR MINA
POLYX GAS BSV NEO IOTA ORDI SUPER MAV BIGTIME PEOPLE FET CELO REZ TNSR SAGA UMA CC MEGA SKR HEMI APEX AVNT WLFI LINEA
0G
"""
_STOCKS = """
TSLA NVDA GOLD SILVER CL BRENTOIL XYZ100 MSTR AAPL AMZN GOOGL META MSFT AMD COIN HOOD PLTR ORCL INTC MU SNDK CRCL NFLX
BABA RIVN CRWV LITE COPPER NATGAS EUR JPY SP500 USTECH SMALL2000 KR200 PLATINUM URNM TSM COST LLY SKHX SMSN
"""
# Fee token, share among the HIP-3 rows, markets.
_DEXES = {"xyz": ("USDC", 1.0, 42), "km": ("USDH", 0.011, 24), "cash": ("USDT0", 0.011, 20), "hyna": ("USDE", 0.006, 9)}
_SPOT = {
    "@107": "HYPE",
    "@142": "UBTC",
    "@151": "UETH",
    "@156": "USOL",
    "@150": "USDE",
    "@166": "USDT0",
    "@230": "USDH",
    "PURR/USDC": "PURR",
    **{f"@{n}": f"TOKEN{n}" for n in range(236, 306)},
}
# name: price in ticks, decimals of a tick; the other markets draw theirs.
_KNOWN_PRICES = {
    "HYPE": (37826, 3),
    "BTC": (70123, 0),
    "ETH": (21004, 1),
    "SOL": (88123, 3),
    "kPEPE": (4123, 6),
    "@107": (37826, 3),
    "@142": (70110, 0),
    "@151": (21001, 1),
    "@156": (88110, 3),
    "@150": (99981, 5),
    "@166": (99990, 5),
    "@230": (99970, 5),
    "PURR/USDC": (89515, 6),
}

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Legs = dict[str, NDArray[Any]]
Move = Callable[[Generator, Ints, Ints, Ints], Ints]  # wallets, coins, what their fills add: what was held before each


@dataclass(frozen=True, slots=True)
class Markets:
    """All markets, one row each. `chances`: 65,536 market numbers, each as often as the market trades."""

    names: list[str]
    kind: Ints
    base_token: Ints
    quote_token: Ints
    tokens: list[str]
    price_ticks: Ints
    tick: Ints
    step: Ints
    usd_per_step: NDArray[np.float64]
    chances: Ints


@dataclass(frozen=True, slots=True)
class Twaps:
    """All TWAPs of the sample by start, one row each: a slice every 30 s, each of `fills` trades of `sz`.

    Of the `slices` planned the first `stops` go out; of those from `lost_from` to before `lost_to` the owner's legs are in
    no object. What its statuses say: `placed_ns` (before the start, where it waited for a trigger), whether it `activates`,
    `end` (a place in `sample_twaps.STATUSES`), `end_ns` when that is due, `at_edge` (in the first block of the hour that
    begins then), `message` of an error, and `told`, which of them are in an object.
    """

    id: Ints
    wallet: Ints
    coin: Ints
    buy: Bools
    closing: Bools
    start_ns: Ints
    slices: Ints
    fills: Ints
    sz: Ints
    position: Ints
    stops: Ints
    lost_from: Ints
    lost_to: Ints
    placed_ns: Ints
    activates: Bools
    end: Ints
    end_ns: Ints
    at_edge: Bools
    message: Ints
    told: Ints
    reduce_only: Bools
    randomize: Bools


@dataclass(frozen=True, slots=True)
class Orders:
    """Taker orders of an hour by block. `twap` and `slice` are -1 if the order is not a TWAP's."""

    block: Ints
    twap: Ints
    slice: Ints


def splitmix(values: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each integer. The hash, cloid and builder of an order follow from its oid."""
    x = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draw_markets(rng: Generator) -> Markets:
    """Draw about 320 markets with the shares of 2026: HYPE 13.5 %, BTC 10, ETH 8, SOL 5, HIP-3 35, spot 5, outcomes 7 %."""
    rows: list[tuple[str, int, str, str, float]] = [
        (name, PERP, "USDC", "USDC", share) for name, share in (("HYPE", 0.135), ("BTC", 0.10), ("ETH", 0.08), ("SOL", 0.05))
    ]
    rows += [(name, PERP, "USDC", "USDC", w) for name, w in _tail(_PERPS.split(), 0.165)]
    dex_total = sum(weight for _, weight, _ in _DEXES.values())
    for dex, (quote, weight, count) in _DEXES.items():
        names = [f"{dex}:{stock}" for stock in _STOCKS.split()[:count]]
        rows += [(name, HIP3, quote, quote, w) for name, w in _tail(names, 0.35 * weight / dex_total)]
    rows += [(name, SPOT, _SPOT[name], "USDC", w) for name, w in _tail(list(_SPOT), 0.05)]
    rows += [(name, OUTCOME, "USDC", "USDC", w) for name, w in _tail([f"#{n}" for n in range(1890, 1920)], 0.07)]

    names = [name for name, *_ in rows]
    tokens = sorted({token for row in rows for token in row[2:4]})
    kind = np.array([row[1] for row in rows])
    decimals = np.where(kind == OUTCOME, 5, rng.integers(1, 6, len(rows)))
    price_ticks = rng.integers(15_000, 80_000, len(rows))
    for name, (ticks, places) in _KNOWN_PRICES.items():
        price_ticks[names.index(name)], decimals[names.index(name)] = ticks, places
    tick = 10 ** (10 - decimals)
    step = 10 ** (10 - np.maximum(5 - decimals, 0))
    shares = np.cumsum([row[4] for row in rows])
    return Markets(
        names=names,
        kind=kind,
        base_token=np.array([tokens.index(row[2]) for row in rows]),
        quote_token=np.array([tokens.index(row[3]) for row in rows]),
        tokens=tokens,
        price_ticks=price_ticks,
        tick=tick,
        step=step,
        usd_per_step=price_ticks * (tick / UNIT) * (step / UNIT),
        chances=np.searchsorted(shares / shares[-1], (np.arange(65_536) + 0.5) / 65_536),
    )


def draw_wallets(rng: Generator, n: int, wallets: int) -> Ints:
    """Draw `n` wallet numbers below `wallets`. The first has about 2.8 % of all rows, the median of a full day a few."""
    most = 1 - (1 + wallets / 27) ** -0.75
    return (27 * ((1 - rng.random(n) * most) ** (-1 / 0.75) - 1)).astype(np.int64).clip(max=wallets - 1)


def draw_orders(rng: Generator, twaps: Twaps, block_ns: Ints, after_ns: int, trades: int) -> Orders:
    """Draw the orders of an object: every TWAP slice due in (`after_ns`, last block], and others up to `trades`."""
    first = np.maximum(0, (after_ns - twaps.start_ns) // SLICE_NS + 1)
    last = np.minimum(twaps.stops, (block_ns[-1] - twaps.start_ns) // SLICE_NS + 1)
    due = np.maximum(0, last - first)
    twap = np.repeat(np.arange(len(due)), due)
    part = first[twap] + _within(due)
    at = np.searchsorted(block_ns, twaps.start_ns[twap] + part * SLICE_NS)

    blocks = len(block_ns)
    busy = np.concatenate([[0], 1 + rng.permutation(blocks - 1)[: int(blocks * 0.91)]])
    others = max(0, int((trades - twaps.fills[twap].sum()) / _TRADES_PER_ORDER.mean()) - len(busy))
    counts = np.zeros(blocks, np.int64)
    counts[busy] = 1 + np.bincount(rng.integers(0, len(busy), others), minlength=len(busy))
    plain = np.repeat(np.arange(blocks), counts)

    none = np.full(len(plain), -1)
    order = np.argsort(np.concatenate([plain, at]), kind="stable")
    columns = ((plain, at), (none, twap), (none, part))
    return Orders(*(np.concatenate(pair)[order] for pair in columns))


def draw_legs(
    rng: Generator,
    markets: Markets,
    twaps: Twaps,
    wallets: int,
    orders: Orders,
    *,
    block_ns: Ints,
    rare: float,
    first_order: int,
    whole_trades: bool,
    move: Move,
) -> Legs:
    """Draw the rows of an hour in the order of its file, as columns of equal length.

    In perpetuals, each row starts at the wallet's last position in the coin. Rows that are in no object move no position. About 2
    % of the trades have only one leg. With `whole_trades` their other leg is included, marked as lost. The owner's leg of a lost
    TWAP slice is always included.

    block, coin, wallet, token (numbers) · px, sz, start, pnl, fee (1e-10; the fee with everything in it) · builder_fee,
    deployer_fee, priority_gas (1e-10, -1: none) · buy, crossed · dir (in `DIRS`) · oid, tid · hash (0: the zero hash) · cloid
    (bool) · builder (-1: none) · liquidated (wallet, -1: none), mark_px · twap (id, -1: none) · extra (1, 2: an unknown field, 3:
    no twapId) · trade (its number) · first (a trade's first row), single (its only row), self_trade, lost.
    """
    n = len(orders.block)
    is_twap = orders.twap >= 0
    special = _draw_specials(rng, is_twap, rare)
    coin = np.where(is_twap, twaps.coin[orders.twap], draw_coins(rng, markets, n))
    outcomes = np.flatnonzero(markets.kind == OUTCOME)
    coin = np.where(special >= NON_MARKET, outcomes[coin % len(outcomes)], coin)
    special[((special == LIQUIDATED) | (special == DELEVERAGED)) & (markets.kind[coin] >= SPOT)] = PLAIN
    taker = np.where(is_twap, twaps.wallet[orders.twap], draw_wallets(rng, n, wallets))
    taker_buys = np.where(is_twap, twaps.buy[orders.twap], rng.random(n) < 0.5)
    count = np.where(is_twap, twaps.fills[orders.twap], rng.choice(_TRADES_PER_ORDER, n))
    count[special >= NON_MARKET] = 1
    alike = is_twap | (rng.random(n) < 0.3)
    taker_oid = _FIRST_OID + (first_order + np.arange(n)) * _OIDS_PER_ORDER + rng.integers(0, _OIDS_PER_ORDER, n)

    # Trades: a row per match, the order's matches next to each other.
    order = np.repeat(np.arange(n), count)
    first = (np.cumsum(count) - count)[order]
    within = np.arange(len(order)) - first
    trade_coin = coin[order]
    worse = np.where(taker_buys, 1, -1)[order] * within * ~alike[order]
    px = (draw_ticks(rng, markets, coin, block_ns[orders.block])[order] + worse) * markets.tick[trade_coin]
    sz = np.where(is_twap[order], twaps.sz[orders.twap[order]], _draw_sizes(rng, markets, trade_coin))
    sz = np.where(alike[order], sz[first], sz)
    so_far = np.cumsum(sz) - sz
    so_far -= so_far[first]
    total = np.add.reduceat(sz, np.cumsum(count) - count)
    own = rng.random(len(order)) < 0.001
    maker = draw_wallets(rng, len(order), wallets)
    maker = np.where(own, taker[order], np.where(maker == taker[order], (maker + 1) % wallets, maker))

    may_be_single = ~is_twap[order] & (special[order] == PLAIN) & ~own
    trade, buy, crossed, single, lost = _draw_sides(
        rng,
        taker_buys[order],
        may_be_single=may_be_single,
        must_be_single=special[order] >= NON_MARKET,
        loses_taker=_is_lost(twaps, orders)[order],
        whole=(special[order] != NON_MARKET) & whole_trades,
    )
    o = order[trade]
    market = special[o] != NON_MARKET
    number = (1 + first_order + o) * 8 + within[trade]
    legs: Legs = {
        "block": orders.block[o],
        "coin": trade_coin[trade],
        "wallet": np.where(crossed, taker[o], maker[trade]),
        "px": px[trade],
        "sz": sz[trade],
        "buy": buy,
        "crossed": crossed,
        "trade": number,
        "tid": _tids(number),
        "hash": np.where(is_twap[o], 0, taker_oid[o]),
        "liquidated": np.where(special[o] == LIQUIDATED, taker[o], -1),
        "twap": np.where(is_twap[o] & crossed, twaps.id[orders.twap[o]], -1),
        "single": market & single,
        "first": market & (single | buy),
        "self_trade": market & buy & own[trade] & ~single,
        "lost": lost,
    }
    # The makers of one order are different orders: two that meet, meet once.
    older = (1 + (rng.random(len(order)) ** 4 * 3e6).astype(np.int64)) * _OIDS_PER_ORDER + within
    legs["oid"] = taker_oid[o] - np.where(crossed, 0, older[trade])

    twap_done = np.where(is_twap, orders.slice * twaps.fills[orders.twap] * twaps.sz[orders.twap], 0)
    twap_total = twaps.slices[orders.twap] * twaps.fills[orders.twap] * twaps.sz[orders.twap]
    taker_position = np.where(is_twap, twaps.position[orders.twap], draw_positions(rng, markets, coin))
    maker_position = draw_positions(rng, markets, trade_coin)
    _add_position(
        rng,
        legs,
        markets,
        move=move,
        is_had=~lost | whole_trades,
        held=np.where(crossed, taker_position[o], maker_position[trade]),
        done=np.where(crossed, twap_done[o] + so_far[trade], 0),
        total=np.where(crossed, np.where(is_twap, twap_total, total)[o], legs["sz"]),
        special=special[o],
    )
    taker_gain, maker_gain = rng.normal(0.001, 0.02, n), rng.normal(0.001, 0.02, len(order))
    _add_money(legs, markets, gain=np.where(crossed, taker_gain[o], maker_gain[trade]), free=special[o] >= DELEVERAGED)
    extra = np.full(len(o), 4)
    extra[~lost] = np.searchsorted([rare / 2, rare, 2 * rare], rng.random(np.count_nonzero(~lost)), side="right") + 1
    legs["extra"] = np.where((extra == 4) | ((extra == 3) & (legs["twap"] >= 0)), 0, extra)
    return legs


def draw_dust(rng: Generator, markets: Markets, wallets: int, *, block: int, rows: int, order: int) -> Legs:
    """Draw the daily conversion of spot dust: `rows` sales without a buyer, tid 0, at most one per wallet and market."""
    coins = np.flatnonzero(markets.kind == SPOT)[:_DUST_MARKETS]
    pair = np.sort(rng.choice(wallets * len(coins), min(rows, wallets * len(coins)), replace=False))
    coin = coins[pair // wallets]
    n = len(pair)
    none, zero, no = np.full(n, -1), np.zeros(n, np.int64), np.zeros(n, bool)
    value = rng.random(n) * UNIT / (markets.price_ticks[coin] * (markets.tick[coin] / UNIT))
    sz = np.maximum(1, value.clip(max=UNIT).astype(np.int64))
    legs: Legs = {"block": zero + block, "coin": coin, "wallet": pair % wallets, "sz": sz, "start": sz}
    legs |= {"px": markets.price_ticks[coin] * markets.tick[coin], "token": markets.quote_token[coin]}
    legs |= {"oid": _FIRST_OID + order * _OIDS_PER_ORDER + pair // wallets, "crossed": ~no, "dir": zero + DUST_DIR}
    legs |= dict.fromkeys(("tid", "trade", "hash", "pnl", "fee", "mark_px", "extra"), zero)
    legs |= dict.fromkeys(("buy", "cloid", "first", "single", "self_trade", "lost"), no)
    return legs | dict.fromkeys(("builder", "builder_fee", "deployer_fee", "priority_gas", "liquidated", "twap"), none)


def _tail(names: Sequence[str], share: float) -> list[tuple[str, float]]:
    weights = 1 / (np.arange(len(names)) + 3) ** 1.2
    return list(zip(names, (share * weights / weights.sum()).tolist(), strict=True))


def _within(counts: Ints) -> Ints:
    """Return 0, 1, … count-1 for each count, concatenated."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _tids(numbers: Ints) -> Ints:
    """Scatter trade numbers from 1 over 50 bits by a bijection: never 0, no duplicates."""
    mask = (1 << _TID_BITS) - 1
    x = numbers.astype(np.uint64)
    for factor in (0x2545F4914F6CDD1D, 0x1D8E4E27C47D124F):
        x = (x * np.uint64(factor)) & np.uint64(mask)
        x ^= x >> np.uint64(_TID_BITS // 2)
    return x.astype(np.int64)


def draw_coins(rng: Generator, markets: Markets, n: int) -> Ints:
    """Draw `n` coin numbers, each as often as its market is traded."""
    return markets.chances[rng.integers(0, len(markets.chances), n)]


def _draw_specials(rng: Generator, is_twap: Bools, rare: float) -> Ints:
    edges = np.cumsum([0.0023, rare, 2 * rare, rare])
    kind = np.searchsorted(edges, rng.random(len(is_twap)), side="right") + 1
    return np.where(is_twap | (kind > UNKNOWN), PLAIN, kind)


def _is_lost(twaps: Twaps, orders: Orders) -> Bools:
    """Return for each order whether it is a slice whose owner's leg is in no object."""
    twap, slice_ = orders.twap, orders.slice
    return (twap >= 0) & (slice_ >= twaps.lost_from[twap]) & (slice_ < twaps.lost_to[twap])


def _draw_sides(
    rng: Generator, taker_buys: Bools, *, may_be_single: Bools, must_be_single: Bools, loses_taker: Bools, whole: Bools
) -> tuple[Ints, Bools, Bools, Bools, Bools]:
    """Of each leg: its trade, whether it buys, is the taker's, is the trade's only one, is lost.

    The buyer's leg stands before the seller's, as in the real files; about 2 % of the trades have one leg only. Lost legs
    are there only of `whole` trades and of those that lose the taker's.
    """
    chance = rng.random(len(taker_buys))
    keep_taker = ~(may_be_single & (chance < 0.01) | loses_taker)
    keep_maker = ~(may_be_single & (chance > 0.99) | must_be_single)
    trade = np.repeat(np.arange(len(taker_buys)), 2)
    buy = np.arange(len(trade)) % 2 == 0
    crossed = buy == taker_buys[trade]
    lost = ~np.where(crossed, keep_taker[trade], keep_maker[trade])
    kept = np.flatnonzero(~lost | (whole | loses_taker)[trade])
    return trade[kept], buy[kept], crossed[kept], ~(keep_taker & keep_maker | whole)[trade[kept]], lost[kept]


def draw_ticks(rng: Generator, markets: Markets, coin: Ints, time_ns: Ints) -> Ints:
    """Draw prices within about 1.5 % of the market's price: a wave with its own period and a little noise."""
    wave = np.sin(time_ns / (HOUR_NS * (1 + coin % 7 / 2)) + coin)
    return np.rint(markets.price_ticks[coin] * (1 + 0.015 * wave + rng.normal(0, 2e-4, len(coin)))).astype(np.int64)


def _draw_sizes(rng: Generator, markets: Markets, coin: Ints) -> Ints:
    usd = np.exp(rng.normal(5.3, 1.8, len(coin))).clip(max=MOST_USD)
    step = markets.step[coin]
    most = np.where(markets.kind[coin] < SPOT, _MOST_UNITS_OF_PERPS, _MOST_UNITS_TRADED)
    steps = np.minimum(usd / markets.usd_per_step[coin], most * UNIT / step)
    sz = np.maximum(1, steps.astype(np.int64)) * step
    whole_balance = (markets.kind[coin] == SPOT) & (rng.random(len(coin)) < 0.1)
    return sz + whole_balance * (rng.integers(0, UNIT, len(coin)) % step)


def draw_positions(rng: Generator, markets: Markets, coin: Ints) -> Ints:
    """What a wallet held, without sign: 0 or a heavy tail; spot balances and a few others have digits below a step."""
    n = len(coin)
    steps = np.exp(rng.normal(8.5, 2.2, n)) / markets.usd_per_step[coin]
    step = markets.step[coin]
    held = np.minimum(steps, _MOST_UNITS_HELD * UNIT / step).astype(np.int64) * step
    chance = rng.random(n)
    held[chance < 0.1] = 0
    finer = rng.integers(0, UNIT, n)
    held += np.where(markets.kind[coin] == SPOT, np.where(chance > 0.7, finer, finer // 100 * 100), 0)
    return held + 3 * ((chance > 0.995) & (held > 0))


def _add_position(
    rng: Generator, legs: Legs, markets: Markets, *, move: Move, is_had: Bools, held: Ints, done: Ints, total: Ints, special: Ints
) -> None:
    """Adds start and dir. Of perpetuals they follow from what was held before. Of balances `held` is what stays untouched,
    `done` of `total` what this order has already traded.
    """
    buy, sz = legs["buy"], legs["sz"]
    sign = np.where(buy, 1, -1)
    start = np.where(buy, held + done, held + total - done)
    is_perp = markets.kind[legs["coin"]] < SPOT
    start[is_perp] = move(rng, *(column[is_perp] for column in (legs["wallet"], legs["coin"], sign * sz * is_had)))
    legs["start"] = start
    # 0 opens, 1 closes, 2 turns the position round.
    action = np.where(start * sign >= 0, 0, np.where(np.abs(start) >= sz, 1, 2))
    legs["closes"] = action > 0

    dirs = np.where(is_perp, 3 * ~buy + action, 6 + ~buy)
    chance = splitmix(legs["tid"]) % np.uint64(4)
    forced = (special == LIQUIDATED) & legs["crossed"] & (action == 1)
    dirs = np.where(forced, DIRS.index("Liquidated Cross Short") + 2 * ~buy + (chance % 2).astype(np.int64), dirs)
    dirs[special == DELEVERAGED] = DIRS.index("Auto-Deleveraging")
    dirs[special == UNKNOWN] = UNKNOWN_DIR
    legs["dir"] = np.where(special == NON_MARKET, FIRST_NON_MARKET_DIR + chance.astype(np.int64), dirs)


def _add_money(legs: Legs, markets: Markets, *, gain: NDArray[np.float64], free: Bools) -> None:
    """Adds pnl, token, the fees, builder, cloid and mark_px; what an order's rows share follows from its oid."""
    coin, crossed, buy, wallet = legs["coin"], legs["crossed"], legs["buy"], legs["wallet"]
    kind, mixed = markets.kind[coin], splitmix(legs["oid"])
    spot, own_slice = kind == SPOT, legs["twap"] >= 0
    sz = legs["sz"] / UNIT
    notional = legs["px"] / UNIT * sz
    # Perpetuals count money in 1e-6, spot in 1e-8.
    grain = np.where(spot, 100, 10_000)

    def money(amount: NDArray[np.float64]) -> Ints:
        return np.rint(amount * (UNIT / grain)).astype(np.int64) * grain

    pnl = money(notional * gain)
    legs["pnl"] = np.where(legs.pop("closes") & ~free, np.where(pnl == 0, grain, pnl), 0)

    def share(shift: int, part: float | NDArray[np.float64]) -> Bools:
        return ((mixed >> np.uint64(shift)) & np.uint64(0xFFFF)) < part * 65_536

    number = (splitmix(wallet) >> np.uint64(32)).astype(np.int64)
    rate = np.where(crossed, _TAKER_RATES[number % len(_TAKER_RATES)], _MAKER_RATES[number % len(_MAKER_RATES)])
    in_base = spot & (buy == (rate >= 0))
    fee = money(np.where(in_base, sz, notional) * np.where(free, 0.0, rate))
    legs["token"] = np.where(in_base, markets.base_token[coin], markets.quote_token[coin])
    built = share(0, np.where(crossed, 0.115, 0.04)) & ~free & ~own_slice
    builder_fee = np.where(built & ~spot, np.maximum(grain, money(notional * 1e-4)), 0)
    deployer_fee = np.where((kind == HIP3) & share(16, 0.4) & (fee > 0), fee // 2 // grain * grain, 0)
    legs["fee"] = fee + builder_fee
    legs["builder_fee"] = np.where(builder_fee > 0, builder_fee, -1)
    legs["deployer_fee"] = np.where(deployer_fee > 0, deployer_fee, -1)
    legs["priority_gas"] = np.where(share(16, 0.001) & crossed & ~own_slice & ~free, (1 + number % 900) * 10_000, -1)
    lone_builder = share(0, 0.12) & ~share(0, 0.115) & ~free & ~own_slice
    legs["builder"] = np.where(built & ~spot | lone_builder, number % 8, -1)
    legs["cloid"] = share(32, 0.47) & ~own_slice & ~free
    legs["mark_px"] = legs["px"] + markets.tick[coin] * (number % 7 - 3)
