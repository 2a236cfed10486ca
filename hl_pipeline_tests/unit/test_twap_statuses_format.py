"""TWAP statuses: every event of every plausible form gives its row with all that it says; what is not sure of is quarantined."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl_pipeline.formats import twap_columns
from hl_pipeline.formats.fills import BadLine
from hl_pipeline.formats.framing import UnreadableObjectError
from hl_pipeline.formats.twap_statuses import TWAP_STATUS_SCHEMA, DecodedStatuses, decode_json_lines, decode_parquet
from hl_pipeline_tests.records.reading import read_record
from hl_pipeline_tests.strategies import addresses, as_lines, damaged, decimals, json_values, names

REAL = read_record("twap_statuses_node.jsonl")
LINES = REAL.splitlines(keepends=True)
STATUS: dict[str, Any] = json.loads(LINES[2])
BLOCK: dict[str, Any] = json.loads(LINES[1])
USER = "0xb90e02bd0033897061b272186d9f16340f153e87"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# 2026-01-28T15:00:05.423822681
TIME_NS = 1769612405423822681
EXPECTED: dict[str, Any] = {
    "twap_id": 1544034,
    "time_ns": TIME_NS,
    "status": "activated",
    "error": None,
    "wallet": USER,
    "coin": "ETH",
    "side": "A",
    "size_requested": Decimal(10),
    "size_executed": Decimal(0),
    "notional_executed": Decimal(0),
    "duration_minutes": 5,
    "reduce_only": False,
    "randomize": False,
    "started_at": datetime(2026, 1, 28, 15, 0, 5, 423000, UTC),
}
FLAT: dict[str, Any] = {
    "twap_id": 1544034,
    "time": "2026-01-28T15:00:05.423822681",
    "state_user": USER,
    "state_coin": "ETH",
    "state_side": "A",
    "state_sz": "10.0",
    "state_executedSz": "0.0",
    "state_executedNtl": "0.0",
    "state_minutes": 5,
    "state_reduceOnly": False,
    "state_randomize": False,
    "state_timestamp": 1769612405423,
    "status": "activated",
}


def _json(made: Any) -> DecodedStatuses:
    return decode_json_lines(as_lines([made], spaced=False, ascii_only=True), 1)


def _changed(state: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The real plain status changed; an ellipsis takes a field away."""
    made = STATUS | {"state": STATUS["state"] | (state or {})} | changes
    made["state"] = {key: value for key, value in made["state"].items() if value is not ...}
    return {key: value for key, value in made.items() if value is not ...}


def _file(columns: dict[str, Any], **how: Any) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **how)
    file.seek(0)
    return file


def _parquet(columns: Mapping[str, Any], **how: Any) -> DecodedStatuses:
    """All that a small file holds: FLAT with `columns` instead or besides; an ellipsis takes one away."""
    rows = next((len(value) for value in columns.values() if isinstance(value, list | pa.Array)), 1)
    whole = {name: [value] * rows for name, value in FLAT.items() if name not in columns}
    [decoded] = decode_parquet(_file(whole | {name: value for name, value in columns.items() if value is not ...}, **how))
    return decoded


def _row(decoded: DecodedStatuses) -> dict[str, Any]:
    """The only row, without its place and its source."""
    assert decoded.bad == []
    [row] = decoded.statuses.to_dicts()
    return {name: value for name, value in row.items() if name not in ("block_number", "line", "raw")}


def _reason(decoded: DecodedStatuses) -> str:
    assert decoded.statuses.height == 0
    [bad] = decoded.bad
    return bad.reason


# Lines of JSON.


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
    decoded = _json(FLAT | {"block_number": 7})
    assert (_row(decoded), decoded.notes) == (EXPECTED, {"layout: flat object"})
    assert decoded.statuses["block_number"].to_list() == [7]


def test_an_event_without_a_time_takes_the_blocks() -> None:
    for event in (_changed(time=...), _changed(time=None)):
        decoded = _json(BLOCK | {"events": [event]})
        assert (_row(decoded), decoded.notes) == (EXPECTED | {"time_ns": 1764867622417074898}, {"time: of block_time"})
    assert _reason(_json({"events": [_changed(time=...)]})) == "time is missing"
    assert _row(_json({"events": [_changed()]})) == EXPECTED


def test_unknown_fields_are_kept() -> None:
    event = _changed({"trigger": {"px": 1.50, "isMarket": True}, "stopPx": "5"}, tier=None, NUL="a\0\ud800")
    raw = _json(BLOCK | {"events": [event], "hardfork": [1, {"b": None}]}).statuses["raw"][0]
    assert raw.isascii()
    assert json.loads(raw) == event | {"_block": {"hardfork": [1, {"b": None}]}}
    text = LINES[2].replace(b'"activated"', b'"activated","x":1.10000000000000000000000000000000000000001e5')
    raw = decode_json_lines(text, 1).statuses["raw"][0]
    assert json.loads(raw, parse_float=Decimal)["x"] == Decimal("1.10000000000000000000000000000000000000001e5")


