"""Makes the hours of a day again from its compacted file, in the order and with the records that they had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import chain
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from hl_pipeline.domain.deduplicate import Deduplicated
from hl_pipeline.domain.object_keys import object_id_of_key
from hl_pipeline.domain.records import ObjectVersion
from hl_pipeline.formats.fills import DAY_SCHEMA, NO_FILLS
from hl_pipeline.lake.compacted_fills import read_facts, workplace
from hl_pipeline.lake.fills import write_fills_of_versions
from hl_pipeline.lake.store import Lake, local_copies

_BATCH_ROWS = 100_000
_MEMORY = "1GB"
# As domain.deduplicate.sort_fills.
_ORDER = ("time", "block_number", "object_id", "ordinal", "coin", "wallet", "side", "tid", "oid", "counterparty_oid")


@dataclass(frozen=True, slots=True)
class HourFacts:
    """What a compacted file records of one of its hours: counts as in hl.fills_hours, and the source objects."""

    rows: int
    duplicates: int
    conflicts: int
    objects: frozenset[ObjectVersion]


def as_facts(hours: Mapping[int, HourFacts], objects: list[ObjectVersion]) -> dict[str, Any]:
    """Return hours as a compacted file records them. The objects of an hour are numbers in the list of all `objects`."""
    number = {version: index for index, version in enumerate(objects)}
    return {
        str(hour): [of.rows, of.duplicates, of.conflicts, sorted(number[version] for version in of.objects)]
        for hour, of in sorted(hours.items())
    }


def read_hour_facts(lake: Lake, path: str) -> dict[int, HourFacts]:
    """Return the hours with fills of a compacted file. Empty: an earlier version wrote the file, without them."""
    facts = read_facts(lake, path)
    objects: list[ObjectVersion] = [(key, etag, parser) for key, etag, parser in facts["objects"]]
    return {
        int(hour): HourFacts(rows, duplicates, conflicts, frozenset(objects[index] for index in indexes))
        for hour, (rows, duplicates, conflicts, indexes) in (facts.get("hours") or {}).items()
    }


def unpack_hours(
    lake: Lake, day: date, path: str, hours: Mapping[int, HourFacts], *, only: Iterable[int] = range(24)
) -> Iterator[tuple[int, Deduplicated]]:
    """Yield the hours `only` (0-23, ascending) with their fills, and write each to the lake before the next is yielded.

    DuckDB sorts the file by time, and spills what exceeds its memory. Memory holds one hour.
    """
    wanted = [*only]
    with (
        workplace(lake) as directory,
        local_copies(lake, [path], directory) as [file],
        duckdb.connect(config={"threads": 2, "memory_limit": _MEMORY, "temp_directory": str(directory / "sort")}) as engine,
    ):
        engine.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET enable_progress_bar = false")
        keys = sorted({key for of in hours.values() for key, _, _ in of.objects})
        engine.register("ids", pa.table({"key": keys, "object_id": [object_id_of_key(key) for key in keys]}))
        columns = ", ".join(f'f."{name}"' for name in DAY_SCHEMA)
        order = ", ".join(f'"{name}" NULLS LAST' for name in _ORDER)
        batches = engine.execute(
            f"SELECT {columns} FROM read_parquet($file, hive_partitioning = false) f LEFT JOIN ids ON ids.key = f.object "
            f"WHERE (epoch_us(time) // 3600000000) % 24 IN (SELECT unnest($hours)) ORDER BY {order}",
            {"file": str(file), "hours": wanted},
        ).to_arrow_reader(_BATCH_ROWS)
        assert batches is not None
        found = _by_hour(batches)
        following = next(found, None)
        for hour in wanted:
            fills = NO_FILLS
            if following is not None and following[0] == hour:
                fills, following = following[1], next(found, None)
            of = hours.get(hour, HourFacts(0, 0, 0, frozenset()))
            if fills.height != of.rows:
                raise ValueError(f"{path} has {fills.height} fills in hour {hour}, but records {of.rows}")
            write_fills_of_versions(lake, day, hour, fills, sorted(of.objects, key=_place_of))
            yield hour, Deduplicated(fills, of.duplicates, of.conflicts)


def _place_of(version: ObjectVersion) -> int:
    return object_id_of_key(version[0])


def _by_hour(batches: pa.RecordBatchReader) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield sorted fills by hour."""
    pending: list[pl.DataFrame] = []
    current: int | None = None
    frames = (_as_fills(batch) for batch in batches if batch.num_rows)
    parts = chain.from_iterable(_split(frame) for frame in frames)
    for hour, part in parts:
        if current is not None and hour != current:
            yield current, pl.concat(pending)
            pending = []
        current = hour
        pending.append(part)
    if current is not None:
        yield current, pl.concat(pending)


def _as_fills(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame.select(pl.col(name).cast(dtype) for name, dtype in DAY_SCHEMA.items())


def _split(fills: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    hours = fills["time"].dt.hour()
    for hour in hours.unique(maintain_order=True):
        yield hour, fills.filter(hours == hour)
