"""Converts lines of fills to columns with compiled scanners, which check every byte of what they accept.

The first pass finds where each value of each fill begins. The second pass reads the values of each field as one column. A fill is
accepted whole or not at all: any unknown field or form makes it odd, and an exact parser reads it instead. Lines are treated the
same way, except that an odd event of a block does not make its whole line odd.
"""

# numba compiles some of these functions; pyarrow has no types of its own.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportMissingTypeStubs=false
# Compiled code has only one integer type.
# pyright: reportArgumentType=false, reportReturnType=false
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from hl_pipeline.formats.exact_decode import EARLIEST_MS, END_MS
from hl_pipeline.formats.fills import (
    DECIMAL_FIELDS,
    FILL_SCHEMA,
    HEX_FIELDS,
    INTEGER_FIELDS,
    LIQUIDATION_FIELDS,
    OPTIONAL_FIELDS,
    REGULAR_FIELDS,
)
from hl_pipeline.formats.scan_values import (
    ABSENT,
    Bools,
    Bytes,
    Ints,
    Places,
    compiled,
    scan_clocks,
    scan_decimals,
    scan_flags,
    scan_hex,
    scan_integers,
    scan_texts,
)

# The usual order of the keys. A key in another place is also found, but more slowly.
_FIELDS = (
    *("coin", "px", "sz", "side", "time", "startPosition", "dir", "closedPnl", "hash", "oid", "crossed", "fee", "tid", "cloid"),
    *("feeToken", "builder", "builderFee", "deployerFee", "priorityGas", "twapId", "liquidation"),
)
_COLUMNS = {name: index for index, name in enumerate((*_FIELDS, *LIQUIDATION_FIELDS, "user"))}
_LOWER = ("user", "builder", "liquidatedUser")
_COIN, _SIDE, _TWAP_ID, _LIQUIDATION, _USER = map(_COLUMNS.__getitem__, ("coin", "side", "twapId", "liquidation", "user"))
_KEY_TEXTS = [f'"{name}":'.encode() for name in (*_FIELDS, *LIQUIDATION_FIELDS)]
_KEYS = np.frombuffer(b"".join(_KEY_TEXTS), np.uint8)
_KEY_ENDS = np.cumsum([0, *map(len, _KEY_TEXTS)])
_ALL_REGULAR = sum(1 << index for index, name in enumerate(_FIELDS) if name in REGULAR_FIELDS)
_ADDRESS_DIGITS = 40
# A fill is never shorter than this, even with empty values. This limits the number of rows in a chunk.
_LEAST_BYTES = sum(len(f'"{name}":,') for name in REGULAR_FIELDS) + _ADDRESS_DIGITS
_ROWS_IN_CACHE = 1_000  # the text of this many fills fits in the processor's cache while their columns are read
_BYTES_PER_TEXT = 64  # average in a column
_MAX_DEPTH = 20  # of brackets in an odd event; for whole lines, the json module's limit applies

_QUOTE, _BACKSLASH, _SPACE, _TILDE = b'"\\ ~'
_OPEN_BRACE, _CLOSE_BRACE, _COMMA, _OPEN, _CLOSE, _NEWLINE = b"{},[]\n"
_ZERO, _NINE, _SMALL_A, _SMALL_F, _LETTER_A, _LETTER_B, _N = b"09afABn"
_IS_PLAIN = np.array([_SPACE <= byte <= _TILDE and byte not in (_QUOTE, _BACKSLASH) for byte in range(256)])
_TO_LOWER = 0x20  # the bit that makes a letter lower case


def _pattern(text: str) -> Bytes:
    """Return the bytes of a pattern, in which 0 matches any digit and every other character matches itself."""
    return np.frombuffer(text.encode(), np.uint8)


_CLOCK = "0000-00-00T00:00:00.000000000"
_LOCAL_TIME_AT = len('{"local_time":"')
_BLOCK_TIME_AT = _LOCAL_TIME_AT + len(_CLOCK + '","block_time":"')
_HEADER = _pattern(f'{{"local_time":"{_CLOCK}","block_time":"{_CLOCK}","block_number":')
_EVENTS, _END_OF_BLOCK = _pattern(',"events":['), _pattern("]}\n")
_FILL_OPENS, _NULL = _pattern('",{'), _pattern("null")


@dataclass(frozen=True, slots=True)
class Scanned:
    """The content of a chunk's lines.

    Per fill: `fills` has the columns of FILL_SCHEMA that come from the fill and its user. `line_of_fill` is its line's index.
    Per line: `odd` is True if the exact parser must read it; its rows in `fills` are then meaningless. `ends` is the position of
    its newline. If lines are blocks, `numbers`, `times_ns` and `local_times_ns` (ns since 1970) have one item per line.
    Per event of a block: `odd_fills` is True if the exact parser must read it; its row is then meaningless. `spans` has the
    positions where the event begins and ends.
    """

    fills: pl.DataFrame
    odd_fills: Bools
    spans: Places
    line_of_fill: Ints
    odd: Bools
    ends: Ints
    numbers: Ints
    times_ns: Ints
    local_times_ns: Ints


