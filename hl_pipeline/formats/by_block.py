"""`node_fills_by_block`: chunks of block lines to frames of fills.

One line is one block: `{"local_time", "block_time", "block_number", "events": [[user, fill], ...]}`, times naive UTC with nine
digits. The fast way rewrites a chunk into bare fill objects, one a line, for polars to read with a flat schema, after it has
seen that every byte it takes away has just the known layout. What polars reads is then held against the bytes: counts of
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
from numpy.typing import NDArray

from hl_pipeline.formats.block_layout import (
    ADDRESS_AT,
    ADDRESS_WIDTH,
    HEADER_KEYS,
    HEADER_QUOTES,
    Blocks,
    Ints,
    Layout,
    around,
    find_layout,
    read_header,
)
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
_QUOTE, _OPEN_BRACE = b'"{'
_KEY_END, _QUOTE_SPACE = (int.from_bytes(two, "little") for two in (b'":', b'" '))
_TWAP_KEY = np.frombuffer(b'"twapId":', np.uint8)
_TWAP_KEY_I = bytes(_TWAP_KEY).index(b"I")

_BLOCK_KEYS = ("local_time", "block_time", "block_number", "events")
_JSON_SCHEMA: dict[str, pl.DataType] = {
    **{name: pl.String() for name in {**REGULAR_FIELDS, **OPTIONAL_FIELDS}},
    # polars takes just integers and booleans for these; for a text it would take anything and spell it anew.
    **dict.fromkeys(INTEGER_FIELDS, pl.Int64()),
    "crossed": pl.Boolean(),
    "liquidation": pl.Struct(dict.fromkeys(LIQUIDATION_FIELDS, pl.String())),
}
# The quotes that a field brings: two around its name, two more around a text; a liquidation has three texts within.
_QUOTES_OF = {name: 2 if name in (*INTEGER_FIELDS, "crossed") else 4 for name in {**REGULAR_FIELDS, **OPTIONAL_FIELDS}}
_QUOTES_OF["twapId"] = 0  # counted apart
_QUOTES_OF["liquidation"] = 2 + 4 * len(LIQUIDATION_FIELDS)
_KEYS_OF = dict.fromkeys(_QUOTES_OF, 1) | {"liquidation": 1 + len(LIQUIDATION_FIELDS), "twapId": 0}
_DECIMAL_PATTERN = r"^-?[0-9]{1,28}(?:\.[0-9]{1,10})?$"


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
            number, time_ns, block_rows, block_bad = _take_block(parse_json(text), line)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a line, it is the line's matter and stops no other
            bad.append(bad_line(line, None, error, text))
            continue
        rows += block_rows
        bad += block_bad
        numbers.append(number)
        times.append(time_ns)
    return Decoded(fills_frame(rows), bad, Blocks(np.array(numbers, np.int64), np.array(times, np.int64)), len(lines))


def _take_block(block: Json, line: int) -> tuple[int, int, list[Row], list[BadLine]]:
    """The block's number and time (ns), its fills and its bad events. Raises BadValueError when it is no block."""
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
    place = {"block_number": number, "block_time_ns": time_ns, "local_time_ns": local_time_ns, "line": line}
    rows: list[Row] = []
    bad: list[BadLine] = []
    for position, event in enumerate(events, 1):
        try:
            if not isinstance(event, list) or len(event) != 2:
                raise BadValueError("an event must be a pair of user and fill")
            row = parse_fill(event[1], event[0])
            check_clock(row["time"], time_ns)
            with_block_extra(row, unknown)
            rows.append(row | place)
        except (BadValueError, RecursionError) as error:
            bad.append(bad_line(line, position, error, dump_json(event).encode()))
    return number, time_ns, rows, bad


