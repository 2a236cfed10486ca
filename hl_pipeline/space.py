"""Whether there is room for a day before it is begun: a full disk stops PostgreSQL for everybody.

Measured on generated fills (the README's benchmark): an object of 126 bytes a fill becomes 46 bytes in each of the lake's two
tables, and 295 in hl.fills with its indexes. What is not on a disk of this machine (S3, another server) is not looked at.
"""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

from hl_pipeline.settings import Settings
from hl_pipeline.thinning import oldest_kept

_BYTES_A_FILL_COMPRESSED = 126
_BYTES_A_FILL_IN_LAKE = 50
_BYTES_A_FILL_IN_DATABASE = 300
_GB = 1e9


class NoSpaceError(RuntimeError):
    """There is not enough room on a disk. The message says where, how much is needed, and what can be done."""


def require_space_to_fetch(settings: Settings, day: date, fetched_bytes: int) -> None:
    """Raises NoSpaceError when objects of so many bytes, and what is made of them, have no room."""
    fills = fetched_bytes / _BYTES_A_FILL_COMPRESSED
    _require(settings, day, lake=2 * fills * _BYTES_A_FILL_IN_LAKE, database=fills * _BYTES_A_FILL_IN_DATABASE)


def require_space_to_load(settings: Settings, day: date, fills: int) -> None:
    """Raises NoSpaceError when so many fills have no room in lake and hl.fills (a day that is loaded again is there twice)."""
    _require(settings, day, lake=fills * _BYTES_A_FILL_IN_LAKE, database=fills * _BYTES_A_FILL_IN_DATABASE)


def _require(settings: Settings, day: date, *, lake: float, database: float) -> None:
    wanted: dict[Path, float] = {}
    if not settings.lake.startswith("s3://"):
        wanted[_there(Path(settings.lake))] = lake
    if settings.database_url is None and day >= oldest_kept(settings):
        home = _there(settings.home)
        wanted[home] = wanted.get(home, 0) + database
    for path in wanted:
        same_disk = [other for other in wanted if other.stat().st_dev == path.stat().st_dev]
        needed = sum(wanted[other] for other in same_disk)
        free = shutil.disk_usage(path).free - settings.disk_reserve_gb * _GB
        if needed > free:
            raise NoSpaceError(
                f"{day} needs about {needed / _GB:,.1f} GB at {path}, where {max(free, 0) / _GB:,.1f} GB are free beside the "
                f"{settings.disk_reserve_gb:g} GB that HL_DISK_RESERVE_GB keeps. Free some, thin hl.fills (hl drop, "
                "HL_FILLS_KEEP_DAYS), or put HL_LAKE_URL or HL_HOME on a larger disk"
            )


def _there(path: Path) -> Path:
    """The path, or the first directory above it that exists."""
    path = path.absolute()
    return path if path.exists() else _there(path.parent)
