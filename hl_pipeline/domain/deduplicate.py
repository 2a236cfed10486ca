"""Keeps each fill once, from its best source, in the order of the sources. Pure: frames in, frames out.

FILL_KEY identifies a fill with a tid. `node_trades` has no tid: LEG_KEY identifies its legs, which are matched with better
sources as a multiset on MATCH_KEY, the columns that both have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hl_pipeline.domain.object_keys import object_id_of_key
from hl_pipeline.formats.fills import FILL_KEY, FILL_SCHEMA

SOURCE_RANKS = ("node_fills_by_block", "node_fills", "api_fills", "node_trades")
"""The sources, best first: a later one may lack columns of an earlier one."""

LEG_KEY = ("time", "coin", "wallet", "side", "oid", "counterparty_oid")
MATCH_KEY = ("time", "coin", "wallet", "side", "oid", "start_position", "px", "sz")
_MATCH_WITHOUT_START = tuple(name for name in MATCH_KEY if name != "start_position")
_PLACE = ("object", "block_number", "block_time_ns", "local_time_ns", "line")
# Decides the order of fills without a known ordinal, which the source's order does not distinguish.
_TIES = ("coin", "wallet", "side", "tid", "oid", "counterparty_oid")
_COMPARED = [name for name in FILL_SCHEMA if name not in (*_PLACE, "extra")]


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """Each fill once, in the order of the sources (`sort_fills`). `duplicates`: number of dropped rows. `conflicts`: number of
    dropped rows that differ from the kept row.
    """

    fills: pl.DataFrame
    duplicates: int
    conflicts: int


def deduplicate(fills: pl.DataFrame) -> Deduplicated:
    """Keep one row of each fill in `fills` (DAY_SCHEMA, with all rows of their times): from the best source, then the earliest
    object, then the first row. The result does not depend on the order of the rows.

    A leg of `node_trades` stays if no better source has it. If a better source has the other leg of the trade, the leg takes its
    tid, because both legs share it.
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
    """Return `columns` of the rows that may repeat a fill: those that share tid and side with another row, and those without tid.

    They are few, and one integer finds them; comparing whole keys takes five times as long.
    """
    # If the product overflows 64 bits, at worst a few more rows are returned.
    return fills.select(columns).filter((pl.col("tid") * 2 + (pl.col("side") == "B")).is_duplicated() | pl.col("tid").is_null())


def _match_legs(legs: pl.DataFrame, unique: pl.DataFrame) -> pl.DataFrame:
    """Return `leg` and `tid` of the legs (numbered by `leg`) that are also in `unique`.

    A distinct leg matches its fill, and so the tid of its trade, which distinguishes identical legs of different trades. Legs
    that remain identical are matched by count. The rest is matched without start_position, because a source with a different
    value, or none, still means the same leg.
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
    """Count rows that differ from the kept row of their key: in any column within a source, in shared columns across sources."""
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
    """Return the rows that differ from the kept row of their key in columns that both have."""
    pairs = rows.join(kept, on=key, suffix="_kept", nulls_equal=True)
    return pairs.filter(pl.any_horizontal(*((pl.col(name) != pl.col(f"{name}_kept")).fill_null(value=False) for name in names)))


def sort_fills(fills: pl.DataFrame) -> pl.DataFrame:
    """Sort `fills` (DAY_SCHEMA) by time, block_number, object_id and ordinal, with NULLs last.

    This is the order of the sources; fills of the info API, which have no blocks, follow those of the buckets. Queries on
    hl.fills use the same order.
    """
    return _sort(fills, [pl.col("time"), pl.col("block_number"), _object_id(fills), pl.col("ordinal")])


def _object_id(fills: pl.DataFrame) -> pl.Expr:
    ids = {key: object_id_of_key(key) for key in fills["object"].unique()}
    return pl.col("object").replace_strict(ids, return_dtype=pl.Int32).alias("object_id")


def _sort(fills: pl.DataFrame, keys: Sequence[pl.Expr]) -> pl.DataFrame:
    """Sort `fills` by integer keys, the last of which is the ordinal. They are almost always sorted, which is cheap to check."""
    if not fills["ordinal"].null_count() and _is_sorted(fills.select(key.cast(pl.Int64) for key in keys)):
        return fills
    return fills.sort(*keys, *_TIES, nulls_last=True)


def _is_sorted(keys: pl.DataFrame) -> bool:
    tied = np.ones(max(keys.height - 1, 0), bool)
    for key in keys.get_columns():
        # NULL sorts last.
        step = np.diff(key.fill_null(2**62).to_numpy())
        if (step[tied] < 0).any():
            return False
        tied &= step == 0
    return True