def test_null_is_as_good_as_nothing() -> None:
    unknown = ("sz", "executedSz", "executedNtl", "minutes", "reduceOnly", "randomize", "timestamp")
    columns = (*("size_requested", "size_executed", "notional_executed"), "duration_minutes", "reduce_only", "randomize")
    nothing = EXPECTED | dict.fromkeys((*columns, "started_at"))
    assert _row(_json(_changed(dict.fromkeys(unknown)))) == nothing
    assert _row(_json(_changed(dict.fromkeys(unknown, ...)))) == nothing
    assert _row(_json(_changed({"user": None}, user=USER))) == EXPECTED


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ([USER, STATUS], "an event of TWAP statuses must be an object, this is "),
        ([], "an event of TWAP statuses must be an object, this is []"),
        (None, "an event of TWAP statuses must be an object, this is null"),
        *((_changed(twap_id=value), "twap_id is missing") for value in (None, ...)),
        *((_changed(status=value), "status is missing") for value in (None, ...)),
        *((_changed({name: value}), f"{name} is missing") for name in ("user", "coin", "side") for value in (None, ...)),
        (STATUS | {"state": None}, "user is missing"),
        (STATUS | {"state": "gone"}, "user is missing"),
        (_changed(twap_id=True), "twap_id: true is not an integer"),
        (_changed(twap_id=2**63), "twap_id: 9223372036854775808 does not fit 64 bits"),
        (_changed(twap_id=1.5), "twap_id: 1.5 is not an integer"),
        (_changed(twap_id=1e17), "twap_id: 1E+17 is more than a float holds to the last digit"),
        (_changed(twap_id=[1]), "twap_id: [1] is not an integer"),
        (_changed({"user": "0x12"}), 'user: "0x12" is not an address (0x and 40 hex digits)'),
        (_changed({"coin": ""}), 'coin: "" is not a name'),
        (_changed({"coin": 5}), "coin: 5 is not a name"),
        (_changed({"coin": "a\0"}), 'coin: "a\\u0000" is not a name'),
        (_changed({"coin": "\ud800"}), 'coin: "\\ud800" is not a name'),
        (_changed({"coin": "x" * 201}), 'coin: "xxx'),
        (_changed({"side": "C"}), "side: \"C\" is neither 'A' nor 'B'"),
        (_changed({"side": 1}), "side: 1 is neither 'A' nor 'B'"),
        (_changed({"sz": "1.00000000001"}), 'sz: "1.00000000001" has more than 10 decimals'),
        (_changed({"executedSz": "1" * 29}), f'executedSz: "{"1" * 29}" has more than 28 digits before the point'),
        (_changed({"executedNtl": 0.1 + 0.2}), "executedNtl: 0.30000000000000004 has more than 10 decimals"),
        (_changed({"sz": "NaN"}), 'sz: "NaN" is not a decimal number'),
        (_changed({"sz": True}), "sz: true is not a decimal number"),
        (_changed({"minutes": -1}), "minutes: -1 is not between 0 and 2147483647"),
        (_changed({"minutes": 2**31}), "minutes: 2147483648 is not between 0 and 2147483647"),
        (_changed({"minutes": 5.5}), "minutes: 5.5 is not an integer"),
        (_changed({"reduceOnly": "yes"}), 'reduceOnly: "yes" is neither true nor false'),
        (_changed({"randomize": 2}), "randomize: 2 is neither true nor false"),
        (_changed({"randomize": [0]}), "randomize: [0] is neither true nor false"),
        (_changed({"timestamp": 0}), "state_timestamp: 0 is not a time of the years 2023 to 2199 in s, ms, us or ns"),
        (_changed({"timestamp": "soon"}), 'state_timestamp: "soon" is not a time'),
        (_changed(block_number="x"), 'block_number: "x" is not an integer'),
        (_changed(time=True), "time: true is not a time"),
        (_changed(time=1e400), "not JSON: Infinity"),
        (_changed(state_coin="X", stateCoin="Y"), "state_coin and stateCoin both are state_coin"),
        (_changed({"_metadata": 1, "USER": USER}), "state.user and state.USER both are state_user"),
    ],
)  # fmt: skip
def test_an_event_that_does_not_fit_is_quarantined_alone(event: Any, reason: str) -> None:
    whole = reason.startswith("not JSON")
    alone = decode_json_lines(LINES[1] + as_lines([event], spaced=True, ascii_only=True) + LINES[2], 7)
    assert alone.statuses["line"].to_list() == [7, 9]
    assert [(bad.line, bad.event) for bad in alone.bad] == [(8, None)]
    assert alone.bad[0].text + b"\n" == as_lines([event], spaced=True, ascii_only=True)

    block = BLOCK | {"events": [_changed(), event, _changed(twap_id=2)]}
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
        (b'{"events":[],"events":[]}\n', "the key 'events' stands twice in one object"),
        (LINES[1].replace(b'"block_number"', b'"x":{"a":1,"a":2},"block_number"'), "the key 'a' stands twice in one object"),
        (LINES[2].replace(b'"minutes"', b'"minutes":6,"minutes"'), "the key 'minutes' stands twice in one object"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n", "not taken: nested too deeply"),
        (LINES[2].replace(b"1544034", b"1" * 5000), "not taken: "),
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
    assert (bad.event, bad.reason) == (1, "the key 'minutes' stands twice in one object")
    assert bad.text == line[line.index(b'[{"') + 1 : line.index(b',{"time"')]


def test_a_name_of_ours_is_refused_in_an_event_of_a_block() -> None:
    decoded = _json(BLOCK | {"events": [_changed(_block=1), _changed()]})
    assert decoded.statuses.height == 1
    assert decoded.bad[0].reason == "_block is a name of ours, the event has it too"
    assert json.loads(_json(_changed(_block=1)).statuses["raw"][0])["_block"] == 1


# Forms of a status.

_FORMS: list[tuple[Any, str, str | None, set[str]]] = [
    *((kind, kind, None, set()) for kind in ("activated", "finished", "terminated", "error", "waitingForTrigger", "stopped")),
    ("Finished", "finished", None, {"status: in other case"}),
    ("WAITINGFORTRIGGER", "waitingForTrigger", None, {"status: in other case"}),
    (" finished\n", "finished", None, set()),
    ("Paused By Owner", "Paused By Owner", None, {"status: a kind not known"}),
    ("paused: why", "paused: why", None, {"status: a kind not known"}),
    ("error: no: margin", "error", "no: margin", {"status: text after a colon"}),
    ("Error:none", "error", "none", {"status: text after a colon", "status: in other case"}),
    ("error:", "error", None, {"status: text after a colon"}),
    ("terminated: by its owner", "terminated", "by its owner", {"status: text after a colon"}),
    ({"error": "Insufficient margin"}, "error", "Insufficient margin", {"status: object"}),
    ({"error": " kept as it is\n"}, "error", " kept as it is\n", {"status: object"}),
    ({"error": ""}, "error", None, {"status: object"}),
    ({"Error": "x", "status": None}, "error", "x", {"status: object", "status: in other case"}),
    ({"error": "a\0b"}, "error", None, {"status: object"}),
    ({"error": "\ud800"}, "error", None, {"status: object"}),
    ({"status": "error", "description": "x"}, "error", "x", {"status: object"}),
    ({"status": "finished", "description": None}, "finished", None, {"status: object"}),
    ({"status": "finished"}, "finished", None, {"status: object"}),
    ({"status": "error", "error": "x"}, "error", "x", {"status: object"}),
    ({"status": "error", "description": "x", "code": 5}, "error", "x", {"status: object"}),
    ({"Status": "Error", "Description": "x"}, "error", "x", {"status: object", "status: in other case"}),
    ({"status": "error: x"}, "error", "x", {"status: object", "status: text after a colon"}),
    ({"pausedFor": "a minute"}, "pausedFor", "a minute", {"status: object", "status: a kind not known"}),
    ('{"error": "no\\nmargin"}', "error", "no\nmargin", {"status: JSON text", "status: object"}),
    ('{"status":"error","description":"x"}', "error", "x", {"status: JSON text", "status: object"}),
    ('"finished"', "finished", None, {"status: JSON text"}),
    ('"error: x"', "error", "x", {"status: JSON text", "status: text after a colon"}),
]
_NO_FORMS: list[tuple[Any, str]] = [
    ("", 'status: "" is not a name'),
    ("  ", 'status: "" is not a name'),
    ("a\0b", 'status: "a\\u0000b" is not a name'),
    ("\udc00", 'status: "\\udc00" is not a name'),
    ("x" * 201, 'status: "xxx'),
    ('""', 'status: "" is not a name'),
    ({}, "status: {} is of no known form"),
    ({"error": None, "status": None}, 'status: {"error":null,"status":null} is of no known form'),
    ({"error": 5}, 'status: {"error":5} is of no known form'),
    ({"error": {"code": "x"}}, 'status: {"error":{"code":"x"}} is of no known form'),
    ({"error": "x", "finished": "y"}, 'status: {"error":"x","finished":"y"} is of no known form'),
    ({"status": "error", "a": "x", "b": "y"}, 'status: {"status":"error","a":"x","b":"y"} is of no known form'),
    ({"status": "error", "description": 5}, 'status: {"status":"error","description":5} is of no known form'),
    ({"": "x"}, 'status: "" is not a name'),
    (5, "status: 5 is of no known form"),
    (True, "status: true is of no known form"),
    (["finished"], 'status: ["finished"] is of no known form'),
    ("{error: x}", 'status: "{error: x}": not JSON: '),
    ('{"a":"x","a":"y"}', 'status: "{\\"a\\":\\"x\\",\\"a\\":\\"y\\"}": the key \'a\' stands twice'),
]


def _can_be_a_column(value: Any) -> bool:
    """pyarrow writes no struct without members, no numbers beside texts, no half of a surrogate pair."""
    try:
        _file({"status": [value]})
    except (pa.ArrowException, UnicodeError):
        return False
    return value != {}


@pytest.mark.parametrize(("value", "kind", "error", "notes"), _FORMS)
def test_every_form_of_a_status(value: Any, kind: str, error: str | None, notes: set[str]) -> None:
    sources = [_json(_changed(status=value)), _json(BLOCK | {"events": [_changed(status=value)]})]
    if _can_be_a_column(value):
        sources.append(_parquet({"status": [value]}))
    for decoded in sources:
        assert _row(decoded) == EXPECTED | {"status": kind, "error": error}
        assert decoded.notes == notes
        assert json.loads(decoded.statuses["raw"][0])["status"] == value


@pytest.mark.parametrize(("value", "reason"), _NO_FORMS)
def test_a_status_of_another_form_is_bad(value: Any, reason: str) -> None:
    assert _reason(_json(_changed(status=value))).startswith(reason)
    if _can_be_a_column(value):
        assert _reason(_parquet({"status": [value]})).startswith(reason)


def test_a_struct_of_all_forms_has_of_each_row_what_is_not_null() -> None:
    kind = pa.struct([("status", pa.string()), ("description", pa.string()), ("error", pa.string())])
    values = [{"status": "finished"}, {"error": "x"}, {"status": "error", "description": "y"}, {}, None]
    decoded = _parquet({"status": pa.array(values, kind)})
    assert decoded.statuses.select("status", "error").rows() == [("finished", None), ("error", "x"), ("error", "y")]
    assert [(bad.line, bad.reason) for bad in decoded.bad] == [
        (4, 'status: {"status":null,"description":null,"error":null} is of no known form'),
        (5, "status is missing"),
    ]


# Forms of a time: all of 2026-01-28T15:00:05.

_S = 1769612405
_TIMES: list[tuple[Any, int, str]] = [
    ("2026-01-28T15:00:05", _S * 10**9, ""),
    ("2026-01-28 15:00:05", _S * 10**9, ""),
    ("2026-01-28T15:00:05Z", _S * 10**9, ""),
    ("2026-01-28T15:00:05.4", _S * 10**9 + 400_000_000, ""),
    ("2026-01-28T15:00:05.423822681", TIME_NS, ""),
    ("2026-01-28 15:00:05.423822681Z", TIME_NS, ""),
    ("2026-01-28T15:00:05.423822681+00:00", TIME_NS, "texts with an offset"),
    ("2026-01-28T17:30:05.423822681+02:30", TIME_NS, "texts with an offset"),
    ("2026-01-27T17:00:05.423822681-22:00", TIME_NS, "texts with an offset"),
    (_S, _S * 10**9, "integers in s"),
    (_S * 10**3 + 423, _S * 10**9 + 423_000_000, "integers in ms"),
    (_S * 10**6 + 423822, _S * 10**9 + 423_822_000, "integers in us"),
    (TIME_NS, TIME_NS, "integers in ns"),
    (float(_S), _S * 10**9, "floats in s"),
    (float(_S * 10**3 + 423), _S * 10**9 + 423_000_000, "floats in ms"),
    (float(_S * 10**6 + 423822), _S * 10**9 + 423_822_000, "floats in us"),
    (1.7696124054238e18, 1769612405423800000, "floats in ns"),
    (str(_S), _S * 10**9, "texts in s"),
    (str(_S * 10**3 + 423), _S * 10**9 + 423_000_000, "texts in ms"),
    (str(TIME_NS), TIME_NS, "texts in ns"),
    ("2023-01-01T00:00:00", 1672531200 * 10**9, ""),
    ("2199-12-31T23:59:59.999999999", 7258118399999999999, ""),
    ("2022-12-31T23:00:00-01:00", 1672531200 * 10**9, "texts with an offset"),
    (1672531200, 1672531200 * 10**9, "integers in s"),
    (7258118399, 7258118399 * 10**9, "integers in s"),
    (1672531200000, 1672531200 * 10**9, "integers in ms"),
    (7258118399999, 7258118399999 * 10**6, "integers in ms"),
    (1672531200000000, 1672531200 * 10**9, "integers in us"),
    (7258118399999999, 7258118399999999 * 10**3, "integers in us"),
    (1672531200000000000, 1672531200 * 10**9, "integers in ns"),
    (7258118399999999999, 7258118399999999999, "integers in ns"),
]


@pytest.mark.parametrize(("value", "time_ns", "form"), _TIMES)
def test_every_form_of_a_time(value: Any, time_ns: int, form: str) -> None:
    started_at = EPOCH + timedelta(microseconds=time_ns // 1000)
    notes = {f"time: {form}"} - {"time: "} | {f"state_timestamp: {form or 'texts'}"} - {"state_timestamp: integers in ms"}
    for decoded in (
        _json(_changed({"timestamp": value}, time=value)),
        _json(BLOCK | {"block_time": value, "events": [_changed({"timestamp": value}, time=value)]}),
        _parquet({"time": [value], "state_timestamp": [value]}),
    ):
        assert _row(decoded) == EXPECTED | {"time_ns": time_ns, "started_at": started_at}
        assert decoded.notes == notes


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2026-01-28", "time: \"2026-01-28\" is not a time"),
        ("2026-01-28T15:00", 'time: "2026-01-28T15:00" is not a time'),
        ("20260128", 'time: "20260128" is not a time of the years'),
        ("15:00:05", 'time: "15:00:05" is not a time'),
        ("2026-01-28T15:00:05.", "time: "),
        ("2026-01-28T15:00:05.1234567890", "time: "),
        ("2026-01-28T15:00:05 UTC", "time: "),
        ("2026-02-30T15:00:05", 'time: "2026-02-30T15:00:05": day '),
        ("2026-01-28T24:00:05", 'time: "2026-01-28T24:00:05": hour '),
        ("2026-01-28T15:00:05+24:00", "time: "),
        ("2022-12-31T23:59:59.999999999", "time: \"2022-12-31T23:59:59.999999999\" is not a time of the years 2023 to 2199"),
        ("2023-01-01T00:00:00+00:01", "time: "),
        ("2200-01-01T00:00:00", "time: "),
        ("2199-12-31T23:59:59-00:01", "time: "),
        ("1970-01-01T00:29:29.612405423", "time: \"1970-01-01T00:29:29.612405423\" is not in the years 2000 to 2199"),
        ("", 'time: "" is not a time'),
        ("-1769612405", 'time: "-1769612405" is not a time'),
        (0, "time: 0 is not a time of the years 2023 to 2199 in s, ms, us or ns"),
        (-_S, "time: -1769612405 is not a time of the years"),
        *((n * 10**k, f"time: {n * 10**k} is not a time of the years") for n in (1672531199, 7258118400) for k in (0, 3, 6, 9)),
        (float(_S) + 0.5, "time: 1769612405.5 is not an integer"),
        (float("nan"), ""),
        (float("inf"), ""),
        (2**63 - 1, f"time: {2**63 - 1} is not a time of the years"),
    ],
)  # fmt: skip
def test_a_time_out_of_all_range_or_form_is_bad(value: Any, reason: str) -> None:
    decoded = _parquet({"time": [value]})
    assert _reason(decoded).startswith(reason or "time: ")
    assert _reason(_json(_changed(time=value))).startswith(reason or "not JSON: ")
    assert _reason(_parquet({"state_timestamp": [value]})).startswith("state_timestamp: ")


