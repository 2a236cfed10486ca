"""Finds objects by modification time, by key, or in the lake by day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime

from hl_pipeline.domain.completeness import hour_of
from hl_pipeline.domain.datasets import BUCKETS, BY_NAME, DATASETS, FILL_DATASETS, wanted_hours
from hl_pipeline.domain.object_keys import KEY_FORMS, Place, days_that_want, days_to_list, place_of_key
from hl_pipeline.domain.records import StoredObject
from hl_pipeline.domain.wanted_objects import Listing
from hl_pipeline.lake.store import Lake
from hl_pipeline.settings import Settings
from hl_pipeline.sources.bucket_settings import settings_of
from hl_pipeline.sources.buckets import list_dataset
from hl_pipeline.stages.paid_buckets import open_paid_bucket, open_paid_buckets
from hl_pipeline.stages.raw_tables import RAW_FILLS, RAW_TWAP_STATUSES


class NoSuchObjectError(ValueError):
    """A key is invalid or its object does not exist. The message has the key and the accepted forms."""


def list_modified_since(settings: Settings, moment: datetime, first: date | None, last: date | None, newest: date) -> list[Place]:
    """List the objects of days from `first` to `last` that were added to the buckets at `moment` or later. Raises BucketError."""
    places: list[Place] = []
    paid = open_paid_buckets(settings)
    for dataset in DATASETS:
        days = days_to_list(dataset, first, last, newest)
        bucket, _ = paid[dataset.bucket]
        if days is not None and bucket is not None:
            listing = list_dataset(bucket, dataset, *days)
            new = [(day, item) for day, items in listing.items() for item in items if item.modified >= moment]
            places += [Place(dataset.name, day, item.hour, item.key) for day, item in new]
    return places


def look_up(settings: Settings, keys: Iterable[str]) -> list[Place]:
    """Look up objects by keys, each with or without the URL of its bucket. Raises NoSuchObjectError if an object is not in its
    bucket, and BucketError if the bucket cannot be listed.
    """
    places = [place_of_given(key, settings) for key in keys]
    for place in places:
        dataset = BY_NAME[place.dataset]
        bucket, _ = open_paid_bucket(dataset.bucket, settings)
        listing: Listing = {} if bucket is None else list_dataset(bucket, dataset, place.object_date, place.object_date)
        listed = [item.key for item in listing.get(place.object_date, [])]
        if place.key not in listed:
            url = settings_of(dataset.bucket, settings).url
            near = ", ".join(listed) or "none"
            raise NoSuchObjectError(f"{place.key} is not in {url}; its objects of that day: {near}")
    return places


def place_of_given(key: str, settings: Settings) -> Place:
    """Parse a key given by the user, with or without the URL of its bucket. Raises NoSuchObjectError."""
    bare = key
    for bucket in BUCKETS:
        bare = bare.removeprefix(f"{settings_of(bucket, settings).url.rstrip('/')}/")
    place = place_of_key(bare)
    if place is None:
        raise NoSuchObjectError(f"{key} is not a known form of key; known forms are {KEY_FORMS}")
    if not days_that_want(place):
        raise NoSuchObjectError(f"{key}: {_describe_span(place.dataset)}")
    return place


def list_in_lake(lake: Lake, days: Sequence[date]) -> list[StoredObject]:
    """Return the objects in the lake that these days need: for fills, those of their hours and the hour after; for statuses,
    those with such a day in their key.
    """
    wanted = {(source.name, hour) for day in days for source in FILL_DATASETS for hour in wanted_hours(day, source)}
    dates = sorted({hour.date() for _, hour in wanted})
    fills = [meta for own in dates for meta in RAW_FILLS.list_objects(lake, own) if (meta.source, hour_of(meta)) in wanted]
    return [*fills, *(meta for own in days for meta in RAW_TWAP_STATUSES.list_objects(lake, own))]


def _describe_span(name: str) -> str:
    dataset = BY_NAME[name]
    end = "today" if dataset.last is None else f"{dataset.last:%Y-%m-%d %H} h"
    return f"{name} has hours from {dataset.first:%Y-%m-%d %H} h to {end}"
