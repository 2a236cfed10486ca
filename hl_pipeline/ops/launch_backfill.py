"""`hl up --backfill-from`: launches a Dagster backfill, through the webserver, for the days of a range that are not loaded yet.
Runs nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import requests

from hl_pipeline.ops.dagster_internals import SINGLETON_REPOSITORY_NAME
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.ledger import days_of_api_alone
from hl_pipeline.warehouse.status_queries import read_loaded_days

_TIMEOUT_SECONDS = 60.0
_JOB = {"repositoryLocationName": "hl_pipeline", "repositoryName": SINGLETON_REPOSITORY_NAME, "pipelineName": "ingest_days"}
_IN_PROGRESS = """
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
    """Dagster refused the backfill. The message has its text."""


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """The launched backfill: its `days` and ID (None: there were none), and how many other days are `loaded` or are already
    queued or running (`in_progress`).
    """

    backfill_id: str | None
    days: list[date]
    loaded: int
    in_progress: int

    def describe(self) -> str:
        rest = f"{self.loaded} days are loaded, {self.in_progress} are already queued or running"
        if self.backfill_id is None:
            return f"backfill: nothing to launch; {rest}"
        return f"backfill {self.backfill_id}: {len(self.days)} days, {self.days[0]} to {self.days[-1]}; {rest}"


def request_backfill(webserver: str, database_url: str, days: list[date]) -> BackfillRequest:
    """Launch one backfill of those of `days` that are neither in hl.fills_days nor part of a queued or running run or backfill.

    Raises BackfillError if Dagster refuses, and requests' errors if the webserver does not answer.
    """
    with connect(database_url, "hl up") as connection:
        loaded = read_loaded_days(connection, days[0], days[-1]) - days_of_api_alone(connection)
    state = _query(webserver, _IN_PROGRESS, job=_JOB)
    in_progress = _days_in_progress(state)
    waiting = [day for day in days if day not in loaded and str(day) in in_progress]
    missing = [day for day in days if day not in loaded and str(day) not in in_progress]
    request = BackfillRequest(None, missing, len(loaded), len(waiting))
    if not missing:
        return request
    backfill = {
        "assetSelection": [node["assetKey"] for node in state["assetNodes"]],
        "partitionNames": [str(day) for day in missing],
        "title": "hl up --backfill-from",
        # Lower priority than runs of users and sensors.
        "tags": [{"key": "hl/started_by", "value": "hl up"}, {"key": "dagster/priority", "value": "-1"}],
    }
    launched = _query(webserver, _LAUNCH, backfill=backfill)["launchPartitionBackfill"]
    if "backfillId" not in launched:
        raise BackfillError(str(launched.get("message", launched)))
    return replace(request, backfill_id=launched["backfillId"])


def _days_in_progress(state: dict[str, Any]) -> set[str]:
    """Return the days (partition keys) of backfills and runs that load fills."""
    days: set[str] = set()
    for backfill in _results(state["partitionBackfillsOrError"]):
        if _loads_fills(backfill):
            days.update(backfill["partitionNames"] or [])
    for run in _results(state["runsOrError"]):
        if _loads_fills(run):
            days.update(tag["value"] for tag in run["tags"] if tag["key"] == "dagster/partition")
    return days


def _loads_fills(item: dict[str, Any]) -> bool:
    return item["assetSelection"] is None or _FILLS in item["assetSelection"]


def _results(answer: dict[str, Any]) -> list[dict[str, Any]]:
    if "results" not in answer:
        raise BackfillError(str(answer.get("message", answer)))
    return answer["results"]


def _query(webserver: str, query: str, **variables: Any) -> dict[str, Any]:
    response = requests.post(f"{webserver}/graphql", json={"query": query, "variables": variables}, timeout=_TIMEOUT_SECONDS)
    response.raise_for_status()
    answer = response.json()
    if errors := answer.get("errors"):
        raise BackfillError("; ".join(error["message"] for error in errors))
    return answer["data"]
