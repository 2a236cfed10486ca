"""Compiled scanners of JSON values. From the positions of values in a chunk, they make columns of numbers, bytes and texts.

Each scanner checks every byte of its values. A value of an unknown form makes its row odd, and an exact parser reads that row.
The position ABSENT means no value. A quote, comma or brace follows each value, so no scanner reads past the chunk.
"""

# numba compiles these functions, and its decorators have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false
# pyright: reportMissingTypeStubs=false
# Compiled code has only one integer type.
# pyright: reportArgumentType=false, reportReturnType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Places = NDArray[np.int32]
Bools = NDArray[np.bool_]

ABSENT = -1

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])


def compiled(function: _FunctionT) -> _FunctionT:
    """Return a function that is compiled to machine code on its first call.

    The code is cached next to the source, in the user's cache directory, or in NUMBA_CACHE_DIR. If no cache is writable, each
    process compiles again.
    """
    try:
        return cast(_FunctionT, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        return cast(_FunctionT, numba.njit(nogil=True)(function))


_QUOTE, _MINUS, _POINT, _ZERO, _NINE, _COMMA, _CLOSE_BRACE, _X = b'"-.09,}x'
_A, _Z, _SMALL_A, _SMALL_F = b"AZaf"
_TO_LOWER = ord("a") - ord("A")
_PLACES_AFTER_POINT = 10  # of PRICE_TYPE
_SCALE = 10**_PLACES_AFTER_POINT
_FIVES = 5**_PLACES_AFTER_POINT
_POWERS = 10 ** np.arange(_PLACES_AFTER_POINT + 1, dtype=np.int64)
_MAX_DIGITS = 18  # any number of this many digits fits in 64 bits
_NARROW = 2**63 // _SCALE - 1  # a whole number up to this, with its decimals, fits in 64 bits
_LOW_32 = 0xFFFFFFFF
_TRUE, _FALSE = np.frombuffer(b"true", np.uint8), np.frombuffer(b"false", np.uint8)
_DAYS_BEFORE_MONTH = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DAYS_TO_2000 = 10_957  # from 1970


@compiled
def scan_integers(chunk: Bytes, places: Places, values: Ints, odd: Bools) -> None:
    """Read non-negative JSON integers of at most 18 digits."""
    for row in range(places.size):
        at = np.int64(places[row])
        if at == ABSENT:
            values[row] = 0
            continue
        start, value = at, 0
        while _ZERO <= chunk[at] <= _NINE:
            value = value * 10 + (np.int64(chunk[at]) - _ZERO)
            at += 1
        digits = at - start
        odd[row] |= not 1 <= digits <= _MAX_DIGITS or (digits > 1 and chunk[start] == _ZERO)
        odd[row] |= chunk[at] != _COMMA and chunk[at] != _CLOSE_BRACE
        values[row] = value


@compiled
def scan_decimals(chunk: Bytes, places: Places, words: Ints, odd: Bools) -> None:
    """Read texts of the form DECIMAL_TEXT, with at most 18 digits before the point.

    Each becomes the low and the high word of a Decimal(38,10).
    """
    for row in range(places.size):
        at = np.int64(places[row])
        low = high = 0
        if at != ABSENT:
            is_text = chunk[at] == _QUOTE
            is_negative = chunk[at + 1] == _MINUS
            at += 1 + is_negative
            start, whole, fraction, decimals = at, 0, 0, 0
            while _ZERO <= chunk[at] <= _NINE:
                whole = whole * 10 + (np.int64(chunk[at]) - _ZERO)
                at += 1
            odd[row] |= not is_text or not 1 <= at - start <= _MAX_DIGITS
            if chunk[at] == _POINT:
                at += 1
                start = at
                while _ZERO <= chunk[at] <= _NINE:
                    fraction = fraction * 10 + (np.int64(chunk[at]) - _ZERO)
                    at += 1
                decimals = at - start
                if not 1 <= decimals <= _PLACES_AFTER_POINT:
                    odd[row], decimals = True, 0
            odd[row] |= chunk[at] != _QUOTE
            fraction *= _POWERS[_PLACES_AFTER_POINT - decimals]
            low = whole * _SCALE + fraction
            if whole > _NARROW:
                # _SCALE is _FIVES shifted by _PLACES_AFTER_POINT bits.
                lower = (whole & _LOW_32) * _FIVES
                upper = (whole >> 32) * _FIVES + (lower >> 32)
                high = upper >> (32 - _PLACES_AFTER_POINT)
                low = (upper << (32 + _PLACES_AFTER_POINT)) | ((lower & _LOW_32) << _PLACES_AFTER_POINT)
                low += fraction
                high += np.uint64(low) < np.uint64(fraction)
            if is_negative:
                low = -low
                high = -high if low == 0 else ~high
        words[row, 0] = low
        words[row, 1] = high


@compiled
def scan_hex(chunk: Bytes, places: Places, values: Bytes, odd: Bools) -> None:
    """Read texts of `0x` and exactly enough hex digits for a row of `values` (bytes)."""
    width = values.shape[1]
    for row in range(places.size):
        at = np.int64(places[row])
        if at == ABSENT:
            continue
        is_odd = chunk[at] != _QUOTE or chunk[at + 1] != _ZERO or chunk[at + 2] != _X
        at += 3
        for index in range(width):
            if is_odd or chunk[at] == _QUOTE or chunk[at + 1] == _QUOTE:
                is_odd = True
                break
            value = 0
            for digit in (chunk[at], chunk[at + 1]):
                is_letter = _SMALL_A <= (digit | _TO_LOWER) <= _SMALL_F
                is_odd |= not is_letter and not _ZERO <= digit <= _NINE
                value = value * 16 + ((digit & 15) + 9 if is_letter else digit & 15)
            values[row, index] = value
            at += 2
        odd[row] |= is_odd or chunk[at] != _QUOTE


@compiled
def scan_flags(chunk: Bytes, places: Places, values: Bools, odd: Bools) -> None:
    """Read `true` and `false`."""
    for row in range(places.size):
        at = np.int64(places[row])
        if at == ABSENT:
            values[row] = False
            continue
        values[row] = chunk[at] == _TRUE[0]
        word = _TRUE if values[row] else _FALSE
        index = 0
        while index < word.size and chunk[at + index] == word[index]:
            index += 1
        odd[row] |= index < word.size or (chunk[at + index] != _COMMA and chunk[at + index] != _CLOSE_BRACE)


@compiled
def scan_clocks(chunk: Bytes, places: Places, offset: int, times_ns: Ints, odd: Bools) -> None:
    """Read naive ISO times in UTC (2026-03-15T00:00:00.196239755) at `offset` after each position, as ns since 1970.

    The caller has checked that digits are digits. Years outside 2000 to 2199 are odd.
    """
    for row in range(places.size):
        at = np.int64(places[row]) + offset
        if places[row] == ABSENT:
            continue
        year, month, day = _number(chunk, at, 4), _number(chunk, at + 5, 2), _number(chunk, at + 8, 2)
        hour, minute, second = _number(chunk, at + 11, 2), _number(chunk, at + 14, 2), _number(chunk, at + 17, 2)
        if not (2000 <= year <= 2199 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 60):
            odd[row] = True
            continue
        is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        before, after = _DAYS_BEFORE_MONTH[month - 1], _DAYS_BEFORE_MONTH[month]
        odd[row] |= not 1 <= day <= after - before + (is_leap and month == 2)
        years = year - 2000
        leap_days = (years + 3) // 4 - (years + 99) // 100 + (years + 399) // 400  # in the years before
        days = _DAYS_TO_2000 + years * 365 + leap_days + before + (is_leap and month > 2) + day - 1
        times_ns[row] = ((days * 24 + hour) * 3600 + minute * 60 + second) * 1_000_000_000 + _number(chunk, at + 20, 9)


@compiled
def _number(chunk: Bytes, at: int, width: int) -> int:
    """Return the number that `width` digits represent."""
    value = 0
    for index in range(at, at + width):
        value = value * 10 + (np.int64(chunk[index]) - _ZERO)
    return value


@compiled
def scan_texts(chunk: Bytes, places: Places, lower: bool, values: Bytes, ends: Ints, odd: Bools) -> None:
    """Copy texts (printable ASCII without escapes), in lower case if `lower`.

    The text of row `n` becomes `values[ends[n]:ends[n + 1]]`; the caller sets `ends[0]`. A text that does not fit in `values` is
    odd.
    """
    end = ends[0]
    for row in range(places.size):
        at = np.int64(places[row])
        width = 0
        if at != ABSENT:
            at += 1
            if chunk[at - 1] == _QUOTE:
                while chunk[at + width] != _QUOTE:
                    width += 1
            if chunk[at - 1] != _QUOTE or end + width > values.size:
                odd[row], width = True, 0
            for index in range(width):
                byte = chunk[at + index]
                values[end + index] = byte + _TO_LOWER if lower and _A <= byte <= _Z else byte
        end += width
        ends[row + 1] = end
