"""Decodes `node_fills_by_block`: chunks of block lines to frames of fills.

One line is one block: `{"local_time", "block_time", "block_number", "events": [[user, fill], ...]}`. Times are naive UTC with
nine fractional digits. `scan_fills` reads lines and events of exactly the known layout; `exact_decode` reads all others.
"""

# JSON from outside has no types.
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
    parse_json,
    parse_time_ns,
    refuse_doubled_keys,
    take_line,
    with_extra,
)
from hl_pipeline.formats.fills import BadLine, in_fill_schema
from hl_pipeline.formats.scan_fills import Scanned, scan_lines

PARSER = 1
"""Version of this parser's output for an object. A higher version keeps more."""

_PLACE = ("block_number", "block_time_ns", "local_time_ns")
_BLOCK_KEYS = ("local_time", "block_time", "block_number", "events")
_Taken = tuple[int, int, list[Row], list[BadLine]]


def decode_chunk(chunk: bytes, first_line: int = 1) -> Decoded:
    """Decode whole lines, each ending in a newline. The first has the number `first_line`."""
    return read_odd_lines(_take_known(chunk, first_line), chunk, first_line, _decode_exactly)


def _take_known(chunk: bytes, first_line: int) -> Taken:
    """Decode the lines of the known layout. The odd events in these lines are parsed exactly, one by one."""
    scanned = scan_lines(chunk, blocks=True)
    line = scanned.line_of_fill
    fills = scanned.fills.with_columns(
        pl.Series("block_number", scanned.numbers[line]),
        pl.Series("block_time_ns", scanned.times_ns[line]),
        pl.Series("local_time_ns", scanned.local_times_ns[line]),
        pl.Series("line", line + first_line),
    )
    blocks = Blocks(scanned.numbers, scanned.times_ns, np.arange(len(scanned.odd)) + first_line)
    fills, bad = _read_odd_events(in_fill_schema(fills), scanned, chunk, first_line)
    return Taken(fills, blocks, scanned.odd, scanned.ends, bad)


def _read_odd_events(fills: pl.DataFrame, scanned: Scanned, chunk: bytes, first_line: int) -> tuple[pl.DataFrame, list[BadLine]]:
    """Parse the odd events exactly. Returns all fills, and the events that are bad.

    If an event is not valid JSON, its whole line becomes odd: the events may then not end where the scanner found their ends.
    """
    line_of_fill, odd_lines = scanned.line_of_fill, scanned.odd
    taken: dict[int, Row | BadLine] = {}
    for fill in map(int, np.flatnonzero(scanned.odd_fills & ~odd_lines[line_of_fill])):
        line = int(line_of_fill[fill])
        start, end = scanned.spans[fill]
        header = (int(of_line[line]) for of_line in (scanned.numbers, scanned.times_ns, scanned.local_times_ns))
        place = {**dict(zip(_PLACE, header, strict=True)), "line": line + first_line}
        try:
            position = fill - int(np.searchsorted(line_of_fill, line)) + 1
            taken[fill] = _take_event(parse_json(chunk[start:end]), position, place, {})
        except Exception:  # noqa: BLE001 - the exact parser reports the error for the line
            odd_lines[line] = True
    if not taken:
        return fills, []
    exact = fills_frame([row for row in taken.values() if not isinstance(row, BadLine)])
    # Slices, because gathering every row by index takes twice as long.
    parts: list[pl.DataFrame] = []
    behind = rows = 0
    for fill, row in taken.items():
        is_row = not isinstance(row, BadLine)
        parts += fills.slice(behind, fill - behind), exact.slice(rows, int(is_row))
        behind, rows = fill + 1, rows + is_row
    fills = pl.concat([*parts, fills.slice(behind)], rechunk=True)
    return fills, [bad for bad in taken.values() if isinstance(bad, BadLine)]


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
    """Return a block's number and time (ns), its fills and its bad events. Raises BadValueError if it is not a block."""
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
    place = {**dict(zip(_PLACE, (number, time_ns, local_time_ns), strict=True)), "line": line}
    rows: list[Row] = []
    bad: list[BadLine] = []
    for position, event in enumerate(events, 1):
        taken = _take_event(event, position, place, unknown)
        if isinstance(taken, BadLine):
            bad.append(taken)
        else:
            rows.append(taken)
    return number, time_ns, rows, bad


def _take_event(event: Json, position: int, place: Row, unknown: dict[str, Json]) -> Row | BadLine:
    """Return the fill of an event, or a quarantine record with the reason why it has none.

    `place`: the columns of its block and line. `position`: its position in the block, from 1. `unknown`: unknown fields of the
    block.
    """
    try:
        if not isinstance(event, list) or len(event) != 2:
            raise BadValueError("an event must be a pair of user and fill")
        row = parse_fill(event[1], event[0])
        check_clock(row["time"], place["block_time_ns"])
        with_extra(row, "_block", unknown)
    except (BadValueError, RecursionError) as error:
        return bad_line(place["line"], position, error, dump_json(event).encode())
    return row | place
