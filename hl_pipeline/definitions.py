"""Everything Dagster knows of this project, assembled in one place. Wiring only."""

from dagster import AssetSelection, Definitions, define_asset_job, in_process_executor

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.raw_api import raw_api_fills, raw_api_twap_history
from hl_pipeline.assets.raw_fills import raw_fills
from hl_pipeline.assets.raw_twap_statuses import raw_twap_statuses
from hl_pipeline.assets.statistics import statistics
from hl_pipeline.assets.twap_statuses import twap_statuses
from hl_pipeline.assets.twaps import twaps
from hl_pipeline.assets.verdicts import whole_days, whole_shards
from hl_pipeline.automation import build_schedule, build_sensors, fresh
from hl_pipeline.ops.run_retention import retention_schedule, thin_runs_by_age
from hl_pipeline.ops.warm_runs import fork_runs
from hl_pipeline.resources import StageResults, Warehouse
from hl_pipeline.settings import Settings

DERIVED = [fills, statistics, twap_statuses, twaps]
"""What is made from the lake's objects, without a bucket."""
ASSETS = [raw_fills, raw_twap_statuses, *DERIVED]
"""Those of days."""
BACKFILL = [raw_api_fills, raw_api_twap_history]
"""Those of shards of wallets."""
VERDICTS = [whole_days, whole_shards]
"""The leaves that say whether a day, or a shard, lacks anything."""


def build_resources(settings: Settings, results: StageResults | None = None) -> dict[str, object]:
    """What the assets work with, as the settings say; `results` is for a caller that reads what the stages return."""
    return {
        "warehouse": Warehouse(settings),
        "settings": settings,
        "results": results or StageResults(),
    }


# Whether fills keep up with the clock is no matter of a day.
_OF_DAYS = AssetSelection.assets(*ASSETS, whole_days) - AssetSelection.checks(fresh)
INGEST_DAYS = define_asset_job(
    "ingest_days",
    _OF_DAYS,
    description="A day from the buckets: its objects into the lake, its fills and TWAP statuses into lake and PostgreSQL, "
    "statistics, TWAPs, and whether the day is whole. An object that the lake has is not downloaded again.",
)
REBUILD_DAYS = define_asset_job(
    "rebuild_days",
    AssetSelection.assets(*DERIVED, whole_days) - AssetSelection.checks(fresh),
    description="A day made again from the lake, as `hl rebuild` does: fills, candles, statistics, TWAPs. Reads no bucket.",
)
BACKFILL_SHARDS = define_asset_job(
    "backfill_shards",
    AssetSelection.assets(*BACKFILL, whole_shards),
    description="A shard of wallets from the info API: fills from before the buckets and statuses of TWAPs, into the lake. "
    "A wallet that was asked to its end is not asked again.",
    # It takes hours: days go first.
    tags={"dagster/priority": "-1"},
)


def build_defs(settings: Settings | None = None, results: StageResults | None = None) -> Definitions:
    """The code location; `hl` gives its settings, and a place for what the stages return."""
    settings = settings or Settings()
    return Definitions(
        assets=[*ASSETS, *BACKFILL, *VERDICTS],
        asset_checks=[fresh],
        jobs=[INGEST_DAYS, REBUILD_DAYS, BACKFILL_SHARDS, thin_runs_by_age],
        sensors=build_sensors(settings, INGEST_DAYS),
        schedules=[build_schedule(settings, INGEST_DAYS), retention_schedule(settings)],
        resources=build_resources(settings, results),
        # A run is a process already: work in parallel is across runs, and in threads within one.
        executor=in_process_executor,
    )


defs = build_defs()
fork_runs()
