"""Which of a bucket's listed objects days want, whatever the dataset: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime

from hl_pipeline.domain.datasets import Dataset, days_around, wanted_hours
from hl_pipeline.domain.object_keys import Place, place_of_hour
from hl_pipeline.domain.records import SourceObject

Listing = Mapping[date, Sequence[SourceObject]]
"""The objects of a dataset that its bucket has, by the day in their key; of an hourly one at most one an hour."""

Wanted = dict[Place, SourceObject | None]
"""What is wanted of a dataset, each object once, in order. None: the hour is wanted, and its object is not listed."""


def wanted_dates(dataset: Dataset, days: Iterable[date]) -> list[date]:
    """The days, in order, in whose objects the events of `days` can stand; none when the dataset is known to have none of them.
    Of one that is not hourly nobody knows which it has.
    """
    if dataset.is_hourly:
        return sorted({hour.date() for day in days for hour in wanted_hours(day, dataset)})
    return sorted({near for day in days for near in days_around(day)})


def wanted_objects(dataset: Dataset, days: Iterable[date], listing: Listing) -> Wanted:
    """What `days` want of a dataset."""
    if dataset.is_hourly:
        return objects_of_hours(dataset, sorted({hour for day in days for hour in wanted_hours(day, dataset)}), listing)
    dates = wanted_dates(dataset, days)
    return {Place(dataset.name, own, item.hour, item.key): item for own in dates for item in listing.get(own, [])}


def objects_of_hours(dataset: Dataset, hours: Iterable[datetime], listing: Listing) -> Wanted:
    """The objects of some hours of an hourly dataset."""
    wanted: Wanted = {}
    by_hour: dict[date, dict[int | None, SourceObject]] = {}
    for hour in hours:
        if hour.date() not in by_hour:
            by_hour[hour.date()] = {item.hour: item for item in listing.get(hour.date(), [])}
        item = by_hour[hour.date()].get(hour.hour)
        place = place_of_hour(dataset.name, hour)
        wanted[place if item is None else Place(dataset.name, place.object_date, place.hour, item.key)] = item
    return wanted