def _decode_fast(chunk: bytes, first_line: int) -> Decoded | None:
    """The chunk decoded, or None when its shape is not the known one."""
    layout = find_layout(np.frombuffer(chunk, np.uint8))
    if layout is None:
        return None
    header = read_header(layout)
    if header is None:
        return None
    blocks, local_times = header
    if not len(layout.pairs):
        return Decoded(empty_fills(), [], blocks, len(layout.newlines))
    try:
        raw = pl.read_ndjson(_bare_fills(layout, chunk), schema=_JSON_SCHEMA)
    except pl.exceptions.PolarsError:
        return None
    if raw.height != len(layout.pairs):
        return None
    block_times = blocks.times_ns[layout.lines]
    typed = _type_columns(raw).with_columns(
        pl.Series("wallet", _wallets(layout)),
        pl.Series("block_number", blocks.numbers[layout.lines]),
        pl.Series("block_time_ns", block_times),
        pl.Series("local_time_ns", local_times[layout.lines]),
        pl.Series("line", layout.lines + first_line),
        pl.lit(None, pl.String).alias("extra"),
    )
    times_ms = typed["time"].cast(pl.Int64).fill_null(0).to_numpy()
    odd = typed["odd"].to_numpy() | (times_ms != block_times // 1_000_000) | _differs_in_fields(layout, raw, chunk)
    fills = typed.select(list(FILL_SCHEMA))
    if not odd.any():
        return Decoded(fills, [], blocks, len(layout.newlines))
    fills, bad = _replace_odd(fills, odd, layout, chunk)
    return Decoded(fills, bad, blocks, len(layout.newlines))


def _bare_fills(layout: Layout, chunk: bytes) -> bytes:
    """The fills of the chunk and nothing else, each on a line of its own."""
    places = zip(layout.fill_starts.tolist(), layout.fill_ends.tolist(), strict=True)
    return b"\n".join([chunk[start:end] for start, end in places])


def _wallets(layout: Layout) -> pl.Series:
    """The user of each pair, lower case."""
    # The bit that makes a letter small is set in digits and in the x already.
    texts = around(layout.buffer, layout.pairs, ADDRESS_AT, ADDRESS_AT + ADDRESS_WIDTH) | 0x20
    offsets = np.arange(0, texts.size + 1, ADDRESS_WIDTH, dtype=np.int64)
    array = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(texts))
    return pl.Series("wallet", array)


def _type_columns(raw: pl.DataFrame) -> pl.DataFrame:
    """`raw` with the columns of FILL_SCHEMA, and `odd`: a value that must be looked at exactly."""
    names = {**REGULAR_FIELDS, **OPTIONAL_FIELDS}
    liquidation = {name: pl.col("liquidation").struct.field(name) for name in LIQUIDATION_FIELDS}
    fits = [pl.col(name).str.contains(_DECIMAL_PATTERN) for name in DECIMAL_FIELDS]
    fits += [liquidation["markPx"].str.contains(_DECIMAL_PATTERN)]
    fits += [pl.col(name).str.contains(f"^0x[0-9a-fA-F]{{{2 * width}}}$") for name, width in HEX_FIELDS.items()]
    fits += [pl.col("side").is_in(["A", "B"]), pl.col("coin") != ""]
    there = [pl.col(name).is_not_null() for name in REGULAR_FIELDS if name != "twapId"]
    there += [pl.col("liquidation").is_null() | part.is_not_null() for part in liquidation.values()]

    def typed(name: str) -> pl.Expr:
        if name in DECIMAL_FIELDS:
            return pl.col(name).cast(PRICE_TYPE, strict=False)
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


def _differs_in_fields(layout: Layout, raw: pl.DataFrame, chunk: bytes) -> NDArray[np.bool_]:
    """For each fill, whether its text has a field that `raw` has not, or lacks one that `raw` cannot tell from a null."""
    twap_keys = np.bincount(_twap_key_fills(layout), minlength=raw.height)
    differs = twap_keys != 1
    differs[np.searchsorted(layout.fill_starts, layout.inner_brackets) - 1] = True
    for index in np.flatnonzero(raw["liquidation"].is_not_null()).tolist():
        text = chunk[layout.fill_starts[index] : layout.fill_ends[index]]
        at = text.index(b'"liquidation"')
        differs[index] |= b"twapId" in text[at : text.index(b"}", at)]
    differs[_miscounted(layout, raw, twap_keys, 0, raw.height)] = True
    return differs


