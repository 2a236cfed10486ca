"""Daily statistics per builder and coin, merged from partial figures of each hour. Pure.

If you change the content of a partial, raise `lake.partials.PARTIALS_VERSION`. Columns: `docs/reference/tables-statistics.md`.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hl_pipeline.figures.fees import FEES_TYPE, add_fees, fee_in_quote, fee_summands, fees_by_token
from hl_pipeline.figures.trades import NOTIONAL, has_builder, is_market, notional, sums_known

BUILDER_COLUMNS = (
    *("time", "coin", "wallet", "side", "px", "sz", "dir", "fee", "fee_token", "tid"),
    *("builder", "builder_fee", "extra", "object"),
)
"""The columns of fills that `builder_partial` needs."""

_SUMS = {
    "fills": pl.Int64(),
    "non_market_rows": pl.Int64(),
    "fills_with_fee": pl.Int64(),
    "notional": NOTIONAL,
    "fees_in_quote": NOTIONAL,
}
_KEY = ("builder", "coin")
# A name for each pair, since a join on a NULL builder finds nothing.
_PAIR = (pl.col("builder").fill_null("") + " " + pl.col("coin")).alias("pair")

BUILDER_PARTIAL_SCHEMA = {
    "builder": pl.String(),
    "coin": pl.String(),
    **_SUMS,
    "fees": FEES_TYPE,
    "wallets": pl.List(pl.String()),
}
"""One row per builder and coin, and one row with the coin WITHOUT_BUILDER. `wallets` has distinct values."""

BUILDER_STATS_SCHEMA = {"builder": pl.String(), "coin": pl.String(), **_SUMS, "wallets": pl.Int64(), "fees": pl.String()}
"""One row per builder and coin. `fees` is a JSON object from token to decimal string. A sum that includes an unknown value is
NULL. The builder is NULL if the source has its fee, but not its address.
"""

WITHOUT_BUILDER = ""
"""The coin of the row that counts the fills without a builder, so that every fill of a day is accounted for."""


def builder_partial(fills: pl.DataFrame) -> pl.DataFrame:
    """Return an hour's contribution to its day (BUILDER_PARTIAL_SCHEMA), from its fills (BUILDER_COLUMNS)."""
    is_built = fills.select(has_builder().fill_null(value=False)).to_series()
    rows = _summands(fills.filter(is_built))
    by_token = rows.group_by(*_KEY, "fee_token").agg(*sums_known(rows, _SUMS), pl.col("fee", "unknown").sum())
    wallets = rows.filter(pl.col("fills") > 0).select(*_KEY, "wallet").unique().group_by(_KEY).agg(wallets="wallet")
    others = fills.filter(~is_built).select(fills=is_market().cast(pl.Int64)).select(pl.col("fills").sum(), rows=pl.len())
    without = others.select(
        coin=pl.lit(WITHOUT_BUILDER), fills="fills", non_market_rows=pl.col("rows").cast(pl.Int64) - pl.col("fills")
    )
    built = (
        by_token.group_by(_KEY)
        .agg(*sums_known(by_token, _SUMS), fees_by_token())
        .join(wallets, on=_KEY, how="left", nulls_equal=True)
        .with_columns(pl.col("wallets").fill_null([]))
    )
    return pl.concat([pl.DataFrame(schema=BUILDER_PARTIAL_SCHEMA), _cast(built), without], how="diagonal_relaxed").select(
        pl.col(name).cast(dtype) for name, dtype in BUILDER_PARTIAL_SCHEMA.items()
    )


def _cast(built: pl.DataFrame) -> pl.DataFrame:
    return built.select(pl.col(name).cast(dtype) for name, dtype in BUILDER_PARTIAL_SCHEMA.items())


def _summands(fills: pl.DataFrame) -> pl.DataFrame:
    """Return the fills with a column for each sum. A source leaves the builder's fee out if there is none, so NULL is 0."""
    market = is_market()
    rows = fills.with_columns(builder_fee=pl.col("builder_fee").fill_null(0))
    return rows.select(
        *("builder", "coin", "wallet", "fee_token"),
        fills=market.cast(pl.Int64),
        non_market_rows=(~market).cast(pl.Int64),
        fills_with_fee=fills["builder_fee"].is_not_null().cast(pl.Int64),
        notional=pl.when(market).then(notional()).otherwise(0).cast(NOTIONAL),
        fees_in_quote=fee_in_quote(rows, "builder_fee"),
        fee="builder_fee",
    ).with_columns(**fee_summands())


def merge_builders(partials: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return the figures of a day (BUILDER_STATS_SCHEMA) from those of its hours (`builder_partial`), sorted by builder and coin.

    The row of WITHOUT_BUILDER stays among them.
    """
    parts = pl.concat([pl.DataFrame(schema=BUILDER_PARTIAL_SCHEMA), *partials]).with_columns(_PAIR)
    together = parts.group_by("pair").agg(*sums_known(parts, _SUMS), pl.col("builder", "coin").first())
    wallets = parts.select("pair", wallet="wallets").explode("wallet").drop_nulls().unique()
    together = together.join(wallets.group_by("pair").agg(wallets=pl.len()), on="pair", how="left")
    return (
        add_fees(together, parts, "pair")
        .with_columns(pl.col("wallets").fill_null(0))
        .sort(_KEY, nulls_last=True)
        .select(pl.col(name).cast(dtype) for name, dtype in BUILDER_STATS_SCHEMA.items())
    )
