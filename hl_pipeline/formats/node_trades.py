"""Decodes `node_trades`: chunks of trade lines to frames of fills, two rows per trade: the buyer's, then the seller's.

A line is a trade, `{"coin", "side", "time", "px", "sz", "hash", "trade_dir_override", "side_info": [buyer, seller]}`. The fast
path matches one pattern against the whole line. A matching line has no other fields, and its parts have forms that the casts
convert exactly. Any other line goes to the exact parser.
"""

# JSON of others has no types, pyarrow none of its own.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
import pyarrow as pa

from hl_pipeline.formats.decoding import Blocks, Decoded, NumberedLine, Taken, decode_lines, read_odd_lines
from hl_pipeline.formats.exact_decode import (
    BadValueError,
    Json,
    Row,
    check_side_and_coin,
    check_years,
    extra_text,
    parse_address,
    parse_decimal,
    parse_hex,
    parse_integer,
    parse_time_ns,
    refuse_doubled_keys,
    require,
)
from hl_pipeline.formats.fills import DECIMAL_TEXT, FILL_SCHEMA, HEX_FIELDS, PRICE_TYPE, in_fill_schema
from hl_pipeline.formats.scan_values import Ints

PARSER = 1
"""Version of this parser's output; a higher version keeps more."""

_NEWLINE = ord("\n")
_LAST_ASCII = 0x7F
_TRADE_REQUIRED = ("coin", "side", "time", "px", "sz", "side_info")
_TRADE_REGULAR = ("hash", "trade_dir_override")
_LEG_REQUIRED = ("user", "oid")
_LEG_REGULAR = ("start_pos", "twap_id", "cloid")
_USUAL_OVERRIDE = "Na"

_INTEGER_TEXT = "(?:0|[1-9][0-9]{0,17})"
# Years that `check_years` accepts. The cast makes a nonexistent day of a month NULL.
_TIME_TEXT = (
    r"2(?:0(?:2[3-9]|[3-9][0-9])|1[0-9]{2})-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
)


def _leg_pattern(side: str) -> str:
    return (
        rf'\{{"user":"(?<wallet_{side}>0x[0-9a-f]{{40}})","start_pos":"(?<start_position_{side}>{DECIMAL_TEXT})"'
        rf',"oid":(?<oid_{side}>{_INTEGER_TEXT}),"twap_id":(?:null|(?<twap_id_{side}>{_INTEGER_TEXT}))'
        rf',"cloid":(?:null|"0x(?<cloid_{side}>[0-9a-f]{{{2 * HEX_FIELDS["cloid"]}}})")\}}'
    )


_LINE_PATTERN = (
    rf'^\{{"coin":"(?<coin>[^"\\\x00-\x1f]+)","side":"(?<taker>[AB])","time":"(?<time>{_TIME_TEXT})"'
    rf',"px":"(?<px>{DECIMAL_TEXT})","sz":"(?<sz>{DECIMAL_TEXT})","hash":"0x(?<hash>[0-9a-f]{{{2 * HEX_FIELDS["hash"]}}})"'
    rf',"trade_dir_override":"{_USUAL_OVERRIDE}","side_info":\[{_leg_pattern("B")},{_leg_pattern("A")}\]\}}\n$'
)


def decode_chunk(chunk: bytes, first_line: int = 1) -> Decoded:
    """Decode whole lines (each ends in a newline), numbered from `first_line`.

    `time` is the trade's time in ms, rounded down; block_time_ns is the same time in ns. Columns that the source does not have
    (block_number, tid, fee, dir and so on) are NULL; `blocks` is empty. If one leg is bad, the whole line is bad.
    """
    return read_odd_lines(_take_known(chunk, first_line), chunk, first_line, _decode_exactly)


def _decode_exactly(lines: Iterable[NumberedLine]) -> Decoded:
    return decode_lines(lines, _take_trade)


