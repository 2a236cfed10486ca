"""Which of the rows that tell of one fill counts: each fill once, from the best source that has it. Pure: frames in, frames out.

A fill with a tid is known by FILL_KEY. `node_trades` has no tid: its legs are known by LEG_KEY among themselves, and found again
in better sources as a multiset on MATCH_KEY (what both sides know).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from hl_pipeline.formats.fills import FILL_KEY, FILL_SCHEMA

SOURCE_RANKS = ("node_fills_by_block", "node_fills", "node_trades")
"""The best first: what one knows of a fill, the next may not."""

LEG_KEY = ("time", "coin", "wallet", "side", "oid", "counterparty_oid")
MATCH_KEY = ("time", "coin", "wallet", "side", "oid", "start_position", "px", "sz")
_PLACE = ("object", "block_number", "block_time_ns", "local_time_ns", "line")
_SAID = [name for name in FILL_SCHEMA if name not in (*_PLACE, "extra")]


@dataclass(frozen=True, slots=True)
class Once:
    """Fills without repeats, in the order of time; `duplicates`: the rows left out; `conflicts`: those of them that say other
    things of the fill than the row that was kept.
    """

    fills: pl.DataFrame
    duplicates: int
    conflicts: int


def count_once(fills: pl.DataFrame) -> Once:
    """Each fill of `fills` (FILL_SCHEMA and `object`, all rows of the moments that they are of) once.

    A leg of `node_trades` that no better source has stays; if the other leg of its trade was found there, it has that one's
    tid, since both legs share it.
    """
    if not fills["tid"].null_count() and fills.select(FILL_KEY).is_unique().all():
        return Once(_in_order(fills), 0, 0)
    ranked = fills.with_columns(_rank(fills)).sort("rank", maintain_order=True)
    with_tid, without_tid = ranked.filter(pl.col("tid").is_not_null()), ranked.filter(pl.col("tid").is_null())
    once = with_tid.unique(FILL_KEY, keep="first", maintain_order=True)
    legs = without_tid.unique(LEG_KEY, keep="first", maintain_order=True)
    conflicts = _count_conflicts(with_tid, once, FILL_KEY) + _count_conflicts(without_tid, legs, LEG_KEY)
    rest = _without_match(legs, once)
    new = rest.join(once, on=FILL_KEY, how="anti")
    kept = _in_order(pl.concat([once, new]).drop("rank"))
    return Once(kept, fills.height - kept.height, conflicts + rest.height - new.height)


def _rank(fills: pl.DataFrame) -> pl.Expr:
    """The rank of each row's source, told by its object's key."""
    ranks = {key: SOURCE_RANKS.index(key.partition("/")[0]) for key in fills["object"].unique()}
    return pl.col("object").replace_strict(ranks, return_dtype=pl.Int8).alias("rank")


def _without_match(legs: pl.DataFrame, once: pl.DataFrame) -> pl.DataFrame:
    """The legs that `once` has not; those of a trade whose other leg it has get the tid."""
    if legs.is_empty() or once.is_empty():
        return legs
    nth = pl.int_range(pl.len()).over(MATCH_KEY).alias("nth")
    tids = once.select(*MATCH_KEY, nth, found=pl.col("tid"))
    matched = legs.with_columns(nth).join(tids, on=[*MATCH_KEY, "nth"], how="left", nulls_equal=True, maintain_order="left")
    of_trade = matched.filter(pl.col("found").is_not_null()).unique(["object", "line"], keep="first")
    rest = matched.filter(pl.col("found").is_null()).drop("nth", "found", "tid")
    named = rest.join(of_trade.select("object", "line", tid="found"), on=["object", "line"], how="left", maintain_order="left")
    return named.select(legs.columns)


def _count_conflicts(rows: pl.DataFrame, kept: pl.DataFrame, key: Sequence[str]) -> int:
    """How many rows differ from the one kept of their key. Two sources differ where both know."""
    if rows.height == kept.height:
        return 0
    repeated = rows.filter(pl.struct(key).is_duplicated())
    pairs = repeated.join(kept, on=key, how="left", suffix="_kept", nulls_equal=True)
    names = [name for name in _SAID if name not in key]
    differs = pl.any_horizontal(*((pl.col(name) != pl.col(f"{name}_kept")).fill_null(value=False) for name in names))
    differs_at_all = pl.any_horizontal(*(pl.col(name).ne_missing(pl.col(f"{name}_kept")) for name in [*names, "extra"]))
    same_source = pl.col("rank") == pl.col("rank_kept")
    return pairs.filter(pl.when(same_source).then(differs_at_all).otherwise(differs)).height


def _in_order(fills: pl.DataFrame) -> pl.DataFrame:
    return fills if fills["time"].is_sorted() else fills.sort("time", maintain_order=True)
