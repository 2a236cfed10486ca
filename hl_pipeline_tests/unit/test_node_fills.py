"""node_fills: a line is a fill without a block, and otherwise gives the same row as in node_fills_by_block."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_pipeline.formats import by_block, node_fills
from hl_pipeline.formats.decoding import decode
from hl_pipeline.formats.fills import FILL_SCHEMA, LIQUIDATION_FIELDS, OPTIONAL_FIELDS, REGULAR_FIELDS
from hl_pipeline.formats.node_fills import decode_chunk
from hl_pipeline_tests.profiles import examples
from hl_pipeline_tests.records.reading import read_record
from hl_pipeline_tests.strategies import as_lines, blocks, damaged, fills, numbered

BLOCKS = [json.loads(line) for line in read_record("node_fills_by_block_20260315_0.jsonl").splitlines()]
EVENTS: list[list[Any]] = [event for block in BLOCKS for event in block["events"]]
REAL = as_lines(EVENTS, spaced=False, ascii_only=False)
LINES = REAL.splitlines(keepends=True)
USER, FILL = EVENTS[2]
OF_BLOCKS = ("block_number", "block_time_ns", "local_time_ns", "line")


def _flat(user: str, fill: dict[str, Any]) -> dict[str, Any]:
    return {"user": user, **fill}


def _changed(**fields: Any) -> bytes:
    """A real line with its fill changed; an ellipsis takes a field away."""
    changed = {name: value for name, value in {**FILL, **fields}.items() if value is not ...}
    return as_lines([[USER, changed]], spaced=False, ascii_only=True)


def _naive(line: int, user: str, fill: dict[str, Any]) -> dict[str, Any]:
    """A row of FILL_SCHEMA, read as simply as can be."""
    row: dict[str, Any] = dict.fromkeys(FILL_SCHEMA) | {"wallet": user, "line": line}
    flat = {**fill, **fill.get("liquidation", {})}
    for name, column in {**REGULAR_FIELDS, **OPTIONAL_FIELDS, **LIQUIDATION_FIELDS}.items():
        value = flat.get(name)
        if value is not None and FILL_SCHEMA[column] == pl.Decimal(38, 10):
            value = Decimal(value)
        elif value is not None and name in ("hash", "cloid"):
            value = bytes.fromhex(value[2:])
        row[column] = value
    row["time"] = datetime.fromtimestamp(fill["time"] // 1000, UTC).replace(microsecond=fill["time"] % 1000 * 1000)
    return row


def test_the_real_fills_are_read_the_fast_way_in_every_field() -> None:
    fast = node_fills._take_known(REAL, 1)
    assert not fast.odd.any()
    assert fast.fills.to_dicts() == [_naive(line, *event) for line, event in enumerate(EVENTS, 1)]
    assert fast.fills.equals(node_fills._decode_exactly(numbered(REAL)).fills)
    assert (len(fast.odd), len(fast.blocks.numbers)) == (1388, 0)
    assert fast.fills.schema == FILL_SCHEMA


def test_a_flat_object_gives_the_same_row_wherever_its_user_stands() -> None:
    expected = decode_chunk(REAL).fills
    flat = [_flat(user, fill) if n % 2 else {**fill, "user": user} for n, (user, fill) in enumerate(EVENTS)]
    assert decode_chunk(as_lines(flat, spaced=False, ascii_only=False)).fills.equals(expected)
    mixed = [flat[n] if n % 7 == 3 else event for n, event in enumerate(EVENTS)]
    assert decode_chunk(as_lines(mixed, spaced=False, ascii_only=False)).fills.equals(expected)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (_changed(px="cheap"), 'px: "cheap" is not a decimal number'),
        (_changed(px="1.12345678901"), 'px: "1.12345678901" has more than 10 decimals'),
        (_changed(sz="1" * 29), f'sz: "{"1" * 29}" has more than 28 digits before the point'),
        (_changed(fee="NaN"), 'fee: "NaN" is not a decimal number'),
        (_changed(fee=float("nan")), "not JSON: NaN"),
        (_changed(tid=None), "tid is missing"),
        (_changed(side="X"), "side: \"X\" is neither 'A' nor 'B'"),
        (_changed(time=FILL["time"] // 1000), "time: 1773532799 is not a time in the years 2023 to 2199 in ms"),
        (_changed(time=FILL["time"] * 1000), "time: 1773532799991000 is not a time in the years 2023 to 2199 in ms"),
        (_changed(time=1_672_531_199_999), "time: 1672531199999 is not a time in the years 2023 to 2199 in ms"),
        (_changed(time=7_258_118_400_000), "time: 7258118400000 is not a time in the years 2023 to 2199 in ms"),
        (_changed(_missing=1), "_missing is reserved by hl-pipeline, but the fill has this field"),
        (LINES[2].replace(b'"sz"', b'"px":"1","sz"', 1), "the key 'px' appears twice in one object"),
        (as_lines([_flat(USER, FILL)], spaced=False, ascii_only=True).replace(b'"user"', b'"user":"0x1","user"'),
         "the key 'user' appears twice in one object"),
        (as_lines([FILL], spaced=False, ascii_only=True), "user: null is not an address (0x and 40 hex digits)"),
        (LINES[2].replace(b'"0x', b'"', 1), f'user: "{USER[2:]}" is not an address (0x and 40 hex digits)'),
        (LINES[2].replace(b"}]", b"},5]"), "a line must be a pair of user and fill, or a fill with its user"),
        (b'["0x' + b"a" * 40 + b'",5]\n', "a fill must be an object, not 5"),
        (b"5\n", "a line must be a pair of user and fill, or a fill with its user"),
        (b"no json\n", "not JSON: Expecting value at character 1"),
        (LINES[2].replace(b"Open", b"\xff\xfe", 1), "not UTF-8: invalid start byte at byte 157"),
        (LINES[2][:200] + b"\n", "not JSON: Unterminated string starting at at character 193"),
    ],
)  # fmt: skip
def test_a_line_that_does_not_fit_is_quarantined_and_stops_no_other(line: bytes, reason: str) -> None:
    for chunk in (LINES[0] + line + LINES[1], LINES[0] * 400 + line + LINES[1] * 400):
        decoded = decode_chunk(chunk, first_line=10)
        [bad] = decoded.bad
        before = chunk[: chunk.index(line)].count(b"\n")
        assert (bad.line, bad.event, bad.reason, bad.text) == (10 + before, None, reason, line[:-1])
        assert decoded.fills["line"].to_list() == [10 + n for n in range(decoded.lines) if n != before]


def test_the_first_and_the_last_moment_are_taken() -> None:
    chunk = _changed(time=1_672_531_200_000) + _changed(time=7_258_118_399_999)
    decoded = decode_chunk(chunk)
    assert (decoded.bad, decoded.fills["time"].dt.year().to_list()) == ([], [2023, 2199])


def test_unknown_and_missing_fields_are_kept_apart() -> None:
    extras = [{}, {"other": {"a": [1]}}, {"_missing": ["twapId"]}, {"builder": None}, {"hash": "0xabc"}, {}]
    lines = [_changed(), _changed(other={"a": [1]}), _changed(twapId=...), _changed(builder=None), _changed(hash="0xabc"),
             _changed(fee=None)]  # fmt: skip
    decoded = decode_chunk(b"".join(lines))
    assert [json.loads(extra or "{}") for extra in decoded.fills["extra"]] == extras
    assert decoded.fills["line"].to_list() == [1, 2, 3, 4, 5, 6]


def test_odd_lines_stay_where_they_stand() -> None:
    lines = [_changed(oid=n, **({"other": n} if n % 3 == 1 else {}), px="bad" if n % 5 == 2 else "1") for n in range(50)]
    decoded = decode_chunk(b"".join(lines))
    assert decoded.fills["oid"].to_list() == [n for n in range(50) if n % 5 != 2]
    assert [bad.line for bad in decoded.bad] == [n + 1 for n in range(50) if n % 5 == 2]


def test_lines_are_numbered_through_all_chunks_and_blank_lines_count() -> None:
    chunks = [LINES[0] + b"\n", b"  \nbroken\n", LINES[1] + LINES[2]]
    decoded = list(decode(chunks, decode_chunk, threads=2))
    assert [bad.line for part in decoded for bad in part.bad] == [4]
    assert [part.fills["line"].to_list() for part in decoded] == [[1], [], [5, 6]]


def test_spelling_changes_nothing() -> None:
    expected = decode_chunk(REAL).fills
    turned = [[user, dict(reversed(fill.items()))] for user, fill in EVENTS]
    spellings = [
        as_lines(turned, spaced=False, ascii_only=True),
        as_lines(EVENTS, spaced=True, ascii_only=True),
        REAL.replace(b"\n", b"\r\n"),
        REAL.replace(b"Open Long", b"Open\\u0020Long"),
        as_lines([["0x" + user[2:].upper(), fill] for user, fill in EVENTS], spaced=False, ascii_only=True),
    ]
    for spelling in spellings:
        assert decode_chunk(spelling).fills.equals(expected)


@examples(100)
@given(made=blocks(), spaced=st.booleans(), ascii_only=st.booleans(), flat=st.booleans())
def test_any_legal_fill_is_what_by_block_makes_of_it_but_for_the_block(
    made: list[dict[str, Any]], spaced: bool, ascii_only: bool, flat: bool
) -> None:
    events = [event for block in made for event in block["events"]]
    lines = [_flat(*event) for event in events] if flat else events
    decoded = decode_chunk(as_lines(lines, spaced=spaced, ascii_only=ascii_only))
    expected = by_block.decode_chunk(as_lines(made, spaced=False, ascii_only=True))
    assert decoded.bad == expected.bad == []
    assert decoded.fills.drop(OF_BLOCKS).equals(expected.fills.drop(OF_BLOCKS))
    assert decoded.fills["line"].to_list() == list(range(1, len(events) + 1))
    assert decoded.fills.select(OF_BLOCKS[:3]).null_count().row(0) == (len(events),) * 3


@examples(150)
@given(fill=fills(FILL["time"]), also=fills(FILL["time"]))
def test_the_fast_way_and_the_exact_one_agree_on_any_legal_fill(fill: dict[str, Any], also: dict[str, Any]) -> None:
    chunk = as_lines([[USER, fill], [USER, also]], spaced=False, ascii_only=False)
    fast = node_fills._take_known(chunk, 1)
    lines = [line for line, odd in zip(numbered(chunk), fast.odd, strict=True) if not odd]
    assert fast.fills.filter(~fast.odd[fast.fills["line"].to_numpy() - 1]).equals(node_fills._decode_exactly(lines).fills)


_SMALL = b"".join(LINES[n] for n in (0, 2, 5, 40, 200))
_PIECES = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\\",
    b"0",
    b"-",
    b" ",
    b"null",
    b"}],[",
    b"}]\n[",
    b"}{",
    b"{}",
    b",5",
    b'"twapId":1,',
]


@examples(300)
@given(damaged(_SMALL, _PIECES))
def test_whatever_the_damage_the_fast_way_takes_and_refuses_what_the_exact_way_does(chunk: bytes) -> None:
    fast, exact = decode_chunk(chunk), node_fills._decode_exactly(numbered(chunk))

    assert fast.fills.equals(exact.fills)
    assert (fast.bad, fast.lines) == (exact.bad, exact.lines)
