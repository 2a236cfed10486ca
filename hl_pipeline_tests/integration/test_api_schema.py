"""/openapi.json is correct: Schemathesis sends valid and invalid requests to each path and checks every response."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.processes import PROJECT, program, run
from hl_pipeline_tests.profiles import scaled
from hl_pipeline_tests.servers.api import OTHER, WALLET, add, at, ns, serving, status_row, twap_row

EXAMPLES = scaled(50)


@pytest.mark.slow
@pytest.mark.random
def test_nothing_that_schemathesis_tries_gets_an_answer_that_the_schema_does_not_say(database_url: str, tmp_path: Path) -> None:
    """All its checks in all its phases, on rows of each kind where the schema's examples look."""
    time = at("2025-11-03 12:00:00")
    day = {"date": "2025-11-03"}
    with connect(database_url, "test") as connection:
        for number, wallet in enumerate(["0xb90e02bd0033897061b272186d9f16340f153e87", WALLET, OTHER]):
            add(connection, "twap_statuses", status_row(1544034 + number, ns("2025-11-03 12:00:00", 7), wallet=wallet))
            add(connection, "twaps", twap_row(1544034 + number, time, wallet=wallet))
            add(connection, "fills", {"time": time, "wallet": wallet, "twap_id": 1544034 + number, "tid": number})
            add(connection, "user_stats", {**day, "wallet": wallet, "first_fill": time, "last_fill": time})
        add(connection, "candles", {**day, "coin": "SOL", "time": time})
        add(connection, "daily_stats", {**day, "coin": "SOL"})
        add(connection, "builder_stats", {**day, "builder": OTHER})
        made = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at", "builder_stats_at"), time)
        add(connection, "fills_days", {**day, **made}, {"date": "2025-11-05", "state": "incomplete", **made})
        add(connection, "twap_days", {**day, "twaps_at": time})
        hours = [{"object_date": "2025-11-05", "object_hour": number} for number in range(3)]
        lacking = {**hours[2], "found": "blocks missing", "missing_blocks": 3, "missing_ranges": "{[5,8)}"}
        add(connection, "coverage", hours[0], {**hours[1], "found": "missing"}, {**lacking, "note": "known"})
        add(connection, "coverage", {"source": "twap_statuses", "object_date": "2025-11-03", "found": "missing"})
        add(connection, "s3_ingest_log", {"object_key": "0.lz4", "object_date": "2025-11-03", "loaded_at": time})
    with serving(database_url) as api:
        command = [program("schemathesis"), "run", f"{api.url}/openapi.json", "--generation-deterministic", "-n", str(EXAMPLES)]
        output = ["--no-color", "--report", "json", "--report-json-path", str(tmp_path / "report.json")]
        environment = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "hl_pipeline_tests.servers.api_schema_hooks",
            "PYTHONPATH": str(PROJECT),
            "PYTHONUTF8": "1",
        }
        operations = sum(map(len, api.get("/openapi.json")["paths"].values()))
        done = run([*command, *output], environment, tmp_path, seconds=400)
    assert done.returncode == 0, done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["operations"]["tested"] == operations
    assert {phase["status"] for phase in report["phases"].values()} == {"success"}
    assert report["test_cases"]["generated"] > operations * EXAMPLES
    assert not any(report["warnings"].values()), report["warnings"]
