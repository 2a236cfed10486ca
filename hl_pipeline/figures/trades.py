"""Trades from fills: what counts as a trade, its price, size and taker. Pure: one hour of fills in, its trades out.

A trade is one (time, coin, tid) with a tid other than 0. Without a tid, the two orders that met identify it. Its price and size
come from the taker's leg, or from its only leg. Both legs have the same time, so a trade is always within one hour.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import polars as pl

from hl_pipeline.formats.fills import SUMMED_BELOW

TRADE_COLUMNS = (
    *("time", "coin", "wallet", "side", "px", "sz", "dir", "crossed", "oid", "counterparty_oid", "tid", "twap_id"),
    *("builder", "builder_fee", "liquidated_user", "liquidation_mark_px", "liquidation_method", "extra", "object"),
)
"""The columns of fills that `trades_of` needs."""

NO_TRADE_DIRS = ("Spot Dust Conversion", "Net Child Vaults", "Settlement")
NO_TRADE_BEGINNINGS = ("Split ", "Merge ", "Negate ")
_POOR_SOURCE = "node_trades/"

TRADE_KEY = (
    pl.col("time"),
    pl.col("coin"),
    pl.col("tid"),
    pl.when(pl.col("tid").is_null()).then(pl.min_horizontal("oid", "counterparty_oid")).alias("low_oid"),
    pl.when(pl.col("tid").is_null()).then(pl.max_horizontal("oid", "counterparty_oid")).alias("high_oid"),
)
"""The values that the legs of a trade share with each other and with no other trade."""

LARGEST_PRODUCT = 10.0**12
"""Products from here on are NULL: no fill is worth this much, and no sum of a day could hold it."""
NOTIONAL = pl.Decimal(38, 20)


def is_market() -> pl.Expr:
    """Return whether a fill is a leg of a trade. Dust conversions, settlements, splits and the like are only bookings."""
    is_booking = pl.col("dir").is_in(NO_TRADE_DIRS)
    for beginning in NO_TRADE_BEGINNINGS:
        is_booking |= pl.col("dir").str.starts_with(beginning)
    return ~is_booking.fill_null(value=False) & (pl.col("tid").is_null() | (pl.col("tid") != 0))


def is_poor() -> pl.Expr:
    """Return whether a fill comes from `node_trades`, which has no fee, pnl, dir, builder or liquidation."""
    return pl.col("object").str.starts_with(_POOR_SOURCE)


def has_builder() -> pl.Expr:
    """Return whether a fill came through a builder. Some sources have only the builder's fee. NULL if the source has neither."""
    return pl.when(~is_poor()).then(_has("builder", "builder", "builder_fee"))


def is_liquidation() -> pl.Expr:
    """Return whether a fill is a leg of a liquidation, any field of which may be missing. NULL if the source has none."""
    return pl.when(~is_poor()).then(_has("liquidation", "liquidated_user", "liquidation_mark_px", "liquidation_method"))


def _has(field: str, *columns: str) -> pl.Expr:
    """Return whether a fill has an optional field, in one of its columns or in `extra`.

    The field is in `extra` if the columns cannot hold all of it.
    """

    def is_kept(extra: str) -> bool:
        return json.loads(extra).get(field) not in (None, False)

    # polars' own JSON path returns NULL for some valid numbers and characters.
    named = pl.when(pl.col("extra").str.contains(f'"{field}":', literal=True)).then(pl.col("extra"))
    kept = named.map_elements(is_kept, return_dtype=pl.Boolean).fill_null(value=False)
    return pl.any_horizontal(*(pl.col(column).is_not_null() for column in columns), kept)


def notional() -> pl.Expr:
    """Return px * sz, exact."""
    return product(pl.col("px"), pl.col("sz"))


def product(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Multiply two Decimal(38,10). Returns an exact Decimal(38,20), or NULL from LARGEST_PRODUCT on."""
    fits = (a.cast(pl.Float64) * b.cast(pl.Float64)).abs() < LARGEST_PRODUCT
    # Mask large values first: polars raises an error for a product that does not fit.
    exact = pl.when(fits & (a.abs() < SUMMED_BELOW)).then(a).cast(NOTIONAL) * pl.when(fits).then(b)
    return pl.when((a == 0) | (b == 0)).then(0).otherwise(exact).cast(NOTIONAL)


def summable(name: str) -> pl.Expr:
    """Return a column of decimals, with NULL for values too large for an exact sum of a day (from 1e18 on)."""
    return pl.when(pl.col(name).abs() < SUMMED_BELOW).then(pl.col(name))


def sums_known(rows: pl.DataFrame, names: Iterable[str]) -> list[pl.Expr]:
    """Return the sums of columns within groups of `rows`. A sum is NULL if any of the group's values is unknown."""
    # Count unknown values per group only if there are any: counting takes as long as the sums.
    return [
        pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name) if rows[name].null_count() else pl.sum(name)
        for name in names
    ]


def value_where(rows: pl.DataFrame, condition: str, value: str) -> pl.Expr:
    """Return the value where the condition (a column) is true, 0 where it is false, and NULL where it is NULL.

    A value of 0 is 0 whatever the condition.
    """
    held = pl.when(condition).then(value)
    # Usually every condition is known, and this takes a quarter of the time.
    if not rows[condition].null_count():
        return held.otherwise(0)
    return held.when(~pl.col(condition) | (pl.col(value) == 0)).then(0)


