"""Parquet files of TWAP statuses: columns by any of their names, rows numbered, bad rows quarantined, broken files refused."""

from __future__ import annotations

import io
import json
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hl_pipeline.formats import twap_columns
from hl_pipeline.formats.fills import BadLine
from hl_pipeline.formats.framing import UnreadableObjectError
from hl_pipeline.formats.twap_statuses import TWAP_STATUS_SCHEMA, decode_parquet
from hl_pipeline_tests.twap_statuses import (
    EXPECTED,
    FLAT,
    REAL,
    STATUS,
    USER,
    from_json,
    from_parquet,
    only_reason,
    only_row,
    parquet_file,
    timestamps,
)

_D = pa.decimal128


def _renamed(**new: str) -> dict[str, Any]:
    return {new.get(name, name): [value] for name, value in FLAT.items()}


def test_a_file_of_the_usual_columns() -> None:
    decoded = from_parquet({"block_number": [7, None], "extra": ["x", None]})
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
    [decoded] = decode_parquet(parquet_file(columns))
    assert (only_row(decoded), decoded.notes) == (EXPECTED, set())
    assert list(json.loads(decoded.statuses["raw"][0])) == list(columns)


@pytest.mark.parametrize("layout", ["state", "State"])
def test_a_struct_of_the_state(layout: str) -> None:
    state = STATUS["state"] | {"trigger": {"px": "5"}}
    columns = {"twap_id": [1544034, 2], "time": [FLAT["time"]] * 2, layout: [state, None], "status": ["activated"] * 2}
    [decoded] = decode_parquet(parquet_file(columns))
    assert {**EXPECTED, "block_number": None, "line": 1}.items() <= decoded.statuses.row(0, named=True).items()
    assert json.loads(decoded.statuses["raw"][0])[layout] == state
    assert [(bad.line, bad.reason) for bad in decoded.bad] == [(2, "user is missing")]
    assert decoded.notes == {"layout: struct state"}


def test_the_column_of_the_state_comes_first() -> None:
    other = {"user": ["0x" + "1" * 40], "coin": ["X"], "side": ["B"], "sz": ["5"], "minutes": [9], "block_time": ["never"]}
    assert only_row(from_parquet(other | {"timestamp": ["bare"], "event_time": [None]})) == EXPECTED
    assert only_row(from_parquet({"state": [{"user": "x", "sz": "y"}]})) == EXPECTED
    assert only_reason(from_parquet(other | {"state_user": pa.array([None], pa.string())})) == "user is missing"


@pytest.mark.parametrize("name", ["block_time", "event_time", "timestamp"])
def test_other_names_of_the_time(name: str) -> None:
    decoded = from_parquet({"time": ..., name: [FLAT["time"]]})
    assert (only_row(decoded), decoded.notes) == (EXPECTED, {f"time: of {name}"})
    decoded = from_parquet({"time": ..., **{key: [FLAT["time"]] for key in ("timestamp", "event_time", name)}})
    assert decoded.notes == {f"time: of {'block_time' if name == 'block_time' else 'event_time'}"}


def test_a_file_that_lacks_columns_is_not_taken() -> None:
    lacks = ("state_executedNtl", "state_timestamp", "state_reduceOnly", "state_randomize", "status")
    columns = {name: [value] for name, value in FLAT.items() if name not in lacks}
    columns["state"] = [{"trigger": 1}]
    with pytest.raises(UnreadableObjectError) as caught:
        next(decode_parquet(parquet_file(columns)))
    assert str(caught.value) == (
        "has columns twap_id, time, state_user, state_coin, state_side, state_sz, state_executedSz, state_minutes, "
        "state.trigger; missing: status, executedNtl, state_timestamp"
    )
    with pytest.raises(
        UnreadableObjectError, match=r"^has columns x; missing: twap_id, time, status, user, coin, side, sz, executedSz,"
    ):
        next(decode_parquet(parquet_file({"x": [1]})))
    with pytest.raises(UnreadableObjectError, match=r"missing: state_timestamp$"):
        next(decode_parquet(parquet_file(_renamed(state_timestamp="timestamp"))))
    assert only_row(from_parquet({"state_reduceOnly": ..., "state_randomize": ...})) == EXPECTED | {
        "reduce_only": None,
        "randomize": None,
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"stateUser": [USER]}, "; state_user and stateUser both are state_user"),
        ({"TIME": ["x"]}, "; time and TIME both are time"),
        ({"state": [{"a": 1}], "State": [{"A": 1, "b": 2}], "state_coin": ...}, "missing: coin"),
    ],
)
def test_columns_that_cannot_be_told_apart(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UnreadableObjectError) as caught:
        from_parquet(columns)
    assert message in str(caught.value)


