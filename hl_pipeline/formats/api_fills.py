"""Decodes pages of the info API to frames of fills: `userFillsByTime` returns `[fill, ...]`, `userTwapSliceFillsByTime` returns
`[{"fill": fill, "twapId": id}, ...]`. Items do not contain the wallet; it is the one of the request.

A page has at most 2,000 items, and the budget allows about ten pages per minute, so every item is parsed by the exact parser.
"""

# JSON of others has no types.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hl_pipeline.formats.decoding import Decoded
from hl_pipeline.formats.exact_decode import (
    BadValueError,
    Json,
    Row,
    bad_line,
    check_years,
    dump_json,
    fills_frame,
    parse_fill,
    parse_integer,
    refuse_doubled_keys,
    show,
    with_extra,
)
from hl_pipeline.formats.fills import BadLine

PARSER = 1
"""Version of this parser's output; a higher version keeps more."""


def decode_fills(page: list[Json], wallet: str, first_line: int = 1) -> Decoded:
    """Decode a page of `userFillsByTime` (from parse_json). `line` numbers its items from `first_line`.

    block_number, block_time_ns and local_time_ns are NULL, because the API does not return them. Bad items are in `bad` as JSON.
    """
    return _decode(page, first_line, partial(_take_fill, wallet=wallet))


def decode_twap_slices(page: list[Json], wallet: str, first_line: int = 1) -> Decoded:
    """Decode a page of `userTwapSliceFillsByTime` in the same way. `twap_id` comes from the slice, or else from its fill.

    Unknown fields of the slice outside its fill are in `extra` under `_slice`.
    """
    return _decode(page, first_line, partial(_take_slice, wallet=wallet))


def _decode(page: list[Json], first_line: int, take: Callable[[Json], Row]) -> Decoded:
    rows: list[Row] = []
    bad: list[BadLine] = []
    for line, item in enumerate(page, first_line):
        try:
            rows.append(take(item) | {"line": line})
        except Exception as error:  # noqa: BLE001 - as in take_line: it is the item's matter and stops no other
            bad.append(bad_line(line, None, error, dump_json(item).encode()))
    return Decoded(fills_frame(rows), bad, lines=len(page))


def _take_fill(fill: Json, wallet: str) -> Row:
    row = parse_fill(fill, wallet)
    check_years(row["time"])
    return row


def _take_slice(item: Json, wallet: str) -> Row:
    if not isinstance(item, dict) or not isinstance(item.get("fill"), dict):
        raise BadValueError(f"a slice must be an object with a fill, this is {show(item)}")
    refuse_doubled_keys(item)
    fill = item["fill"]
    twap, own = (parse_integer(value.get("twapId"), "twapId") for value in (item, fill))
    if twap is not None and own not in (None, twap):
        raise BadValueError(f"twapId: {twap} of the slice is not {own} of its fill")
    row = _take_fill(fill if twap is None else fill | {"twapId": twap}, wallet)
    with_extra(row, "_slice", {name: value for name, value in item.items() if name not in ("fill", "twapId")})
    return row
