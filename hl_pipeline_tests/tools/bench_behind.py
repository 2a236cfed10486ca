"""Part of `make bench-start`: an installation with many past days, copied from one. Measures a sensor's tick, and the queries
for the UI's page of an asset.
"""

from __future__ import annotations

import statistics
import time

import psycopg

from hl_pipeline_tests.processes import Ui
from hl_pipeline_tests.tools.bench_s3 import LOADED

_TICKS = 5
# Copies the events of one complete day to each earlier day, and drops the UI's own summaries.
_COPY_EVENTS = """
INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
SELECT run_id, replace(event, %(model)s, day::text), dagster_event_type, timestamp, step_key, asset_key, day::text
FROM event_logs, (SELECT %(last)s::date - n AS day FROM generate_series(0, %(days)s - 1) n) days
WHERE partition = %(model)s AND day::text NOT IN (SELECT DISTINCT partition FROM event_logs WHERE partition IS NOT NULL)
"""
_COPY_CHECKS = """
INSERT INTO asset_check_executions (asset_key, check_name, partition, run_id, execution_status, evaluation_event,
                                    evaluation_event_timestamp, evaluation_event_storage_id, materialization_event_storage_id)
SELECT asset_key, check_name, day::text, run_id || day, execution_status, evaluation_event, evaluation_event_timestamp,
       evaluation_event_storage_id, materialization_event_storage_id
FROM asset_check_executions, (SELECT %(last)s::date - n AS day FROM generate_series(0, %(days)s - 1) n) days
WHERE partition = %(model)s
  AND day::text NOT IN (SELECT DISTINCT partition FROM asset_check_executions WHERE partition IS NOT NULL)
"""
_FORGET = "UPDATE asset_keys SET cached_status_data = NULL"
_MODEL = "SELECT max(partition) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND asset_key = '[\"fills\"]'"
# What may depend on the number of days in the page's queries: AssetViewDefinition, PartitionHealth, LatestAssetPartitions,
# RecentAssetEvents, AssetStaleStatusData, and those of checks.
_PAGE = """
query Page($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode {
    id staleStatus
    partitionKeysByDimension { name type partitionKeys }
    partitionKeyConnection(limit: 1, ascending: false) { results }
    partitionStats { numMaterialized numMaterializing numPartitions numFailed }
    assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startTime endTime startKey endKey } } }
    assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization { id status } } } }
  } }
  assetOrError(assetKey: $key) { ... on Asset {
    id
    assetMaterializations(limit: 1) { timestamp runId partition metadataEntries { label } }
    assetEventHistory(limit: 100, eventTypeSelectors: [MATERIALIZATION, FAILED_TO_MATERIALIZE, OBSERVATION]) {
      results { ... on MaterializationEvent { runId partition timestamp metadataEntries { label } } }
    }
  } }
}
"""


def put_days_behind(data_url: str, dagster_url: str, days: int) -> None:
    """Fill both databases with this many days up to yesterday, copied from one that was run."""
    last = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    with psycopg.connect(dagster_url, autocommit=True) as connection:
        [(model,)] = connection.execute(_MODEL).fetchall()
        for statement in (_COPY_EVENTS, _COPY_CHECKS, _FORGET):
            connection.execute(statement, {"model": model, "last": last, "days": days})
        connection.execute("ANALYZE")
    with psycopg.connect(data_url, autocommit=True) as connection:
        connection.execute("TRUNCATE hl.s3_ingest_log, hl.fills_days, hl.fills_day_objects CASCADE")
        connection.execute(LOADED, {"today": last, "etag": "none", "days": days})


def measure_page(ui: Ui, runs: int) -> tuple[float, float]:
    """Measure seconds of the page of `fills`: the first request, and the median of later ones."""
    seconds: list[float] = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        page = ui.ask(_PAGE, key={"path": ["fills"]})
        seconds.append(time.perf_counter() - began)
        assert page["assetNodeOrError"]["partitionStats"]["numMaterialized"] > 0
    return seconds[0], statistics.median(seconds[1:])


def measure_tick() -> float:
    """Measure the median of a sensor's ticks, in the process of a loaded code location."""
    from dagster import DagsterInstance, build_sensor_context

    from hl_pipeline.definitions import build_defs, build_resources
    from hl_pipeline.settings import Settings

    settings = Settings()
    sensor = build_defs(settings).get_sensor_def("node_data_objects")
    seconds: list[float] = []
    with DagsterInstance.get() as instance:
        for _ in range(_TICKS + 1):
            with build_sensor_context(instance=instance, resources=build_resources(settings)) as context:
                began = time.perf_counter()
                sensor(context)
                seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])