def test_a_column_that_stands_twice() -> None:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([value]) for value in [*FLAT.values(), 1, 2]], [*FLAT, "x", "x"]), file)
    with pytest.raises(UnreadableObjectError, match=r"^the column x occurs twice$"):
        next(decode_parquet(file))


@pytest.mark.parametrize("kind", [pa.bool_(), pa.int8(), pa.int64(), pa.float64(), pa.string()])
def test_rows_of_metadata_are_no_data(kind: pa.DataType) -> None:
    values = [True, False, None, True, False]
    texts = [None if value is None else str(value).lower() for value in values]
    flags = pa.array(texts if kind == pa.string() else values, pa.string() if kind == pa.string() else pa.bool_()).cast(kind)
    ids = pa.array([None, 1, 2, None, None], pa.int64())
    decoded = from_parquet({"twap_id": ids, "_metadata": flags})
    assert decoded.statuses.select("twap_id", "line").rows() == [(1, 2), (2, 3)]
    assert [(bad.line, bad.reason) for bad in decoded.bad] == [(5, "twap_id is missing")]
    assert (decoded.lines, decoded.notes) == (5, {"rows with _metadata = true"})


def test_other_metadata_is_nothing_to_us() -> None:
    for value in ({"a": 1}, "yes", 2, [1]):
        decoded = from_parquet({"_metadata": [value]})
        assert (only_row(decoded), decoded.notes) == (EXPECTED, set())
    assert from_json(FLAT | {"_metadata": True}).notes == {"rows with _metadata = true"}


def test_a_bad_row_is_quarantined_alone_with_all_that_it_says() -> None:
    decoded = from_parquet({"state_coin": ["A", None, "", "B"], "state_sz": [1.5, 2.5, float("nan"), 4.5]})
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
    parts = list(decode_parquet(parquet_file(columns, row_group_size=4)))
    assert len(parts) > 3
    assert all(part.lines <= 3 for part in parts)
    assert [line for part in parts for line in part.statuses["line"]] == [1, *range(3, 10)]
    assert [bad.line for part in parts for bad in part.bad] == [2, 10]
    assert sum(part.lines for part in parts) == 10


def test_a_file_without_rows() -> None:
    empty = {name: pa.array([value])[:0] for name, value in FLAT.items()}
    assert sum(part.statuses.height + part.lines for part in decode_parquet(parquet_file(empty))) == 0


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
        "ns": (timestamps(1755388800123, "ns"), "1970-01-01T00:29:15.388800123"),
        "ms": (timestamps(1755388800123, "ms", "UTC"), "2025-08-17T00:00:00.123Z"),
        "us": (timestamps(-1, "us"), "1969-12-31T23:59:59.999999"),
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
        decoded = from_parquet({name: column for name, (column, _) in columns.items()}, data_page_version=data_page_version)
        raw = decoded.statuses["raw"][0]
        assert raw.isascii()
        assert json.loads(raw, parse_float=Decimal) == FLAT | {name: value for name, (_, value) in columns.items()}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet" * 100, REAL])
def test_what_is_no_parquet_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(UnreadableObjectError, match=r"^no whole Parquet file: "):
        next(decode_parquet(io.BytesIO(content)))


def test_a_file_that_is_not_whole_is_said_to_be_not_whole() -> None:
    content = parquet_file({name: [value] * 50 for name, value in FLAT.items()}).getvalue()
    for cut in (len(content) - 1, len(content) // 2, 10):
        with pytest.raises(UnreadableObjectError, match=r"^no whole Parquet file: "):
            list(decode_parquet(io.BytesIO(content[:cut])))


def test_a_file_that_has_not_as_many_rows_as_it_says_is_not_whole() -> None:
    content = parquet_file({name: [value] * 50 for name, value in FLAT.items()}).getvalue()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    said: set[str] = set()
    # Thrift has 50 as the byte 100: one of these is the number of rows.
    for place in [at for at in range(footer, len(content)) if content[at] == 100]:
        try:
            list(decode_parquet(io.BytesIO(content[:place] + bytes([98]) + content[place + 1 :])))
        except UnreadableObjectError as error:
            said.add(str(error))
    assert "incomplete Parquet file: it has 50 of 49 rows; fetch it again" in said


def test_an_error_of_the_system_is_no_matter_of_the_bytes() -> None:
    class Broken(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        next(decode_parquet(Broken(parquet_file({"x": [1]}).getvalue())))
