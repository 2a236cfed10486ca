"""The partitions of the assets: one daily definition for all daily assets, because a job or a run cannot mix two, and the shards
of wallets.
"""

from datetime import date, timedelta

from dagster import DailyPartitionsDefinition, StaticPartitionsDefinition

from hl_pipeline.domain.shards import SHARDS as _SHARDS

# end_offset adds the current day, whose objects arrive during the day.
DAYS = DailyPartitionsDefinition("2023-02-26", end_offset=1)
SHARDS = StaticPartitionsDefinition(list(_SHARDS))


def days_between(first: date, last: date) -> list[date]:
    """Return every day from `first` to `last`, both inclusive."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
