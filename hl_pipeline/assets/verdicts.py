"""`whole_days` and `whole_shards`: leaves that are green only where nothing is missing. Nothing depends on them.

A check never colours a partition in the UI, nor does a failure after a materialization: only a step that raises without having
materialized makes it red, and one that yields nothing leaves it grey.
"""

from collections.abc import Iterator
from datetime import date
from typing import NoReturn

from dagster import AssetExecutionContext, Failure, MaterializeResult, asset

from hl_pipeline.assets.metadata import OWNERS
from hl_pipeline.assets.raw_api import raw_api_fills, raw_api_twap_history
from hl_pipeline.assets.statistics import statistics
from hl_pipeline.assets.twaps import twaps
from hl_pipeline.domain.whole_days import VERDICT_TAG
from hl_pipeline.partitions import DAYS, SHARDS
from hl_pipeline.resources import ResultsParam, SettingsParam, WarehouseParam

RETRY_OF_STEPS_TAG = "dagster/retry_on_asset_or_op_failure"


@asset(
    partitions_def=DAYS,
    # All that is made of a day: where any of it failed, the day is not green either.
    deps=[statistics, twaps],
    group_name="verdict",
    kinds={"postgres"},
    owners=OWNERS,
    output_required=False,
)
def whole_days(
    context: AssetExecutionContext, warehouse: WarehouseParam, settings: SettingsParam, results: ResultsParam
) -> Iterator[MaterializeResult]:
    """Whether the day is whole.

    Green: the day is whole, or every object is there and nothing can prove more (`unprovable`), or what is missing was
    acknowledged, or no source has the day. Grey: what is missing is not due yet. Red: something that is due is missing; `View
    logs` says what, and so does the metadata `explanation` of `fills`. Materialize the day again once the bucket has it, or
    acknowledge it (`hl acknowledge`) and materialize `whole_days` alone.
    """
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.judge import judge_loaded_day

    day = date.fromisoformat(context.partition_key)
    with warehouse.connect("hl whole_days") as connection:
        judged = judge_loaded_day(day, open_lake(settings.lake), connection, settings)
    results.by_asset["whole_days"] = judged
    if judged.is_hole:
        _fail(context, judged.explanation)
    if judged.is_good:
        yield _describe(judged.state, judged.explanation, judged.seconds)
    else:
        context.log.info(f"{judged.state}: {judged.explanation}")


@asset(
    partitions_def=SHARDS,
    deps=[raw_api_fills, raw_api_twap_history],
    # Beside what it judges: it has nothing to do with days.
    group_name="backfill",
    kinds={"postgres"},
    owners=OWNERS,
    output_required=False,
)
def whole_shards(context: AssetExecutionContext, warehouse: WarehouseParam, results: ResultsParam) -> Iterator[MaterializeResult]:
    """Whether every wallet of the shard was asked.

    Green: the info API answered for every wallet (of `truncated` ones it has more than it gives). Grey: some were not asked yet.
    Red: a wallet failed; `View logs` names it and says why. Materialize the shard again: only what failed is asked again.
    """
    from hl_pipeline.stages.judge_shards import judge_shard

    with warehouse.connect("hl whole_shards") as connection:
        judged = judge_shard(context.partition_key, connection)
    results.by_asset["whole_shards"] = judged
    if judged.state == "failed":
        _fail(context, judged.explanation)
    if judged.state == "unfinished":
        context.log.info(f"{judged.state}: {judged.explanation}")
    else:
        yield _describe(judged.state, judged.explanation, judged.seconds)


def _describe(state: str, explanation: str, seconds: float) -> MaterializeResult:
    return MaterializeResult(metadata={"state": state, "explanation": explanation, "seconds": round(seconds, 3)})


def _fail(context: AssetExecutionContext, reason: str) -> NoReturn:
    """Fail without a materialization, for good: another attempt would find the same. A run whose process dies is still tried
    again.
    """
    context.instance.add_run_tags(context.run.run_id, {VERDICT_TAG: "incomplete", RETRY_OF_STEPS_TAG: "false"})
    raise Failure(reason, allow_retries=False)
