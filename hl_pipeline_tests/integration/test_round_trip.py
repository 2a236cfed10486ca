"""Any legal fill survives JSON, frame, Parquet and PostgreSQL unchanged."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path
from typing import Any

import lz4.frame
import psycopg
from hypothesis import given
from hypothesis import strategies as st

from hl_pipeline.formats.by_block import PARSER, decode_chunk
from hl_pipeline.formats.decoding import decode
from hl_pipeline.formats.framing import decompress, whole_lines
from hl_pipeline.lake.fills import write_raw_object
from hl_pipeline.lake.store import Lake
from hl_pipeline.settings import Settings
from hl_pipeline.stages.load_fills import load_objects
from hl_pipeline_tests.naive.fills import expected_fill, in_order, stored_fills, without
from hl_pipeline_tests.profiles import examples
from hl_pipeline_tests.strategies import as_lines, blocks

DAY = date(2026, 3, 15)
KEY = "node_fills_by_block/hourly/20260315/5.lz4"


@examples(75)
@given(made=blocks(), spaced=st.booleans(), ascii_only=st.booleans())
def test_any_legal_fill_comes_out_of_postgresql_as_it_went_in(
    made: list[dict[str, Any]], spaced: bool, ascii_only: bool, lake: Lake, connection: psycopg.Connection, database_url: str
) -> None:
    stream = io.BytesIO(lz4.frame.compress(as_lines(made, spaced=spaced, ascii_only=ascii_only)))
    meta = write_raw_object(
        lake,
        decode(whole_lines(decompress(stream, "lz4")), decode_chunk, threads=2),
        key=KEY,
        etag="e",
        size=1,
        source="node_fills_by_block",
        object_date=DAY,
        hour=5,
        parser=PARSER,
    )

    load_objects(DAY, lake, connection, Settings(swap_wait_seconds=5))

    events = [(block, user, fill) for block in made for user, fill in block["events"]]
    expected = [
        expected_fill({**block, "object": KEY, "ordinal": ordinal}, user, fill)
        for ordinal, (block, user, fill) in enumerate(events)
    ]
    assert (meta.rows, meta.bad_lines) == (len(expected), 0)
    assert in_order(without(stored_fills(database_url), "date")) == in_order(expected)


def test_the_lake_of_one_object_has_no_more_files_than_one(lake: Lake) -> None:
    write_raw_object(
        lake,
        decode([], decode_chunk, threads=2),
        key=KEY,
        etag="e",
        size=0,
        source="node_fills_by_block",
        object_date=DAY,
        hour=5,
        parser=PARSER,
    )
    files = [path.relative_to(lake.root) for path in Path(lake.root).rglob("*") if path.is_file()]
    assert files == [Path("raw_fills/object_date=2026-03-15/hour=05.node_fills_by_block.parquet")]
