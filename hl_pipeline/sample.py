"""A seeded sample bucket of `node_fills_by_block` as large as wanted, and beside it the truth about what it holds.

Imports nothing of the pipeline but `sample_values`, so that the decoder is tested against an independent account: the
truth is summed from the integers the fills were made of, never read back from the JSON. Nothing here decodes.

`truth/fills.parquet`: a row per `date` (UTC day of the fill's time), `coin`, `wallet`, sorted so: `rows`, `taker_rows`,
`twap_rows` (with a twapId), `liquidation_rows`, `non_market_rows` (dust, Settlement, Split/Merge/Negate Outcome; a dir
nobody knows counts as market), and exact sums over all rows: `sz_sum`, `taker_sz_sum`, `start_position_sum`,
`closed_pnl_sum`, `fee_sum` (numerically over all tokens), `builder_fee_sum`: Decimal(38,10); `notional_sum` (px * sz):
Decimal(38,20); `tid_sum`, `oid_sum`: Decimal(38,0), no modulo.
`truth/fees.parquet`: `rows`, `fee_sum` per `date`, `coin`, `wallet`, `fee_token`.
`truth/days.json`: `days` by event date: rows, trades (distinct tid of market rows, tid not 0), single_leg_tids and
self_trades (of those), dust_rows, twap_rows, twaps (distinct twapIds), liquidation_rows, non_market_rows,
unknown_dir_rows, unknown_field_rows, missing_twap_key_rows, first_time_ms, last_time_ms; and `objects` by key: rows,
blocks, empty_blocks, first_block, last_block, bytes (compressed).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator
from numpy.typing import NDArray

from hl_pipeline.sample_values import (
    DIRS,
    DUST_DIR,
    FIRST_NON_MARKET_DIR,
    HOUR_NS,
    UNIT,
    UNKNOWN_DIR,
    Ints,
    Legs,
    Markets,
    Twaps,
    draw_dust,
    draw_legs,
    draw_markets,
    draw_orders,
    draw_twaps,
    splitmix,
)

_FIRST_BLOCK = 923_950_000
_MOST_BLOCKS_AN_HOUR = 46_800
_DAY_NS = 24 * HOUR_NS
_ROWS_A_CHUNK = 4_096
_METHODS = np.array([b"market", b"backstop"])
_EXTRAS = np.array([b"", b',"newField":{"a":[1,"x"]}', b',"rebateTier":"gold"', b""])
_NO_TWAP_KEY = 3

# A decimal as eight integral and ten fractional digits, an integer as sixteen; a digit that is not written stays NUL
# and is squeezed out with the rest.
_DECIMAL = np.dtype(
    [("sign", "u1"), ("high", "<u4"), ("low", "<u4"), ("point", "u1"), ("f1", "<u4"), ("f2", "<u4"), ("f3", "<u2")]
)
_INTEGER = np.dtype([(f"g{i}", "<u4") for i in range(4)])

_Records = NDArray[np.void]
_Texts = NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class Sample:
    """What was written: where the bucket and the truth are, rows, objects and compressed bytes."""

    node_data_dir: Path
    truth_dir: Path
    fills: int
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _World:
    """What stays the same over the sample: the markets, and the names behind the numbers."""

    markets: Markets
    twaps: Twaps
    coins: _Texts
    tokens: _Texts
    wallets: _Texts
    builders: _Texts


@dataclass(frozen=True, slots=True)
class _Object:
    """One object of the bucket before it is text: its blocks (times in ns) and the rows in them."""

    key: str
    local_ns: Ints
    block_ns: Ints
    first_block: int
    legs: Legs


def write_sample(
    target: Path,
    *,
    first_day: date,
    days: int = 1,
    hours: int | None = None,
    fills_per_hour: int,
    seed: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Sample:
    """Writes the objects of `days` days and hour 0 of the day after, and the truth; the same arguments, the same bytes.

    `target/hl-mainnet-node-data/node_fills_by_block/hourly/YYYYMMDD/H.lz4` and `target/truth/` (see the module).
    With `hours` it ends after so many, for trials of size. Event days `first_day` … `first_day + days - 1` are whole; a few
    rows belong to the day before and after. About `fills_per_hour` rows an object, three minutes' worth in the last one, and
    the dust of each midnight. What is rare comes about once a day at least, however small the sample. `progress` gets the
    number of fills written so far, after each object. What is in `target` is written over, but objects of a larger sample
    stay: begin with an empty one.
    """
    if days < 1 or fills_per_hour < 1:
        raise ValueError(f"days and fills_per_hour must be at least 1, got {days} and {fills_per_hour}")
    node_data_dir, truth_dir = target / "hl-mainnet-node-data", target / "truth"
    truth_dir.mkdir(parents=True, exist_ok=True)
    start_ns = (first_day - date(1970, 1, 1)).days * _DAY_NS
    hours = (24 * days if hours is None else hours) + 1
    world = _draw_world(np.random.default_rng([seed, hours]), start_ns, hours, fills_per_hour)

    truth = _Truth(truth_dir, world)
    fills = size = 0
    for made in _draw_objects(world, start_ns, hours, fills_per_hour, seed):
        written = _write_object(node_data_dir / made.key, world, made)
        truth.add(made, written)
        fills, size = fills + len(made.legs["block"]), size + written
        if progress:
            progress(fills)
    truth.close()
    return Sample(node_data_dir, truth_dir, fills, hours, size)


def _draw_world(rng: Generator, start_ns: int, hours: int, fills_per_hour: int) -> _World:
    wallets = min(max(fills_per_hour * 24 // 200, 200), 60_000)
    markets = draw_markets(rng)
    return _World(
        markets=markets,
        twaps=draw_twaps(rng, markets, wallets, start_ns=start_ns, hours=hours, fills_per_hour=fills_per_hour),
        coins=np.array(markets.names, "S"),
        tokens=np.array(markets.tokens, "S"),
        wallets=np.array([rng.bytes(20).hex() for _ in range(wallets)], "S"),
        builders=np.array([rng.bytes(20).hex() for _ in range(8)], "S"),
    )


def _draw_objects(world: _World, start_ns: int, hours: int, fills_per_hour: int, seed: int) -> Iterator[_Object]:
    wallets = len(world.wallets)
    dust_rows = min(1_300, max(20, 1_300 * fills_per_hour // 20_000))
    rare = max(1e-4, 0.25 / fills_per_hour)
    next_block, last_ns, next_order = _FIRST_BLOCK, 0, 0
    for hour in range(hours):
        rng = np.random.default_rng([seed, hours, hour])
        hour_ns, part = start_ns + hour * HOUR_NS, 1.0 if hour < hours - 1 else 0.05
        blocks = max(5, int(min(_MOST_BLOCKS_AN_HOUR, fills_per_hour / 4.3) * part))
        local_ns, block_ns = _draw_block_times(rng, hour_ns, int(HOUR_NS * part), blocks, last_ns)
        orders = draw_orders(
            rng, world.twaps, block_ns, last_ns or int(block_ns[0]) - 1, trades=int(fills_per_hour * part / 1.98)
        )
        legs = draw_legs(
            rng,
            world.markets,
            world.twaps,
            wallets,
            orders,
            block_ns=block_ns,
            rare=rare,
            first_order=next_order,
        )
        next_order += len(orders.block)
        if hour % 24 == 0:
            midnight = int(np.searchsorted(block_ns, hour_ns))
            dust = draw_dust(rng, world.markets, wallets, block=midnight, rows=dust_rows, order=next_order)
            next_order += 1
            at = int(np.searchsorted(legs["block"], midnight))
            legs = {name: np.concatenate([legs[name][:at], dust[name], legs[name][at:]]) for name in legs}
        day = date(1970, 1, 1) + timedelta(days=hour_ns // _DAY_NS)
        key = f"node_fills_by_block/hourly/{day:%Y%m%d}/{hour % 24}.lz4"
        yield _Object(key, local_ns, block_ns, next_block, legs)
        next_block, last_ns = next_block + blocks, int(block_ns[-1])


def _draw_block_times(rng: Generator, hour_ns: int, span_ns: int, blocks: int, after_ns: int) -> tuple[Ints, Ints]:
    """Local times within the hour, block times 50 to 400 ms before; both rise, the first block is before the hour."""
    local_ns = hour_ns + ((np.arange(blocks) + rng.random(blocks)) * (span_ns / blocks)).astype(np.int64)
    local_ns[0] = hour_ns + rng.integers(1, min(45 * 10**6, span_ns // blocks))
    block_ns = local_ns - rng.integers(51 * 10**6, 400 * 10**6, blocks)
    return local_ns, np.maximum(np.maximum.accumulate(block_ns), after_ns + 1) + np.arange(blocks)


# Text


def _layout(*parts: str | tuple[str, Any]) -> _Records:
    """One record of the texts `parts`, with NUL where a pair (name, dtype) leaves room for a value."""
    fields = [(f"_{i}", f"S{len(part)}") if isinstance(part, str) else part for i, part in enumerate(parts)]
    record = np.zeros(1, np.dtype(fields))
    for i, part in enumerate(parts):
        if isinstance(part, str):
            record[f"_{i}"] = part
    return record


@cache
def _layouts() -> dict[str, _Records]:
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
        *(room["builder"], room["twap"], room["deployer_fee"], room["priority_gas"], ("extra", "S26"), "}]"),
    )
    return optional | {"fill": fill}


@cache
def _digits() -> dict[str, NDArray[Any]]:
    """Texts of 0…9999 (uint32) by what becomes of zeros at an end, twice the length: then those that keep them all."""
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
    """Texts of numbers in units of 1e-10, at least one digit on each side of the point."""
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
    """Texts of numbers from 0 to 16 digits."""
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


def _heads(made: _Object) -> _Records:
    """The beginning of each block's line, with the end of the line before."""
    heads = np.repeat(_layouts()["head"], len(made.block_ns))
    heads["end"][1:] = b"]}\n"
    heads["local"] = np.datetime_as_string(made.local_ns.astype("datetime64[ns]"))
    heads["time"] = np.datetime_as_string(made.block_ns.astype("datetime64[ns]"))
    heads["number"] = _integers(made.first_block + np.arange(len(heads)))
    return heads


