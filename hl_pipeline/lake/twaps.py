"""The part of the lake that is about TWAPs.

    raw_twap_statuses/object_date=2025-11-03/part-00000-1f0c9a3e.parquet     one per source object, by the day in its key
    raw_twap_statuses/object_date=2025-11-03/part-00000-1f0c9a3e.bad.jsonl   its quarantined rows, if any
    api_twap_history/date=2025-11-03/shard=3f.parquet                        statuses of a shard's wallets from the info API
    twap_statuses/date=2025-11-03/statuses.parquet                           by the day of the event (UTC), each event once
    twap_slices/date=2025-11-03/slices.parquet                               the day's fills that are slices of TWAPs, and the
                                                                             file of fills that each hour comes from

A file name is the name of its object plus eight digits of a hash of the whole key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from hl_pipeline.data_dictionary import Column
from hl_pipeline.domain.datasets import API_TWAP_HISTORY
from hl_pipeline.domain.records import StatusObject
from hl_pipeline.formats.arrow import as_arrow
from hl_pipeline.formats.fills import FILL_SCHEMA, SLICE_COLUMNS, BadLine
from hl_pipeline.formats.twap_statuses import PARSER, TWAP_STATUS_SCHEMA, UNITS_NS, DecodedStatuses
from hl_pipeline.lake.described import LAKE_FILL_COLUMNS, LAKE_STATUS_COLUMNS, describe
from hl_pipeline.lake.fills import read_fills_hour, read_hours_of_fills
from hl_pipeline.lake.store import (
    META_KEY,
    Lake,
    exists,
    list_files,
    list_metas,
    open_file,
    read_rows,
    remove,
    replacing,
    replacing_object,
    write_table,
)

_COMPRESSION = 3
_EVENTS_SCHEMA = {**TWAP_STATUS_SCHEMA, "object": pl.String(), "unit_ns": pl.Int64()}
_SLICE_SCHEMA = {name: FILL_SCHEMA[name] for name in SLICE_COLUMNS}


def status_object_path(object_date: date, key: str) -> str:
    """Return the path of an object's statuses, relative to the lake's root. Different keys have different paths."""
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", Path(key).name.partition(".")[0])[:80]
    return f"raw_twap_statuses/object_date={object_date}/{stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.parquet"


def write_status_object(
    lake: Lake,
    decoded: Iterable[DecodedStatuses],
    *,
    key: str,
    etag: str,
    size: int,
    object_date: date,
    hour: int | None,
) -> StatusObject:
    """Write the decoded rows of an object, and its quarantine file."""
    frames: list[pl.DataFrame] = [pl.DataFrame(schema=TWAP_STATUS_SCHEMA)]
    bad: list[BadLine] = []
    notes: set[str] = set()
    lines = 0
    for part in decoded:
        frames.append(part.statuses)
        bad += part.bad
        notes |= part.notes
        lines += part.lines
    rows = pl.concat(frames)
    meta = StatusObject(
        key=key,
        etag=etag,
        size=size,
        object_date=str(object_date),
        hour=hour,
        parser=PARSER,
        rows=rows.height,
        lines=lines,
        bad_lines=len(bad),
        notes=sorted(notes),
        unit_ns=_unit_of(rows["time_ns"]),
        first_time_ns=_integer(rows["time_ns"].min()),
        last_time_ns=_integer(rows["time_ns"].max()),
        fetched_at=datetime.now(UTC).isoformat(),
    )
    with replacing_object(lake, status_object_path(object_date, key), bad) as temporary:
        write_table(temporary, describe(as_arrow(rows), LAKE_STATUS_COLUMNS), meta, compression_level=_COMPRESSION)
    return meta


def _unit_of(times_ns: pl.Series) -> int:
    return next(unit for unit in UNITS_NS if (times_ns % unit == 0).all())


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) else None


def list_status_objects(lake: Lake, object_date: date) -> list[StatusObject]:
    """Return the objects of statuses in the lake with that day in their key."""
    return list_metas(lake, f"raw_twap_statuses/object_date={object_date}", StatusObject)


def read_status_object(lake: Lake, meta: StatusObject) -> pl.DataFrame:
    """Return the events of an object: TWAP_STATUS_SCHEMA, `object` (its key) and `unit_ns`.

    Raises LakeChangedError if the file has another version than `meta`.
    """
    rows = read_rows(lake, status_object_path(date.fromisoformat(meta.object_date), meta.key), meta)
    return rows.with_columns(object=pl.lit(meta.key), unit_ns=pl.lit(meta.unit_ns, pl.Int64)).select(*_EVENTS_SCHEMA)


def no_events() -> pl.DataFrame:
    """Return what `read_status_object` returns for an object without events."""
    return pl.DataFrame(schema=_EVENTS_SCHEMA)


def add_api_history(lake: Lake, day: date, shard: str, events: pl.DataFrame) -> None:
    """Add statuses from `twapHistory` (TWAP_STATUS_SCHEMA, of that day) to those of a shard in the lake."""
    path = f"{API_TWAP_HISTORY}/date={day}/shard={shard}.parquet"
    known = [_read_statuses(lake, path)] if exists(lake, path) else []
    rows = pl.concat([*known, events.with_columns(line=pl.lit(None, pl.Int64))])
    _replace(lake, path, rows.unique(("twap_id", "status", "time_ns", "raw")).sort("time_ns", "twap_id", "status", "raw"))


def read_api_history(lake: Lake, day: date) -> pl.DataFrame:
    """Return the statuses of a day from `twapHistory`, in the form of `read_status_object`. Their times are whole seconds."""
    frames = [
        _read_statuses(lake, path).with_columns(object=pl.lit(path), unit_ns=pl.lit(UNITS_NS[0], pl.Int64))
        for path in list_files(lake, f"{API_TWAP_HISTORY}/date={day}")
    ]
    return pl.concat([no_events(), *(frame.select(*_EVENTS_SCHEMA) for frame in frames)])


def _read_statuses(lake: Lake, path: str) -> pl.DataFrame:
    with open_file(lake, path) as file:
        return pl.read_parquet(file, hive_partitioning=False)


def write_statuses(lake: Lake, day: date, statuses: pl.DataFrame) -> None:
    """Replace the day's events in the lake by `statuses`; without rows, remove the file."""
    _replace(lake, f"twap_statuses/date={day}/statuses.parquet", statuses, LAKE_STATUS_COLUMNS)


