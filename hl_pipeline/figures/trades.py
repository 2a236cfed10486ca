"""Trades from fills: what counts as one, its price and size, and who took. Pure: one hour of fills in, its trades out.

A trade is one (time, coin, tid) with a tid that is not 0; where no tid is known, the two orders that met. Its price and size are
those of the taker's leg, else of the only one. Both legs have the same time, so a trade is within one hour.
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
"""What the legs of a trade share, and no other trade."""

LARGEST_PRODUCT = 10.0**12
"""A product from here on is NULL: no fill is worth as much, and no sum of a day could hold it."""
NOTIONAL = pl.Decimal(38, 20)


def is_market() -> pl.Expr:
    """Whether a fill is a leg of a trade; dust, settlements, splits and the like are rows of the books alone."""
    is_booking = pl.col("dir").is_in(NO_TRADE_DIRS)
    for beginning in NO_TRADE_BEGINNINGS:
        is_booking |= pl.col("dir").str.starts_with(beginning)
    return ~is_booking.fill_null(value=False) & (pl.col("tid").is_null() | (pl.col("tid") != 0))


def is_poor() -> pl.Expr:
    """Whether a fill comes from `node_trades`, which knows no fee, pnl, dir, builder or liquidation."""
    return pl.col("object").str.starts_with(_POOR_SOURCE)


def has_builder() -> pl.Expr:
    """Whether a fill came through a builder; some sources say its fee alone. NULL: the source knows of none."""
    return pl.when(~is_poor()).then(_has("builder", "builder", "builder_fee"))


def is_liquidation() -> pl.Expr:
    """Whether a fill is a leg of a liquidation, each member of which may be missing. NULL: the source knows of none."""
    return pl.when(~is_poor()).then(_has("liquidation", "liquidated_user", "liquidation_mark_px", "liquidation_method"))


def _has(field: str, *columns: str) -> pl.Expr:
    """Whether a fill has an optional field: in one of its columns, or in `extra`, where it is when they cannot hold all of it."""

    def is_kept(extra: str) -> bool:
        return json.loads(extra).get(field) not in (None, False)

    # polars' own JSON path takes a number or a character that it cannot read for nothing.
    named = pl.when(pl.col("extra").str.contains(f'"{field}":', literal=True)).then(pl.col("extra"))
    kept = named.map_elements(is_kept, return_dtype=pl.Boolean).fill_null(value=False)
    return pl.any_horizontal(*(pl.col(column).is_not_null() for column in columns), kept)


def notional() -> pl.Expr:
    """px * sz, exact."""
    return product(pl.col("px"), pl.col("sz"))


def product(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """a * b of Decimal(38,10), exact in Decimal(38,20); NULL from LARGEST_PRODUCT on."""
    fits = (a.cast(pl.Float64) * b.cast(pl.Float64)).abs() < LARGEST_PRODUCT
    # What is not wanted is masked before: a product that does not fit is an error, not a NULL.
    exact = pl.when(fits & (a.abs() < SUMMED_BELOW)).then(a).cast(NOTIONAL) * pl.when(fits).then(b)
    return pl.when((a == 0) | (b == 0)).then(0).otherwise(exact).cast(NOTIONAL)


def summable(name: str) -> pl.Expr:
    """A column of decimals, NULL where a value is too large for a sum of a day to be exact (from 1e18 on)."""
    return pl.when(pl.col(name).abs() < SUMMED_BELOW).then(pl.col(name))


def sums_known(rows: pl.DataFrame, names: Iterable[str]) -> list[pl.Expr]:
    """The sums of columns within groups of `rows`; NULL when one of a group's values is unknown."""
    # To count what is unknown in each group takes as long as the sums.
    return [
        pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name) if rows[name].null_count() else pl.sum(name)
        for name in names
    ]


def value_where(rows: pl.DataFrame, condition: str, value: str) -> pl.Expr:
    """The value where the condition (a column) holds, else 0; NULL when nobody knows, though a value of 0 is 0 either way."""
    held = pl.when(condition).then(value)
    # Where all is known, as nearly always, a quarter of the time is enough.
    if not rows[condition].null_count():
        return held.otherwise(0)
    return held.when(~pl.col(condition) | (pl.col(value) == 0)).then(0)


def trades_of(fills: pl.DataFrame) -> pl.DataFrame:
    """One row a trade, in the order of the fills (TRADE_COLUMNS, one hour, in the order of time).

    `time`, `coin`, `px`, `sz`, `notional` (Decimal(38,20)), `taker_side` (NULL: unknown), `legs`, `has_twap`, `has_builder` and
    `is_liquidation` (NULL: no source knows).
    """
    legs = _legs_of(fills)
    # The legs of a trade nearly always stand side by side. Reading these off takes a quarter of the time of grouping all by key.
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
            # The taker's leg first; beside a maker's, a leg that does not say what it is takes.
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
    # Where one is NULL each leg is a run: then nothing is known to be the same.
    first = legs.select(first=pl.arg_where(begins.fill_null(value=True)))
    last = first.select(last=pl.col("first").shift(-1, fill_value=legs.height) - 1)
    tid = legs["tid"].gather(first["first"])
    is_trade = (last["last"] - first["first"] < 2) & tid.is_unique()
    return first.with_columns(last["last"], is_trade=is_trade)


def legs_outside_trades(legs: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """The legs in `runs` (`runs_of`) that are no trade by themselves."""
    others = runs.filter(~pl.col("is_trade")).select(pl.int_ranges("first", pl.col("last") + 1).explode(empty_as_null=False))
    return legs[others.to_series()]


def _trades_of_runs(legs: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """What `_trades_by_key` returns of the same legs, where each run is a trade; one leg alone is first and last of its run."""
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
            # One leg with a builder is enough; without one, a leg that nobody knows could have one.
            pl.col("has_builder").any(ignore_nulls=False),
            # Both legs of a liquidation say so.
            pl.col("is_liquidation").max(),
        )
        .select(
            *("place", "time", "coin", "px", "sz", "side", "crossed"),
            *("has_maker", "legs", "has_twap", "has_builder", "is_liquidation"),
        )
    )
