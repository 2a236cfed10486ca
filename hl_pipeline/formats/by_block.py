"""`node_fills_by_block`: chunks of block lines to frames of fills.

One line is one block: `{"local_time", "block_time", "block_number", "events": [[user, fill], ...]}`, times naive UTC with nine
digits. A chunk of just the known layout is read by `fast_fills`; a fill that it calls odd is parsed exactly; a chunk whose shape
differs is halved until what is odd stands alone, and that is parsed exactly.
"""

# JSON of others has no types.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import numpy as np
import polars as pl

from hl_pipeline.formats.block_layout import Layout, find_layout, read_header
from hl_pipeline.formats.decoding import Blocks, Decoded, decode_by_halves, replace_odd
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
    parse_json,
    parse_time_ns,
    refuse_doubled_keys,
    take_line,
    with_extra,
)
from hl_pipeline.formats.fast_fills import read_fills
from hl_pipeline.formats.fills import BadLine, empty_fills, in_fill_schema
from hl_pipeline.formats.pair_offsets import Bools

PARSER = 1
"""Version of what this parser makes of an object; a higher one has come to keep more."""

_BLOCK_KEYS = ("local_time", "block_time", "block_number", "events")
_Taken = tuple[int, int, list[Row], list[BadLine]]


def decode_chunk(chunk: bytes, first_line: int = 1) -> Decoded:
    """Decode whole lines (each ends in a newline), of which the first has the number `first_line`."""
    return decode_by_halves(chunk, first_line, _decode_fast, _decode_exactly)


def _decode_exactly(chunk: bytes, first_line: int) -> Decoded:
    rows: list[Row] = []
    bad: list[BadLine] = []
    numbers: list[int] = []
    times: list[int] = []
    lines = chunk.split(b"\n")[:-1]
    for line, text in enumerate(lines, first_line):
        if not text.strip():
            continue
        taken = take_line(text, line, _take_block)
        if isinstance(taken, BadLine):
            bad.append(taken)
            continue
        number, time_ns, block_rows, block_bad = taken
        rows += block_rows
        bad += block_bad
        numbers.append(number)
        times.append(time_ns)
    return Decoded(fills_frame(rows), bad, Blocks(np.array(numbers, np.int64), np.array(times, np.int64)), len(lines))


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


def _decode_fast(chunk: bytes, first_line: int) -> Decoded | None:
    """The chunk decoded, or None when its shape is not the known one."""
    layout = find_layout(chunk)
    header = layout and read_header(layout)
    if layout is None or header is None:
        return None
    blocks, local_times = header
    if not len(layout.fills.pairs):
        return Decoded(empty_fills(), [], blocks, len(layout.starts))
    read = read_fills(layout.fills, first_line)
    if read is None:
        return None
    fills, odd = read
    block_times = blocks.times_ns[layout.fills.lines]
    odd |= fills["time"].cast(pl.Int64).fill_null(0).to_numpy() != block_times // 1_000_000
    fills = in_fill_schema(
        fills.with_columns(
            pl.Series("block_number", blocks.numbers[layout.fills.lines]),
            pl.Series("block_time_ns", block_times),
            pl.Series("local_time_ns", local_times[layout.fills.lines]),
        )
    )
    fills, bad = _take_odd(fills, odd, layout) if odd.any() else (fills, [])
    return Decoded(fills, bad, blocks, len(layout.starts))


def _take_odd(fills: pl.DataFrame, odd: Bools, layout: Layout) -> tuple[pl.DataFrame, list[BadLine]]:
    """`fills` with the odd ones parsed exactly, and those that were bad."""
    places = layout.fills
    first_of_line = np.searchsorted(places.lines, places.lines)
    rows = fills.select("block_number", "block_time_ns", "local_time_ns", "line")

    def take(index: int) -> list[Row] | BadLine:
        text = places.chunk[places.pairs[index] : places.ends[index] + 1]
        place = rows.row(index, named=True)
        try:
            return [_take_event(parse_json(text), place)]
        except (BadValueError, RecursionError) as error:
            return bad_line(place["line"], index - int(first_of_line[index]) + 1, error, text)

    return replace_odd(fills, odd, take)
