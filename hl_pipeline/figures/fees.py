"""Fees by the token that they were paid in, as every table shows them: a JSON object of exact decimals. Pure."""

from __future__ import annotations

import json
from decimal import Decimal

import polars as pl

from hl_pipeline.figures.trades import summable
from hl_pipeline.formats.fills import PRICE_TYPE

FEES_TYPE = pl.List(pl.Struct({"fee_token": pl.String(), "fee": PRICE_TYPE, "unknown": pl.Int64()}))


def known_count(name: str) -> pl.Expr:
    """How many values of a column are known."""
    return pl.col(name).count().cast(pl.Int64)


def fees_by_token(fills: pl.DataFrame, key: str) -> pl.DataFrame:
    """`fees` (FEES_TYPE) of each `key` (a column): by token the sum (negative: rebates), and how many rows cannot be added up."""
    unknown = summable("fee").is_null() | pl.col("fee_token").is_null()
    by_token = fills.group_by(key, "fee_token").agg(fee=summable("fee").sum(), unknown=unknown.sum().cast(pl.Int64))
    return by_token.group_by(key).agg(fees=pl.struct("fee_token", "fee", "unknown"))


def add_fees(frame: pl.DataFrame, fees: pl.DataFrame, key: str) -> pl.DataFrame:
    """`frame` (a row a `key`) with `fees`, the parts of `fees_by_token` together; NULL where a part of it is unknown."""
    parts = fees.select(key, "fees").explode("fees").unnest("fees")
    summed = parts.group_by(key, "fee_token").agg(pl.col("fee", "unknown").sum())
    listed = summed.sort("fee_token").group_by(key).agg(pl.col("fee_token"), pl.col("fee"), pl.col("unknown").sum())
    texts = [None if row["unknown"] else _object(row["fee_token"], row["fee"]) for row in listed.iter_rows(named=True)]
    return frame.join(listed.select(key, fees=pl.Series("fees", texts, pl.String)), on=key, how="left")


def _object(tokens: list[str], amounts: list[Decimal]) -> str:
    return json.dumps({token: plain(amount) for token, amount in zip(tokens, amounts, strict=True)})


def plain(number: Decimal) -> str:
    """A decimal without exponent and trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
