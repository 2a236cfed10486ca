"""`raw_fills`: the objects of the bucket into the lake, one file each, lossless, none fetched twice.

What becomes of their rows is the matter of `fills`.
"""

import time
from datetime import date

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    MaterializeResult,
    asset,
)

from hl_pipeline.assets.checks import check_bad_lines, describe_fetched, list_metadata, severity
from hl_pipeline.assets.metadata import OWNERS, check_of_day, lake_metadata
from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.domain.records import ObjectMeta
from hl_pipeline.lake.store import open_lake
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.stages.disk_space import bytes_on_disk
from hl_pipeline.stages.fetch import FetchResult, fetch_day
from hl_pipeline.stages.judge import judge_hours, objects_around
from hl_pipeline.stages.raw_tables import RAW_FILLS
from hl_pipeline.warehouse.locks import lock_judging

_CHECKS = {
    "hours_present": "Every object that the day wants is in the lake.",
    "blocks_without_holes": "The block numbers run on, within each object and from one to the next.",
    "lines_taken": "No object has a greater share of its lines in quarantine than HL_BAD_LINES_MAX_SHARE.",
}


@asset(
    partitions_def=DAYS,
    group_name="ingest",
    kinds={"s3", "parquet"},
    owners=OWNERS,
    metadata=lake_metadata(),
    check_specs=[check_of_day("raw_fills", name, text) for name, text in _CHECKS.items()],
)
def raw_fills(
    context: AssetExecutionContext,
    warehouse: WarehouseParam,
    settings: SettingsParam,
) -> MaterializeResult:
    """Objects of the bucket, as Parquet.

    The fills of the day's hours and of the hour after as the bucket has them, each object a file in the lake, lossless. An
    object that the lake has is not downloaded again; what cannot be read of one is quarantined beside it.
    """
    day = date.fromisoformat(context.partition_key)
    lake = open_lake(settings.lake)
    started = time.perf_counter()
    with warehouse.connect("hl raw_fills") as connection:
        result = fetch_day(RAW_FILLS, day, lake, settings, context.run.run_id)
        seconds = time.perf_counter() - started
        with lock_judging(connection, day):
            verdict = judge_hours(day, objects_around(lake, day), connection, settings)
    return MaterializeResult(
        metadata=_describe(result, verdict, seconds),
        check_results=[
            _check_hours(verdict),
            _check_holes(verdict),
            check_bad_lines(result.objects, settings.bad_lines_max_share),
        ],
    )


def _describe(result: FetchResult[ObjectMeta], verdict: DayVerdict, seconds: float) -> dict[str, int | float | str]:
    blocks = [number for meta in result.objects for number in (meta.first_block, meta.last_block) if number is not None]
    return {
        "state": verdict.state,
        "explanation": verdict.explain(),
        "source": verdict.source_names,
        **describe_fetched(result, result.objects, seconds),
        "disk_bytes_expected": bytes_on_disk(sum(result.to_fetch)),
        "missing_blocks": verdict.missing_blocks,
        "missing_hours": sum(state.state != "present" for state in verdict.hours),
        **({"first_block": min(blocks), "last_block": max(blocks)} if blocks else {}),
    }


def _check_hours(verdict: DayVerdict) -> AssetCheckResult:
    missing = [state for state in verdict.hours if state.state != "present"]
    return AssetCheckResult(
        check_name="hours_present",
        passed=not missing,
        severity=severity(verdict.hours_are_harmless),
        description=verdict.explain() if missing or not verdict.hours else f"All {len(verdict.hours)} objects are there.",
        metadata={"missing_hours": len(missing)}
        | list_metadata(
            "missing_objects",
            [
                {
                    "source": state.source.name,
                    "hour": state.hour.isoformat(),
                    "state": state.state,
                    "why": state.why,
                    "acknowledged": state.note or "",
                }
                for state in missing
            ],
        ),
    )


def _check_holes(verdict: DayVerdict) -> AssetCheckResult:
    missing = sum(state.state != "present" for state in verdict.hours)
    acknowledged = ", all acknowledged" if verdict.holes_are_harmless else ""
    message = f"{verdict.missing_blocks} blocks missing in {len(verdict.holes)} holes{acknowledged}."
    none = "No block missing" + (f" within the objects that are there; {missing} are not." if missing else ".")
    return AssetCheckResult(
        check_name="blocks_without_holes",
        passed=not verdict.holes,
        severity=severity(verdict.holes_are_harmless),
        description=message if verdict.holes else none,
        metadata={"missing_blocks": verdict.missing_blocks}
        | list_metadata(
            "holes", [{"first": hole.first, "last": hole.last, "where": hole.where} for hole in verdict.holes[:1000]]
        ),
    )
