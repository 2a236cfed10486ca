"""Runs the API behind a real HTTP server, and makes rows for it to read. Not a test."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import requests
import uvicorn
from psycopg import sql
from psycopg.types.json import Json

from api.app import create_app
from hl_pipeline_tests.marked_secrets import assert_no_secret
from hl_pipeline_tests.processes import PROJECT, Program, free_port, started, users_environment, wait_until

WALLET = "0x" + "1a" * 20
OTHER = "0x" + "2b" * 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_DEFAULTS: dict[str, dict[str, Any]] = {
    "twap_statuses": {
        "status": "activated",
        "wallet": WALLET,
        "coin": "SOL",
        "side": "B",
        "object": "test",
        "raw_payload": Json({}),
    },
    "twaps": {
        "wallet": WALLET,
        "coin": "SOL",
        "side": "B",
        "verdict": "match",
        "statuses": 2,
        "fills": 1,
        "slices": 1,
        "size_observed": 0,
        "notional_observed": 0,
        "whole_minutes": 0,
        "own_volume": 0,
        "own_notional": 0,
    },
    "fills": {"coin": "SOL", "wallet": WALLET, "side": "B", "px": 100, "sz": 1, "object_id": 3_000_000},
    "fills_days": {"rows": 1, "duplicates": 0, "state": "whole", "explanation": "every block is there"},
    "fills_hours": {"rows": 1, "duplicates": 0, "conflicts": 0},
    "twap_days": {
        "state": "unprovable",
        "explanation": "nothing proves it",
        "objects": 1,
        "rows": 1,
        "duplicates": 0,
        "conflicts": 0,
    },
    "candles": {"open": 1, "high": 2, "low": 1, "close": 2, "volume": 10, "notional": 15, "trades": 3},
    "daily_stats": {"kind": "perp", "fills": 2, "non_market_rows": 0, "fees_known": 2, "trades": 1, "wallets": 2},
    "user_stats": {
        "fills": 2,
        "non_market_rows": 0,
        "closed_pnl_known": 2,
        "fees_known": 2,
        "coins": 1,
        "twaps": 0,
        "sources": ["node_fills_by_block"],
    },
    "builder_stats": {"coin": "SOL", "fills": 2, "non_market_rows": 0, "fills_with_fee": 1, "wallets": 1},
    "s3_ingest_log": {"source": "node_fills_by_block"},
    "twap_slice_days": {},
    "coverage": {
        "source": "node_fills_by_block",
        "expected": True,
        "found": "present",
        "why": "",
        "missing_ranges": "{}",
        "missing_blocks": 0,
    },
}


@dataclass(frozen=True, slots=True)
class Api:
    """An API that runs at `url`."""

    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def ask(self, path: str, **parameters: Any) -> requests.Response:
        answer = self.session.get(self.url + path, params=parameters, timeout=60)
        if not answer.headers.get("content-type", "").startswith("application/vnd"):
            assert_no_secret(f"{answer.headers}{answer.text}", path)
        return answer

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON of a response, which must have status 200."""
        response = self.ask(path, **parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def refuses(self, path: str, **parameters: Any) -> dict[str, str]:
        """Return the messages of a response, which must have status 422, by parameter."""
        response = self.ask(path, **parameters)
        assert response.status_code == 422, response.text
        return {str(error["loc"][-1]): error["msg"] for error in response.json()["detail"]}

    def pages(self, path: str, name: str, **parameters: Any) -> list[list[Any]]:
        """Return the list `name` of each page."""
        found: list[list[Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = self.get(path, **parameters, **cursor)
            found.append(answer[name])
            if answer["next_cursor"] is None:
                return found
            cursor = {"cursor": answer["next_cursor"]}


@dataclass(frozen=True, slots=True)
class ApiProcess(Api):
    """An API in a separate process."""

    program: Program = field(kw_only=True)


@contextmanager
def serving(url: str, *, root_path: str = "", host: str = "127.0.0.1", **variables: str) -> Generator[Api]:
    """The API on the database at `url`, in a thread: to start a process costs two seconds of CPU. `root_path` is uvicorn's."""
    with mock.patch.dict(os.environ, HL_SETTINGS_RESOLVED="1", HL_API_DATABASE_URL=url, **variables):
        app = create_app()
    server = uvicorn.Server(uvicorn.Config(app, root_path=root_path, log_config=None, access_log=False))
    with socket.create_server((host, 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), 30, "the API answers")
            yield Api(f"http://{host}:{listening.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join(30)


@contextmanager
def serving_process(
    url: str, directory: Path, *options: str, app: str = "api.app:app", **variables: str
) -> Generator[ApiProcess]:
    """Serve the API, or another `app`, in a separate process: to test its log, its memory, or uvicorn's `options`."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log", *options]
    environment = users_environment(HL_SETTINGS_RESOLVED="1", HL_API_DATABASE_URL=url, **variables)
    with started(command, environment, PROJECT, directory / f"api-{port}.log") as program:
        base = f"http://127.0.0.1:{port}"
        wait_until(lambda: program.answers(f"{base}/healthz"), 30, "the API answers")
        yield ApiProcess(base, program=program)


def add(connection: psycopg.Connection, table: str, *rows: dict[str, Any]) -> None:
    """Insert rows into hl.`table`, with defaults for missing values. Creates the table of a fill's day."""
    every = [{**_DEFAULTS[table], **row} for row in rows]
    for day in {values["time"].date() for values in every if table == "fills"}:
        make_day(connection, day)
    for columns, alike in groupby(every, key=tuple):
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        places = sql.SQL(", ").join([sql.Placeholder()] * len(columns))
        text = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier("hl", table), names, places)
        connection.cursor().executemany(text, [[*values.values()] for values in alike])


def status_row(twap_id: int, time_ns: int, status: str = "activated", **values: Any) -> dict[str, Any]:
    """Return a row of hl.twap_statuses at `time_ns`."""
    time = _EPOCH + timedelta(microseconds=time_ns // 1000)
    return {"twap_id": twap_id, "time_ns": time_ns, "time": time, "date": time.date(), "status": status, **values}


def real_statuses(samples: Path) -> list[dict[str, Any]]:
    """Return the events of the node's real lines, whether alone or in a block."""
    events: list[dict[str, Any]] = []
    for line in (samples / "twap_statuses_node.jsonl").read_text().splitlines():
        parsed = json.loads(line)
        events.extend(parsed.get("events", [parsed]))
    return events


def real_status_row(event: dict[str, Any]) -> dict[str, Any]:
    """Return the row of hl.twap_statuses for a node's event."""
    state, status = event["state"], event["status"]
    failed = isinstance(status, dict)
    seconds, _, fraction = event["time"].partition(".")
    return status_row(
        event["twap_id"],
        ns(seconds, int(fraction)),
        "error" if failed else status,
        error=status["error"] if failed else None,
        wallet=state["user"],
        coin=state["coin"],
        side=state["side"],
        size_requested=state["sz"],
        size_executed=state["executedSz"],
        notional_executed=state["executedNtl"],
        duration_minutes=state["minutes"],
        reduce_only=state["reduceOnly"],
        randomize=state["randomize"],
        started_at=_EPOCH + timedelta(milliseconds=state["timestamp"]),
        raw_payload=Json(event),
    )


def twap_row(twap_id: int, begins_at: datetime, **values: Any) -> dict[str, Any]:
    """Return a row of hl.twaps."""
    return {"twap_id": twap_id, "begins_at": begins_at, "seen_from": begins_at, "seen_to": begins_at, **values}


def make_day(connection: psycopg.Connection, day: date) -> None:
    """Create the table of a day's fills, unless it exists."""
    bounds = f"FROM ('{day}') TO ('{day + timedelta(1)}')"
    text = f"CREATE TABLE IF NOT EXISTS hl.fills_{day:%Y%m%d} PARTITION OF hl.fills FOR VALUES {bounds}"
    connection.execute(text.encode())


def at(text: str) -> datetime:
    """Parse a time in UTC like `2025-11-03 12:30:00.5`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ns(text: str, more: int = 0) -> int:
    """Return a time in UTC as ns since 1970, plus `more`."""
    return (at(text) - _EPOCH) // timedelta(microseconds=1) * 1000 + more