def scan_lines(chunk: bytes, *, blocks: bool) -> Scanned:
    """Scan whole lines, each ending in a newline. A line is a block if `blocks`, and a pair of user and fill otherwise."""
    buffer, count = np.frombuffer(chunk, np.uint8), chunk.count(b"\n")
    room = len(chunk) // _LEAST_BYTES + 1
    places, spans, odd_fills = np.empty((room, len(_COLUMNS)), np.int32), np.empty((room, 2), np.int32), np.zeros(room, bool)
    starts, number_places = np.empty(count, np.int32), np.empty(count, np.int32)
    fills_of_line = np.empty(count, np.int64)
    height = _find_fills(buffer, blocks, places, spans, odd_fills, fills_of_line, starts, number_places)
    places, spans, odd_fills = places[:height], spans[:height], odd_fills[:height]
    line_of_fill = np.repeat(np.arange(count), np.maximum(fills_of_line, 0))
    odd_lines = fills_of_line < 0
    fills = _read_columns(buffer, places, odd_fills)
    numbers, times, local_times = np.zeros((3, count), np.int64)
    times_ms = fills["time"].to_physical().fill_null(ABSENT).to_numpy()
    if blocks:
        fine = np.where(odd_lines, ABSENT, starts)
        scan_integers(buffer, np.where(odd_lines, ABSENT, number_places), numbers, odd_lines)
        scan_clocks(buffer, fine, _LOCAL_TIME_AT, local_times, odd_lines)
        scan_clocks(buffer, fine, _BLOCK_TIME_AT, times, odd_lines)
        odd_fills |= times_ms != times[line_of_fill] // 1_000_000
    else:
        odd_fills |= (times_ms < EARLIEST_MS) | (times_ms >= END_MS)
        odd_lines[line_of_fill[odd_fills]] = True
    ends = np.append(starts[1:], len(chunk)).astype(np.int64) - 1
    return Scanned(fills, odd_fills, spans, line_of_fill, odd_lines, ends, numbers, times, local_times)


_EXAMPLE = (
    b'{"local_time":"2026-03-15T00:00:00.010748709","block_time":"2026-03-14T23:59:59.897016199","block_number":923950000,'
    b'"events":[["0x29986f15b332d05221147585c5f376bf03e85fdd",{"coin":"BTC","px":"71234.5","sz":"0.01","side":"B",'
    b'"time":1773532799897,"startPosition":"0.0","dir":"Open Long","closedPnl":"0.0",'
    b'"hash":"0x834328b08b449c3d2096185d694ae8fd08825b89f42cc7e47c89d8ea1d8df8bf","oid":350000000009,"crossed":true,'
    b'"fee":"0.0","tid":321192794362232,"feeToken":"USDC","twapId":null}]]}\n'
)


def compile_scanners() -> None:
    """Compile and cache every scanner now, so that the first object does not wait for it."""
    scanned = scan_lines(_EXAMPLE, blocks=True)
    assert not scanned.odd.any()
    assert not scanned.odd_fills.any()


@compiled
def _find_fills(
    chunk: Bytes,
    blocks: bool,
    places: Places,
    spans: Places,
    odd: Bools,
    fills_of_line: Ints,
    starts: Places,
    number_places: Places,
) -> int:
    """Find where the values of all fills begin, and return the number of fills.

    Fills the arrays that it gets. `places`: where each value of each fill begins. `fills_of_line`: the number of fills of each
    line, or -1 for an odd line. `starts`: where the lines begin. `number_places`: where the block numbers begin. If lines are
    blocks, `spans` gets where each event begins and ends, and `odd` whether it is odd.
    """
    row = at = 0
    for line in range(fills_of_line.size):
        starts[line] = at
        first = row
        if blocks:
            at = _skip(chunk, at, _HEADER)
            number_places[line] = max(at, 0)
            while at >= 0 and _ZERO <= chunk[at] <= _NINE:
                at += 1
            at = _skip(chunk, at, _EVENTS)
            if at >= 0 and chunk[at] != _CLOSE:
                at, row = _find_events(chunk, at, places, spans, odd, row)
            at = _skip(chunk, at, _END_OF_BLOCK)
        else:
            at = _find_pair(chunk, at, places, row)
            row += 1
            at = at + 1 if at >= 0 and chunk[at] == _NEWLINE else -1
        fills_of_line[line] = row - first if at >= 0 else -1
        if at < 0:
            row, at = first, np.int64(starts[line])
            while chunk[at] != _NEWLINE:
                at += 1
            at += 1
    return row


