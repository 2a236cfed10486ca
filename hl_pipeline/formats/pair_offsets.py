"""Where the `[user, fill]` pairs of a chunk stand in its bytes: what every format of such pairs has in common.

What a line has around its pairs is the matter of each format, what a fill holds that of `fast_fills`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ADDRESS_AT, ADDRESS_WIDTH = 2, 42  # in `["0x…",{`
PAIR_WIDTH = ADDRESS_AT + ADDRESS_WIDTH + 2  # from the bracket that opens a pair to the brace that opens its fill

_BACKSLASH, _NEWLINE, _SPACE = b"\\\n "
_ADDRESS_OPENS = np.frombuffer(b'"0x', np.uint8)
_FILL_OPENS = np.frombuffer(b'",{', np.uint8)
_IS_HEX = np.isin(np.arange(256), np.frombuffer(b"0123456789abcdefABCDEF", np.uint8))


@dataclass(frozen=True, slots=True)
class LineHeader:
    """What each line has before its first pair: how many `":`, quotes and opening braces."""

    keys: int = 0
    quotes: int = 0
    braces: int = 0


@dataclass(frozen=True, slots=True)
class FillPlaces:
    """The pairs of a well-shaped chunk in its order: offsets into its bytes."""

    chunk: bytes
    buffer: Bytes  # the same bytes
    header: LineHeader
    lines: Ints  # the line of each pair, from 0
    pairs: Ints  # the bracket that opens it
    starts: Ints  # the opening brace of its fill
    ends: Ints  # one past the closing brace
    inner_brackets: Ints  # those within fills: an unknown field has a list


def plain_newlines(buffer: Bytes) -> Ints | None:
    """Where the newlines are; None when there is none, or a backslash or any other control character."""
    if (buffer == _BACKSLASH).any():
        return None
    newlines = np.flatnonzero(buffer == _NEWLINE)
    if not len(newlines) or np.count_nonzero(buffer < _SPACE) != len(newlines):
        return None
    return newlines


def open_pairs(buffer: Bytes, brackets: Ints) -> Bools:
    """Whether `["0x`, an address' width and `",{` begin at each of the brackets (each at least PAIR_WIDTH + 1 before the end)."""
    opens = (around(buffer, brackets, 1, 1 + len(_ADDRESS_OPENS)) == _ADDRESS_OPENS).all(axis=1)
    opens &= (around(buffer, brackets, PAIR_WIDTH - 2, PAIR_WIDTH + 1) == _FILL_OPENS).all(axis=1)
    return opens


def users_are_hex(buffer: Bytes, pairs: Ints) -> bool:
    """Whether the user of each pair is `0x` and hex digits."""
    return bool(_IS_HEX[around(buffer, pairs, ADDRESS_AT + 2, ADDRESS_AT + ADDRESS_WIDTH)].all())


def around(buffer: Bytes, positions: Ints, start: int, stop: int) -> Bytes:
    """The bytes from `start` to `stop` around each position, one row each."""
    # Rows of a sliding window: numpy copies each whole, five times as fast as picking bytes one by one.
    return sliding_window_view(buffer, stop - start)[positions + start]
