"""Every form of a value of a TWAP status (kind, time, size, id, flag, side), from JSON and from Parquet columns of any type:
it is read exactly, or its row is quarantined with the reason.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from hl_pipeline.formats.twap_statuses import decode_json_lines
from hl_pipeline_tests.twap_statuses import (
    BLOCK,
    EPOCH,
    EXPECTED,
    LINES,
    TIME_NS,
    USER,
    changed,
    from_json,
    from_parquet,
    only_reason,
    only_row,
    parquet_file,
    timestamps,
)

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
    ('{"a":"x","a":"y"}', 'status: "{\\"a\\":\\"x\\",\\"a\\":\\"y\\"}": the key \'a\' appears twice'),
]


def _can_be_a_column(value: Any) -> bool:
    """pyarrow writes no struct without members, no numbers beside texts, no half of a surrogate pair."""
    try:
        parquet_file({"status": [value]})
    except (pa.ArrowException, UnicodeError):
        return False
    return value != {}


@pytest.mark.parametrize(("value", "kind", "error", "notes"), _FORMS)
def test_every_form_of_a_status(value: Any, kind: str, error: str | None, notes: set[str]) -> None:
    sources = [from_json(changed(status=value)), from_json(BLOCK | {"events": [changed(status=value)]})]
    if _can_be_a_column(value):
        sources.append(from_parquet({"status": [value]}))
    for decoded in sources:
        assert only_row(decoded) == EXPECTED | {"status": kind, "error": error}
        assert decoded.notes == notes
        assert json.loads(decoded.statuses["raw"][0])["status"] == value


@pytest.mark.parametrize(("value", "reason"), _NO_FORMS)
def test_a_status_of_another_form_is_bad(value: Any, reason: str) -> None:
    assert only_reason(from_json(changed(status=value))).startswith(reason)
    if _can_be_a_column(value):
        assert only_reason(from_parquet({"status": [value]})).startswith(reason)


def test_a_struct_of_all_forms_has_of_each_row_what_is_not_null() -> None:
    kind = pa.struct([("status", pa.string()), ("description", pa.string()), ("error", pa.string())])
    values = [{"status": "finished"}, {"error": "x"}, {"status": "error", "description": "y"}, {}, None]
    decoded = from_parquet({"status": pa.array(values, kind)})
    assert decoded.statuses.select("status", "error").rows() == [("finished", None), ("error", "x"), ("error", "y")]
    assert [(bad.line, bad.reason) for bad in decoded.bad] == [
        (4, 'status: {"status":null,"description":null,"error":null} is of no known form'),
        (5, "status is missing"),
    ]


# 2026-01-28T15:00:05
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
        from_json(changed({"timestamp": value}, time=value)),
        from_json(BLOCK | {"block_time": value, "events": [changed({"timestamp": value}, time=value)]}),
        from_parquet({"time": [value], "state_timestamp": [value]}),
    ):
        assert only_row(decoded) == EXPECTED | {"time_ns": time_ns, "started_at": started_at}
        assert decoded.notes == notes


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2026-01-28", "time: \"2026-01-28\" is not a time"),
        ("2026-01-28T15:00", 'time: "2026-01-28T15:00" is not a time'),
        ("20260128", 'time: "20260128" is not a time in the years'),
        ("15:00:05", 'time: "15:00:05" is not a time'),
        ("2026-01-28T15:00:05.", "time: "),
        ("2026-01-28T15:00:05.1234567890", "time: "),
        ("2026-01-28T15:00:05 UTC", "time: "),
        ("2026-02-30T15:00:05", 'time: "2026-02-30T15:00:05": day '),
        ("2026-01-28T24:00:05", 'time: "2026-01-28T24:00:05": hour '),
        ("2026-01-28T15:00:05+24:00", "time: "),
        ("2022-12-31T23:59:59.999999999", "time: \"2022-12-31T23:59:59.999999999\" is not a time in the years 2023 to 2199"),
        ("2023-01-01T00:00:00+00:01", "time: "),
        ("2200-01-01T00:00:00", "time: "),
        ("2199-12-31T23:59:59-00:01", "time: "),
        ("1970-01-01T00:29:29.612405423", "time: \"1970-01-01T00:29:29.612405423\" is not in the years 2000 to 2199"),
        ("", 'time: "" is not a time'),
        ("-1769612405", 'time: "-1769612405" is not a time'),
        (0, "time: 0 is not a time in the years 2023 to 2199 in s, ms, us or ns"),
        (-_S, "time: -1769612405 is not a time in the years"),
        *((n * 10**k, f"time: {n * 10**k} is not a time in the years") for n in (1672531199, 7258118400) for k in (0, 3, 6, 9)),
        (float(_S) + 0.5, "time: 1769612405.5 is not an integer"),
        (float("nan"), ""),
        (float("inf"), ""),
        (2**63 - 1, f"time: {2**63 - 1} is not a time in the years"),
    ],
)  # fmt: skip
def test_a_time_out_of_all_range_or_form_is_bad(value: Any, reason: str) -> None:
    decoded = from_parquet({"time": [value]})
    assert only_reason(decoded).startswith(reason or "time: ")
    assert only_reason(from_json(changed(time=value))).startswith(reason or "not JSON: ")
    assert only_reason(from_parquet({"state_timestamp": [value]})).startswith("state_timestamp: ")


@pytest.mark.parametrize(
    ("column", "time_ns", "form"),
    [
        (timestamps(TIME_NS, "ns"), TIME_NS, "a column of ns"),
        (timestamps(TIME_NS, "ns", "UTC"), TIME_NS, "a column of ns"),
        (timestamps(TIME_NS, "ns", "Asia/Tokyo"), TIME_NS, "a column of ns"),
        (timestamps(_S * 10**6 + 1, "us"), _S * 10**9 + 1000, "a column of us"),
        (timestamps(_S * 10**3 + 1, "ms", "UTC"), _S * 10**9 + 10**6, "a column of ms"),
        (timestamps(1755388800123, "ns"), 1755388800123000000, "ms in a column of ns"),
        (timestamps(_S, "ns"), _S * 10**9, "s in a column of ns"),
        (timestamps(_S * 10**6, "ns", "UTC"), _S * 10**9, "us in a column of ns"),
        (timestamps(_S * 10**3, "us"), _S * 10**9, "ms in a column of us"),
        (timestamps(_S, "ms"), _S * 10**9, "s in a column of ms"),
        (timestamps(TIME_NS, "ms"), TIME_NS, "ns in a column of ms"),
        (pa.array([_S], pa.uint32()), _S * 10**9, "integers in s"),
        (pa.array([TIME_NS], pa.uint64()), TIME_NS, "integers in ns"),
        (pa.array([Decimal(TIME_NS)], pa.decimal128(38, 4)), TIME_NS, "decimals in ns"),
        (pa.array([b"2026-01-28T15:00:05.423822681"], pa.binary()), TIME_NS, "texts"),
        (pa.array(["2026-01-28 15:00:05"], pa.large_string()).dictionary_encode(), _S * 10**9, "texts"),
    ],
)  # fmt: skip
def test_a_column_of_times_of_any_type(column: pa.Array, time_ns: int, form: str) -> None:
    decoded = from_parquet({"time": column, "state_timestamp": column})
    started_at = EPOCH + timedelta(microseconds=time_ns // 1000)
    assert only_row(decoded) == EXPECTED | {"time_ns": time_ns, "started_at": started_at}
    assert decoded.notes == {f"time: {form}", f"state_timestamp: {form}"} - {"time: texts"}


def test_timestamps_of_96_bits() -> None:
    moment = pa.array([TIME_NS], pa.timestamp("ns"))
    decoded = from_parquet({"time": moment}, use_deprecated_int96_timestamps=True)
    assert (only_row(decoded), decoded.notes) == (EXPECTED, {"time: a column of ns"})


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (timestamps(0, "ns"), 'time: "1970-01-01T00:00:00.000000000" is not a time in the years 2023 to 2199 in s, ms, us or ns'),
        (timestamps(-TIME_NS, "ns"), 'time: "1913-12-04T08:59:54.576177319" is not a time in the years'),
        (timestamps(10**17, "us", "UTC"), 'time: "5138-11-16T09:46:40.000000Z" is not a time in the years'),
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
    assert only_reason(from_parquet({"time": column})).startswith(reason)


def test_a_start_that_is_null_is_unknown() -> None:
    column = pa.array([None], pa.timestamp("ns"))
    assert only_row(from_parquet({"state_timestamp": column})) == EXPECTED | {"started_at": None}
    assert only_row(from_parquet({"state_timestamp": pa.nulls(1)})) == EXPECTED | {"started_at": None}


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
    decoded = from_parquet(sizes)
    assert only_row(decoded) == EXPECTED | expected
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
    assert only_reason(from_parquet({"state_sz": column})).startswith(reason)


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
    decoded = from_parquet({"twap_id": column, "state_minutes": column, "block_number": column})
    assert only_row(decoded) == EXPECTED | {"twap_id": 4320, "duration_minutes": 4320}
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
        (pa.array([2**63], pa.uint64()), "twap_id: 9223372036854775808 does not fit in 64 bits"),
        (pa.array(["12a"]), 'twap_id: "12a" is not an integer'),
        (pa.array([None], pa.int64()), "twap_id is missing"),
        (timestamps(5, "ns"), 'twap_id: "1970-01-01T00:00:00.000000005" is not an integer'),
    ],
)
def test_an_id_that_is_none_is_bad(column: pa.Array, reason: str) -> None:
    assert only_reason(from_parquet({"twap_id": column})).startswith(reason)


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
        from_json(changed({"reduceOnly": value, "randomize": value})),
        from_parquet({"state_reduceOnly": [value], "state_randomize": [value]}),
    ):
        assert only_row(decoded) == EXPECTED | {"reduce_only": flag, "randomize": flag}
        assert decoded.notes == ({f"reduceOnly: {form}", f"randomize: {form}"} if form else set())


@pytest.mark.parametrize("side", ["B", "b", "buy", "Buy", "BID", "A", "a", "sell", "SELL", "Ask"])
def test_every_form_of_a_side(side: str) -> None:
    expected = EXPECTED | {"side": "B" if side[0] in "Bb" else "A"}
    for decoded in (from_json(changed({"side": side})), from_parquet({"state_side": [side]})):
        assert (only_row(decoded), decoded.notes) == (expected, set() if side in ("A", "B") else {"side: words"})


def test_the_most_minutes() -> None:
    assert only_row(from_json(changed({"minutes": 2**31 - 1}))) == EXPECTED | {"duration_minutes": 2**31 - 1}
    assert only_row(from_json(changed({"minutes": 0}))) == EXPECTED | {"duration_minutes": 0}


def test_a_wallet_is_lower_case_and_numbers_of_json_are_exact() -> None:
    upper = "0x" + USER[2:].upper()
    assert only_row(from_json(changed({"user": upper}))) == EXPECTED
    assert only_row(from_parquet({"state_user": [upper]})) == EXPECTED
    text = LINES[2].replace(b'"10.0"', b"9999999999999999999999999999.0000000001").replace(b'"0.0"', b"0")
    decoded = decode_json_lines(text, 1)
    assert only_row(decoded) == EXPECTED | {"size_requested": Decimal("9999999999999999999999999999.0000000001")}
    assert decoded.notes == {"sizes: floats", "sizes: integers"}
