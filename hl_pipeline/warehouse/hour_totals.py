"""Totals of a day's hours in hl.fills, for comparison with the lake, and the counts of verified hours."""

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
_UNVERIFIED = "SELECT hour FROM hl.fills_hours WHERE date = %s AND proven_at IS NULL ORDER BY hour"
_RECORD_VERIFIED = """
UPDATE hl.fills_hours SET repeated = %s, trades = %s, single_legs = %s, crowded = %s, proven_at = now()
WHERE date = %s AND hour = %s
"""


def read_totals(connection: psycopg.Connection, day: date, hours: Iterable[int] = range(24)) -> dict[int, HourTotals]:
    """Return the totals of some hours (UTC) of `day` in hl.fills, without empty hours."""
    totals: dict[int, HourTotals] = {}
    for hour in hours:
        start = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
        span = {"start": start, "end": start + timedelta(hours=1), "below": SUMMED_BELOW}
        row = connection.execute(_TOTALS, span).fetchone()
        if row is not None and row[0]:
            totals[hour] = HourTotals(*row)
    return totals


def read_verified(connection: psycopg.Connection, day: date) -> dict[int, HourTally]:
    """Return the hours that were equal in the lake and hl.fills and were not loaded since, with their counts."""
    return {row[0]: HourTally(*row[1:]) for row in connection.execute(_VERIFIED, [day]).fetchall()}


def read_unverified_hours(connection: psycopg.Connection, day: date) -> list[int]:
    """Return the hours that are not verified to be equal in the lake and hl.fills since they were loaded."""
    return [row[0] for row in connection.execute(_UNVERIFIED, [day])]


def record_verified(connection: psycopg.Connection, day: date, tallies: Mapping[int, HourTally]) -> None:
    """Record that these hours are equal in the lake and hl.fills, with their counts."""
    for hour, tally in tallies.items():
        connection.execute(_RECORD_VERIFIED, [tally.repeated, tally.trades, tally.single_legs, tally.not_a_pair, day, hour])
