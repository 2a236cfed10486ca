"""Writes the sample's objects as text: drawn integers to JSON lines in an LZ4 frame. `values` draws them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
from numpy.typing import NDArray

from hl_pipeline.sample.sources import BY_BLOCK, FILLS, TRADES, DrawnHour
from hl_pipeline.sample.values import (
    DIRS,
    UNIT,
    Ints,
    Legs,
    Markets,
    Twaps,
    splitmix,
)

_ROWS_A_CHUNK = 4_096
_METHODS = np.array([b"market", b"backstop"])
_EXTRAS = np.array([b"", b',"newField":{"a":[1,"x"]}', b',"rebateTier":"gold"', b""])
NO_TWAP_KEY = 3

# A decimal as eight integral and ten fractional digits, an integer as sixteen; a digit that is not written stays NUL
# and is squeezed out with the rest.
_DECIMAL = np.dtype(
    [("sign", "u1"), ("high", "<u4"), ("low", "<u4"), ("point", "u1"), ("f1", "<u4"), ("f2", "<u4"), ("f3", "<u2")]
)
_INTEGER = np.dtype([(f"g{i}", "<u4") for i in range(4)])

_Records = NDArray[np.void]
_Texts = NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class World:
    """The constants of a sample: the markets, and the names of the numbers."""

    markets: Markets
    twaps: Twaps
    coins: _Texts
    tokens: _Texts
    wallets: _Texts
    builders: _Texts


def _layout(*parts: str | tuple[str, Any]) -> _Records:
    """Return a record of the texts `parts`, with NULs where a pair (name, dtype) reserves space for a value."""
    fields = [(f"_{i}", f"S{len(part)}") if isinstance(part, str) else part for i, part in enumerate(parts)]
    record = np.zeros(1, np.dtype(fields))
    for i, part in enumerate(parts):
        if isinstance(part, str):
            record[f"_{i}"] = part
    return record


@cache
def _layouts() -> dict[str, _Records]:
    leg = _layout(
        *('{"user":"0x', ("wallet", "S40"), '","start_pos":"', ("start", _DECIMAL), '","oid":', ("oid", _INTEGER)),
        *(',"twap_id":', ("twap", "S8"), ',"cloid":', ("cloid", "S36"), "}"),
    )
    trade = _layout(
        *('{"coin":"', ("coin", "S16"), '","side":"', ("side", "S1"), '","time":"', ("time", "S29")),
        *('","px":"', ("px", _DECIMAL), '","sz":"', ("sz", _DECIMAL), '","hash":"0x', ("hash", "S64")),
        *('","trade_dir_override":"Na","side_info":[', ("buyer", leg.dtype), ",", ("seller", leg.dtype), "]}\n"),
    )
    optional = {
        "cloid": _layout(',"cloid":"0x', ("value", "S32"), '"'),
        "builder": _layout(',"builder":"0x', ("value", "S40"), '"'),
        "twap": _layout(',"twapId":', ("value", "S8")),
        "builder_fee": _layout(',"builderFee":"', ("value", _DECIMAL), '"'),
        "deployer_fee": _layout(',"deployerFee":"', ("value", _DECIMAL), '"'),
        "priority_gas": _layout(',"priorityGas":"', ("value", _DECIMAL), '"'),
        "liquidation": _layout(
            *(',"liquidation":{"liquidatedUser":"0x', ("wallet", "S40"), '","markPx":"', ("mark_px", _DECIMAL)),
            *('","method":"', ("method", "S8"), '"}'),
        ),
        "head": _layout(
            *(("end", "S3"), '{"local_time":"', ("local", "S29"), '","block_time":"', ("time", "S29")),
            *('","block_number":', ("number", _INTEGER), ',"events":['),
        ),
    }
    room = {name: (name, layout.dtype) for name, layout in optional.items()}
    fill = _layout(
        *(room["head"], ("comma", "S1"), '["0x', ("wallet", "S40"), '",{"coin":"', ("coin", "S16")),
        *('","px":"', ("px", _DECIMAL), '","sz":"', ("sz", _DECIMAL), '","side":"', ("side", "S1")),
        *('","time":', ("time", _INTEGER), ',"startPosition":"', ("start", _DECIMAL), '","dir":"', ("dir", "S25")),
        *('","closedPnl":"', ("pnl", _DECIMAL), '","hash":"0x', ("hash", "S64"), '","oid":', ("oid", _INTEGER)),
        *(',"crossed":', ("crossed", "S5"), ',"fee":"', ("fee", _DECIMAL), '"', room["builder_fee"], ',"tid":'),
        *(("tid", _INTEGER), room["cloid"], room["liquidation"], ',"feeToken":"', ("token", "S9"), '"'),
        *(room["builder"], room["twap"], room["deployer_fee"], room["priority_gas"], ("extra", "S26"), "}]", ("end", "S1")),
    )
    return optional | {"fill": fill, "leg": leg, "trade": trade}


@cache
def _digits() -> dict[str, NDArray[Any]]:
    """Return texts of 0…9999 (uint32) by the treatment of zeros at an end, in double length: then those that keep them all."""
    digits = (np.arange(10_000)[:, None] // 10 ** np.arange(3, -1, -1) % 10 + 48).astype(np.uint8)
    started = np.logical_or.accumulate(digits > 48, axis=1)
    goes_on = np.logical_or.accumulate(digits[:, ::-1] > 48, axis=1)[:, ::-1]

    def table(keep: NDArray[np.bool_]) -> NDArray[np.uint32]:
        return np.concatenate([digits * keep, digits]).view("<u4").ravel()

    last, first = np.arange(4) == 3, np.arange(4) == 0
    hexes = np.frombuffer(b"0123456789abcdef", np.uint8)
    return {
        "leading": table(started),
        "leading_or_0": table(started | last),
        "trailing": table(goes_on),
        "trailing_or_0": table(goes_on | first),
        "two_trailing": (digits * goes_on)[:100, 2:].copy().view("<u2").ravel(),
        "hex": hexes[np.arange(65_536)[:, None] >> np.arange(12, -1, -4) & 15].view("<u4").ravel(),
    }


def _decimals(values: Ints) -> _Records:
    """Format numbers in units of 1e-10, with at least one digit on each side of the point."""
    digits, out = _digits(), np.zeros(len(values), _DECIMAL)
    size = np.abs(values)
    whole = size // UNIT
    fraction = size - whole * UNIT
    high = whole // 10_000
    f1 = fraction // 10**6
    fraction -= f1 * 10**6
    f2 = fraction // 100
    f3 = fraction - f2 * 100
    out["sign"] = (values < 0) * np.uint8(ord("-"))
    out["high"] = digits["leading"][:10_000][high]  # a ninth digit is an IndexError
    out["low"] = digits["leading_or_0"][whole - high * 10_000 + 10_000 * (high > 0)]
    out["point"] = ord(".")
    out["f1"] = digits["trailing_or_0"][f1 + 10_000 * (fraction > 0)]
    out["f2"] = digits["trailing"][f2 + 10_000 * (f3 > 0)]
    out["f3"] = digits["two_trailing"][f3]
    return out


def _integers(values: Ints) -> _Records:
    """Format integers of up to 16 digits."""
    digits, out = _digits(), np.zeros(len(values), _INTEGER)
    above, rest = np.zeros(len(values), bool), values
    for i, unit in enumerate((10**12, 10**8, 10**4, 1)):
        group = rest // unit
        rest = rest - group * unit
        out[f"g{i}"] = digits["leading_or_0" if unit == 1 else "leading"][group + 10_000 * above]
        above = above | (group > 0)
    return out


def _hex(words: list[NDArray[np.uint64]]) -> _Texts:
    pairs = np.stack(words, axis=1).view(np.uint16)
    return _digits()["hex"][pairs].view(f"S{pairs.shape[1] * 4}").ravel()


def _hashes(legs: Legs) -> _Texts:
    return _hex([splitmix(legs["hash"] + i) * (legs["hash"] > 0) for i in (1 << 60, 2 << 60, 3 << 60, 4 << 60)])


def _cloids(oid: Ints) -> _Texts:
    return _hex([splitmix(oid + i) for i in (5 << 60, 6 << 60)])


def _twaps(legs: Legs) -> _Texts:
    twap = np.full(len(legs["twap"]), b"null", "S8")
    twap[legs["twap"] >= 0] = legs["twap"][legs["twap"] >= 0].astype("S8")
    return twap


def _heads(made: DrawnHour) -> _Records:
    """Return the beginning of each block's line, preceded by the end of the previous line."""
    heads = np.repeat(_layouts()["head"], len(made.block_ns))
    heads["end"][1:] = b"]}\n"
    heads["local"] = np.datetime_as_string(made.local_ns.astype("datetime64[ns]"))
    heads["time"] = np.datetime_as_string(made.block_ns.astype("datetime64[ns]"))
    heads["number"] = _integers(made.first_block + np.arange(len(heads)))
    return heads


