"""A lake that has moved: its tables' metadata is written again, and every snapshot reads as before."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform

from hl_pipeline.lake.relocate import relocate_metadata

_SCHEMA = pa.schema([("time", pa.timestamp("us", "UTC")), ("notional", pa.decimal128(38, 20))])
_FIRST = datetime(2026, 3, 15, tzinfo=UTC)


@pytest.fixture
def catalog(database_url: str) -> SqlCatalog:
    return SqlCatalog("test", uri=database_url.replace("postgresql://", "postgresql+psycopg://"))


def _put(table: Table, lake: Path, day: datetime, *values: str) -> None:
    """Replace a day of the table by rows with these values, in one snapshot or two."""
    path = lake / f"iceberg/fills/data/date={day:%Y-%m-%d}/{os.urandom(4).hex()}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = pa.table({"time": [day] * len(values), "notional": [Decimal(value) for value in values]}, schema=_SCHEMA)
    pq.write_table(rows, path)
    with table.transaction() as transaction:
        transaction.delete(f"time >= '{day.isoformat()}' and time < '{(day + timedelta(days=1)).isoformat()}'")
        transaction.add_files([str(path)])


def _snapshots(table: Table) -> dict[int, list[dict[str, object]]]:
    order = [("time", "ascending"), ("notional", "ascending")]
    return {s.snapshot_id: table.scan(snapshot_id=s.snapshot_id).to_arrow().sort_by(order).to_pylist() for s in table.snapshots()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Delete operation did not match any records")
def test_every_snapshot_of_a_moved_table_reads_as_before(catalog: SqlCatalog, tmp_path: Path) -> None:
    old, new = tmp_path / "old lake", tmp_path / "new"
    catalog.create_namespace("hl")
    table = catalog.create_table("hl.fills", schema=_SCHEMA, location=str(old / "iceberg/fills"))
    with table.update_spec() as update:
        update.add_field("time", DayTransform(), "date")
    for number in range(3):
        _put(table, old, _FIRST + timedelta(days=number), "1.5", f"{number}.00000000000000000001")
    _put(table, old, _FIRST, "7")
    before = _snapshots(table)
    assert len(before) >= 4
    shutil.move(old, new)
    with pytest.raises(FileNotFoundError):
        _snapshots(table)

    location = relocate_metadata(table.io, table.metadata_location, str(old), str(new))

    catalog.drop_table("hl.fills")
    moved = catalog.register_table("hl.fills", location)
    assert _snapshots(moved) == before
    assert str(old) not in str(moved.metadata)
    # It is a table like any other: its days are replaced, and the others stay.
    _put(moved, new, _FIRST, "8")
    assert sorted(row["notional"] for row in moved.scan().to_arrow().to_pylist()) == sorted(
        Decimal(value) for value in ("8", "1.5", "1.00000000000000000001", "1.5", "2.00000000000000000001")
    )
