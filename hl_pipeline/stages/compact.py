"""Compact a day of fills: sort its hours into one file, prove that the file has the same rows, and publish it in one commit."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.errors import LakeLacksError
from hl_pipeline.events import emit
from hl_pipeline.lake.fills import read_hours_of_fills
from hl_pipeline.lake.store import Lake
from hl_pipeline.stages.adopt_tables import adopt_tables
from hl_pipeline.stages.day_hours import find_missing_hours
from hl_pipeline.stages.lake_catalog import opened_catalog
from hl_pipeline.warehouse.hour_totals import read_unverified_hours
from hl_pipeline.warehouse.lake_days import (
    LakeDay,
    forget_lake_days,
    read_counts_of_hours,
    read_day_to_compact,
    read_lake_days,
    read_versions_of_day,
    record_lake_day,
    renew_lake_day,
)
from hl_pipeline.warehouse.locks import lock_compacting, lock_fills_day, lock_iceberg_table

if TYPE_CHECKING:
    from hl_pipeline.lake.iceberg import Catalog

_log = logging.getLogger(__name__)
_FILLS = "fills"


@dataclass(frozen=True, slots=True)
class CompactedDay:
    """A day in the Iceberg table after it was compacted. `published` None: the day has no fills.

    `is_new`: whether a snapshot was made now; otherwise the day was published before, with the same rows. `unverified_hours`:
    hours in which hl.fills is not verified to equal the lake.
    """

    published: LakeDay | None
    is_new: bool
    rows_loaded: int
    unverified_hours: list[int]
    seconds: float

    @property
    def rows(self) -> int:
        return 0 if self.published is None else self.published.rows

    @property
    def checks(self) -> list[Check]:
        same = self.rows == self.rows_loaded and not self.unverified_hours
        differs = (
            f"The compacted day has {self.rows} fills, {self.rows_loaded} are loaded; hours in which hl.fills is not verified to "
            f"equal the lake: {self.unverified_hours}. Materialize fills of this day again."
        )
        description = "The same rows in the compacted day, the hours of the lake and hl.fills." if same else differs
        figures = {"rows_compacted": self.rows, "rows_loaded": self.rows_loaded, "unverified_hours": self.unverified_hours}
        return [Check("same_rows", same, description, metadata=figures)]


def compact_day(day: date, lake: Lake, connection: psycopg.Connection) -> CompactedDay:
    """Compact a loaded day of fills and publish it, unless the published day was made from the same objects.

    Readers of the table see the old day or the new one. If this process is killed after the commit, the next call records it.

    Raises LakeLacksError if the day is not loaded, or if the lake's hours are not what was loaded last.
    """
    started = time.perf_counter()
    with (
        opened_catalog(connection, lake) as catalog,
        lock_compacting(connection, day),
        # The hours do not change meanwhile.
        lock_fills_day(connection, day, shared=True),
    ):
        adopt_tables(connection, lake, catalog, [_FILLS])
        repair_ledger(connection, catalog, lake)
        published, is_new, rows_loaded = _publish(day, lake, connection, catalog)
        loaded = read_day_to_compact(connection, day)
        unverified = [] if loaded is None or loaded.is_thinned else read_unverified_hours(connection, day)
    return CompactedDay(published, is_new, rows_loaded, unverified, time.perf_counter() - started)


def _publish(day: date, lake: Lake, connection: psycopg.Connection, catalog: Catalog) -> tuple[LakeDay | None, bool, int]:
    from hl_pipeline.lake.compacted_fills import digest_of, list_hour_files, write_compacted_day
    from hl_pipeline.lake.unpacked_hours import HourFacts, as_facts

    loaded = read_day_to_compact(connection, day)
    if loaded is None:
        raise LakeLacksError(f"{day} is not loaded: run `hl ingest --from {day} --to {day}` or `hl rebuild` first")
    old = read_lake_days(connection, _FILLS).get(day)
    is_current = old is not None and (old.loaded_at, old.rows) == (loaded.loaded_at, loaded.rows)
    if is_current and find_missing_hours(day, lake, connection):
        # Its hours were removed, because the published day has their rows.
        return old, False, loaded.rows
    hours = read_hours_of_fills(lake, day)
    files = list_hour_files(lake, day)
    objects = sorted({version for hour in hours.values() for version in hour.objects})
    if not set(objects) <= read_versions_of_day(connection, day):
        raise LakeLacksError(
            f"{day}: the lake has hours that were not loaded into hl.fills: run `hl ingest --from {day} --to {day}` again"
        )
    digest = digest_of(hours, len(files))
    if not files:
        if loaded.rows:
            raise LakeLacksError(f"{day}: {loaded.rows} fills are loaded, but the lake ({lake.root}) has no hours of them")
        if old is not None:
            _commit(day, lake, connection, catalog, [], {"state": loaded.state, "objects": "0", "made_from": digest, "rows": "0"})
            forget_lake_days(connection, _FILLS, [day])
        return None, old is not None, loaded.rows
    if old is not None and old.made_from == digest and old.rows == loaded.rows:
        renew_lake_day(connection, _FILLS, day, loaded.loaded_at, loaded.state)
        return old, False, loaded.rows
    counts = read_counts_of_hours(connection, day)
    of_hours = {hour: HourFacts(*counts[hour], known.objects) for hour, known in hours.items() if hour in counts}
    facts: dict[str, Any] = {
        "day": day,
        "state": loaded.state,
        "made_from": digest,
        "loaded_at": loaded.loaded_at,
        "objects": objects,
        # An early version did not record what each hour has.
        "hours": as_facts(of_hours, objects) if len(of_hours) == len(files) == len(counts) else {},
    }
    file = write_compacted_day(lake, day, facts)
    emit(_log, "day_compacted", day=day, rows=file.rows, bytes=file.bytes)
    if not file.equals_hours or file.rows != loaded.rows:
        raise LakeLacksError(
            f"{day}: the compacted file has {file.rows} fills, {loaded.rows} are loaded, and its rows are "
            f"{'' if file.equals_hours else 'not '}those of the hours; it is not published. "
            f"Run `hl ingest --from {day} --to {day}` again"
        )
    summary = {"state": loaded.state, "objects": str(len(objects)), "made_from": digest, "rows": str(file.rows)}
    snapshot_id = _commit(day, lake, connection, catalog, [file.path], summary)
    made = LakeDay(
        day,
        [file.path],
        file.rows,
        file.bytes,
        snapshot_id,
        loaded.state,
        digest,
        loaded.loaded_at,
        file.notional,
        file.notional_unknown,
    )
    record_lake_day(connection, _FILLS, made)
    emit(_log, "day_published", day=day, table=_FILLS, snapshot=snapshot_id)
    return made, True, loaded.rows


def _commit(
    day: date, lake: Lake, connection: psycopg.Connection, catalog: Catalog, paths: list[str], summary: dict[str, str]
) -> int:
    from hl_pipeline.lake.compacted_fills import ensure_fills_table
    from hl_pipeline.lake.iceberg import publish_day

    with lock_iceberg_table(connection, _FILLS):
        return publish_day(ensure_fills_table(catalog, lake), lake, day, paths, summary)


def repair_ledger(connection: psycopg.Connection, catalog: Catalog, lake: Lake) -> list[date]:
    """Make hl.lake_days say what the catalog says about fills, after a process was killed between the two. Returns the days."""
    from hl_pipeline.lake.compacted_fills import read_facts
    from hl_pipeline.lake.iceberg import files_by_day, find_table

    with lock_iceberg_table(connection, _FILLS):
        published = files_by_day(find_table(catalog, _FILLS), lake)
        known = read_lake_days(connection, _FILLS)
        gone = sorted(known.keys() - published.keys())
        forget_lake_days(connection, _FILLS, gone)
        other = [day for day, files in published.items() if day not in known or known[day].files != [file.path for file in files]]
        for day in other:
            files = published[day]
            facts = [read_facts(lake, file.path) for file in files]
            found = LakeDay(
                day,
                [file.path for file in files],
                sum(file.rows for file in files),
                sum(file.bytes for file in files),
                files[-1].snapshot_id,
                facts[-1]["state"],
                facts[-1]["made_from"],
                datetime.fromisoformat(facts[-1]["loaded_at"]),
                sum((Decimal(of["notional"]) for of in facts), Decimal(0)),
                sum(of["notional_unknown"] for of in facts),
            )
            record_lake_day(connection, _FILLS, found)
            emit(_log, "lake_day_repaired", day=day, files=found.files)
    return sorted([*gone, *other])