def _put(records: _Records, field: str, where: NDArray[np.bool_], **values: NDArray[Any]) -> None:
    """Fill the optional `field` of the records `where` with their `values`."""
    part = np.repeat(_layouts()[field], np.count_nonzero(where))
    for name, column in values.items():
        part[name] = column
    records[field][where] = part


def _fills_text(world: World, legs: Legs, times: _Records) -> _Records:
    """Return the rows of a chunk as records, without the heads of their blocks."""
    out = np.repeat(_layouts()["fill"], len(legs["block"]))
    for name in ("px", "sz", "start", "pnl", "fee"):
        out[name] = _decimals(legs[name])
    for name in ("oid", "tid"):
        out[name] = _integers(legs[name])
    out["wallet"] = world.wallets[legs["wallet"]]
    out["coin"] = world.coins[legs["coin"]]
    out["token"] = world.tokens[legs["token"]]
    out["side"] = np.where(legs["buy"], b"B", b"A")
    out["crossed"] = np.where(legs["crossed"], b"true", b"false")
    out["time"] = times[legs["block"]]
    out["dir"] = np.array(DIRS, "S")[legs["dir"]]
    out["extra"] = _EXTRAS[legs["extra"]]
    out["hash"] = _hashes(legs)
    for name in ("builder_fee", "deployer_fee", "priority_gas"):
        where = legs[name] >= 0
        _put(out, name, where, value=_decimals(legs[name][where]))
    where = legs["cloid"]
    _put(out, "cloid", where, value=_cloids(legs["oid"][where]))
    where = legs["builder"] >= 0
    _put(out, "builder", where, value=world.builders[legs["builder"][where]])
    where = legs["extra"] != NO_TWAP_KEY
    _put(out, "twap", where, value=_twaps(legs)[where])
    where = legs["liquidated"] >= 0
    _put(
        out,
        "liquidation",
        where,
        wallet=world.wallets[legs["liquidated"][where]],
        mark_px=_decimals(legs["mark_px"][where]),
        method=_METHODS[(legs["liquidated"][where] % 7 == 0).astype(int)],
    )
    return out