def _put(records: _Records, field: str, where: NDArray[np.bool_], **values: NDArray[Any]) -> None:
    """Fills the optional `field` of the records `where`; `values` are those of these records."""
    part = np.repeat(_layouts()[field], np.count_nonzero(where))
    for name, column in values.items():
        part[name] = column
    records[field][where] = part


def _fills_text(world: _World, legs: Legs, times: _Records) -> _Records:
    """The rows of a chunk as records, without their blocks' heads."""
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
    out["hash"] = _hex([splitmix(legs["hash"] + i) * (legs["hash"] > 0) for i in (1 << 60, 2 << 60, 3 << 60, 4 << 60)])
    for name in ("builder_fee", "deployer_fee", "priority_gas"):
        where = legs[name] >= 0
        _put(out, name, where, value=_decimals(legs[name][where]))
    where = legs["cloid"]
    oid = legs["oid"][where]
    _put(out, "cloid", where, value=_hex([splitmix(oid + i) for i in (5 << 60, 6 << 60)]))
    where = legs["builder"] >= 0
    _put(out, "builder", where, value=world.builders[legs["builder"][where]])
    where = legs["extra"] != _NO_TWAP_KEY
    twap = np.full(len(out), b"null", "S8")
    twap[legs["twap"] >= 0] = legs["twap"][legs["twap"] >= 0].astype("S8")
    _put(out, "twap", where, value=twap[where])
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


