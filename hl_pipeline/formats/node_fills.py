"""`node_fills`: chunks of fill lines to frames of fills.

One line is one fill, `["0x…", {fill}]`; a flat object of the fill and its `user` is said to occur: taken too, but exactly. There
are no blocks. Lines of just the known layout are read by `scan_fills`, others exactly.
"""

# JSON of others has no types.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hl_pipeline.formats.decoding import Blocks, Decoded, NumberedLine, Taken, decode_lines, read_odd_lines
from hl_pipeline.formats.exact_decode import BadValueError, Json, Row, check_years, parse_fill, refuse_doubled_keys
from hl_pipeline.formats.fills import in_fill_schema
from hl_pipeline.formats.scan_fills import scan_lines

PARSER = 1
"""Version of what this parser makes of an object; a higher one has come to keep more."""


def decode_chunk(chunk: bytes, first_line: int = 1) -> Decoded:
    """Decode whole lines (each ends in a newline), of which the first has the number `first_line`.

    block_number, block_time_ns and local_time_ns are NULL, and `blocks` is empty: the source does not tell them.
    """
    return read_odd_lines(_take_known(chunk, first_line), chunk, first_line, _decode_exactly)


def _take_known(chunk: bytes, first_line: int) -> Taken:
    """What is of the known form."""
    scanned = scan_lines(chunk, blocks=False)
    fills = scanned.fills.with_columns(pl.Series("line", scanned.line_of_fill + first_line))
    return Taken(in_fill_schema(fills), Blocks(), scanned.odd, scanned.ends)


def _decode_exactly(lines: Iterable[NumberedLine]) -> Decoded:
    return decode_lines(lines, _take_fill)


def _take_fill(value: Json, line: int) -> list[Row]:
    """The fill of a line. Raises BadValueError when it is none."""
    if isinstance(value, dict):
        refuse_doubled_keys(value)
        row = parse_fill({name: item for name, item in value.items() if name != "user"}, value.get("user"))
    elif isinstance(value, list) and len(value) == 2:
        row = parse_fill(value[1], value[0])
    else:
        raise BadValueError("a line must be a pair of user and fill, or a fill with its user")
    check_years(row["time"])
    return [row | {"line": line}]
