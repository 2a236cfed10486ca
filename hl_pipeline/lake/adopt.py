"""Finds metadata of an Iceberg table in the lake that its catalog does not know.

That is so after the database was lost or restored from a backup, and after a process was killed in the middle of a commit.
"""

from __future__ import annotations

import logging

from pyiceberg.io import load_file_io
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import StaticTable
from pyiceberg.table.metadata import TableMetadata

from hl_pipeline.events import emit
from hl_pipeline.lake.iceberg import Catalog, files_by_day
from hl_pipeline.lake.store import Lake, list_below

_log = logging.getLogger(__name__)
_SUFFIX = ".metadata.json"


def find_newer_metadata(catalog: Catalog, lake: Lake, name: str, known: str | None) -> str | None:
    """Return the location of the newest whole metadata of a table in the lake, if it is newer than the catalog's.

    `known`: the catalog's location, or None. Whole: each file of the current snapshot is there. The caller holds the
    table's lock, so no other process is about to commit what is found.
    """
    io = load_file_io(dict(catalog.properties), lake.url)
    there = {f"{lake.url}/{path}" for path in list_below(lake, f"iceberg/{name}/metadata") if path.endswith(_SUFFIX)}
    is_known = known in there
    others = [place for place in there - {known} if not is_known or _version(place) >= _version(known or "")]
    found: list[tuple[int, int, str]] = []
    for place in others:
        try:
            metadata: TableMetadata = FromInputFile.table_metadata(io.new_input(place))
        except (OSError, ValueError) as error:
            emit(_log, "lake_file_unreadable", level=logging.WARNING, path=place, error=error)
            continue
        if metadata.location.startswith(f"{lake.url}/"):
            found.append((metadata.last_updated_ms, _version(place), place))
    since = 0
    if is_known and known is not None:
        since = FromInputFile.table_metadata(io.new_input(known)).last_updated_ms
    newest = [place for updated, _, place in sorted(found, reverse=True) if updated > since]
    return next((place for place in newest if _is_whole(catalog, lake, place)), None)


def _version(location: str) -> int:
    return int(location.rpartition("/")[2].partition("-")[0])


def _is_whole(catalog: Catalog, lake: Lake, location: str) -> bool:
    try:
        table = StaticTable.from_metadata(location, dict(catalog.properties))
        files = [file for of_day in files_by_day(table, lake).values() for file in of_day]
    except (OSError, ValueError, EOFError, AssertionError) as error:
        emit(_log, "lake_file_unreadable", level=logging.WARNING, path=location, error=error)
        return False
    sizes = list_below(lake, f"{table.metadata.location.removeprefix(f'{lake.url}/')}/data")
    return all(sizes.get(file.path) == file.bytes for file in files)
