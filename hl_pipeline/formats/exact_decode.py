"""Parses JSON text to fills exactly, one value at a time: slow, but always right about values, lines and reasons.

The fast decoders leave to this module whatever they do not fully recognize. The layout of lines belongs in each format's module.
"""

# JSON from outside has no types.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any, TypeVar

import polars as pl

from hl_pipeline.formats.fills import (
    DECIMAL_FIELDS,
    FILL_SCHEMA,
    HEX_FIELDS,
    INTEGER_FIELDS,
    LIQUIDATION_FIELDS,
    OPTIONAL_FIELDS,
    OUR_NAMES,
    REGULAR_FIELDS,
    REQUIRED_FIELDS,
    BadLine,
)

# Any result of json.loads. Text from outside has no narrower type.
Json = Any
Row = dict[str, Any]
T = TypeVar("T")

_DECIMAL = re.compile(r"[+-]?[0-9]{1,60}(\.[0-9]{0,60})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-f]{40}", re.ASCII)
_HEX = re.compile(r"0x([0-9a-fA-F]*)", re.ASCII)
_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z?", re.ASCII)
_SMALLEST_STEP = Decimal("1e-10")
_LIMIT = Decimal(10) ** 28
_WIDE = Context(prec=200)  # more digits than any text that _DECIMAL matches
_YEARS = (2000, 2199)
_INT64 = 2**63
_MAX_CLOCK_SKEW_MS = 60_000

EARLIEST_MS = 1_672_531_200_000
"""2023-01-01, before the first trade. An earlier time has the wrong unit: seconds read as ms are in January 1970."""
END_MS = 7_258_118_400_000
"""2200-01-01. Microseconds read as ms are tens of thousands of years later."""


class BadValueError(ValueError):
    """A value that is not acceptable. The message is the reason recorded in the quarantine."""


def parse_json(text: bytes) -> Json:
    """Return the JSON value of `text`, with exact numbers (int or Decimal). A byte-order mark at the start is ignored.

    Raises BadValueError for anything that is not one JSON value in UTF-8, and for NaN and Infinity.
    """
    try:
        return json.loads(
            text.decode("utf-8-sig"), parse_float=_number, parse_constant=_refuse_constant, object_pairs_hook=_object
        )
    except BadValueError:
        raise
    except UnicodeDecodeError as error:
        raise BadValueError(f"not UTF-8: {error.reason} at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise BadValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise BadValueError("cannot parse: nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise BadValueError(f"cannot parse: {error}") from None


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise BadValueError(f"cannot parse: the exponent of {text[:80]} is out of range") from None


def _refuse_constant(name: str) -> Json:
    raise BadValueError(f"not JSON: {name}")


class _Doubled(dict[str, Json]):
    """A JSON object in which a key appears twice, so that its meaning is ambiguous."""

    pairs: list[tuple[str, Json]]


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        result = _Doubled(result)
        result.pairs = pairs
    return result


def refuse_doubled_keys(value: Json, but: str | None = None) -> None:
    """Raise BadValueError if a key appears twice in any object within `value`. Its member `but` is not checked."""
    if isinstance(value, _Doubled):
        keys = [key for key, _ in value.pairs]
        raise BadValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} appears twice in one object")
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key != but:
            refuse_doubled_keys(item)