@compiled
def _skip(chunk: Bytes, at: int, pattern: Bytes) -> int:
    """Return the position after a pattern, or -1 if the pattern does not match or `at` is -1."""
    if at < 0:
        return -1
    for index in range(pattern.size):
        byte = chunk[at + index]
        if byte != pattern[index] and (pattern[index] != _ZERO or byte < _ZERO or byte > _NINE):
            return -1
    return at + pattern.size


@compiled
def _find_events(chunk: Bytes, at: int, places: Places, spans: Places, odd: Bools, row: int) -> tuple[int, int]:
    """Find the events of a line, which has at least one. The brackets of an odd event show where it ends."""
    while True:
        start = at
        at = _find_pair(chunk, start, places, row)
        odd[row] = at < 0
        if at < 0:
            for column in range(places.shape[1]):
                places[row, column] = ABSENT
            at = _find_end(chunk, start)
            # There may not be enough rows for shorter events.
            if at - start < _LEAST_BYTES:
                return -1, row
        spans[row, 0], spans[row, 1] = start, at
        row += 1
        if chunk[at] != _COMMA:
            return at, row
        at += 1


@compiled
def _find_end(chunk: Bytes, at: int) -> int:
    """Return the position after the array that begins at `at`.

    Returns -1 if no array begins there, or it does not end within its line, or it is nested too deeply. The position is correct
    only if the array is valid JSON.
    """
    if chunk[at] != _OPEN:
        return -1
    depth, is_text = 0, False
    while chunk[at] != _NEWLINE:
        byte = chunk[at]
        if byte == _QUOTE:
            is_text = not is_text
        elif is_text and byte == _BACKSLASH and chunk[at + 1] != _NEWLINE:
            at += 1
        elif not is_text and byte in (_OPEN, _OPEN_BRACE):
            depth += 1
        elif not is_text and byte in (_CLOSE, _CLOSE_BRACE):
            depth -= 1
        at += 1
        if depth == 0:
            return at
        if depth > _MAX_DEPTH:
            return -1
    return -1


@compiled
def _find_pair(chunk: Bytes, at: int, places: Places, row: int) -> int:
    """Find the values of a pair `["0x…",{fill}]`. Returns the position after it, or -1 if it is odd."""
    if chunk[at] != _OPEN or chunk[at + 1] != _QUOTE or chunk[at + 2] != _ZERO or chunk[at + 3] != ord("x"):
        return -1
    for column in range(places.shape[1]):
        places[row, column] = ABSENT
    places[row, _USER] = at + 1
    at += 4
    for _ in range(_ADDRESS_DIGITS):
        if not _ZERO <= chunk[at] <= _NINE and not _SMALL_A <= chunk[at] | _TO_LOWER <= _SMALL_F:
            return -1
        at += 1
    at = _skip(chunk, at, _FILL_OPENS)
    if at >= 0:
        at = _find_values(chunk, at, places, row)
    return at + 1 if at >= 0 and chunk[at] == _CLOSE else -1


@compiled
def _find_values(chunk: Bytes, at: int, places: Places, row: int) -> int:
    """Find the values of a fill, starting at its first key. Returns the position after its closing brace, or -1 if it is odd."""
    field, seen = -1, 0
    while True:
        field, at = _find_key(chunk, at, field + 1, len(_FIELDS))
        if field < 0 or seen >> field & 1:
            return -1
        seen |= 1 << field
        places[row, field] = at
        at = _skip_value(chunk, at, field, places, row)
        if at < 0 or chunk[at] != _COMMA:
            break
        at += 1
    return at + 1 if at >= 0 and chunk[at] == _CLOSE_BRACE and seen & _ALL_REGULAR == _ALL_REGULAR else -1


@compiled
def _skip_value(chunk: Bytes, at: int, field: int, places: Places, row: int) -> int:
    """Return the position after a value, or -1 if it is odd. Texts and nulls are validated here, other values when read."""
    if field == _LIQUIDATION:
        return _find_liquidation(chunk, at, places, row)
    if chunk[at] == _QUOTE:
        width = _text_width(chunk, at)
        if width < 0 or (field == _COIN and width == 0):
            return -1
        if field == _SIDE and (width != 1 or (chunk[at + 1] != _LETTER_A and chunk[at + 1] != _LETTER_B)):
            return -1
        return at + width + 2
    if field == _TWAP_ID and chunk[at] == _N:
        places[row, field] = ABSENT
        return _skip(chunk, at, _NULL)
    while chunk[at] != _COMMA and chunk[at] != _CLOSE_BRACE and chunk[at] != _NEWLINE:
        at += 1
    return at


