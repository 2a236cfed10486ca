"""The datasets: where the objects of each are, which hours or days it has, what it can prove. No I/O, and no settings: what a
bucket is called and asks is the matter of `sources.open`; formats and lake files of `stages.raw_tables`.
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
    """A dataset of a bucket. `first` and `last` are the first and the last hour (UTC, by object) that it has; `last` is None
    while it goes on.

    Keys are `<name>/hourly/YYYYMMDD/H.lz4` where `is_hourly`; else they have a day in any of several forms, and the dataset is
    the only one of its bucket. After `needed_until` a better dataset has every fill: an object that is missing there is no hole.
    Without block numbers (`has_blocks`) nothing can prove that an object is complete. `object_id_millions` are the millions of
    its object_ids in the ledger, for ever (None: its objects have none). The info API's shards have 4 to about 19, so the next
    one is 20.
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
    # Listings end on 2025-06-21, but a real object of 2025-06-24 is known: look as long as node_fills goes on.
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
    # The first day that the bucket is known to have.
    first=datetime(2025, 8, 17, tzinfo=UTC),
    last=None,
    needed_until=None,
    has_blocks=False,
    object_id_millions=None,
)

DATASETS = (NODE_TRADES, NODE_FILLS, BY_BLOCK, TWAP_STATUSES)
"""All of them, those of a table of the lake from the poorest to the best."""

FILL_DATASETS = tuple(dataset for dataset in DATASETS if dataset.raw_table == "raw_fills")
"""The datasets of fills. Each begins where the one before is about to end."""

BY_NAME = {dataset.name: dataset for dataset in DATASETS}

API_FILLS = "api_fills"
"""What the fills from the info API are called beside the datasets."""

API_TWAP_HISTORY = "api_twap_history"


def datasets_of(raw_table: RawTable) -> list[Dataset]:
    """The datasets whose objects stand in a table of the lake."""
    return [dataset for dataset in DATASETS if dataset.raw_table == raw_table]


def start_of(day: date) -> datetime:
    """The first moment of a day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def wanted_hours(day: date, dataset: Dataset) -> list[datetime]:
    """The hours whose objects a day wants in any case; none when the dataset does not have the day."""
    start = start_of(day)
    if dataset.first >= start + 24 * HOUR:
        return []
    hours = [start + HOUR * n for n in range(25)]
    return [hour for hour in hours if dataset.first <= hour and (dataset.last is None or hour <= dataset.last)]


def is_needed(dataset: Dataset, hour: datetime) -> bool:
    """Whether it is a hole when the dataset's object of that hour is not there."""
    return dataset.first <= hour and (dataset.needed_until is None or hour <= dataset.needed_until)


def days_around(day: date) -> list[date]:
    """The days in whose objects events of `day` may stand: at an edge of the day, or where days are cut in another zone."""
    return [day + timedelta(days=step) for step in (-1, 0, 1)]
