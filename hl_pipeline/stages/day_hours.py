"""The hours of a day of fills in the lake, also after they were removed because the compacted day has their rows.

Whatever reads hours holds `hours_of_fills`, which makes missing ones again. A load reads the compacted file itself.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import psycopg

from hl_pipeline.domain.load_plan import DayFacts, hours_of
from hl_pipeline.domain.records import version_of
from hl_pipeline.events import emit
from hl_pipeline.lake.fills import changing_hours
from hl_pipeline.lake.store import Lake, list_files
from hl_pipeline.warehouse.lake_days import list_current_days, read_counts_of_hours, read_lake_days
from hl_pipeline.warehouse.locks import lock_fills_day

if TYPE_CHECKING:
    from hl_pipeline.lake.unpacked_hours import HourFacts

_log = logging.getLogger(__name__)
_TRIES = 3


@dataclass(frozen=True, slots=True)
class PackedDay:
    """A compacted file that records its hours."""

    path: str
    hours: Mapping[int, HourFacts]


def find_missing_hours(day: date, lake: Lake, connection: psycopg.Connection) -> list[int]:
    """Return the hours of a loaded day that have fills but no file in the lake."""
    counts = read_counts_of_hours(connection, day)
    there = {path.rpartition("/")[2] for path in list_files(lake, f"fills/date={day}")} if counts else set[str]()
    return sorted(hour for hour in counts if f"hour={hour:02}.parquet" not in there)


def find_packed_day(day: date, lake: Lake, connection: psycopg.Connection) -> PackedDay | None:
    """Return the published file of a day, if it can be read and records its hours."""
    known = read_lake_days(connection, "fills").get(day)
    if known is None or len(known.files) != 1:
        return None
    # Imported here: DuckDB and pyiceberg take a second, and days that are not published do not need them.
    from hl_pipeline.lake.unpacked_hours import read_hour_facts

    try:
        hours = read_hour_facts(lake, known.files[0])
    except (OSError, ValueError) as error:
        emit(_log, "lake_file_unreadable", level=logging.WARNING, path=f"{lake.root}/{known.files[0]}", error=error)
        return None
    return PackedDay(known.files[0], hours) if hours else None


def find_packed_source(facts: DayFacts, lake: Lake, connection: psycopg.Connection) -> PackedDay | None:
    """Return the compacted file that a load must take into account: the lake lacks some of the hours that it has."""
    packed = find_packed_day(facts.day, lake, connection)
    return packed if packed is not None and packed.hours.keys() - facts.hour_files.keys() else None


def is_made_from(packed: PackedDay, facts: DayFacts) -> bool:
    """Return whether the lake's objects of the day are exactly those that the compacted file was made from."""
    origins = [*facts.objects, *facts.shards]
    wanted = {hour: frozenset(version_of(meta) for meta in origins if hour in hours_of(facts.day, meta)) for hour in range(24)}
    in_hours = all(of.objects == wanted[hour] for hour, of in packed.hours.items())
    return in_hours and frozenset().union(*wanted.values()) == frozenset().union(*(of.objects for of in packed.hours.values()))


@contextmanager
def hours_of_fills(day: date, lake: Lake, connection: psycopg.Connection) -> Generator[None]:
    """Hold the shared lock of a day while all its hours are in the lake. Hours that were removed are made again first.

    Hours that nothing has stay missing.
    """
    for _ in range(_TRIES):
        with lock_fills_day(connection, day, shared=True):
            if not find_missing_hours(day, lake, connection) or day not in list_current_days(connection):
                yield
                return
        if not bring_back_hours(day, lake, connection):
            break
    with lock_fills_day(connection, day, shared=True):
        yield


def bring_back_hours(day: date, lake: Lake, connection: psycopg.Connection) -> list[int]:
    """Make the missing hours of a day again from its compacted file, if that is current. Returns them."""
    from hl_pipeline.lake.unpacked_hours import unpack_hours

    with lock_fills_day(connection, day):
        missing: Sequence[int] = find_missing_hours(day, lake, connection)
        packed = find_packed_day(day, lake, connection)
        if not missing or packed is None or day not in list_current_days(connection):
            return []
        with changing_hours(lake, day, "restoration"):
            deque(unpack_hours(lake, day, packed.path, packed.hours, only=missing), maxlen=0)
    emit(_log, "hours_unpacked", day=day, hours=missing)
    return [*missing]
