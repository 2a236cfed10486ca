"""Pipeline runs in separate processes, to be killed. A server that has imported everything forks them, so they start at once.

A run dies by SIGKILL at an event of the pipeline's own log, or after a time.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from hl_pipeline.events import is_event
from hl_pipeline.lake.store import open_lake
from hl_pipeline.settings import NONE, Settings
from hl_pipeline.sources.open import open_info_api
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.stages.derive import make_figures_of_day
from hl_pipeline.stages.fetch import fetch_day
from hl_pipeline.stages.fetch_shards import WalletSelection, fetch_shard
from hl_pipeline.stages.load_fills import load_objects
from hl_pipeline.stages.load_statuses import load_statuses_day
from hl_pipeline.stages.make_twaps import make_twaps_of_day
from hl_pipeline.stages.raw_tables import RAW_FILLS, RAW_TWAP_STATUSES
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.servers.info_api import FreeBudget

_Where = TypeVar("_Where")
_What = TypeVar("_What")
_MOST_SECONDS = 120
_context = multiprocessing.get_context("forkserver")
# Nothing that starts threads, as importing `lake.compacted_fills` does: a fork of a process with threads hangs.
_context.set_forkserver_preload(["hl_pipeline_tests.killable_runs"])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run reads and writes."""

    bucket: Path
    lake: Path
    database_url: str
    statuses: Path | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """When to die: `seconds` after the `count`th `event`, or after the start if there is no event."""

    event: str | None
    count: int = 1
    seconds: float = 0.0


class _Reaper(logging.Handler):
    def __init__(self, death: Death) -> None:
        super().__init__()
        self._death = death
        self._left = death.count

    def emit(self, record: logging.LogRecord) -> None:
        if is_event(record) and record.event == self._death.event:
            self._left -= 1
            if self._left == 0:
                _die_after(self._death.seconds)


def _die_after(seconds: float) -> None:
    if seconds == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


def ingest(place: Place, day: date) -> None:
    """Load a day from the bucket into the database, like raw_fills and fills. With TWAP statuses, run the later stages too."""
    lake = open_lake(str(place.lake))
    with connect(place.database_url, "test run") as connection:
        settings = Settings(
            database_url=SecretStr(place.database_url),
            lake_url=str(place.lake),
            node_data_url=str(place.bucket),
            twap_data_url=NONE if place.statuses is None else str(place.statuses),
            swap_wait_seconds=60,
        )
        fetch_day(RAW_FILLS, day, lake, settings)
        load_objects(day, lake, connection, settings)
        if place.statuses is not None:
            dict(make_figures_of_day(day, lake, connection))
            fetch_day(RAW_TWAP_STATUSES, day, lake, settings)
            load_statuses_day(day, lake, connection, settings)
            make_twaps_of_day(day, lake, connection)


def fetch(place: Place, day: date) -> None:
    """Fetch the objects of a day into the lake, and load nothing, like raw_fills and raw_twap_statuses."""
    settings = Settings(
        database_url=SecretStr(place.database_url),
        lake_url=str(place.lake),
        node_data_url=str(place.bucket),
        twap_data_url=NONE if place.statuses is None else str(place.statuses),
    )
    fetch_day(RAW_FILLS, day, open_lake(settings.lake), settings)
    if place.statuses is not None:
        fetch_day(RAW_TWAP_STATUSES, day, open_lake(settings.lake), settings)


def compact(place: Place, day: date) -> None:
    """Compact a loaded day and publish it, like fills_compacted."""
    with connect(place.database_url, "test compaction") as connection:
        compact_day(day, open_lake(str(place.lake)), connection)


def backfill_shard(settings: Settings, shard: str) -> None:
    """Fetch a shard of wallets from the info API, like raw_api_fills. The budget of weight has tests of its own."""
    assert settings.database_url is not None
    with connect(settings.database_url.get_secret_value(), "test backfill") as connection:
        api = open_info_api(settings, FreeBudget())
        fetch_shard(shard, WalletSelection(), api, open_lake(settings.lake), connection, settings)


def _run(where: _Where, what: _What, death: Death | None, work: Callable[[_Where, _What], None]) -> None:
    logger = logging.getLogger("hl_pipeline")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(logging.NullHandler())  # otherwise warnings go to the terminal
    if death is not None and death.event is None:
        _die_after(death.seconds)
    elif death is not None:
        logger.addHandler(_Reaper(death))
    work(where, what)


def start(place: Place, day: date, death: Death | None = None) -> BaseProcess:
    """Start an ingest in a separate process."""
    return _start(place, day, death, ingest)


def _start(where: _Where, what: _What, death: Death | None, work: Callable[[_Where, _What], None]) -> BaseProcess:
    process = _context.Process(target=_run, args=(where, what, death, work))
    process.start()
    return process


def run(where: _Where, what: _What, death: Death | None = None, work: Callable[[_Where, _What], None] = ingest) -> int:
    """Wait for a run to end. Returns its exit code (-9 if it was killed). `work`: what it does, by default an ingest."""
    process = _start(where, what, death, work)
    process.join(_MOST_SECONDS)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"the run did not end within {_MOST_SECONDS} s")
    return process.exitcode
