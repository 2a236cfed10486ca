"""Tracks the position of each wallet in each perpetual: a fill starts at the position where the previous one ended."""

import numpy as np
from numpy.random import Generator

from hl_pipeline.sample.values import SPOT, UNIT, Ints, Markets, Twaps, draw_positions

_LARGE = 5 * 10**6 * UNIT


class Positions:
    """The current positions in units of 1e-10, by wallet and coin, without balances of spot and outcomes."""

    def __init__(self, markets: Markets, twaps: Twaps) -> None:
        """Give wallets with a TWAP in a perpetual a position that fits its first one: enough to close, or one to add to."""
        self._markets = markets
        pairs, first = np.unique(self._pairs_of(twaps.wallet, twaps.coin), return_index=True)
        total = twaps.slices * twaps.fills * twaps.sz
        held = np.where(twaps.buy, 1, -1) * np.where(twaps.closing, -(twaps.position + total), twaps.position)
        is_perp = markets.kind[twaps.coin[first]] < SPOT
        self._pairs, self._held = pairs[is_perp], held[first][is_perp]

    def move(self, rng: Generator, wallet: Ints, coin: Ints, by: Ints) -> Ints:
        """Return the position before each of these fills, in order. `by`: what each adds. New wallets get a random position."""
        pairs, group = np.unique(self._pairs_of(wallet, coin), return_inverse=True)
        self._add_new(rng, pairs)
        place = np.searchsorted(self._pairs, pairs)
        order = np.argsort(group, kind="stable")
        moved, group_in_order = by[order], group[order]
        # Sums over several groups may overflow; their differences do not.
        before = np.cumsum(moved) - moved
        begins = np.searchsorted(group_in_order, np.arange(len(pairs)))
        start = np.empty_like(by)
        start[order] = (self._held[place] - before[begins])[group_in_order] + before
        if len(pairs):
            self._held[place] += np.add.reduceat(moved, begins)
        return start

    def _add_new(self, rng: Generator, pairs: Ints) -> None:
        new = np.setdiff1d(pairs, self._pairs, assume_unique=True)
        size = draw_positions(rng, self._markets, new % len(self._markets.names))
        # Most fills do not reverse a position.
        size = np.where(size < _LARGE, size * 6, size)
        joined, held = np.concatenate([self._pairs, new]), np.where(rng.random(len(new)) < 0.5, size, -size)
        order = np.argsort(joined)
        self._pairs, self._held = joined[order], np.concatenate([self._held, held])[order]

    def _pairs_of(self, wallet: Ints, coin: Ints) -> Ints:
        return wallet * len(self._markets.names) + coin
