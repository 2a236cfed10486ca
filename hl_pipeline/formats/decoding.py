"""The result of decoding a chunk of lines, common to all formats, and the loops over chunks (in threads) and over lines.

The meaning of a line belongs in the module of its format.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from hl_pipeline.formats.exact_decode import Json, Row, fills_frame, take_line
from hl_pipeline.formats.fills import BadLine
from hl_pipeline.formats.scan_values import Bools, Ints

# polars loads numpy on its first array, and fails if two threads do this at once.
pl.Series(np.empty(0))


def _none() -> Ints:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a chunk, in its order: their numbers, times (ns since 1970, UTC) and line numbers."""

    numbers: Ints = field(default_factory=_none)
    times_ns: Ints = field(default_factory=_none)
    lines: Ints = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The content of a chunk: its fills, its bad lines, its blocks (none if the format has none) and its number of lines.

    `fills` has the columns of FILL_SCHEMA. Its rows, and `bad`, are always in the order of the text.
    """

    fills: pl.DataFrame
    bad: list[BadLine] = field(default_factory=list[BadLine])
    blocks: Blocks = field(default_factory=Blocks)
    lines: int = 0


NumberedLine = tuple[int, bytes]
"""A line's number, counted from 1, and its text without the newline."""

DecodeChunk = Callable[[bytes, int], Decoded]
"""Decodes whole lines, each ending in a newline. The second argument is the number of the first line."""


def decode(chunks: Iterable[bytes], decode_chunk: DecodeChunk, threads: int) -> Iterator[Decoded]:
    """Decode chunks of whole lines in order, `threads` of them at a time. Lines are numbered from 1 across all chunks.

    On two cores, three threads are about 1.4 times as fast as one, because numpy and polars release the interpreter lock.
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


@dataclass(frozen=True, slots=True)
class Taken:
    """The result of a fast reader for a chunk. `fills` have their line numbers. `blocks` has one item per line, or none.

    Per line: `odd` is True if the exact parser must read it; its fills, block and `bad` entries are then meaningless. `ends` is
    the position of its newline.
    """

    fills: pl.DataFrame
    blocks: Blocks
    odd: Bools
    ends: Ints
    bad: Sequence[BadLine] = ()


def read_odd_lines(taken: Taken, chunk: bytes, first_line: int, exactly: Callable[[Iterable[NumberedLine]], Decoded]) -> Decoded:
    """Read the odd lines of a chunk with `exactly`, and merge the results into `taken`, in the order of lines."""
    if not taken.odd.any():
        return Decoded(taken.fills, [*taken.bad], taken.blocks, len(taken.odd))
    odd = np.flatnonzero(taken.odd)
    starts = np.append(0, taken.ends + 1)
    exact = exactly((line + first_line, chunk[starts[line] : taken.ends[line]]) for line in map(int, odd))

    def order(lines: Ints, exact_lines: Ints) -> Ints:
        """Return the indexes that sort both together by line, without the fast reader's results for odd lines."""
        kept = np.flatnonzero(~taken.odd[lines - first_line])
        places = np.concatenate([kept, len(lines) + np.arange(len(exact_lines))])
        return places[np.argsort(np.concatenate([lines[kept], exact_lines]), kind="stable")]

    fills = pl.concat([taken.fills, exact.fills], rechunk=True)
    fills = fills[order(taken.fills["line"].to_numpy(), exact.fills["line"].to_numpy())]
    blocks = np.concatenate([np.stack(_columns(part)) for part in (taken.blocks, exact.blocks)], axis=1)
    bad = [*(one for one in taken.bad if not taken.odd[one.line - first_line]), *exact.bad]
    bad.sort(key=lambda one: (one.line, one.event or 0))
    return Decoded(fills, bad, Blocks(*blocks[:, order(taken.blocks.lines, exact.blocks.lines)]), len(taken.odd))


def _columns(blocks: Blocks) -> tuple[Ints, Ints, Ints]:
    return blocks.numbers, blocks.times_ns, blocks.lines


def decode_lines(lines: Iterable[NumberedLine], take: Callable[[Json, int], list[Row]]) -> Decoded:
    """Decode lines one by one. `take` returns the rows of a line's JSON value and number, or raises BadValueError."""
    rows: list[Row] = []
    bad: list[BadLine] = []
    count = 0
    for line, text in lines:
        count += 1
        if not text.strip():
            continue
        taken = take_line(text, line, take)
        if isinstance(taken, BadLine):
            bad.append(taken)
        else:
            rows += taken
    return Decoded(fills_frame(rows), bad, lines=count)
