"""One-minute candles from trades. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hl_pipeline.figures.trades import NOTIONAL, sums_known
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
"""`time`: start of the minute (UTC). `volume` is in the coin, `notional` in its quote. Minutes without trades have no row."""


def candles_of(trades: pl.DataFrame) -> pl.DataFrame:
    """Return the candles (CANDLE_SCHEMA) of an hour's trades (from `trades_of`, in order), sorted by coin and minute."""
    return (
        trades.group_by("coin", pl.col("time").dt.truncate("1m"))
        .agg(
            *sums_known(trades, ("sz", "notional")),
            open=pl.col("px").first(),
            high=pl.col("px").max(),
            low=pl.col("px").min(),
            close=pl.col("px").last(),
            trades=pl.len(),
        )
        .rename({"sz": "volume"})
        .sort("coin", "time")
        .select(pl.col(name).cast(dtype) for name, dtype in CANDLE_SCHEMA.items())
    )


def merge_candles(hours: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return the candles of a day (CANDLE_SCHEMA) from those of its hours (`candles_of`), in their order."""
    return pl.concat([pl.DataFrame(schema=CANDLE_SCHEMA), *hours])