def extract_slices(lake: Lake, day: date, hours: Iterable[int] = range(24)) -> pl.DataFrame:
    """Return the slices (SLICE_COLUMNS) among the lake's fills of some hours of the day."""
    fills = (read_fills_hour(lake, day, hour, SLICE_COLUMNS) for hour in hours)
    return pl.concat([pl.DataFrame(schema=_SLICE_SCHEMA), *(hour.filter(pl.col("twap_id").is_not_null()) for hour in fills)])


def renew_slices(lake: Lake, day: date) -> pl.DataFrame:
    """Replace the day in `twap_slices` by the slices among the lake's fills, and return them; without rows, remove the file.

    Hours with an unchanged file of fills keep their slices. If all hours are unchanged, all are extracted again, because the
    caller wants to rebuild the day.
    """
    path = slices_path(day)
    hours = {str(hour): known.id for hour, known in read_hours_of_fills(lake, day).items()}
    known: dict[str, str] = {}
    slices = pl.DataFrame(schema=_SLICE_SCHEMA)
    if exists(lake, path):
        with open_file(lake, path) as file:
            known = json.loads((pq.read_metadata(file).metadata or {}).get(META_KEY, b"{}"))
            file.seek(0)
            slices = pl.read_parquet(file, hive_partitioning=False)
    same = [] if known == hours else [int(hour) for hour, id_ in hours.items() if known.get(hour) == id_]
    kept = slices.filter(pl.col("time").dt.hour().is_in(same))
    slices = pl.concat([kept, extract_slices(lake, day, [hour for hour in range(24) if hour not in same])])
    slices = slices.sort("time", maintain_order=True)
    _replace(lake, path, slices, LAKE_FILL_COLUMNS, hours)
    return slices


def read_slices(lake: Lake, day: date, twap_ids: pl.Series) -> pl.DataFrame:
    """Return the day's slices (SLICE_COLUMNS) of some TWAPs, as of the last computation of the day's TWAPs."""
    path = slices_path(day)
    if not exists(lake, path):
        return extract_slices(lake, day).filter(pl.col("twap_id").is_in(twap_ids.implode()))
    with open_file(lake, path) as file:
        rows = pl.read_parquet(file, hive_partitioning=False)
    return rows.filter(pl.col("twap_id").is_in(twap_ids.implode()))


def slices_path(day: date) -> str:
    """Return the path of a day's slices, relative to the lake's root."""
    return f"twap_slices/date={day}/slices.parquet"


def _replace(
    lake: Lake, path: str, rows: pl.DataFrame, columns: Iterable[Column] = (), known: dict[str, Any] | None = None
) -> None:
    if rows.is_empty():
        remove(lake, path)
        return
    with replacing(lake, path) as temporary:
        table = describe(as_arrow(rows), columns)
        write_table(temporary, table, known, compression_level=_COMPRESSION)
