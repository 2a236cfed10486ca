"""`hl up --backfill-from`, fill and then follow: asks Dagster, through its webserver, for the days of a span that are not loaded
yet. Runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import requests

from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.ledger import days_of_api_alone

_TIMEOUT_SECONDS = 60.0
_JOB = {"repositoryLocationName": "hl_pipeline", "repositoryName": "__repository__", "pipelineName": "ingest_days"}
_LOADED = "SELECT date FROM hl.fills_days WHERE date BETWEEN %s AND %s"
_IN_WORK = """
    query($job: PipelineSelector!) {
      assetNodes(pipeline: $job) { assetKey { path } }
      partitionBackfillsOrError(filters: {statuses: [REQUESTED]}) {
        ... on PartitionBackfills { results { partitionNames assetSelection { path } } }
        ... on Error { message }
      }
      runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}) {
        ... on Runs { results { assetSelection { path } tags { key value } } }
        ... on Error { message }
      }
    }
"""
_LAUNCH = """
    mutation($backfill: LaunchBackfillParams!) {
      launchPartitionBackfill(backfillParams: $backfill) {
        ... on LaunchBackfillSuccess { backfillId }
        ... on Error { message }
      }
    }
"""
_FILLS = {"path": ["fills"]}


class BackfillError(RuntimeError):
    """Dagster did not take the backfill. The message has its words."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of it: the days that were asked for now, those that are loaded, those that wait or are in work already."""

    backfill: str | None
    days: list[date]
    loaded: int
    in_work: int

    def describe(self) -> str:
        rest = f"{self.loaded} days are loaded, {self.in_work} in the queue or in work already"
        if self.backfill is None:
            return f"backfill: nothing to ask for; {rest}"
        return f"backfill {self.backfill}: {len(self.days)} days, {self.days[0]} to {self.days[-1]}; {rest}"


def ask_for_days(webserver: str, database_url: str, days: list[date]) -> Asked:
    """Launch one backfill of those of `days` that hl.fills_days lacks and that neither a run nor a backfill is to bring.

    Raises BackfillError when Dagster refuses, and requests' errors when the webserver does not answer.
    """
    with connect(database_url, "hl up") as connection:
        loaded = {day for (day,) in connection.execute(_LOADED, [days[0], days[-1]])} - days_of_api_alone(connection)
    known = _ask(webserver, _IN_WORK, job=_JOB)
    in_work = _days_in_work(known)
    waiting = [day for day in days if day not in loaded and str(day) in in_work]
    lacking = [day for day in days if day not in loaded and str(day) not in in_work]
    asked = Asked(None, lacking, len(loaded), len(waiting))
    if not lacking:
        return asked
    backfill = {
        "assetSelection": [node["assetKey"] for node in known["assetNodes"]],
        "partitionNames": [str(day) for day in lacking],
        "title": "hl up --backfill-from",
        # After what a person or a sensor asks for.
        "tags": [{"key": "hl/started_by", "value": "hl up"}, {"key": "dagster/priority", "value": "-1"}],
    }
    launched = _ask(webserver, _LAUNCH, backfill=backfill)["launchPartitionBackfill"]
    if "backfillId" not in launched:
        raise BackfillError(str(launched.get("message", launched)))
    return replace(asked, backfill=launched["backfillId"])


def _days_in_work(known: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for backfill in _results(known["partitionBackfillsOrError"]):
        if _brings_fills(backfill):
            found.update(backfill["partitionNames"] or [])
    for run in _results(known["runsOrError"]):
        if _brings_fills(run):
            found.update(tag["value"] for tag in run["tags"] if tag["key"] == "dagster/partition")
    return found


def _brings_fills(item: dict[str, Any]) -> bool:
    return item["assetSelection"] is None or _FILLS in item["assetSelection"]


def _results(answer: dict[str, Any]) -> list[dict[str, Any]]:
    if "results" not in answer:
        raise BackfillError(str(answer.get("message", answer)))
    return answer["results"]


def _ask(webserver: str, query: str, **variables: Any) -> dict[str, Any]:
    response = requests.post(f"{webserver}/graphql", json={"query": query, "variables": variables}, timeout=_TIMEOUT_SECONDS)
    response.raise_for_status()
    answer = response.json()
    if errors := answer.get("errors"):
        raise BackfillError("; ".join(error["message"] for error in errors))
    return answer["data"]
