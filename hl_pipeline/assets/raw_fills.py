"""`raw_fills`: fetches the objects of the bucket into the lake, one lossless file each, none twice.

`fills` loads their rows.
"""

from datetime import date
from typing import TYPE_CHECKING

from dagster import AssetExecutionContext, MaterializeResult, asset

from hl_pipeline.assets.checks import describe_fetched
from hl_pipeline.assets.metadata import OWNERS, check_of_day, lake_metadata, report
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

if TYPE_CHECKING:
    from hl_pipeline.stages.fetch_day import FetchedFills

_CHECKS = {
    "hours_present": "Every object that the day needs is in the lake.",
    "blocks_without_holes": "Block numbers are contiguous within each object and from one object to the next.",
    "lines_taken": "No object's share of quarantined lines exceeds HL_BAD_LINES_MAX_SHARE.",
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
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> MaterializeResult:
    """Objects of the bucket, as Parquet.

    Fetches the objects of the day's hours and of the hour after. Each becomes one lossless file in the lake. Objects already in
    the lake are not downloaded again. Unreadable lines go to a quarantine file next to it.
    """
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.fetch_day import fetch_fills

    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl raw_fills") as connection:
        fetched = fetch_fills(day, open_lake(settings.lake), connection, settings, context.run.run_id)
    rows = sum(meta.rows for meta in fetched.result.objects)
    return report(results, "raw_fills", fetched, rows, _describe(fetched))


def _describe(fetched: "FetchedFills") -> dict[str, int | float | str]:
    from hl_pipeline.stages.disk_space import bytes_on_disk

    result, verdict = fetched.result, fetched.verdict
    blocks = [number for meta in result.objects for number in (meta.first_block, meta.last_block) if number is not None]
    return {
        "state": verdict.state,
        "explanation": verdict.explain(),
        "source": verdict.source_names,
        **describe_fetched(result, result.objects),
        "disk_bytes_expected": bytes_on_disk(sum(result.to_fetch)),
        "missing_blocks": verdict.missing_blocks,
        "missing_hours": sum(state.state != "present" for state in verdict.hours),
        **({"first_block": min(blocks), "last_block": max(blocks)} if blocks else {}),
    }
