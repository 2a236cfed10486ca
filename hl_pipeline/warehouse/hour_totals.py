"""Counts and sums of a day's hours in hl.fills, to be held against the lake's; and what was counted of hours that were equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import psycopg

from hl_pipeline.formats.fills import SUMMED_BELOW

_TOTALS = """
SELECT count(*), coalesce(sum(sz) FILTER (WHERE sz < %(below)s), 0), coalesce(sum(oid), 0), count(twap_id)
FROM hl.fills WHERE time >= %(start)s AND time < %(end)s
"""
_PROVEN = """
SELECT hour, rows, repeated, trades, single_legs, crowded FROM hl.fills_hours WHERE date = %s AND proven_at IS NOT NULL
"""
_RECORD_PROVEN = """
UPDATE hl.fills_hours SET repeated = %s, trades = %s, single_legs = %s, crowded = %s, proven_at = now()
WHERE date = %s AND hour = %s
"""


@dataclass(frozen=True, slots=True)
class HourTotals:
    """Rows, the sum of sz (below SUMMED_BELOW) and of oid, and the rows with a TWAP, of one hour."""

    rows: int
    sz: Decimal
    oid: Decimal
    twap_rows: int


@dataclass(frozen=True, slots=True)
class HourTally:
    """What was counted in the lake's fills of an hour: rows, those of them that repeat a fill, trades, trades of which one leg is
    there, and those with legs that are no pair.
    """

    rows: int
    repeated: int
    trades: int
    single_legs: int
    crowded: int


def read_totals(connection: psycopg.Connection, day: date, hours: Iterable[int] = range(24)) -> dict[int, HourTotals]:
    """What hl.fills has of some hours (UTC) of `day`; those without rows are left out."""
    totals: dict[int, HourTotals] = {}
    for hour in hours:
        start = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
        span = {"start": start, "end": start + timedelta(hours=1), "below": SUMMED_BELOW}
        row = connection.execute(_TOTALS, span).fetchone()
        if row is not None and row[0]:
            totals[hour] = HourTotals(*row)
    return totals


def read_proven(connection: psycopg.Connection, day: date) -> dict[int, HourTally]:
    """The hours that were found equal in lake and hl.fills since they were loaded, and what was counted in them."""
    return {row[0]: HourTally(*row[1:]) for row in connection.execute(_PROVEN, [day]).fetchall()}


def record_proven(connection: psycopg.Connection, day: date, tallies: Mapping[int, HourTally]) -> None:
    """Note that these hours are equal in lake and hl.fills, with what was counted in them."""
    for hour, tally in tallies.items():
        connection.execute(_RECORD_PROVEN, [tally.repeated, tally.trades, tally.single_legs, tally.crowded, day, hour])
