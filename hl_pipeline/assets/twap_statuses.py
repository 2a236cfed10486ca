"""`raw_twap_statuses`: the objects of TWAP statuses into the lake; `twap_statuses`: every event of a day once, into lake and
PostgreSQL.
"""

import logging
import time
from datetime import date

from dagster import (
    AllPartitionMapping,
    AssetCheckResult,
    AssetDep,
    AssetExecutionContext,
    MaterializeResult,
    asset,
)

from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, table_metadata
from hl_pipeline.assets.raw_api import raw_api_twap_history
from hl_pipeline.assets.raw_twap_statuses import GROUP, check_presence, raw_twap_statuses
from hl_pipeline.domain.deduplicate_statuses import OnceStatuses
from hl_pipeline.lake.store import open_lake
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.stages.load_statuses import load_statuses_day

_log = logging.getLogger(__name__)
_CHECKS = {
    "key_unique": "No repeat of an event that was left out says other things of it.",
    "day_is_there": "The day's objects are there; nothing can prove that they lack no row.",
}


@asset(
    partitions_def=DAYS,
    deps=[raw_twap_statuses, AssetDep(raw_api_twap_history, partition_mapping=AllPartitionMapping())],
    group_name=GROUP,
    kinds={"parquet", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.twap_statuses") | column_lineage("hl.twap_statuses"),
    check_specs=[check_of_day("twap_statuses", name, text) for name, text in _CHECKS.items()],
)
def twap_statuses(
    context: AssetExecutionContext,
    warehouse: WarehouseParam,
    settings: SettingsParam,
) -> MaterializeResult:
    """Every event of every TWAP, once.

    What became of TWAPs on the day (UTC): begun, finished, terminated, failed; with what was asked for and what they say they
    have executed. An event that two objects have is there once, with the finest time.
    """
    day = date.fromisoformat(context.partition_key)
    lake = open_lake(settings.lake)
    started = time.perf_counter()
    with warehouse.connect("hl twap_statuses") as connection:
        once, judgement = load_statuses_day(day, lake, connection, settings)
    kinds = once.statuses["status"].value_counts().sort("status").iter_rows()
    return MaterializeResult(
        metadata={
            "state": judgement.state,
            "explanation": judgement.explanation,
            "dagster/partition_row_count": once.statuses.height,
            "twaps": once.statuses["twap_id"].n_unique(),
            **{f"status_{kind}": count for kind, count in kinds},
            "duplicates_dropped": once.duplicates,
            "conflicts": once.conflicts,
            "seconds": round(time.perf_counter() - started, 3),
        },
        check_results=[_check_key(once), check_presence(judgement, "day_is_there")],
    )


def _check_key(once: OnceStatuses) -> AssetCheckResult:
    said = f"{once.duplicates} repeats were left out, {once.conflicts} of them say other things of their event."
    return AssetCheckResult(
        check_name="key_unique",
        passed=once.conflicts == 0,
        description=said,
        metadata={"duplicates_dropped": once.duplicates, "conflicts": once.conflicts},
    )
