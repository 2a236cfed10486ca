"""Decodes TWAP statuses from the node's JSON lines, or from Parquet with any column types, to one typed frame, exactly, row by
row.

A line is a block `{"local_time", "block_time", "block_number", "events": [status, ...]}` or one status by itself, `{"time",
"twap_id", "state": {"coin", "user", "side", "sz", "executedSz", "executedNtl", "minutes", "reduceOnly", "randomize",
"timestamp"}, "status"}`. Parquet has the members of `state` as columns `state_coin`, ...; no genuine file is known. Every
plausible form is accepted. If it is not the node's own form, a note records which one it was.
"""

# JSON of others has no types.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import polars as pl

from hl_pipeline.formats.exact_decode import (
    BadValueError,
    Json,
    Row,
    bad_line,
    dump_json,
    parse_address,
    refuse_doubled_keys,
    require,
    show,
    storable,
    take_line,
)
from hl_pipeline.formats.fills import PRICE_TYPE, BadLine
from hl_pipeline.formats.framing import UnreadableObjectError, decompress, whole_lines
from hl_pipeline.formats.twap_columns import column_paths, open_parquet, read_rows, show_paths
from hl_pipeline.formats.twap_values import (
    NotText,
    parse_flag,
    parse_minutes,
    parse_name,
    parse_side,
    parse_size,
    parse_status,
    parse_time,
    parse_whole,
)

PARSER = 1
"""Version of this parser's output; a higher version keeps more."""

TWAP_STATUS_SCHEMA: dict[str, pl.DataType] = {
    "twap_id": pl.Int64(),
    "time_ns": pl.Int64(),
    "status": pl.String(),
    "error": pl.String(),
    "wallet": pl.String(),
    "coin": pl.String(),
    "side": pl.String(),
    "size_requested": PRICE_TYPE,
    "size_executed": PRICE_TYPE,
    "notional_executed": PRICE_TYPE,
    "duration_minutes": pl.Int32(),
    "reduce_only": pl.Boolean(),
    "randomize": pl.Boolean(),
    "started_at": pl.Datetime("us", "UTC"),
    "block_number": pl.Int64(),
    "line": pl.Int64(),
    "raw": pl.String(),
}
"""Columns of a decoded status. `twap_id` is NULL only in some rows of `twapHistory`, which are matched later by wallet, coin and
started_at. `time_ns`: time of the event in ns since 1970, UTC. `status`: its kind. `error`: its text. `wallet`: lower case.
`side`: `B` or `A`. Sizes are in coin, the notional in quote. `started_at`: when the TWAP was placed, rounded down to the
microsecond. `line`: line, or row of Parquet, from 1.

`raw` is the complete event or row as compact ASCII JSON: exact numbers, Parquet decimals as strings, Parquet timestamps as ISO
strings of the stored values, bytes as string or base64. Unknown fields of the block are under `_block`.
"""

# Each field with its possible names, of which the first present one counts. Case, `_` and `.` are ignored, and members of `state`
# count as `state_...`. A bare `timestamp` is never the time of placement.
_FIELDS: dict[str, tuple[str, ...]] = {
    "twap_id": ("twap_id",),
    "time": ("time", "block_time", "event_time", "timestamp"),
    "status": ("status",),
    "user": ("state_user", "user", "wallet", "address"),
    "coin": ("state_coin", "coin", "asset"),
    "side": ("state_side", "side"),
    "sz": ("state_sz", "sz", "size"),
    "executedSz": ("state_executedSz", "executedSz"),
    "executedNtl": ("state_executedNtl", "executedNtl"),
    "minutes": ("state_minutes", "minutes"),
    "state_timestamp": ("state_timestamp",),
    "reduceOnly": ("state_reduceOnly", "reduceOnly"),
    "randomize": ("state_randomize", "randomize"),
    "block_number": ("block_number",),
    "_metadata": ("_metadata",),
}
_MAY_LACK = ("reduceOnly", "randomize", "block_number", "_metadata")  # of the columns of a file
_VALUES_NEEDED = ("twap_id", "time", "status", "user", "coin", "side")
_BLOCK_KEYS = ("local_time", "block_time", "block_number", "events")

_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DecodedStatuses:
    """Statuses (TWAP_STATUS_SCHEMA) and bad lines, both in the order of the source, and the total number of lines or rows.

    `notes`: the forms found that are not the node's own, from a bounded set of texts.
    """

    statuses: pl.DataFrame
    bad: list[BadLine]
    lines: int
    notes: frozenset[str]


