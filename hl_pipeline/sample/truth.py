"""Writes the true values of a sample, summed from the drawn integers. `generate` describes the files."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from hl_pipeline.sample.sources import BY_BLOCK, DAY_NS, SOURCES, TRADES, DrawnHour, day_of, object_key
from hl_pipeline.sample.text import NO_TWAP_KEY, World
from hl_pipeline.sample.values import (
    DUST_DIR,
    FIRST_NON_MARKET_DIR,
    UNKNOWN_DIR,
    Bools,
    Ints,
    Legs,
)


class Truth:
    """Adds up the hours as they are drawn, and writes a day after its last hour."""

    def __init__(self, directory: Path, world: World) -> None:
        self._directory, self._world = directory, world
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._sums = pl.DataFrame()
        self._days: dict[str, dict[str, int]] = {}
        self._objects: dict[str, dict[str, int]] = {}
        self._twaps: dict[str, set[int]] = {}

    def add_object(self, source: str, made: DrawnHour, size: int) -> None:
        rows, blocks = len(made.legs["block"]), len(made.block_ns)
        if source == BY_BLOCK:
            contents = {
                "rows": rows,
                "blocks": blocks,
                "empty_blocks": blocks - len(np.unique(made.legs["block"])),
                "first_block": made.first_block,
                "last_block": made.first_block + blocks - 1,
            }
        else:
            contents = {"rows": rows, "lines": rows // 2 if source == TRADES else rows}
        self._objects[object_key(source, made.hour_ns)] = contents | {"bytes": size}

    def add_legs(self, known: DrawnHour) -> None:
        """Add the legs of an hour. `known`: from `take_known`."""
        legs = known.legs
        day = (known.block_ns // DAY_NS)[legs["block"]]
        for number in np.unique(day).tolist():
            self._count_day(number, {name: column[day == number] for name, column in legs.items()}, known.block_ns)
        self._sums = _sum(pl.concat([self._sums, _sum(_rows_to_sum(legs, day))], how="diagonal"))
        # Hour 0 has the last rows of the previous day.
        if known.hour_ns % DAY_NS == 0:
            self._write_days(before=int(known.block_ns[-1]) // DAY_NS)

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
        day = str(day_of(number * DAY_NS))
        twaps = self._twaps.setdefault(day, set())
        twaps.update(np.unique(legs["twap"][legs["twap"] >= 0]).tolist())
        times = block_ns[legs["block"][[0, -1]]] // 10**6
        counts = {
            "rows": np.ones(len(legs["block"]), bool),
            "trades": legs["first"],
            "single_leg_tids": legs["single"],
            "self_trades": legs["self_trade"],
            "dust_rows": legs["dir"] == DUST_DIR,
            "twap_rows": legs["twap"] >= 0,
            "liquidation_rows": legs["liquidated"] >= 0,
            "non_market_rows": legs["dir"] >= FIRST_NON_MARKET_DIR,
            "unknown_dir_rows": legs["dir"] == UNKNOWN_DIR,
            "unknown_field_rows": (legs["extra"] > 0) & (legs["extra"] != NO_TWAP_KEY),
            "missing_twap_key_rows": legs["extra"] == NO_TWAP_KEY,
        }
        before = self._days.get(day, {})
        self._days[day] = {name: before.get(name, 0) + int(np.count_nonzero(hit)) for name, hit in counts.items()}
        first = before.get("first_time_ms", int(times[0]))
        self._days[day] |= {"twaps": len(twaps), "first_time_ms": first, "last_time_ms": int(times[1])}

    def _write_days(self, before: int) -> None:
        done = self._sums.filter(pl.col("date") < before)
        self._sums = self._sums.filter(pl.col("date") >= before)
        keys = ["date", "coin", "wallet", "fee_token"]
        self._append_sums("fills", done.drop("fee_token").group_by(keys[:3]).sum(), keys[:3])
        self._append_sums("fees", done.filter(pl.col("fee_token") >= 0).select(*keys, "rows", "fee_sum"), keys)

    def _append_sums(self, name: str, frame: pl.DataFrame, keys: list[str]) -> None:
        names = {"coin": self._world.coins, "wallet": self._world.wallets, "fee_token": self._world.tokens}
        frame = frame.with_columns(
            pl.col("date").cast(pl.Date), *(pl.Series(key, names[key].astype(str))[frame[key]] for key in keys[1:])
        ).with_columns(wallet="0x" + pl.col("wallet"))
        self.append(name, frame.sort(keys).to_arrow(compat_level=pl.CompatLevel.oldest()))

    def append(self, name: str, table: pa.Table) -> None:
        """Add rows to the file `name`.parquet, which exists when everything is written."""
        if name not in self._writers:
            self._writers[name] = pq.ParquetWriter(self._path(name, ".part"), table.schema, compression="zstd")
        self._writers[name].write_table(table)


def _sum(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("date", "coin", "wallet", "fee_token").sum()


def _rows_to_sum(legs: Legs, day: Ints) -> pl.DataFrame:
    """Return a row per fill with the columns of `fills.parquet`, with numbers instead of names."""
    px, sz, builder_fee = legs["px"], legs["sz"], legs["builder_fee"]
    tid = np.where(legs["source"] == SOURCES.index(TRADES), 0, legs["tid"])
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
        | {name: pl.Series(exact(column, column >> 63, 10)) for name, column in sums.items()}
        | {"notional_sum": pl.Series(_product(px, sz))}
        | {name: pl.Series(exact(column, column >> 63, 0)) for name, column in (("tid_sum", tid), ("oid_sum", legs["oid"]))}
    )


def exact(low: Ints, high: Ints, scale: int, there: Bools | None = None) -> pa.Array:
    """Return the 128-bit integers high · 2^64 + low (low unsigned) as Decimal(38, scale), null where `there` is false."""
    words = np.stack([low, high], axis=1)
    valid = None if there is None else pa.py_buffer(np.packbits(there, bitorder="little"))
    return pa.Decimal128Array.from_buffers(pa.decimal128(38, scale), len(words), [valid, pa.py_buffer(words)])


def _product(a: Ints, b: Ints) -> pa.Array:
    """Return a · b of non-negative numbers in units of 1e-10, in 128 bits."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    x, y = a.astype(np.uint64), b.astype(np.uint64)
    cross, other = (x >> half) * (y & mask), (x & mask) * (y >> half)
    carry = (((x & mask) * (y & mask)) >> half) + (cross & mask) + (other & mask)
    high = (x >> half) * (y >> half) + (cross >> half) + (other >> half) + (carry >> half)
    return exact((x * y).view(np.int64), high.view(np.int64), 20)
