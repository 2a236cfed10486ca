"""Decides which datasets have which of an hour's legs, and what the best source of a leg knows.

Also the first day and the layouts of the bucket of TWAP statuses.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from hl_pipeline.sample.values import FIRST_NON_MARKET_DIR, HOUR_NS, Bools, Ints, Legs

DAY_NS = 24 * HOUR_NS
# Best first: if two have a leg, the first is its source.
BY_BLOCK, FILLS, TRADES = SOURCES = ("node_fills_by_block", "node_fills", "node_trades")
# Invented days: only their number in the real bucket is known, 26 of 92.
NODE_TRADES_MISSING_DAYS = frozenset(
    date(2025, month, day)
    for month, days in {
        3: (25, 29, 30, 31),
        4: (4, *range(12, 18), 22, 27),
        5: (*range(3, 7), 10, 17, 18, 19, 22, 30),
        6: (4, 5, 14),
    }.items()
    for day in days
)
# TWAP statuses exist from this day on, in a layout that goes round with `day.toordinal() % 3`.
FIRST_STATUS_DAY = date(2025, 8, 17)
DATED, PATHED, HOURLY = STATUS_LAYOUTS = ("dated", "pathed", "hourly")


def _ns(time: str) -> int:
    return int(np.datetime64(time, "ns").astype(np.int64))


# First and last hour; then, where the first or last object is a part of its hour, the block times it is cut at.
_NEVER = 2**63 - 1
_HOURS = {
    BY_BLOCK: (_ns("2025-07-27T08"), _NEVER),
    FILLS: (_ns("2025-05-25T14"), _ns("2025-07-27T08")),
    TRADES: (_ns("2025-03-22T00"), _ns("2025-06-21T23")),
}
_CUTS = {
    BY_BLOCK: (_ns("2025-07-27T08:50:10.27"), _NEVER),
    FILLS: (_ns("2025-05-25T14:21:17"), _ns("2025-07-27T08:55:03")),
    TRADES: (0, _NEVER),
}


@dataclass(frozen=True, slots=True)
class DrawnHour:
    """An hour before it becomes text: its blocks (times in ns) and their legs, or the part that one object contains."""

    hour_ns: int
    local_ns: Ints
    block_ns: Ints
    first_block: int
    legs: Legs


def sources_at(hour_ns: int) -> list[str]:
    """Return the datasets with an object for this hour."""
    missing = day_of(hour_ns) in NODE_TRADES_MISSING_DAYS
    found = [source for source, (first, last) in _HOURS.items() if first <= hour_ns <= last]
    return [source for source in found if source != TRADES or not missing]


def first_possible_day(day: date) -> date:
    """Return the first day from `day` on whose first hour has an object."""
    while not sources_at(ns_of(day)):
        day += timedelta(days=1)
    return day


def day_of(time_ns: int) -> date:
    """Return the UTC day of a time in nanoseconds since 1970."""
    return date(1970, 1, 1) + timedelta(days=time_ns // DAY_NS)


def ns_of(day: date) -> int:
    """Return the start of a UTC day in nanoseconds since 1970."""
    return (day - date(1970, 1, 1)).days * DAY_NS


def status_layout(day: date) -> str:
    """Return the key layout of a day's statuses, which alternates by day."""
    return STATUS_LAYOUTS[day.toordinal() % len(STATUS_LAYOUTS)]


def object_key(source: str, hour_ns: int) -> str:
    """Return the key of an hour's object in the bucket."""
    return f"{source}/hourly/{day_of(hour_ns):%Y%m%d}/{hour_ns // HOUR_NS % 24}.lz4"


def which_hold(hour: DrawnHour) -> NDArray[np.bool_]:
    """Return a row for each of `SOURCES` and a column for each leg: whether the source's object has the leg."""
    legs = hour.legs
    block_ns = hour.block_ns[legs["block"]]
    held = np.zeros((len(SOURCES), len(block_ns)), bool)
    for source in sources_at(hour.hour_ns):
        start_ns, end_ns = _CUTS[source]
        has = legs["dir"] < FIRST_NON_MARKET_DIR if source == TRADES else ~legs["lost"]
        held[SOURCES.index(source)] = has & (block_ns >= start_ns) & (block_ns < end_ns)
    return held


def take_held(hour: DrawnHour, source: str, held: Bools) -> DrawnHour:
    """Return the part of the hour in the object of `source`: the legs `held`, and for by_block no block before the first."""
    cut = int(np.searchsorted(hour.block_ns, _CUTS[BY_BLOCK][0])) if source == BY_BLOCK else 0
    if held.all() and not cut:
        return hour
    legs = {name: column[held] for name, column in hour.legs.items()}
    legs["block"] = legs["block"] - cut
    return DrawnHour(hour.hour_ns, hour.local_ns[cut:], hour.block_ns[cut:], hour.first_block + cut, legs)


def take_known(hour: DrawnHour, held: NDArray[np.bool_]) -> DrawnHour:
    """Return the legs in any source, each once, with the values that its best source has.

    Adds source (number in `SOURCES`) and other_oid (of the trade's other leg, -1 if not in the source). If node_trades is the
    source, dir and token are -1, and amounts of money are 0 or none; the tid stays.
    """
    legs = {**hour.legs, "source": held.argmax(axis=0), "other_oid": np.full(held.shape[1], -1)}
    if held[0].all():
        return replace(hour, legs=legs)
    pairs = np.flatnonzero(held[SOURCES.index(TRADES)]).reshape(-1, 2)
    legs["other_oid"][pairs] = legs["oid"][pairs[:, ::-1]]
    legs = {name: column[held.any(axis=0)] for name, column in legs.items()}
    from_trades = legs["source"] == SOURCES.index(TRADES)
    legs["other_oid"][~from_trades] = -1
    unknown = dict.fromkeys(("dir", "token", "builder", "builder_fee", "deployer_fee", "priority_gas", "liquidated"), -1)
    for name, value in (unknown | dict.fromkeys(("pnl", "fee", "extra"), 0)).items():
        legs[name] = np.where(from_trades, value, legs[name])
    return replace(hour, legs=legs)
