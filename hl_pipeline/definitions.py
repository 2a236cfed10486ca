"""Assembles all Dagster definitions of this project. Wiring only."""

from dagster import AssetSelection, Definitions, define_asset_job, in_process_executor

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.fills_compacted import fills_compacted
from hl_pipeline.assets.raw_api import raw_api_fills, raw_api_twap_history
from hl_pipeline.assets.raw_fills import raw_fills
from hl_pipeline.assets.raw_twap_statuses import raw_twap_statuses
from hl_pipeline.assets.statistics import statistics
from hl_pipeline.assets.twap_statuses import twap_statuses
from hl_pipeline.assets.twaps import twaps
from hl_pipeline.assets.verdicts import whole_days, whole_shards
from hl_pipeline.automation import build_compact_schedule, build_schedule, build_sensors, fresh
from hl_pipeline.ops.alerts import build_alerts
from hl_pipeline.ops.lake_vacuum import vacuum_lake, vacuum_schedule
from hl_pipeline.ops.run_retention import retention_schedule, thin_runs_by_age
from hl_pipeline.ops.warm_runs import fork_runs
from hl_pipeline.resources import StageResults, Warehouse, last_for_a_run
from hl_pipeline.settings import Settings

DERIVED = [fills, statistics, twap_statuses, twaps]
"""The assets derived from the lake's objects, without a bucket."""
ASSETS = [raw_fills, raw_twap_statuses, *DERIVED]
"""All assets partitioned by day."""
BACKFILL = [raw_api_fills, raw_api_twap_history]
"""All assets partitioned by shard of wallets."""
AT_REST = [fills_compacted]
"""The assets of days that no longer change."""
VERDICTS = [whole_days, whole_shards]
"""The assets that show whether a day or a shard is complete."""


def build_resources(settings: Settings, results: StageResults | None = None) -> dict[str, object]:
    """Return the resources of the assets for the settings. `results` is for callers that read the results of the stages."""
    return {
        "warehouse": Warehouse(settings),
        "settings": settings,
        "results": last_for_a_run(results or StageResults()),
    }


# The check `fresh` is not about a single day.
_OF_DAYS = AssetSelection.assets(*ASSETS, whole_days) - AssetSelection.checks(fresh)
INGEST_DAYS = define_asset_job(
    "ingest_days",
    _OF_DAYS,
    description="Ingests a day from the buckets: objects into the lake, fills and TWAP statuses into the lake and PostgreSQL, "
    "then statistics, TWAPs and the verdict. Objects already in the lake are not downloaded again.",
)
REBUILD_DAYS = define_asset_job(
    "rebuild_days",
    AssetSelection.assets(*DERIVED, whole_days) - AssetSelection.checks(fresh),
    description="Rebuilds a day from the lake, like `hl rebuild`: fills, candles, statistics, TWAPs. Reads no bucket.",
)
COMPACT_DAYS = define_asset_job(
    "compact_days",
    AssetSelection.assets(*AT_REST),
    description="Publishes a day at rest in the lake's Iceberg table. Reads no bucket.",
    # Fresh days first.
    tags={"dagster/priority": "-1"},
)
BACKFILL_SHARDS = define_asset_job(
    "backfill_shards",
    AssetSelection.assets(*BACKFILL, whole_shards),
    description="Backfills a shard of wallets from the info API into the lake: fills from before the buckets and TWAP statuses. "
    "Finished wallets are not fetched again.",
    # Low priority: it takes hours, and days should run first.
    tags={"dagster/priority": "-1"},
)


def build_defs(settings: Settings | None = None, results: StageResults | None = None) -> Definitions:
    """Build the code location. `hl` passes its settings, and a place for the results of the stages."""
    settings = settings or Settings()
    return Definitions(
        assets=[*ASSETS, *AT_REST, *BACKFILL, *VERDICTS],
        asset_checks=[fresh],
        jobs=[INGEST_DAYS, REBUILD_DAYS, COMPACT_DAYS, BACKFILL_SHARDS, thin_runs_by_age, vacuum_lake],
        sensors=[*build_sensors(settings, INGEST_DAYS), *build_alerts(settings)],
        schedules=[
            build_schedule(settings, INGEST_DAYS),
            build_compact_schedule(settings, COMPACT_DAYS),
            retention_schedule(settings),
            vacuum_schedule(settings),
        ],
        resources=build_resources(settings, results),
        # A run is already a process. Parallel work is across runs, and in threads within a run.
        executor=in_process_executor,
    )


defs = build_defs()
fork_runs()
