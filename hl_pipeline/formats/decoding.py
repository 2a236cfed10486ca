"""What decoding a chunk of lines gives, whatever the format, and how chunks are driven: in threads, by halves, line by line.

What a line means is the matter of one module per format.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from hl_pipeline.formats.exact_decode import Json, Row, fills_frame, take_line
from hl_pipeline.formats.fills import BadLine
from hl_pipeline.formats.pair_offsets import Bools, Ints

# polars loads numpy when it first meets an array, and fails if two threads do at once.
pl.Series(np.empty(0))

_EXACT_BELOW = 64 << 10  # bytes: an odd chunk smaller than this is parsed exactly, a larger one halved


def _none() -> Ints:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a chunk, in its order: numbers and times (ns since 1970, UTC)."""

    numbers: Ints = field(default_factory=_none)
    times_ns: Ints = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a chunk held: its fills, what was bad, its blocks (none where the format has none), its lines.

    `fills` has the columns of FILL_SCHEMA; its rows, and `bad`, are in the order of the text, always.
    """

    fills: pl.DataFrame
    bad: list[BadLine] = field(default_factory=list[BadLine])
    blocks: Blocks = field(default_factory=Blocks)
    lines: int = 0


DecodeChunk = Callable[[bytes, int], Decoded]
"""From whole lines (each ends in a newline) and the number of the first one."""


def decode(chunks: Iterable[bytes], decode_chunk: DecodeChunk, threads: int) -> Iterator[Decoded]:
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


def decode_by_halves(
    chunk: bytes, first_line: int, fast: Callable[[bytes, int], Decoded | None], exactly: DecodeChunk
) -> Decoded:
    """The chunk by the `fast` way; where that gives None, by halves, until what is odd stands alone and is read `exactly`."""
    decoded = fast(chunk, first_line)
    if decoded is not None:
        return decoded
    middle = chunk.find(b"\n", len(chunk) // 2) + 1
    if len(chunk) <= _EXACT_BELOW or middle in (0, len(chunk)):
        return exactly(chunk, first_line)
    left = decode_by_halves(chunk[:middle], first_line, fast, exactly)
    right = decode_by_halves(chunk[middle:], first_line + left.lines, fast, exactly)
    return Decoded(
        pl.concat([left.fills, right.fills]),
        left.bad + right.bad,
        Blocks(
            np.concatenate([left.blocks.numbers, right.blocks.numbers]),
            np.concatenate([left.blocks.times_ns, right.blocks.times_ns]),
        ),
        left.lines + right.lines,
    )


def decode_lines(chunk: bytes, first_line: int, take: Callable[[Json, int], list[Row]]) -> Decoded:
    """The chunk line by line: `take` makes rows of a line's JSON value and number, or raises BadValueError."""
    rows: list[Row] = []
    bad: list[BadLine] = []
    lines = chunk.split(b"\n")[:-1]
    for line, text in enumerate(lines, first_line):
        if not text.strip():
            continue
        taken = take_line(text, line, take)
        if isinstance(taken, BadLine):
            bad.append(taken)
        else:
            rows += taken
    return Decoded(fills_frame(rows), bad, lines=len(lines))


def replace_odd(
    fills: pl.DataFrame, odd: Bools, take: Callable[[int], list[Row] | BadLine], rows_each: int = 1
) -> tuple[pl.DataFrame, list[BadLine]]:
    """`fills` with what `take` makes of each odd entry in its place, and what was bad of them.

    An entry has `rows_each` rows of `fills`; `odd` has one flag an entry, `take` gets its index and gives as many rows or none.
    """
    rows: list[Row] = []
    bad: list[BadLine] = []
    order = np.arange(fills.height).reshape(-1, rows_each)
    kept = np.ones(len(odd), bool)
    for index in np.flatnonzero(odd).tolist():
        taken = take(index)
        if isinstance(taken, BadLine):
            bad.append(taken)
            kept[index] = False
        else:
            order[index] = np.arange(rows_each) + fills.height + len(rows)
            kept[index] = bool(taken)
            rows += taken
    return pl.concat([fills, fills_frame(rows)], rechunk=True)[order[kept].ravel()], bad
