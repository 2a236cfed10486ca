"""Runs days with TWAPs through the stages into a lake and a database, and reads the result."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from hl_pipeline_tests.days import STAGES, make_day
from hl_pipeline_tests.naive import twaps as naive_twaps
from hl_pipeline_tests.naive.statistics import Leg, Row
from hl_pipeline_tests.naive.twaps import Loaded, Status

RAW = ["raw_fills", "raw_twap_statuses"]
FROM_LAKE = ["fills", "candles", "twap_statuses", "twaps"]


@dataclass(frozen=True, slots=True)
class Written:
    """A generated bucket of each kind, and the data that it was made from."""

    days: tuple[date, ...]
    fills: Path
    statuses: Path
    legs: list[Leg]
    told: list[Status]
    kinds: dict[str, list[int]]
    found: dict[frozenset[date], dict[int, Row]] = field(default_factory=dict)

    def naive(self, days: Iterable[date]) -> dict[int, Row]:
        """Return the expected TWAPs when these days are loaded. They are computed once."""
        key = frozenset(days)
        if key not in self.found:
            self.found[key] = naive_twaps.twaps(self.told, self.legs, dict.fromkeys(key, Loaded()))
        return self.found[key]


@dataclass(frozen=True, slots=True)
class Place:
    """A lake and a database."""

    lake: Path
    database_url: str


def environment_of(place: Place, written: Written) -> dict[str, str]:
    return {
        "HL_HOME": str(place.lake.with_name("home")),
        "HL_DATABASE_URL": place.database_url,
        "HL_LAKE_URL": str(place.lake),
        "HL_NODE_DATA_URL": str(written.fills),
        "HL_TWAP_DATA_URL": str(written.statuses),
    }


def make_twap_day(place: Place, written: Written, day: date, assets: Collection[str] = STAGES.keys()) -> None:
    make_day(environment_of(place, written), day, assets)


def query(place: Place, sql: str) -> list[Row]:
    with psycopg.connect(place.database_url, options="-c timezone=UTC") as connection:
        return connection.cursor(row_factory=dict_row).execute(sql.encode()).fetchall()


def stored_twaps(place: Place) -> dict[int, Row]:
    rows = query(place, "SELECT * FROM hl.twaps ORDER BY twap_id")
    return {row.pop("twap_id"): row for row in rows}


def assert_equal(stored: dict[Any, Row], expected: dict[Any, Row]) -> None:
    assert sorted(stored) == sorted(expected)
    assert all(row.keys() == expected[twap_id].keys() for twap_id, row in stored.items())
    both = [(twap_id, name, row[name], expected[twap_id][name]) for twap_id, row in stored.items() for name in row]
    assert [found for found in both if found[2] != found[3]] == []


def status_key(status: Row) -> Any:
    return status["twap_id"], status["time_ns"], status["status"]
