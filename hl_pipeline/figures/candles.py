"""Candles of a minute from trades. Pure."""

from __future__ import annotations

import polars as pl

from hl_pipeline.figures.trades import NOTIONAL, sum_known
from hl_pipeline.formats.fills import PRICE_TYPE

CANDLE_SCHEMA = {
    "coin": pl.String(),
    "time": pl.Datetime("ms", "UTC"),
    "open": PRICE_TYPE,
    "high": PRICE_TYPE,
    "low": PRICE_TYPE,
    "close": PRICE_TYPE,
    "volume": PRICE_TYPE,
    "notional": NOTIONAL,
    "trades": pl.Int64(),
}
"""`time`: the minute's beginning (UTC); `volume` in the coin, `notional` in its quote; minutes without trades are left out."""


def candles_of(trades: pl.DataFrame) -> pl.DataFrame:
    """The candles (CANDLE_SCHEMA) of an hour's trades (`trades_of`, in their order), by coin and minute."""
    return (
        trades.group_by("coin", pl.col("time").dt.truncate("1m"))
        .agg(
            open=pl.col("px").first(),
            high=pl.col("px").max(),
            low=pl.col("px").min(),
            close=pl.col("px").last(),
            volume=sum_known(pl.col("sz")),
            notional=sum_known(pl.col("notional")),
            trades=pl.len(),
        )
        .sort("coin", "time")
        .select(pl.col(name).cast(dtype) for name, dtype in CANDLE_SCHEMA.items())
    )
