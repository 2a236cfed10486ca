"""A small info API for the wallets of a sample: it serves the data in the sample's buckets, within the real API's limits.

It has `userFillsByTime`, `userTwapSliceFillsByTime` and `twapHistory`, so a demo can run shards without network access.
"""

from __future__ import annotations

import json
import re
import threading
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import lz4.frame
import pyarrow.parquet as pq

from hl_pipeline.sample.sources import BY_BLOCK, FILLS

REACHABLE = 10_000
"""Number of a wallet's newest fills that are returned, including slices of its TWAPs."""
PAGE = 2_000
WEIGHT_A_MINUTE = 1_200
_CALL_WEIGHT, _ITEMS_A_WEIGHT = 20, 20
_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")
_NOT_UNDERSTOOD = "Failed to deserialize the JSON body into the target type"


class BadQuestionError(ValueError):
    """A request that the real API answers with 422."""


@dataclass(slots=True)
class Histories:
    """The history of each wallet in the sample in `directory` (from `write_sample`), read at the first request."""

    directory: Path
    _fills: dict[str, list[dict[str, Any]]] | None = None
    _statuses: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, question: Any) -> list[dict[str, Any]]:
        """Return the items of the response. Raises BadQuestionError."""
        if not isinstance(question, dict) or not _ADDRESS.fullmatch(str(question.get("user"))):
            raise BadQuestionError(_NOT_UNDERSTOOD)
        wallet, kind = str(question["user"]).lower(), question.get("type")
        fills = self._read().get(wallet, [])[-REACHABLE:]
        if kind == "twapHistory":
            return self._statuses.get(wallet, [])
        start, end = question.get("startTime"), question.get("endTime", 2**63 - 1)
        if kind not in ("userFillsByTime", "userTwapSliceFillsByTime") or not isinstance(start, int) or not isinstance(end, int):
            raise BadQuestionError(_NOT_UNDERSTOOD)
        is_of_slices = kind == "userTwapSliceFillsByTime"
        chosen = [fill for fill in fills if (fill.get("twapId") is not None) == is_of_slices]
        times = [fill["time"] for fill in chosen]
        first = bisect_left(times, start)
        page = chosen[first : min(bisect_right(times, end), first + PAGE)]
        return [_as_slice(fill) for fill in page] if is_of_slices else page

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        with self._lock:
            if self._fills is None:
                fills: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
                for wallet, fill in _read_fills(self.directory / "hl-mainnet-node-data"):
                    fills[wallet].append(fill)
                for of_wallet in fills.values():
                    of_wallet.sort(key=lambda fill: fill["time"])
                self._statuses = _read_statuses(self.directory / "truth" / "statuses.parquet")
                self._fills = dict(fills)
            return self._fills


def _as_slice(fill: dict[str, Any]) -> dict[str, Any]:
    return {"fill": {name: value for name, value in fill.items() if name != "twapId"}, "twapId": fill["twapId"]}


def _read_fills(bucket: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield wallet and fill from the datasets that have the wallet of a fill."""
    for dataset, name in ((BY_BLOCK, "events"), (FILLS, None)):
        for path in sorted(bucket.glob(f"{dataset}/hourly/*/*.lz4"), key=lambda path: (path.parent.name, int(path.stem))):
            for line in lz4.frame.decompress(path.read_bytes()).splitlines():
                record = json.loads(line)
                for wallet, fill in record[name] if name else [record]:
                    yield wallet.lower(), fill


def _read_statuses(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the TWAP statuses of each wallet, newest first, with times in whole seconds."""
    statuses: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    if path.exists():
        for row in reversed(pq.read_table(path).to_pylist()):
            statuses[row["wallet"]].append(_status(row))
    return dict(statuses)


def _status(row: dict[str, Any]) -> dict[str, Any]:
    state = {
        "coin": row["coin"],
        "user": row["wallet"],
        "side": row["side"],
        "sz": _text(row["size_requested"]),
        "executedSz": _text(row["size_executed"]),
        "executedNtl": _text(row["notional_executed"]),
        "minutes": row["duration_minutes"],
        "reduceOnly": row["reduce_only"],
        "randomize": row["randomize"],
        "timestamp": row["started_at_ms"],
    }
    status = {"status": row["status"]} | ({} if row["error"] is None else {"description": row["error"]})
    return {"time": row["time_ns"] // 10**9, "state": state, "status": status, "twapId": row["twap_id"]}


def _text(number: Decimal) -> str:
    text = f"{number.normalize():f}"
    return text if "." in text else f"{text}.0"


@dataclass(slots=True)
class _Weight:
    """The weight of all calls within the last minute."""

    charges: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def charge(self, weight: int) -> bool:
        """Add a call's weight. Returns whether it was within the limit."""
        now = time.monotonic()
        with self.lock:
            while self.charges and self.charges[0][0] <= now - 60:
                self.charges.popleft()
            is_left = sum(charged for _, charged in self.charges) < WEIGHT_A_MINUTE
            if is_left:
                self.charges.append((now, weight))
            return is_left


class _Handler(BaseHTTPRequestHandler):
    histories: Histories
    weight: _Weight
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gives it
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            items = self.histories.answer(json.loads(body))
        except ValueError as error:
            status, answer, weight = 422, str(error) if isinstance(error, BadQuestionError) else _NOT_UNDERSTOOD, _CALL_WEIGHT
        else:
            status, answer, weight = 200, json.dumps(items), _CALL_WEIGHT + len(items) // _ITEMS_A_WEIGHT
        if not self.weight.charge(weight):
            status, answer = 429, "null"
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status != 422 else "text/plain")
        self.send_header("Content-Length", str(len(answer.encode())))
        self.end_headers()
        self.wfile.write(answer.encode())


@contextmanager
def serve_info(directory: Path, host: str = "127.0.0.1") -> Generator[str]:
    """Serve an info API for the sample in `directory` at an address of this machine until the block ends. Yields its URL."""
    handler = type("Handler", (_Handler,), {"histories": Histories(directory), "weight": _Weight()})
    server = ThreadingHTTPServer((host, 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}/info"
    finally:
        server.shutdown()
        server.server_close()
