"""Objects that somebody asks for: by when the buckets got them, by their keys, or those that the lake has of some days."""

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
    """A key names no object that is there, or none at all. The message names it, and what is accepted."""


def list_modified_since(settings: Settings, moment: datetime, first: date | None, last: date | None, newest: date) -> list[Place]:
    """The objects of the days from `first` to `last` that the buckets got at `moment` or later. Raises BucketError."""
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
    """The objects with these keys, each with or without the URL of its bucket before it. Raises NoSuchObjectError for what is
    not in its bucket, BucketError when that cannot be listed.
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
            raise NoSuchObjectError(f"{place.key} is not in {url}; the objects of that day there: {near}")
    return places


def place_of_given(key: str, settings: Settings) -> Place:
    """Where the object stands whose key somebody gave, with or without the URL of its bucket. Raises NoSuchObjectError."""
    bare = key
    for bucket in BUCKETS:
        bare = bare.removeprefix(f"{settings_of(bucket, settings).url.rstrip('/')}/")
    place = place_of_key(bare)
    if place is None:
        raise NoSuchObjectError(f"{key} is not an object key of a known form. Known forms: {KEY_FORMS}")
    if not days_that_want(place):
        raise NoSuchObjectError(f"{key}: {_describe_span(place.dataset)}")
    return place


def list_in_lake(lake: Lake, days: Sequence[date]) -> list[StoredObject]:
    """The objects in the lake that these days want: of fills those of their hours and of the one after, of statuses those with
    such a day in their key.
    """
    wanted = {(source.name, hour) for day in days for source in FILL_DATASETS for hour in wanted_hours(day, source)}
    dates = sorted({hour.date() for _, hour in wanted})
    fills = [meta for own in dates for meta in RAW_FILLS.list_objects(lake, own) if (meta.source, hour_of(meta)) in wanted]
    return [*fills, *(meta for own in days for meta in RAW_TWAP_STATUSES.list_objects(lake, own))]


def _describe_span(name: str) -> str:
    dataset = BY_NAME[name]
    end = "today" if dataset.last is None else f"{dataset.last:%Y-%m-%d %H} h"
    return f"{name} has hours from {dataset.first:%Y-%m-%d %H} h to {end}"