def _stamps(value: int | None, unit: str, zone: str | None = None) -> pa.Array:
    return pa.array([value], pa.int64()).cast(pa.timestamp(unit, zone))


@pytest.mark.parametrize(
    ("column", "time_ns", "form"),
    [
        (_stamps(TIME_NS, "ns"), TIME_NS, "a column of ns"),
        (_stamps(TIME_NS, "ns", "UTC"), TIME_NS, "a column of ns"),
        (_stamps(TIME_NS, "ns", "Asia/Tokyo"), TIME_NS, "a column of ns"),
        (_stamps(_S * 10**6 + 1, "us"), _S * 10**9 + 1000, "a column of us"),
        (_stamps(_S * 10**3 + 1, "ms", "UTC"), _S * 10**9 + 10**6, "a column of ms"),
        (_stamps(1755388800123, "ns"), 1755388800123000000, "ms in a column of ns"),
        (_stamps(_S, "ns"), _S * 10**9, "s in a column of ns"),
        (_stamps(_S * 10**6, "ns", "UTC"), _S * 10**9, "us in a column of ns"),
        (_stamps(_S * 10**3, "us"), _S * 10**9, "ms in a column of us"),
        (_stamps(_S, "ms"), _S * 10**9, "s in a column of ms"),
        (_stamps(TIME_NS, "ms"), TIME_NS, "ns in a column of ms"),
        (pa.array([_S], pa.uint32()), _S * 10**9, "integers in s"),
        (pa.array([TIME_NS], pa.uint64()), TIME_NS, "integers in ns"),
        (pa.array([Decimal(TIME_NS)], pa.decimal128(38, 4)), TIME_NS, "decimals in ns"),
        (pa.array([b"2026-01-28T15:00:05.423822681"], pa.binary()), TIME_NS, "texts"),
        (pa.array(["2026-01-28 15:00:05"], pa.large_string()).dictionary_encode(), _S * 10**9, "texts"),
    ],
)  # fmt: skip
def test_a_column_of_times_of_any_type(column: pa.Array, time_ns: int, form: str) -> None:
    decoded = _parquet({"time": column, "state_timestamp": column})
    started_at = EPOCH + timedelta(microseconds=time_ns // 1000)
    assert _row(decoded) == EXPECTED | {"time_ns": time_ns, "started_at": started_at}
    assert decoded.notes == {f"time: {form}", f"state_timestamp: {form}"} - {"time: texts"}


def test_timestamps_of_96_bits() -> None:
    moment = pa.array([TIME_NS], pa.timestamp("ns"))
    decoded = _parquet({"time": moment}, use_deprecated_int96_timestamps=True)
    assert (_row(decoded), decoded.notes) == (EXPECTED, {"time: a column of ns"})


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (_stamps(0, "ns"), 'time: "1970-01-01T00:00:00.000000000" is not a time of the years 2023 to 2199 in s, ms, us or ns'),
        (_stamps(-TIME_NS, "ns"), 'time: "1913-12-04T08:59:54.576177319" is not a time of the years'),
        (_stamps(10**17, "us", "UTC"), 'time: "5138-11-16T09:46:40.000000Z" is not a time of the years'),
        (pa.array([date(2026, 1, 28)]), 'time: "2026-01-28" is not a time'),
        (pa.array([date(2026, 1, 28)], pa.date64()), 'time: "2026-01-28" is not a time'),
        (pa.array([1769 * 10**9], pa.time64("ns")), 'time: "00:29:29.000000000" is not a time'),
        (pa.array([_S * 1000], pa.duration("ms")), 'time: "1769612405000 ms" is not a time'),
        (pa.array([float(_S)], pa.float32()), "time: 1.7696124E+9 is a float of 32 bits or less"),
        (pa.array([True]), "time: true is not a time"),
        (pa.array([None], pa.timestamp("ns")), "time is missing"),
        (pa.array([None], pa.string()), "time is missing"),
        (pa.array([b"\xff\xfe"]), 'time: the bytes "//4=" (in base64) are not UTF-8'),
    ],
)
def test_a_column_of_no_times(column: pa.Array, reason: str) -> None:
    assert _reason(_parquet({"time": column})).startswith(reason)


