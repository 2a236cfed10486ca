"""What happened in each coin on a day: partial figures of each hour, merged. Pure.

A change of what a partial holds is a new `lake_partials.PARTIALS_VERSION`. `docs/data-model.md` says what each column means.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hl_pipeline.figures.coins import kind_of
from hl_pipeline.figures.fees import FEES_TYPE, add_fees, fee_in_quote, fees_by_token, known_count
from hl_pipeline.figures.trades import NOTIONAL, TRADE_COLUMNS, is_market, sum_known, trades_of
from hl_pipeline.formats.fills import PRICE_TYPE

DAILY_STATS_COLUMNS = (*TRADE_COLUMNS, "fee", "fee_token")
"""The columns of fills that `daily_partial` needs."""

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
"""One row a coin; of one without trades `trades` and what follows from them is NULL, `wallets` too."""

DAILY_STATS_SCHEMA = {
    "coin": pl.String(),
    "kind": pl.String(),
    **_ROW_SUMS,
    **_SUMS,
    "wallets": pl.Int64(),
    **_PRICES,
    "fees": pl.String(),
}
"""One row a coin; `fees` is a JSON object, token to decimal string. A sum over an unknown is NULL."""


def daily_partial(hour: pl.DataFrame) -> pl.DataFrame:
    """What an hour of fills (DAILY_STATS_COLUMNS) adds to its day: DAILY_PARTIAL_SCHEMA."""
    wallets = hour.filter(is_market()).group_by("coin").agg(wallets=pl.col("wallet").unique())
    return (
        _sum_rows(hour)
        .join(_sum_trades(trades_of(hour)), on="coin", how="left")
        .join(fees_by_token(hour, "coin"), on="coin", how="left")
        .join(wallets, on="coin", how="left")
        .select(pl.col(name).cast(dtype) for name, dtype in DAILY_PARTIAL_SCHEMA.items())
    )


def merge_daily(partials: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The figures of a day (DAILY_STATS_SCHEMA, by coin) from those of its hours (`daily_partial`) in their order."""
    parts = pl.concat([pl.DataFrame(schema=DAILY_PARTIAL_SCHEMA), *partials])
    rows = parts.group_by("coin").agg(sum_known(pl.col(name)).alias(name) for name in _ROW_SUMS)
    trades = (
        parts.filter(pl.col("trades").is_not_null())
        .group_by("coin", maintain_order=True)
        .agg(
            *(sum_known(pl.col(name)).alias(name) for name in _SUMS),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
        )
    )
    traders = parts.select("coin", wallet=pl.col("wallets")).explode("wallet").drop_nulls().unique()
    traders = traders.group_by("coin").agg(wallets=pl.len())
    together = rows.join(trades, on="coin", how="left").join(traders, on="coin", how="left")
    # A coin of bookings alone has no trades: these are 0, not unknown.
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
    side, sz, notional = pl.col("taker_side"), pl.col("sz"), pl.col("notional")

    def where(condition: pl.Expr, value: pl.Expr | None = None) -> pl.Expr:
        """The sum over the trades of which `condition` holds (their number without a value); NULL when of one nobody knows.

        A value of 0 adds nothing whether it holds or not.
        """
        counted = (
            condition.cast(pl.Int64) if value is None else pl.when(condition).then(value).when(~condition | (value == 0)).then(0)
        )
        return sum_known(counted)

    return (
        trades.group_by("coin", maintain_order=True)
        .agg(
            trades=pl.len().cast(pl.Int64),
            volume=sum_known(sz),
            notional=sum_known(notional),
            buys=where(side == "B"),
            sells=where(side == "A"),
            buy_volume=where(side == "B", sz),
            sell_volume=where(side == "A", sz),
            buy_notional=where(side == "B", notional),
            sell_notional=where(side == "A", notional),
            liquidations=where(pl.col("is_liquidation")),
            liquidation_notional=where(pl.col("is_liquidation"), notional),
            twap_volume=where(pl.col("has_twap"), sz),
            twap_notional=where(pl.col("has_twap"), notional),
            builder_volume=where(pl.col("has_builder"), sz),
            builder_notional=where(pl.col("has_builder"), notional),
            open=pl.col("px").first(),
            high=pl.col("px").max(),
            low=pl.col("px").min(),
            close=pl.col("px").last(),
        )
        .select("coin", *(pl.col(name).cast(dtype) for name, dtype in (_SUMS | _PRICES).items()))
    )


def _sum_rows(fills: pl.DataFrame) -> pl.DataFrame:
    return (
        fills.with_columns(market=is_market(), in_quote=fee_in_quote(fills))
        .group_by("coin")
        .agg(
            fills=pl.col("market").sum().cast(pl.Int64),
            non_market_rows=(~pl.col("market")).sum().cast(pl.Int64),
            fees_known=known_count("fee"),
            fees_in_quote=sum_known(pl.col("in_quote")),
        )
    )
