"""`node_fills_by_block`: chunks of block lines to frames of fills.

One line is one block: `{"local_time", "block_time", "block_number", "events": [[user, fill], ...]}`, times naive UTC with nine
digits. The fast way rewrites a chunk into bare fill objects, one a line, for polars to read with a flat schema, after it has
seen that every byte it takes away has just the known shape. What polars reads is then held against the bytes: counts of
quotes, braces and brackets tell an unknown, missing or doubled field, patterns a number out of range. A fill that differs is
parsed exactly; a chunk whose shape differs is halved until what is odd stands alone, and that is parsed exactly.
"""

# JSON of others has no types, pyarrow none of its own.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hl_pipeline.formats.exact import (
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
    with_block_extra,
)
from hl_pipeline.formats.fills import (
    DECIMAL_FIELDS,
    FILL_SCHEMA,
    HEX_FIELDS,
    INTEGER_FIELDS,
    LIQUIDATION_FIELDS,
    OPTIONAL_FIELDS,
    PRICE_TYPE,
    REGULAR_FIELDS,
    BadLine,
    empty_fills,
)

PARSER = 1
"""Version of what this parser makes of an object; a higher one has come to keep more."""

_EXACT_BELOW = 64 << 10  # bytes: an odd chunk smaller than this is parsed exactly, a larger one halved
_QUOTE, _OPEN_BRACKET, _OPEN_BRACE, _BACKSLASH, _NEWLINE, _SPACE = b'"[{\\\n '
_HEADER = b'{"local_time":"0000-00-00T00:00:00.000000000","block_time":"0000-00-00T00:00:00.000000000","block_number":'
_HEADER_BYTES = np.frombuffer(_HEADER, np.uint8)
# The zeros of the pattern stand for digits.
_HEADER_DIGITS = np.flatnonzero(ord("0") == _HEADER_BYTES)
_LOCAL_TIME, _BLOCK_TIME = _HEADER.index(b"0000"), _HEADER.rindex(b"0000-")
_TIME_WIDTH = 29
_EVENTS = np.frombuffer(b',"events":[', np.uint8)
_HEADER_QUOTES = _HEADER.count(b'"') + bytes(_EVENTS).count(b'"')
_ADDRESS_AT, _ADDRESS_WIDTH = 2, 42  # in `["0x…",{`
_PAIR_WIDTH = _ADDRESS_AT + _ADDRESS_WIDTH + 2
_TWAP_KEY = np.frombuffer(b'"twapId":', np.uint8)
_TWAP_KEY_I = bytes(_TWAP_KEY).index(b"I")

_ADDRESS_OPENS = np.frombuffer(b'"0x', np.uint8)
_FILL_OPENS = np.frombuffer(b'",{', np.uint8)
_NEXT_EVENT = np.frombuffer(b"}],", np.uint8)
_LINE_END = np.frombuffer(b"}]]}", np.uint8)
_EMPTY_END = np.frombuffer(b"[]}", np.uint8)
_IS_DIGIT = np.isin(np.arange(256), np.frombuffer(b"0123456789", np.uint8))
_IS_HEX = np.isin(np.arange(256), np.frombuffer(b"0123456789abcdefABCDEF", np.uint8))

_BLOCK_KEYS = ("local_time", "block_time", "block_number", "events")
_JSON_SCHEMA: dict[str, pl.DataType] = {
    **{name: pl.String() for name in {**REGULAR_FIELDS, **OPTIONAL_FIELDS}},
    "crossed": pl.Boolean(),
    "liquidation": pl.Struct(dict.fromkeys(LIQUIDATION_FIELDS, pl.String())),
}
# The quotes that a field brings: two around its name, two more around a text; a liquidation has three texts within.
_QUOTES_OF = {name: 2 if name in (*INTEGER_FIELDS, "crossed") else 4 for name in {**REGULAR_FIELDS, **OPTIONAL_FIELDS}}
_QUOTES_OF["twapId"] = 0  # counted apart
_QUOTES_OF["liquidation"] = 2 + 4 * len(LIQUIDATION_FIELDS)
_DECIMAL_PATTERN = r"^-?[0-9]{1,28}(?:\.[0-9]{1,10})?$"
_INTEGER_PATTERN = r"^-?[0-9]{1,18}$"

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a chunk, in its order: numbers and times (ns since 1970, UTC)."""

    numbers: Ints
    times_ns: Ints


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a chunk held: `fills` of FILL_SCHEMA (in the chunk's order, odd ones last), what was bad, its blocks, its lines."""

    fills: pl.DataFrame
    bad: list[BadLine] = field(default_factory=list[BadLine])
    blocks: Blocks = field(default_factory=lambda: Blocks(np.empty(0, np.int64), np.empty(0, np.int64)))
    lines: int = 0


