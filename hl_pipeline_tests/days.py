"""A day through the stages, without Dagster: what the assets do, in half of their time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import date

import psycopg
import pytest

from hl_pipeline.domain.checks import StageResult
from hl_pipeline.lake.store import Lake, open_lake
from hl_pipeline.settings import Settings
from hl_pipeline.stages.derive import DAILY, USER, make_candles_of_day, make_statistics_of_day
from hl_pipeline.stages.fetch_day import fetch_fills, fetch_statuses
from hl_pipeline.stages.load_fills import load_fills
from hl_pipeline.stages.load_statuses import load_statuses_day
from hl_pipeline.stages.make_twaps import make_twaps_of_day
from hl_pipeline.warehouse.connect import connect, find_database_url

Stage = Callable[[date, Lake, psycopg.Connection, Settings], StageResult]

STAGES: dict[str, Stage] = {
    "raw_fills": fetch_fills,
    "raw_twap_statuses": fetch_statuses,
    "fills": load_fills,
    "candles": lambda day, lake, connection, _: make_candles_of_day(day, lake, connection),
    "daily_stats": lambda day, lake, connection, _: make_statistics_of_day(day, lake, connection, DAILY),
    "user_stats": lambda day, lake, connection, _: make_statistics_of_day(day, lake, connection, USER),
    "twap_statuses": load_statuses_day,
    "twaps": lambda day, lake, connection, _: make_twaps_of_day(day, lake, connection),
}
"""What each asset does, by its name, in an order in which they can run."""


def make_day(environment: Mapping[str, str], day: date, assets: Collection[str] = STAGES.keys()) -> dict[str, StageResult]:
    """What these stages returned in an installation that `environment` describes, by the name of their asset."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        settings = Settings()
    with connect(find_database_url(settings), "test") as connection:
        lake = open_lake(settings.lake)
        return {asset: stage(day, lake, connection, settings) for asset, stage in STAGES.items() if asset in assets}


def failed_checks(made: Mapping[str, StageResult]) -> set[str]:
    """The names of the checks that did not pass."""
    return {check.name for result in made.values() for check in result.checks if not check.passed}
