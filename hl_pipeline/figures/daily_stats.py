"""Daily statistics per coin, merged from partial figures of each hour. Pure.

If you change the content of a partial, raise `lake.partials.PARTIALS_VERSION`. Columns: `docs/reference/tables-statistics.md`.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hl_pipeline.figures.coins import kind_of
from hl_pipeline.figures.fees import FEES_TYPE, add_fees, fees_by_token
from hl_pipeline.figures.trades import NOTIONAL, sums_known, value_where
from hl_pipeline.formats.fills import PRICE_TYPE

_SUMS = {
    "trades": pl.Int64(),
    "volume": PRICE_TYPE,
    "notional": NOTIONAL,
    "buys": pl.Int64(),
    "sells": pl.Int64(),
    "buy_volume": PRICE_TYPE,
    "sell_volume": PRICE_TYPE,
    "buy_notional": NOTIONAL,
    "sell_notional": NOTIONAL,
    "liquidations": pl.Int64(),
    "liquidation_notional": NOTIONAL,
    "twap_volume": PRICE_TYPE,
    "twap_notional": NOTIONAL,
    "builder_volume": PRICE_TYPE,
    "builder_notional": NOTIONAL,
}
_ROW_SUMS = {"fills": pl.Int64(), "non_market_rows": pl.Int64(), "fees_known": pl.Int64(), "fees_in_quote": NOTIONAL}
_PRICES = dict.fromkeys(("open", "high", "low", "close"), PRICE_TYPE)

DAILY_PARTIAL_SCHEMA = {
    "coin": pl.String(),
    **_ROW_SUMS,
    **_SUMS,
    **_PRICES,
    "fees": FEES_TYPE,
    "wallets": pl.List(pl.String()),
}
"""One row per coin. For a coin without trades, `trades`, every figure derived from trades, and `wallets` are NULL."""

DAILY_STATS_SCHEMA = {
    "coin": pl.String(),
    "kind": pl.String(),
    **_ROW_SUMS,
    **_SUMS,
    "wallets": pl.Int64(),
    **_PRICES,
    "fees": pl.String(),
}
"""One row per coin. `fees` is a JSON object from token to decimal string. A sum that includes an unknown value is NULL."""


def daily_partial(sums: pl.DataFrame, trades: pl.DataFrame) -> pl.DataFrame:
    """Return an hour's contribution to its day (DAILY_PARTIAL_SCHEMA), from the results of `sums_of` and `trades_of`."""
    by_token = sums.group_by("coin", "fee_token").agg(*sums_known(sums, _ROW_SUMS), pl.col("fee", "unknown").sum())
    traders = sums.filter(pl.col("fills") > 0).select("coin", "wallet").unique()
    return (
        by_token.group_by("coin")
        .agg(*sums_known(by_token, _ROW_SUMS), fees_by_token())
        .join(_sum_trades(trades), on="coin", how="left")
        .join(traders.group_by("coin").agg(wallets="wallet"), on="coin", how="left")
        .select(pl.col(name).cast(dtype) for name, dtype in DAILY_PARTIAL_SCHEMA.items())
    )


def merge_daily(partials: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return the figures of a day (DAILY_STATS_SCHEMA, sorted by coin) from those of its hours (`daily_partial`), in order."""
    parts = pl.concat([pl.DataFrame(schema=DAILY_PARTIAL_SCHEMA), *partials])
    rows = parts.group_by("coin").agg(*sums_known(parts, _ROW_SUMS))
    traded = parts.filter(pl.col("trades").is_not_null())
    trades = traded.group_by("coin").agg(
        *sums_known(traded, _SUMS), pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last()
    )
    traders = parts.select("coin", wallet=pl.col("wallets")).explode("wallet").drop_nulls().unique()
    traders = traders.group_by("coin").agg(wallets=pl.len())
    together = rows.join(trades, on="coin", how="left").join(traders, on="coin", how="left")
    # A coin that has only bookings has no trades: its sums are 0, not unknown.
    nothing = pl.col("trades").is_null()
    together = together.with_columns(
        *(pl.when(nothing).then(0).otherwise(pl.col(name)).alias(name) for name in _SUMS), pl.col("wallets").fill_null(0)
    )
    return (
        add_fees(together, parts, "coin")
        .with_columns(kind=kind_of(pl.col("coin")))
        .sort("coin")
        .select(pl.col(name).cast(dtype) for name, dtype in DAILY_STATS_SCHEMA.items())
    )


def _sum_trades(trades: pl.DataFrame) -> pl.DataFrame:
    rows = trades.with_columns(is_buy=pl.col("taker_side") == "B", is_sell=pl.col("taker_side") == "A")
    # Compute the summands as columns first: an expression within a group takes twice as long.
    rows = rows.with_columns(
        trades=pl.lit(1, pl.Int64),
        volume="sz",
        buys=pl.col("is_buy").cast(pl.Int64),
        sells=pl.col("is_sell").cast(pl.Int64),
        buy_volume=value_where(rows, "is_buy", "sz"),
        sell_volume=value_where(rows, "is_sell", "sz"),
        buy_notional=value_where(rows, "is_buy", "notional"),
        sell_notional=value_where(rows, "is_sell", "notional"),
        liquidations=pl.col("is_liquidation").cast(pl.Int64),
        liquidation_notional=value_where(rows, "is_liquidation", "notional"),
        twap_volume=value_where(rows, "has_twap", "sz"),
        twap_notional=value_where(rows, "has_twap", "notional"),
        builder_volume=value_where(rows, "has_builder", "sz"),
        builder_notional=value_where(rows, "has_builder", "notional"),
    )
    px = pl.col("px")
    return rows.group_by("coin").agg(*sums_known(rows, _SUMS), open=px.first(), high=px.max(), low=px.min(), close=px.last())
