"""`raw_twap_statuses`: the objects of TWAP statuses, into the lake."""

import time
from collections.abc import Sequence
from datetime import date

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    MaterializeResult,
    MetadataValue,
    asset,
)

from hl_pipeline.assets.checks import check_bad_lines, describe_fetched, severity
from hl_pipeline.assets.metadata import OWNERS, check_of_day, status_lake_metadata
from hl_pipeline.domain.records import StatusObject
from hl_pipeline.domain.status_completeness import StatusVerdict, find_strays
from hl_pipeline.lake.store import open_lake
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.stages.fetch import fetch_day
from hl_pipeline.stages.judge import judge_statuses
from hl_pipeline.stages.raw_tables import RAW_TWAP_STATUSES

_RAW_CHECKS = {
    "objects_present": "The day has objects, or all of its hours; none of them could not be had or read.",
    "lines_taken": "No object has a greater share of its rows in quarantine than HL_BAD_LINES_MAX_SHARE.",
    "events_near_their_day": "No object has events more than a day from the day in its key.",
}


GROUP = "twaps"


@asset(
    partitions_def=DAYS,
    group_name=GROUP,
    kinds={"s3", "parquet"},
    owners=OWNERS,
    metadata=status_lake_metadata(),
    check_specs=[check_of_day("raw_twap_statuses", name, text) for name, text in _RAW_CHECKS.items()],
)
def raw_twap_statuses(
    context: AssetExecutionContext,
    warehouse: WarehouseParam,
    settings: SettingsParam,
) -> MaterializeResult:
    """TWAP statuses of the bucket, as Parquet.

    The objects with the day, or a day beside it, in their key (events at an edge may stand in the neighbour's), each a file in
    the lake, lossless. An object that the lake has is not downloaded again; what cannot be read is quarantined beside it.
    """
    day = date.fromisoformat(context.partition_key)
    lake = open_lake(settings.lake)
    started = time.perf_counter()
    with warehouse.connect("hl raw_twap_statuses") as connection:
        result = fetch_day(RAW_TWAP_STATUSES, day, lake, settings, context.run.run_id)
        seconds = time.perf_counter() - started
        verdict = judge_statuses(day, lake, connection, settings)
    own = [meta for meta in result.objects if meta.object_date == str(day)]
    return MaterializeResult(
        metadata={
            "state": verdict.state,
            "explanation": verdict.explanation,
            **describe_fetched(result, own, seconds),
            "forms_met": MetadataValue.json(sorted({note for meta in own for note in meta.notes})),
        },
        check_results=[
            check_presence(verdict, "objects_present"),
            check_bad_lines(own, settings.bad_lines_max_share),
            _check_strays(own),
        ],
    )


def _check_strays(objects: Sequence[StatusObject]) -> AssetCheckResult:
    strays = find_strays(objects)
    return AssetCheckResult(
        check_name="events_near_their_day",
        passed=not strays,
        severity=severity(is_harmless=True),
        description=". ".join(strays[:3]) or "Every event is within a day of the day in its object's key.",
        metadata={"objects": len(strays)},
    )


def check_presence(verdict: StatusVerdict, name: str) -> AssetCheckResult:
    """Whether the day's objects are there, as the verdict says."""
    return AssetCheckResult(
        check_name=name,
        # What nothing can prove, or what no source has, is no fault of the day.
        passed=verdict.state in ("unprovable", "no source"),
        severity=severity(verdict.is_harmless),
        description=verdict.explanation,
    )
