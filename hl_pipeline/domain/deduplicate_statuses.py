"""Keeps each TWAP event once: decides which of several rows stays. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from hl_pipeline.formats.twap_statuses import TWAP_STATUS_SCHEMA, UNITS_NS

STATUS_SCHEMA = {**TWAP_STATUS_SCHEMA, "object": pl.String()}

_COMPARED = (
    *("error", "wallet", "coin", "side", "size_requested", "size_executed", "notional_executed", "duration_minutes"),
    *("reduce_only", "randomize"),
)
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeduplicatedStatuses:
    """The events (STATUS_SCHEMA) ordered by time, the number of dropped duplicates, and how many of these differ."""

    statuses: pl.DataFrame
    duplicates: int
    conflicts: int


def deduplicate_statuses(events: pl.DataFrame) -> DeduplicatedStatuses:
    """Keep one row for each (twap_id, status, time) of `events` (`lake.twaps.read_status_object`), with the most precise time.

    A row is the same event if its time is a more precise one rounded down to its unit.
    """
    kept: list[Row] = []
    seen: dict[tuple[int, str, int, int], Row] = {}
    conflicts = 0
    for row in events.sort("unit_ns", "time_ns", "twap_id", "status", "object", "line").iter_rows(named=True):
        same = seen.get(_moment(row, row["unit_ns"]))
        if same is not None:
            conflicts += any(_differ(row[name], same[name]) for name in _COMPARED)
            continue
        kept.append(row)
        for unit in UNITS_NS:
            if unit >= row["unit_ns"]:
                seen.setdefault(_moment(row, unit), row)
    statuses = pl.DataFrame([{name: row[name] for name in STATUS_SCHEMA} for row in kept], schema=STATUS_SCHEMA)
    return DeduplicatedStatuses(statuses.sort("time_ns", "twap_id", "status"), events.height - len(kept), conflicts)


def _moment(row: Row, unit: int) -> tuple[int, str, int, int]:
    return row["twap_id"], row["status"], unit, row["time_ns"] // unit


def _differ(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other
