"""Derives the kind of a coin from the form of its name. Pure."""

from __future__ import annotations

import polars as pl


def kind_of(coin: pl.Expr) -> pl.Expr:
    """Return the kind of a coin: `hip3`, `spot`, `outcome` or `perp`."""
    return (
        pl.when(coin.str.contains(":", literal=True))
        .then(pl.lit("hip3"))
        .when(coin.str.starts_with("#"))
        .then(pl.lit("outcome"))
        .when(coin.str.starts_with("@") | coin.str.contains("/", literal=True))
        .then(pl.lit("spot"))
        .otherwise(pl.lit("perp"))
    )
