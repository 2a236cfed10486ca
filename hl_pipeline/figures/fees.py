"""Fees by the token that they were paid in, a JSON object of exact decimals, and in the quote of their coin. Pure."""

from __future__ import annotations

import json

import polars as pl

from hl_pipeline.figures.coins import kind_of
from hl_pipeline.figures.trades import LARGEST_PRODUCT, NOTIONAL, product, summable
from hl_pipeline.formats.fills import PRICE_TYPE

_DOLLARS = ("USDC", "USDH", "USDT0", "USDE")
FEES_TYPE = pl.List(pl.Struct({"fee_token": pl.String(), "fee": PRICE_TYPE, "unknown": pl.Int64()}))


def fee_summands() -> dict[str, pl.Expr]:
    """By name what `fees_by_token` wants summed of fills: the fee, and how many of them cannot be added up.

    A fee of 0 adds nothing, in whatever token.
    """
    unknown = summable("fee").is_null() | (pl.col("fee_token").is_null() & (pl.col("fee") != 0))
    return {"fee": summable("fee"), "unknown": unknown.cast(pl.Int64)}


def fees_by_token() -> pl.Expr:
    """`fees` (FEES_TYPE) of a group of sums by `fee_token` (`fee_summands`): the fee by token; negative: rebates."""
    return pl.struct("fee_token", "fee", "unknown").alias("fees")


def add_fees(frame: pl.DataFrame, fees: pl.DataFrame, key: str) -> pl.DataFrame:
    """`frame` (a row a `key`) with `fees`, the parts of `fees_by_token` together; NULL where a part of it is unknown."""
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


def fee_in_quote(fills: pl.DataFrame) -> pl.Series:
    """Each fill's fee in the quote of its coin, exact; NULL where that cannot be known. `fills`: coin, side, px, fee, fee_token.

    A fee of 0 is 0 in any token, and one in the coin itself is worth px each. Perpetuals charge in what they are quoted in. Spot
    charges in the token received, a rebate is in the token given: of those two one is the base. Of outcomes' other fees those in
    dollars are known.
    """
    rows = fills.select("coin", "side", "px", "fee", "fee_token")
    coin, fee = pl.col("coin"), pl.col("fee")
    fits = fee.cast(pl.Float64).abs() < LARGEST_PRODUCT
    in_quote = rows.select(pl.when(fits | (fee == 0)).then(fee).cast(NOTIONAL)).to_series()
    # Most fees are of perpetuals, in their quote. Of the others alone the names are looked at.
    others = rows.select(pl.arg_where(coin.str.contains("[@#/]") | (coin == pl.col("fee_token")))).to_series()
    return in_quote.scatter(others, _fee_by_names(rows[others]))


def _fee_by_names(fills: pl.DataFrame) -> pl.Series:
    is_received_or_given = (pl.col("side") == "B") == (pl.col("fee") >= 0)
    worth = (
        pl.when(pl.col("is_base") | (pl.col("is_base_if_received") & is_received_or_given))
        .then(pl.col("px"))
        .when(pl.col("is_quote"))
        .then(pl.lit(1, PRICE_TYPE))
    )
    on = ["coin", "fee_token"]
    return fills.join(_know_tokens(fills), on, "left", nulls_equal=True, maintain_order="left").select(
        in_quote=product(pl.col("fee"), worth)
    )["in_quote"]


def _know_tokens(fills: pl.DataFrame) -> pl.DataFrame:
    """What the names say of each coin and token together: far fewer than fills."""
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
