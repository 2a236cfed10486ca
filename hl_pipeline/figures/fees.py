"""Fees by token, as a JSON object of exact decimals, and fees in the quote of their coin. Pure."""

from __future__ import annotations

import json

import polars as pl

from hl_pipeline.figures.coins import kind_of
from hl_pipeline.figures.trades import LARGEST_PRODUCT, NOTIONAL, product, summable
from hl_pipeline.formats.fills import PRICE_TYPE

_DOLLARS = ("USDC", "USDH", "USDT0", "USDE")
FEES_TYPE = pl.List(pl.Struct({"fee_token": pl.String(), "fee": PRICE_TYPE, "unknown": pl.Int64()}))


def fee_summands() -> dict[str, pl.Expr]:
    """Return the columns that `fees_by_token` needs summed: the fee, and 1 for each fee that cannot be added up (`unknown`).

    A fee of 0 is never unknown, whatever its token.
    """
    unknown = summable("fee").is_null() | (pl.col("fee_token").is_null() & (pl.col("fee") != 0))
    return {"fee": summable("fee"), "unknown": unknown.cast(pl.Int64)}


def fees_by_token() -> pl.Expr:
    """Return `fees` (FEES_TYPE) of a group of sums by `fee_token` (see `fee_summands`). Negative fees are rebates."""
    return pl.struct("fee_token", "fee", "unknown").alias("fees")


def add_fees(frame: pl.DataFrame, fees: pl.DataFrame, key: str) -> pl.DataFrame:
    """Add the column `fees` to `frame` (one row per `key`), merged from `fees_by_token`. NULL if any part is unknown."""
    parts = fees.select(key, "fees").explode("fees").unnest("fees")
    summed = parts.group_by(key, "fee_token").agg(pl.col("fee", "unknown").sum())
    names = {token: json.dumps(token) for token in summed["fee_token"].drop_nulls().unique()}
    amount = pl.col("fee").cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")
    member = pl.col("fee_token").replace_strict(names, return_dtype=pl.String) + pl.lit(': "') + amount + pl.lit('"')
    objects = (
        summed.sort("fee_token")
        .group_by(key)
        .agg(fees=member.drop_nulls(), unknown=pl.col("unknown").sum())
        .select(
            key, pl.when(pl.col("unknown") == 0).then(pl.lit("{") + pl.col("fees").list.join(", ") + pl.lit("}")).alias("fees")
        )
    )
    return frame.join(objects, on=key, how="left")


def fee_in_quote(fills: pl.DataFrame, part: str = "fee") -> pl.Series:
    """Return each fill's exact fee in the quote of its coin, or NULL if it cannot be known.

    `part`: the column of a part of the fee, such as the builder's, to be valued instead.

    `fills` has the columns coin, side, px, fee and fee_token. A fee of 0 is 0 in any token. A fee in the coin itself is
    multiplied by px. Perpetuals charge in their quote. Spot charges fees in the token received and pays rebates in the token
    given, so the side shows whether the fee is in the base. For outcomes, only fees in their own token and in dollars are known.
    """
    rows = fills.select("coin", "side", "px", "fee", "fee_token", part=part)
    coin, amount = pl.col("coin"), pl.col("part")
    fits = amount.cast(pl.Float64).abs() < LARGEST_PRODUCT
    in_quote = rows.select(pl.when(fits | (amount == 0)).then(amount).cast(NOTIONAL)).to_series()
    # Most fees are from perpetuals, in their quote. Only the other ones need their names parsed.
    others = rows.select(pl.arg_where(coin.str.contains("[@#/]") | (coin == pl.col("fee_token")))).to_series()
    return in_quote.scatter(others, _fee_by_names(rows[others]))


def _fee_by_names(fills: pl.DataFrame) -> pl.Series:
    # Every part of a fee is in the same token, so the sign of the whole fee decides. Without it, only 0 has a known value.
    is_received_or_given = (pl.col("side") == "B") == (pl.col("fee") >= 0)
    amount = pl.when(pl.col("fee").is_not_null() | (pl.col("part") == 0)).then("part")
    worth = (
        pl.when(pl.col("is_base") | (pl.col("is_base_if_received") & is_received_or_given))
        .then(pl.col("px"))
        .when(pl.col("is_quote"))
        .then(pl.lit(1, PRICE_TYPE))
    )
    on = ["coin", "fee_token"]
    return fills.join(_know_tokens(fills), on, "left", nulls_equal=True, maintain_order="left").select(
        in_quote=product(amount, worth)
    )["in_quote"]


def _know_tokens(fills: pl.DataFrame) -> pl.DataFrame:
    """Derive from the names how each pair of coin and token is valued. There are far fewer pairs than fills."""
    coin, token = pl.col("coin"), pl.col("fee_token")
    pair = pl.when(coin.str.contains("/", literal=True)).then(coin).str.split_exact("/", 1)
    base, quote = (pair.struct.field(f"field_{part}") for part in (0, 1))
    own_token = pl.when(coin.str.starts_with("#")).then("+" + coin.str.slice(1))
    kind = kind_of(coin)
    return (
        fills.select("coin", "fee_token")
        .unique()
        .with_columns(
            is_base=pl.any_horizontal((token == one).fill_null(value=False) for one in (coin, base, own_token)),
            is_base_if_received=(kind == "spot") & (token != quote).fill_null(value=True),
            is_quote=(kind != "outcome") | token.is_in(_DOLLARS).fill_null(value=False),
        )
    )