def _take_trade(trade: Json, line: int) -> list[Row]:
    """Return the two legs of a trade. Raises BadValueError if a number or a part of the key is invalid."""
    if not isinstance(trade, dict):
        raise BadValueError("a line must be an object: a trade with side_info")
    refuse_doubled_keys(trade)
    require(trade, _TRADE_REQUIRED)
    check_side_and_coin(trade)
    time_ns = parse_time_ns(trade["time"], "time") or 0  # never 0: it is required
    check_years(time_ns // 1_000_000)
    legs = trade["side_info"]
    if not isinstance(legs, list) or len(legs) != 2 or not all(isinstance(leg, dict) for leg in legs):
        raise BadValueError("side_info must be the two legs, each an object")
    shared: Row = {
        "time": time_ns // 1_000_000,
        "block_time_ns": time_ns,
        "coin": trade["coin"],
        "px": parse_decimal(trade["px"], "px"),
        "sz": parse_decimal(trade["sz"], "sz"),
        "hash": parse_hex(trade.get("hash"), HEX_FIELDS["hash"]),
        "line": line,
    }
    rest = {name: value for name, value in trade.items() if name not in (*_TRADE_REQUIRED, *_TRADE_REGULAR)}
    if trade.get("trade_dir_override", _USUAL_OVERRIDE) != _USUAL_OVERRIDE:
        rest["trade_dir_override"] = trade["trade_dir_override"]
    if trade.get("hash") is not None and shared["hash"] is None:
        rest["hash"] = trade["hash"]
    missing = [name for name in _TRADE_REGULAR if name not in trade]
    buyer, seller = (_take_leg(leg, rest, missing) | shared for leg in legs)
    buyer |= {"side": "B", "crossed": trade["side"] == "B", "counterparty_oid": seller["oid"]}
    seller |= {"side": "A", "crossed": trade["side"] == "A", "counterparty_oid": buyer["oid"]}
    return [buyer, seller]


def _take_leg(leg: dict[str, Json], trade_rest: dict[str, Json], trade_missing: list[str]) -> Row:
    """Return the columns of a leg, with the trade's values for `extra`. Raises BadValueError."""
    require(leg, _LEG_REQUIRED)
    cloid = parse_hex(leg.get("cloid"), HEX_FIELDS["cloid"])
    rest = {name: value for name, value in leg.items() if name not in (*_LEG_REQUIRED, *_LEG_REGULAR)}
    if leg.get("cloid") is not None and cloid is None:
        rest["cloid"] = leg["cloid"]
    missing = trade_missing + [name for name in _LEG_REGULAR if name not in leg]
    return {
        "wallet": parse_address(leg["user"], "user"),
        "start_position": parse_decimal(leg.get("start_pos"), "start_pos"),
        "oid": parse_integer(leg["oid"], "oid"),
        "twap_id": parse_integer(leg.get("twap_id"), "twap_id"),
        "cloid": cloid,
        "extra": extra_text(rest, {"_trade": trade_rest, "_missing": missing}),
    }


def _take_known(chunk: bytes, first_line: int) -> Taken:
    """Take the lines of the known form."""
    buffer = np.frombuffer(chunk, np.uint8)
    newlines = np.flatnonzero(buffer == _NEWLINE)
    starts = np.append(0, newlines + 1)
    odd = np.zeros(len(newlines), bool)
    if not chunk.isascii():
        # polars reads only UTF-8 and rejects everything if a byte is invalid.
        beyond = buffer > _LAST_ASCII
        odd[np.searchsorted(newlines, np.flatnonzero(beyond))] = True
        chunk = np.where(beyond, _LAST_ASCII, buffer).astype(np.uint8).tobytes()
    trades = _type_columns(_lines(chunk, starts).str.extract_groups(_LINE_PATTERN).struct.unnest())
    odd |= trades["block_time_ns"].is_null().to_numpy()
    return Taken(_legs(trades.with_columns(line=np.arange(len(trades)) + first_line)), Blocks(), odd, newlines)


def _lines(chunk: bytes, starts: Ints) -> pl.Series:
    """Return the chunk's lines, each with its newline, without copying the text, which must be ASCII."""
    array = pa.LargeStringArray.from_buffers(len(starts) - 1, pa.py_buffer(starts), pa.py_buffer(chunk))
    return pl.Series("line", array)


def _type_columns(parts: pl.DataFrame) -> pl.DataFrame:
    """Convert the parts of the lines to their types. Names of the legs' parts end in _B and _A. Other lines get no
    `block_time_ns`.
    """

    def typed(name: str) -> pl.Expr:
        text, column = pl.col(name), name.removesuffix("_A").removesuffix("_B")
        if FILL_SCHEMA.get(column) == PRICE_TYPE:
            return text.cast(PRICE_TYPE, strict=False)
        if FILL_SCHEMA.get(column) == pl.Int64():
            return text.cast(pl.Int64(), strict=False)
        return text.str.decode("hex", strict=False) if column in HEX_FIELDS else text

    time = pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="ns", strict=False)
    columns = {name: typed(name) for name in parts.columns} | {"block_time_ns": time.cast(pl.Int64())}
    columns["time"] = (time.cast(pl.Int64()) // 1_000_000).cast(FILL_SCHEMA["time"])
    return parts.select(**columns)


def _legs(trades: pl.DataFrame) -> pl.DataFrame:
    """Return two rows of FILL_SCHEMA per trade, the buyer's first."""
    sides = [
        trades.select(
            *("time", "block_time_ns", "coin", "px", "sz", "hash", "line"),
            *(pl.col(f"{name}_{side}").alias(name) for name in ("wallet", "start_position", "oid", "twap_id", "cloid")),
            side=pl.lit(side),
            crossed=pl.col("taker") == side,
            counterparty_oid=pl.col(f"oid_{other}"),
        )
        for side, other in (("B", "A"), ("A", "B"))
    ]
    return in_fill_schema(pl.concat(sides, rechunk=True)[np.arange(2 * len(trades)).reshape(2, -1).T.ravel()])
