"""What each wallet did on a day: partial figures of each hour, merged. Pure.

A change of what a partial holds is a new `lake_partials.PARTIALS_VERSION`. `docs/data-model.md` says what each column means.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hl_pipeline.figures.fees import FEES_TYPE, add_fees, fee_in_quote, fees_by_token, known_count
from hl_pipeline.figures.trades import NOTIONAL, is_market, notional, sum_known, summable
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
    source = pl.col("object").str.split("/").list.first()
    rows = hour.with_columns(market=is_market(), source=source, in_quote=fee_in_quote(hour))
    return (
        _sum_rows(rows)
        .join(fees_by_token(hour, "wallet"), on="wallet", how="left")
        .select(pl.col(name).cast(dtype) for name, dtype in USER_PARTIAL_SCHEMA.items())
    )


def merge_user(partials: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The figures of a day (USER_STATS_SCHEMA, by wallet) from those of its hours (`user_partial`) in their order."""
    parts = pl.concat([pl.DataFrame(schema=USER_PARTIAL_SCHEMA), *partials])
    together = parts.group_by("wallet").agg(
        *(sum_known(pl.col(name)).alias(name) for name in _SUMS), pl.col("first_fill").min(), pl.col("last_fill").max()
    )
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


def _sum_rows(rows: pl.DataFrame) -> pl.DataFrame:
    market, crossed = pl.col("market"), pl.col("crossed")
    value = pl.when(market).then(notional()).otherwise(0).cast(NOTIONAL)

    def where(condition: pl.Expr, of: str) -> pl.Expr:
        return pl.when(condition | ~market).then(of).when(~condition | (pl.col(of) == 0)).then(0)

    # What is summed stands in columns first: within a group an expression takes twice as long.
    rows = rows.with_columns(is_fill=market.cast(pl.Int64), value=value).with_columns(
        maker_fills=where(~crossed, "is_fill"),
        taker_fills=where(crossed, "is_fill"),
        maker_notional=where(~crossed, "value"),
        taker_notional=where(crossed, "value"),
        pnl=summable("closed_pnl"),
    )
    return rows.group_by("wallet").agg(
        fills=pl.col("is_fill").sum(),
        non_market_rows=(~market).sum().cast(pl.Int64),
        maker_fills=sum_known(pl.col("maker_fills")),
        taker_fills=sum_known(pl.col("taker_fills")),
        maker_notional=sum_known(pl.col("maker_notional")),
        taker_notional=sum_known(pl.col("taker_notional")),
        closed_pnl=sum_known(pl.col("pnl")),
        closed_pnl_known=known_count("closed_pnl"),
        fees_known=known_count("fee"),
        fees_in_quote=sum_known(pl.col("in_quote")),
        first_fill=pl.col("time").min(),
        last_fill=pl.col("time").max(),
        coins=pl.col("coin").filter(market).unique(),
        twap_ids=pl.col("twap_id").drop_nulls().unique(),
        sources=pl.col("source").unique(),
    )
