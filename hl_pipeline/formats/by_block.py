"""`node_fills_by_block`: chunks of block lines to frames of fills.

One line is one block: `{"local_time", "block_time", "block_number", "events": [[user, fill], ...]}`, times naive UTC with nine
digits. Lines of just the known layout are read by `scan_fills`, others exactly.
"""

# JSON of others has no types.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from hl_pipeline.formats.decoding import Blocks, Decoded, NumberedLine, Taken, read_odd_lines
from hl_pipeline.formats.exact_decode import (
    BadValueError,
    Json,
    Row,
    bad_line,
    check_clock,
    dump_json,
    fills_frame,
    parse_fill,
    parse_integer,
    parse_time_ns,
    refuse_doubled_keys,
    take_line,
    with_extra,
)
from hl_pipeline.formats.fills import BadLine, in_fill_schema
from hl_pipeline.formats.scan_fills import scan_lines

PARSER = 1
"""Version of what this parser makes of an object; a higher one has come to keep more."""

_BLOCK_KEYS = ("local_time", "block_time", "block_number", "events")
_Taken = tuple[int, int, list[Row], list[BadLine]]


def decode_chunk(chunk: bytes, first_line: int = 1) -> Decoded:
    """Decode whole lines (each ends in a newline), of which the first has the number `first_line`."""
    return read_odd_lines(_take_known(chunk, first_line), chunk, first_line, _decode_exactly)


def _take_known(chunk: bytes, first_line: int) -> Taken:
    """What is of the known form."""
    scanned = scan_lines(chunk, blocks=True)
    line = scanned.line_of_fill
    fills = scanned.fills.with_columns(
        pl.Series("block_number", scanned.numbers[line]),
        pl.Series("block_time_ns", scanned.times_ns[line]),
        pl.Series("local_time_ns", scanned.local_times_ns[line]),
        pl.Series("line", line + first_line),
    )
    blocks = Blocks(scanned.numbers, scanned.times_ns, np.arange(len(scanned.odd)) + first_line)
    return Taken(in_fill_schema(fills), blocks, scanned.odd, scanned.ends)


def _decode_exactly(lines: Iterable[NumberedLine]) -> Decoded:
    rows: list[Row] = []
    bad: list[BadLine] = []
    blocks: list[tuple[int, int, int]] = []
    count = 0
    for line, text in lines:
        count += 1
        if not text.strip():
            continue
        taken = take_line(text, line, _take_block)
        if isinstance(taken, BadLine):
            bad.append(taken)
            continue
        number, time_ns, block_rows, block_bad = taken
        rows += block_rows
        bad += block_bad
        blocks.append((number, time_ns, line))
    return Decoded(fills_frame(rows), bad, Blocks(*np.array(blocks, np.int64).reshape(-1, 3).T), count)


def _take_block(block: Json, line: int) -> _Taken:
    """The block's number and time (ns), its fills and its bad events. Raises BadValueError when it is no block."""
    if not isinstance(block, dict):
        raise BadValueError("a line must be an object with block_number and events")
    number = parse_integer(block.get("block_number"), "block_number")
    time_ns = parse_time_ns(block.get("block_time"), "block_time")
    local_time_ns = parse_time_ns(block.get("local_time"), "local_time")
    events = block.get("events")
    if number is None or time_ns is None or not isinstance(events, list):
        raise BadValueError("block_number, block_time or the list of events is missing")
    unknown = {key: value for key, value in block.items() if key not in _BLOCK_KEYS}
    refuse_doubled_keys(block, but="events")
    place = {"block_number": number, "block_time_ns": time_ns, "local_time_ns": local_time_ns, "line": line}
    rows: list[Row] = []
    bad: list[BadLine] = []
    for position, event in enumerate(events, 1):
        try:
            row = _take_event(event, place)
            with_extra(row, "_block", unknown)
            rows.append(row)
        except (BadValueError, RecursionError) as error:
            bad.append(bad_line(line, position, error, dump_json(event).encode()))
    return number, time_ns, rows, bad


def _take_event(event: Json, place: Row) -> Row:
    """The fill of an event; `place` has the columns of its block and line. Raises BadValueError."""
    if not isinstance(event, list) or len(event) != 2:
        raise BadValueError("an event must be a pair of user and fill")
    row = parse_fill(event[1], event[0])
    check_clock(row["time"], place["block_time_ns"])
    return row | place
