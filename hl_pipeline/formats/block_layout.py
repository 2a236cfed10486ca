"""Where the parts of a chunk of block lines stand, found in its bytes: of each byte that the decoder passes over, this has seen
that it is just what the known form has there. What the fills hold is not looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hl_pipeline.formats.decoding import Blocks
from hl_pipeline.formats.pair_offsets import (
    PAIR_WIDTH,
    Bytes,
    FillPlaces,
    Ints,
    LineHeader,
    around,
    open_pairs,
    plain_newlines,
    users_are_hex,
)

_OPEN_BRACKET = ord("[")
_HEADER = b'{"local_time":"0000-00-00T00:00:00.000000000","block_time":"0000-00-00T00:00:00.000000000","block_number":'
_HEADER_BYTES = np.frombuffer(_HEADER, np.uint8)
# The zeros of the pattern stand for digits.
_HEADER_DIGITS = np.flatnonzero(ord("0") == _HEADER_BYTES)
_LOCAL_TIME, _BLOCK_TIME = _HEADER.index(b"0000"), _HEADER.rindex(b"0000-")
_TIME_WIDTH = 29
_EVENTS_TEXT = b',"events":['
_EVENTS = np.frombuffer(_EVENTS_TEXT, np.uint8)
_LINE_HEADER = LineHeader(*((_HEADER + _EVENTS_TEXT).count(what) for what in (b'":', b'"', b"{")))

_NEXT_EVENT = np.frombuffer(b"}],", np.uint8)
_LINE_END = np.frombuffer(b"}]]}", np.uint8)
_EMPTY_END = np.frombuffer(b"[]}", np.uint8)
_IS_DIGIT = np.isin(np.arange(256), np.frombuffer(b"0123456789", np.uint8))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a well-shaped chunk stand: offsets into its bytes."""

    starts: Ints  # of each line
    events: Ints  # the bracket that opens each line's events
    fills: FillPlaces


def find_layout(chunk: bytes) -> Layout | None:
    """Where everything stands, after a look at each byte that is to be taken away; None when one of them differs."""
    buffer = np.frombuffer(chunk, np.uint8)
    newlines = plain_newlines(buffer)
    if newlines is None:
        return None
    starts = np.concatenate([[0], newlines[:-1] + 1])
    opens = np.flatnonzero(buffer == _OPEN_BRACKET)
    first = np.searchsorted(opens, starts)
    if first[-1] >= len(opens):
        return None
    events = opens[first]
    if (events > newlines - 3).any() or (events - starts < len(_HEADER) + len(_EVENTS)).any():
        return None
    if not (around(buffer, events, 1 - len(_EVENTS), 1) == _EVENTS).all():
        return None

    others = np.delete(opens, first)
    others_in_reach = others[others + PAIR_WIDTH < len(buffer)]
    pairs = others_in_reach[open_pairs(buffer, others_in_reach)]
    lines = np.searchsorted(newlines, pairs)
    is_first = pairs == events[lines] + 1
    if not ((around(buffer, pairs, -3, 0) == _NEXT_EVENT).all(axis=1) | is_first).all():
        return None
    if not users_are_hex(buffer, pairs):
        return None

    is_empty = np.ones(len(newlines), bool)
    is_empty[lines[is_first]] = False
    if (events[is_empty] != newlines[is_empty] - 3).any():
        return None
    line_ends = around(buffer, newlines, -4, 0)
    if not ((line_ends == _LINE_END).all(axis=1) | (is_empty & (line_ends[:, 1:] == _EMPTY_END).all(axis=1))).all():
        return None
    # `}],[` parts the fills of a line, `}]]}` ends it.
    is_last = np.append(lines[1:] != lines[:-1], True) if len(lines) else np.empty(0, bool)
    ends = np.where(is_last, newlines[lines] - 3, np.append(pairs[1:], 0) - 2)
    inner = np.empty(0, np.int64) if len(pairs) == len(others) else np.setdiff1d(others, pairs, assume_unique=True)
    fills = FillPlaces(chunk, buffer, _LINE_HEADER, lines, pairs, pairs + PAIR_WIDTH, ends, inner)
    return Layout(starts, events, fills)


def read_header(layout: Layout) -> tuple[Blocks, Ints] | None:
    """Each line's block and its local time (ns), or None when a header differs from the pattern."""
    buffer = layout.fills.buffer
    header = around(buffer, layout.starts, 0, len(_HEADER))
    if not _IS_DIGIT[header[:, _HEADER_DIGITS]].all():
        return None
    if not (np.delete(header, _HEADER_DIGITS, axis=1) == np.delete(_HEADER_BYTES, _HEADER_DIGITS)).all():
        return None
    widths = layout.events - len(_EVENTS) + 1 - layout.starts - len(_HEADER)
    width = int(widths[0])
    # Where the numbers grow by a digit the chunk is halved until they are alike.
    if not 0 < width <= 18 or (widths != width).any():
        return None
    digits = around(buffer, layout.starts, len(_HEADER), len(_HEADER) + width)
    if not _IS_DIGIT[digits].all() or (digits[:, 0] == ord("0")).any():
        return None
    numbers = (digits - np.uint8(ord("0"))).astype(np.int64) @ 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    # Nanoseconds reach from 1678 to 2262; a year outside of 2000 to 2199 is no block's.
    for at in (_LOCAL_TIME, _BLOCK_TIME):
        if (header[:, at] != ord("2")).any() or (header[:, at + 1] > ord("1")).any():
            return None
    try:
        times = _times_ns(header[:, _BLOCK_TIME : _BLOCK_TIME + _TIME_WIDTH])
        local_times = _times_ns(header[:, _LOCAL_TIME : _LOCAL_TIME + _TIME_WIDTH])
    except ValueError:
        return None
    return Blocks(numbers, times), local_times


def _times_ns(texts: Bytes) -> Ints:
    """ISO times of nine fractional digits, one a row, as ns since 1970. Raises ValueError for one that is none."""
    return np.ascontiguousarray(texts).view(f"S{_TIME_WIDTH}")[:, 0].astype("datetime64[ns]").astype(np.int64)
