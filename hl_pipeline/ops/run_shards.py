"""Materializes shards of wallets in this process, one after the other, and returns the result of each. Prints nothing."""

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
    """The shards to run in order, with the wallets of each (empty: all known wallets), and the total number of unfinished fill
    histories.
    """

    shards: list[str]
    wallets: dict[str, list[str]]
    unfinished: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class RunShard:
    """The result of a shard, or the reason why it failed."""

    shard: str
    fetched: FetchedShard | None = None
    histories: FetchedHistories | None = None
    failure: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the run failed, or the TWAP statuses of a wallet could not be fetched."""
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
    """Add the wallets (None: all of hl.user_stats), and select the unfinished ones, at most `limit`. Shards without such wallets
    are skipped unless they were named.
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
    """Fetch the wallets of each shard, and yield the results. Stops after a failed shard. `begin` is called before each.

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
            # A run with a failed wallet fails, so only the results show whether the shard was fetched.
            if "whole_shards" not in runner.results.by_asset:
                yield RunShard(shard, failure=explain_failure(result))
                return
            fetched = runner.results.of("raw_api_fills", FetchedShard)
            left -= fetched.now.wallets
            yield RunShard(shard, fetched, runner.results.of("raw_api_twap_history", FetchedHistories))


def judge_wallets(tally: Tally) -> Outcome:
    """Return the outcome for the counted wallets."""
    if tally.failed:
        return Outcome.FAILED
    return Outcome.WHOLE if tally.complete == tally.wallets else Outcome.INCOMPLETE
