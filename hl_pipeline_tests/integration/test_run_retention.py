"""Old runs lose only their log lines: days stay green, with figures and check results."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import psycopg
import pytest
from dagster import AssetKey, DagsterEventType, DagsterInstance, RunsFilter

from hl_pipeline.definitions import build_defs
from hl_pipeline.ops.run_retention import thin_runs
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import find_dagster_url
from hl_pipeline_tests.processes import PROJECT

_FILLS = AssetKey("fills")
_SHOWN = """
SELECT DISTINCT ON (asset_key, partition, dagster_event_type) asset_key, partition, dagster_event_type, event
FROM event_logs WHERE asset_key IS NOT NULL ORDER BY asset_key, partition, dagster_event_type, id DESC
"""
_CHECKS = """
SELECT DISTINCT ON (asset_key, check_name, partition) asset_key, check_name, partition, execution_status, evaluation_event
FROM asset_check_executions ORDER BY asset_key, check_name, partition, id DESC
"""
_LEFT_OF = """
SELECT (SELECT count(*) FROM event_logs WHERE run_id = %s AND asset_key IS NOT NULL),
    (SELECT count(*) FROM asset_check_executions WHERE run_id = %s)
"""
_AGE = "UPDATE runs SET start_time = start_time - 40 * 86400, end_time = end_time - 40 * 86400 WHERE run_id = %s"


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_an_old_run_loses_its_log_lines_and_its_day_stays_as_it_was_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = write_sample(tmp_path / "sample", first_day=date(2025, 9, 1), days=2, fills_per_hour=20)
    monkeypatch.setenv("HL_NODE_DATA_URL", str(sample.node_data_dir))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "dagster").mkdir()
    shutil.copyfile(PROJECT / "dagster.yaml", tmp_path / "dagster" / "dagster.yaml")
    settings = Settings()
    with DagsterInstance.get() as instance, psycopg.connect(find_dagster_url(settings), autocommit=True) as connection:
        job = build_defs(settings).resolve_job_def("ingest_days")
        superseded, old, new = (
            job.execute_in_process(partition_key=day, instance=instance).run_id
            for day in ("2025-09-01", "2025-09-01", "2025-09-02")
        )
        for run_id in (superseded, old):
            connection.execute(_AGE, [run_id])
        shown, checks = connection.execute(_SHOWN).fetchall(), connection.execute(_CHECKS).fetchall()
        lines, lines_of_new = len(instance.all_logs(old)), len(instance.all_logs(new))

        assert thin_runs(instance, connection, 41) == {}
        deleted = thin_runs(instance, connection, 39)

        assert deleted.keys() == {superseded, old}
        assert deleted[old] == lines - len(instance.all_logs(old))
        assert connection.execute(_LEFT_OF, [superseded] * 2).fetchall() == [(0, 0)]
        assert deleted[old] > lines / 2
        assert len(instance.all_logs(new)) == lines_of_new
        assert connection.execute(_SHOWN).fetchall() == shown
        assert connection.execute(_CHECKS).fetchall() == checks
        assert instance.get_materialized_partitions(_FILLS) == {"2025-09-01", "2025-09-02"}
        for run_id in (superseded, old):
            left = {event.dagster_event_type for event in instance.all_logs(run_id)}
            assert {DagsterEventType.RUN_START, DagsterEventType.RUN_SUCCESS} <= left
        assert len(instance.get_runs(RunsFilter(run_ids=[superseded, old, new]))) == 3
