"""Random legal TWAP statuses, as JSON and as Parquet, are read exactly; random damage costs only the damaged lines."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from hl_pipeline.formats.framing import UnreadableObjectError
from hl_pipeline.formats.twap_statuses import decode_json_lines, decode_parquet
from hl_pipeline_tests.profiles import examples
from hl_pipeline_tests.strategies import addresses, as_lines, damaged, decimals, json_values, names
from hl_pipeline_tests.twap_statuses import (
    EPOCH,
    FLAT,
    LINES,
    REAL,
    parquet_file,
)

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


@examples(100)
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


@examples(150)
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
    # At most fifteen digits, so that different numbers stay different as 64-bit floats.
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
    return parquet_file(shuffled, **how), rows


@examples(100)
@given(_files())
def test_any_legal_row_of_any_types_is_taken_as_it_is(made: tuple[io.BytesIO, list[dict[str, Any]]]) -> None:
    file, expected = made
    parts = list(decode_parquet(file))
    assert [bad for part in parts for bad in part.bad] == []
    assert [row for part in parts for row in part.statuses.drop("raw").to_dicts()] == expected
    assert all(isinstance(json.loads(raw), dict) for part in parts for raw in part.statuses["raw"])


_CONTENT = parquet_file({name: [value] * 3 for name, value in FLAT.items()}, compression="none").getvalue()


@examples(150)
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
