"""Lines of TWAP statuses: each event becomes a row with all its values, and only bad events are quarantined."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from hl_pipeline.formats.twap_statuses import TWAP_STATUS_SCHEMA, decode_json_lines
from hl_pipeline_tests.strategies import as_lines
from hl_pipeline_tests.twap_statuses import (
    BLOCK,
    EPOCH,
    EXPECTED,
    FLAT,
    LINES,
    REAL,
    STATUS,
    TIME_NS,
    USER,
    changed,
    from_json,
    only_reason,
    only_row,
)


def test_the_real_statuses_in_every_field() -> None:
    decoded = decode_json_lines(REAL, 1)
    assert decoded.statuses.schema == TWAP_STATUS_SCHEMA
    assert (decoded.bad, decoded.lines, decoded.notes) == ([], 3, {"status: object"})
    rows = decoded.statuses.to_dicts()
    assert [row["line"] for row in rows] == [1, 1, 2, 3]
    assert [row["block_number"] for row in rows] == [1066583083, 1066583083, 817824346, None]
    assert [row["time_ns"] for row in rows] == [1783623644010972875, 1783623644010972875, 1764867622417074898, TIME_NS]
    assert [row["status"] for row in rows] == ["finished", "error", "activated", "activated"]
    assert [row["error"] for row in rows] == [None, "Insufficient margin to place order.", None, None]
    assert rows[0]["started_at"] == datetime(2026, 7, 9, 18, 56, 6, 714000, UTC)
    assert rows[1]["notional_executed"] == Decimal("1132.9198")
    assert {**EXPECTED, "block_number": None, "line": 3, "raw": LINES[2].decode().strip()} == rows[3]

    lines = [json.loads(line) for line in LINES]
    for row, event in zip(rows, [*lines[0]["events"], *lines[1]["events"], lines[2]], strict=True):
        state = event["state"]
        assert row["raw"] == json.dumps(event, separators=(",", ":"))
        assert row["twap_id"] == event["twap_id"]
        assert (row["wallet"], row["coin"], row["side"]) == (state["user"], state["coin"], state["side"])
        assert row["size_requested"] == Decimal(state["sz"])
        assert row["size_executed"] == Decimal(state["executedSz"])
        assert row["notional_executed"] == Decimal(state["executedNtl"])
        assert (row["duration_minutes"], row["reduce_only"]) == (state["minutes"], state["reduceOnly"])
        assert row["randomize"] == state["randomize"]
        assert (row["started_at"] - EPOCH) / timedelta(milliseconds=1) == state["timestamp"]
        assert row["time_ns"] % 10**9 == int(event["time"].split(".")[1])


def test_lines_are_numbered_from_the_first_and_empty_ones_count() -> None:
    decoded = decode_json_lines(LINES[2] + b"\n  \r\n" + LINES[1] + b"broken\n", 100)
    assert decoded.statuses["line"].to_list() == [100, 103]
    assert [(bad.line, bad.event, bad.text) for bad in decoded.bad] == [(104, None, b"broken")]
    assert decoded.lines == 5


def test_nothing_at_all() -> None:
    for chunk in (b"", b"\n", as_lines([BLOCK | {"events": []}], spaced=False, ascii_only=True)):
        decoded = decode_json_lines(chunk, 1)
        assert (decoded.statuses.height, decoded.statuses.schema, decoded.bad) == (0, TWAP_STATUS_SCHEMA, [])
        assert decoded.lines == chunk.count(b"\n")


def test_a_flat_object_is_as_good_as_a_nested_one() -> None:
    decoded = from_json(FLAT | {"block_number": 7})
    assert (only_row(decoded), decoded.notes) == (EXPECTED, {"layout: flat object"})
    assert decoded.statuses["block_number"].to_list() == [7]


def test_an_event_without_a_time_takes_the_blocks() -> None:
    for event in (changed(time=...), changed(time=None)):
        decoded = from_json(BLOCK | {"events": [event]})
        assert (only_row(decoded), decoded.notes) == (EXPECTED | {"time_ns": 1764867622417074898}, {"time: of block_time"})
    assert only_reason(from_json({"events": [changed(time=...)]})) == "time is missing"
    assert only_row(from_json({"events": [changed()]})) == EXPECTED


def test_unknown_fields_are_kept() -> None:
    event = changed({"trigger": {"px": 1.50, "isMarket": True}, "stopPx": "5"}, tier=None, NUL="a\0\ud800")
    raw = from_json(BLOCK | {"events": [event], "hardfork": [1, {"b": None}]}).statuses["raw"][0]
    assert raw.isascii()
    assert json.loads(raw) == event | {"_block": {"hardfork": [1, {"b": None}]}}
    text = LINES[2].replace(b'"activated"', b'"activated","x":1.10000000000000000000000000000000000000001e5')
    raw = decode_json_lines(text, 1).statuses["raw"][0]
    assert json.loads(raw, parse_float=Decimal)["x"] == Decimal("1.10000000000000000000000000000000000000001e5")


def test_null_is_as_good_as_nothing() -> None:
    unknown = ("sz", "executedSz", "executedNtl", "minutes", "reduceOnly", "randomize", "timestamp")
    columns = (*("size_requested", "size_executed", "notional_executed"), "duration_minutes", "reduce_only", "randomize")
    nothing = EXPECTED | dict.fromkeys((*columns, "started_at"))
    assert only_row(from_json(changed(dict.fromkeys(unknown)))) == nothing
    assert only_row(from_json(changed(dict.fromkeys(unknown, ...)))) == nothing
    assert only_row(from_json(changed({"user": None}, user=USER))) == EXPECTED


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ([USER, STATUS], "an event of TWAP statuses must be an object, not "),
        ([], "an event of TWAP statuses must be an object, not []"),
        (None, "an event of TWAP statuses must be an object, not null"),
        *((changed(twap_id=value), "twap_id is missing") for value in (None, ...)),
        *((changed(status=value), "status is missing") for value in (None, ...)),
        *((changed({name: value}), f"{name} is missing") for name in ("user", "coin", "side") for value in (None, ...)),
        (STATUS | {"state": None}, "user is missing"),
        (STATUS | {"state": "gone"}, "user is missing"),
        (changed(twap_id=True), "twap_id: true is not an integer"),
        (changed(twap_id=2**63), "twap_id: 9223372036854775808 does not fit in 64 bits"),
        (changed(twap_id=1.5), "twap_id: 1.5 is not an integer"),
        (changed(twap_id=1e17), "twap_id: 1E+17 is more than a float holds to the last digit"),
        (changed(twap_id=[1]), "twap_id: [1] is not an integer"),
        (changed({"user": "0x12"}), 'user: "0x12" is not an address (0x and 40 hex digits)'),
        (changed({"coin": ""}), 'coin: "" is not a name'),
        (changed({"coin": 5}), "coin: 5 is not a name"),
        (changed({"coin": "a\0"}), 'coin: "a\\u0000" is not a name'),
        (changed({"coin": "\ud800"}), 'coin: "\\ud800" is not a name'),
        (changed({"coin": "x" * 201}), 'coin: "xxx'),
        (changed({"side": "C"}), "side: \"C\" is neither 'A' nor 'B'"),
        (changed({"side": 1}), "side: 1 is neither 'A' nor 'B'"),
        (changed({"sz": "1.00000000001"}), 'sz: "1.00000000001" has more than 10 decimals'),
        (changed({"executedSz": "1" * 29}), f'executedSz: "{"1" * 29}" has more than 28 digits before the point'),
        (changed({"executedNtl": 0.1 + 0.2}), "executedNtl: 0.30000000000000004 has more than 10 decimals"),
        (changed({"sz": "NaN"}), 'sz: "NaN" is not a decimal number'),
        (changed({"sz": True}), "sz: true is not a decimal number"),
        (changed({"minutes": -1}), "minutes: -1 is not between 0 and 2147483647"),
        (changed({"minutes": 2**31}), "minutes: 2147483648 is not between 0 and 2147483647"),
        (changed({"minutes": 5.5}), "minutes: 5.5 is not an integer"),
        (changed({"reduceOnly": "yes"}), 'reduceOnly: "yes" is neither true nor false'),
        (changed({"randomize": 2}), "randomize: 2 is neither true nor false"),
        (changed({"randomize": [0]}), "randomize: [0] is neither true nor false"),
        (changed({"timestamp": 0}), "state_timestamp: 0 is not a time in the years 2023 to 2199 in s, ms, us or ns"),
        (changed({"timestamp": "soon"}), 'state_timestamp: "soon" is not a time'),
        (changed(block_number="x"), 'block_number: "x" is not an integer'),
        (changed(time=True), "time: true is not a time"),
        (changed(time=1e400), "not JSON: Infinity"),
        (changed(state_coin="X", stateCoin="Y"), "state_coin and stateCoin both are state_coin"),
        (changed({"_metadata": 1, "USER": USER}), "state.user and state.USER both are state_user"),
    ],
)  # fmt: skip
def test_an_event_that_does_not_fit_is_quarantined_alone(event: Any, reason: str) -> None:
    whole = reason.startswith("not JSON")
    alone = decode_json_lines(LINES[1] + as_lines([event], spaced=True, ascii_only=True) + LINES[2], 7)
    assert alone.statuses["line"].to_list() == [7, 9]
    assert [(bad.line, bad.event) for bad in alone.bad] == [(8, None)]
    assert alone.bad[0].text + b"\n" == as_lines([event], spaced=True, ascii_only=True)

    block = BLOCK | {"events": [changed(), event, changed(twap_id=2)]}
    among = decode_json_lines(as_lines([block], spaced=False, ascii_only=True), 7)
    assert among.statuses["twap_id"].to_list() == ([] if whole else [1544034, 2])
    [bad] = among.bad
    assert bad.reason.startswith(reason)
    assert (bad.line, bad.event) == (7, None if whole else 2)
    if not whole:
        assert json.loads(bad.text) == event
        assert among.notes == frozenset()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[1,2]\n", "a line must be an object: a block with events, or a status"),
        (b'"finished"\n', "a line must be an object: a block with events, or a status"),
        (b"no json\n", "not JSON: Expecting value at character 1"),
        (LINES[1][:-10] + b"\n", "not JSON: "),
        (LINES[1].replace(b"HYPE", b"\xff"), "not UTF-8: "),
        (b'{"events":{}}\n', "events: {} is not a list"),
        (b'{"events":null}\n', "events: null is not a list"),
        (b'{"events":[],"events":[]}\n', "the key 'events' appears twice in one object"),
        (LINES[1].replace(b'"block_number"', b'"x":{"a":1,"a":2},"block_number"'), "the key 'a' appears twice in one object"),
        (LINES[2].replace(b'"minutes"', b'"minutes":6,"minutes"'), "the key 'minutes' appears twice in one object"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n", "cannot parse: nested too deeply"),
        (LINES[2].replace(b"1544034", b"1" * 5000), "cannot parse: "),
    ],
)
def test_a_line_that_does_not_fit_is_quarantined_whole(line: bytes, reason: str) -> None:
    decoded = decode_json_lines(LINES[1] + line + LINES[2], 1)
    [bad] = decoded.bad
    assert (bad.line, bad.event, bad.text) == (2, None, line[:-1])
    assert bad.reason.startswith(reason)
    assert decoded.statuses["line"].to_list() == [1, 3]


def test_a_doubled_key_in_an_event_is_that_events_matter() -> None:
    line = LINES[0].replace(b'"minutes":5', b'"minutes":5,"minutes":5')
    decoded = decode_json_lines(line, 1)
    assert decoded.statuses["twap_id"].to_list() == [2017981]
    [bad] = decoded.bad
    assert (bad.event, bad.reason) == (1, "the key 'minutes' appears twice in one object")
    assert bad.text == line[line.index(b'[{"') + 1 : line.index(b',{"time"')]


def test_a_name_of_ours_is_refused_in_an_event_of_a_block() -> None:
    decoded = from_json(BLOCK | {"events": [changed(_block=1), changed()]})
    assert decoded.statuses.height == 1
    assert decoded.bad[0].reason == "_block is reserved by hl-pipeline, but the event has this field"
    assert json.loads(from_json(changed(_block=1)).statuses["raw"][0])["_block"] == 1
