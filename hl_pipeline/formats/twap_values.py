"""Parses the values of a TWAP status in every form that a source may use. Forms other than the node's own are noted.

A value is JSON from parse_json, or has a type that only Parquet has: `Stamp`, `DecimalText`, `NotText`, `ShortFloat`. The
functions add to `notes`. They raise BadValueError for invalid values, with a reason that names the field.
"""

# JSON of others has no types.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import re
from decimal import Decimal

from hl_pipeline.formats.exact_decode import (
    EARLIEST_MS,
    END_MS,
    BadValueError,
    Json,
    parse_decimal,
    parse_integer,
    parse_json,
    parse_time_ns,
    refuse_doubled_keys,
    show,
    storable,
)

_KINDS = {kind.lower(): kind for kind in ("activated", "finished", "terminated", "error", "waitingForTrigger", "stopped")}
_SIDES = {"b": "B", "buy": "B", "bid": "B", "a": "A", "sell": "A", "ask": "A"}
_FLAGS = {"true": True, "false": False}
_MOST_CHARACTERS = 200  # of a kind or a coin: a PostgreSQL index entry holds at most 2,700 bytes
_MOST_MINUTES = 2**31 - 1

_UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))?", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)
_EXACT_IN_DOUBLE = 2**53


class Stamp(str):
    """The ISO text of a timestamp: `value` units (s, ms, us, ns) since 1970, UTC, exactly as in the column, even if wrong."""

    __slots__ = ("unit", "value")
    value: int
    unit: str


class DecimalText(str):
    """A number of a decimal column, with all its decimal places."""

    __slots__ = ()


class NotText(str):
    """Bytes that are not UTF-8, in base64."""

    __slots__ = ()


class ShortFloat(Decimal):
    """The shortest decimal of a 32-bit float."""

    __slots__ = ()
    exact = 2**24
    """From here on, one float represents several integers."""


class HalfFloat(ShortFloat):
    """The shortest decimal of a 16-bit float."""

    __slots__ = ()
    exact = 2**11


def parse_whole(value: Json, field: str, notes: set[str]) -> int | None:
    """Parse an integer in the range of BIGINT from a number of any type or a string."""
    number = _number(value)
    whole = parse_integer(number, field)
    if whole is None:
        return None
    exact = number.exact if isinstance(number, ShortFloat) else _EXACT_IN_DOUBLE
    if isinstance(value, Decimal) and abs(whole) >= exact:
        raise BadValueError(f"{field}: {show(value)} is more than a float holds to the last digit")
    _note_form(value, field, "integers", notes)
    return whole


def parse_minutes(value: Json, notes: set[str]) -> int | None:
    """Parse a duration in whole minutes. Raises BadValueError."""
    minutes = parse_whole(value, "minutes", notes)
    if minutes is not None and not 0 <= minutes <= _MOST_MINUTES:
        raise BadValueError(f"minutes: {show(value)} is not between 0 and {_MOST_MINUTES}")
    return minutes


def parse_size(value: Json, field: str, notes: set[str]) -> Decimal | None:
    """Parse an exact decimal in the range of NUMERIC(38,10)."""
    number = parse_decimal(value, field)
    _note_form(value, "sizes", "texts", notes)
    return number


def parse_flag(value: Json, field: str, notes: set[str]) -> bool | None:
    """Parse a boolean: true and false, as strings in any case, or 1 and 0 as numbers."""
    if value is None:
        return None
    _note_form(value, field, "booleans", notes)
    number = _number(value)
    if isinstance(number, bool | int | Decimal) and number in (0, 1):
        return bool(number)
    if isinstance(number, str) and number.lower() in _FLAGS:
        return _FLAGS[number.lower()]
    raise BadValueError(f"{field}: {show(value)} is neither true nor false")


def parse_name(value: Json, field: str) -> str:
    """Parse a non-empty string that PostgreSQL can store and index."""
    name = storable(value)
    if isinstance(value, NotText) or not name or len(name) > _MOST_CHARACTERS:
        raise BadValueError(f"{field}: {show(value)} is not a name")
    return name


def parse_side(value: Json, notes: set[str]) -> str:
    """Parse a side, `A` or `B`, also in words. Raises BadValueError."""
    side = _SIDES.get(value.lower()) if isinstance(value, str) else None
    if side is None:
        raise BadValueError(f"side: {show(value)} is neither 'A' nor 'B'")
    if value != side:
        notes.add("side: words")
    return side


def parse_time(value: Json, field: str, usual: str, notes: set[str]) -> int | None:
    """Parse an ISO text, a timestamp, or a number in s, ms, us or ns, to ns since 1970, UTC, in the years 2023 to 2199.

    The unit of a number is the one that puts it into these years. For a timestamp, the unit of its column is tried first.
    """
    if value is None:
        return None
    if isinstance(value, Stamp):
        time_ns, form = _time_of_stamp(value)
    elif isinstance(value, str) and (match := _ISO.fullmatch(value)):
        time_ns, form = _time_of_text(match, field)
    else:
        time_ns, form = _time_of_number(value, field)
    if not _in_years(time_ns):
        raise BadValueError(f"{field}: {show(value)} is not a time in the years 2023 to 2199 in s, ms, us or ns")
    if form != usual:
        notes.add(f"{field}: {form}")
    return time_ns