def test_a_start_that_is_null_is_unknown() -> None:
    column = pa.array([None], pa.timestamp("ns"))
    assert _row(_parquet({"state_timestamp": column})) == EXPECTED | {"started_at": None}
    assert _row(_parquet({"state_timestamp": pa.nulls(1)})) == EXPECTED | {"started_at": None}


# Forms of the other values.

_D = pa.decimal128


@pytest.mark.parametrize(
    ("column", "size", "form"),
    [
        (pa.array(["12817942.2417900003"]), "12817942.2417900003", ""),
        (pa.array(["1.5e-3"]), "0.0015", ""),
        (pa.array(["-1"], pa.large_string()), "-1", ""),
        (pa.array([b"0.0000014866"]), "0.0000014866", ""),
        (pa.array([0.1]), "0.1", "floats"),
        (pa.array([1e-10]), "0.0000000001", "floats"),
        (pa.array([1e22]), "1" + "0" * 22, "floats"),
        (pa.array([0.1], pa.float32()), "0.1", "floats"),
        (pa.array([16777216], pa.float32()), "16777216", "floats"),
        (pa.array([0.1], pa.float16()), "0.1", "floats"),
        (pa.array([7], pa.int8()), "7", "integers"),
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615", "integers"),
        (pa.array([Decimal("9" * 28 + "." + "9" * 10)], _D(38, 10)), "9" * 28 + "." + "9" * 10, "decimals"),
        (pa.array([Decimal("1.5")], _D(38, 18)), "1.5", "decimals"),
        (pa.array([Decimal("0.0000000001")], pa.decimal256(50, 20)), "0.0000000001", "decimals"),
    ],
)  # fmt: skip
def test_a_column_of_sizes_of_any_type(column: pa.Array, size: str, form: str) -> None:
    sizes: dict[str, Any] = {"state_sz": column, "state_executedSz": column, "state_executedNtl": column}
    expected = dict.fromkeys(("size_requested", "size_executed", "notional_executed"), Decimal(size))
    decoded = _parquet(sizes)
    assert _row(decoded) == EXPECTED | expected
    assert decoded.notes == ({f"sizes: {form}"} if form else set())


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([float("nan")]), 'sz: "nan" is not a decimal number'),
        (pa.array([float("-inf")]), 'sz: "-inf" is not a decimal number'),
        (pa.array([float("nan")], pa.float32()), 'sz: "nan" is not a decimal number'),
        (pa.array([0.1 + 0.2]), "sz: 0.30000000000000004 has more than 10 decimals"),
        (pa.array([1e28]), "sz: 1E+28 has more than 28 digits before the point"),
        (pa.array([Decimal("0.00000000001")], _D(38, 18)), 'sz: "0.000000000010000000" has more than 10 decimals'),
        (pa.array(["1,5"]), 'sz: "1,5" is not a decimal number'),
        (pa.array([""]), 'sz: "" is not a decimal number'),
        (pa.array([True]), "sz: true is not a decimal number"),
        (pa.array([b"\xd7\x6d\xf8"]), 'sz: the bytes "1234" (in base64)'),
        (pa.array([["1"]]), 'sz: ["1"] is not a decimal number'),
    ],
)
def test_a_size_that_does_not_fit_is_bad_and_never_rounded(column: pa.Array, reason: str) -> None:
    assert _reason(_parquet({"state_sz": column})).startswith(reason)


