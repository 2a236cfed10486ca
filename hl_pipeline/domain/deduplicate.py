"""Keep each fill once, from the best source that has it, in the order of the sources. Pure: frames in, frames out.

FILL_KEY identifies a fill with a tid. `node_trades` has no tid: LEG_KEY identifies its legs among themselves, and they are
matched with better sources as a multiset on MATCH_KEY (what both sides know).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hl_pipeline.domain.object_keys import object_id_of_key
from hl_pipeline.formats.fills import FILL_KEY, FILL_SCHEMA

SOURCE_RANKS = ("node_fills_by_block", "node_fills", "api_fills", "node_trades")
"""The best first: what one knows of a fill, the next may not."""

LEG_KEY = ("time", "coin", "wallet", "side", "oid", "counterparty_oid")
MATCH_KEY = ("time", "coin", "wallet", "side", "oid", "start_position", "px", "sz")
_MATCH_WITHOUT_START = tuple(name for name in MATCH_KEY if name != "start_position")
_PLACE = ("object", "block_number", "block_time_ns", "local_time_ns", "line")
# Of fills that the source's order does not tell apart: those whose ordinal is not known.
_TIES = ("coin", "wallet", "side", "tid", "oid", "counterparty_oid")
_COMPARED = [name for name in FILL_SCHEMA if name not in (*_PLACE, "extra")]


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """Each fill once, in the order of the sources (`sort_fills`); `duplicates`: the rows dropped; `conflicts`: those of them that
    differ from the row that was kept of their fill.
    """

    fills: pl.DataFrame
    duplicates: int
    conflicts: int


def deduplicate(fills: pl.DataFrame) -> Deduplicated:
    """Keep one row of each fill in `fills` (DAY_SCHEMA, all rows of the moments that they are of): that of the best source, there
    of the earliest object, there the first. So the order of the rows does not matter.

    A leg of `node_trades` that no better source has stays; if a better source has the other leg of its trade, it takes that
    one's tid, since both legs share it.
    """
    ranks = {key: SOURCE_RANKS.index(key.partition("/")[0]) for key in fills["object"].unique()}
    if not fills["tid"].null_count() and may_repeat(fills, FILL_KEY).is_unique().all():
        return Deduplicated(sort_fills(fills), 0, 0)
    ranked = fills.with_columns(rank=pl.col("object").replace_strict(ranks, return_dtype=pl.Int8))
    ranked = _sort(ranked, [pl.col("rank"), _object_id(fills), pl.col("ordinal")])
    with_tid, without_tid = ranked.filter(pl.col("tid").is_not_null()), ranked.filter(pl.col("tid").is_null())
    unique = with_tid.unique(FILL_KEY, keep="first", maintain_order=True)
    legs = without_tid.unique(LEG_KEY, keep="first", maintain_order=True)
    conflicts = _count_conflicts(with_tid, unique, FILL_KEY) + _count_conflicts(without_tid, legs, LEG_KEY)
    legs = legs.with_row_index("leg").drop("tid")
    matches = _match_legs(legs, unique)
    matched = legs.join(matches, on="leg")
    conflicts += _differing(
        matched, unique, [*_MATCH_WITHOUT_START, "tid"], ("start_position", "hash", "cloid", "crossed", "twap_id")
    ).height
    tids = matched.select("object", "line", "tid").unique(("object", "line"), keep="first")
    unmatched = legs.join(matches, on="leg", how="anti").join(tids, on=("object", "line"), how="left", maintain_order="left")
    new = unmatched.join(unique, on=FILL_KEY, how="anti").select(unique.columns)
    kept = sort_fills(pl.concat([unique, new]).drop("rank"))
    return Deduplicated(kept, fills.height - kept.height, conflicts + unmatched.height - new.height)


def may_repeat(fills: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """`columns` of the rows that could be of one fill: those whose tid and side another row has too, and those without a tid.

    They are few, and found by one integer each; whole keys take five times as long.
    """
    # Of a product that does not fit 64 bits a part is left: a few rows more, at worst.
    return fills.select(columns).filter((pl.col("tid") * 2 + (pl.col("side") == "B")).is_duplicated() | pl.col("tid").is_null())


def _match_legs(legs: pl.DataFrame, unique: pl.DataFrame) -> pl.DataFrame:
    """Of the legs (numbered by `leg`) that `unique` has too: `leg`, and the `tid` that it has there.

    A leg that is like no other matches its own fill, and with it the tid of its trade, which tells two alike ones apart; those of
    which nothing more is known are taken as often as they occur. What is left is matched without the start_position: a source
    with another one, or none, still means the same leg.
    """
    matches = [pl.DataFrame(schema={"leg": legs.schema["leg"], "tid": unique.schema["tid"]})]
    for key in (MATCH_KEY, _MATCH_WITHOUT_START):
        unmatched = legs.join(pl.concat(matches), on="leg", how="anti", maintain_order="left")
        if unmatched.is_empty():
            break
        fills = unique.select(*key, "tid").join(
            legs.join(pl.concat(matches), on="leg").select(*key, "tid"), on=[*key, "tid"], how="anti"
        )
        is_alone = pl.len().over(key) == 1
        sure = unmatched.filter(is_alone).join(fills.filter(is_alone), on=key)
        tid_of_line = sure.select("object", "line", "tid").unique(("object", "line"), keep="first")
        legs_of_trades = unmatched.join(tid_of_line, on=("object", "line"), how="left", maintain_order="left")
        by_tid = legs_of_trades.join(fills, on=[*key, "tid"], how="semi").select("leg", *key, "tid")
        left = fills.join(by_tid, on=[*key, "tid"], how="anti").with_columns(nth=pl.int_range(pl.len()).over(key))
        without_tid = legs_of_trades.filter(pl.col("tid").is_null()).drop("tid")
        numbered = without_tid.with_columns(nth=pl.int_range(pl.len()).over(key))
        matches += [by_tid.select("leg", "tid"), numbered.join(left, on=[*key, "nth"]).select("leg", "tid")]
    return pl.concat(matches)


def _count_conflicts(rows: pl.DataFrame, kept: pl.DataFrame, key: Sequence[str]) -> int:
    """How many rows differ from the one kept of their key: in anything within a source, in what both know across two."""
    if rows.height == kept.height:
        return 0
    repeated = rows.filter(pl.struct(key).is_duplicated())
    names = [name for name in _COMPARED if name not in key]
    pairs = repeated.join(kept, on=key, suffix="_kept", nulls_equal=True)
    same_source = pl.col("rank") == pl.col("rank_kept")
    differs_at_all = pl.any_horizontal(*(pl.col(name).ne_missing(pl.col(f"{name}_kept")) for name in [*names, "extra"]))
    within = pairs.filter(same_source & differs_at_all).height
    return within + _differing(pairs.filter(~same_source).select(rows.columns), kept, key, names).height


def _differing(rows: pl.DataFrame, kept: pl.DataFrame, key: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    """The rows that differ from the one kept of their key, in columns that both know."""
    pairs = rows.join(kept, on=key, suffix="_kept", nulls_equal=True)
    return pairs.filter(pl.any_horizontal(*((pl.col(name) != pl.col(f"{name}_kept")).fill_null(value=False) for name in names)))


def sort_fills(fills: pl.DataFrame) -> pl.DataFrame:
    """`fills` (DAY_SCHEMA) by time, block_number, object_id and ordinal, what is unknown last: as the sources had them, and those
    of the info API, which knows no blocks, after those of the buckets. hl.fills is read in the same order.
    """
    return _sort(fills, [pl.col("time"), pl.col("block_number"), _object_id(fills), pl.col("ordinal")])


def _object_id(fills: pl.DataFrame) -> pl.Expr:
    ids = {key: object_id_of_key(key) for key in fills["object"].unique()}
    return pl.col("object").replace_strict(ids, return_dtype=pl.Int32).alias("object_id")


def _sort(fills: pl.DataFrame, keys: Sequence[pl.Expr]) -> pl.DataFrame:
    """`fills` by integers, the last of which is the ordinal. Nearly always they stand so already, which costs little to see."""
    if not fills["ordinal"].null_count() and _is_sorted(fills.select(key.cast(pl.Int64) for key in keys)):
        return fills
    return fills.sort(*keys, *_TIES, nulls_last=True)


def _is_sorted(keys: pl.DataFrame) -> bool:
    tied = np.ones(max(keys.height - 1, 0), bool)
    for key in keys.get_columns():
        # An unknown one is the last.
        step = np.diff(key.fill_null(2**62).to_numpy())
        if (step[tied] < 0).any():
            return False
        tied &= step == 0
    return True