def _miscounted(layout: Layout, raw: pl.DataFrame, twap_keys: Ints, first: int, end: int) -> list[int]:
    """The fills from `first` to `end` whose text has other keys than `raw` has seen, or a number where a text should be.

    Each key that `raw` lacks is one more `":`, and nothing makes one less (no quote is followed by a space; the keys `twapId`,
    that may be there or not, are counted as they are). Where the keys are right, a number in place of a text is two quotes less,
    and nothing makes one more: polars takes just integers and booleans where these belong. So where a run of fills has the right
    numbers, all of them have.
    """
    text = layout.buffer[layout.fill_starts[first] : layout.fill_ends[end - 1]]
    nulls = raw[first:end].null_count().row(0, named=True)
    fills, headers = end - first, int(layout.lines[end - 1] - layout.lines[first])
    twaps = int(twap_keys[first:end].sum())
    keys = sum(count * (fills - nulls[name]) for name, count in _KEYS_OF.items()) + twaps + HEADER_KEYS * headers
    quotes = sum(count * (fills - nulls[name]) for name, count in _QUOTES_OF.items()) + 2 * twaps
    quotes += 2 * (fills - 1) + HEADER_QUOTES * headers
    braces = fills + fills - nulls["liquidation"] + headers
    seen = (_count_twos(text, _KEY_END), np.count_nonzero(text == _QUOTE), np.count_nonzero(text == _OPEN_BRACE))
    if seen == (keys, quotes, braces) and not _count_twos(text, _QUOTE_SPACE):
        return []
    if fills == 1:
        return [first]
    cuts = np.linspace(first, end, min(fills, 16) + 1, dtype=int).tolist()
    return [fill for low, high in pairwise(cuts) for fill in _miscounted(layout, raw, twap_keys, low, high)]


def _count_twos(text: NDArray[np.uint8], two: int) -> int:
    """How often two bytes stand side by side, at even places and at odd ones."""
    even, odd = text[: len(text) // 2 * 2], text[1 : 1 + (len(text) - 1) // 2 * 2]
    return int(np.count_nonzero(even.view("<u2") == two) + np.count_nonzero(odd.view("<u2") == two))


def _twap_key_fills(layout: Layout) -> Ints:
    """The fill of each key `twapId` in the chunk, found by its capital."""
    at = np.flatnonzero(layout.buffer == _TWAP_KEY[_TWAP_KEY_I])
    at = at[(at >= _TWAP_KEY_I) & (at < len(layout.buffer) - len(_TWAP_KEY))]
    is_key = (around(layout.buffer, at, -_TWAP_KEY_I, len(_TWAP_KEY) - _TWAP_KEY_I) == _TWAP_KEY).all(axis=1)
    fills = np.searchsorted(layout.fill_starts, at[is_key]) - 1
    return fills[fills >= 0]


def _replace_odd(fills: pl.DataFrame, odd: NDArray[np.bool_], layout: Layout, chunk: bytes) -> tuple[pl.DataFrame, list[BadLine]]:
    """`fills` with the odd ones parsed exactly, these at the end, and those that were bad."""
    first_of_line = np.searchsorted(layout.lines, layout.lines)
    rows: list[Row] = []
    bad: list[BadLine] = []
    places = fills.select("block_number", "block_time_ns", "local_time_ns", "line").filter(odd).to_dicts()
    for index, block in zip(np.flatnonzero(odd).tolist(), places, strict=True):
        pair, start, end = int(layout.pairs[index]), int(layout.fill_starts[index]), int(layout.fill_ends[index])
        try:
            user = chunk[pair + ADDRESS_AT : pair + ADDRESS_AT + ADDRESS_WIDTH].decode()
            row = parse_fill(parse_json(chunk[start:end]), user)
            check_clock(row["time"], block["block_time_ns"])
        except (BadValueError, RecursionError) as error:
            event = index - int(first_of_line[index]) + 1
            bad.append(bad_line(block["line"], event, error, chunk[pair : end + 1]))
            continue
        rows.append(row | block)
    return pl.concat([fills.filter(~odd), fills_frame(rows)]), bad
