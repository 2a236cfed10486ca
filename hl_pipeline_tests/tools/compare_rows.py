"""Finds and describes differences between two frames, whatever their source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

_SHOWN = 160
"""Maximum number of characters shown of a long value."""
_NTH = "nth of its key"


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference, the number of its occurrences, and some examples as text: `key: left | right`."""

    what: str
    count: int
    examples: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Compared:
    """The result for a part of a table, or for a file of a part of the lake (`group`): its rows and differences."""

    group: str
    place: str
    rows: int
    differences: list[Difference]


def compare_rows(left: pl.DataFrame, right: pl.DataFrame, key: Sequence[str], limit: int) -> list[Difference]:
    """Compare rows in the columns that both frames have with the same type. Each difference has at most `limit` examples.

    Rows are matched by `key`, and rows with the same key by order. Without a key, whole rows are matched.
    """
    shared = [name for name in left.columns if name in right.columns and left.schema[name] == right.schema[name]]
    left, right = left.select(shared), right.select(shared)
    if left.equals(right):
        return []
    columns = [name for name in key if name in shared] or shared
    nth = pl.int_range(pl.len()).over(columns).alias(_NTH)
    left, right = left.with_columns(nth), right.with_columns(nth)
    by = [*columns, _NTH]
    found = [
        Difference(f"rows {side} only", alone.height, [_row(row, columns) for row in alone.head(limit).iter_rows(named=True)])
        for side, alone in (
            ("left", left.join(right, on=by, how="anti", nulls_equal=True, maintain_order="left")),
            ("right", right.join(left, on=by, how="anti", nulls_equal=True, maintain_order="left")),
        )
        if alone.height
    ]
    both = left.join(right, on=by, how="inner", nulls_equal=True, suffix=" right", maintain_order="left")
    for name in shared:
        if name not in columns:
            other = f"{name} right"
            differing = both.filter(pl.col(name).ne_missing(pl.col(other)))
            if differing.height:
                rows = differing.head(limit).select(*columns, name, other).iter_rows(named=True)
                examples = [f"{_row(row, columns)}: {show_pair(row[name], row[other])}" for row in rows]
                found.append(Difference(f"column {name}", differing.height, examples))
    if not found:
        first = next(n for n, (a, b) in enumerate(zip(left.iter_rows(), right.iter_rows(), strict=True)) if a != b)
        found.append(Difference("order of rows", 1, [f"from row {first} on the same rows stand in another order"]))
    return found


def show_pair(left: object, right: object) -> str:
    """Return two different values as text. Long values begin shortly before their first difference."""
    a, b = show(left), show(right)
    if max(len(a), len(b)) > _SHOWN:
        at = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        start = max(at - 20, 0)
        a, b = ("…" * (start > 0) + text[start : start + _SHOWN] for text in (a, b))
    return f"{a} | {b}"


def show(value: object) -> str:
    """Return a value as text, in which NULL differs from the text NULL."""
    return "NULL" if value is None else repr(value) if isinstance(value, str | bytes) else str(value)


def _row(row: dict[str, object], columns: Sequence[str]) -> str:
    text = ", ".join(f"{name}={show(row[name])}" for name in columns)
    return text if len(text) <= 2 * _SHOWN else text[: 2 * _SHOWN] + "…"
