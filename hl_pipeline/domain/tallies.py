"""Counts and sums of an hour of fills: what lake and database are compared by, and what was counted in hours that were equal."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class HourTotals:
    """Rows, the sum of sz (below SUMMED_BELOW) and of oid, and the rows with a TWAP, of one hour."""

    rows: int
    sz: Decimal
    oid: Decimal
    twap_rows: int


@dataclass(frozen=True, slots=True)
class HourTally:
    """What was counted in the lake's fills of an hour: rows, those of them that repeat a fill, trades, trades that have one leg
    only, and those whose legs are not a pair.
    """

    rows: int
    repeated: int
    trades: int
    single_legs: int
    not_a_pair: int


def sum_tallies(tallies: Collection[HourTally]) -> HourTally:
    """The counts of several hours together."""
    return HourTally(*(sum(getattr(tally, field.name) for tally in tallies) for field in fields(HourTally)))
