"""What `hl up` prints: one line per run, the reason of a failure once, and selected lines of its services."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance

from hl_pipeline.definitions import build_defs
from hl_pipeline.ops.run_lines import RunLines
from hl_pipeline.ops.service_log import is_warning
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline_tests.conftest import World

DAY = date(2026, 3, 15)
_LONG_AGO = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture
def instance() -> Generator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def _run(instance: DagsterInstance, by: str = "sensor node_data_objects") -> None:
    job = build_defs(Settings()).resolve_job_def("ingest_days")
    tags = {"hl/started_by": by}
    job.execute_in_process(partition_key=str(DAY), instance=instance, raise_on_error=False, tags=tags)


@pytest.mark.slow
def test_each_run_is_a_line_and_the_same_reason_is_said_once(
    world: World, instance: DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_sample(tmp_path / "sample", first_day=DAY, days=1, fills_per_hour=20).node_data_dir
    hour = Path("node_fills_by_block/hourly/20260315/9.lz4")
    shutil.copytree(made, world.bucket, dirs_exist_ok=True)
    (world.bucket / hour).unlink()
    lines = RunLines()

    _run(instance)
    [first] = lines.read(instance, _LONG_AGO)
    assert first.startswith(f"{DAY}  incomplete ")
    assert " fills " in first
    assert "sensor node_data_objects: 1 of 25 objects missing: 2026-03-15 09 h" in first
    assert lines.read(instance, _LONG_AGO) == []

    _run(instance)
    [again] = lines.read(instance, _LONG_AGO)
    assert again.startswith(f"{DAY}  incomplete ")
    assert again.endswith(": as before")

    shutil.copy(made / hour, world.bucket / hour)
    _run(instance, "the UI")
    [whole] = lines.read(instance, _LONG_AGO)
    assert whole.startswith(f"{DAY}  whole ")
    assert whole.endswith("  the UI")

    with monkeypatch.context() as patch:
        patch.setenv("HL_DISK_RESERVE_GB", "1000000")
        _run(instance)
    [failed] = lines.read(instance, _LONG_AGO)
    assert failed.startswith(f"{DAY}  failed ")
    assert "HL_DISK_RESERVE_GB" in failed
    assert len(failed.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2026-11-27 14:00:00 +0000 - dagster.daemon - INFO - Instance is configured with the following daemons", False),
        ("2026-11-27 14:00:00 +0000 - dagster.daemon.SensorDaemon - WARNING - Sensor daemon caught an error", True),
        ("2026-11-27 14:00:00 +0000 - dagster.daemon.SensorDaemon - ERROR - Sensor daemon caught an error", True),
        (
            "2026-11-27 14:00:00 +0000 - dagster - ERROR - ingest_days - 01234567-89ab-cdef-0123-456789abcdef - 77 - "
            "whole_days - STEP_FAILURE - Execution of step whole_days failed.",
            False,
        ),
        (
            "2026-11-27 14:28:24 +0000 - dagster.daemon.EventLogConsumerDaemon - WARNING - "
            "No cursor for event type DagsterEventType.RUN_FAILURE, ignoring older events",
            False,
        ),
        ("ERROR:    Exception in ASGI application", True),
        ("WARNING:  Invalid HTTP request received.", True),
        ("INFO:     Application startup complete.", False),
        ("dagster._core.definitions.events.Failure: 1 of 25 objects missing", False),
    ],
)
def test_only_warnings_that_are_of_no_run_are_for_the_terminal(line: str, expected: bool) -> None:
    assert is_warning(line) == expected