def parse_decimal(value: Json, field: str) -> Decimal | None:
    """Return a JSON string or number as an exact decimal. Raises BadValueError if NUMERIC(38,10) cannot hold it."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal) or not _DECIMAL.fullmatch(str(value)):
        raise BadValueError(f"{field}: {show(value)} is not a decimal number")
    number = Decimal(str(value))
    if number.copy_abs() >= _LIMIT:
        raise BadValueError(f"{field}: {show(value)} has more than 28 digits before the point")
    scaled = number.quantize(_SMALLEST_STEP, context=_WIDE)
    if scaled != number:
        raise BadValueError(f"{field}: {show(value)} has more than 10 decimals")
    return scaled


def parse_integer(value: Json, field: str) -> int | None:
    """Return `value` as an integer. Raises BadValueError if it is none or BIGINT cannot hold it."""
    if value is None:
        return None
    # Check the size first: an exponent in the millions would make an integer of millions of digits.
    if isinstance(value, Decimal) and value.adjusted() < 20 and value == value.to_integral_value():
        value = int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValueError(f"{field}: {show(value)} is not an integer")
    if not -_INT64 <= value < _INT64:
        raise BadValueError(f"{field}: {show(value)} does not fit in 64 bits")
    return value


def parse_time_ns(value: Json, field: str) -> int | None:
    """Return a naive ISO time in UTC, with up to nine fractional digits, as ns since 1970. Raises BadValueError."""
    if value is None:
        return None
    match = _ISO.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BadValueError(f"{field}: {show(value)} is not a time like 2026-03-15T00:00:00.196239755")
    try:
        seconds = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError as error:
        raise BadValueError(f"{field}: {show(value)}: {error}") from None
    if not _YEARS[0] <= seconds.year <= _YEARS[1]:
        raise BadValueError(f"{field}: {show(value)} is not in the years {_YEARS[0]} to {_YEARS[1]}")
    return int(seconds.timestamp()) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def parse_address(value: Json, field: str) -> str:
    """Return an address in lower case. Raises BadValueError if `value` is not an address."""
    address = value.lower() if isinstance(value, str) else ""
    if not _ADDRESS.fullmatch(address):
        raise BadValueError(f"{field}: {show(value)} is not an address (0x and 40 hex digits)")
    return address


def parse_fill(fill: Json, wallet: Json) -> Row:
    """Return a row of FILL_SCHEMA, without the columns of the block and the line, from a fill object and its user.

    Raises BadValueError if a number or a part of the key is not valid. Anything else that is unusual goes to `extra`.
    """
    if not isinstance(fill, dict):
        raise BadValueError(f"a fill must be an object, not {show(fill)}")
    refuse_doubled_keys(fill)
    row: Row = {"wallet": parse_address(wallet, "user")}
    extra: dict[str, Json] = {}
    rest = dict(fill)
    liquidation = rest.pop("liquidation", None)
    if liquidation is None and "liquidation" in fill:
        extra["liquidation"] = None
    require(rest, REQUIRED_FIELDS)
    for field, column in {**REGULAR_FIELDS, **OPTIONAL_FIELDS}.items():
        if field in rest:
            value = rest.pop(field)
            row[column] = _typed(field, value)
            if (value is None and field in OPTIONAL_FIELDS) or (value is not None and row[column] is None):
                extra[field] = value
    check_side_and_coin(fill)
    if liquidation is not None:
        _take_liquidation(liquidation, row, extra)
    extra.update(rest)
    missing = [field for field in REGULAR_FIELDS if field not in fill]
    row["extra"] = extra_text(extra, {"_missing": missing})
    return row


def require(value: dict[str, Json], fields: tuple[str, ...]) -> None:
    """Raise BadValueError if one of the fields is missing or null."""
    for field in fields:
        if value.get(field) is None:
            raise BadValueError(f"{field} is missing")


def check_side_and_coin(value: dict[str, Json]) -> None:
    """Raise BadValueError if the side of a fill or trade is not A or B, or its coin is not a name."""
    if value["side"] not in ("A", "B"):
        raise BadValueError(f"side: {show(value['side'])} is neither 'A' nor 'B'")
    if not storable(value["coin"]):
        raise BadValueError(f"coin: {show(value['coin'])} is not a name")


def parse_hex(value: Json, width: int) -> bytes | None:
    """Return the `width` bytes of `0x` and twice as many hex digits, or None if `value` has another form."""
    match = _HEX.fullmatch(value) if isinstance(value, str) else None
    return bytes.fromhex(match[1]) if match and len(match[1]) == 2 * width else None


def _typed(field: str, value: Json) -> Json:
    if field in DECIMAL_FIELDS:
        return parse_decimal(value, field)
    if field in INTEGER_FIELDS:
        return parse_integer(value, field)
    if field in HEX_FIELDS:
        return parse_hex(value, HEX_FIELDS[field])
    if field == "crossed":
        return value if isinstance(value, bool) else None
    text = storable(value)
    return text.lower() if text is not None and field == "builder" else text


def storable(value: Json) -> str | None:
    """Return `value` if it is a text that PostgreSQL and Parquet can hold, else None.

    A text with a NUL or half a surrogate pair is kept in `extra`, escaped.
    """
    if not isinstance(value, str) or "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        return None
    return value


def _take_liquidation(liquidation: Json, row: Row, extra: dict[str, Json]) -> None:
    if not isinstance(liquidation, dict):
        extra["liquidation"] = liquidation
        return
    user = storable(liquidation.get("liquidatedUser"))
    row["liquidated_user"] = None if user is None else user.lower()
    row["liquidation_mark_px"] = parse_decimal(liquidation.get("markPx"), "liquidation.markPx")
    row["liquidation_method"] = storable(liquidation.get("method"))
    if set(liquidation) != set(LIQUIDATION_FIELDS) or None in (
        row["liquidated_user"],
        row["liquidation_mark_px"],
        row["liquidation_method"],
    ):
        extra["liquidation"] = liquidation


def extra_text(extra: dict[str, Json], ours: dict[str, Json]) -> str | None:
    """Return the column `extra`: the source's extra fields, and our own under OUR_NAMES unless they are empty.

    Raises BadValueError if the source uses one of OUR_NAMES.
    """
    if clash := extra.keys() & set(OUR_NAMES):
        raise BadValueError(f"{min(clash)} is reserved by hl-pipeline, but the fill has this field")
    extra = extra | {name: value for name, value in ours.items() if value}
    return dump_json(extra) if extra else None


def dump_json(value: Json) -> str:
    """Return a value from parse_json as compact ASCII JSON text, with every digit of its numbers."""
    if isinstance(value, dict):
        pairs = value.pairs if isinstance(value, _Doubled) else value.items()
        return "{" + ",".join(f"{json.dumps(key)}:{dump_json(item)}" for key, item in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump_json, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def with_extra(row: Row, name: str, unknown: dict[str, Json]) -> None:
    """Add the unknown fields of what contains `row` (a block, a slice) to its `extra`, under a name of OUR_NAMES."""
    if unknown:
        text = dump_json({name: unknown})
        row["extra"] = text if row["extra"] is None else f"{row['extra'][:-1]},{text[1:]}"


def check_clock(time_ms: int, block_time_ns: int) -> None:
    """Raise BadValueError if a fill's time differs from its block's by more than a minute.

    A wrong unit would put the fill on a day where nobody looks.
    """
    if abs(time_ms - block_time_ns // 1_000_000) > _MAX_CLOCK_SKEW_MS:
        raise BadValueError(
            f"time: {time_ms} is over 60 s away from the time of its block, both in ms ({block_time_ns // 1_000_000})"
        )


def check_years(time_ms: int) -> None:
    """Raise BadValueError for a time at which no fill can be. Without a block's time to compare, this detects a wrong unit."""
    if not EARLIEST_MS <= time_ms < END_MS:
        raise BadValueError(f"time: {time_ms} is not a time in the years 2023 to 2199 in ms")


