"""`raw_api_fills`: what the info API has of wallets from before the buckets begin, by shard of wallets, into the lake;
`raw_api_twap_history`: what it has of their TWAPs.
"""

from typing import TYPE_CHECKING

from dagster import AssetExecutionContext, Config, MaterializeResult, asset
from pydantic import Field

from hl_pipeline.assets.metadata import OWNERS, check_of_shard, lake_metadata, report, status_lake_metadata
from hl_pipeline.partitions import SHARDS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

if TYPE_CHECKING:
    from hl_pipeline.stages.fetch_shards import WalletSelection

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

    def select(self) -> "WalletSelection":
        from hl_pipeline.stages.fetch_shards import WalletSelection

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
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.sources.open import open_info_api
    from hl_pipeline.stages.fetch_shards import fetch_shard
    from hl_pipeline.warehouse.info_weight import InfoWeight

    with warehouse.connect("hl raw_api_fills") as connection:
        api, lake = open_info_api(settings, InfoWeight(settings)), open_lake(settings.lake)
        fetched = fetch_shard(context.partition_key, config.select(), api, lake, connection, settings)
    now, tally = fetched.now, fetched.tally
    figures = {
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
    }
    return report(results, "raw_api_fills", fetched, tally.fills, figures)


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
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.sources.open import open_info_api
    from hl_pipeline.stages.fetch_shards import fetch_histories
    from hl_pipeline.warehouse.info_weight import InfoWeight

    with warehouse.connect("hl raw_api_twap_history") as connection:
        api, lake = open_info_api(settings, InfoWeight(settings)), open_lake(settings.lake)
        fetched = fetch_histories(context.partition_key, config.select(), api, lake, connection)
    now, histories = fetched.now, fetched.histories
    figures = {
        "wallets": histories.wallets,
        "wallets_asked": histories.asked,
        "wallets_failed": histories.failed,
        "wallets_asked_now": now.wallets,
        "statuses_now": now.rows,
        "requests": now.requests,
        "weight": now.weight,
        "bad_items": histories.bad,
        "days_touched": len(now.days),
    }
    return report(results, "raw_api_twap_history", fetched, histories.statuses, figures)
