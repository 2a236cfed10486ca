"""The partitions of the assets: one definition of days for all that are of days, since a job or a run cannot mix two; and shards
of wallets.
"""

from datetime import date, timedelta

from dagster import DailyPartitionsDefinition, StaticPartitionsDefinition

from hl_pipeline.domain.shards import SHARDS as _SHARDS

# With end_offset the current day is there: its objects land while it goes on.
DAYS = DailyPartitionsDefinition("2023-02-26", end_offset=1)
SHARDS = StaticPartitionsDefinition(list(_SHARDS))


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
