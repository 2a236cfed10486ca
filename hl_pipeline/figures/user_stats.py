"""What each wallet did on a day: partial figures of each hour, merged. Pure.

`docs/data-model.md` says what each column means.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hl_pipeline.figures.fees import FEES_SCHEMA, add_fees, fees_by_token, known_count
from hl_pipeline.figures.trades import NOTIONAL, is_market, notional, sum_known, summable
from hl_pipeline.formats.fills import PRICE_TYPE

USER_STATS_COLUMNS = (
    *("time", "coin", "wallet", "px", "sz", "dir", "crossed", "closed_pnl", "fee", "fee_token", "tid", "twap_id", "object"),
)
"""The columns of fills that `user_stats_of` needs."""

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
}
_TIME = pl.Datetime("ms", "UTC")

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


def user_stats_of(hours: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The figures of a day (USER_STATS_SCHEMA, by wallet) from its hours of fills (USER_STATS_COLUMNS) in their order."""
    sums: list[pl.DataFrame] = []
    fees: list[pl.DataFrame] = [pl.DataFrame(schema={"wallet": pl.String(), **FEES_SCHEMA})]
    distinct: dict[str, list[pl.DataFrame]] = {"coin": [], "twap_id": [], "source": []}
    for hour in hours:
        rows = hour.with_columns(market=is_market(), source=pl.col("object").str.split("/").list.first())
        sums.append(_sum_rows(rows))
        fees.append(fees_by_token(hour, "wallet"))
        distinct["coin"].append(rows.filter("market").select("wallet", "coin").unique())
        distinct["twap_id"].append(rows.filter(pl.col("twap_id").is_not_null()).select("wallet", "twap_id").unique())
        distinct["source"].append(rows.select("wallet", "source").unique())
    if not sums:
        return pl.DataFrame(schema=USER_STATS_SCHEMA)
    together = (
        pl.concat(sums)
        .group_by("wallet")
        .agg(*(sum_known(pl.col(name)).alias(name) for name in _SUMS), pl.col("first_fill").min(), pl.col("last_fill").max())
    )
    merged = {name: pl.concat(parts).unique().sort(name).group_by("wallet") for name, parts in distinct.items()}
    together = (
        add_fees(together, pl.concat(fees), "wallet")
        .join(merged["coin"].agg(coins=pl.len()), on="wallet", how="left")
        .join(merged["twap_id"].agg(twaps=pl.len()), on="wallet", how="left")
        .join(merged["source"].agg(sources=pl.col("source").sort()), on="wallet", how="left")
        .with_columns(pl.col("coins", "twaps").fill_null(0))
    )
    return together.sort("wallet").select(pl.col(name).cast(dtype) for name, dtype in USER_STATS_SCHEMA.items())


def _sum_rows(rows: pl.DataFrame) -> pl.DataFrame:
    market, crossed = pl.col("market"), pl.col("crossed")
    value = pl.when(market).then(notional()).otherwise(0).cast(NOTIONAL)

    def where(condition: pl.Expr, of: pl.Expr) -> pl.Expr:
        return sum_known(pl.when(condition | ~market).then(of).when(~condition).then(0))

    is_fill = market.cast(pl.Int64)
    return rows.group_by("wallet").agg(
        fills=is_fill.sum(),
        non_market_rows=(~market).sum().cast(pl.Int64),
        maker_fills=where(~crossed, is_fill),
        taker_fills=where(crossed, is_fill),
        maker_notional=where(~crossed, value),
        taker_notional=where(crossed, value),
        closed_pnl=sum_known(summable("closed_pnl")),
        closed_pnl_known=known_count("closed_pnl"),
        fees_known=known_count("fee"),
        first_fill=pl.col("time").min(),
        last_fill=pl.col("time").max(),
    )