@compiled
def _find_key(chunk: Bytes, at: int, likely: int, fields: int) -> tuple[int, int]:
    """Return the field whose key is at `at` (-1 for none), and where its value begins. Tries the `likely` field first."""
    for step in range(fields):
        field = (likely + step) % fields
        start, width = _KEY_ENDS[field], _KEY_ENDS[field + 1] - _KEY_ENDS[field]
        index = 0
        while index < width and chunk[at + index] == _KEYS[start + index]:
            index += 1
        if index == width:
            return field, at + width
    return -1, at


@compiled
def _text_width(chunk: Bytes, at: int) -> int:
    """Return the number of characters between the quotes of a text, or -1 unless it is printable ASCII without escapes."""
    end = at + 1
    while _IS_PLAIN[chunk[end]]:
        end += 1
    return end - at - 1 if chunk[end] == _QUOTE else -1


@compiled
def _find_liquidation(chunk: Bytes, at: int, places: Places, row: int) -> int:
    """Find the texts of a liquidation, which must be in the order of LIQUIDATION_FIELDS.

    Returns the position after its closing brace, or -1 if it is odd.
    """
    opens = _OPEN_BRACE
    for field in range(_LIQUIDATION + 1, _USER):
        if chunk[at] != opens:
            return -1
        found, at = _find_key(chunk, at + 1, field, _USER)
        if found != field or chunk[at] != _QUOTE:
            return -1
        places[row, field] = at
        width = _text_width(chunk, at)
        if width < 0:
            return -1
        at += width + 2
        opens = _COMMA
    return at + 1 if chunk[at] == _CLOSE_BRACE else -1


_NAMES = {"user": "wallet", **REGULAR_FIELDS, **OPTIONAL_FIELDS, **LIQUIDATION_FIELDS}
"""Maps a field's name in JSON to the name of its column."""


def _read_columns(chunk: Bytes, places: Places, odd: Bools) -> pl.DataFrame:
    """Read the values of all fills. Sets `odd` for fills with a value of an unknown form."""
    height = len(places)
    columns = {name: _empty_column(name, height) for name in _NAMES}
    for first in range(0, height, _ROWS_IN_CACHE):
        rows = slice(first, min(first + _ROWS_IN_CACHE, height))
        for name, (_, values, ends) in columns.items():
            _scan_column(name, chunk, places[rows, _COLUMNS[name]], values, ends, rows, odd[rows])
    return pl.DataFrame({_NAMES[name]: _as_series(*column, places[:, _COLUMNS[name]]) for name, column in columns.items()}).cast(
        {"time": FILL_SCHEMA["time"]}
    )


_Column = tuple[pa.DataType, np.ndarray, Ints | None]
"""The Arrow type of a column, the buffer of its values and, for texts, the buffer of their ends."""


def _empty_column(name: str, height: int) -> _Column:
    if name in HEX_FIELDS:
        return pa.binary(HEX_FIELDS[name]), np.empty((height, HEX_FIELDS[name]), np.uint8), None
    if name in (*DECIMAL_FIELDS, "markPx"):
        return pa.decimal128(38, 10), np.empty((height, 2), np.int64), None
    if name in INTEGER_FIELDS:
        return pa.int64(), np.empty(height, np.int64), None
    if name == "crossed":
        return pa.bool_(), np.empty(height, bool), None
    return pa.large_string(), np.empty(height * _BYTES_PER_TEXT, np.uint8), np.zeros(height + 1, np.int64)


def _scan_column(name: str, chunk: Bytes, places: Places, values: np.ndarray, ends: Ints | None, rows: slice, odd: Bools) -> None:
    """Read the values of some rows."""
    if ends is not None:
        scan_texts(chunk, places, name in _LOWER, values, ends[rows.start : rows.stop + 1], odd)
    elif name in HEX_FIELDS:
        scan_hex(chunk, places, values[rows], odd)
    elif name in INTEGER_FIELDS:
        scan_integers(chunk, places, values[rows], odd)
    elif name == "crossed":
        scan_flags(chunk, places, values[rows], odd)
    else:
        scan_decimals(chunk, places, values[rows], odd)


def _as_series(kind: pa.DataType, values: np.ndarray, ends: Ints | None, places: Places) -> pl.Series:
    is_known = places != ABSENT
    validity = None if is_known.all() else pa.py_buffer(np.packbits(is_known, bitorder="little"))
    buffers = [values if values.dtype != bool else np.packbits(values, bitorder="little")]
    if ends is not None:
        buffers.insert(0, ends)
    return pl.Series(pa.Array.from_buffers(kind, len(places), [validity, *map(pa.py_buffer, buffers)]))