def _write_object(path: Path, world: _World, made: _Object) -> int:
    """Writes the object under a temporary name, renames it, and returns its size."""
    heads, times = _heads(made), _integers(made.block_ns // 10**6)
    rows = np.bincount(made.legs["block"], minlength=len(heads))
    # A block without fills gets a record too, of which only the head is kept.
    block = np.repeat(np.arange(len(heads)), np.maximum(rows, 1))
    first = np.diff(block, prepend=-1) > 0
    empty = rows[block] == 0
    leg = np.maximum(np.cumsum(~empty) - 1, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with lz4.frame.LZ4FrameFile(temporary, "wb") as file:
        for start in range(0, len(leg), _ROWS_A_CHUNK):
            chunk = slice(start, start + _ROWS_A_CHUNK)
            records = _fills_text(world, {name: column[leg[chunk]] for name, column in made.legs.items()}, times)
            records["comma"] = np.where(first[chunk], b"", b",")
            text = records.view(np.uint8).reshape(len(records), -1)
            text[empty[chunk]] = 0
            records["head"][first[chunk]] = heads[block[chunk][first[chunk]]]
            file.write(text[text != 0])
        file.write(b"]}\n")
    temporary.rename(path)
    return path.stat().st_size


# Truth


class _Truth:
    """Sums over the objects as they are made; a day is written when its last object is there."""

    def __init__(self, directory: Path, world: _World) -> None:
        self._directory, self._world = directory, world
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._sums = pl.DataFrame()
        self._days: dict[str, dict[str, int]] = {}
        self._objects: dict[str, dict[str, int]] = {}
        self._twaps: dict[str, set[int]] = {}

    def add(self, made: _Object, size: int) -> None:
        legs = made.legs
        blocks = len(made.block_ns)
        self._objects[made.key] = {
            "rows": len(legs["block"]),
            "blocks": blocks,
            "empty_blocks": blocks - len(np.unique(legs["block"])),
            "first_block": made.first_block,
            "last_block": made.first_block + blocks - 1,
            "bytes": size,
        }
        day = (made.block_ns // _DAY_NS)[legs["block"]]
        for number in np.unique(day).tolist():
            self._count_day(number, {name: column[day == number] for name, column in legs.items()}, made.block_ns)
        self._sums = _sum(pl.concat([self._sums, _sum(_rows_to_sum(legs, day))], how="diagonal"))
        # Hour 0 holds the last rows of the day before.
        if made.key.endswith("/0.lz4"):
            self._write_days(before=int(made.block_ns[-1]) // _DAY_NS)

    def close(self) -> None:
        self._write_days(before=2**31 - 1)
        for name, writer in self._writers.items():
            writer.close()
            self._path(name, ".part").rename(self._path(name))
        temporary = self._directory / ".days.json.part"
        temporary.write_text(json.dumps({"days": self._days, "objects": self._objects}, indent=1) + "\n")
        temporary.rename(self._directory / "days.json")

    def _path(self, name: str, ending: str = "") -> Path:
        return self._directory / (f".{name}.parquet{ending}" if ending else f"{name}.parquet")

    def _count_day(self, number: int, legs: Legs, block_ns: Ints) -> None:
        day = str(date(1970, 1, 1) + timedelta(days=number))
        twaps = self._twaps.setdefault(day, set())
        twaps.update(np.unique(legs["twap"][legs["twap"] >= 0]).tolist())
        times = block_ns[legs["block"][[0, -1]]] // 10**6
        counts = {
            "rows": np.ones(len(legs["block"]), bool),
            "trades": legs["trade"],
            "single_leg_tids": legs["single"],
            "self_trades": legs["self_trade"],
            "dust_rows": legs["dir"] == DUST_DIR,
            "twap_rows": legs["twap"] >= 0,
            "liquidation_rows": legs["liquidated"] >= 0,
            "non_market_rows": legs["dir"] >= FIRST_NON_MARKET_DIR,
            "unknown_dir_rows": legs["dir"] == UNKNOWN_DIR,
            "unknown_field_rows": (legs["extra"] > 0) & (legs["extra"] != _NO_TWAP_KEY),
            "missing_twap_key_rows": legs["extra"] == _NO_TWAP_KEY,
        }
        before = self._days.get(day, {})
        self._days[day] = {name: before.get(name, 0) + int(np.count_nonzero(hit)) for name, hit in counts.items()}
        first = before.get("first_time_ms", int(times[0]))
        self._days[day] |= {"twaps": len(twaps), "first_time_ms": first, "last_time_ms": int(times[1])}

    def _write_days(self, before: int) -> None:
        done = self._sums.filter(pl.col("date") < before)
        self._sums = self._sums.filter(pl.col("date") >= before)
        keys = ["date", "coin", "wallet", "fee_token"]
        self._append("fills", done.drop("fee_token").group_by(keys[:3]).sum(), keys[:3])
        self._append("fees", done.select(*keys, "rows", "fee_sum"), keys)

    def _append(self, name: str, frame: pl.DataFrame, keys: list[str]) -> None:
        names = {"coin": self._world.coins, "wallet": self._world.wallets, "fee_token": self._world.tokens}
        frame = frame.with_columns(
            pl.col("date").cast(pl.Date), *(pl.Series(key, names[key].astype(str))[frame[key]] for key in keys[1:])
        ).with_columns(wallet="0x" + pl.col("wallet"))
        table = frame.sort(keys).to_arrow(compat_level=pl.CompatLevel.oldest())
        if name not in self._writers:
            self._writers[name] = pq.ParquetWriter(self._path(name, ".part"), table.schema, compression="zstd")
        self._writers[name].write_table(table)


def _sum(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("date", "coin", "wallet", "fee_token").sum()


def _rows_to_sum(legs: Legs, day: Ints) -> pl.DataFrame:
    """A row per fill with the columns of `fills.parquet`; names still as numbers."""
    px, sz, builder_fee = legs["px"], legs["sz"], legs["builder_fee"]
    keys = {"date": day, "coin": legs["coin"], "wallet": legs["wallet"], "fee_token": legs["token"]}
    counts = {
        "rows": np.ones(len(day), bool),
        "taker_rows": legs["crossed"],
        "twap_rows": legs["twap"] >= 0,
        "liquidation_rows": legs["liquidated"] >= 0,
        "non_market_rows": legs["dir"] >= FIRST_NON_MARKET_DIR,
    }
    sums = {
        "sz_sum": sz,
        "taker_sz_sum": sz * legs["crossed"],
        "start_position_sum": legs["start"],
        "closed_pnl_sum": legs["pnl"],
        "fee_sum": legs["fee"],
        "builder_fee_sum": np.maximum(builder_fee, 0),
    }
    return pl.DataFrame(
        {name: column.astype(np.int32) for name, column in keys.items()}
        | {name: column.astype(np.int64) for name, column in counts.items()}
        | {name: _exact(column, column >> 63, 10) for name, column in sums.items()}
        | {"notional_sum": _product(px, sz)}
        | {f"{name}_sum": _exact(legs[name], legs[name] >> 63, 0) for name in ("tid", "oid")}
    )


def _exact(low: Ints, high: Ints, scale: int) -> pl.Series:
    """The 128-bit integers high · 2^64 + low (low unsigned) as Decimal(38, scale)."""
    words = np.stack([low, high], axis=1)
    dtype = pa.decimal128(38, scale)
    return pl.Series(pa.Decimal128Array.from_buffers(dtype, len(words), [None, pa.py_buffer(words)]))


def _product(a: Ints, b: Ints) -> pl.Series:
    """a · b of non-negative numbers in units of 1e-10, in 128 bits."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    x, y = a.astype(np.uint64), b.astype(np.uint64)
    cross, other = (x >> half) * (y & mask), (x & mask) * (y >> half)
    carry = (((x & mask) * (y & mask)) >> half) + (cross & mask) + (other & mask)
    high = (x >> half) * (y >> half) + (cross >> half) + (other >> half) + (carry >> half)
    return _exact((x * y).view(np.int64), high.view(np.int64), 20)
