"""Writes the objects of TWAP statuses: a day's or an hour's events in the layout of the day.

A day's layout follows from `day.toordinal() % 3` (`status_layout`):

0, "dated": `date=YYYY-MM-DD/part-00000.parquet` the even TWAP ids, `part-00001.parquet` the odd ones. Flat columns; times as
texts of nine digits, `state_timestamp` in ms, decimals as the node spells them, an error as "error: message".
1, "pathed": `YYYY/MM/DD/twap_statuses.parquet`. Knows ms only: `time` and `state_timestamp` are timestamp[ns], and in August
2025 hold numbers of ms, so that they read as January 1970. Sizes as floats, in whose shortest text they are exact (else as
Decimal(38,10), that whole file), `twap_id` and `state_minutes` as texts, wallets in mixed case, an error as the text of
`{"error": message}`. The first and the last row are `_metadata`: no data, all other columns null.
2, "hourly": `hourly/YYYYMMDD/H.lz4`, JSON lines of blocks with events, as the node writes them, and of hours 0 to 3 `H.jsonl`
with a line per event; an hour without events has blocks without. Like the fills these are cut by the local time, so hour 0
begins with the last events of the day before, and those of an hourly day are in hour 0 of the day after, whatever its layout.
Beside them `YYYY/MM/DD/twap_statuses.parquet` has the events of hours 5 and 6 again, as on a pathed day.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import lz4.frame
import pyarrow as pa
import pyarrow.parquet as pq

from hl_pipeline.sample.sources import DATED, DAY_NS, HOURLY, PATHED, DrawnHour, day_of, status_layout
from hl_pipeline.sample.values import HOUR_NS, UNIT

_JUNK = b"\0\5\26\7\0\2\0\0Mac OS X"
_MS_IN_NS_BEFORE = date(2025, 9, 1)
_PLAIN_HOURS = 4
_TWICE_FROM_NS, _TWICE_TO_NS = 5 * HOUR_NS, 7 * HOUR_NS

Objects = dict[str, dict[str, Any]]


@dataclass(slots=True)
class Event:
    """A status of a TWAP, with the values of all layouts; sizes and prices in units of 1e-10."""

    twap_id: int
    status: str
    error: str | None
    time_ns: int
    block_number: int
    wallet: str
    coin: str
    side: str
    requested: int
    executed: int
    notional: int
    minutes: int
    reduce_only: bool
    randomize: bool
    started_ms: int
    trigger: dict[str, Any] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    is_exact: bool = False
    """Whether an object has its time in ns."""


def write_day(directory: Path, day: date, events: list[Event]) -> Objects:
    """Write the Parquet objects of a day from its events, ordered by time; none without events."""
    if status_layout(day) == DATED:
        parts = [[event for event in events if event.twap_id % 2 == part] for part in (0, 1)] if events else []
        keys = [f"date={day}/part-{part:05}.parquet" for part in range(len(parts))]
        return _merge(_put(directory, key, DATED, part, _parquet(_dated(part))) for key, part in zip(keys, parts, strict=True))
    layout = status_layout(day)
    if layout == HOURLY:
        events = [event for event in events if _TWICE_FROM_NS <= event.time_ns % DAY_NS < _TWICE_TO_NS]
    if not events:
        return {}
    return _put(directory, f"{day:%Y/%m/%d}/twap_statuses.parquet", PATHED, events, _parquet(_pathed(day, events)))


def write_hour(directory: Path, made: DrawnHour, events: list[Event]) -> Objects:
    """Write the object of an hour of an hourly day; on other days only hour 0, if it has events of an hourly day before."""
    day, hour = day_of(made.hour_ns), made.hour_ns // HOUR_NS % 24
    if status_layout(day) != HOURLY:
        events = [event for event in events if event.time_ns < made.hour_ns and status_layout(day_of(event.time_ns)) == HOURLY]
        if not events:
            return {}
    plain = hour < _PLAIN_HOURS
    lines = list(_hour_lines(made, events, plain=plain))
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
    key = f"hourly/{day:%Y%m%d}/{hour}.{'jsonl' if plain else 'lz4'}"
    return _put(directory, key, HOURLY, events, text if plain else lz4.frame.compress(text))


def write_junk(directory: Path, beside: str) -> None:
    """Write a file that macOS creates: named like an object, but without data."""
    (directory / beside).with_name("._part-00000.parquet").write_bytes(_JUNK)


def _put(directory: Path, key: str, layout: str, events: list[Event], content: bytes) -> Objects:
    """Write the object under a temporary name, rename it, and add its key to its events."""
    path = directory / key
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    temporary.rename(path)
    for event in events:
        event.keys.append(key)
        event.is_exact |= layout != PATHED
    return {key: {"rows": len(events), "layout": layout, "bytes": len(content)}}


def _merge(written: Iterator[Objects]) -> Objects:
    return {key: contents for objects in written for key, contents in objects.items()}


def _hour_lines(made: DrawnHour, events: list[Event], *, plain: bool) -> Iterator[dict[str, Any]]:
    if plain and events:
        yield from map(_event_json, events)
        return
    for number, of_block in groupby(events, key=lambda event: event.block_number):
        yield _block_json(made, number - made.first_block, list(of_block))
    if not events:
        last = len(made.block_ns) - 1
        yield from (_block_json(made, block, []) for block in sorted({0, last // 2, last}))


def _block_json(made: DrawnHour, block: int, events: list[Event]) -> dict[str, Any]:
    return {
        "local_time": _iso(int(made.local_ns[block])),
        "block_time": _iso(int(made.block_ns[block])),
        "block_number": made.first_block + block,
        "events": [_event_json(event) for event in events],
    }


def _event_json(event: Event) -> dict[str, Any]:
    state = {
        "coin": event.coin,
        "user": event.wallet,
        "side": event.side,
        "sz": decimal_text(event.requested),
        "executedSz": decimal_text(event.executed),
        "executedNtl": decimal_text(event.notional),
        "minutes": event.minutes,
        "reduceOnly": event.reduce_only,
        "randomize": event.randomize,
        "timestamp": event.started_ms,
    }
    status = event.status if event.error is None else {"error": event.error}
    return {"time": _iso(event.time_ns), "twap_id": event.twap_id, "state": state | event.trigger, "status": status}


def _dated(events: list[Event]) -> pa.Table:
    return pa.table(
        {
            "twap_id": pa.array([event.twap_id for event in events], pa.int64()),
            "time": _texts(_iso(event.time_ns) for event in events),
            "state_user": _texts(event.wallet for event in events),
            "state_coin": _texts(event.coin for event in events),
            "state_side": _texts(event.side for event in events),
            "state_sz": _texts(decimal_text(event.requested) for event in events),
            "state_executedSz": _texts(decimal_text(event.executed) for event in events),
            "state_executedNtl": _texts(decimal_text(event.notional) for event in events),
            "state_minutes": pa.array([event.minutes for event in events], pa.int64()),
            "state_reduceOnly": pa.array([event.reduce_only for event in events], pa.bool_()),
            "state_randomize": pa.array([event.randomize for event in events], pa.bool_()),
            "state_timestamp": pa.array([event.started_ms for event in events], pa.int64()),
            "status": _texts(event.status if event.error is None else f"error: {event.error}" for event in events),
            "block_number": pa.array([event.block_number for event in events], pa.int64()),
            "block_time": _texts(_iso(event.time_ns) for event in events),
        }
    )


def _pathed(day: date, events: list[Event]) -> pa.Table:
    # In August 2025, timestamp[ns] columns contain numbers of ms.
    unit = 1 if day < _MS_IN_NS_BEFORE else 10**6
    numbers = _numbers([(event.requested, event.executed, event.notional) for event in events])
    rows = [
        {
            "twap_id": str(event.twap_id),
            "time": event.time_ns // 10**6 * unit,
            "state_user": _mixed_case(event.wallet),
            "state_timestamp": event.started_ms * unit,
            "state_coin": event.coin,
            "state_side": event.side,
            **dict(zip(("state_sz", "state_executedSz", "state_executedNtl"), sizes, strict=True)),
            "state_minutes": str(event.minutes),
            "state_reduceOnly": event.reduce_only,
            "state_randomize": event.randomize,
            "status": event.status if event.error is None else json.dumps({"error": event.error}),
            "_metadata": False,
        }
        for event, sizes in zip(events, numbers, strict=True)
    ]
    metadata: dict[str, Any] = {"_metadata": True}
    number = pa.float64() if isinstance(numbers[0][0], float) else pa.decimal128(38, 10)
    types = {
        **dict.fromkeys(("time", "state_timestamp"), pa.timestamp("ns")),
        **dict.fromkeys(("state_sz", "state_executedSz", "state_executedNtl"), number),
        **dict.fromkeys(("state_reduceOnly", "state_randomize", "_metadata"), pa.bool_()),
    }
    schema = pa.schema([(name, types.get(name, pa.string())) for name in rows[0]])
    return pa.Table.from_pylist([metadata, *rows, metadata], schema)


def _numbers(values: list[tuple[int, ...]]) -> list[tuple[float, ...]] | list[tuple[Decimal, ...]]:
    """Return floats if the shortest text of each is exact, otherwise decimals."""
    decimals = [tuple(Decimal(value).scaleb(-10) for value in row) for row in values]
    floats = [tuple(map(float, row)) for row in decimals]
    return floats if [tuple(Decimal(repr(number)) for number in row) for row in floats] == decimals else decimals


def decimal_text(value: int) -> str:
    """Format a decimal like the node: as short as possible, with a digit on each side of the point."""
    whole, fraction = divmod(value, UNIT)
    return f"{whole}.{f'{fraction:010}'.rstrip('0') or '0'}"


def _mixed_case(wallet: str) -> str:
    return "0x" + "".join(digit.upper() if i % 3 else digit for i, digit in enumerate(wallet[2:]))


def _iso(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09}"


def _texts(values: Iterator[str]) -> pa.Array:
    return pa.array(list(values), pa.string())


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()