def fills_frame(rows: list[Row]) -> pl.DataFrame:
    """Return rows of parse_fill as a frame of FILL_SCHEMA."""
    columns = {name: [row.get(name) for row in rows] for name in FILL_SCHEMA if name != "time"}
    schema = {name: dtype for name, dtype in FILL_SCHEMA.items() if name != "time"}
    times = pl.Series("time", [row["time"] for row in rows], pl.Int64).cast(FILL_SCHEMA["time"])
    return pl.DataFrame(columns, schema=schema).insert_column(0, times)


def take_line(text: bytes, line: int, take: Callable[[Json, int], T]) -> T | BadLine:
    """Call `take` with a line's JSON value and number. Returns its result or, if it fails, a quarantine record."""
    try:
        return take(parse_json(text), line)
    except Exception as error:  # noqa: BLE001 - no error in one line may stop the others
        return bad_line(line, None, error, text)


def bad_line(line: int, event: int | None, error: Exception, text: bytes) -> BadLine:
    """Return a quarantine record for `error`."""
    reason = str(error) if isinstance(error, BadValueError) else f"cannot parse: {type(error).__name__}: {error}"
    return BadLine(line, event, reason, text)


def show(value: Json) -> str:
    """Return the value as JSON for a message, cut to 80 characters."""
    text = dump_json(value)
    return text if len(text) <= 80 else text[:77] + "..."
