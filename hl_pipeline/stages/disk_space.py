"""Whether the disks have space for a day before it is begun: a full disk stops PostgreSQL for everybody.

Measured on generated fills (docs/performance.md): an object of 126 bytes a fill becomes 46 bytes in each of the lake's two
tables, and 295 in hl.fills with its indexes. What is not on a disk of this machine (S3, another server) is not looked at.
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
    """There is not enough space on a disk. The message says where, how much is needed, and what can be done."""


@dataclass(frozen=True, slots=True)
class DiskEstimate:
    """What lake and hl.fills are about to take, in bytes; None: it does not come into hl.fills."""

    lake: float
    database: float | None


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of this machine, by a `path` on it: bytes that it needs, and that are free beside what HL_DISK_RESERVE_GB keeps."""

    path: Path
    needed: float
    free: float

    @property
    def suffices(self) -> bool:
        return self.needed <= self.free


def estimate_of_fetched(fetched_bytes: int, loaded_bytes: int | None) -> DiskEstimate:
    """For objects of so many bytes in all, and what is made of them; hl.fills gets what is in `loaded_bytes` of these."""
    lake = 2 * fetched_bytes / _BYTES_A_FILL_COMPRESSED * _BYTES_A_FILL_IN_LAKE
    return DiskEstimate(
        lake, None if loaded_bytes is None else loaded_bytes / _BYTES_A_FILL_COMPRESSED * _BYTES_A_FILL_IN_DATABASE
    )


def bytes_on_disk(fetched_bytes: int) -> int:
    """What objects of so many bytes take in all, once they are in the lake and in hl.fills."""
    estimate = estimate_of_fetched(fetched_bytes, fetched_bytes)
    return round(estimate.lake + (estimate.database or 0))


def find_disks(settings: Settings, estimate: DiskEstimate) -> list[Disk]:
    """The disks of this machine that have to give what is estimated; none where lake and database are elsewhere."""
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
    """Raises NoSpaceError when objects of so many bytes, and what is made of them, have no space."""
    _require(settings, day, estimate_of_fetched(fetched_bytes, fetched_bytes if day >= oldest_kept(settings) else None))


def require_space_to_load(settings: Settings, day: date, fills: int) -> None:
    """Raises NoSpaceError when so many fills have no room in lake and hl.fills (a day that is loaded again is there twice)."""
    database = fills * _BYTES_A_FILL_IN_DATABASE if day >= oldest_kept(settings) else None
    _require(settings, day, DiskEstimate(fills * _BYTES_A_FILL_IN_LAKE, database))


def _require(settings: Settings, day: date, estimate: DiskEstimate) -> None:
    for disk in find_disks(settings, estimate):
        if not disk.suffices:
            raise NoSpaceError(
                f"{day} needs about {disk.needed / _GB:,.1f} GB at {disk.path}, where {max(disk.free, 0) / _GB:,.1f} GB are free "
                f"beside the {settings.disk_reserve_gb:g} GB that HL_DISK_RESERVE_GB keeps. Free some, thin hl.fills (hl drop, "
                "HL_FILLS_KEEP_DAYS), or put HL_LAKE_URL or HL_HOME on a larger disk"
            )


def _nearest_existing(path: Path) -> Path:
    """The path, or the first directory above it that exists."""
    path = path.absolute()
    return path if path.exists() else _nearest_existing(path.parent)
