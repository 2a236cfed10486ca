"""The partitions of the assets: one definition of days for all of them, since a job or a run cannot mix two."""

from dagster import DailyPartitionsDefinition

# With end_offset the current day is there: its objects land while it goes on.
DAYS = DailyPartitionsDefinition("2023-02-26", end_offset=1)
