"""Decides which days hl.fills keeps. The lake, candles and statistics always keep every day."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta

import psycopg

from hl_pipeline.events import emit
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.fills_days import list_kept_days
from hl_pipeline.warehouse.fills_partitions import DayInUseError, thin_day
from hl_pipeline.warehouse.locks import lock_fills_day

_log = logging.getLogger(__name__)


def oldest_kept(settings: Settings) -> date:
    """Return the oldest day that HL_FILLS_KEEP_DAYS keeps in hl.fills."""
    return datetime.now(UTC).date() - timedelta(days=settings.fills_keep_days - 1) if settings.fills_keep_days else date.min


def thin_old_days(connection: psycopg.Connection, settings: Settings) -> None:
    """Remove days older than HL_FILLS_KEEP_DAYS from hl.fills. A day that is being read is removed next time."""
    if settings.fills_keep_days is None:
        return
    for day in list_kept_days(connection, date.min, oldest_kept(settings) - timedelta(days=1)):
        try:
            with lock_fills_day(connection, day):
                thin_day(connection, day, swap_wait_seconds=1)
        except DayInUseError as error:
            emit(_log, "day_not_thinned", level=logging.WARNING, day=day, why=str(error))
