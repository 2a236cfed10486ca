"""`raw_api_fills`: what the info API has of wallets from before the buckets begin, by shard of wallets, into the lake;
`raw_api_twap_history`: what it has of their TWAPs.
"""

import logging
import time
from datetime import datetime

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
from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.sources.open import open_info_api
from hl_pipeline.stages.fetch_shards import fetch_histories, fetch_shard
from hl_pipeline.warehouse.backfill_progress import (
    Histories,
    Tally,
    read_failed,
    read_failed_histories,
    read_histories,
    read_tally,
    read_truncated,
)
from hl_pipeline.warehouse.info_weight import InfoWeight

_log = logging.getLogger(__name__)
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
) -> MaterializeResult:
    """Fills of wallets before the buckets.

    What the info API has of each wallet of the shard from HL_BACKFILL_FROM to HL_BACKFILL_TO, its TWAPs' slices included, into
    the lake by the day of the event. A wallet that was asked to its end is not asked again; a run that was killed goes on.
    """
    shard = context.partition_key
    started = time.perf_counter()
    with warehouse.connect("hl raw_api_fills") as connection:
        api, lake = open_info_api(settings, InfoWeight(settings)), open_lake(settings.lake)
        asked = fetch_shard(shard, config, api, lake, connection, settings)
        tally = read_tally(connection, [shard])
        failed = read_failed(connection, shard)
        truncated = read_truncated(connection, shard, _SHOWN)
    return MaterializeResult(
        metadata={
            "dagster/partition_row_count": tally.fills,
            "wallets": tally.wallets,
            "wallets_complete": tally.complete,
            "wallets_truncated": tally.truncated,
            "wallets_failed": tally.failed,
            "wallets_not_asked": tally.unasked,
            "wallets_asked_now": asked.wallets,
            "fills_now": asked.fills,
            "requests": asked.requests,
            "weight": asked.weight,
            "bad_items": tally.bad,
            "days_touched": len(asked.days),
            "seconds": round(time.perf_counter() - started, 3),
        },
        check_results=[_check_answered(failed), _check_complete(tally, truncated)],
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
) -> MaterializeResult:
    """TWAP statuses of wallets, from the API.

    What the info API still has of the TWAPs of each wallet of the shard, into the lake by the day of the event; times are whole
    seconds. A status without the id of its TWAP has that of the one that its wallet placed in its coin at its time.
    """
    shard = context.partition_key
    started = time.perf_counter()
    with warehouse.connect("hl raw_api_twap_history") as connection:
        api, lake = open_info_api(settings, InfoWeight(settings)), open_lake(settings.lake)
        asked = fetch_histories(shard, config, api, lake, connection)
        histories = read_histories(connection, shard)
        failed = read_failed_histories(connection, shard)
    return MaterializeResult(
        metadata={
            "dagster/partition_row_count": histories.statuses,
            "wallets": histories.wallets,
            "wallets_asked": histories.asked,
            "wallets_failed": histories.failed,
            "wallets_asked_now": asked.wallets,
            "statuses_now": asked.fills,
            "requests": asked.requests,
            "weight": asked.weight,
            "bad_items": histories.bad,
            "days_touched": len(asked.days),
            "seconds": round(time.perf_counter() - started, 3),
        },
        check_results=[_check_answered(failed), _check_histories(histories)],
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


def _check_histories(histories: Histories) -> AssetCheckResult:
    return AssetCheckResult(
        check_name="statuses_have_twaps",
        passed=not histories.bad,
        severity=AssetCheckSeverity.WARN,
        description=f"{histories.statuses} statuses of {histories.asked} wallets; {histories.bad} in quarantine.",
        metadata={"bad_items": histories.bad},
    )


def _check_complete(tally: Tally, truncated: list[tuple[str, datetime | None, str]]) -> AssetCheckResult:
    said = f"{tally.complete} of {tally.wallets} wallets are complete"
    if tally.truncated:
        said += f", {tally.truncated} have more than the API reaches"
    if tally.failed:
        said += f", {tally.failed} failed"
    if tally.unasked:
        said += f", {tally.unasked} were not asked yet"
    shown = [{"wallet": wallet, "oldest": str(oldest), "why": reason} for wallet, oldest, reason in truncated]
    return AssetCheckResult(
        check_name="wallets_complete",
        passed=tally.complete == tally.wallets,
        severity=AssetCheckSeverity.WARN,
        description=said + ".",
        metadata={"wallets_truncated": tally.truncated, "wallets_not_asked": tally.unasked}
        | ({"truncated": MetadataValue.json(shown)} if shown else {}),
    )
