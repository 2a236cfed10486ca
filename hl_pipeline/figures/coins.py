"""What the form of a coin's name says of it. Pure."""

from __future__ import annotations

import polars as pl


def kind_of(coin: pl.Expr) -> pl.Expr:
    """`hip3`, `spot`, `outcome` or `perp`, by the form of the name."""
    return (
        pl.when(coin.str.contains(":", literal=True))
        .then(pl.lit("hip3"))
        .when(coin.str.starts_with("#"))
        .then(pl.lit("outcome"))
        .when(coin.str.starts_with("@") | coin.str.contains("/", literal=True))
        .then(pl.lit("spot"))
        .otherwise(pl.lit("perp"))
    )
