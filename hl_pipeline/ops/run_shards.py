"""Shards of wallets materialized in this process, one after the other, and what came of each. Nothing is shown here."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psycopg
from dagster import DagsterInstance

from hl_pipeline.domain.shards import shard_of
from hl_pipeline.ops.run_days import Outcome
from hl_pipeline.ops.run_in_process import explain_failure, open_runner
from hl_pipeline.settings import Settings
from hl_pipeline.stages.fetch_shards import FetchedHistories, FetchedShard
from hl_pipeline.warehouse.backfill_histories import wallets_without_history
from hl_pipeline.warehouse.backfill_progress import (
    Tally,
    Window,
    add_wallets,
    discover_wallets,
    unfinished_wallets,
)


@dataclass(frozen=True, slots=True)
class ShardsPlan:
    """The shards to run, in order; of each the wallets to ask (none named: all that are noted), and how many fill histories are
    to be asked of all.
    """

    shards: list[str]
    wallets: dict[str, list[str]]
    unfinished: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class RunShard:
    """What came of a shard; of one that failed only why."""

    shard: str
    fetched: FetchedShard | None = None
    histories: FetchedHistories | None = None
    failure: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the run failed, or a wallet of it could not be asked for its TWAPs."""
        return self.failure is not None or (self.histories is not None and bool(self.histories.histories.failed))


def plan_shards(
    connection: psycopg.Connection,
    shards: Sequence[str],
    wallets: list[str] | None,
    limit: int | None,
    settings: Settings,
    *,
    is_named: bool,
) -> ShardsPlan:
    """Note the wallets (None: all of hl.user_stats), and find out which of them are to be asked, `limit` at most. A shard without
    one is left out unless it was named.
    """
    if wallets is None:
        discover_wallets(connection)
    else:
        add_wallets(connection, wallets)
    window = Window(settings.backfill_from, settings.backfill_to)
    unfinished = unfinished_wallets(connection, shards, window, wallets)
    busy = {shard_of(wallet) for wallet in [*unfinished, *wallets_without_history(connection, shards, wallets)]}
    by_shard: defaultdict[str, list[str]] = defaultdict(list)
    for wallet in wallets or []:
        by_shard[shard_of(wallet)].append(wallet)
    to_run = [shard for shard in shards if shard in busy or (is_named and wallets is None)]
    return ShardsPlan(to_run, by_shard, min(len(unfinished), limit or sys.maxsize), limit)


def run_shards(plan: ShardsPlan, settings: Settings, begin: Callable[[str], None] = lambda _: None) -> Iterator[RunShard]:
    """Ask for the wallets of each shard, and yield what came of it; none is begun after one that failed. `begin` is called before
    each.

    Raises RunInterruptedError.
    """
    left = plan.unfinished
    with DagsterInstance.get() as instance:
        runner = open_runner("backfill_shards", instance, settings, "hl backfill")
        for shard in plan.shards:
            if plan.limit and plan.unfinished and not left:
                return
            begin(shard)
            wallets = plan.wallets.get(shard, [])
            config = {"config": {"limit": left if plan.limit else 0, "discover": False, "wallets": wallets}}
            result = runner.run(shard, {"ops": {"raw_api_fills": config, "raw_api_twap_history": config}})
            # A run fails where a wallet has failed; whether the shard was asked is for the results to tell.
            if "whole_shards" not in runner.results.by_asset:
                yield RunShard(shard, failure=explain_failure(result))
                return
            fetched = runner.results.of("raw_api_fills", FetchedShard)
            left -= fetched.now.wallets
            yield RunShard(shard, fetched, runner.results.of("raw_api_twap_history", FetchedHistories))


def judge_wallets(tally: Tally) -> Outcome:
    """What may be said of so many wallets."""
    if tally.failed:
        return Outcome.FAILED
    return Outcome.WHOLE if tally.complete == tally.wallets else Outcome.INCOMPLETE
