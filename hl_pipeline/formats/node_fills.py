"""Decodes `node_fills`: chunks of fill lines to frames of fills.

One line is one fill, `["0x…", {fill}]`. There are no blocks. A flat object with the fill's fields and its `user` is also
accepted, since it reportedly occurs. `scan_fills` reads lines of exactly the known layout; `exact_decode` reads all others.
"""

# JSON from outside has no types.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hl_pipeline.formats.decoding import Blocks, Decoded, NumberedLine, Taken, decode_lines, read_odd_lines
from hl_pipeline.formats.exact_decode import BadValueError, Json, Row, check_years, parse_fill, refuse_doubled_keys
from hl_pipeline.formats.fills import in_fill_schema
from hl_pipeline.formats.scan_fills import scan_lines

PARSER = 1
"""Version of this parser's output for an object. A higher version keeps more."""


def decode_chunk(chunk: bytes, first_line: int = 1) -> Decoded:
    """Decode whole lines, each ending in a newline. The first has the number `first_line`.

    block_number, block_time_ns and local_time_ns are NULL, and `blocks` is empty, because the source does not have them.
    """
    return read_odd_lines(_take_known(chunk, first_line), chunk, first_line, _decode_exactly)


def _take_known(chunk: bytes, first_line: int) -> Taken:
    """Decode the lines of the known layout."""
    scanned = scan_lines(chunk, blocks=False)
    fills = scanned.fills.with_columns(pl.Series("line", scanned.line_of_fill + first_line))
    return Taken(in_fill_schema(fills), Blocks(), scanned.odd, scanned.ends)


def _decode_exactly(lines: Iterable[NumberedLine]) -> Decoded:
    return decode_lines(lines, _take_fill)


def _take_fill(value: Json, line: int) -> list[Row]:
    """Return the fill of a line. Raises BadValueError if it is not a fill."""
    if isinstance(value, dict):
        refuse_doubled_keys(value)
        row = parse_fill({name: item for name, item in value.items() if name != "user"}, value.get("user"))
    elif isinstance(value, list) and len(value) == 2:
        row = parse_fill(value[1], value[0])
    else:
        raise BadValueError("a line must be a pair of user and fill, or a fill with its user")
    check_years(row["time"])
    return [row | {"line": line}]