def decode(chunks: Iterable[bytes], threads: int) -> Iterator[Decoded]:
    """Decode chunks of whole lines in their order, `threads` of them at a time; lines are numbered through from 1.

    On two cores three threads give about 1.4 times the speed of one: numpy and polars let go of the interpreter lock.
    """
    line = 1
    pending: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for chunk in chunks:
            if len(pending) >= threads:
                yield pending.popleft().result()
            pending.append(pool.submit(decode_chunk, chunk, line))
            line += chunk.count(b"\n")
        while pending:
            yield pending.popleft().result()


def decode_chunk(chunk: bytes, first_line: int = 1) -> Decoded:
    """Decode whole lines (each ends in a newline), of which the first has the number `first_line`."""
    decoded = _decode_fast(chunk, first_line)
    if decoded is not None:
        return decoded
    middle = chunk.find(b"\n", len(chunk) // 2) + 1
    if len(chunk) <= _EXACT_BELOW or middle in (0, len(chunk)):
        return _decode_exactly(chunk, first_line)
    left = decode_chunk(chunk[:middle], first_line)
    right = decode_chunk(chunk[middle:], first_line + left.lines)
    return Decoded(
        pl.concat([left.fills, right.fills]),
        left.bad + right.bad,
        Blocks(
            np.concatenate([left.blocks.numbers, right.blocks.numbers]),
            np.concatenate([left.blocks.times_ns, right.blocks.times_ns]),
        ),
        left.lines + right.lines,
    )


def _decode_exactly(chunk: bytes, first_line: int) -> Decoded:
    rows: list[Row] = []
    bad: list[BadLine] = []
    numbers: list[int] = []
    times: list[int] = []
    lines = chunk.split(b"\n")[:-1]
    for line, text in enumerate(lines, first_line):
        if not text.strip():
            continue
        try:
            block = parse_json(text)
            number, time_ns = _take_block(block, line, rows, bad)
        except BadValueError as error:
            bad.append(bad_line(line, None, error, text))
            continue
        numbers.append(number)
        times.append(time_ns)
    return Decoded(fills_frame(rows), bad, Blocks(np.array(numbers, np.int64), np.array(times, np.int64)), len(lines))


def _take_block(block: Json, line: int, rows: list[Row], bad: list[BadLine]) -> tuple[int, int]:
    """Append the block's fills to `rows` and its bad events to `bad`; its number and time (ns)."""
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
    for position, event in enumerate(events, 1):
        try:
            if not isinstance(event, list) or len(event) != 2:
                raise BadValueError("an event must be a pair of user and fill")
            row = parse_fill(event[1], event[0])
            check_clock(row["time"], time_ns)
            with_block_extra(row, unknown)
        except BadValueError as error:
            bad.append(bad_line(line, position, error, dump_json(event).encode()))
            continue
        rows.append(row | {"block_number": number, "block_time_ns": time_ns, "local_time_ns": local_time_ns, "line": line})
    return number, time_ns


@dataclass(frozen=True, slots=True)
class _Shape:
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


def _decode_fast(chunk: bytes, first_line: int) -> Decoded | None:
    """The chunk decoded, or None when its shape is not the known one."""
    shape = _find_shape(np.frombuffer(chunk, np.uint8))
    if shape is None:
        return None
    header = _read_header(shape)
    if header is None:
        return None
    blocks, local_times = header
    if not len(shape.pairs):
        return Decoded(empty_fills(), [], blocks, len(shape.newlines))
    try:
        raw = pl.read_ndjson(_bare_fills(shape, chunk), schema=_JSON_SCHEMA)
    except pl.exceptions.PolarsError:
        return None
    if raw.height != len(shape.pairs):
        return None
    block_times = blocks.times_ns[shape.lines]
    typed = _type_columns(raw).with_columns(
        pl.Series("wallet", _wallets(shape)),
        pl.Series("block_number", blocks.numbers[shape.lines]),
        pl.Series("block_time_ns", block_times),
        pl.Series("local_time_ns", local_times[shape.lines]),
        pl.Series("line", shape.lines + first_line),
        pl.lit(None, pl.String).alias("extra"),
    )
    times_ms = typed["time"].cast(pl.Int64).fill_null(0).to_numpy()
    odd = typed["odd"].to_numpy() | (times_ms != block_times // 1_000_000) | _differs_in_fields(shape, raw, chunk)
    fills = typed.select(list(FILL_SCHEMA))
    if not odd.any():
        return Decoded(fills, [], blocks, len(shape.newlines))
    fills, bad = _replace_odd(fills, odd, shape, chunk)
    return Decoded(fills, bad, blocks, len(shape.newlines))


def _find_shape(buffer: Bytes) -> _Shape | None:
    """Where everything stands, after a look at each byte that is to be taken away; None when one of them differs."""
    if (buffer == _BACKSLASH).any():
        return None
    newlines = np.flatnonzero(buffer == _NEWLINE)
    starts = np.concatenate([[0], newlines[:-1] + 1])
    opens = np.flatnonzero(buffer == _OPEN_BRACKET)
    first = np.searchsorted(opens, starts)
    if first[-1] >= len(opens):
        return None
    events = opens[first]
    if (events > newlines - 3).any() or (events - starts < len(_HEADER) + len(_EVENTS)).any():
        return None
    if not (_around(buffer, events, 1 - len(_EVENTS), 1) == _EVENTS).all():
        return None

    others = np.delete(opens, first)
    others_in_reach = others[others + _PAIR_WIDTH < len(buffer)]
    is_pair = (_around(buffer, others_in_reach, 1, _ADDRESS_AT + 2) == _ADDRESS_OPENS).all(axis=1)
    is_pair &= (_around(buffer, others_in_reach, _PAIR_WIDTH - 2, _PAIR_WIDTH + 1) == _FILL_OPENS).all(axis=1)
    pairs = others_in_reach[is_pair]
    lines = np.searchsorted(newlines, pairs)
    is_first = pairs == events[lines] + 1
    if not ((_around(buffer, pairs, -3, 0) == _NEXT_EVENT).all(axis=1) | is_first).all():
        return None
    if not _IS_HEX[_around(buffer, pairs, _ADDRESS_AT + 2, _ADDRESS_AT + _ADDRESS_WIDTH)].all():
        return None

    is_empty = np.ones(len(newlines), bool)
    is_empty[lines[is_first]] = False
    if (events[is_empty] != newlines[is_empty] - 3).any():
        return None
    ends = _around(buffer, newlines, -4, 0)
    if not ((ends == _LINE_END).all(axis=1) | (is_empty & (ends[:, 1:] == _EMPTY_END).all(axis=1))).all():
        return None
    # `}],[` parts the fills of a line, `}]]}` ends it.
    is_last = np.append(lines[1:] != lines[:-1], True) if len(lines) else np.empty(0, bool)
    fill_ends = np.where(is_last, newlines[lines] - 3, np.append(pairs[1:], 0) - 2)
    inner = np.empty(0, np.int64) if len(pairs) == len(others) else np.setdiff1d(others, pairs, assume_unique=True)
    return _Shape(buffer, starts, newlines, events, pairs, lines, pairs + _PAIR_WIDTH, fill_ends, inner)


def _around(buffer: Bytes, positions: Ints, start: int, stop: int) -> Bytes:
    """The bytes from `start` to `stop` around each position, one row each."""
    # Rows of a sliding window: numpy copies each whole, five times as fast as picking bytes one by one.
    return sliding_window_view(buffer, stop - start)[positions + start]


def _read_header(shape: _Shape) -> tuple[Blocks, Ints] | None:
    """Each line's block and its local time (ns), or None when a header differs from the pattern."""
    header = _around(shape.buffer, shape.starts, 0, len(_HEADER))
    if not _IS_DIGIT[header[:, _HEADER_DIGITS]].all():
        return None
    if not (np.delete(header, _HEADER_DIGITS, axis=1) == np.delete(_HEADER_BYTES, _HEADER_DIGITS)).all():
        return None
    widths = shape.events - len(_EVENTS) + 1 - shape.starts - len(_HEADER)
    width = int(widths[0])
    # Where the numbers grow by a digit the chunk is halved until they are alike.
    if not 0 < width <= 18 or (widths != width).any():
        return None
    digits = _around(shape.buffer, shape.starts, len(_HEADER), len(_HEADER) + width)
    if not _IS_DIGIT[digits].all() or (digits[:, 0] == ord("0")).any():
        return None
    numbers = (digits - np.uint8(ord("0"))).astype(np.int64) @ 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    try:
        times = _times_ns(header[:, _BLOCK_TIME : _BLOCK_TIME + _TIME_WIDTH])
        local_times = _times_ns(header[:, _LOCAL_TIME : _LOCAL_TIME + _TIME_WIDTH])
    except ValueError:
        return None
    return Blocks(numbers, times), local_times


def _times_ns(texts: Bytes) -> Ints:
    """ISO times of nine fractional digits, one a row, as ns since 1970. Raises ValueError for one that is none."""
    return np.ascontiguousarray(texts).view(f"S{_TIME_WIDTH}")[:, 0].astype("datetime64[ns]").astype(np.int64)


def _bare_fills(shape: _Shape, chunk: bytes) -> bytes:
    """The fills of the chunk and nothing else, each on a line of its own."""
    places = zip(shape.fill_starts.tolist(), shape.fill_ends.tolist(), strict=True)
    return b"\n".join([chunk[start:end] for start, end in places])


def _wallets(shape: _Shape) -> pl.Series:
    """The user of each pair, lower case."""
    # The bit that makes a letter small is set in digits and in the x already.
    texts = _around(shape.buffer, shape.pairs, _ADDRESS_AT, _ADDRESS_AT + _ADDRESS_WIDTH) | 0x20
    offsets = np.arange(0, texts.size + 1, _ADDRESS_WIDTH, dtype=np.int64)
    array = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(texts))
    return pl.Series("wallet", array)


def _type_columns(raw: pl.DataFrame) -> pl.DataFrame:
    """`raw` with the columns of FILL_SCHEMA, and `odd`: a value that must be looked at exactly."""
    names = {**REGULAR_FIELDS, **OPTIONAL_FIELDS}
    liquidation = {name: pl.col("liquidation").struct.field(name) for name in LIQUIDATION_FIELDS}
    fits = [pl.col(name).str.contains(_DECIMAL_PATTERN) for name in DECIMAL_FIELDS]
    fits += [liquidation["markPx"].str.contains(_DECIMAL_PATTERN)]
    fits += [pl.col(name).str.contains(_INTEGER_PATTERN) for name in INTEGER_FIELDS]
    fits += [pl.col(name).str.contains(f"^0x[0-9a-fA-F]{{{2 * width}}}$") for name, width in HEX_FIELDS.items()]
    fits += [pl.col("side").is_in(["A", "B"]), pl.col("coin") != ""]
    there = [pl.col(name).is_not_null() for name in REGULAR_FIELDS if name != "twapId"]
    there += [pl.col("liquidation").is_null() | part.is_not_null() for part in liquidation.values()]

    def typed(name: str) -> pl.Expr:
        if name in DECIMAL_FIELDS:
            return pl.col(name).cast(PRICE_TYPE, strict=False)
        if name in INTEGER_FIELDS:
            return pl.col(name).cast(pl.Int64, strict=False)
        if name in HEX_FIELDS:
            return pl.col(name).str.slice(2).str.decode("hex", strict=False)
        return pl.col(name).str.to_lowercase() if name == "builder" else pl.col(name)

    columns = {column: typed(name) for name, column in names.items()}
    columns["time"] = columns["time"].cast(FILL_SCHEMA["time"])
    columns["liquidated_user"] = liquidation["liquidatedUser"].str.to_lowercase()
    columns["liquidation_mark_px"] = liquidation["markPx"].cast(PRICE_TYPE, strict=False)
    columns["liquidation_method"] = liquidation["method"]
    odd = ~pl.all_horizontal(*[fit.fill_null(True) for fit in fits], *there)
    return raw.select(odd=odd, **columns)


def _differs_in_fields(shape: _Shape, raw: pl.DataFrame, chunk: bytes) -> NDArray[np.bool_]:
    """For each fill, whether its text has a field that `raw` has not, or lacks one that `raw` cannot tell from a null."""
    twap_keys = np.bincount(_twap_key_fills(shape), minlength=raw.height)
    differs = twap_keys != 1
    differs[np.searchsorted(shape.fill_starts, shape.inner_brackets) - 1] = True
    for index in np.flatnonzero(raw["liquidation"].is_not_null()).tolist():
        text = chunk[shape.fill_starts[index] : shape.fill_ends[index]]
        at = text.index(b'"liquidation"')
        differs[index] |= b"twapId" in text[at : text.index(b"}", at)]
    differs[_miscounted(shape, raw, twap_keys, 0, raw.height)] = True
    return differs


def _miscounted(shape: _Shape, raw: pl.DataFrame, twap_keys: Ints, first: int, end: int) -> list[int]:
    """The fills from `first` to `end` whose text has more or fewer quotes or braces than its fields account for.

    Each field that `raw` lacks adds some and none takes any away (the keys `twapId`, that may be there or not, are counted as
    they are), so where a run of fills has the right number all of them have.
    """
    text = shape.buffer[shape.fill_starts[first] : shape.fill_ends[end - 1]]
    nulls = raw[first:end].null_count().row(0, named=True)
    fills, headers = end - first, int(shape.lines[end - 1] - shape.lines[first])
    quotes = sum(width * (fills - nulls[name]) for name, width in _QUOTES_OF.items())
    quotes += 2 * int(twap_keys[first:end].sum()) + 2 * (fills - 1) + _HEADER_QUOTES * headers
    braces = fills + fills - nulls["liquidation"] + headers
    if np.count_nonzero(text == _QUOTE) == quotes and np.count_nonzero(text == _OPEN_BRACE) == braces:
        return []
    if fills == 1:
        return [first]
    cuts = np.linspace(first, end, min(fills, 16) + 1, dtype=int).tolist()
    return [fill for low, high in pairwise(cuts) for fill in _miscounted(shape, raw, twap_keys, low, high)]


def _twap_key_fills(shape: _Shape) -> Ints:
    """The fill of each key `twapId` in the chunk, found by its capital."""
    at = np.flatnonzero(shape.buffer == _TWAP_KEY[_TWAP_KEY_I])
    at = at[(at >= _TWAP_KEY_I) & (at < len(shape.buffer) - len(_TWAP_KEY))]
    is_key = (_around(shape.buffer, at, -_TWAP_KEY_I, len(_TWAP_KEY) - _TWAP_KEY_I) == _TWAP_KEY).all(axis=1)
    fills = np.searchsorted(shape.fill_starts, at[is_key]) - 1
    return fills[fills >= 0]


def _replace_odd(fills: pl.DataFrame, odd: NDArray[np.bool_], shape: _Shape, chunk: bytes) -> tuple[pl.DataFrame, list[BadLine]]:
    """`fills` with the odd ones parsed exactly, these at the end, and those that were bad."""
    first_of_line = np.searchsorted(shape.lines, shape.lines)
    rows: list[Row] = []
    bad: list[BadLine] = []
    places = fills.select("block_number", "block_time_ns", "local_time_ns", "line").filter(odd).to_dicts()
    for index, block in zip(np.flatnonzero(odd).tolist(), places, strict=True):
        pair, start, end = int(shape.pairs[index]), int(shape.fill_starts[index]), int(shape.fill_ends[index])
        try:
            user = chunk[pair + _ADDRESS_AT : pair + _ADDRESS_AT + _ADDRESS_WIDTH].decode()
            row = parse_fill(parse_json(chunk[start:end]), user)
            check_clock(row["time"], block["block_time_ns"])
        except BadValueError as error:
            event = index - int(first_of_line[index]) + 1
            bad.append(bad_line(block["line"], event, error, chunk[pair : end + 1]))
            continue
        rows.append(row | block)
    return pl.concat([fills.filter(~odd), fills_frame(rows)]), bad
