"""Parses object keys and finds the days that objects affect. Pure. `wanted_objects` selects objects from listings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from hl_pipeline.domain.datasets import (
    API_FILLS,
    BY_NAME,
    DATASETS,
    HOUR,
    Dataset,
    days_around,
    start_of,
    wanted_hours,
)

_FIRST_HOUR = date(2023, 1, 1)
FIRST_SHARD_ID = 4_000_000
"""The object_ids of shards begin here. A multiple of 256: the last byte of such a number is the shard."""

KEY_FORMS = (
    "node_fills_by_block/hourly/20260315/9.lz4 (or node_fills, node_trades; .lz4, .gz, .jsonl, .json or no extension); for TWAP "
    "statuses a key with its day, like 2025/11/03/part-0.parquet, date=2025-11-03/part-0.parquet or hourly/20251103/9.lz4"
)
"""The accepted forms of keys, for error messages."""

_HOURLY = "|".join(dataset.name for dataset in DATASETS if dataset.is_hourly)
_HOURLY_PATH = re.compile(rf"(?:.*/)?({_HOURLY})/hourly/(\d{{8}})/(\d{{1,2}})(?:\.(?:jsonl|json|ndjson))?(\.lz4|\.gz)?", re.ASCII)
# Its keys do not contain the dataset.
[_BY_DAY] = [dataset.name for dataset in DATASETS if not dataset.is_hourly]
_BY_DAY_PATH = re.compile(rf"(?:.*/)?{_BY_DAY}/(.+)")


@dataclass(frozen=True, slots=True)
class Place:
    """The place of an object: its dataset, the day and hour in its key (hour None: none in the key), and the key."""

    dataset: str
    object_date: date
    hour: int | None
    key: str


def place_of_key(key: str) -> Place | None:
    """Parse an object key. Returns None if no dataset has such keys."""
    if (match := _HOURLY_PATH.fullmatch(key)) and key.startswith(match[1]):
        return _hourly_place(match[1], match[2], int(match[3]), key)
    day = day_in_key(key)
    dataset = BY_NAME.get(key.partition("/")[0])
    if day is None or (dataset is not None and dataset.is_hourly):
        return None
    return Place(_BY_DAY, day, hour_in_name(key), key)


def place_in_path(path: str) -> Place | None:
    """Identify the object of a file by its path, which ends like a key (for statuses: after a directory twap_statuses). An
    uncompressed file counts as the object `H.lz4`. Returns None if the path does not identify an object.
    """
    if match := _HOURLY_PATH.fullmatch(path):
        name, day, hour, codec = match.groups()
        return _hourly_place(name, day, int(hour), f"{name}/hourly/{day}/{hour if codec else int(hour)}{codec or '.lz4'}")
    if match := _BY_DAY_PATH.fullmatch(path):
        return place_of_key(match[1])
    return None


def place_of_hour(dataset: str, hour: datetime) -> Place:
    """Return the place of an hour of an hourly dataset, with its key in the bucket."""
    return Place(dataset, hour.date(), hour.hour, f"{dataset}/hourly/{hour:%Y%m%d}/{hour.hour}.lz4")


def object_id_of(dataset: str, object_date: date, hour: int | None) -> int | None:
    """Return the object_id of an hour of a dataset: the dataset's millions plus the hours since 2023, whatever the key.

    It must be the same whenever and wherever the object is recorded. None: objects of the dataset have no ID.
    """
    millions = BY_NAME[dataset].object_id_millions
    if millions is None:
        return None
    assert hour is not None
    return millions * 1_000_000 + (object_date - _FIRST_HOUR).days * 24 + hour


def shard_object_id(day: date, shard: str) -> int:
    """Return the object_id of a shard's fills of a day from the info API, from four million on."""
    return FIRST_SHARD_ID + (day - _FIRST_HOUR).days * 256 + int(shard, 16)


