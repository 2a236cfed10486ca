"""The datasets: what each is called, which hours or days it has, and what it can prove. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset of the bucket and the hours (UTC, by object) that it has; `last` is None while it goes on.

    After `needed_until` a better source has every fill: an object that is missing there is no hole. Without block numbers
    (`has_blocks`) nothing can prove that an object is complete.
    """

    name: str
    first: datetime
    last: datetime | None
    needed_until: datetime | None
    has_blocks: bool


NODE_TRADES = Source(
    "node_trades",
    datetime(2025, 3, 22, 0, tzinfo=UTC),
    # Listings end on 2025-06-21, but a real object of 2025-06-24 is known: look as long as node_fills goes on.
    datetime(2025, 7, 27, 8, tzinfo=UTC),
    needed_until=datetime(2025, 5, 25, 14, tzinfo=UTC),
    has_blocks=False,
)

NODE_FILLS = Source(
    "node_fills",
    datetime(2025, 5, 25, 14, tzinfo=UTC),
    datetime(2025, 7, 27, 8, tzinfo=UTC),
    needed_until=datetime(2025, 7, 27, 8, tzinfo=UTC),
    has_blocks=False,
)

BY_BLOCK = Source("node_fills_by_block", datetime(2025, 7, 27, 8, tzinfo=UTC), None, needed_until=None, has_blocks=True)

SOURCES = (NODE_TRADES, NODE_FILLS, BY_BLOCK)
"""The datasets of fills, the poorest first. Each begins where the one before is about to end."""


def start_of(day: date) -> datetime:
    """The first moment of a day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


STATUSES = "twap_statuses"
"""What this dataset is called beside those of fills."""

STATUSES_FIRST_DAY = date(2025, 8, 17)
"""The first day that the bucket of statuses is known to have."""


API_FILLS = "api_fills"


API_TWAP_HISTORY = "api_twap_history"


def wanted_hours(day: date, source: Source) -> list[datetime]:
    """The hours whose objects a day wants in any case; none when the source does not have the day."""
    start = start_of(day)
    if source.first >= start + 24 * HOUR:
        return []
    hours = [start + HOUR * n for n in range(25)]
    return [hour for hour in hours if source.first <= hour and (source.last is None or hour <= source.last)]


def is_needed(source: Source, hour: datetime) -> bool:
    """Whether it is a hole when the source's object of that hour is not there."""
    return source.first <= hour and (source.needed_until is None or hour <= source.needed_until)


def days_around(day: date) -> list[date]:
    """The days in whose objects events of `day` may stand: at an edge of the day, or where days are cut in another zone."""
    return [day + timedelta(days=step) for step in (-1, 0, 1)]
