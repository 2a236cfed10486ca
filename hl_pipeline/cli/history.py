"""Reads the newest fills of the whole history: of hl.fills, and of the lake for days that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from hl_pipeline.cli.terminal import fail, open_existing_lake, program
from hl_pipeline.warehouse.show_queries import FILLS, Rows, read_rows

if TYPE_CHECKING:
    import psycopg

    from api.lake_files import DayInLake
    from hl_pipeline.lake.store import Lake
    from hl_pipeline.settings import Settings

_TRIES = 3
_TIME = 0


def read_newest_fills(connection: psycopg.Connection, settings: Settings, parameters: Mapping[str, Any]) -> Rows:
    """Return the rows of FILLS, as if every day were in hl.fills. Reads the lake only if hl.fills has too few newer fills.

    Ends the command if the lake is needed and cannot be read.
    """
    # Imported here: most commands do not read the lake.
    from api.lake_files import LakeChangedError

    for tries_left in range(_TRIES - 1, -1, -1):
        try:
            return _read_once(connection, settings, parameters)
        except LakeChangedError as error:
            if not tries_left:
                fail(f"the lake does not have the files that the ledger names; run again in a moment: {error}")
    raise AssertionError("the last try returns or ends the command")


def _read_once(connection: psycopg.Connection, settings: Settings, parameters: Mapping[str, Any]) -> Rows:
    from api.lake_files import LAKE_DAYS, LakeChangedError, day_of_row

    day, limit = parameters["day"], parameters["limit"]
    with connection.transaction():
        # The fills and the ledger of one moment.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        result = read_rows(connection, FILLS, parameters)
        span = {"first": day or date.min, "last": day or date.max}
        days = [day_of_row(row) for row in connection.execute(LAKE_DAYS, span).fetchall()]
    rows = [*result.rows]
    lake: Lake | None = None
    for run in _runs(days):
        end = datetime.combine(run[0].date + timedelta(days=1), time.min, UTC)
        if sum(row[_TIME] >= end for row in rows) >= limit:
            break
        lake = lake or open_existing_lake(settings)
        try:
            rows += _read_days(lake, run, result.columns, parameters)
        except (OSError, ValueError) as error:
            if any(not one.compacted for one in run):
                raise LakeChangedError(str(error)) from error
            fail(
                f"{run[-1].date} to {run[0].date} are only in the lake, which cannot be read: {error}. `{program()} lake verify`"
            )
        rows = sorted(rows, key=_time_of, reverse=True)[:limit]
    return Rows(result.columns, rows)


def _time_of(row: Sequence[Any]) -> datetime:
    # Fills of one day come from one place, in order, and Python's sort keeps that order.
    return row[_TIME]


def _runs(days: list[DayInLake]) -> Iterator[list[DayInLake]]:
    """Yield the days from the newest on, one, then two, then four, ...: few days if they suffice, few queries if they do not."""
    rest, size = [*reversed(days)], 1
    while rest:
        yield rest[:size]
        rest, size = rest[size:], size * 2


def _read_days(lake: Lake, days: list[DayInLake], columns: list[str], parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the newest fills of days of the lake. Raises LakeChangedError if hours are not those of the ledger."""
    from api.lake_files import LakeChangedError
    from hl_pipeline.lake.newest_fills import read_newest_fills as read_files

    files = [path for one in days for path in (one.compacted or [hour.path for hour in one.hours])]
    _check_compacted(lake, days)
    before = _check_hours(lake, days)
    wallet = parameters["wallet"]
    equal_to = {"wallet": wallet and wallet.lower(), "coin": parameters["coin"]}
    rows = read_files(lake, files, columns, equal_to, parameters["limit"])
    if before != _check_hours(lake, days):
        raise LakeChangedError(f"an hour of {days[-1].date} to {days[0].date} was replaced while it was read")
    return rows


def _check_compacted(lake: Lake, days: list[DayInLake]) -> None:
    """Compare the rows of compacted files with the ledger: DuckDB takes an empty file for one without rows."""
    import pyarrow.parquet as pq

    for day in (one for one in days if one.compacted):
        rows = 0
        for path in day.compacted:
            with lake.filesystem.open_input_file(f"{lake.root}/{path}") as file:
                rows += pq.read_metadata(file).num_rows
        if rows != day.rows:
            raise OSError(f"{', '.join(day.compacted)} has {rows:,} fills, but {day.rows:,} are loaded")


def _check_hours(lake: Lake, days: list[DayInLake]) -> dict[str, bytes]:
    """Compare the files of hours with the ledger. Returns their metadata. Compacted files never change."""
    import pyarrow.parquet as pq

    from api.lake_files import check_hours
    from hl_pipeline.lake.store import META_KEY

    found: dict[str, bytes] = {}
    for day in days:
        rows: dict[str, int] = {}
        metadata: dict[str, bytes] = {}
        for hour in () if day.compacted else day.hours:
            with lake.filesystem.open_input_file(f"{lake.root}/{hour.path}") as file:
                footer = pq.read_metadata(file)
            rows[hour.path] = footer.num_rows
            if footer.metadata and META_KEY in footer.metadata:
                metadata[hour.path] = footer.metadata[META_KEY]
        check_hours(day, rows, metadata)
        found |= metadata
    return found