def decode_json_lines(chunk: bytes, first_line: int) -> DecodedStatuses:
    """Decode whole lines (each ends in a newline), numbered from `first_line`. Empty lines are skipped."""
    rows: list[Row] = []
    bad: list[BadLine] = []
    notes: set[str] = set()
    lines = chunk.split(b"\n")[:-1]
    for line, text in enumerate(lines, first_line):
        if not text.strip():
            continue
        taken = take_line(text, line, _take_line)
        if isinstance(taken, BadLine):
            bad.append(taken)
            continue
        line_rows, line_bad, line_notes = taken
        rows += line_rows
        bad += line_bad
        notes |= line_notes
    return _decoded(rows, bad, len(lines), notes)


def decode_history(page: list[Json], wallet: str, first_line: int = 1) -> DecodedStatuses:
    """Decode the info API's `twapHistory` of `wallet` (from parse_json). `line` numbers its items from `first_line`.

    `time_ns` is in whole seconds, as in the API. `twap_id` is NULL if the API has none. An item without a user is the wallet's.
    """
    rows: list[Row] = []
    bad: list[BadLine] = []
    notes: set[str] = set()
    needed = tuple(name for name in _VALUES_NEEDED if name != "twap_id")
    for line, item in enumerate(page, first_line):
        try:
            rows += _take_event(item, {"user": wallet}, {}, line, notes, needed)
        except Exception as error:  # noqa: BLE001 - as in take_line: it is the item's matter and stops no other
            bad.append(bad_line(line, None, error, dump_json(item).encode()))
    return _decoded(rows, bad, len(page), notes)


def decode_parquet(file: BinaryIO) -> Iterator[DecodedStatuses]:
    """Decode a Parquet file in batches of rows.

    Raises UnreadableObjectError if it is not Parquet, is incomplete, or has not all columns; then earlier batches must not be
    used. Errors of the file itself (OSError) pass through.
    """
    parquet = open_parquet(file)
    paths = _find_columns(column_paths(parquet))
    layout = {"layout: struct state"} if any(len(path) > 1 for path in paths.values()) else set[str]()
    first_row = 1
    for batch in read_rows(parquet):
        rows: list[Row] = []
        bad: list[BadLine] = []
        notes = set(layout)
        for number, values in enumerate(batch, first_row):
            try:
                rows += _take_status(values, paths, number, dump_json(values), notes)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a row, it is the row's matter and stops no other
                bad.append(bad_line(number, None, error, dump_json(values).encode()))
        yield _decoded(rows, bad, len(batch), notes)
        first_row += len(batch)


def _decoded(rows: list[Row], bad: list[BadLine], lines: int, notes: set[str]) -> DecodedStatuses:
    schema = TWAP_STATUS_SCHEMA | {"started_at": pl.Int64()}
    frame = pl.DataFrame({name: [row.get(name) for row in rows] for name in schema}, schema=schema)
    return DecodedStatuses(frame.cast({"started_at": TWAP_STATUS_SCHEMA["started_at"]}), bad, lines, frozenset(notes))


def _find_columns(columns: list[_Path]) -> dict[str, _Path]:
    """Return the column of each field. Raises UnreadableObjectError if one is missing or ambiguous."""
    try:
        paths = _find_fields(columns)
    except BadValueError as error:
        raise UnreadableObjectError(f"has columns {show_paths(columns)}; {error}") from None
    if lacking := [field for field in _FIELDS if field not in (*paths, *_MAY_LACK)]:
        raise UnreadableObjectError(f"has columns {show_paths(columns)}; missing: {', '.join(lacking)}")
    return paths


def _take_line(value: Json, line: int) -> tuple[list[Row], list[BadLine], set[str]]:
    """Return the statuses of a block, or the status of a line, with bad events and notes. Raises BadValueError otherwise."""
    notes: set[str] = set()
    if not isinstance(value, dict):
        raise BadValueError("a line must be an object: a block with events, or a status")
    if "events" not in value:
        return _take_event(value, {}, {}, line, notes), [], notes
    refuse_doubled_keys(value, but="events")
    events = value["events"]
    if not isinstance(events, list):
        raise BadValueError(f"events: {show(events)} is not a list")
    block = {key: value[key] for key in ("block_time", "block_number") if value.get(key) is not None}
    unknown = {key: item for key, item in value.items() if key not in _BLOCK_KEYS}
    rows: list[Row] = []
    bad: list[BadLine] = []
    for position, event in enumerate(events, 1):
        try:
            if isinstance(event, dict) and "_block" in event:
                raise BadValueError("_block is reserved by hl-pipeline, but the event has this field")
            rows += _take_event(event, block, unknown, line, notes)
        except Exception as error:  # noqa: BLE001 - as in take_line: it is the event's matter and stops no other
            bad.append(bad_line(line, position, error, dump_json(event).encode()))
    return rows, bad, notes


