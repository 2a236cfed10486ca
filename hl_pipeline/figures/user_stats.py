"""What each wallet did on a day: partial figures of each hour, merged. Pure.

A change of what a partial holds is a new `lake_partials.PARTIALS_VERSION`. Columns: `docs/reference/tables-statistics.md`.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hl_pipeline.figures.fees import FEES_TYPE, add_fees, fee_in_quote, fee_summands, fees_by_token
from hl_pipeline.figures.trades import NOTIONAL, is_market, notional, summable, sums_known, value_where
from hl_pipeline.formats.fills import PRICE_TYPE

USER_STATS_COLUMNS = (
    *(
        "time",
        "coin",
        "wallet",
        "side",
        "px",
        "sz",
        "dir",
        "crossed",
        "closed_pnl",
        "fee",
        "fee_token",
        "tid",
        "twap_id",
        "object",
    ),
)
"""The columns of fills that `user_partial` needs."""

_SUMS = {
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
_TIME = pl.Datetime("ms", "UTC")

USER_PARTIAL_SCHEMA = {
    "wallet": pl.String(),
    **_SUMS,
    "first_fill": _TIME,
    "last_fill": _TIME,
    "fees": FEES_TYPE,
    "coins": pl.List(pl.String()),
    "twap_ids": pl.List(pl.Int64()),
    "sources": pl.List(pl.String()),
}
"""One row a wallet; the lists are distinct: coins that it traded, its TWAPs, the datasets."""

USER_STATS_SCHEMA = {
    "wallet": pl.String(),
    **_SUMS,
    "coins": pl.Int64(),
    "twaps": pl.Int64(),
    "first_fill": _TIME,
    "last_fill": _TIME,
    "fees": pl.String(),
    "sources": pl.List(pl.String()),
}
"""One row a wallet; `fees` is a JSON object, token to decimal string. A sum over an unknown is NULL."""


def user_partial(hour: pl.DataFrame) -> pl.DataFrame:
    """What an hour of fills (USER_STATS_COLUMNS) adds to its day: USER_PARTIAL_SCHEMA."""
    rows = _summands(hour)
    # By coin and token first: one pass over the fills gives the sums, the coins and the fees.
    parts = rows.group_by("wallet", "coin", "fee_token").agg(
        *sums_known(rows, _SUMS), pl.col("fee", "unknown").sum(), first_fill=pl.col("time").min(), last_fill=pl.col("time").max()
    )
    by_token = parts.group_by("wallet", "fee_token").agg(pl.col("fee", "unknown").sum())
    lists = (
        by_token.group_by("wallet").agg(fees_by_token()),
        _list(parts.filter(pl.col("fills") > 0), "coin", "coins"),
        _list(rows.select("wallet", "twap_id").drop_nulls(), "twap_id", "twap_ids"),
        _list(rows, "object", "sources"),
    )
    partial = parts.group_by("wallet").agg(*sums_known(parts, _SUMS), pl.col("first_fill").min(), pl.col("last_fill").max())
    for column in lists:
        partial = partial.join(column, on="wallet", how="left")
    sources = pl.col("sources").list.eval(pl.element().str.split("/").list.first().unique())
    partial = partial.with_columns(sources, pl.col("coins", "twap_ids").fill_null([]))
    return partial.select(pl.col(name).cast(dtype) for name, dtype in USER_PARTIAL_SCHEMA.items())


def _list(rows: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    """The distinct values of a column by wallet. Within groups this takes twice as long."""
    return rows.select("wallet", column).unique().group_by("wallet").agg(pl.col(column).alias(name))


def merge_user(partials: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The figures of a day (USER_STATS_SCHEMA, by wallet) from those of its hours (`user_partial`) in their order."""
    parts = pl.concat([pl.DataFrame(schema=USER_PARTIAL_SCHEMA), *partials])
    together = parts.group_by("wallet").agg(*sums_known(parts, _SUMS), pl.col("first_fill").min(), pl.col("last_fill").max())
    coins, twap_ids, sources = (
        parts.select("wallet", name).explode(name).drop_nulls().unique().group_by("wallet")
        for name in ("coins", "twap_ids", "sources")
    )
    together = (
        add_fees(together, parts, "wallet")
        .join(coins.agg(coins=pl.len()), on="wallet", how="left")
        .join(twap_ids.agg(twaps=pl.len()), on="wallet", how="left")
        .join(sources.agg(pl.col("sources").sort()), on="wallet", how="left")
        .with_columns(pl.col("coins", "twaps").fill_null(0))
    )
    return together.sort("wallet").select(pl.col(name).cast(dtype) for name, dtype in USER_STATS_SCHEMA.items())


def _summands(hour: pl.DataFrame) -> pl.DataFrame:
    """The fills with columns that are summed: within a group an expression takes twice as long."""
    market = pl.col("market")
    rows = hour.with_columns(market=is_market(), is_maker=~pl.col("crossed"), fees_in_quote=fee_in_quote(hour)).with_columns(
        fills=market.cast(pl.Int64), notional=pl.when(market).then(notional()).otherwise(0).cast(NOTIONAL)
    )
    return rows.with_columns(
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
