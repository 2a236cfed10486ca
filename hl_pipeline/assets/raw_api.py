"""`raw_api_fills`: what the info API has of wallets from before the buckets begin, by shard of wallets, into the lake;
`raw_api_twap_history`: what it has of their TWAPs.
"""

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetExecutionContext,
    Config,
    MaterializeResult,
    MetadataValue,
    asset,
)
from pydantic import Field

from hl_pipeline.assets.metadata import OWNERS, check_of_shard, lake_metadata, status_lake_metadata
from hl_pipeline.lake.store import open_lake
from hl_pipeline.partitions import SHARDS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam
from hl_pipeline.sources.open import open_info_api
from hl_pipeline.stages.fetch_shards import FetchedHistories, FetchedShard, WalletSelection, fetch_histories, fetch_shard
from hl_pipeline.warehouse.info_weight import InfoWeight

_SHOWN = 1000
_CHECKS = {
    "wallets_answered": "The API answered for every wallet of the shard.",
    "wallets_complete": "Of every wallet everything of the window came: none has more than the API reaches, all were asked.",
}
_HISTORY_CHECKS = {
    "wallets_answered": "The API answered for every wallet of the shard.",
    "statuses_have_twaps": "Every status has a TWAP to which it belongs, and could be read.",
}


class ShardConfig(Config):
    """Which wallets of the shard are asked."""

    wallets: list[str] = Field(default=[], description="Only these (lower case); none: all that are known.")
    limit: int = Field(default=0, ge=0, description="At most so many; 0: all.")
    discover: bool = Field(default=True, description="Whether wallets of hl.user_stats that are not known yet are noted before.")

    def select(self) -> WalletSelection:
        return WalletSelection(tuple(self.wallets), self.limit, self.discover)


@asset(
    partitions_def=SHARDS,
    group_name="backfill",
    kinds={"parquet"},
    owners=OWNERS,
    pool="info_api",
    metadata=lake_metadata(),
    check_specs=[check_of_shard("raw_api_fills", name, text) for name, text in _CHECKS.items()],
)
def raw_api_fills(
    context: AssetExecutionContext,
    config: ShardConfig,
    warehouse: WarehouseParam,
    settings: SettingsParam,
    results: ResultsParam,
) -> MaterializeResult:
    """Fills of wallets before the buckets.

    What the info API has of each wallet of the shard from HL_BACKFILL_FROM to HL_BACKFILL_TO, its TWAPs' slices included, into
    the lake by the day of the event. A wallet that was asked to its end is not asked again; a run that was killed goes on.
    """
    with warehouse.connect("hl raw_api_fills") as connection:
        api, lake = open_info_api(settings, InfoWeight(settings)), open_lake(settings.lake)
        fetched = fetch_shard(context.partition_key, config.select(), api, lake, connection, settings)
    results.by_asset["raw_api_fills"] = fetched
    now, tally = fetched.now, fetched.tally
    return MaterializeResult(
        metadata={
            "dagster/partition_row_count": tally.fills,
            "wallets": tally.wallets,
            "wallets_complete": tally.complete,
            "wallets_truncated": tally.truncated,
            "wallets_failed": tally.failed,
            "wallets_not_asked": tally.unasked,
            "wallets_asked_now": now.wallets,
            "fills_now": now.rows,
            "requests": now.requests,
            "weight": now.weight,
            "bad_items": tally.bad,
            "days_touched": len(now.days),
            "seconds": round(now.seconds, 3),
        },
        check_results=[_check_answered(fetched.failed), _check_complete(fetched)],
    )


@asset(
    partitions_def=SHARDS,
    deps=[raw_api_fills],
    group_name="backfill",
    kinds={"parquet"},
    owners=OWNERS,
    pool="info_api",
    metadata=status_lake_metadata(),
    check_specs=[check_of_shard("raw_api_twap_history", name, text) for name, text in _HISTORY_CHECKS.items()],
)
def raw_api_twap_history(
    context: AssetExecutionContext,
    config: ShardConfig,
    warehouse: WarehouseParam,
    settings: SettingsParam,
    results: ResultsParam,
) -> MaterializeResult:
    """TWAP statuses of wallets, from the API.

    What the info API still has of the TWAPs of each wallet of the shard, into the lake by the day of the event; times are whole
    seconds. A status without the id of its TWAP has that of the one that its wallet placed in its coin at its time.
    """
    with warehouse.connect("hl raw_api_twap_history") as connection:
        api, lake = open_info_api(settings, InfoWeight(settings)), open_lake(settings.lake)
        fetched = fetch_histories(context.partition_key, config.select(), api, lake, connection)
    results.by_asset["raw_api_twap_history"] = fetched
    now, histories = fetched.now, fetched.histories
    return MaterializeResult(
        metadata={
            "dagster/partition_row_count": histories.statuses,
            "wallets": histories.wallets,
            "wallets_asked": histories.asked,
            "wallets_failed": histories.failed,
            "wallets_asked_now": now.wallets,
            "statuses_now": now.rows,
            "requests": now.requests,
            "weight": now.weight,
            "bad_items": histories.bad,
            "days_touched": len(now.days),
            "seconds": round(now.seconds, 3),
        },
        check_results=[_check_answered(fetched.failed), _check_histories(fetched)],
    )


def _check_answered(failed: list[tuple[str, str]]) -> AssetCheckResult:
    named = "; ".join(error for _, error in failed[:3]) + ("; ..." if len(failed) > 3 else "")
    return AssetCheckResult(
        check_name="wallets_answered",
        passed=not failed,
        description=f"{len(failed)} wallets failed, run again: {named}" if failed else "No wallet failed.",
        metadata={"wallets_failed": len(failed)}
        | ({"failed": MetadataValue.json([{"wallet": w, "error": e} for w, e in failed[:_SHOWN]])} if failed else {}),
    )


def _check_histories(fetched: FetchedHistories) -> AssetCheckResult:
    histories = fetched.histories
    return AssetCheckResult(
        check_name="statuses_have_twaps",
        passed=not histories.bad,
        severity=AssetCheckSeverity.WARN,
        description=f"{histories.statuses} statuses of {histories.asked} wallets; {histories.bad} in quarantine.",
        metadata={"bad_items": histories.bad},
    )


def _check_complete(fetched: FetchedShard) -> AssetCheckResult:
    tally = fetched.tally
    description = f"{tally.complete} of {tally.wallets} wallets are complete"
    if tally.truncated:
        description += f", {tally.truncated} have more than the API reaches"
    if tally.failed:
        description += f", {tally.failed} failed"
    if tally.unasked:
        description += f", {tally.unasked} were not asked yet"
    shown = [{"wallet": wallet, "oldest": str(oldest), "why": reason} for wallet, oldest, reason in fetched.truncated]
    return AssetCheckResult(
        check_name="wallets_complete",
        passed=tally.complete == tally.wallets,
        severity=AssetCheckSeverity.WARN,
        description=description + ".",
        metadata={"wallets_truncated": tally.truncated, "wallets_not_asked": tally.unasked}
        | ({"truncated": MetadataValue.json(shown)} if shown else {}),
    )
