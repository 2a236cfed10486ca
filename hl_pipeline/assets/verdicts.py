"""`whole_days` and `whole_shards`: assets without dependents that are green only if nothing is missing.

In the UI, neither a check nor a failure after a materialization colours a partition. A partition is red only if its step raises
before it materializes, and grey if the step yields nothing.
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
from hl_pipeline.tracing import span

RETRY_OF_STEPS_TAG = "dagster/retry_on_asset_or_op_failure"


@asset(
    partitions_def=DAYS,
    # Everything derived from a day: if any of it failed, the day is not green.
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

    Green: the day is whole, or all objects are present and nothing can prove more (`unprovable`), or the gap is acknowledged, or
    no source has the day. Grey: the missing data is not due yet. Red: data that is due is missing; `View logs` and the metadata
    `explanation` of `fills` show what. Materialize the day again when the bucket has the data. Or acknowledge the gap
    (`hl acknowledge`) and materialize only `whole_days`.
    """
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.judge import judge_loaded_day

    day = date.fromisoformat(context.partition_key)
    with span("judge day", day=day):
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
    # In the group of the assets it judges, not with the assets of days.
    group_name="backfill",
    kinds={"postgres"},
    owners=OWNERS,
    output_required=False,
)
def whole_shards(context: AssetExecutionContext, warehouse: WarehouseParam, results: ResultsParam) -> Iterator[MaterializeResult]:
    """Whether every wallet of the shard was fetched.

    Green: the info API answered for every wallet (`truncated` wallets have more history than it returns). Grey: some wallets are
    not fetched yet. Red: a wallet failed; `View logs` shows which and why. Materialize the shard again: only failed wallets are
    fetched again.
    """
    from hl_pipeline.stages.judge_shards import judge_shard

    with span("judge shard", shard=context.partition_key):
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
    """Fail without a materialization and without retries, because a retry would have the same result. A run whose process dies is
    still retried.
    """
    context.instance.add_run_tags(context.run.run_id, {VERDICT_TAG: "incomplete", RETRY_OF_STEPS_TAG: "false"})
    raise Failure(reason, allow_retries=False)