def object_id_of_key(key: str) -> int:
    """Return the object_id for the key of an object of fills or of a shard. Raises ValueError for other keys."""
    if (of_shard := shard_of_key(key)) is not None:
        return shard_object_id(of_shard[1], f"{of_shard[2]:02x}")
    place = place_of_key(key)
    number = None if place is None else object_id_of(place.dataset, place.object_date, place.hour)
    if number is None:
        raise ValueError(f"{key}: not the key of an object of fills")
    return number


def lock_name(place: Place) -> str:
    """Return the name of the lock on an object: a key that begins with its dataset."""
    return place.key if BY_NAME[place.dataset].is_hourly else f"{place.dataset} {place.key}"


def _hourly_place(dataset: str, day: str, hour: int, key: str) -> Place | None:
    if hour > 23:
        return None
    with suppress(ValueError):
        return Place(dataset, datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date(), hour, key)
    return None


def days_that_want(place: Place) -> list[date]:
    """Return the days that need the object, including its own. Empty if its dataset does not have the hour."""
    dataset = BY_NAME[place.dataset]
    if not dataset.is_hourly:
        return days_around(place.object_date)
    assert place.hour is not None
    hour = start_of(place.object_date) + place.hour * HOUR
    return [day for day in (hour.date() - timedelta(days=1), hour.date()) if hour in wanted_hours(day, dataset)]


def choose_days(
    places: Iterable[Place], begun: AbstractSet[date], first: date | None, last: date | None, newest: date
) -> list[date]:
    """Return the days from `first` to `last`, up to `newest`, that the objects affect: the day in each key, and an adjacent day
    that needs the object if it was requested before. Any other adjacent day would be fetched completely for a few rows; it takes
    the object when it is requested.
    """
    touched = {day for place in places for day in days_that_want(place) if day == place.object_date or day in begun}
    return sorted(day for day in touched if (first or day) <= day <= min(last or newest, newest))


def days_to_list(dataset: Dataset, first: date | None, last: date | None, newest: date) -> tuple[date, date] | None:
    """Return the first and last day to list for objects of the days from `first` to `last`, or None if there are none. Datasets
    that are not hourly can have them on any day.
    """
    if not dataset.is_hourly:
        return date.min, newest
    low = max(dataset.first.date(), first or date.min)
    high = newest if last is None else min(last + timedelta(days=1), newest)
    if dataset.last is not None:
        high = min(high, dataset.last.date())
    return (low, high) if low <= high else None


# The layout of TWAP statuses is not documented, so all reported and usual forms are accepted.
_DAY_IN_KEY = re.compile(
    r"date=(\d{4})-(\d\d)-(\d\d)|year=(\d{4})/month=(\d\d?)/day=(\d\d?)|(?<!\d)(\d{4})/(\d\d)/(\d\d)(?!\d)"
    r"|(?<!\d)(\d{4})-(\d\d)-(\d\d)(?!\d)|(?<!\d)(\d{4})(\d\d)(\d\d)(?!\d)",
    re.ASCII,
)

_HOUR_OF_LINES = re.compile(r"(?:.*/)?(\d{1,2})(?:\.jsonl|\.json|\.ndjson)?(?:\.lz4|\.gz)?", re.ASCII)


def hour_in_name(key: str) -> int | None:
    """Return the hour if an object of lines is named by one."""
    match = _HOUR_OF_LINES.fullmatch(key)
    return int(match[1]) if match and int(match[1]) <= 23 else None


def day_in_key(key: str) -> date | None:
    """Return the first day (2023 to 2199) in a key."""
    for match in _DAY_IN_KEY.finditer(key):
        year, month, day = (int(part) for part in match.groups() if part)
        with suppress(ValueError):
            found = date(year, month, day)
            if 2023 <= found.year <= 2199:
                return found
    return None


def shard_of_key(key: str) -> tuple[str, date, int] | None:
    """Return source, day and shard number from the key of a shard's file, or None for other keys."""
    place = re.fullmatch(rf"{API_FILLS}/date=(\d{{4}}-\d\d-\d\d)/shard=([0-9a-f]{{2}})\.parquet", key)
    return None if place is None else (API_FILLS, date.fromisoformat(place[1]), int(place[2], 16))
