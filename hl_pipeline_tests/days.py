"""Runs a day through the stages without Dagster, in half the time of the assets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import date

import psycopg
import pytest

from hl_pipeline.domain.checks import StageResult
from hl_pipeline.lake.store import Lake, open_lake
from hl_pipeline.settings import Settings
from hl_pipeline.stages.derive import TABLES, make_figures_of_day
from hl_pipeline.stages.fetch_day import fetch_fills, fetch_statuses
from hl_pipeline.stages.load_fills import load_fills
from hl_pipeline.stages.load_statuses import load_statuses_day
from hl_pipeline.stages.make_twaps import make_twaps_of_day
from hl_pipeline.warehouse.connect import connect, find_database_url

Stage = Callable[[date, Lake, psycopg.Connection, Settings], StageResult]

STAGES: dict[str, Stage | None] = {
    "raw_fills": fetch_fills,
    "raw_twap_statuses": fetch_statuses,
    "fills": load_fills,
    "candles": None,
    "daily_stats": None,
    "user_stats": None,
    "builder_stats": None,
    "twap_statuses": load_statuses_day,
    "twaps": lambda day, lake, connection, _: make_twaps_of_day(day, lake, connection),
}
"""The stage of each asset, by asset name, in a possible order. None: made together with others (TABLES)."""


def make_day(environment: Mapping[str, str], day: date, assets: Collection[str] = STAGES.keys()) -> dict[str, StageResult]:
    """Run these stages in the installation that `environment` describes. Returns their results by asset name."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        settings = Settings()
    with connect(find_database_url(settings), "test") as connection:
        lake = open_lake(settings.lake)
        made: dict[str, StageResult] = {}
        for asset in (asset for asset in STAGES if asset in assets):
            if asset in made:
                continue
            stage = STAGES[asset]
            if stage is None:
                made |= make_figures_of_day(day, lake, connection, [table for table in TABLES if table in assets])
            else:
                made[asset] = stage(day, lake, connection, settings)
        return made


def failed_checks(made: Mapping[str, StageResult]) -> set[str]:
    """Return the names of the failed checks."""
    return {check.name for result in made.values() for check in result.checks if not check.passed}
