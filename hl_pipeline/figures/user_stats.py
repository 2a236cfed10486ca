"""Daily statistics per wallet, merged from partial figures of each hour. Pure.

If you change the content of a partial, raise `lake.partials.PARTIALS_VERSION`. Columns: `docs/reference/tables-statistics.md`.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hl_pipeline.figures.fees import FEES_TYPE, add_fees, fees_by_token
from hl_pipeline.figures.sums import SUMS
from hl_pipeline.figures.trades import sums_known

_TIME = pl.Datetime("ms", "UTC")

USER_PARTIAL_SCHEMA = {
    "wallet": pl.String(),
    **SUMS,
    "first_fill": _TIME,
    "last_fill": _TIME,
    "fees": FEES_TYPE,
    "coins": pl.List(pl.String()),
    "twap_ids": pl.List(pl.Int64()),
    "sources": pl.List(pl.String()),
}
"""One row per wallet. The lists have distinct values: the coins that it traded, its TWAPs, and the datasets of its fills."""

USER_STATS_SCHEMA = {
    "wallet": pl.String(),
    **SUMS,
    "coins": pl.Int64(),
    "twaps": pl.Int64(),
    "first_fill": _TIME,
    "last_fill": _TIME,
    "fees": pl.String(),
    "sources": pl.List(pl.String()),
}
"""One row per wallet. `fees` is a JSON object from token to decimal string. A sum that includes an unknown value is NULL."""


def user_partial(fills: pl.DataFrame, sums: pl.DataFrame) -> pl.DataFrame:
    """Return an hour's contribution to its day (USER_PARTIAL_SCHEMA), from its fills (SUM_COLUMNS) and their `sums_of`."""
    by_token = sums.group_by("wallet", "fee_token").agg(pl.col("fee", "unknown").sum())
    lists = (
        by_token.group_by("wallet").agg(fees_by_token()),
        _list(sums.filter(pl.col("fills") > 0), "coin", "coins"),
        _list(fills.select("wallet", "twap_id").drop_nulls(), "twap_id", "twap_ids"),
        _sources(fills),
    )
    partial = sums.group_by("wallet").agg(*sums_known(sums, SUMS), pl.col("first_fill").min(), pl.col("last_fill").max())
    for column in lists:
        partial = partial.join(column, on="wallet", how="left")
    partial = partial.with_columns(pl.col("coins", "twap_ids").fill_null([]))
    return partial.select(pl.col(name).cast(dtype) for name, dtype in USER_PARTIAL_SCHEMA.items())


def _list(rows: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    """Return the distinct values of a column by wallet. Finding them within groups would take twice as long."""
    return rows.select("wallet", column).unique().group_by("wallet").agg(pl.col(column).alias(name))


def _sources(fills: pl.DataFrame) -> pl.DataFrame:
    """Return the datasets by wallet. An hour comes from one or two objects, so only their few keys are split."""
    objects = fills["object"].unique()
    datasets = objects.str.split("/").list.first()
    if datasets.n_unique() == 1:
        return fills.select(pl.col("wallet").unique()).with_columns(sources=pl.lit([datasets[0]]))
    named = fills.select("wallet", dataset=pl.col("object").replace_strict(objects, datasets))
    return _list(named, "dataset", "sources")


def merge_user(partials: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return the figures of a day (USER_STATS_SCHEMA, sorted by wallet) from those of its hours (`user_partial`), in order."""
    parts = pl.concat([pl.DataFrame(schema=USER_PARTIAL_SCHEMA), *partials])
    together = parts.group_by("wallet").agg(*sums_known(parts, SUMS), pl.col("first_fill").min(), pl.col("last_fill").max())
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