@pytest.mark.parametrize(
    ("column", "form"),
    [
        (pa.array([4320], pa.int64()), ""),
        (pa.array([4320], pa.int16()), ""),
        (pa.array(["4320"]), "texts"),
        (pa.array([4320.0]), "floats"),
        (pa.array([4320.0], pa.float32()), "floats"),
        (pa.array([Decimal(4320)], _D(38, 0)), "decimals"),
        (pa.array([Decimal(4320)], _D(20, 2)), "decimals"),
    ],
)
def test_ids_and_minutes_of_any_type(column: pa.Array, form: str) -> None:
    decoded = _parquet({"twap_id": column, "state_minutes": column, "block_number": column})
    assert _row(decoded) == EXPECTED | {"twap_id": 4320, "duration_minutes": 4320}
    assert decoded.statuses["block_number"].to_list() == [4320]
    assert decoded.notes == ({f"{field}: {form}" for field in ("twap_id", "minutes", "block_number")} if form else set())


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([4320.5]), "twap_id: 4320.5 is not an integer"),
        (pa.array([Decimal("4320.50")], _D(20, 2)), "twap_id: 4320.50 is not an integer"),
        (pa.array([float(2**53)]), f"twap_id: {float(2**53)!r} is more than a float holds to the last digit"),
        (pa.array([2.0**24], pa.float32()), "twap_id: 16777216"),
        (pa.array([4320.0], pa.float16()), "twap_id: 4.32E+3 is more than a float holds to the last digit"),
        (pa.array([float("nan")]), 'twap_id: "nan" is not an integer'),
        (pa.array([2**63], pa.uint64()), "twap_id: 9223372036854775808 does not fit 64 bits"),
        (pa.array(["12a"]), 'twap_id: "12a" is not an integer'),
        (pa.array([None], pa.int64()), "twap_id is missing"),
        (_stamps(5, "ns"), 'twap_id: "1970-01-01T00:00:00.000000005" is not an integer'),
    ],
)
def test_an_id_that_is_none_is_bad(column: pa.Array, reason: str) -> None:
    assert _reason(_parquet({"twap_id": column})).startswith(reason)


@pytest.mark.parametrize(
    ("value", "flag", "form"),
    [
        (True, True, ""),
        (False, False, ""),
        (None, None, ""),
        ("true", True, "texts"),
        ("False", False, "texts"),
        (1, True, "integers"),
        (0, False, "integers"),
        (1.0, True, "floats"),
    ],
)
def test_every_form_of_a_flag(value: Any, flag: bool | None, form: str) -> None:
    for decoded in (
        _json(_changed({"reduceOnly": value, "randomize": value})),
        _parquet({"state_reduceOnly": [value], "state_randomize": [value]}),
    ):
        assert _row(decoded) == EXPECTED | {"reduce_only": flag, "randomize": flag}
        assert decoded.notes == ({f"reduceOnly: {form}", f"randomize: {form}"} if form else set())


@pytest.mark.parametrize("side", ["B", "b", "buy", "Buy", "BID", "A", "a", "sell", "SELL", "Ask"])
def test_every_form_of_a_side(side: str) -> None:
    expected = EXPECTED | {"side": "B" if side[0] in "Bb" else "A"}
    for decoded in (_json(_changed({"side": side})), _parquet({"state_side": [side]})):
        assert (_row(decoded), decoded.notes) == (expected, set() if side in ("A", "B") else {"side: words"})


def test_the_most_minutes() -> None:
    assert _row(_json(_changed({"minutes": 2**31 - 1}))) == EXPECTED | {"duration_minutes": 2**31 - 1}
    assert _row(_json(_changed({"minutes": 0}))) == EXPECTED | {"duration_minutes": 0}


def test_a_wallet_is_lower_case_and_numbers_of_json_are_exact() -> None:
    upper = "0x" + USER[2:].upper()
    assert _row(_json(_changed({"user": upper}))) == EXPECTED
    assert _row(_parquet({"state_user": [upper]})) == EXPECTED
    text = LINES[2].replace(b'"10.0"', b"9999999999999999999999999999.0000000001").replace(b'"0.0"', b"0")
    decoded = decode_json_lines(text, 1)
    assert _row(decoded) == EXPECTED | {"size_requested": Decimal("9999999999999999999999999999.0000000001")}
    assert decoded.notes == {"sizes: floats", "sizes: integers"}


# Columns of Parquet.


def _renamed(**new: str) -> dict[str, Any]:
    return {new.get(name, name): [value] for name, value in FLAT.items()}


def test_a_file_of_the_usual_columns() -> None:
    decoded = _parquet({"block_number": [7, None], "extra": ["x", None]})
    assert (decoded.lines, decoded.bad, decoded.notes) == (2, [], set())
    assert decoded.statuses.schema == TWAP_STATUS_SCHEMA
    raws = [json.loads(raw) for raw in decoded.statuses["raw"]]
    assert raws == [FLAT | {"block_number": 7, "extra": "x"}, FLAT | {"block_number": None, "extra": None}]
    rows = decoded.statuses.drop("raw").to_dicts()
    assert rows == [EXPECTED | {"block_number": 7, "line": 1}, EXPECTED | {"block_number": None, "line": 2}]


@pytest.mark.parametrize(
    "columns",
    [
        _renamed(state_user="user", state_coin="coin", state_side="side", state_sz="sz"),
        _renamed(state_user="wallet", state_coin="asset", state_sz="size"),
        _renamed(state_user="Address", twap_id="twapId", state_timestamp="STATE.TIMESTAMP"),
        _renamed(state_executedSz="state_executed_sz", state_executedNtl="stateExecutedNtl", state_minutes="state.minutes"),
        _renamed(state_executedSz="executedSz", state_executedNtl="executed_ntl", state_minutes="minutes"),
        _renamed(state_reduceOnly="reduce_only", state_randomize="randomize", status="STATUS", time="Time"),
    ],
)
def test_names_of_columns(columns: dict[str, Any]) -> None:
    [decoded] = decode_parquet(_file(columns))
    assert (_row(decoded), decoded.notes) == (EXPECTED, set())
    assert list(json.loads(decoded.statuses["raw"][0])) == list(columns)


@pytest.mark.parametrize("layout", ["state", "State"])
def test_a_struct_of_the_state(layout: str) -> None:
    state = STATUS["state"] | {"trigger": {"px": "5"}}
    columns = {"twap_id": [1544034, 2], "time": [FLAT["time"]] * 2, layout: [state, None], "status": ["activated"] * 2}
    [decoded] = decode_parquet(_file(columns))
    assert {**EXPECTED, "block_number": None, "line": 1}.items() <= decoded.statuses.row(0, named=True).items()
    assert json.loads(decoded.statuses["raw"][0])[layout] == state
    assert [(bad.line, bad.reason) for bad in decoded.bad] == [(2, "user is missing")]
    assert decoded.notes == {"layout: struct state"}


def test_the_column_of_the_state_comes_first() -> None:
    other = {"user": ["0x" + "1" * 40], "coin": ["X"], "side": ["B"], "sz": ["5"], "minutes": [9], "block_time": ["never"]}
    assert _row(_parquet(other | {"timestamp": ["bare"], "event_time": [None]})) == EXPECTED
    assert _row(_parquet({"state": [{"user": "x", "sz": "y"}]})) == EXPECTED
    assert _reason(_parquet(other | {"state_user": pa.array([None], pa.string())})) == "user is missing"


