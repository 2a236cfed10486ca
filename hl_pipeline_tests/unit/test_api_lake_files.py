"""Which files of the lake the API reads for a range, and when it refuses them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import polars as pl
import pytest

from api.lake_engine import _is_readable  # pyright: ignore[reportPrivateUsage]
from api.lake_files import DayInLake, HourFile, LakeChangedError, LakeMemoryError, check_hours, parts_by_day, parts_by_tier
from hl_pipeline.domain.object_keys import object_id_of_key

DAY = date(2026, 3, 15)
PATH = f"fills/date={DAY}/hour=03.parquet"
HOURS = DayInLake(DAY, 7, (), (HourFile(PATH, 3, 7),), frozenset({"etag 2"}))


def _at_rest(day: int) -> DayInLake:
    return DayInLake(date(2026, 3, day), 1, (f"{day}.parquet",), (), frozenset())


def _metadata(etag: str) -> bytes:
    return json.dumps({"id": "a", "objects": [["key", etag, 2]]}).encode()


def test_a_range_is_split_at_each_border_without_a_gap() -> None:
    days = [_at_rest(11), _at_rest(12), _at_rest(15)]
    start, end = datetime(2026, 3, 10, 5, tzinfo=UTC), datetime(2026, 3, 15, 1, tzinfo=UTC)
    parts = parts_by_tier(start, end, days)
    assert [[day.date.day for day in part.days] for part in parts] == [[], [11, 12], [], [15]]
    assert (parts[0].start, parts[-1].end) == (start, end)
    for before, after in pairwise(parts):
        assert after.start - before.end == timedelta(microseconds=1)
    assert [part.start.day for part in parts_by_day(parts[1])] == [11, 12]
    assert parts_by_tier(start, start, days) == parts_by_tier(start, start, [])


def test_only_hours_of_the_range_are_read() -> None:
    morning = datetime(2026, 3, 15, 4, tzinfo=UTC)
    assert HOURS.files(datetime(2026, 3, 14, tzinfo=UTC), morning) == [PATH]
    assert HOURS.files(morning, morning) == []


@pytest.mark.parametrize(("rows", "etag"), [(6, "etag"), (7, "newer")])
def test_an_hour_that_the_ledger_does_not_know_is_refused(rows: int, etag: str) -> None:
    check_hours(HOURS, {PATH: 7}, {PATH: _metadata("etag")})
    with pytest.raises(
        LakeChangedError, match=rf"{PATH} .* is being loaded again.*`hl ingest --from {DAY} --to {DAY}` finishes it"
    ):
        check_hours(HOURS, {PATH: rows}, {PATH: _metadata(etag)})


def test_importing_the_api_loads_no_engine_of_the_lake() -> None:
    code = "import sys, api.app; print(*(n for n in ('duckdb', 'pyarrow', 'boto3', 'fsspec') if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "key",
    [
        "node_fills_by_block/hourly/20260315/9.lz4",
        "node_fills/hourly/20250613/09.lz4",
        "node_trades/hourly/20250524/23.gz",
        "node_fills_by_block/hourly/20230101/0.jsonl.lz4",
        "api_fills/date=2024-11-03/shard=3f.parquet",
        "api_fills/date=2023-01-01/shard=00.parquet",
    ],
)
def test_an_objects_number_in_the_lake_follows_from_its_key(key: str) -> None:
    # Imported here: it takes a tenth of a second.
    import duckdb

    from api.database import read_sql

    text = read_sql("lake_fills").decode()
    expression = text[text.index("CASE WHEN object LIKE") : text.index(" AS object_id")]
    row = duckdb.execute(f"SELECT {expression} FROM (SELECT ? AS object)", [key]).fetchone()
    assert row == (object_id_of_key(key),)


def test_a_file_is_not_called_damaged_for_want_of_memory(tmp_path: Path) -> None:
    file = tmp_path / "day.parquet"
    pl.DataFrame({"text": [f"{number:>500}" for number in range(20_000)]}).write_parquet(file, compression="uncompressed")
    with duckdb.connect(config={"memory_limit": "1MB"}) as cursor, pytest.raises(LakeMemoryError):
        _is_readable(cursor, str(file))
    with duckdb.connect() as cursor:
        assert _is_readable(cursor, str(file))
        file.write_bytes(b"PAR1")
        assert not _is_readable(cursor, str(file))
