"""Judges whether the wallets of a shard were fetched, by hl.backfill_progress."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import psycopg

from hl_pipeline.domain.checks import Check
from hl_pipeline.warehouse.backfill_histories import Histories, read_failed_histories, read_histories
from hl_pipeline.warehouse.backfill_progress import Tally, read_failed, read_tally

ShardState = Literal["complete", "truncated", "unfinished", "failed"]


@dataclass(frozen=True, slots=True)
class JudgedShard:
    """The state of a shard with an explanation."""

    state: ShardState
    explanation: str
    seconds: float
    checks: Sequence[Check] = ()


def judge_shard(shard: str, connection: psycopg.Connection) -> JudgedShard:
    """Judge all known wallets of a shard."""
    started = time.perf_counter()
    tally, histories = read_tally(connection, [shard]), read_histories(connection, shard)
    failed = dict([*read_failed(connection, shard), *read_failed_histories(connection, shard)])
    explanation = (
        f"{tally.wallets} wallets: {tally.complete} complete, {tally.truncated} truncated, {tally.unasked} not fetched yet; "
        f"TWAP histories fetched: {histories.asked}."
    )
    if failed:
        named = "; ".join(f"{wallet}: {error}" for wallet, error in list(failed.items())[:3])
        explanation = f"{len(failed)} wallets failed; run again: {named}. {explanation}"
    return JudgedShard(_state_of(tally, histories, failed), explanation, time.perf_counter() - started)


def _state_of(tally: Tally, histories: Histories, failed: dict[str, str]) -> ShardState:
    if failed:
        return "failed"
    if tally.unasked or histories.asked < tally.wallets:
        return "unfinished"
    return "truncated" if tally.truncated else "complete"
