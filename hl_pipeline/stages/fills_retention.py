"""Decides which days hl.fills keeps. The lake, candles and statistics always keep every day.

A day leaves hl.fills only when it is compacted, published and verified in the lake as it was loaded last.
"""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta

import psycopg

from hl_pipeline.domain.errors import LakeLacksError
from hl_pipeline.events import emit
from hl_pipeline.lake.store import Lake
from hl_pipeline.settings import Settings
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.warehouse.fills_days import list_kept_days
from hl_pipeline.warehouse.fills_partitions import DayInUseError, thin_day
from hl_pipeline.warehouse.lake_days import list_current_days
from hl_pipeline.warehouse.locks import lock_fills_day

_log = logging.getLogger(__name__)
_TRIES = 3


def oldest_kept(settings: Settings) -> date:
    """Return the oldest day that HL_FILLS_KEEP_DAYS keeps in hl.fills. With 0 it is tomorrow."""
    if settings.fills_keep_days is None:
        return date.min
    return datetime.now(UTC).date() - timedelta(days=settings.fills_keep_days - 1)


def thin_old_days(lake: Lake, connection: psycopg.Connection, settings: Settings) -> None:
    """Remove days older than HL_FILLS_KEEP_DAYS from hl.fills. A day that is being read, or that the lake's table cannot get now,
    is removed next time.
    """
    if settings.fills_keep_days is None:
        return
    for day in list_kept_days(connection, date.min, oldest_kept(settings) - timedelta(days=1)):
        try:
            move_to_lake(day, lake, connection, swap_wait_seconds=1)
        except (DayInUseError, LakeLacksError) as error:
            emit(_log, "day_not_thinned", level=logging.WARNING, day=day, why=str(error))


def move_to_lake(day: date, lake: Lake, connection: psycopg.Connection, swap_wait_seconds: float) -> None:
    """Compact a day if needed, then remove it from hl.fills. Raises LakeLacksError like compact_day, or DayInUseError."""
    for _ in range(_TRIES):
        if day not in list_current_days(connection):
            failed = [check.description for check in compact_day(day, lake, connection).checks if not check.passed]
            if failed:
                raise LakeLacksError(f"{day} stays in hl.fills: {' '.join(failed)}")
        with lock_fills_day(connection, day):
            # It may have been loaded again before we got the lock.
            if day in list_current_days(connection):
                thin_day(connection, day, swap_wait_seconds)
                return
    raise LakeLacksError(f"{day} stays in hl.fills: it was loaded again each time it was compacted")
