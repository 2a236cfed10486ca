"""Selects the listed objects that days need, for every dataset. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime

from hl_pipeline.domain.datasets import Dataset, days_around, wanted_hours
from hl_pipeline.domain.object_keys import Place, place_of_hour
from hl_pipeline.domain.records import SourceObject

Listing = Mapping[date, Sequence[SourceObject]]
"""The listed objects of a dataset by the day in their key; of an hourly dataset, at most one per hour."""

Wanted = dict[Place, SourceObject | None]
"""The needed objects of a dataset, each once, in order. None: the hour is needed, but its object is not listed."""


def wanted_dates(dataset: Dataset, days: Iterable[date]) -> list[date]:
    """Return the days, in order, whose objects can have events of `days`; none if the dataset does not cover them. Datasets that
    are not hourly can have any day.
    """
    if dataset.is_hourly:
        return sorted({hour.date() for day in days for hour in wanted_hours(day, dataset)})
    return sorted({near for day in days for near in days_around(day)})


def wanted_objects(dataset: Dataset, days: Iterable[date], listing: Listing) -> Wanted:
    """Return the objects of a dataset that `days` need."""
    if dataset.is_hourly:
        return objects_of_hours(dataset, sorted({hour for day in days for hour in wanted_hours(day, dataset)}), listing)
    dates = wanted_dates(dataset, days)
    return {Place(dataset.name, own, item.hour, item.key): item for own in dates for item in listing.get(own, [])}


def objects_of_hours(dataset: Dataset, hours: Iterable[datetime], listing: Listing) -> Wanted:
    """Return the objects of the given hours of an hourly dataset."""
    wanted: Wanted = {}
    by_hour: dict[date, dict[int | None, SourceObject]] = {}
    for hour in hours:
        if hour.date() not in by_hour:
            by_hour[hour.date()] = {item.hour: item for item in listing.get(hour.date(), [])}
        item = by_hour[hour.date()].get(hour.hour)
        place = place_of_hour(dataset.name, hour)
        wanted[place if item is None else Place(dataset.name, place.object_date, place.hour, item.key)] = item
    return wanted
