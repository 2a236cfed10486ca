"""`fills`: every fill of a UTC day, counted once, from the objects in the lake to `fills/date=D/` and to hl.fills.

New objects of a day that is there are added to it where that can be (`increments`): then the hours that they reach into are read
and counted, and no other.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from dagster import (
    AllPartitionMapping,
    AssetCheckResult,
    AssetDep,
    AssetExecutionContext,
    MaterializeResult,
    MetadataValue,
    asset,
)

from hl_pipeline.assets.checks import severity
from hl_pipeline.assets.metadata import OWNERS, check_of_day, column_lineage, table_metadata
from hl_pipeline.assets.raw_api import raw_api_fills
from hl_pipeline.assets.raw_fills import raw_fills
from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.lake.store import open_lake
from hl_pipeline.partitions import DAYS
from hl_pipeline.resources import SettingsParam, WarehouseParam
from hl_pipeline.stages.fills_retention import is_thinned, thin_old_days
from hl_pipeline.stages.load_fills import load_fills, sum_tallies, tally_lake
from hl_pipeline.warehouse.hour_totals import HourTally, HourTotals, read_proven, read_totals, record_proven
from hl_pipeline.warehouse.load_fills import (
    LoadedDay,
)
from hl_pipeline.warehouse.locks import lock_fills_day

_log = logging.getLogger(__name__)
_CHECKS = {
    "key_unique": "No fill is there twice by (time, coin, wallet, side, tid), and no repeat that was left out differs from it.",
    "legs_pair": "No trade has more than two legs, or two on one side; trades of which one leg alone is there are counted.",
    "lake_equals_database": "fills/date=D/ and hl.fills have the same rows: counts and sums, hour by hour.",
    "day_is_whole": "The day's objects are all there and its blocks run on over both midnights; or what lacks, and why.",
}


@asset(
    partitions_def=DAYS,
    # Any shard may have fills of any day: hl.dirty_days tells which days are to be loaded again.
    deps=[raw_fills, AssetDep(raw_api_fills, partition_mapping=AllPartitionMapping())],
    group_name="ingest",
    kinds={"parquet", "postgres"},
    owners=OWNERS,
    metadata=table_metadata("hl.fills") | column_lineage("hl.fills"),
    check_specs=[check_of_day("fills", name, text) for name, text in _CHECKS.items()],
)
def fills(
    context: AssetExecutionContext,
    warehouse: WarehouseParam,
    settings: SettingsParam,
) -> MaterializeResult:
    """Every fill once, by UTC day.

    What happened on the day (UTC), each leg a row, none twice, from the best format that has it: in the lake by hour, in
    PostgreSQL by day.
    """
    day = date.fromisoformat(context.partition_key)
    lake = open_lake(settings.lake)
    with warehouse.connect("hl fills") as connection:
        started = time.perf_counter()
        loaded, judgement = load_fills(day, lake, connection, settings)
        seconds = time.perf_counter() - started
        with lock_fills_day(connection, day, shared=True), ThreadPoolExecutor(1, thread_name_prefix="tally") as pool:
            proven = read_proven(connection, day)
            hours = [hour for hour in range(24) if hour not in proven]
            tallying = pool.submit(tally_lake, lake, day, hours)
            in_database = read_totals(connection, day, hours)
            thinned = is_thinned(connection, day)
            in_lake, tallies = tallying.result()
            equal = {hour: tally for hour, tally in tallies.items() if in_lake[hour] == in_database.get(hour)}
            record_proven(connection, day, equal)
        thin_old_days(connection, settings)
    tally = sum_tallies([*proven.values(), *tallies.values()])
    return MaterializeResult(
        metadata=_describe(loaded, tally, judgement, seconds),
        check_results=[
            _check_key(tally, loaded),
            _check_legs(tally),
            _check_lake(in_lake, in_database, sum_tallies(proven.values()).rows, thinned=thinned),
            _check_whole(judgement),
        ],
    )


def _describe(loaded: LoadedDay, tally: HourTally, judgement: DayVerdict, seconds: float) -> dict[str, int | float | str]:
    of_source = {f"rows_from_{source}": rows for source, rows in loaded.rows_of_source.items()}
    return {
        "state": judgement.state,
        "explanation": judgement.explain(),
        "source": judgement.source_names,
        "dagster/partition_row_count": loaded.rows,
        "duplicates_dropped": loaded.duplicates,
        "trades": tally.trades,
        "trades_with_one_leg": tally.single_legs,
        **(of_source if len(of_source) > 1 else {}),
        "missing_blocks": judgement.missing_blocks,
        "in_postgres": not loaded.is_thinned,
        "hours_made": loaded.hours_made,
        "seconds": round(seconds, 3),
        "copy_seconds": round(loaded.copy_seconds, 3),
        "index_seconds": round(loaded.index_seconds, 3),
    }


def _check_key(tally: HourTally, loaded: LoadedDay) -> AssetCheckResult:
    said = f"{tally.repeated} rows repeat a fill, {loaded.conflicts} repeats that were left out say other things of it."
    return AssetCheckResult(
        check_name="key_unique",
        passed=tally.repeated == loaded.conflicts == 0,
        description=said if tally.repeated or loaded.conflicts else "Every fill is there once.",
        metadata={"repeated": tally.repeated, "duplicates_dropped": loaded.duplicates, "conflicts": loaded.conflicts},
    )


def _check_legs(tally: HourTally) -> AssetCheckResult:
    return AssetCheckResult(
        check_name="legs_pair",
        passed=tally.crowded == 0,
        description=f"{tally.trades} trades: {tally.single_legs} with one leg, {tally.crowded} with legs that are no pair.",
        metadata={"trades": tally.trades, "trades_with_one_leg": tally.single_legs, "not_a_pair": tally.crowded},
    )


def _check_lake(
    lake: dict[int, HourTotals], database: dict[int, HourTotals], proven_rows: int = 0, *, thinned: bool = False
) -> AssetCheckResult:
    """`proven_rows`: of the hours that were found equal before, and have not been loaded since."""
    expected = {} if thinned else lake
    differing = sorted(hour for hour in expected.keys() | database.keys() if expected.get(hour) != database.get(hour))
    equal = "In the lake alone: taken out of hl.fills by HL_FILLS_KEEP_DAYS or hl drop." if thinned else "The same rows in both."
    return AssetCheckResult(
        check_name="lake_equals_database",
        passed=not differing,
        description=f"Hours that differ: {differing}; materialize fills of this day again." if differing else equal,
        metadata={
            "rows_in_lake": proven_rows + sum(totals.rows for totals in lake.values()),
            "rows_in_database": proven_rows + sum(totals.rows for totals in database.values()),
            "differing_hours": MetadataValue.json(differing),
        },
    )


def _check_whole(judgement: DayVerdict) -> AssetCheckResult:
    return AssetCheckResult(
        check_name="day_is_whole",
        passed=judgement.is_whole,
        severity=severity(judgement.is_harmless),
        description=judgement.explain(),
        metadata={
            "missing_hours": sum(state.state != "present" for state in judgement.hours),
            "missing_blocks": judgement.missing_blocks,
        },
    )