@pytest.mark.parametrize("name", ["block_time", "event_time", "timestamp"])
def test_other_names_of_the_time(name: str) -> None:
    decoded = _parquet({"time": ..., name: [FLAT["time"]]})
    assert (_row(decoded), decoded.notes) == (EXPECTED, {f"time: of {name}"})
    decoded = _parquet({"time": ..., **{key: [FLAT["time"]] for key in ("timestamp", "event_time", name)}})
    assert decoded.notes == {f"time: of {'block_time' if name == 'block_time' else 'event_time'}"}


def test_a_file_that_lacks_columns_is_not_taken() -> None:
    lacks = ("state_executedNtl", "state_timestamp", "state_reduceOnly", "state_randomize", "status")
    columns = {name: [value] for name, value in FLAT.items() if name not in lacks}
    columns["state"] = [{"trigger": 1}]
    with pytest.raises(UnreadableObjectError) as caught:
        next(decode_parquet(_file(columns)))
    assert str(caught.value) == (
        "has columns twap_id, time, state_user, state_coin, state_side, state_sz, state_executedSz, state_minutes, "
        "state.trigger; lacks status, executedNtl, state_timestamp"
    )
    with pytest.raises(
        UnreadableObjectError, match=r"^has columns x; lacks twap_id, time, status, user, coin, side, sz, executedSz,"
    ):
        next(decode_parquet(_file({"x": [1]})))
    with pytest.raises(UnreadableObjectError, match=r"lacks state_timestamp$"):
        next(decode_parquet(_file(_renamed(state_timestamp="timestamp"))))
    assert _row(_parquet({"state_reduceOnly": ..., "state_randomize": ...})) == EXPECTED | {
        "reduce_only": None,
        "randomize": None,
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"stateUser": [USER]}, "; state_user and stateUser both are state_user"),
        ({"TIME": ["x"]}, "; time and TIME both are time"),
        ({"state": [{"a": 1}], "State": [{"A": 1, "b": 2}], "state_coin": ...}, "lacks coin"),
    ],
)
def test_columns_that_cannot_be_told_apart(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UnreadableObjectError) as caught:
        _parquet(columns)
    assert message in str(caught.value)


def test_a_column_that_stands_twice() -> None:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([value]) for value in [*FLAT.values(), 1, 2]], [*FLAT, "x", "x"]), file)
    with pytest.raises(UnreadableObjectError, match=r"^the column x stands twice$"):
        next(decode_parquet(file))


@pytest.mark.parametrize("kind", [pa.bool_(), pa.int8(), pa.int64(), pa.float64(), pa.string()])
def test_rows_of_metadata_are_no_data(kind: pa.DataType) -> None:
    values = [True, False, None, True, False]
    texts = [None if value is None else str(value).lower() for value in values]
    flags = pa.array(texts if kind == pa.string() else values, pa.string() if kind == pa.string() else pa.bool_()).cast(kind)
    ids = pa.array([None, 1, 2, None, None], pa.int64())
    decoded = _parquet({"twap_id": ids, "_metadata": flags})
    assert decoded.statuses.select("twap_id", "line").rows() == [(1, 2), (2, 3)]
    assert [(bad.line, bad.reason) for bad in decoded.bad] == [(5, "twap_id is missing")]
    assert (decoded.lines, decoded.notes) == (5, {"rows with _metadata = true"})


def test_other_metadata_is_nothing_to_us() -> None:
    for value in ({"a": 1}, "yes", 2, [1]):
        decoded = _parquet({"_metadata": [value]})
        assert (_row(decoded), decoded.notes) == (EXPECTED, set())
    assert _json(FLAT | {"_metadata": True}).notes == {"rows with _metadata = true"}


def test_a_bad_row_is_quarantined_alone_with_all_that_it_says() -> None:
    decoded = _parquet({"state_coin": ["A", None, "", "B"], "state_sz": [1.5, 2.5, float("nan"), 4.5]})
    assert decoded.statuses.select("line", "coin").rows() == [(1, "A"), (4, "B")]
    assert decoded.bad == [
        BadLine(2, None, "coin is missing", decoded.bad[0].text),
        BadLine(3, None, 'coin: "" is not a name', decoded.bad[1].text),
    ]
    texts = [json.loads(bad.text) for bad in decoded.bad]
    assert texts == [FLAT | {"state_coin": None, "state_sz": 2.5}, FLAT | {"state_coin": "", "state_sz": "nan"}]


def test_rows_are_numbered_through_all_batches_and_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twap_columns, "BATCH_ROWS", 3)
    columns = {name: [value] * 10 for name, value in FLAT.items()} | {"twap_id": [0, None, *range(2, 9), None]}
    parts = list(decode_parquet(_file(columns, row_group_size=4)))
    assert len(parts) > 3
    assert all(part.lines <= 3 for part in parts)
    assert [line for part in parts for line in part.statuses["line"]] == [1, *range(3, 10)]
    assert [bad.line for part in parts for bad in part.bad] == [2, 10]
    assert sum(part.lines for part in parts) == 10


def test_a_file_without_rows() -> None:
    empty = {name: pa.array([value])[:0] for name, value in FLAT.items()}
    assert sum(part.statuses.height + part.lines for part in decode_parquet(_file(empty))) == 0


def test_raw_has_all_columns_by_their_own_names_to_the_last_digit() -> None:
    columns: dict[str, tuple[pa.Array, Any]] = {
        "i": (pa.array([-(2**63)]), -(2**63)),
        "u": (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
        "f": (pa.array([0.1]), Decimal("0.1")),
        "f32": (pa.array([0.1], pa.float32()), Decimal("0.1")),
        "tiny": (pa.array([5e-324]), Decimal("5e-324")),
        "nan": (pa.array([float("nan")]), "nan"),
        "inf": (pa.array([float("-inf")]), "-inf"),
        "d": (pa.array([Decimal("1.50")], _D(38, 4)), "1.5000"),
        "b": (pa.array([True]), True),
        "ns": (_stamps(1755388800123, "ns"), "1970-01-01T00:29:15.388800123"),
        "ms": (_stamps(1755388800123, "ms", "UTC"), "2025-08-17T00:00:00.123Z"),
        "us": (_stamps(-1, "us"), "1969-12-31T23:59:59.999999"),
        "day": (pa.array([date(2026, 1, 28)]), "2026-01-28"),
        "clock": (pa.array([1], pa.time64("us")), "00:00:00.000001"),
        "span": (pa.array([5], pa.duration("ns")), "5 ns"),
        "text": (pa.array(["é\0\n\"€😀"]), "é\0\n\"€😀"),
        "bytes": (pa.array(["é".encode()]), "é"),
        "no_text": (pa.array([b"\xff\x00"]), "/wA="),
        "fixed": (pa.array([b"abc"], pa.binary(3)), "abc"),
        "dictionary": (pa.array(["x"]).dictionary_encode(), "x"),
        "list": (pa.array([[1.5, None]]), [Decimal("1.5"), None]),
        "large": (pa.array([["a"]], pa.large_list(pa.string())), ["a"]),
        "empty": (pa.array([[]], pa.list_(pa.int64())), []),
        "map": (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), [{"key": "k", "value": 1}]),
        "struct": (
            pa.array([{"a": {"t": 1}, "n": None}], pa.struct([("a", pa.struct([("t", pa.timestamp("ms"))])), ("n", pa.int8())])),
            {"a": {"t": "1970-01-01T00:00:00.001"}, "n": None},
        ),
        "null": (pa.nulls(1), None),
        "none": (pa.array([None], pa.list_(pa.timestamp("ns"))), None),
    }  # fmt: skip
    for data_page_version in ("1.0", "2.0"):
        decoded = _parquet({name: column for name, (column, _) in columns.items()}, data_page_version=data_page_version)
        raw = decoded.statuses["raw"][0]
        assert raw.isascii()
        assert json.loads(raw, parse_float=Decimal) == FLAT | {name: value for name, (_, value) in columns.items()}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet" * 100, REAL])
