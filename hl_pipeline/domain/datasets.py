"""The datasets: where their objects are, which hours or days they have, what they can prove. No I/O and no settings:
`sources.open` knows the buckets' names and prices, `stages.raw_tables` the formats and lake files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

HOUR = timedelta(hours=1)

BucketName = Literal["node_data", "twap_data"]
"""The buckets, named as their settings begin: HL_NODE_DATA_URL, HL_TWAP_DATA_URL, ..."""

BUCKETS: tuple[BucketName, ...] = ("node_data", "twap_data")

RawTable = Literal["raw_fills", "raw_twap_statuses"]
"""The tables of the lake that hold objects, one file each, and the assets that fetch them."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of a bucket. `first` and `last` are its first and last hour (UTC, by object); `last` is None while it continues.

    If `is_hourly`, keys are `<name>/hourly/YYYYMMDD/H.lz4`. Otherwise they contain a day in one of several forms, and the dataset
    is the only one in its bucket. After `needed_until`, a better dataset has every fill, so a missing object is not a hole.
    Without block numbers (`has_blocks`), nothing can prove an object complete. `object_id_millions`: the millions of its
    object_ids in the ledger, which never change (None: no object_ids). Shards of the info API use 4 to about 19, so the next
    dataset gets 20.
    """

    name: str
    bucket: BucketName
    is_hourly: bool
    raw_table: RawTable
    first: datetime
    last: datetime | None
    needed_until: datetime | None
    has_blocks: bool
    object_id_millions: int | None


NODE_TRADES = Dataset(
    "node_trades",
    bucket="node_data",
    is_hourly=True,
    raw_table="raw_fills",
    first=datetime(2025, 3, 22, 0, tzinfo=UTC),
    # Listings end on 2025-06-21, but a real object of 2025-06-24 exists: request objects as long as node_fills continues.
    last=datetime(2025, 7, 27, 8, tzinfo=UTC),
    needed_until=datetime(2025, 5, 25, 14, tzinfo=UTC),
    has_blocks=False,
    object_id_millions=1,
)

NODE_FILLS = Dataset(
    "node_fills",
    bucket="node_data",
    is_hourly=True,
    raw_table="raw_fills",
    first=datetime(2025, 5, 25, 14, tzinfo=UTC),
    last=datetime(2025, 7, 27, 8, tzinfo=UTC),
    needed_until=datetime(2025, 7, 27, 8, tzinfo=UTC),
    has_blocks=False,
    object_id_millions=2,
)

BY_BLOCK = Dataset(
    "node_fills_by_block",
    bucket="node_data",
    is_hourly=True,
    raw_table="raw_fills",
    first=datetime(2025, 7, 27, 8, tzinfo=UTC),
    last=None,
    needed_until=None,
    has_blocks=True,
    object_id_millions=3,
)

TWAP_STATUSES = Dataset(
    "twap_statuses",
    bucket="twap_data",
    is_hourly=False,
    raw_table="raw_twap_statuses",
    # The first known day in the bucket.
    first=datetime(2025, 8, 17, tzinfo=UTC),
    last=None,
    needed_until=None,
    has_blocks=False,
    object_id_millions=None,
)

DATASETS = (NODE_TRADES, NODE_FILLS, BY_BLOCK, TWAP_STATUSES)
"""All datasets; those of one lake table are ordered from worst to best."""

FILL_DATASETS = tuple(dataset for dataset in DATASETS if dataset.raw_table == "raw_fills")
"""The datasets of fills. Each begins shortly before the previous one ends."""

BY_NAME = {dataset.name: dataset for dataset in DATASETS}

API_FILLS = "api_fills"
"""The name of fills from the info API where dataset names are used."""

API_TWAP_HISTORY = "api_twap_history"


def datasets_of(raw_table: RawTable) -> list[Dataset]:
    """Return the datasets whose objects are in a table of the lake."""
    return [dataset for dataset in DATASETS if dataset.raw_table == raw_table]


def start_of(day: date) -> datetime:
    """Return midnight at the start of a day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def wanted_hours(day: date, dataset: Dataset) -> list[datetime]:
    """Return the hours whose objects a day always needs; none if the dataset does not have the day."""
    start = start_of(day)
    if dataset.first >= start + 24 * HOUR:
        return []
    hours = [start + HOUR * n for n in range(25)]
    return [hour for hour in hours if dataset.first <= hour and (dataset.last is None or hour <= dataset.last)]


def is_needed(dataset: Dataset, hour: datetime) -> bool:
    """Return whether a missing object of that hour is a hole."""
    return dataset.first <= hour and (dataset.needed_until is None or hour <= dataset.needed_until)


def days_around(day: date) -> list[date]:
    """Return the days whose objects may have events of `day`: near midnight, or if objects follow another time zone."""
    return [day + timedelta(days=step) for step in (-1, 0, 1)]
