"""Totals of a day's hours in hl.fills, to be compared with the lake's; and what was counted of hours that were verified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

import psycopg

from hl_pipeline.domain.tallies import HourTally, HourTotals
from hl_pipeline.formats.fills import SUMMED_BELOW

_TOTALS = """
SELECT count(*), coalesce(sum(sz) FILTER (WHERE sz < %(below)s), 0), coalesce(sum(oid), 0), count(twap_id)
FROM hl.fills WHERE time >= %(start)s AND time < %(end)s
"""
_VERIFIED = """
SELECT hour, rows, repeated, trades, single_legs, crowded FROM hl.fills_hours WHERE date = %s AND proven_at IS NOT NULL
"""
_RECORD_VERIFIED = """
UPDATE hl.fills_hours SET repeated = %s, trades = %s, single_legs = %s, crowded = %s, proven_at = now()
WHERE date = %s AND hour = %s
"""


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


def read_verified(connection: psycopg.Connection, day: date) -> dict[int, HourTally]:
    """The hours that were equal in lake and hl.fills when compared, and were not loaded since, with what was counted in them."""
    return {row[0]: HourTally(*row[1:]) for row in connection.execute(_VERIFIED, [day]).fetchall()}


def record_verified(connection: psycopg.Connection, day: date, tallies: Mapping[int, HourTally]) -> None:
    """Note that these hours are equal in lake and hl.fills, with what was counted in them."""
    for hour, tally in tallies.items():
        connection.execute(_RECORD_VERIFIED, [tally.repeated, tally.trades, tally.single_legs, tally.not_a_pair, day, hour])
