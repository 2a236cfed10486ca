"""Objects that somebody asks for: by when the buckets got them, by their keys, or those that the lake has of some days."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime

from hl_pipeline.domain.completeness import hour_of
from hl_pipeline.domain.datasets import SOURCES, STATUSES, wanted_hours
from hl_pipeline.domain.object_keys import KEY_FORMS, Place, days_that_want, hours_to_list, place_of_key
from hl_pipeline.domain.records import ObjectMeta, StatusObject
from hl_pipeline.lake.fills import list_raw_objects, raw_path, read_object_meta
from hl_pipeline.lake.store import Lake
from hl_pipeline.lake.twaps import list_status_objects, read_status_object_meta, status_object_path
from hl_pipeline.settings import Settings
from hl_pipeline.sources.buckets import Bucket, list_days, list_hours, list_twap_objects
from hl_pipeline.sources.open import open_node_data, open_twap_data
from hl_pipeline.warehouse.spending import Spending


class NoSuchObjectError(ValueError):
    """A key names no object that is there, or none at all. The message names it, and what is accepted."""


def list_modified_since(settings: Settings, moment: datetime, first: date | None, last: date | None, newest: date) -> list[Place]:
    """The objects of the days from `first` to `last` that the buckets got at `moment` or later. Raises BucketError."""
    found: list[Place] = []
    node_data, twap_data = _open_node_data(settings), _open_twap_data(settings)
    for source in SOURCES:
        if (span := hours_to_list(source, first, last, newest)) is None:
            continue
        for day, hours in list_days(node_data, source.name, *span).items():
            new = {hour: item for hour, item in hours.items() if item.modified >= moment}
            found += [Place(source.name, day, hour, item.key) for hour, item in new.items()]
    for day, items in (list_twap_objects(twap_data) if twap_data else {}).items():
        found += [Place(STATUSES, day, item.hour, item.key) for item in items if item.modified >= moment]
    return found


def look_up(settings: Settings, keys: Iterable[str]) -> list[Place]:
    """The objects with these keys, each with or without the URL of its bucket before it. Raises NoSuchObjectError for what is
    not in its bucket, BucketError when that cannot be listed.
    """
    places = [place_of_given(key, settings) for key in keys]
    for place in places:
        if place.dataset == STATUSES:
            twap_data = _open_twap_data(settings)
            there = [] if twap_data is None else list_twap_objects(twap_data).get(place.object_date, [])
            url = settings.twap_data_url
        else:
            there = list(list_hours(_open_node_data(settings), place.dataset, place.object_date).values())
            url = settings.node_data_url
        if place.key not in {item.key for item in there}:
            near = ", ".join(item.key for item in there) or "none"
            raise NoSuchObjectError(f"{place.key} is not in {url}; the objects of that day there: {near}")
    return places


def place_of_given(key: str, settings: Settings) -> Place:
    """Where the object stands whose key somebody gave, with or without the URL of its bucket. Raises NoSuchObjectError."""
    bare = key
    for url in (settings.node_data_url, settings.twap_data_url):
        bare = bare.removeprefix(f"{url.rstrip('/')}/")
    place = place_of_key(bare)
    if place is None:
        raise NoSuchObjectError(f"{key} is no key of a known form; known are {KEY_FORMS}")
    if not days_that_want(place):
        raise NoSuchObjectError(f"{key}: {_describe_span(place.dataset)}")
    return place


def find_in_lake(lake: Lake, place: Place) -> ObjectMeta | StatusObject | None:
    """What the lake has in that place."""
    if place.dataset == STATUSES:
        return read_status_object_meta(lake, status_object_path(place.object_date, place.key))
    assert place.hour is not None
    return read_object_meta(lake, raw_path(place.object_date, place.hour, place.dataset))


def list_in_lake(lake: Lake, days: Sequence[date]) -> list[ObjectMeta | StatusObject]:
    """The objects in the lake that these days want: of fills those of their hours and of the one after, of statuses those with
    such a day in their key.
    """
    wanted = {(source.name, hour) for day in days for source in SOURCES for hour in wanted_hours(day, source)}
    dates = sorted({hour.date() for _, hour in wanted})
    fills = [meta for own in dates for meta in list_raw_objects(lake, own) if (meta.source, hour_of(meta)) in wanted]
    return [*fills, *(meta for own in days for meta in list_status_objects(lake, own))]


def _describe_span(dataset: str) -> str:
    [source] = [source for source in SOURCES if source.name == dataset]
    end = "today" if source.last is None else f"{source.last:%Y-%m-%d %H} h"
    return f"{dataset} has hours from {source.first:%Y-%m-%d %H} h to {end}"


def _open_node_data(settings: Settings) -> Bucket:
    spending = Spending(settings, settings.node_data_price_per_gb)
    return open_node_data(settings, spending)


def _open_twap_data(settings: Settings) -> Bucket | None:
    spending = Spending(settings, settings.twap_data_price_per_gb)
    return open_twap_data(settings, spending)
