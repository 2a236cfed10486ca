"""No secret is in anything that an installation writes, shows or sends; and its alerts come once, from the real daemon.

Every secret setting has a marked value. Whatever the programs left is searched for the mark: logs, output, files, databases,
answers, command lines.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from psycopg import sql
from pydantic import SecretStr

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.urls import build_url, database_of, parse_url, with_database
from hl_pipeline_tests.cli import run_program
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.processes import free_port, users_environment, wait_until
from hl_pipeline_tests.servers.alerts import Webhook, serve_webhook
from hl_pipeline_tests.servers.s3 import S3Server
from hl_pipeline_tests.services import Up, processes_of, up_in

pytestmark = [pytest.mark.slow, pytest.mark.waits]

_MARK = "m4rk"
_KEY = f"hl_{_MARK}-key-of-a-client"
_HASH = hashlib.sha256(_KEY.encode()).hexdigest()
_TOKEN = f"{_MARK}-token-of-metrics"
_DAY, _OTHER_DAY = "2026-03-15", "2026-03-16"
_OF_INSTANCE = """
    query {
      instance { info daemonHealth { allDaemonStatuses { daemonType lastHeartbeatErrors { message stack } } } runQueueConfig { maxConcurrentRuns } }
      runsOrError { ... on Runs { results { runId status runConfigYaml tags { key value } } } }
      sensorsOrError(repositorySelector: {repositoryLocationName: "hl_pipeline", repositoryName: "__repository__"}) {
        ... on Sensors { results { name description sensorState { status ticks(limit: 50) { cursor skipReason error { message stack } } } } }
      }
      allTopLevelResourceDetailsOrError(
        repositorySelector: {repositoryLocationName: "hl_pipeline", repositoryName: "__repository__"}
      ) { ... on ResourceDetailsList { results { name description configuredValues { key value } } } }
    }
"""  # noqa: E501
_OF_RUN = """
    query($run: ID!) {
      logsForRun(runId: $run) { ... on EventConnection { events { __typename ... on MessageEvent { message } } } }
    }
