"""Bare fill objects to typed columns in bulk, and the proof that nothing of their text was lost or changed.

polars reads the fills of a chunk with a flat schema. What it read is then held against the bytes: counts of keys, quotes and
braces tell an unknown, missing or doubled field, patterns a value out of form. A fill that differs is called odd, and is for
the caller to parse exactly. Where fills stand in a chunk was found before (`fill_places`).
"""

# JSON of others has no types, pyarrow none of its own.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa

from hl_pipeline.formats.fills import (
    DECIMAL_FIELDS,
    DECIMAL_TEXT,
    FILL_SCHEMA,
    HEX_FIELDS,
    INTEGER_FIELDS,
    LIQUIDATION_FIELDS,
    OPTIONAL_FIELDS,
    PRICE_TYPE,
    REGULAR_FIELDS,
)
from hl_pipeline.formats.pair_offsets import ADDRESS_AT, ADDRESS_WIDTH, Bools, Bytes, FillPlaces, Ints, around

_QUOTE, _OPEN_BRACE = b'"{'
_KEY_END, _QUOTE_SPACE = (int.from_bytes(two, "little") for two in (b'":', b'" '))
_TWAP_KEY = np.frombuffer(b'"twapId":', np.uint8)
_TWAP_KEY_I = bytes(_TWAP_KEY).index(b"I")

_JSON_SCHEMA: dict[str, pl.DataType] = {
    **{name: pl.String() for name in {**REGULAR_FIELDS, **OPTIONAL_FIELDS}},
    # polars takes just integers and booleans for these; for a text it would take anything and spell it anew.
    **dict.fromkeys(INTEGER_FIELDS, pl.Int64()),
    "crossed": pl.Boolean(),
    "liquidation": pl.Struct(dict.fromkeys(LIQUIDATION_FIELDS, pl.String())),
}
# The quotes that a field brings: two around its name, two more around a text; a liquidation has three texts within.
_QUOTES_OF = {name: 2 if name in (*INTEGER_FIELDS, "crossed") else 4 for name in {**REGULAR_FIELDS, **OPTIONAL_FIELDS}}
_QUOTES_OF["twapId"] = 0  # counted apart
_QUOTES_OF["liquidation"] = 2 + 4 * len(LIQUIDATION_FIELDS)
_KEYS_OF = dict.fromkeys(_QUOTES_OF, 1) | {"liquidation": 1 + len(LIQUIDATION_FIELDS), "twapId": 0}


def read_fills(places: FillPlaces, first_line: int) -> tuple[pl.DataFrame, Bools] | None:
    """The fills at `places` (one at least), and of each whether it is odd; None when polars cannot read them.

    The frame has the columns of FILL_SCHEMA that a fill, its user and its line give. An odd fill's row means nothing.
    """
    try:
        raw = pl.read_ndjson(_bare_fills(places), schema=_JSON_SCHEMA)
    except pl.exceptions.PolarsError:
        return None
    if raw.height != len(places.pairs):
        return None
    typed = _type_columns(raw).with_columns(_wallets(places), pl.Series("line", places.lines + first_line))
    return typed.drop("odd"), typed["odd"].to_numpy() | _differs_in_fields(places, raw)


def _bare_fills(places: FillPlaces) -> bytes:
    """The fills of the chunk and nothing else, each on a line of its own."""
    chunk = places.chunk
    return b"\n".join([chunk[start:end] for start, end in zip(places.starts.tolist(), places.ends.tolist(), strict=True)])


def _wallets(places: FillPlaces) -> pl.Series:
    """The user of each pair, lower case."""
    # The bit that makes a letter small is set in digits and in the x already.
    texts = around(places.buffer, places.pairs, ADDRESS_AT, ADDRESS_AT + ADDRESS_WIDTH) | 0x20
    offsets = np.arange(0, texts.size + 1, ADDRESS_WIDTH, dtype=np.int64)
    array = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(texts))
    return pl.Series("wallet", array)


