"""`raw_api_fills` fetches fills from before the buckets from the info API into the lake, by shard of wallets.
`raw_api_twap_history` fetches the TWAP statuses of these wallets.
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
    "wallets_answered": "The info API answered for every wallet of the shard.",
    "wallets_complete": "Every wallet was fetched, and none has more history in the window than the API returns.",
}
_HISTORY_CHECKS = {
    "wallets_answered": "The info API answered for every wallet of the shard.",
    "statuses_have_twaps": "Every status could be parsed and matched to a TWAP.",
}


class ShardConfig(Config):
    """Selects the wallets of the shard to fetch."""

    wallets: list[str] = Field(default=[], description="Only these wallets, in lower case. Empty: all known wallets.")
    limit: int = Field(default=0, ge=0, description="Maximum number of wallets. 0: no limit.")
    discover: bool = Field(default=True, description="Whether to add new wallets from hl.user_stats first.")

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
    """Fills of wallets from before the buckets begin.

    Fetches the fills and TWAP slices of each wallet of the shard, from HL_BACKFILL_FROM to HL_BACKFILL_TO, from the info API into
    the lake, by day of the event. Finished wallets are not fetched again. A killed run continues where it stopped.
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
    """TWAP statuses of wallets, from the info API.

    Fetches the TWAP statuses that the info API still has for each wallet of the shard into the lake, by day of the event. Times
    are whole seconds. A status without a TWAP ID is matched to the TWAP with the same wallet, coin and start time.
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