def test_what_is_no_parquet_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(UnreadableObjectError, match=r"^no whole Parquet file: "):
        next(decode_parquet(io.BytesIO(content)))


def test_a_file_that_is_not_whole_is_said_to_be_not_whole() -> None:
    content = _file({name: [value] * 50 for name, value in FLAT.items()}).getvalue()
    for cut in (len(content) - 1, len(content) // 2, 10):
        with pytest.raises(UnreadableObjectError, match=r"^no whole Parquet file: "):
            list(decode_parquet(io.BytesIO(content[:cut])))


def test_a_file_that_has_not_as_many_rows_as_it_says_is_not_whole() -> None:
    content = _file({name: [value] * 50 for name, value in FLAT.items()}).getvalue()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    said: set[str] = set()
    # Thrift has 50 as the byte 100: one of these is the number of rows.
    for place in [at for at in range(footer, len(content)) if content[at] == 100]:
        try:
            list(decode_parquet(io.BytesIO(content[:place] + bytes([98]) + content[place + 1 :])))
        except UnreadableObjectError as error:
            said.add(str(error))
    assert "no whole Parquet file: has 50 of its 49 rows; fetch it again" in said


def test_an_error_of_the_system_is_no_matter_of_the_bytes() -> None:
    class Broken(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        next(decode_parquet(Broken(_file({"x": [1]}).getvalue())))


# Anything at all.

_MESSAGES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
_KIND_NAMES = st.sampled_from(["activated", "finished", "terminated", "waitingForTrigger", "stopped", "error", "pausedBy"])
_STATUSES = st.one_of(
    _KIND_NAMES.map(lambda kind: (kind, kind, None)),
    _MESSAGES.map(str.strip).filter(bool).map(lambda text: (f"error: {text}", "error", text)),
    st.tuples(_KIND_NAMES, _MESSAGES).map(lambda both: ({both[0]: both[1]}, *both)),
    st.tuples(_KIND_NAMES, _MESSAGES).map(lambda both: ({"status": both[0], "description": both[1]}, *both)),
    _MESSAGES.map(lambda text: (json.dumps({"error": text}), "error", text)),
)
_TIMES_NS = st.integers(1672531200 * 10**9, 7258118400 * 10**9 - 1)


def _iso(time_ns: int, mark: str = "T") -> str:
    second = datetime.fromtimestamp(time_ns // 10**9, UTC).replace(tzinfo=None)
    return f"{second.isoformat(mark)}.{time_ns % 10**9:09}"


@st.composite
def _events(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """An event of the node's own form, with unknown fields now and then, and the row that it is."""
    time_ns, started_ms = draw(_TIMES_NS), draw(_TIMES_NS) // 10**6
    sizes, (status, kind, error) = [draw(decimals) for _ in range(3)], draw(_STATUSES)
    wallet, coin, side = draw(addresses), draw(names), draw(st.sampled_from("AB"))
    minutes, flags = draw(st.none() | st.integers(0, 4320)), draw(st.tuples(st.booleans(), st.booleans()))
    unknown = draw(st.dictionaries(st.sampled_from(["trigger", "stopPx", "é", ""]), json_values, max_size=2))
    state = {"coin": coin, "user": wallet, "side": side, "sz": sizes[0], "executedSz": sizes[1], "executedNtl": sizes[2]}
    state |= {"minutes": minutes, "reduceOnly": flags[0], "randomize": flags[1], "timestamp": started_ms} | unknown
    event = {"time": _iso(time_ns), "twap_id": draw(st.integers(0, 2**63 - 1)), "state": state, "status": status} | unknown
    row = {
        "twap_id": event["twap_id"],
        "time_ns": time_ns,
        "status": kind,
        "error": error,
        "wallet": wallet,
        "coin": coin,
        "side": side,
        "size_requested": Decimal(sizes[0]),
        "size_executed": Decimal(sizes[1]),
        "notional_executed": Decimal(sizes[2]),
        "duration_minutes": minutes,
        "reduce_only": flags[0],
        "randomize": flags[1],
        "started_at": EPOCH + timedelta(milliseconds=started_ms),
    }
    return dict(draw(st.permutations(list(event.items())))), row


@settings(max_examples=100)
@given(st.lists(st.lists(_events(), max_size=3) | _events(), max_size=3), st.booleans(), st.booleans())
def test_any_legal_event_is_taken_as_it_is(made: list[Any], spaced: bool, ascii_only: bool) -> None:
    lines: list[Any] = []
    expected: list[dict[str, Any]] = []
    for number, line in enumerate(made, 1):
        events = line if isinstance(line, list) else [line]
        wrapped = {"local_time": "x", "block_time": "y", "block_number": number, "events": [event for event, _ in events]}
        lines.append(wrapped if isinstance(line, list) else line[0])
        block_number = number if isinstance(line, list) else None
        expected += [row | {"block_number": block_number, "line": number, "raw": event} for event, row in events]
    decoded = decode_json_lines(as_lines(lines, spaced=spaced, ascii_only=ascii_only), 1)
    assert decoded.bad == []
    assert [row | {"raw": json.loads(row["raw"])} for row in decoded.statuses.to_dicts()] == expected


_PIECES = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\\", b"0", b"-", b"9", b" ", b"null", b"},{", b"e", b"\xc3\xa9"]


@settings(max_examples=150)
@given(damaged(REAL, _PIECES))
def test_whatever_the_damage_it_is_the_damaged_lines_matter(chunk: bytes) -> None:
    whole = {line: decode_json_lines(line, 1).statuses.drop("line") for line in LINES}
    decoded = decode_json_lines(chunk, 1)
    assert decoded.lines == chunk.count(b"\n")
    for number, line in enumerate([part + b"\n" for part in chunk.split(b"\n")[:-1]], 1):
        rows = decoded.statuses.filter(line=number).drop("line")
        bad = [bad for bad in decoded.bad if bad.line == number]
        if line in whole:
            assert rows.equals(whole[line])
            assert bad == []
        elif [item.event for item in bad] == [None]:
            assert (rows.height, bad[0].text) == (0, line[:-1])
        elif line.strip():
            value = json.loads(line)
            assert rows.height + len(bad) == (len(value["events"]) if "events" in value else 1)


def _as_texts(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _of_type(kind: pa.DataType) -> Callable[[Sequence[Any]], pa.Array]:
    return lambda values: pa.array([None if value is None else int(value) for value in values], pa.int64()).cast(kind)


_INTEGERS: list[Callable[[Sequence[Any]], pa.Array]] = [
    *map(_of_type, (pa.int64(), pa.int32(), pa.uint32(), pa.float64(), pa.decimal128(38, 0), pa.decimal128(30, 3))),
    _as_texts,
    lambda values: _as_texts(values).dictionary_encode(),
]
_SIZES: list[Callable[[Sequence[Any]], pa.Array]] = [
    lambda values: pa.array([None if value is None else f"{value:f}" for value in values], pa.string()),
    lambda values: pa.array([None if value is None else float(value) for value in values], pa.float64()),
    lambda values: pa.array(values, pa.decimal128(38, 10)),
    lambda values: pa.array(values, pa.decimal256(60, 15)),
    lambda values: pa.array([None if value is None else f"{value:f}".encode() for value in values], pa.binary()),
]
_FLAGS: list[Callable[[Sequence[Any]], pa.Array]] = [
    lambda values: pa.array(values, pa.bool_()),
    lambda values: pa.array(values, pa.bool_()).cast(pa.int8()),
    lambda values: pa.array(values, pa.bool_()).cast(pa.string()),
]
_CAST_TEXTS = [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def _times_column(draw: st.DrawFn, times_ns: list[int | None], unit: str) -> pa.Array:
    """A column of times that are whole multiples of `unit`, in one of the types that hold them."""
    numbers = [None if time is None else time // _UNITS[unit] for time in times_ns]
    forms: list[Callable[[], pa.Array]] = [
        lambda: pa.array([None if time is None else _iso(time) for time in times_ns], pa.string()),
        lambda: pa.array([None if time is None else _iso(time, " ") + "Z" for time in times_ns], pa.string()),
        lambda: pa.array([None if time is None else _iso(time + 5400 * 10**9) + "+01:30" for time in times_ns], pa.string()),
        lambda: pa.array(numbers, pa.int64()),
        lambda: _as_texts(numbers),
        lambda: pa.array(numbers, pa.decimal128(19, 0)),
        lambda: pa.array(numbers, pa.int64()).cast(pa.timestamp("ns")),
        lambda: pa.array(numbers, pa.int64()).cast(pa.timestamp("us", "UTC")),
        *([lambda: pa.array(numbers, pa.int64()).cast(pa.timestamp(unit))] * 3 if unit != "s" else []),
        *([lambda: pa.array(numbers, pa.int64()).cast(pa.float64())] if unit != "ns" else []),
    ]
    return draw(st.sampled_from(forms))()


@st.composite
def _files(draw: st.DrawFn) -> tuple[io.BytesIO, list[dict[str, Any]]]:
    """A file of random columns and types, and its rows."""
    count = draw(st.integers(1, 6))

    def values(strategy: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(strategy, min_size=count, max_size=count))

    unit, started_unit = draw(st.sampled_from([*_UNITS])), draw(st.sampled_from([*_UNITS]))
    in_unit = {name: st.integers(1672531200 * 10**9 // ns, (7258118400 - 5400) * 10**9 // ns - 1).map(lambda n, ns=ns: n * ns)
               for name, ns in _UNITS.items()}  # fmt: skip
    times, starts = values(in_unit[unit]), values(st.none() | in_unit[started_unit])
    # Of at most fifteen digits, so that a float of 64 bits is told from any other.
    size = st.none() | st.builds(
        lambda digits, places: Decimal(digits).scaleb(-places), st.integers(0, 10**15 - 1), st.integers(0, 10)
    )
    sizes = [values(size) for _ in range(3)]
    ids, minutes, flags = (
        values(st.integers(0, 2**31 - 1)),
        values(st.none() | st.integers(0, 4320)),
        values(st.none() | st.booleans()),
    )
    wallets, sides = values(addresses), values(st.sampled_from("AB"))
    coins = values(names)
    texts = values(
        st.tuples(st.sampled_from(["activated", "finished", "error"]), st.none() | _MESSAGES.map(str.strip).filter(bool))
    )
    kinds = [("error", text) if text is not None else (kind, None) for kind, text in texts]

    def text(given: list[str]) -> pa.Array:
        array, kind = pa.array(given), draw(st.sampled_from(_CAST_TEXTS))
        return array.dictionary_encode() if pa.types.is_dictionary(kind) else array.cast(kind)

    statuses: list[Callable[[], pa.Array]] = [
        lambda: text([kind if error is None else f"error: {error}" for kind, error in kinds]),
        lambda: text([kind if error is None else json.dumps({"error": error}) for kind, error in kinds]),
        lambda: pa.array([{"status": kind, "description": error} for kind, error in kinds]),
    ]
    state = {
        "user": text(wallets),
        "coin": text(coins),
        "side": text(sides),
        **{
            name: draw(st.sampled_from(_SIZES))(column)
            for name, column in zip(("sz", "executedSz", "executedNtl"), sizes, strict=True)
        },
        "minutes": draw(st.sampled_from(_INTEGERS))(minutes),
        "timestamp": _times_column(draw, starts, started_unit),
        "reduceOnly": draw(st.sampled_from(_FLAGS))(flags),
    }
    columns = {
        "twap_id": draw(st.sampled_from(_INTEGERS))(ids),
        "time": _times_column(draw, times, unit),
        "status": draw(st.sampled_from(statuses))(),
        "_metadata": pa.array([False] * count),
    }
    if draw(st.booleans()):
        state = {
            name: column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for name, column in state.items()
        }
        columns["state"] = pa.StructArray.from_arrays(list(state.values()), list(state))
    else:
        columns |= {f"state_{name}": column for name, column in state.items()}
    rows = [
        {
            "twap_id": ids[n],
            "time_ns": times[n],
            "status": kinds[n][0],
            "error": kinds[n][1],
            "wallet": wallets[n],
            "coin": coins[n],
            "side": sides[n],
            "size_requested": sizes[0][n],
            "size_executed": sizes[1][n],
            "notional_executed": sizes[2][n],
            "duration_minutes": minutes[n],
            "reduce_only": flags[n],
            "randomize": None,
            "started_at": None if starts[n] is None else EPOCH + timedelta(microseconds=starts[n] // 1000),
            "block_number": None,
            "line": n + 1,
        }
        for n in range(count)
    ]
    how = {"row_group_size": draw(st.integers(1, 6)), "compression": draw(st.sampled_from(["none", "snappy", "zstd"]))}
    how |= {"store_schema": draw(st.booleans())}
    shuffled = dict(draw(st.permutations(list(columns.items()))))
    return _file(shuffled, **how), rows


@settings(max_examples=100)
@given(_files())
def test_any_legal_row_of_any_types_is_taken_as_it_is(made: tuple[io.BytesIO, list[dict[str, Any]]]) -> None:
    file, expected = made
    parts = list(decode_parquet(file))
    assert [bad for part in parts for bad in part.bad] == []
    assert [row for part in parts for row in part.statuses.drop("raw").to_dicts()] == expected
    assert all(isinstance(json.loads(raw), dict) for part in parts for raw in part.statuses["raw"])


_CONTENT = _file({name: [value] * 3 for name, value in FLAT.items()}, compression="none").getvalue()


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(_CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_whatever_the_damage_to_parquet_it_gives_its_rows_or_one_error(changes: list[tuple[int, int]]) -> None:
    content = bytearray(_CONTENT)
    for place, byte in changes:
        content[place] = byte
    try:
        parts = list(decode_parquet(io.BytesIO(bytes(content))))
    except UnreadableObjectError:
        return
    assert sum(part.lines for part in parts) == sum(part.statuses.height + len(part.bad) for part in parts)