def _take_event(
    event: Json,
    block: dict[str, Json],
    unknown: dict[str, Json],
    line: int,
    notes: set[str],
    needed: tuple[str, ...] = _VALUES_NEEDED,
) -> list[Row]:
    """Return the row of a JSON object. A null counts as absent; absent fields come from its `block`."""
    if not isinstance(event, dict):
        raise BadValueError(f"an event of TWAP statuses must be an object, not {show(event)}")
    refuse_doubled_keys(event)
    values = block | {key: value for key, value in event.items() if value is not None}
    members = [
        (key, name) for key, state in values.items() if isinstance(state, dict) for name in state if state[name] is not None
    ]
    paths = _find_fields([*((key,) for key in values), *members])
    raw = dump_json(event | {"_block": unknown} if unknown else event)
    rows = _take_status(values, paths, line, raw, notes, needed)
    if rows and all(len(path) == 1 for path in paths.values()):
        notes.add("layout: flat object")
    return rows


def _find_fields(paths: Iterable[_Path]) -> dict[str, _Path]:
    """Map the names (of an object, or of members of a nested object) to fields; `state_x` takes precedence over `state.x`.

    Raises BadValueError if two names are the same.
    """
    found: dict[str, _Path] = {}
    for path in paths:
        name = _plain(".".join(path))
        if name not in _KNOWN or (len(path) > 1 and _plain(path[0]) != "state"):
            continue
        other = found.get(name)
        if other is not None and len(other) == len(path):
            raise BadValueError(f"{'.'.join(other)} and {'.'.join(path)} both are {_KNOWN[name]}")
        if other is None or len(path) < len(other):
            found[name] = path
    names = {field: next((name for name in map(_plain, names) if name in found), None) for field, names in _FIELDS.items()}
    return {field: found[name] for field, name in names.items() if name is not None}


def _plain(name: str) -> str:
    return name.replace("_", "").replace(".", "").lower()


_KNOWN = {_plain(name): name for names in _FIELDS.values() for name in names}


def _take_status(
    values: dict[str, Json],
    paths: dict[str, _Path],
    line: int,
    raw: str,
    notes: set[str],
    needed: tuple[str, ...] = _VALUES_NEEDED,
) -> list[Row]:
    """Return the row of a status, or None if `_metadata` is true. Raises BadValueError, without changing `notes`."""
    status = {field: _at(values, path) for field, path in paths.items()}
    if _is_metadata(status.get("_metadata")):
        notes.add("rows with _metadata = true")
        return []
    require(status, needed)
    for field, value in status.items():
        if isinstance(value, NotText):
            raise BadValueError(f"{field}: the bytes {show(value)} (in base64) are not UTF-8")
    met: set[str] = set()
    name = _KNOWN[_plain(".".join(paths["time"]))]
    if name != "time":
        met.add(f"time: of {name}")
    kind, error = parse_status(status["status"], met)
    started_ns = parse_time(status.get("state_timestamp"), "state_timestamp", "integers in ms", met)
    row: Row = {
        "twap_id": parse_whole(status.get("twap_id"), "twap_id", met),
        "time_ns": parse_time(status["time"], "time", "texts", met),
        "status": kind,
        "error": storable(error) or None,
        "wallet": parse_address(status["user"], "user"),
        "coin": parse_name(status["coin"], "coin"),
        "side": parse_side(status["side"], met),
        "size_requested": parse_size(status.get("sz"), "sz", met),
        "size_executed": parse_size(status.get("executedSz"), "executedSz", met),
        "notional_executed": parse_size(status.get("executedNtl"), "executedNtl", met),
        "duration_minutes": parse_minutes(status.get("minutes"), met),
        "reduce_only": parse_flag(status.get("reduceOnly"), "reduceOnly", met),
        "randomize": parse_flag(status.get("randomize"), "randomize", met),
        "started_at": None if started_ns is None else started_ns // 1000,
        "block_number": parse_whole(status.get("block_number"), "block_number", met),
        "line": line,
        "raw": raw,
    }
    notes |= met
    return [row]


def _is_metadata(value: Json) -> bool:
    try:
        return bool(parse_flag(value, "_metadata", set()))
    except BadValueError:
        return False


def _at(values: Json, path: _Path) -> Json:
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values


UNITS_NS = (1_000_000_000, 1_000_000, 1_000, 1)
"""The time units of sources, coarsest first."""


def decode_statuses(stream: BinaryIO, codec: str, *, is_parquet: bool) -> Iterator[DecodedStatuses]:
    """Decode an object in parts: Parquet, or lines (`codec` as in `decompress`). Raises UnreadableObjectError."""
    if is_parquet:
        yield from decode_parquet(stream)
        return
    first_line = 1
    for chunk in whole_lines(decompress(stream, codec)):
        yield decode_json_lines(chunk, first_line)
        first_line += chunk.count(b"\n")
