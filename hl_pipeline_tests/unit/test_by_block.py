"""node_fills_by_block: every oddity has the promised outcome, and the fast decoder always agrees with the exact parser."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given

from hl_pipeline.formats import by_block
from hl_pipeline.formats.by_block import decode_chunk
from hl_pipeline.formats.decoding import decode
from hl_pipeline.formats.exact_decode import parse_fill
from hl_pipeline.formats.fills import OPTIONAL_FIELDS, REGULAR_FIELDS
from hl_pipeline_tests.profiles import examples
from hl_pipeline_tests.records.reading import read_record
from hl_pipeline_tests.strategies import damaged, numbered

BLOCKS = read_record("node_fills_by_block_20260315_0.jsonl").splitlines(keepends=True)
FIRST = BLOCKS[0]


def _first_block() -> dict[str, Any]:
    return json.loads(FIRST)


def _line(block: dict[str, Any]) -> bytes:
    return json.dumps(block, separators=(",", ":")).encode() + b"\n"


def _changed(**fields: Any) -> bytes:
    """The first real block with its third fill changed; None takes a field away."""
    block = _first_block()
    fill = block["events"][2][1]
    fill |= fields
    for name in [name for name, value in fields.items() if value is ...]:
        del fill[name]
    return _line(block)


def _extra(fills: pl.DataFrame) -> list[Any]:
    return [json.loads(text) for text in fills["extra"].drop_nulls()]


def test_the_real_blocks_are_read_the_fast_way_and_as_the_exact_one_reads_them() -> None:
    chunk = b"".join(BLOCKS)
    fast = by_block._take_known(chunk, 1)
    exact = by_block._decode_exactly(numbered(chunk))
    assert not fast.odd.any()
    assert fast.fills.height == 1388
    assert fast.fills.equals(exact.fills)
    assert fast.fills["line"].to_list() == [n for n, line in enumerate(BLOCKS, 1) for _ in json.loads(line)["events"]]
    assert fast.blocks.numbers.tolist() == exact.blocks.numbers.tolist() == [json.loads(b)["block_number"] for b in BLOCKS]
    assert fast.blocks.times_ns.tolist() == exact.blocks.times_ns.tolist()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("px", "cheap", 'px: "cheap" is not a decimal number'),
        ("px", "1.12345678901", 'px: "1.12345678901" has more than 10 decimals'),
        ("sz", "1" * 29, f'sz: "{"1" * 29}" has more than 28 digits before the point'),
        ("fee", "NaN", 'fee: "NaN" is not a decimal number'),
        ("fee", "1_0", 'fee: "1_0" is not a decimal number'),
        ("closedPnl", " 1", 'closedPnl: " 1" is not a decimal number'),
        ("startPosition", "", 'startPosition: "" is not a decimal number'),
        ("px", ..., "px is missing"),
        ("tid", None, "tid is missing"),
        ("tid", 2**63, "tid: 9223372036854775808 does not fit in 64 bits"),
        ("oid", 1.5, "oid: 1.5 is not an integer"),
        ("oid", True, "oid: true is not an integer"),
        ("coin", "\ud800", 'coin: "\\ud800" is not a name'),
        ("sz", "1" + "0" * 28 + ".5", f'sz: "1{"0" * 28}.5" has more than 28 digits before the point'),
        ("side", "X", "side: \"X\" is neither 'A' nor 'B'"),
        ("coin", "", 'coin: "" is not a name'),
        ("time", 1773532799, "time: 1773532799 is over 60 s away from the time of its block, both in ms (1773532799991)"),
    ],
)
def test_a_value_that_does_not_fit_sends_its_fill_alone_to_quarantine(field: str, value: Any, reason: str) -> None:
    chunk = _changed(**{field: value})
    decoded = decode_chunk(chunk + BLOCKS[1], first_line=7)
    count = len(_first_block()["events"])
    assert decoded.fills.filter(line=7).height == count - 1
    [bad] = decoded.bad
    assert (bad.line, bad.event, bad.reason) == (7, 3, reason)
    assert json.loads(bad.text) == json.loads(chunk)["events"][2]


@pytest.mark.parametrize(
    "odd", [{"new": 5}, {"new": ']},{[\\"'}, {"px": "5.8932e2"}, {"coin": "\u00fc"}, {"px": "cheap"}, {"tid": None}]
)
def test_an_odd_event_is_read_exactly_and_the_rest_of_its_block_the_fast_way(odd: dict[str, Any]) -> None:
    chunk = _changed(**odd) + BLOCKS[1]
    fast = by_block._take_known(chunk, 7)
    exact = by_block._decode_exactly((line + 6, text) for line, text in numbered(chunk))
    assert not fast.odd.any()
    assert fast.fills.equals(exact.fills)
    assert [*fast.bad] == exact.bad


@pytest.mark.parametrize("broken", [b'"new":"', b'"new":\x01', b'"new":[}', b'"new":' + 30 * b"[" + 30 * b"]" + b",", b" "])
def test_a_line_with_an_event_that_is_no_json_or_deeply_nested_is_read_exactly_as_a_whole(broken: bytes) -> None:
    line = BLOCKS[0].replace(b'"coin"', broken + b'"coin"', 1)
    odd_before = _changed(px="cheap")
    chunk = BLOCKS[1] + odd_before + line
    assert by_block._take_known(chunk, 1).odd.tolist() == [False, False, broken != b" "]
    decoded, exact = decode_chunk(chunk), by_block._decode_exactly(numbered(chunk))
    assert decoded.fills.equals(exact.fills)
    assert decoded.bad == exact.bad


@pytest.mark.parametrize("value", ["589.32", "589.3200000000", 589.32, "5.8932e2"])
def test_a_number_is_taken_in_every_spelling_that_is_exact(value: Any) -> None:
    decoded = decode_chunk(_changed(px=value))
    assert decoded.bad == []
    assert Decimal("589.32") in decoded.fills["px"].to_list()
    assert decoded.fills["extra"].null_count() == decoded.fills.height


def test_an_unknown_field_is_kept_to_the_last_digit() -> None:
    block = _first_block()
    block["events"][2][1] |= {"newField": {"a": [1, "x"]}, "rebate": "gold"}
    chunk = _line(block).replace(b'"gold"', b"0.1000000000000000000000000000001")
    decoded = decode_chunk(chunk)
    assert decoded.fills.height == len(block["events"])
    assert decoded.fills["extra"].drop_nulls().to_list() == [
        '{"newField":{"a":[1,"x"]},"rebate":0.1000000000000000000000000000001}'
    ]


def test_an_unknown_field_and_an_absent_one_in_one_fill_do_not_cancel_out() -> None:
    decoded = decode_chunk(_changed(twapId=..., other=5))
    assert _extra(decoded.fills) == [{"other": 5, "_missing": ["twapId"]}]


def test_an_unknown_field_in_one_fill_and_an_absent_one_in_another_do_not_cancel_out() -> None:
    block = _first_block()
    del block["events"][0][1]["twapId"]
    block["events"][1][1]["other"] = 5
    decoded = decode_chunk(_line(block))
    assert sorted(map(str, _extra(decoded.fills))) == ["{'_missing': ['twapId']}", "{'other': 5}"]


def test_a_twap_key_within_a_liquidation_does_not_stand_for_the_fills_own() -> None:
    liquidation = {"liquidatedUser": "0x" + "a" * 40, "markPx": "1.5", "method": "market"}
    decoded = decode_chunk(_changed(twapId=..., liquidation={**liquidation, "twapId": None}))
    assert _extra(decoded.fills) == [{"liquidation": {**liquidation, "twapId": None}, "_missing": ["twapId"]}]


def test_null_and_missing_stay_apart() -> None:
    assert _extra(decode_chunk(_changed(fee=None)).fills) == []
    assert _extra(decode_chunk(_changed(fee=...)).fills) == [{"_missing": ["fee"]}]
    assert _extra(decode_chunk(_changed(builder=None)).fills) == [{"builder": None}]
    for fills in (decode_chunk(_changed(fee=None)).fills, decode_chunk(_changed(fee=...)).fills):
        assert fills["fee"].null_count() == 1


def test_an_unknown_dir_is_taken_as_it_is() -> None:
    decoded = decode_chunk(_changed(dir="Frobnicate \u00fc"))
    assert "Frobnicate \u00fc" in decoded.fills["dir"].to_list()
    assert decoded.bad == []


def test_an_object_where_a_text_should_be_is_kept_and_not_taken_for_the_text() -> None:
    decoded = decode_chunk(_changed(dir={"a": 1}))
    assert _extra(decoded.fills) == [{"dir": {"a": 1}}]
    assert decoded.fills["dir"].null_count() == 1


def test_a_hash_that_is_no_hash_is_kept() -> None:
    decoded = decode_chunk(_changed(hash="0xabc"))
    assert _extra(decoded.fills) == [{"hash": "0xabc"}]


def test_a_field_that_stands_twice_sends_its_fill_to_quarantine() -> None:
    for spaced in (b"", b" "):
        chunk = FIRST.replace(b'"coin":"km:USTECH"', b'"coin":"km:USTECH",' + spaced + b'"coin":"BTC"', 1)
        decoded = decode_chunk(chunk.replace(b'"events":', b'"events":' + spaced))
        assert [(bad.event, bad.reason) for bad in decoded.bad] == [(3, "the key 'coin' appears twice in one object")]
        assert decoded.fills.height == len(_first_block()["events"]) - 1


@pytest.mark.parametrize(
    ("old", "new", "px"),
    [
        # What is one quote short here is one quote over there: the counts must not add up to nothing.
        (b'"px":"589.32"', b'"px":12817942.2417900003,"x":1', "12817942.2417900003"),
        (b'"px":"589.32"', b'"px":12817942.2417900003,"x":"1"', "12817942.2417900003"),
        (b'"px":"589.32"', b'"px":12817942.2417900003,"x":{"y":[]}', "12817942.2417900003"),
        (b'"px":"589.32"', b'"px" :12817942.2417900003,"x":":"', "12817942.2417900003"),
        (b'"px":"589.32"', b'"px"\t:12817942.2417900003,"x":1', "12817942.2417900003"),
    ],
)
def test_a_number_where_a_text_should_be_is_exact_whatever_else_is_odd(old: bytes, new: bytes, px: str) -> None:
    chunk = FIRST.replace(old, new, 1)
    for also in (chunk, chunk.replace(b'"oid":349162657552', b'"oid":"349162657552"')):
        decoded = decode_chunk(also)
        assert decoded.bad == []
        assert Decimal(px) in decoded.fills["px"].to_list()
        assert [list(extra) for extra in _extra(decoded.fills)] == [["x"]]


def test_an_integer_written_as_a_float_is_exact_or_refused() -> None:
    decoded = decode_chunk(FIRST.replace(b'"oid":349162657552', b'"oid":123456789012345678.0', 1))
    assert 123456789012345678 in decoded.fills["oid"].to_list()
    for value in (b"1773e5532800196", b"1e10000000", b"1e-3", b"-9223372036854775809"):
        decoded = decode_chunk(FIRST.replace(b'"oid":349162657552', b'"oid":' + value, 1))
        assert [bad.event for bad in decoded.bad] == [3]


@pytest.mark.parametrize("value", ["0e-99", "0e99", "0." + "0" * 59, "1" * 28 + "." + "0" * 20, "9" * 28 + ".9"])
def test_a_number_at_the_edge_of_what_fits_is_taken(value: str) -> None:
    assert Decimal(value) in decode_chunk(_changed(sz=value)).fills["sz"].to_list()


def test_half_a_surrogate_pair_is_kept_as_it_was_written() -> None:
    decoded = decode_chunk(_changed(dir="\ud800"))
    assert decoded.fills["extra"].drop_nulls().to_list() == ['{"dir":"\\ud800"}']


@pytest.mark.parametrize("depth", [400, 900, 3000])
def test_a_field_nested_however_deep_fails_its_line_at_most(depth: int) -> None:
    chunk = _changed(x=1).replace(b'"x":1', b'"x":' + b"[" * depth + b"]" * depth)
    decoded = decode_chunk(BLOCKS[1] + chunk + BLOCKS[2])
    assert {bad.line for bad in decoded.bad} <= {2}
    assert decoded.blocks.numbers.tolist()[0] == json.loads(BLOCKS[1])["block_number"]
    assert decoded.blocks.numbers.tolist()[-1] == json.loads(BLOCKS[2])["block_number"]


@pytest.mark.parametrize("year", [b"9999", b"2263", b"1677", b"0001"])
@pytest.mark.parametrize("field", [b"local_time", b"block_time"])
def test_a_year_that_nanoseconds_cannot_tell_is_refused(year: bytes, field: bytes) -> None:
    at = FIRST.index(b'"' + field) + len(field) + 4
    decoded = decode_chunk(FIRST[:at] + year + FIRST[at + 4 :])
    [bad] = decoded.bad
    assert bad.event is None
    assert "is not in the years 2000 to 2199" in bad.reason


def test_key_order_spaces_escapes_and_crlf_change_nothing() -> None:
    expected = decode_chunk(FIRST).fills
    block = _first_block()
    turned = {**block, "events": [[user, dict(reversed(fill.items()))] for user, fill in block["events"]]}
    escaped = FIRST.replace(b'"UNI"', b'"\\u0055NI"').replace(b"Open Long", b"Open\\u0020Long")
    spellings = [
        _line(dict(reversed(turned.items()))),
        json.dumps(block).encode() + b"\n",
        FIRST.replace(b",", b" , \t"),
        escaped,
        FIRST[:-1] + b"\r\n",
        FIRST.replace(b"0x010461c14e146ac3", b"0x010461C14E146AC3"),
    ]
    for spelling in spellings:
        assert decode_chunk(spelling).fills.equals(expected), spelling


def test_users_without_0x_do_not_vanish() -> None:
    chunk = FIRST.replace(b'["0x', b'["')
    decoded = decode_chunk(chunk)
    assert decoded.fills.height == 0
    assert [bad.event for bad in decoded.bad] == list(range(1, len(_first_block()["events"]) + 1))
    assert "is not an address" in decoded.bad[0].reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no json at all\n", "not JSON: Expecting value at character 1"),
        (b"[1,2]\n", "a line must be an object with block_number and events"),
        (b'{"block_number":1}\n', "block_number, block_time or the list of events is missing"),
        (FIRST.replace(b"T23:59:59", b"T25:59:59"), "local_time"),
        (FIRST[:500] + b"\n", "not JSON"),
        (FIRST.replace(b"UNI", b"\xff\xfe", 1), "not UTF-8: invalid start byte at byte"),
        (b'{"block_number":NaN,"events":[]}\n', "not JSON: NaN"),
    ],
)
def test_a_line_that_does_not_parse_is_quarantined_whole_and_stops_no_other(line: bytes, reason: str) -> None:
    if reason == "local_time":
        line, reason = FIRST.replace(b'"block_time":"2026-03-14T23', b'"block_time":"2026-03-14T25'), "block_time"
    decoded = decode_chunk(BLOCKS[1] + line + BLOCKS[2], first_line=10)
    [bad] = decoded.bad
    assert (bad.line, bad.event) == (11, None)
    assert bad.reason.startswith(reason)
    assert bad.text == line[:-1]
    around = [json.loads(BLOCKS[1]), json.loads(BLOCKS[2])]
    assert decoded.fills.height == sum(len(block["events"]) for block in around)
    assert decoded.blocks.numbers.tolist() == [block["block_number"] for block in around]


def test_lines_are_numbered_through_all_chunks_and_blank_lines_count() -> None:
    chunks = [BLOCKS[0] + b"\n", b"  \n" + b"broken\n", BLOCKS[0]]
    decoded = list(decode(chunks, decode_chunk, threads=2))
    assert [bad.line for part in decoded for bad in part.bad] == [4]
    assert decoded[-1].fills["line"].unique().to_list() == [5]


def test_blocks_without_fills_are_blocks() -> None:
    chunk = _line({**_first_block(), "events": []})
    decoded = decode_chunk(chunk)
    assert (decoded.fills.height, decoded.blocks.numbers.tolist()) == (0, [923950857])


def test_an_odd_line_in_a_large_chunk_costs_no_other_line_its_place() -> None:
    many = [
        _line({**json.loads(BLOCKS[n % 9]), "block_number": 1_000_000 + n, "events": _first_block()["events"][:4]})
        for n in range(900)
    ]
    times = json.loads(FIRST)
    many = [_line({**json.loads(line), "block_time": times["block_time"]}) for line in many]
    many[450] = many[450].replace(b'"px":"3.9457"', b'"px":"oops"', 1)
    many[451] = b"garbage\n"
    decoded = decode_chunk(b"".join(many))
    assert [(bad.line, bad.event) for bad in decoded.bad] == [(451, 1), (452, None)]
    assert decoded.fills.height == 4 * 899 - 1
    assert decoded.fills["line"].is_sorted()
    assert sorted(set(range(1, 901)) - set(decoded.fills["line"].to_list())) == [452]


def test_odd_fills_stay_where_they_stand() -> None:
    block = json.loads(BLOCKS[1])
    orders = [fill["oid"] for _, fill in block["events"]]
    for position, (_, fill) in enumerate(block["events"]):
        if position % 3 == 1:
            fill["other"] = position
        if position % 5 == 2:
            fill["px"] = "cheap"
    decoded = decode_chunk(FIRST + _line(block))
    assert decoded.fills.filter(line=2)["oid"].to_list() == [oid for n, oid in enumerate(orders) if n % 5 != 2]
    assert [bad.event for bad in decoded.bad] == [n + 1 for n in range(len(orders)) if n % 5 == 2]
    assert decoded.fills.equals(by_block._decode_exactly(numbered(FIRST + _line(block))).fills)


def test_a_name_of_ours_in_a_fill_sends_it_to_quarantine() -> None:
    for name in ("_missing", "_block", "_trade"):
        [bad] = decode_chunk(_changed(**{name: 1})).bad
        assert bad.reason == f"{name} is reserved by hl-pipeline, but the fill has this field"


_SMALL = b"".join(_line({**json.loads(block), "events": json.loads(block)["events"][:3]}) for block in BLOCKS[:3])
_PIECES = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\\", b"0", b"-", b" ", b"null", b"}],[", b'"twapId":1,']


@examples(300)
@given(damaged(_SMALL, _PIECES))
def test_whatever_the_damage_the_fast_way_takes_and_refuses_what_the_exact_way_does(chunk: bytes) -> None:
    fast, exact = decode_chunk(chunk), by_block._decode_exactly(numbered(chunk))

    assert fast.fills.equals(exact.fills)
    assert [(bad.line, bad.event, bad.reason) for bad in fast.bad] == [(bad.line, bad.event, bad.reason) for bad in exact.bad]
    assert fast.blocks.numbers.tolist() == exact.blocks.numbers.tolist()
    assert fast.lines == exact.lines


_LIQUIDATION = b'{"liquidatedUser":"0x%b","markPx":"1.5","method":"market"}' % (b"a" * 40)
_VALUES = [
    b"",
    b'""',
    b'"x"',
    b'"0x"',
    b'"1.5"',
    b"5",
    b"0",
    b"-1",
    b"1.5",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b'{"a":1}',
    b'"A"',
    _LIQUIDATION,
]
_VALUES += [_LIQUIDATION.replace(b'"market"', b"1"), _LIQUIDATION.replace(b"}", b',"x":1}'), b'"%b"' % (b"9" * 19), b"9" * 19]


@pytest.mark.parametrize("field", [*REGULAR_FIELDS, *OPTIONAL_FIELDS, "liquidation"])
def test_a_value_of_any_kind_in_any_field_is_taken_as_the_exact_way_takes_it(field: str) -> None:
    mark = "to be replaced"
    line = _changed(**{field: mark})
    chunk = b"".join(line.replace(b'"%b"' % mark.encode(), value) for value in _VALUES)
    fast, exact = decode_chunk(chunk), by_block._decode_exactly(numbered(chunk))
    assert fast.fills.equals(exact.fills)
    assert fast.bad == exact.bad


def test_fills_without_values_have_room_however_many_there_are() -> None:
    fill = b"{" + b",".join(b'"%b":' % name.encode() for name in REGULAR_FIELDS) + b"}"
    events = b",".join([b'["0x%b",%b]' % (b"a" * 40, fill)] * 5000)
    line = FIRST[: FIRST.index(b"[[") + 1] + events + b"]}\n"
    decoded = decode_chunk(BLOCKS[1] + line + BLOCKS[2])
    [bad] = decoded.bad
    assert (bad.line, bad.event, bad.text) == (2, None, line[:-1])
    assert decoded.fills.equals(by_block._decode_exactly(numbered(BLOCKS[1] + line + BLOCKS[2])).fills)


def test_the_exact_way_names_what_is_wrong_with_a_fill_that_is_none() -> None:
    with pytest.raises(ValueError, match="a fill must be an object, not 5"):
        parse_fill(5, "0x" + "0" * 40)


def test_the_samples_are_the_real_ones() -> None:
    assert sum(len(json.loads(block)["events"]) for block in BLOCKS) == 1388


def test_polars_knows_numpy_before_threads_decode() -> None:
    code = "import polars, hl_pipeline.formats.decoding, numpy; print(polars._dependencies.numpy is numpy)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "True\n"
