"""Which object a key names, and which days objects touch: pure. Where objects are looked for is the matter of `find_objects`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from hl_pipeline.domain.datasets import API_FILLS, HOUR, SOURCES, STATUSES, Source, days_around, start_of, wanted_hours

KEY_FORMS = (
    "node_fills_by_block/hourly/20260315/9.lz4 (or node_fills, node_trades; .lz4 or .gz), or of TWAP statuses a key with its "
    "day, like 2025/11/03/part-0.parquet, date=2025-11-03/part-0.parquet or hourly/20251103/9.lz4"
)
"""What keys look like, for those who gave another."""

_NAMES = {source.name: source for source in SOURCES}
_ANY_SOURCE = "|".join(_NAMES)
_FILLS_KEY = re.compile(rf"({_ANY_SOURCE})/hourly/(\d{{8}})/(\d{{1,2}})\.(?:lz4|gz)", re.ASCII)
_FILLS_PATH = re.compile(
    rf"(?:.*/)?({_ANY_SOURCE})/hourly/(\d{{8}})/(\d{{1,2}})(?:\.(?:jsonl|json|ndjson))?(\.lz4|\.gz)?", re.ASCII
)
_STATUSES_PATH = re.compile(r"(?:.*/)?twap_statuses/(.+)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object stands: its dataset, the day in its key, its hour (None: the key has none), and the key."""

    dataset: str
    object_date: date
    hour: int | None
    key: str


def place_of_key(key: str) -> Place | None:
    """Where the object with that key stands; None when objects of no dataset are named so."""
    if match := _FILLS_KEY.fullmatch(key):
        return _place_of_fills(match[1], match[2], int(match[3]), key)
    day = day_in_key(key)
    if day is None or key.partition("/")[0] in _NAMES:
        return None
    return Place(STATUSES, day, hour_in_name(key), key)


def place_in_path(path: str) -> Place | None:
    """The object that a file is by its path, which ends like a key (of statuses: after a directory twap_statuses); a file that
    is not compressed any more stands for the object `H.lz4`. None when the path does not tell.
    """
    if match := _FILLS_PATH.fullmatch(path):
        source, day, hour, codec = match.groups()
        return _place_of_fills(source, day, int(hour), f"{source}/hourly/{day}/{hour if codec else int(hour)}{codec or '.lz4'}")
    if match := _STATUSES_PATH.fullmatch(path):
        return place_of_key(match[1])
    return None


def place_of_hour(source: str, hour: datetime) -> Place:
    """The object of an hour of a dataset of fills, as the bucket names it."""
    return Place(source, hour.date(), hour.hour, f"{source}/hourly/{hour:%Y%m%d}/{hour.hour}.lz4")


def _place_of_fills(source: str, day: str, hour: int, key: str) -> Place | None:
    if hour > 23:
        return None
    with suppress(ValueError):
        return Place(source, datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date(), hour, key)
    return None


def days_that_want(place: Place) -> list[date]:
    """The days that want the object, its own among them. Empty when its dataset has no such hour."""
    if place.dataset == STATUSES:
        return days_around(place.object_date)
    assert place.hour is not None
    hour = start_of(place.object_date) + place.hour * HOUR
    return [day for day in (hour.date() - timedelta(days=1), hour.date()) if hour in wanted_hours(day, _NAMES[place.dataset])]


def choose_days(
    places: Iterable[Place], begun: AbstractSet[date], first: date | None, last: date | None, newest: date
) -> list[date]:
    """The days from `first` to `last` that the objects touch, none after `newest`: the day in an object's key, and a day beside
    it that wants the object too where that was begun before. One that was not would be fetched as a whole for the few rows of it
    that stand in its neighbour's object, and takes this object when somebody asks for it.
    """
    touched = {day for place in places for day in days_that_want(place) if day == place.object_date or day in begun}
    return sorted(day for day in touched if (first or day) <= day <= min(last or newest, newest))


def hours_to_list(source: Source, first: date | None, last: date | None, newest: date) -> tuple[date, date] | None:
    """The first and the last day of a dataset in which objects of the days from `first` to `last` can stand; None: in none."""
    low = max(source.first.date(), first or date.min)
    high = newest if last is None else min(last + timedelta(days=1), newest)
    if source.last is not None:
        high = min(high, source.last.date())
    return (low, high) if low <= high else None


# The layout of TWAP statuses is not documented: every form that is told of, or usual.
_DAY_IN_KEY = re.compile(
    r"date=(\d{4})-(\d\d)-(\d\d)|year=(\d{4})/month=(\d\d?)/day=(\d\d?)|(?<!\d)(\d{4})/(\d\d)/(\d\d)(?!\d)"
    r"|(?<!\d)(\d{4})-(\d\d)-(\d\d)(?!\d)|(?<!\d)(\d{4})(\d\d)(\d\d)(?!\d)",
    re.ASCII,
)

_HOUR_OF_LINES = re.compile(r"(?:.*/)?(\d{1,2})(?:\.jsonl|\.json|\.ndjson)?(?:\.lz4|\.gz)?", re.ASCII)


def hour_in_name(key: str) -> int | None:
    """The hour that the name of an object of lines is, if it is one."""
    match = _HOUR_OF_LINES.fullmatch(key)
    return int(match[1]) if match and int(match[1]) <= 23 else None


def day_in_key(key: str) -> date | None:
    """The first day (2023 to 2199) that stands in a key."""
    for match in _DAY_IN_KEY.finditer(key):
        year, month, day = (int(part) for part in match.groups() if part)
        with suppress(ValueError):
            found = date(year, month, day)
            if 2023 <= found.year <= 2199:
                return found
    return None


def shard_of_key(key: str) -> tuple[str, date, int] | None:
    """Source, day and number of the shard by the key of its file; None: it is the key of something else."""
    place = re.fullmatch(rf"{API_FILLS}/date=(\d{{4}}-\d\d-\d\d)/shard=([0-9a-f]{{2}})\.parquet", key)
    return None if place is None else (API_FILLS, date.fromisoformat(place[1]), int(place[2], 16))
