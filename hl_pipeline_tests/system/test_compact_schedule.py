"""`hl up` compacts a day at rest by itself: the real daemon launches the run of the schedule, and the lake has the snapshot."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.cli import run_program
from hl_pipeline_tests.naive.fills import event_day, read_bucket
from hl_pipeline_tests.processes import users_environment, wait_until
from hl_pipeline_tests.services import up_in

pytestmark = [pytest.mark.waits, pytest.mark.slow]

_DAY = date(2025, 9, 1)
_RUNS = """
    query($by: String!) {
      runsOrError(filter: {tags: [{key: "hl/started_by", value: $by}]}) { ... on Runs { results { runId jobName status } } }
    }
"""
_CHECK = """
    query {
      assetCheckExecutions(assetKey: {path: ["fills_compacted"]}, checkName: "same_rows", limit: 10) { runId status }
    }
"""


def test_the_daemon_compacts_a_day_that_was_ingested(directory: Path) -> None:
    sample = write_sample(directory / "sample", first_day=_DAY, fills_per_hour=100)
    fills = [fill for _, _, fill in read_bucket(sample.node_data_dir) if event_day(fill) == _DAY]
    with localcontext() as exact:
        exact.prec = 100
        notional = sum((Decimal(fill["px"]) * Decimal(fill["sz"]) for fill in fills), Decimal(0))
    at_once = {"HL_COMPACT_AFTER_HOURS": "0", "HL_COMPACT_CRON": "* * * * *"}
    with up_in(directory, at_once, HL_NODE_DATA_URL=str(sample.node_data_dir), HL_TWAP_DATA_URL="none") as up:

        def runs() -> list[dict[str, str]]:
            return up.ui.ask(_RUNS, by="schedule compact")["runsOrError"]["results"]

        def lake(*words: str) -> list[dict[str, Any]]:
            done = run_program(directory, users_environment(), "lake", *words, "--json")
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        ingested = up.ui.launch("ingest_days", str(_DAY))
        wait_until(lambda: any(run["status"] == "SUCCESS" for run in runs()), 300, "a run of the schedule has succeeded")

        [first] = [run for run in runs() if run["status"] == "SUCCESS"][-1:]
        assert (first["jobName"], first["runId"] == ingested) == ("compact_days", False)
        executions = up.ui.ask(_CHECK)["assetCheckExecutions"]
        assert (first["runId"], "SUCCEEDED") in {(one["runId"], one["status"]) for one in executions}
        [snapshot] = lake("snapshots")
        assert (snapshot["rows"], snapshot["is_current"], snapshot["facts"]["day"]) == (len(fills), True, str(_DAY))
        [summed] = lake("query", "SELECT count(*) AS fills, sum(notional)::VARCHAR AS notional FROM fills")
        assert (summed["fills"], Decimal(str(summed["notional"]))) == (len(fills), notional)
