"""Runs `hl up` as a user does, queries it as the UI does, and never leaves it behind."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from hl_pipeline_tests.processes import Program, Ui, free_port, kill_all, program, started, users_environment, wait_until

ASSETS = [
    *("raw_fills", "fills", "candles", "daily_stats", "user_stats", "builder_stats"),
    *("raw_twap_statuses", "twap_statuses", "twaps", "whole_days"),
]
_BACKFILL = """
    mutation($backfill: LaunchBackfillParams!) {
      launchPartitionBackfill(backfillParams: $backfill) { __typename ... on LaunchBackfillSuccess { backfillId } }
    }
"""
_BACKFILL_STATUS = """
    query($id: String!) {
      partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status runs(limit: 100) { runId status } } }
    }
"""


@dataclass(frozen=True, slots=True)
class Up:
    """A running `hl up`: its program, its UI, its home and the URL of its API."""

    program: Program
    ui: Ui
    home: Path
    api: str


@contextmanager
def up_in(
    directory: Path,
    environment: dict[str, str] | None = None,
    options: tuple[str, ...] = (),
    ports: tuple[int, int] | None = None,
    **settings: str,
) -> Generator[Up]:
    """Run `hl up` in `directory` with `settings` in its `.env`, and wait until it is ready. Kills its processes at the end."""
    port, api_port = ports or (free_port(), free_port())
    home = directory / "home"
    settings |= {"HL_HOME": "home", "HL_PORT": str(port), "HL_API_PORT": str(api_port)}
    (directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    command = [program("hl"), "up", *options]
    with started(command, users_environment(**(environment or {})), directory, directory / "up.log") as up:
        try:
            ui = Ui(port)
            # A response alone is not enough: it may come from processes that an earlier `hl up` left.
            wait_until(lambda: up.answers(ui.health) and "Dagster UI: http" in up.output, 240, "the UI is there")
            api = f"http://127.0.0.1:{api_port}"
            wait_until(lambda: up.answers(f"{api}/healthz"), 30, "the API answers")
            yield Up(up, ui, home, api)
        finally:
            kill_all(processes_of(home))


def processes_of(home: Path) -> list[psutil.Process]:
    """Return the processes that work for `home`, anywhere in the process tree, including PostgreSQL's own."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HL_HOME") == str(home) or str(home / "postgres") in process.cmdline():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def launch_backfill(ui: Ui, days: list[str]) -> str:
    """Launch a backfill of all assets, as the UI does. Returns its ID."""
    backfill = {"assetSelection": [{"path": [asset]} for asset in ASSETS], "partitionNames": days}
    launched = ui.ask(_BACKFILL, backfill=backfill)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return launched["backfillId"]


def look_at_backfill(ui: Ui, backfill: str) -> dict[str, Any]:
    """Return the status and the runs of a backfill."""
    return ui.ask(_BACKFILL_STATUS, id=backfill)["partitionBackfillOrError"]