def trades_of(fills: pl.DataFrame) -> pl.DataFrame:
    """Return one row per trade, in the order of the fills (TRADE_COLUMNS of one hour, sorted by time).

    Columns: `time`, `coin`, `px`, `sz`, `notional` (Decimal(38,20)), `taker_side` (NULL if unknown), `legs`, `has_twap`,
    `has_builder` and `is_liquidation` (both NULL if no source has the field).
    """
    legs = _legs_of(fills)
    # The legs of a trade are nearly always adjacent. Pairing adjacent legs takes a quarter of the time of grouping all by key.
    runs = runs_of(legs)
    trades = _trades_of_runs(legs, runs.filter("is_trade"))
    others = legs_outside_trades(legs, runs)
    if others.height:
        trades = pl.concat([trades, _trades_by_key(others)]).sort("place")
    other_side = pl.col("side").replace_strict({"A": "B", "B": "A"}, return_dtype=pl.String)
    takes = pl.col("crossed") | (pl.col("crossed").is_null() & pl.col("has_maker"))
    taker_side = pl.when(takes).then(pl.col("side")).when(~pl.col("crossed")).then(other_side)
    return trades.with_columns(notional=notional(), taker_side=taker_side, sz=summable("sz")).select(
        "time", "coin", "px", "sz", "notional", "taker_side", "legs", "has_twap", "has_builder", "is_liquidation"
    )


def _legs_of(fills: pl.DataFrame) -> pl.DataFrame:
    return (
        fills.with_row_index("place")
        .select(
            *("place", "time", "coin", "tid", "oid", "counterparty_oid", "px", "sz", "side", "crossed"),
            has_twap=pl.col("twap_id").is_not_null(),
            has_builder=has_builder(),
            is_liquidation=is_liquidation(),
            # The taker's leg comes first. A leg without `crossed` counts as the taker's if the other is the maker's.
            rank=pl.col("crossed").cast(pl.Float32).fill_null(0.5),
            is_market=is_market(),
        )
        .filter("is_market")
    )


def runs_of(legs: pl.DataFrame) -> pl.DataFrame:
    """Return the runs of adjacent legs with the same time, coin and tid: `first` and `last` row of each, and `is_trade`.

    `is_trade` holds for a run of one or two legs whose tid no other leg has.
    """
    begins = pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in ("tid", "time", "coin"))
    # With a NULL in the key, each leg is its own run, since nothing proves that two legs belong together.
    first = legs.select(first=pl.arg_where(begins.fill_null(value=True)))
    last = first.select(last=pl.col("first").shift(-1, fill_value=legs.height) - 1)
    tid = legs["tid"].gather(first["first"])
    is_trade = (last["last"] - first["first"] < 2) & tid.is_unique()
    return first.with_columns(last["last"], is_trade=is_trade)


def legs_outside_trades(legs: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Return the legs of the `runs` (from `runs_of`) that are not a trade by themselves."""
    others = runs.filter(~pl.col("is_trade")).select(pl.int_ranges("first", pl.col("last") + 1).explode(empty_as_null=False))
    return legs[others.to_series()]


def _trades_of_runs(legs: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Return what `_trades_by_key` returns for the same legs, if each run is a trade. A single leg is both first and last."""
    first, last = (
        legs.select("rank", "crossed", "has_twap", "has_builder", "is_liquidation")[runs[end]] for end in ("first", "last")
    )
    taker = runs.select(pl.when(last["rank"] > first["rank"]).then("last").otherwise("first")).to_series()
    return legs.select("place", "time", "coin")[runs["first"]].with_columns(
        *legs.select("px", "sz", "side", "crossed")[taker],
        has_maker=~(first["crossed"].fill_null(value=True) & last["crossed"].fill_null(value=True)),
        legs=runs["last"] - runs["first"] + 1,
        has_twap=first["has_twap"] | last["has_twap"],
        has_builder=first["has_builder"] | last["has_builder"],
        is_liquidation=pl.max_horizontal(first["is_liquidation"], last["is_liquidation"]),
    )


def _trades_by_key(legs: pl.DataFrame) -> pl.DataFrame:
    return (
        legs.with_columns(TRADE_KEY)
        .sort("rank", descending=True, maintain_order=True)
        .group_by("time", "coin", "tid", "low_oid", "high_oid")
        .agg(
            pl.col("place").min(),
            pl.col("px", "sz", "side", "crossed").first(),
            (~pl.col("crossed")).any().alias("has_maker"),
            pl.len().alias("legs"),
            pl.col("has_twap").any(),
            # One leg with a builder is enough. If no leg has one, an unknown leg makes the result unknown.
            pl.col("has_builder").any(ignore_nulls=False),
            # Both legs of a liquidation are marked, so one known leg is enough.
            pl.col("is_liquidation").max(),
        )
        .select(
            *("place", "time", "coin", "px", "sz", "side", "crossed"),
            *("has_maker", "legs", "has_twap", "has_builder", "is_liquidation"),
        )
    )
