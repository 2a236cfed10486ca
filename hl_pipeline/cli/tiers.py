"""What fills take in each place that keeps them, and what a year of such days would take there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

    from hl_pipeline.settings import Settings

_DAY = re.compile(r"(?:object_)?date=(\d{4}-\d\d-\d\d)")
_IN_LAKE = {
    "hours in the lake": ("fills",),
    "compacted": ("iceberg/fills/data",),
    "raw": ("raw_fills", "api_fills", "raw_twap_statuses", "api_twap_history"),
}


@dataclass(frozen=True, slots=True)
class Tier:
    """A place that keeps fills. `bytes_a_year`: what 365 days like its own would take. None: it has no day."""

    name: str
    bytes: int
    days: int
    bytes_a_year: int | None


def _tier(name: str, size: int, days: int) -> Tier:
    return Tier(name, size, days, round(size / days * 365) if days else None)


def measure_tiers(connection: psycopg.Connection, settings: Settings) -> list[Tier]:
    """Return the size of hl.fills and of the directories of the lake. A lake on S3 is listed: a request per 1,000 files."""
    from hl_pipeline.warehouse.lake_tables import measure_hot_fills

    tiers = [_tier("hl.fills", *measure_hot_fills(connection))]
    for name, directories in _IN_LAKE.items():
        files = {path: size for directory in directories for path, size in _list(settings, directory).items()}
        days = {found[1] for path in files if (found := _DAY.search(path))}
        tiers.append(_tier(name, sum(files.values()), len(days)))
    return tiers


def _list(settings: Settings, directory: str) -> dict[str, int]:
    if settings.lake.startswith("s3://"):
        # Imports Arrow, which a directory does not need.
        from hl_pipeline.lake.store import list_below, open_lake

        return list_below(open_lake(settings.lake), directory)
    found: dict[str, int] = {}
    for folder, _, names in os.walk(Path(settings.lake, directory)):
        for name in names:
            try:
                found[f"{folder}/{name}"] = Path(folder, name).stat().st_size
            except FileNotFoundError:
                # Replaced or removed meanwhile.
                continue
    return found


def describe_tiers(tiers: list[Tier]) -> list[str]:
    """Return a line for each tier that has something."""
    width = max((len(tier.name) for tier in tiers), default=0)
    return [
        f"{tier.name:<{width}}  {_show(tier.bytes):>9} in {tier.days:,} days; a year of such days: {_show(tier.bytes_a_year)}"
        for tier in tiers
        if tier.bytes_a_year is not None
    ]


def _show(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