def _time_of_stamp(stamp: Stamp) -> tuple[int, str]:
    time_ns = stamp.value * _UNIT_NS[stamp.unit]
    if _in_years(time_ns):
        return time_ns, f"a column of {stamp.unit}"
    time_ns, unit = _by_range(stamp.value)
    return time_ns, f"{unit} in a column of {stamp.unit}"


def _time_of_text(match: re.Match[str], field: str) -> tuple[int, str]:
    day, clock, sign, hours, minutes = match.groups()
    time_ns = parse_time_ns(f"{day}T{clock}", field) or 0
    if sign is None:
        return time_ns, "texts"
    offset_ns = (int(hours) * 60 + int(minutes)) * 60 * 10**9
    return time_ns + (offset_ns if sign == "-" else -offset_ns), "texts with an offset"


def _time_of_number(value: Json, field: str) -> tuple[int, str]:
    number = _number(value)
    if isinstance(value, ShortFloat):
        raise BadValueError(f"{field}: {show(value)} is a float of 32 bits or less, that holds no time to the second")
    is_text = isinstance(number, str)
    if isinstance(number, bool) or not isinstance(number, str | int | Decimal) or (is_text and not _DIGITS.fullmatch(number)):
        raise BadValueError(f"{field}: {show(value)} is not a time")
    time_ns, unit = _by_range(parse_integer(number, field) or 0)
    return time_ns, f"{_form(value)} in {unit}"


def _by_range(number: int) -> tuple[int, str]:
    """Return `number` in ns and its unit. The ranges of the four units do not overlap. Outside of all, it counts as ns."""
    return next(((number * ns, unit) for unit, ns in _UNIT_NS.items() if _in_years(number * ns)), (number, "ns"))


def _in_years(time_ns: int) -> bool:
    return EARLIEST_MS * 10**6 <= time_ns < END_MS * 10**6


def parse_status(value: Json, notes: set[str]) -> tuple[str, str | None]:
    """Parse the kind of a status and its text from `"kind"`, `"error: text"`, `{"error": text}`, `{"status": kind, "description":
    text}`, or a string with the JSON of one of these. Null members are ignored.
    """
    if isinstance(value, dict):
        notes.add("status: object")
        return _parse_status_object(value, notes)
    if not isinstance(value, str) or isinstance(value, NotText):
        raise BadValueError(f"status: {show(value)} is of no known form")
    text = value.strip()
    if text.startswith(("{", '"')):
        notes.add("status: JSON text")
        return parse_status(_inner_json(text), notes)
    kind, colon, message = text.partition(":")
    if colon and kind.strip().lower() in _KINDS:
        notes.add("status: text after a colon")
        return _parse_kind(kind.strip(), notes), message.strip()
    return _parse_kind(text, notes), None


def _parse_status_object(value: dict[str, Json], notes: set[str]) -> tuple[str, str | None]:
    members = {key: item for key, item in value.items() if item is not None}
    names = {key.lower(): key for key in members}
    if "status" in names:
        kind, text = parse_status(members.pop(names["status"]), notes)
        texts = [members[names["description"]]] if "description" in names else list(members.values())
    else:
        kind, text, texts = "", None, list(members.values())
        if len(members) == 1:
            kind = _parse_kind(next(iter(members)), notes)
    if not kind or len(texts) > 1 or not all(isinstance(text, str) and not isinstance(text, NotText) for text in texts):
        raise BadValueError(f"status: {show(value)} is of no known form")
    return kind, texts[0] if texts else text


def _inner_json(text: str) -> Json:
    try:
        value = parse_json(text.encode("utf-8", "surrogatepass"))
        refuse_doubled_keys(value)
    except BadValueError as error:
        raise BadValueError(f"status: {show(text)}: {error}") from None
    return value


def _parse_kind(text: str, notes: set[str]) -> str:
    kind = _KINDS.get(text.lower())
    if kind is None:
        notes.add("status: a kind not known")
        return parse_name(text, "status")
    if kind != text:
        notes.add("status: in other case")
    return kind


def _number(value: Json) -> Json:
    return Decimal(value) if isinstance(value, DecimalText) else value


def _form(value: Json) -> str:
    if isinstance(value, str):
        return "decimals" if isinstance(value, DecimalText) else "texts"
    return {bool: "booleans", int: "integers"}.get(type(value), "floats")


def _note_form(value: Json, field: str, usual: str, notes: set[str]) -> None:
    if value is not None and _form(value) != usual:
        notes.add(f"{field}: {_form(value)}")
