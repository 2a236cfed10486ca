"""Readers while a day is replaced 200 times, kills among them: each read is one version of the day, and none goes back."""

from __future__ import annotations

import json
import signal
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from random import Random

import lz4.frame
import psycopg
import pytest
from pydantic import SecretStr

from hl_pipeline.lake.fills import changing_path
from hl_pipeline.lake.store import Lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.stages.fetch_day import fetch_fills
from hl_pipeline.stages.load_fills import load_fills
from hl_pipeline.stages.vacuum import vacuum
from hl_pipeline_tests.killable_runs import Death, Place, compact, run
from hl_pipeline_tests.lake_readers import Seen, Source, State, reading, state_of
from hl_pipeline_tests.naive.fills import event_day, read_bucket

DAY = date(2026, 3, 15)
_REPLACEMENTS = 200
_COMPACTION_KILLED_EVERY = 8
_LOAD_KILLED_EVERY = 16
_LEAST_KILLS = 20


class _Versions:
    """A day of two hours whose versions differ in both: in the number of fills, and in a size. `states`: one for each."""

    def __init__(self, directory: Path) -> None:
        self.bucket = write_sample(directory, first_day=DAY, hours=2, fills_per_hour=60).node_data_dir
        self._objects = [self.bucket / f"node_fills_by_block/hourly/20260315/{hour}.lz4" for hour in (0, 1)]
        self._lines = [lz4.frame.decompress(path.read_bytes()).splitlines() for path in self._objects]
        self.states: list[State] = []
        for version in range(_REPLACEMENTS + 1):
            self.write(version)
            fills = [fill for _, _, fill in read_bucket(self.bucket) if event_day(fill) == DAY]
            self.states.append(state_of(Decimal(fill["px"]) * Decimal(fill["sz"]) for fill in fills))
        assert len({*self.states}) == len(self.states)

    def write(self, version: int) -> None:
        for path, lines in zip(self._objects, self._lines, strict=True):
            kept = lines[: len(lines) - version % 3]
            block = json.loads(kept[5])
            for _, fill in block["events"]:
                fill["sz"] = f"{(version + 1) / 100:.2f}"
            kept[5] = json.dumps(block, separators=(",", ":")).encode()
            path.write_bytes(lz4.frame.compress(b"\n".join(kept) + b"\n"))


@pytest.mark.slow
def test_every_read_during_200_replacements_and_kills_is_one_version_of_the_day(
    tmp_path: Path, lake: Lake, connection: psycopg.Connection, database_url: str
) -> None:
    random = Random(20)
    versions = _Versions(tmp_path / "sample")
    settings = Settings(
        home=tmp_path,
        database_url=SecretStr(database_url),
        lake_url=lake.root,
        node_data_url=str(versions.bucket),
        twap_data_url="none",
    )
    place = Place(versions.bucket, Path(lake.root), database_url)

    def load() -> None:
        fetch_fills(DAY, lake, connection, settings)
        load_fills(DAY, lake, connection, settings)

    def death_of_compaction() -> Death:
        """In the commit, or anywhere."""
        in_commit = Death("day_compacted", seconds=random.uniform(0, 0.05))
        return random.choice([in_commit, Death(None, seconds=random.uniform(0, 0.8 * typical))])

    versions.write(0)
    assert run(place, DAY) == 0
    started = time.perf_counter()
    assert run(place, DAY, None, compact) == 0
    typical = time.perf_counter() - started
    killed = half_replaced = 0
    with reading(Source(lake.root, database_url, DAY), tmp_path) as stop:
        for version in range(1, _REPLACEMENTS + 1):
            versions.write(version)
            if version % _LOAD_KILLED_EVERY == 4:
                # Between two hours.
                assert run(place, DAY, Death("hour_copied")) == -signal.SIGKILL
                half_replaced += Path(lake.root, changing_path(DAY)).exists()
            load()
            if version % _COMPACTION_KILLED_EVERY == 0:
                killed += run(place, DAY, death_of_compaction(), compact) == -signal.SIGKILL
                if random.random() < 0.5:
                    continue
            compact_day(DAY, lake, connection)
            if version % 50 == 0:
                vacuum(lake, connection, settings)
        seen = stop()

    assert killed >= _LEAST_KILLS, "the kills came too late"
    assert half_replaced > _REPLACEMENTS // _LOAD_KILLED_EVERY
    for reads in seen.values():
        _assert_versions_in_order(reads, versions.states)
    assert not Path(lake.root, changing_path(DAY)).exists()


def _assert_versions_in_order(reads: list[Seen], states: list[State]) -> None:
    assert [read for read in reads if read.failure] == []
    assert [read for read in reads if read.state not in states] == []
    order = [states.index(read.state) for read in reads if read.state is not None]
    assert order == sorted(order)
    assert len({*order}) > 20, "the reads were too few"
