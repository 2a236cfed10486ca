"""Sums of an hour of fills by wallet, coin and fee token. `daily_stats` and `user_stats` are built from them. Pure."""

from __future__ import annotations

import polars as pl

from hl_pipeline.figures.fees import fee_in_quote, fee_summands
from hl_pipeline.figures.trades import NOTIONAL, is_market, notional, summable, sums_known, value_where
from hl_pipeline.formats.fills import PRICE_TYPE

SUM_COLUMNS = (
    *("time", "coin", "wallet", "side", "px", "sz", "dir", "crossed", "closed_pnl", "fee", "fee_token", "tid"),
    *("twap_id", "object"),
)
"""The columns of fills that `sums_of` and the lists of `user_stats` need."""

SUMS = {
    "fills": pl.Int64(),
    "non_market_rows": pl.Int64(),
    "maker_fills": pl.Int64(),
    "taker_fills": pl.Int64(),
    "maker_notional": NOTIONAL,
    "taker_notional": NOTIONAL,
    "closed_pnl": PRICE_TYPE,
    "closed_pnl_known": pl.Int64(),
    "fees_known": pl.Int64(),
    "fees_in_quote": NOTIONAL,
}
"""The summed columns. A sum that includes an unknown value is NULL."""


def sums_of(fills: pl.DataFrame) -> pl.DataFrame:
    """Sum an hour of fills (SUM_COLUMNS): one row per wallet, coin and fee token.

    The columns are SUMS, those that `fees_by_token` needs, `first_fill` and `last_fill`.
    """
    rows = _summands(fills)
    return rows.group_by("wallet", "coin", "fee_token").agg(
        *sums_known(rows, SUMS), pl.col("fee", "unknown").sum(), first_fill=pl.col("time").min(), last_fill=pl.col("time").max()
    )


def _summands(fills: pl.DataFrame) -> pl.DataFrame:
    """Return the fills with a column for each sum, since an expression within a group takes twice as long."""
    market = pl.col("market")
    rows = fills.select(
        *("wallet", "coin", "fee_token", "fee", "time", "crossed", "closed_pnl", "px", "sz"),
        market=is_market(),
        is_maker=~pl.col("crossed"),
        fees_in_quote=fee_in_quote(fills),
    ).with_columns(fills=market.cast(pl.Int64), notional=pl.when(market).then(notional()).otherwise(0).cast(NOTIONAL))
    return rows.select(
        *("wallet", "coin", "fee_token", "time", "fills", "fees_in_quote"),
        non_market_rows=1 - pl.col("fills"),
        maker_fills=value_where(rows, "is_maker", "fills"),
        taker_fills=value_where(rows, "crossed", "fills"),
        maker_notional=value_where(rows, "is_maker", "notional"),
        taker_notional=value_where(rows, "crossed", "notional"),
        closed_pnl=summable("closed_pnl"),
        closed_pnl_known=pl.col("closed_pnl").is_not_null().cast(pl.Int64),
        fees_known=pl.col("fee").is_not_null().cast(pl.Int64),
        **fee_summands(),
    )
