"""Counts and sums of an hour of fills, for comparing the lake with the database and for the checks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class HourTotals:
    """Totals of an hour: rows, sum of sz (below SUMMED_BELOW), sum of oid, and rows with a TWAP."""

    rows: int
    sz: Decimal
    oid: Decimal
    twap_rows: int


@dataclass(frozen=True, slots=True)
class HourTally:
    """Counts of an hour of fills in the lake: rows, rows that repeat a fill, trades, trades with a single leg, and trades whose
    legs do not form a pair.
    """

    rows: int
    repeated: int
    trades: int
    single_legs: int
    not_a_pair: int


def sum_tallies(tallies: Collection[HourTally]) -> HourTally:
    """Add up the counts of several hours."""
    return HourTally(*(sum(getattr(tally, field.name) for tally in tallies) for field in fields(HourTally)))
