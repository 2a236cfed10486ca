"""`node_fills`: chunks of fill lines to frames of fills.

One line is one fill, `["0x…", {fill}]`; a flat object of the fill and its `user` is said to occur: taken too, but one by one.
There are no blocks. A chunk of pairs is read by `fast_fills`, a line that it calls odd is parsed exactly; a chunk of another
shape is halved until what is odd stands alone, and that is parsed exactly.
"""

# JSON of others has no types.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import numpy as np
import polars as pl

from hl_pipeline.formats.decoding import Decoded, decode_by_halves, decode_lines, replace_odd
from hl_pipeline.formats.exact_decode import (
    EARLIEST_MS,
    END_MS,
    BadValueError,
    Json,
    Row,
    check_years,
    parse_fill,
    refuse_doubled_keys,
    take_line,
)
from hl_pipeline.formats.fast_fills import read_fills
from hl_pipeline.formats.fills import BadLine, in_fill_schema
from hl_pipeline.formats.pair_offsets import (
    PAIR_WIDTH,
    FillPlaces,
    LineHeader,
    around,
    open_pairs,
    plain_newlines,
    users_are_hex,
)

PARSER = 1
"""Version of what this parser makes of an object; a higher one has come to keep more."""

_OPEN_BRACKET = ord("[")
_LINE_END = np.frombuffer(b"}]", np.uint8)


def decode_chunk(chunk: bytes, first_line: int = 1) -> Decoded:
    """Decode whole lines (each ends in a newline), of which the first has the number `first_line`.

    block_number, block_time_ns and local_time_ns are NULL, and `blocks` is empty: the source does not tell them.
    """
    return decode_by_halves(chunk, first_line, _decode_fast, _decode_exactly)


def _decode_exactly(chunk: bytes, first_line: int) -> Decoded:
    return decode_lines(chunk, first_line, _take_fill)


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


def _decode_fast(chunk: bytes, first_line: int) -> Decoded | None:
    """The chunk decoded, or None when its shape is not the known one."""
    places = _find_places(chunk)
    read = places and read_fills(places, first_line)
    if places is None or read is None:
        return None
    fills, odd = read
    odd |= ~fills["time"].cast(pl.Int64).is_between(EARLIEST_MS, END_MS, closed="left").fill_null(False).to_numpy()
    fills = in_fill_schema(fills)
    if not odd.any():
        return Decoded(fills, lines=len(places.lines))

    def take(index: int) -> list[Row] | BadLine:
        return take_line(chunk[places.pairs[index] : places.ends[index] + 1], index + first_line, _take_fill)

    fills, bad = replace_odd(fills, odd, take)
    return Decoded(fills, bad, lines=len(places.lines))


def _find_places(chunk: bytes) -> FillPlaces | None:
    """Where everything stands, after a look at each byte that is to be taken away; None when one of them differs."""
    buffer = np.frombuffer(chunk, np.uint8)
    newlines = plain_newlines(buffer)
    if newlines is None:
        return None
    pairs = np.concatenate([[0], newlines[:-1] + 1])
    if (newlines - pairs <= PAIR_WIDTH + len(_LINE_END)).any():
        return None
    if (buffer[pairs] != _OPEN_BRACKET).any() or not open_pairs(buffer, pairs).all() or not users_are_hex(buffer, pairs):
        return None
    if not (around(buffer, newlines, -len(_LINE_END), 0) == _LINE_END).all():
        return None
    brackets = np.flatnonzero(buffer == _OPEN_BRACKET)
    inner = np.empty(0, np.int64) if len(brackets) == len(pairs) else np.setdiff1d(brackets, pairs, assume_unique=True)
    return FillPlaces(chunk, buffer, LineHeader(), np.arange(len(pairs)), pairs, pairs + PAIR_WIDTH, newlines - 1, inner)
