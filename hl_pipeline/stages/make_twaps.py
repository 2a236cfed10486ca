"""Make the rows of hl.twaps that a day touches."""

from __future__ import annotations

from datetime import date

import polars as pl
import psycopg

from hl_pipeline.lake.store import Lake, list_files
from hl_pipeline.lake.twaps import read_slices, renew_slices
from hl_pipeline.warehouse.load_fills import LakeLacksError
from hl_pipeline.warehouse.load_twaps import MadeTwaps, make_twaps, refuse_lost_fills
from hl_pipeline.warehouse.locks import lock_fills_day


def make_twaps_of_day(day: date, lake: Lake, connection: psycopg.Connection) -> MadeTwaps:
    """Make again every row of hl.twaps that `day` has to do with, and the day's slices in the lake.

    Raises LakeLacksError when fills or slices that were there before are in the lake no more.
    """

    def take_slices() -> pl.Series:
        return renew_slices(lake, day)["twap_id"]

    def read_known_slices(other: date, ids: pl.Series) -> pl.DataFrame:
        slices = read_slices(lake, other, ids)
        if slices.is_empty():
            raise LakeLacksError(f"the lake ({lake.root}) lacks slices of {other} that were there before. Is HL_LAKE_URL right?")
        return slices

    with lock_fills_day(connection, day, shared=True):
        refuse_lost_fills(connection, day, lake.root, is_there=bool(list_files(lake, f"fills/date={day}")))
        return make_twaps(connection, day, take_slices, read_known_slices)
