"""`raw_fills`: the objects of the bucket into the lake, one file each, lossless, none fetched twice.

What becomes of their rows is the matter of `fills`.
"""

import logging
import time
from datetime import date

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    MaterializeResult,
    MetadataValue,
    asset,
)

from hl_pipeline.assets.checks import check_bad_lines, listed, severity
from hl_pipeline.assets.metadata import OWNERS, check_of_day, lake_metadata
from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.lake.store import open_lake
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.stages.disk_space import bytes_on_disk
from hl_pipeline.stages.fetch_fills import FetchedFills, fetch_fills
from hl_pipeline.stages.judge import judge_fills, objects_around
from hl_pipeline.warehouse.locks import lock_judging

_log = logging.getLogger(__name__)
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
        brought = fetch_fills(day, lake, settings, context.run.run_id)
        seconds = time.perf_counter() - started
        with lock_judging(connection, day):
            judgement = judge_fills(day, objects_around(lake, day), connection, settings)
    return MaterializeResult(
        metadata=_describe(brought, judgement, seconds),
        check_results=[
            _check_hours(judgement),
            _check_holes(judgement),
            check_bad_lines(brought.found, settings.bad_lines_max_share),
        ],
    )


def _describe(brought: FetchedFills, judgement: DayVerdict, seconds: float) -> dict[str, MetadataValue | int | float | str]:
    metas = brought.found
    blocks = [number for meta in metas for number in (meta.first_block, meta.last_block) if number is not None]
    described: dict[str, MetadataValue | int | float | str] = {
        "state": judgement.state,
        "explanation": judgement.explain(),
        "source": judgement.source_names,
        "dagster/partition_row_count": sum(meta.rows for meta in metas),
        "objects": len(metas),
        "objects_to_fetch": len(brought.to_fetch),
        "objects_fetched": len(brought.fetched),
        "bytes": sum(meta.size for meta in metas),
        "bytes_to_fetch": sum(brought.to_fetch),
        "bytes_fetched": sum(meta.size for meta in brought.fetched),
        "requests": brought.requests,
        "dollars_expected": float(brought.dollars_expected),
        "disk_bytes_expected": bytes_on_disk(sum(brought.to_fetch)),
        "dollars": float(brought.dollars),
        "bad_lines": sum(meta.bad_lines for meta in metas),
        "missing_blocks": judgement.missing_blocks,
        "missing_hours": sum(state.state != "present" for state in judgement.hours),
        "seconds": round(seconds, 3),
    }
    if blocks:
        described |= {"first_block": min(blocks), "last_block": max(blocks)}
    return described


def _check_hours(judgement: DayVerdict) -> AssetCheckResult:
    lacking = [state for state in judgement.hours if state.state != "present"]
    return AssetCheckResult(
        check_name="hours_present",
        passed=not lacking,
        severity=severity(judgement.hours_are_harmless),
        description=judgement.explain() if lacking or not judgement.hours else f"All {len(judgement.hours)} objects are there.",
        metadata={"missing_hours": len(lacking)}
        | listed(
            "missing_objects",
            [
                {
                    "source": state.source.name,
                    "hour": state.hour.isoformat(),
                    "state": state.state,
                    "why": state.why,
                    "acknowledged": state.note or "",
                }
                for state in lacking
            ],
        ),
    )


def _check_holes(judgement: DayVerdict) -> AssetCheckResult:
    lacking = sum(state.state != "present" for state in judgement.hours)
    known = ", all acknowledged" if judgement.holes_are_harmless else ""
    said = f"{judgement.missing_blocks} blocks missing in {len(judgement.holes)} holes{known}."
    none = "No block missing" + (f" within the objects that are there; {lacking} are not." if lacking else ".")
    return AssetCheckResult(
        check_name="blocks_without_holes",
        passed=not judgement.holes,
        severity=severity(judgement.holes_are_harmless),
        description=said if judgement.holes else none,
        metadata={"missing_blocks": judgement.missing_blocks}
        | listed("holes", [{"first": hole.first, "last": hole.last, "where": hole.where} for hole in judgement.holes[:1000]]),
    )
