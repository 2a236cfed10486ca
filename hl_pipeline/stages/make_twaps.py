"""Recomputes the rows of hl.twaps that a day affects."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import date

import polars as pl
import psycopg

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.errors import LakeLacksError
from hl_pipeline.events import emit
from hl_pipeline.lake.store import Lake, list_files
from hl_pipeline.lake.twaps import read_slices, renew_slices
from hl_pipeline.stages.day_hours import hours_of_fills
from hl_pipeline.tracing import span
from hl_pipeline.warehouse.fills_days import read_fills_day
from hl_pipeline.warehouse.load_twaps import TwapCounts, make_twaps

_log = logging.getLogger(__name__)
_UNLIKE = ("conflict", "missing_fills", "excess_fills", "unreported")


@dataclass(frozen=True, slots=True)
class MadeTwaps:
    """The result of recomputing the TWAPs of a day."""

    counts: TwapCounts
    seconds: float

    @property
    def checks(self) -> list[Check]:
        return [self._check_reports(), self._check_statuses()]

    def _check_reports(self) -> Check:
        unlike = {verdict: count for verdict, count in self.counts.verdicts.items() if verdict in _UNLIKE}
        ended = sum(self.counts.verdicts.values())
        which = ", ".join(f"{count} {verdict}" for verdict, count in unlike.items()) or "all match their slices"
        return Check(
            "fills_are_what_was_reported",
            not unlike,
            f"{ended} TWAPs ended on the day: {which}. See the column verdict of hl.twaps.",
            is_harmless=True,
            metadata={"ended": ended, "unlike": sum(unlike.values())},
        )

    def _check_statuses(self) -> Check:
        count = self.counts.without_status
        return Check(
            "slices_have_statuses",
            count == 0,
            f"{count} TWAPs with slices on the day have no status.",
            is_harmless=True,
            metadata={"without_status": count},
        )


def make_twaps_of_day(day: date, lake: Lake, connection: psycopg.Connection) -> MadeTwaps:
    """Recompute every row of hl.twaps that depends on `day`, and the day's slices in the lake.

    Raises LakeLacksError if fills or slices that were loaded before are no longer in the lake.
    """
    started = time.perf_counter()

    def take_slices() -> pl.Series:
        return renew_slices(lake, day)["twap_id"]

    def read_slices_again(other: date, ids: pl.Series) -> pl.DataFrame:
        slices = read_slices(lake, other, ids)
        if slices.is_empty():
            raise LakeLacksError(f"slices of {other} are missing from the lake {lake.root}. Check HL_LAKE_URL")
        return slices

    with span("make twaps", day=day), hours_of_fills(day, lake, connection):
        loaded = read_fills_day(connection, day)
        if loaded is not None and loaded.rows > 0 and not list_files(lake, f"fills/date={day}"):
            raise LakeLacksError(f"{day}: {loaded.rows} fills were loaded, but the lake {lake.root} has none. Check HL_LAKE_URL")
        counts = make_twaps(connection, day, take_slices, read_slices_again)
    emit(_log, "table_loaded", day=day, table="twaps", rows=counts.made)
    return MadeTwaps(counts, time.perf_counter() - started)