def _type_columns(raw: pl.DataFrame) -> pl.DataFrame:
    """`raw` with the columns of FILL_SCHEMA, and `odd`: a value that must be looked at exactly."""
    names = {**REGULAR_FIELDS, **OPTIONAL_FIELDS}
    liquidation = {name: pl.col("liquidation").struct.field(name) for name in LIQUIDATION_FIELDS}
    fits = [pl.col(name).str.contains(f"^{DECIMAL_TEXT}$") for name in DECIMAL_FIELDS]
    fits += [liquidation["markPx"].str.contains(f"^{DECIMAL_TEXT}$")]
    fits += [pl.col(name).str.contains(f"^0x[0-9a-fA-F]{{{2 * width}}}$") for name, width in HEX_FIELDS.items()]
    fits += [pl.col("side").is_in(["A", "B"]), pl.col("coin") != ""]
    there = [pl.col(name).is_not_null() for name in REGULAR_FIELDS if name != "twapId"]
    there += [pl.col("liquidation").is_null() | part.is_not_null() for part in liquidation.values()]

    def typed(name: str) -> pl.Expr:
        if name in DECIMAL_FIELDS:
            return pl.col(name).cast(PRICE_TYPE, strict=False)
        if name in HEX_FIELDS:
            return pl.col(name).str.slice(2).str.decode("hex", strict=False)
        return pl.col(name).str.to_lowercase() if name == "builder" else pl.col(name)

    columns = {column: typed(name) for name, column in names.items()}
    columns["time"] = columns["time"].cast(FILL_SCHEMA["time"])
    columns["liquidated_user"] = liquidation["liquidatedUser"].str.to_lowercase()
    columns["liquidation_mark_px"] = liquidation["markPx"].cast(PRICE_TYPE, strict=False)
    columns["liquidation_method"] = liquidation["method"]
    odd = ~pl.all_horizontal(*[fit.fill_null(True) for fit in fits], *there)
    return raw.select(odd=odd, **columns)


def _differs_in_fields(places: FillPlaces, raw: pl.DataFrame) -> Bools:
    """For each fill, whether its text has a field that `raw` has not, or lacks one that `raw` cannot tell from a null."""
    twap_keys = np.bincount(_twap_key_fills(places), minlength=raw.height)
    differs = twap_keys != 1
    differs[np.searchsorted(places.starts, places.inner_brackets) - 1] = True
    for index in np.flatnonzero(raw["liquidation"].is_not_null()).tolist():
        text = places.chunk[places.starts[index] : places.ends[index]]
        at = text.index(b'"liquidation"')
        differs[index] |= b"twapId" in text[at : text.index(b"}", at)]
    differs[_miscounted(places, raw, twap_keys, 0, raw.height)] = True
    return differs


def _miscounted(places: FillPlaces, raw: pl.DataFrame, twap_keys: Ints, first: int, end: int) -> list[int]:
    """The fills from `first` to `end` whose text has other keys than `raw` has seen, or a number where a text should be.

    Each key that `raw` lacks is one more `":`, and nothing makes one less (no quote is followed by a space; the keys `twapId`,
    that may be there or not, are counted as they are). Where the keys are right, a number in place of a text is two quotes less,
    and nothing makes one more: polars takes just integers and booleans where these belong. So where a run of fills has the right
    numbers, all of them have.
    """
    text = places.buffer[places.starts[first] : places.ends[end - 1]]
    nulls = raw[first:end].null_count().row(0, named=True)
    header, fills, headers = places.header, end - first, int(places.lines[end - 1] - places.lines[first])
    twaps = int(twap_keys[first:end].sum())
    keys = sum(count * (fills - nulls[name]) for name, count in _KEYS_OF.items()) + twaps + header.keys * headers
    quotes = sum(count * (fills - nulls[name]) for name, count in _QUOTES_OF.items()) + 2 * twaps
    quotes += 2 * (fills - 1) + header.quotes * headers  # those of the users, of the lines
    braces = fills + fills - nulls["liquidation"] + header.braces * headers
    seen = (_count_twos(text, _KEY_END), np.count_nonzero(text == _QUOTE), np.count_nonzero(text == _OPEN_BRACE))
    if seen == (keys, quotes, braces) and not _count_twos(text, _QUOTE_SPACE):
        return []
    if fills == 1:
        return [first]
    cuts = np.linspace(first, end, min(fills, 16) + 1, dtype=int).tolist()
    return [fill for low, high in pairwise(cuts) for fill in _miscounted(places, raw, twap_keys, low, high)]


def _count_twos(text: Bytes, two: int) -> int:
    """How often two bytes stand side by side, at even places and at odd ones."""
    even, odd = text[: len(text) // 2 * 2], text[1 : 1 + (len(text) - 1) // 2 * 2]
    return int(np.count_nonzero(even.view("<u2") == two) + np.count_nonzero(odd.view("<u2") == two))


def _twap_key_fills(places: FillPlaces) -> Ints:
    """The fill of each key `twapId` in the chunk, found by its capital."""
    buffer = places.buffer
    at = np.flatnonzero(buffer == _TWAP_KEY[_TWAP_KEY_I])
    at = at[(at >= _TWAP_KEY_I) & (at < len(buffer) - len(_TWAP_KEY))]
    is_key = (around(buffer, at, -_TWAP_KEY_I, len(_TWAP_KEY) - _TWAP_KEY_I) == _TWAP_KEY).all(axis=1)
    fills = np.searchsorted(places.starts, at[is_key]) - 1
    return fills[fills >= 0]
