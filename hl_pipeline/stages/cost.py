"""Estimates the cost of days before a download: the listed objects that they need, those already in the lake, and the rest that
costs money and disk space. Extra objects that are only known after the fetch (completeness.extra_hours) are not included.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from hl_pipeline.domain.datasets import DATASETS, HOUR, BucketName, Dataset, is_needed, start_of
from hl_pipeline.domain.records import SourceObject
from hl_pipeline.domain.wanted_objects import Listing, wanted_dates, wanted_objects
from hl_pipeline.events import emit
from hl_pipeline.lake.store import Lake, list_days, open_lake
from hl_pipeline.settings import Settings
from hl_pipeline.sources.buckets import Bucket, list_dataset
from hl_pipeline.stages.disk_space import Disk, DiskEstimate, estimate_of_fetched, find_disks
from hl_pipeline.stages.fills_retention import oldest_kept
from hl_pipeline.stages.paid_buckets import open_paid_buckets, prices_of_datasets
from hl_pipeline.stages.raw_tables import table_of
from hl_pipeline.warehouse.spending import Prices

_log = logging.getLogger(__name__)
_DAYS_READ_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """The listed objects of a dataset that days need, each once, with the day in its key. `hours_not_there`: number of needed
    hours that are not in the bucket (None for statuses, whose number is unknown).
    """

    dataset: str
    objects: list[tuple[date, SourceObject]]
    hours_not_there: int | None


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of objects and their bytes."""

    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The objects of a dataset that days need, those in the lake, and those to download with their cost in USD. `bytes_to_load`:
    the part of the download for days that hl.fills keeps.
    """

    dataset: str
    wanted: Amount
    in_lake: Amount
    to_download: Amount
    dollars: Decimal
    bytes_to_load: int
    hours_not_there: int | None


@dataclass(frozen=True, slots=True)
class Bill:
    """The cost of days: per dataset, the disk space needed, and the affected disks of this machine. Also the number of LIST
    requests sent for this estimate and their cost in USD. `listed`: dataset and key of each needed object.
    """

    costs: list[Cost]
    listed: frozenset[tuple[str, str]]
    disk: DiskEstimate
    disks: list[Disk]
    lists: int
    dollars_of_lists: Decimal

    @property
    def dollars(self) -> Decimal:
        """The cost of all downloads."""
        return sum((cost.dollars for cost in self.costs), Decimal(0))

    def find_obstacles(self, dollars_left: Decimal | None) -> list[str]:
        """List the reasons why the download would fail. `dollars_left`: rest of the budget, None without a budget."""
        obstacles: list[str] = []
        if dollars_left is not None and self.dollars > dollars_left:
            obstacles.append(f"${self.dollars - dollars_left:,.4f} more than the rest of HL_S3_BUDGET_USD")
        full = [disk for disk in self.disks if not disk.suffices]
        return obstacles + [f"{(disk.needed - disk.free) / 1e9:,.1f} GB too little free space at {disk.path}" for disk in full]


def want(days: Sequence[date], dataset: Dataset, listing: Listing) -> Wanted:
    """Return the listed objects of a dataset that `days` need."""
    wanted = wanted_objects(dataset, days, listing)
    missing = [start_of(place.object_date) + HOUR * (place.hour or 0) for place, item in wanted.items() if item is None]
    return Wanted(
        dataset.name,
        [(place.object_date, item) for place, item in wanted.items() if item is not None],
        sum(is_needed(dataset, hour) for hour in missing) if dataset.is_hourly else None,
    )


def cost_of(wanted: Wanted, in_lake: AbstractSet[tuple[str, str]], prices: Prices, oldest_kept: date) -> Cost:
    """Return the cost of the needed objects. `in_lake`: key and ETag of objects in the lake. `oldest_kept`: oldest day in
    hl.fills.
    """
    known = [item.size for _, item in wanted.objects if (item.key, item.etag) in in_lake]
    new = [(own, item.size) for own, item in wanted.objects if (item.key, item.etag) not in in_lake]
    sizes = [size for _, size in new]
    return Cost(
        wanted.dataset,
        Amount(len(wanted.objects), sum(known) + sum(sizes)),
        Amount(len(known), sum(known)),
        Amount(len(sizes), sum(sizes)),
        prices.of_downloads(sizes),
        sum(size for own, size in new if own >= oldest_kept),
        wanted.hours_not_there,
    )


def room_for(costs: Collection[Cost]) -> DiskEstimate:
    """Estimate the disk space that the downloads need in the lake and hl.fills."""
    loaded = sum(cost.bytes_to_load for cost in costs)
    return estimate_of_fetched(sum(cost.to_download.bytes for cost in costs), loaded or None)


def draw_up_bill(days: Sequence[date], settings: Settings, reset: AbstractSet[tuple[str, str]]) -> Bill:
    """List the objects that `days` (in order) need and compare them with the lake. Objects in `reset` (dataset and key) count as
    missing. Raises BucketError, also if there is no budget for the listings.
    """
    paid = open_paid_buckets(settings)
    wanted = list_wanted(days, {name: bucket for name, (bucket, _) in paid.items()})
    lake = open_lake(settings.lake)
    prices = prices_of_datasets(settings)
    oldest = oldest_kept(settings)
    kept = [{known for known in find_versions(lake, item) if (item.dataset, known[0]) not in reset} for item in wanted]
    costs = [cost_of(item, known, prices[item.dataset], oldest) for item, known in zip(wanted, kept, strict=True)]
    room = room_for(costs)
    lists = sum(spending.requests for _, spending in paid.values())
    dollars = sum((spending.dollars for _, spending in paid.values()), Decimal(0))
    listed = frozenset((item.dataset, found.key) for item in wanted for _, found in item.objects)
    return Bill(costs, listed, room, find_disks(settings, room), lists, dollars)


def list_wanted(days: Sequence[date], buckets: Mapping[BucketName, Bucket | None]) -> list[Wanted]:
    """List the objects of each dataset that `days` (in order) need; datasets without needed objects are skipped. Raises
    BucketError.
    """
    wanted: list[Wanted] = []
    for dataset in DATASETS:
        bucket = buckets[dataset.bucket]
        dates = wanted_dates(dataset, days)
        listing: Listing = list_dataset(bucket, dataset, dates[0], dates[-1]) if bucket is not None and dates else {}
        wanted.append(want(days, dataset, listing))
    return wanted


def find_versions(lake: Lake, wanted: Wanted) -> set[tuple[str, str]]:
    """Return key and ETag of the lake's objects on the days with needed objects."""
    table = table_of(wanted.dataset)
    present = set(list_days(lake, table.name))

    def read(object_date: date) -> list[tuple[str, str]]:
        metas = table.list_objects(lake, object_date)
        emit(_log, "lake_day_read", level=logging.DEBUG, day=object_date, objects=len(metas))
        return [(meta.key, meta.etag) for meta in metas]

    with ThreadPoolExecutor(_DAYS_READ_AT_ONCE, thread_name_prefix="lake") as pool:
        return {known for of_day in pool.map(read, sorted(present & {own for own, _ in wanted.objects})) for known in of_day}
