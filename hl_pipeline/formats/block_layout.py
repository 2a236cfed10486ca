"""Where the parts of a chunk of block lines stand, found in its bytes: of each byte that the decoder passes over, this has seen
that it is just what the known form has there. What the fills hold is not looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


_OPEN_BRACKET, _BACKSLASH, _NEWLINE, _SPACE = b"[\\\n "
_HEADER = b'{"local_time":"0000-00-00T00:00:00.000000000","block_time":"0000-00-00T00:00:00.000000000","block_number":'
_HEADER_BYTES = np.frombuffer(_HEADER, np.uint8)
# The zeros of the pattern stand for digits.
_HEADER_DIGITS = np.flatnonzero(ord("0") == _HEADER_BYTES)
_LOCAL_TIME, _BLOCK_TIME = _HEADER.index(b"0000"), _HEADER.rindex(b"0000-")
_TIME_WIDTH = 29
_EVENTS = np.frombuffer(b',"events":[', np.uint8)
HEADER_QUOTES = _HEADER.count(b'"') + bytes(_EVENTS).count(b'"')
HEADER_KEYS = _HEADER.count(b'":') + bytes(_EVENTS).count(b'":')
ADDRESS_AT, ADDRESS_WIDTH = 2, 42  # in `["0x…",{`
_PAIR_WIDTH = ADDRESS_AT + ADDRESS_WIDTH + 2

_ADDRESS_OPENS = np.frombuffer(b'"0x', np.uint8)
_FILL_OPENS = np.frombuffer(b'",{', np.uint8)
_NEXT_EVENT = np.frombuffer(b"}],", np.uint8)
_LINE_END = np.frombuffer(b"}]]}", np.uint8)
_EMPTY_END = np.frombuffer(b"[]}", np.uint8)
_IS_DIGIT = np.isin(np.arange(256), np.frombuffer(b"0123456789", np.uint8))
_IS_HEX = np.isin(np.arange(256), np.frombuffer(b"0123456789abcdefABCDEF", np.uint8))


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a chunk, in its order: numbers and times (ns since 1970, UTC)."""

    numbers: Ints
    times_ns: Ints


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a well-shaped chunk stand: offsets into its bytes."""

    buffer: Bytes
    starts: Ints  # of each line
    newlines: Ints
    events: Ints  # the bracket that opens each line's events
    pairs: Ints  # the bracket that opens each [user, fill]
    lines: Ints  # the line of each pair, from 0
    fill_starts: Ints  # the opening brace of each fill
    fill_ends: Ints  # one past its closing brace
    inner_brackets: Ints  # those within a fill: an unknown field has a list


def find_layout(buffer: Bytes) -> Layout | None:
    """Where everything stands, after a look at each byte that is to be taken away; None when one of them differs."""
    if (buffer == _BACKSLASH).any():
        return None
    newlines = np.flatnonzero(buffer == _NEWLINE)
    if np.count_nonzero(buffer < _SPACE) != len(newlines):
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
    others_in_reach = others[others + _PAIR_WIDTH < len(buffer)]
    is_pair = (around(buffer, others_in_reach, 1, ADDRESS_AT + 2) == _ADDRESS_OPENS).all(axis=1)
    is_pair &= (around(buffer, others_in_reach, _PAIR_WIDTH - 2, _PAIR_WIDTH + 1) == _FILL_OPENS).all(axis=1)
    pairs = others_in_reach[is_pair]
    lines = np.searchsorted(newlines, pairs)
    is_first = pairs == events[lines] + 1
    if not ((around(buffer, pairs, -3, 0) == _NEXT_EVENT).all(axis=1) | is_first).all():
        return None
    if not _IS_HEX[around(buffer, pairs, ADDRESS_AT + 2, ADDRESS_AT + ADDRESS_WIDTH)].all():
        return None

    is_empty = np.ones(len(newlines), bool)
    is_empty[lines[is_first]] = False
    if (events[is_empty] != newlines[is_empty] - 3).any():
        return None
    ends = around(buffer, newlines, -4, 0)
    if not ((ends == _LINE_END).all(axis=1) | (is_empty & (ends[:, 1:] == _EMPTY_END).all(axis=1))).all():
        return None
    # `}],[` parts the fills of a line, `}]]}` ends it.
    is_last = np.append(lines[1:] != lines[:-1], True) if len(lines) else np.empty(0, bool)
    fill_ends = np.where(is_last, newlines[lines] - 3, np.append(pairs[1:], 0) - 2)
    inner = np.empty(0, np.int64) if len(pairs) == len(others) else np.setdiff1d(others, pairs, assume_unique=True)
    return Layout(buffer, starts, newlines, events, pairs, lines, pairs + _PAIR_WIDTH, fill_ends, inner)


def around(buffer: Bytes, positions: Ints, start: int, stop: int) -> Bytes:
    """The bytes from `start` to `stop` around each position, one row each."""
    # Rows of a sliding window: numpy copies each whole, five times as fast as picking bytes one by one.
    return sliding_window_view(buffer, stop - start)[positions + start]


def read_header(layout: Layout) -> tuple[Blocks, Ints] | None:
    """Each line's block and its local time (ns), or None when a header differs from the pattern."""
    header = around(layout.buffer, layout.starts, 0, len(_HEADER))
    if not _IS_DIGIT[header[:, _HEADER_DIGITS]].all():
        return None
    if not (np.delete(header, _HEADER_DIGITS, axis=1) == np.delete(_HEADER_BYTES, _HEADER_DIGITS)).all():
        return None
    widths = layout.events - len(_EVENTS) + 1 - layout.starts - len(_HEADER)
    width = int(widths[0])
    # Where the numbers grow by a digit the chunk is halved until they are alike.
    if not 0 < width <= 18 or (widths != width).any():
        return None
    digits = around(layout.buffer, layout.starts, len(_HEADER), len(_HEADER) + width)
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
