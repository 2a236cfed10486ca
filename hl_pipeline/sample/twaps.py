"""Draws the sample's TWAPs: when each begins, how it ends, and which of its data is in no object. No text and no files.

Most run as planned. From `FIRST_STATUS_DAY` on, some that begin in the sample are terminated or end with an error. Every day has
at least one small TWAP of each kind in `_DAILY`, so that even the smallest sample has all kinds.
"""

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from hl_pipeline.sample.sources import DAY_NS, FIRST_STATUS_DAY, HOURLY, day_of, ns_of, status_layout
from hl_pipeline.sample.values import (
    HOUR_NS,
    MOST_USD,
    SLICE_NS,
    Ints,
    Markets,
    Twaps,
    draw_coins,
    draw_positions,
    draw_wallets,
)

# In the order in which they can come.
STATUSES = ("waitingForTrigger", "activated", "finished", "terminated", "error")
WAITING, ACTIVATED, FINISHED, TERMINATED, ERROR = range(len(STATUSES))
# Which statuses are in an object.
TELL_ALL, TELL_ALL_BUT_LAST, TELL_NONE = range(3)
MESSAGES = (
    "Insufficient margin to place order.",
    "Reduce only order would increase position.",
    "Order must have minimum value of $10.",
    "Insufficient spot balance.",
)

_FIRST_TWAP_ID = 1_670_000
_MINUTE_NS = 60 * 10**9
_SECOND_NS = 10**9
_TERMINATED_PART, _ERROR_AT_ONCE_PART, _ERROR_AFTER_PART = 0.07, 0.03, 0.04
_DAILY = (
    *("ordinary", "ordinary", "ordinary", "randomized", "reduce_only", "terminated", "error_activated", "error_unactivated"),
    *("error_after_slices", "no_last_status", "no_status", "missing_slices", "waited_for_trigger"),
)

_Columns = dict[str, NDArray[Any]]