def _trades_text(world: World, legs: Legs, block_ns: Ints) -> _Records:
    """Return the trades of a chunk as records: each buyer's leg is followed by the seller's."""
    buyer, seller = ({name: column[i::2] for name, column in legs.items()} for i in (0, 1))
    out = np.repeat(_layouts()["trade"], len(buyer["block"]))
    out["coin"] = world.coins[buyer["coin"]]
    out["side"] = np.where(buyer["crossed"], b"B", b"A")
    out["time"] = np.datetime_as_string(block_ns[buyer["block"]].astype("datetime64[ns]"))
    for name in ("px", "sz"):
        out[name] = _decimals(buyer[name])
    out["hash"] = _hashes(buyer)
    for name, leg in (("buyer", buyer), ("seller", seller)):
        part = np.repeat(_layouts()["leg"], len(out))
        part["wallet"] = world.wallets[leg["wallet"]]
        part["start"] = _decimals(leg["start"])
        part["oid"] = _integers(leg["oid"])
        part["twap"] = _twaps(leg)
        cloid = np.char.add(np.char.add(b'"0x', _cloids(leg["oid"])), b'"')
        part["cloid"] = np.where(leg["cloid"], cloid, b"null")
        out[name] = part
    return out


def _squeeze(records: _Records) -> NDArray[np.uint8]:
    text = records.view(np.uint8)
    return text[text != 0]


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS_A_CHUNK) for start in range(0, rows, _ROWS_A_CHUNK))


def _block_lines(world: World, made: DrawnHour) -> Iterator[NDArray[np.uint8]]:
    heads, times = _heads(made), _integers(made.block_ns // 10**6)
    rows = np.bincount(made.legs["block"], minlength=len(heads))
    # A block without fills also gets a record, of which only the head is kept.
    block = np.repeat(np.arange(len(heads)), np.maximum(rows, 1))
    first = np.diff(block, prepend=-1) > 0
    empty = rows[block] == 0
    leg = np.maximum(np.cumsum(~empty) - 1, 0)
    for chunk in _chunks(len(leg)):
        records = _fills_text(world, {name: column[leg[chunk]] for name, column in made.legs.items()}, times)
        records["comma"] = np.where(first[chunk], b"", b",")
        records.view(np.uint8).reshape(len(records), -1)[empty[chunk]] = 0
        records["head"][first[chunk]] = heads[block[chunk][first[chunk]]]
        yield _squeeze(records)
    yield np.frombuffer(b"]}\n", np.uint8)


def _fill_lines(world: World, made: DrawnHour) -> Iterator[NDArray[np.uint8]]:
    times = _integers(made.block_ns // 10**6)
    for chunk in _chunks(len(made.legs["block"])):
        records = _fills_text(world, {name: column[chunk] for name, column in made.legs.items()}, times)
        records["end"] = b"\n"
        yield _squeeze(records)


def _trade_lines(world: World, made: DrawnHour) -> Iterator[NDArray[np.uint8]]:
    for chunk in _chunks(len(made.legs["block"])):
        yield _squeeze(_trades_text(world, {name: column[chunk] for name, column in made.legs.items()}, made.block_ns))


_LINES = {BY_BLOCK: _block_lines, FILLS: _fill_lines, TRADES: _trade_lines}


def write_object(path: Path, source: str, world: World, made: DrawnHour) -> int:
    """Write the object under a temporary name, rename it, and return its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with lz4.frame.LZ4FrameFile(temporary, "wb") as file:
        for text in _LINES[source](world, made):
            file.write(text)
    temporary.rename(path)
    return path.stat().st_size