"""


def test_every_secret_setting_has_a_marked_value_here() -> None:
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert {f"HL_{name.upper()}" for name in secret} == {*_secrets("postgresql://h/d", 1, 2)}
    shown = f"{Settings(database_url=SecretStr(f'postgresql://u:{_MARK}@h/d'))!r}"
    assert _MARK not in shown


def test_no_secret_is_left_anywhere_and_each_failure_is_one_alert(
    directory: Path, new_database: NewDatabase, s3: S3Server
) -> None:
    url = new_database()
    marked = build_url(parse_url(url) | {"password": f"{_MARK}-of-postgres"})
    sample = write_sample(directory / "sample", first_day=date.fromisoformat(_DAY), days=1, fills_per_hour=4).node_data_dir
    keys = {"AWS_SECRET_ACCESS_KEY": f"{_MARK}-of-aws", "AWS_SESSION_TOKEN": f"{_MARK}-of-session"}
    environment = s3.environment | keys | {"HL_NODE_DATA_URL": f"s3://none-{free_port()}", "HL_LOG_FORMAT": "json"}
    written: dict[str, str] = {}
    with serve_webhook() as webhook:
        settings = _secrets(marked, webhook.port, free_port()) | {"HL_SENSORS": "false", "HL_S3_ATTEMPTS": "1"}
        with up_in(directory, environment, **settings) as up:  # pyright: ignore[reportArgumentType]
            _wait_for_ticks(up)
            failed = up.ui.launch("ingest_days", _DAY)
            wait_until(lambda: len(webhook.received) == 1, 120, "the failed run is an alert")
            written |= _answers(up, failed)
            written["command lines"] = "\n".join(" ".join(process.cmdline()) for process in processes_of(up.home))
            up.program.interrupt(30)
            written["hl up"] = up.program.output
        run = _commands(directory, users_environment(**environment))
        written["ingested"] = run("ingest", "--from", _DAY, "--to", _DAY, code=0, HL_NODE_DATA_URL=str(sample))
        written["failed"] = run("ingest", "--from", _OTHER_DAY, "--to", _OTHER_DAY, code=1)
        # After a restart, what is new is sent, and nothing twice.
        with up_in(directory, environment, **settings) as up:  # pyright: ignore[reportArgumentType]
            wait_until(lambda: len(webhook.received) == 2, 120, "the failed command is an alert")
            up.program.interrupt(30)
            written["hl up again"] = up.program.output
        _assert_alerts(webhook, failed)
        written["status"] = run("status", "--settings", code=0)
        written["alert-test"] = run("alert-test", code=1)
        written["no database"] = run("status", code=1, HL_DATABASE_URL=f"postgresql://u:{_MARK}@127.0.0.1:{free_port()}/x")
        for name, wrong in [
            ("HL_DATABASE_URL", f"postgresql://u:{_MARK}@[bad"),
            ("HL_DATABASE_URL", f"mysql://u:{_MARK}@h/d"),
            ("HL_API_KEYS", f"client:{_MARK}"),
            ("HL_BROKER_URL", f"amqp://u:{_MARK}@h"),
            ("HL_API_METRICS_TOKEN", f"{_MARK} x"),
            ("HL_ALERT_URLS", _MARK),
            ("HL_ALERT_URLS", f"slack://{_MARK}"),
        ]:
            written[f"{name}={wrong}"] = run("alert-test", code=None, **{name: wrong})
        written["crash"] = _crash(directory, users_environment(**environment))
    for path in (directory / "home").rglob("*"):
        if path.is_file():
            written[str(path)] = path.read_bytes().decode(errors="replace")
    for database in (url, with_database(url, f"{database_of(url)}_dagster")):
        written[database_of(database)] = _dump(database)
    assert [where for where, text in written.items() if _MARK in text or _HASH in text] == []
    # It would be found.
    assert failed in written[f"{database_of(url)}_dagster"]
    assert failed in written[str(directory / "home" / "hl.log")]
    assert "Traceback" in written["crash"]
    assert "alert_not_delivered" in written[str(directory / "home" / "hl.log")]
    lines = [json.loads(line) for line in written[str(directory / "home" / "hl.log")].splitlines()]
    assert {"webserver", "daemon", "api", "hl"} >= {line["service"] for line in lines} >= {"daemon", "api", "hl"}
    assert any(line.get("run_id") == failed for line in lines)


def _secrets(url: str, port: int, dead_port: int) -> dict[str, str]:
    return {
        "HL_DATABASE_URL": url,
        "HL_DAGSTER_DATABASE_URL": with_database(url, f"{database_of(url)}_dagster"),
        "HL_API_DATABASE_URL": url,
        "HL_API_KEYS": f"client:{_HASH}",
        "HL_API_METRICS_TOKEN": _TOKEN,
        "HL_API_KEY": f"{_MARK}-key-of-an-agent",
        "HL_BROKER_URL": f"redis://:{_MARK}@127.0.0.1:{dead_port}/0",
        "HL_ALERT_URLS": f"json://127.0.0.1:{port}/{_MARK}-hook,json://me:{_MARK}@127.0.0.1:{dead_port}/{_MARK}-path",
    }


def _wait_for_ticks(up: Up) -> None:
    """Wait until the sensor of failed runs has ticked under this daemon."""

    def has_ticked() -> bool:
        sensors = up.ui.ask(_OF_INSTANCE)["sensorsOrError"]["results"]
        return any(sensor["name"] == "alert_failed_runs" and sensor["sensorState"]["ticks"] for sensor in sensors)

    wait_until(has_ticked, 120, "the sensor ticks")


def _answers(up: Up, run: str) -> dict[str, str]:
    """Return what the UI and the API answer."""
    said = {"graphql": json.dumps(up.ui.ask(_OF_INSTANCE)), "events": json.dumps(up.ui.ask(_OF_RUN, run=run))}
    for path in ("/metrics", "/openapi.json", "/docs", "/none", "/api/v1/fills", "/api/v1/coverage", "/login"):
        for key in ({}, {"Authorization": f"Bearer {_KEY}"}, {"Authorization": f"Bearer {_TOKEN}"}, {"X-API-Key": f"x{_MARK}"}):
            answer = requests.get(f"{up.api}{path}", headers=key, timeout=20)
            said[f"{path} {len(said)}"] = f"{answer.status_code} {answer.headers} {answer.text}"
    assert run in said["events"] or "RunFailureEvent" in said["events"]
    assert any("hl_api_requests_total" in text for text in said.values())
    return said


def _commands(directory: Path, environment: dict[str, str]) -> Callable[..., str]:
    def run(*arguments: str, code: int | None, **variables: str) -> str:
        done = run_program(directory, environment | variables, *arguments)
        text = done.stdout + done.stderr
        assert done.returncode == code or (code is None and done.returncode in (1, 2)), (arguments, done.returncode, text)
        return text

    return run


def _crash(directory: Path, environment: dict[str, str]) -> str:
    """Return the traceback of a program that dies with the settings in its hands."""
    code = "from hl_pipeline.settings import Settings\nsettings = Settings()\nraise RuntimeError(settings, settings.alert_urls)"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=directory, env=environment, capture_output=True, text=True, check=False
    ).stderr


def _assert_alerts(webhook: Webhook, failed: str) -> None:
    [first, second] = [posted for _, posted in webhook.received]
    assert [first["title"], second["title"]] == [f"hl-pipeline: {_DAY} failed", f"hl-pipeline: {_OTHER_DAY} failed"]
    assert failed in first["message"]
    assert not any(_MARK in posted["message"] + posted["title"] for posted in (first, second))


def _dump(url: str) -> str:
    """Return every row of a database as text."""
    with psycopg.connect(url) as connection:
        tables: list[tuple[Any, ...]] = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'hl')"
        ).fetchall()
        assert tables
        rows = [
            row[0]
            for schema, name in tables
            for row in connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, name)))
        ]
    return "\n".join(rows)
