"""Removes the hours of compacted days from the lake. The compacted day has the same rows, and makes the hours again if needed.

A process may be killed anywhere: the day is published, its file compared with the hours, and they are deleted.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import psycopg

from hl_pipeline.domain.errors import LakeLacksError
from hl_pipeline.events import emit
from hl_pipeline.lake.fills import changing_hours
from hl_pipeline.lake.store import Lake, exists, list_days, list_files, remove
from hl_pipeline.lake.twaps import slices_path
from hl_pipeline.settings import Settings
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.stages.day_hours import find_packed_day
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.warehouse.dirty_days import read_dirty
from hl_pipeline.warehouse.hour_totals import read_unverified_hours
from hl_pipeline.warehouse.lake_days import list_current_days, read_counts_of_hours, read_day_to_compact, read_lake_days
from hl_pipeline.warehouse.locks import lock_fills_day

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RemovedHours:
    """The days whose hours were removed, with the number of files, and the days that keep them, with the reason."""

    files: dict[date, int]
    kept: dict[date, str]


def remove_old_hours(lake: Lake, connection: psycopg.Connection, settings: Settings, *, dry_run: bool = False) -> RemovedHours:
    """Remove the hours of compacted days older than HL_HOURS_KEEP_DAYS. `dry_run`: only say which."""
    done = RemovedHours({}, {})
    if settings.hours_keep_days is None:
        return done
    oldest = datetime.now(UTC).date() - timedelta(days=settings.hours_keep_days - 1)
    current = list_current_days(connection)
    for day in (day for day in list_days(lake, "fills") if day < oldest and day in current):
        if dry_run:
            done.files[day] = len(list_files(lake, f"fills/date={day}"))
            continue
        try:
            done.files[day] = _remove_hours(day, lake, connection)
        except LakeLacksError as error:
            done.kept[day] = str(error)
            emit(_log, "hours_kept", level=logging.WARNING, day=day, why=str(error))
    return done


def _remove_hours(day: date, lake: Lake, connection: psycopg.Connection) -> int:
    """Remove the hours of a compacted day, after a comparison. Raises LakeLacksError if they must stay."""
    if find_packed_day(day, lake, connection) is None:
        # An earlier version compacted it, and did not record its hours.
        compact_day(day, lake, connection)
    with opened_catalog(connection, lake) as catalog, lock_fills_day(connection, day):
        # Imported here: pyiceberg takes a second.
        from hl_pipeline.lake.compacted_fills import equals_hours
        from hl_pipeline.lake.iceberg import files_by_day, find_table

        loaded, packed = read_day_to_compact(connection, day), find_packed_day(day, lake, connection)
        if loaded is None or packed is None or day not in list_current_days(connection):
            raise LakeLacksError(f"{day} was loaded again since it was compacted")
        if day in read_dirty(connection):
            raise LakeLacksError(f"{day} must be loaded again (hl.dirty_days)")
        if not loaded.is_thinned and (hours := read_unverified_hours(connection, day)):
            raise LakeLacksError(f"{day}: the hours {hours} are not verified to be the same in the lake and hl.fills")
        published = files_by_day(find_table(catalog, "fills"), lake).get(day, [])
        if [file.path for file in published] != read_lake_days(connection, "fills")[day].files:
            raise LakeLacksError(f"{day}: the catalog does not have the file of the ledger, {packed.path}")
        counts = {hour: (of.rows, of.duplicates, of.conflicts) for hour, of in packed.hours.items()}
        if counts != read_counts_of_hours(connection, day):
            raise LakeLacksError(f"{day}: {packed.path} records other hours than the ledger")
        if not equals_hours(lake, packed.path, day, loaded.rows):
            raise LakeLacksError(
                f"{day}: {packed.path} does not have the rows of the hours; run `hl ingest --from {day} --to {day}` again"
            )
        if _lacks_slices(day, lake):
            raise LakeLacksError(f"{day} has slices of TWAPs that only its hours have: materialize twaps of the day")
        files = list_files(lake, f"fills/date={day}")
        with changing_hours(lake, day, "removal"):
            for path in files:
                remove(lake, path)
    emit(_log, "hours_removed", day=day, files=len(files))
    return len(files)


def _lacks_slices(day: date, lake: Lake) -> bool:
    """Return whether an early version, which wrote no file of slices, made the day's TWAPs."""
    from hl_pipeline.lake.twaps import extract_slices

    return not exists(lake, slices_path(day)) and extract_slices(lake, day).height > 0