def draw_twaps(rng: Generator, markets: Markets, wallets: int, *, start_ns: int, hours: int, fills_per_hour: int) -> Twaps:
    """Draw TWAPs from a day before `start_ns` on, enough for 6.5 % of the rows, and one that runs across each midnight.

    `hours` includes the tail hour. From `FIRST_STATUS_DAY` on, special TWAPs are added (see `_plan_specials`).
    """
    mean_slices = min(max(fills_per_hour // 100, 12), 123)
    count = rng.poisson((hours + 24) * 0.065 * fills_per_hour / (1.3 * mean_slices))
    starts = start_ns + ((rng.random(count) * (hours + 24) - 24) * HOUR_NS).astype(np.int64)
    midnights = start_ns + np.arange(0, hours, 24) * HOUR_NS - 4 * _MINUTE_NS - rng.integers(0, SLICE_NS)
    order = np.argsort(np.concatenate([starts, midnights]), kind="stable")
    starts, crosses_midnight = np.concatenate([starts, midnights])[order], order >= count
    n = len(starts)
    slices = 10 + rng.exponential(mean_slices - 10, n).astype(np.int64).clip(max=2_800)
    coin = draw_coins(rng, markets, n)
    fills = 1 + (rng.random(n) < 0.3)
    usd = np.exp(rng.normal(9.5, 1.2, n)).clip(max=MOST_USD)
    twaps: _Columns = {
        "wallet": draw_wallets(rng, n, wallets),
        "coin": coin,
        "buy": rng.random(n) < 0.5,
        "closing": rng.random(n) < 0.5,
        "start_ns": starts,
        "slices": slices,
        "fills": fills,
        "sz": _slice_sizes(markets, coin, usd / (slices * fills)),
        "position": draw_positions(rng, markets, coin),
    }
    # Separate draws, so that the fills do not depend on them.
    rng = rng.spawn(1)[0]
    twaps |= _plain_lives(rng, twaps)
    told_from_ns = max(start_ns, ns_of(FIRST_STATUS_DAY))
    _interrupt_some(rng, twaps, (starts >= told_from_ns) & ~crosses_midnight)
    specials = _draw_specials(rng, markets, wallets, told_from_ns, start_ns + (hours - 1) * HOUR_NS)
    twaps = {name: np.concatenate([column, specials[name]]) for name, column in twaps.items()}
    order = np.argsort(twaps["start_ns"], kind="stable")
    return Twaps(id=_FIRST_TWAP_ID + np.arange(len(order)), **{name: column[order] for name, column in twaps.items()})


def _slice_sizes(markets: Markets, coin: Ints, usd: NDArray[np.float64]) -> Ints:
    return np.maximum(1, (usd / markets.usd_per_step[coin]).astype(np.int64)) * markets.step[coin]


def _plain_lives(rng: Generator, twaps: _Columns) -> _Columns:
    """Let TWAPs finish normally: with their last slice or up to five seconds later."""
    start_ns, slices = twaps["start_ns"], twaps["slices"]
    n = len(start_ns)
    later_ns = rng.integers(0, 5 * _SECOND_NS, n) * (rng.random(n) < 0.7)
    zero = np.zeros(n, np.int64)
    return {
        "stops": slices.copy(),
        "lost_from": zero.copy(),
        "lost_to": zero.copy(),
        "placed_ns": start_ns.copy(),
        "activates": np.ones(n, bool),
        "end": zero + FINISHED,
        "end_ns": start_ns + (slices - 1) * SLICE_NS + later_ns,
        "at_edge": np.zeros(n, bool),
        "message": rng.integers(0, len(MESSAGES), n),
        "told": zero + TELL_ALL,
        "reduce_only": twaps["closing"] & (rng.random(n) < 0.3),
        "randomize": rng.random(n) < 0.15,
    }


def _interrupt_some(rng: Generator, twaps: _Columns, may_be: NDArray[np.bool_]) -> None:
    n = len(may_be)
    edges = np.cumsum([_TERMINATED_PART, _ERROR_AT_ONCE_PART, _ERROR_AFTER_PART])
    kind = np.where(may_be, np.searchsorted(edges, rng.random(n), side="right"), 3)
    stops = 1 + (rng.random(n) * (twaps["slices"] - 1)).astype(np.int64)
    _stop(rng, twaps, kind == 0, TERMINATED, stops)
    _stop(rng, twaps, kind == 2, ERROR, stops)
    unactivated = rng.random(n) < 0.5
    _fail_at_once(rng, twaps, (kind == 1) & ~unactivated, activates=True)
    _fail_at_once(rng, twaps, (kind == 1) & unactivated, activates=False)


def _stop(rng: Generator, twaps: _Columns, which: NDArray[np.bool_], end: int, stops: Ints) -> None:
    """End TWAPs after `stops` slices: with an error at the time of the next slice, otherwise some time before."""
    twaps["stops"][which], twaps["end"][which] = stops[which], end
    next_ns = twaps["start_ns"] + stops * SLICE_NS
    early_ns = rng.integers(_SECOND_NS, SLICE_NS - _SECOND_NS, len(which)) * (end == TERMINATED)
    twaps["end_ns"][which] = (next_ns - early_ns)[which]


def _fail_at_once(rng: Generator, twaps: _Columns, which: NDArray[np.bool_], *, activates: bool) -> None:
    """End TWAPs with an error and no slice, up to two seconds after activation, or instead of it."""
    twaps["stops"][which], twaps["end"][which], twaps["activates"][which] = 0, ERROR, activates
    later_ns = rng.integers(0, 2 * _SECOND_NS, len(which)) * activates
    twaps["end_ns"][which] = (twaps["start_ns"] + later_ns)[which]


def _draw_specials(rng: Generator, markets: Markets, wallets: int, begin_ns: int, end_ns: int) -> _Columns:
    planned = _plan_specials(rng, begin_ns, end_ns)
    role = np.array([name for name, _, _ in planned], "U32")
    n = len(role)
    start_ns, slices = (np.array([row[i] for row in planned], np.int64) for i in (1, 2))
    coin = draw_coins(rng, markets, n)
    fills = 1 + (role == "missing_slices")
    twaps: _Columns = {
        "wallet": draw_wallets(rng, n, wallets),
        "coin": coin,
        "buy": rng.random(n) < 0.5,
        "closing": (rng.random(n) < 0.5) | (role == "reduce_only"),
        "start_ns": start_ns,
        "slices": slices,
        "fills": fills,
        "sz": _slice_sizes(markets, coin, np.exp(rng.normal(7, 1, n)) / (slices * fills)),
        "position": draw_positions(rng, markets, coin),
    }
    twaps |= _plain_lives(rng, twaps)
    twaps["reduce_only"] |= role == "reduce_only"
    twaps["randomize"] |= role == "randomized"
    _stop(rng, twaps, role == "terminated", TERMINATED, slices // 2)
    _stop(rng, twaps, role == "error_after_slices", ERROR, slices // 2)
    _fail_at_once(rng, twaps, role == "error_activated", activates=True)
    _fail_at_once(rng, twaps, role == "error_unactivated", activates=False)
    twaps["told"][role == "no_last_status"] = TELL_ALL_BUT_LAST
    twaps["told"][role == "no_status"] = TELL_NONE
    twaps["lost_from"][role == "missing_slices"], twaps["lost_to"][role == "missing_slices"] = 3, 6
    twaps["placed_ns"] -= (role == "waited_for_trigger") * rng.integers(3 * _MINUTE_NS, 10 * _MINUTE_NS, n)
    # In the block that belongs to this day by block time and to the next day by local time.
    edge = role == "at_edge"
    midnight_ns = (start_ns // DAY_NS + 1) * DAY_NS
    _stop(rng, twaps, edge, TERMINATED, (midnight_ns - _SECOND_NS - start_ns) // SLICE_NS + 1)
    twaps["at_edge"], twaps["end_ns"] = edge, np.where(edge, midnight_ns, twaps["end_ns"])
    return twaps


def _plan_specials(rng: Generator, begin_ns: int, end_ns: int) -> list[tuple[str, int, int]]:
    """Return role, start and slices of each: all of `_DAILY` each day, one at the edge of each hourly day, one that still runs
    when the sample ends and, with three days, two that end on the third.
    """
    planned: list[tuple[str, int, int]] = []

    def add(role: str, start_ns: int, slices: int) -> None:
        planned.append((role, start_ns, slices))

    for day_ns in range(begin_ns, end_ns, DAY_NS):
        span_ns = min(DAY_NS, end_ns - day_ns)
        for role in _DAILY:
            # From 5 to 6 h of a whole day: these events are in two objects of an hourly day.
            part = rng.uniform(0.212, 0.25) if role == "error_activated" else rng.uniform(0.25, 0.8)
            add(role, day_ns + int(span_ns * part), int(rng.integers(10, 16)))
        if span_ns == DAY_NS and status_layout(day_of(day_ns)) == HOURLY:
            add("at_edge", day_ns + DAY_NS - int(rng.integers(12 * _MINUTE_NS, 14 * _MINUTE_NS)), 60)
    if begin_ns < end_ns:
        add("running", end_ns - int(rng.integers(10 * _MINUTE_NS, 30 * _MINUTE_NS)), 240)
    if end_ns - begin_ns >= 3 * DAY_NS:
        evening_ns, morning_ns = (begin_ns + int(rng.integers(a * HOUR_NS, b * HOUR_NS)) for a, b in ((19, 22), (2, 5)))
        add("three_days", evening_ns, int(rng.integers(30 * HOUR_NS, 32 * HOUR_NS)) // SLICE_NS)
        add("three_days", morning_ns, int(rng.integers(49 * HOUR_NS, 52 * HOUR_NS)) // SLICE_NS)
    return planned
