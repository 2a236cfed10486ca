"""Which of the rows that tell of one fill counts: each fill once, from the best source that has it. Pure: frames in, frames out.

A fill with a tid is known by FILL_KEY. `node_trades` has no tid: its legs are known by LEG_KEY among themselves, and found again
in better sources as a multiset on MATCH_KEY (what both sides know).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from hl_pipeline.formats.fills import FILL_KEY, FILL_SCHEMA

SOURCE_RANKS = ("node_fills_by_block", "node_fills", "api_fills", "node_trades")
"""The best first: what one knows of a fill, the next may not."""

LEG_KEY = ("time", "coin", "wallet", "side", "oid", "counterparty_oid")
MATCH_KEY = ("time", "coin", "wallet", "side", "oid", "start_position", "px", "sz")
_MATCH_WITHOUT_START = tuple(name for name in MATCH_KEY if name != "start_position")
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
    ranks = {key: SOURCE_RANKS.index(key.partition("/")[0]) for key in fills["object"].unique()}
    if len({*ranks.values()}) > 1:
        fills = fills.sort(pl.col("object").replace_strict(ranks, return_dtype=pl.Int8), maintain_order=True)
    if not fills["tid"].null_count() and fills.select(FILL_KEY).is_unique().all():
        return Once(_in_order(fills), 0, 0)
    ranked = fills.with_columns(rank=pl.col("object").replace_strict(ranks, return_dtype=pl.Int8))
    with_tid, without_tid = ranked.filter(pl.col("tid").is_not_null()), ranked.filter(pl.col("tid").is_null())
    once = with_tid.unique(FILL_KEY, keep="first", maintain_order=True)
    legs = without_tid.unique(LEG_KEY, keep="first", maintain_order=True)
    conflicts = _count_conflicts(with_tid, once, FILL_KEY) + _count_conflicts(without_tid, legs, LEG_KEY)
    legs = legs.with_row_index("leg").drop("tid")
    same = _find_same(legs, once)
    found = legs.join(same, on="leg")
    conflicts += _differing(
        found, once, [*_MATCH_WITHOUT_START, "tid"], ("start_position", "hash", "cloid", "crossed", "twap_id")
    ).height
    told = found.select("object", "line", "tid").unique(("object", "line"), keep="first")
    rest = legs.join(same, on="leg", how="anti").join(told, on=("object", "line"), how="left", maintain_order="left")
    new = rest.join(once, on=FILL_KEY, how="anti").select(once.columns)
    kept = _in_order(pl.concat([once, new]).drop("rank"))
    return Once(kept, fills.height - kept.height, conflicts + rest.height - new.height)


def _find_same(legs: pl.DataFrame, once: pl.DataFrame) -> pl.DataFrame:
    """Of the legs (known by `leg`) that `once` has too: `leg`, and the `tid` that it has there.

    A leg that is like no other finds its own, and with it the tid of its trade, which tells of two alike ones which is which;
    those of which nothing more is known are taken as often as they are there. What is left is looked for without the
    start_position: a source that says another one, or none, still means the same leg.
    """
    found = [pl.DataFrame(schema={"leg": legs.schema["leg"], "tid": once.schema["tid"]})]
    for key in (MATCH_KEY, _MATCH_WITHOUT_START):
        part = legs.join(pl.concat(found), on="leg", how="anti", maintain_order="left")
        if part.is_empty():
            break
        fills = once.select(*key, "tid").join(
            legs.join(pl.concat(found), on="leg").select(*key, "tid"), on=[*key, "tid"], how="anti"
        )
        is_alone = pl.len().over(key) == 1
        sure = part.filter(is_alone).join(fills.filter(is_alone), on=key)
        of_line = sure.select("object", "line", "tid").unique(("object", "line"), keep="first")
        named = part.join(of_line, on=("object", "line"), how="left", maintain_order="left")
        by_tid = named.join(fills, on=[*key, "tid"], how="semi").select("leg", *key, "tid")
        left = fills.join(by_tid, on=[*key, "tid"], how="anti").with_columns(nth=pl.int_range(pl.len()).over(key))
        nameless = named.filter(pl.col("tid").is_null()).drop("tid").with_columns(nth=pl.int_range(pl.len()).over(key))
        found += [by_tid.select("leg", "tid"), nameless.join(left, on=[*key, "nth"]).select("leg", "tid")]
    return pl.concat(found)


def _count_conflicts(rows: pl.DataFrame, kept: pl.DataFrame, key: Sequence[str]) -> int:
    """How many rows differ from the one kept of their key: in anything within a source, in what both know across two."""
    if rows.height == kept.height:
        return 0
    repeated = rows.filter(pl.struct(key).is_duplicated())
    names = [name for name in _SAID if name not in key]
    pairs = repeated.join(kept, on=key, suffix="_kept", nulls_equal=True)
    same_source = pl.col("rank") == pl.col("rank_kept")
    differs_at_all = pl.any_horizontal(*(pl.col(name).ne_missing(pl.col(f"{name}_kept")) for name in [*names, "extra"]))
    within = pairs.filter(same_source & differs_at_all).height
    return within + _differing(pairs.filter(~same_source).select(rows.columns), kept, key, names).height


def _differing(rows: pl.DataFrame, kept: pl.DataFrame, key: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    """The rows that say another thing than the one kept of their key, of columns that both know."""
    pairs = rows.join(kept, on=key, suffix="_kept", nulls_equal=True)
    return pairs.filter(pl.any_horizontal(*((pl.col(name) != pl.col(f"{name}_kept")).fill_null(value=False) for name in names)))


def _in_order(fills: pl.DataFrame) -> pl.DataFrame:
    return fills if fills["time"].is_sorted() else fills.sort("time", maintain_order=True)
