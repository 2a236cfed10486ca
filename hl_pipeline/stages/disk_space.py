"""Checks the disk space for a day before it starts, because a full disk stops PostgreSQL for everyone.

Measured on generated fills (docs/performance.md): 126 bytes per fill in an object become 46 bytes in each of the lake's two
tables, and 295 in hl.fills with its indexes. Storage that is not on this machine (S3, another server) is not checked.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hl_pipeline.settings import Settings
from hl_pipeline.stages.fills_retention import oldest_kept

_BYTES_A_FILL_COMPRESSED = 126
_BYTES_A_FILL_IN_LAKE = 50
_BYTES_A_FILL_IN_DATABASE = 300
_GB = 1e9


class NoSpaceError(RuntimeError):
    """A disk does not have enough free space. The message says where, how much is needed, and what to do."""


@dataclass(frozen=True, slots=True)
class DiskEstimate:
    """The bytes that the lake and hl.fills will need. None: nothing is loaded into hl.fills."""

    lake: float
    database: float | None


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of this machine, identified by a `path` on it: bytes needed, and bytes free above HL_DISK_RESERVE_GB."""

    path: Path
    needed: float
    free: float

    @property
    def suffices(self) -> bool:
        return self.needed <= self.free


def estimate_of_fetched(fetched_bytes: int, loaded_bytes: int | None) -> DiskEstimate:
    """Estimate the space for `fetched_bytes` of objects and the data derived from them; `loaded_bytes` of them go to hl.fills."""
    lake = 2 * fetched_bytes / _BYTES_A_FILL_COMPRESSED * _BYTES_A_FILL_IN_LAKE
    return DiskEstimate(
        lake, None if loaded_bytes is None else loaded_bytes / _BYTES_A_FILL_COMPRESSED * _BYTES_A_FILL_IN_DATABASE
    )


def bytes_on_disk(fetched_bytes: int) -> int:
    """Return the total space for objects of this size in the lake and hl.fills."""
    estimate = estimate_of_fetched(fetched_bytes, fetched_bytes)
    return round(estimate.lake + (estimate.database or 0))


def find_disks(settings: Settings, estimate: DiskEstimate) -> list[Disk]:
    """Return the disks of this machine that need the estimated space; none if the lake and the database are elsewhere."""
    needed: dict[Path, float] = {}
    if not settings.lake.startswith("s3://"):
        needed[_nearest_existing(Path(settings.lake))] = estimate.lake
    if settings.database_url is None and estimate.database is not None:
        home = _nearest_existing(settings.home)
        same = next((path for path in needed if path.stat().st_dev == home.stat().st_dev), home)
        needed[same] = needed.get(same, 0) + estimate.database
    reserve = settings.disk_reserve_gb * _GB
    return [Disk(path, size, shutil.disk_usage(path).free - reserve) for path, size in needed.items()]


def require_space_to_fetch(settings: Settings, day: date, fetched_bytes: int) -> None:
    """Raise NoSpaceError if there is no space for objects of this size and the data derived from them."""
    _require(settings, day, estimate_of_fetched(fetched_bytes, fetched_bytes if day >= oldest_kept(settings) else None))


def require_space_to_load(settings: Settings, day: date, fills: int) -> None:
    """Raise NoSpaceError if the lake and hl.fills have no space for this many fills (during a reload, a day exists twice)."""
    database = fills * _BYTES_A_FILL_IN_DATABASE if day >= oldest_kept(settings) else None
    _require(settings, day, DiskEstimate(fills * _BYTES_A_FILL_IN_LAKE, database))


def _require(settings: Settings, day: date, estimate: DiskEstimate) -> None:
    for disk in find_disks(settings, estimate):
        if not disk.suffices:
            raise NoSpaceError(
                f"{day} needs about {disk.needed / _GB:,.1f} GB at {disk.path}, where {max(disk.free, 0) / _GB:,.1f} GB are free "
                f"above the {settings.disk_reserve_gb:g} GB of HL_DISK_RESERVE_GB. Free space, thin hl.fills (hl drop, "
                "HL_FILLS_KEEP_DAYS), or move HL_LAKE_URL or HL_HOME to a larger disk"
            )


def _nearest_existing(path: Path) -> Path:
    """Return the path, or its nearest existing parent."""
    path = path.absolute()
    return path if path.exists() else _nearest_existing(path.parent)
