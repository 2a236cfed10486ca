"""Counts and sums of an hour of fills, to compare lake and database and to check the hour. Pure."""

from __future__ import annotations

import polars as pl

from hl_pipeline.domain.deduplicate import LEG_KEY, may_repeat
from hl_pipeline.domain.tallies import HourTally, HourTotals
from hl_pipeline.figures.trades import TRADE_KEY, is_market, legs_outside_trades, runs_of
from hl_pipeline.formats.fills import FILL_KEY, SUMMED_BELOW

TALLY_COLUMNS = (*FILL_KEY, "sz", "oid", "counterparty_oid", "twap_id", "dir")
"""The columns of fills that `total_hour` and `tally_hour` need."""


def total_hour(fills: pl.DataFrame) -> HourTotals:
    """Return the totals of an hour of fills (TALLY_COLUMNS, at least one row), as `warehouse.hour_totals` does for hl.fills."""
    # The database also leaves out sizes that are too large to add up. Sums of order ids exceed 64 bits.
    sz = pl.col("sz").filter(pl.col("sz") < SUMMED_BELOW).sum()
    oids = pl.col("oid").cast(pl.Int128).sum().cast(pl.Decimal(38, 0))
    return HourTotals(*fills.select(pl.len(), sz, oids, pl.count("twap_id")).row(0))


def tally_hour(fills: pl.DataFrame) -> HourTally:
    """Return the counts to be checked for an hour of fills (TALLY_COLUMNS)."""
    # With a tid, the orders are not part of the key.
    without_tid = [pl.when(pl.col("tid").is_null()).then(pl.col(name)) for name in LEG_KEY[4:]]
    candidates = may_repeat(fills, (*FILL_KEY, *LEG_KEY[4:]))
    repeated = candidates.height - candidates.select(*FILL_KEY, *without_tid).unique().height
    legs = fills.filter(is_market()).select("time", "coin", "tid", "oid", "counterparty_oid", "side")
    runs = runs_of(legs)
    trades = runs.filter("is_trade")
    sides = legs["side"]
    is_single = trades["first"] == trades["last"]
    same_side = sides.gather(trades["first"]) == sides.gather(trades["last"])
    others = legs_outside_trades(legs, runs).group_by(*TRADE_KEY)
    others = others.agg(pl.len().alias("legs"), (pl.col("side") == "B").sum().alias("buys"))
    is_pair = (pl.col("legs") == 2) & (pl.col("buys") == 1)
    return HourTally(
        rows=fills.height,
        repeated=repeated,
        trades=trades.height + others.height,
        single_legs=int(is_single.sum()) + others.filter(pl.col("legs") == 1).height,
        not_a_pair=int((same_side & ~is_single).sum()) + others.filter((pl.col("legs") > 1) & ~is_pair).height,
    )
