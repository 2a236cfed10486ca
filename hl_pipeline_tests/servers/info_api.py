"""A server that behaves like Hyperliquid's info API (FORMATS 4): it counts weight, has configurable faults and logs every call.

Its users have generated histories, which are the truth that fetched data is compared with.
"""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

START_MS, END_MS = 1_677_369_600_000, 1_748_181_600_000
"""The time range of a backfill: 2023-02-26 to 2025-05-25T14:00Z."""
NOW_MS = 1_790_000_000_000
REACHABLE = 10_000
PAGE = 2_000

Fill = dict[str, Any]
Kind = Literal[
    "429",
    "429 after",
    "429 null",
    "500",
    "502",
    "503",
    "503 after",
    "reset",
    "cut",
    "cut unsaid",
    "stall",
    "html",
    "null",
    "403",
    "422",
]
_STATUSES = {"403": 403, "429": 429, "429 after": 429, "429 null": 429, "500": 500, "502": 502, "503": 503, "503 after": 503}


@dataclass(frozen=True, slots=True)
class User:
    """All fills of a wallet in order of time, as in userFillsByTime. Fills with a twapId are slices of its TWAPs."""

    wallet: str
    fills: list[Fill] = field(default_factory=list[Fill])
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def reachable(self, start_ms: int = START_MS, end_ms: int = END_MS, *, apart: bool = False) -> list[Fill]:
        """Return the reachable fills of the range: 10,000 fills and slices, or 10,000 of each if `apart`."""
        if apart:
            slices = [fill for fill in self.fills if fill["twapId"] is not None][-REACHABLE:]
            there = [fill for fill in self.fills if fill["twapId"] is None][-REACHABLE:] + slices
        else:
            there = self.fills[-REACHABLE:]
        return sorted((fill for fill in there if start_ms <= fill["time"] <= end_ms), key=key_of)


def key_of(fill: Fill) -> tuple[int, str, str, int]:
    """Return the key of a fill within one wallet."""
    return fill["time"], fill["coin"], fill["side"], fill["tid"]


def make_user(name: str, count: int, *, after: int = 0, crowd: tuple[int, int] | None = None, slices: float = 0.065) -> User:
    """Make a wallet with `count` fills in the range and `after` fills later. `slices`: the share of fills that are slices.

    Sometimes up to 11 fills share a millisecond. From the `crowd[0]`th fill on, `crowd[1]` fills share one.
    """
    rng = random.Random(name)
    wallet = "0x" + rng.randbytes(20).hex()
    times = _crowded(sorted(rng.randrange(START_MS, END_MS + 1) for _ in range(count)), rng)
    if crowd is not None:
        at, size = crowd
        # No other fill has this time.
        times[at : at + size] = [times[at] + 1] * size
    times += _crowded(sorted(rng.randrange(END_MS + 1, NOW_MS) for _ in range(after)), rng)
    fills = [_make_fill(time_ms, rng, slices) for time_ms in sorted(times)]
    return User(wallet, fills, [_make_status(wallet, fill, rng) for fill in fills if fill["twapId"] is not None][:50])


def _crowded(times: list[int], rng: random.Random) -> list[int]:
    at = 0
    while at < len(times):
        size = rng.choice([1, 1, 1, 2, 3, 5, 11])
        times[at : at + size] = [times[at]] * len(times[at : at + size])
        at += size
    return times


def _make_fill(time_ms: int, rng: random.Random, slices: float) -> Fill:
    is_slice = rng.random() < slices
    fill = {
        "coin": rng.choice(["BTC", "kPEPE", "@107", "PURR/USDC"]),
        "px": f"{rng.randrange(1, 10**9)}.{rng.randrange(10**5)}",
        "sz": rng.choice(["1.0", "0.0000014866", "6501.0"]),
        "side": rng.choice("AB"),
        "time": time_ms,
        "startPosition": "12817942.2417900003",
        "dir": rng.choice(["Open Long", "Close Short", "Long > Short"]),
        "closedPnl": rng.choice(["0.0", "-3.57555"]),
        "hash": "0x" + ("0" * 64 if is_slice else rng.randbytes(32).hex()),
        "oid": rng.randrange(10**11, 5 * 10**11),
        "crossed": rng.random() < 0.5,
        "fee": rng.choice(["0.080222", "-0.0001"]),
        "tid": rng.randrange(1, 2**50),
        "feeToken": rng.choice(["USDC", "HYPE"]),
        "twapId": rng.randrange(1, 10**6) if is_slice else None,
    }
    return fill | ({"cloid": "0x" + rng.randbytes(16).hex()} if rng.random() < 0.4 else {})


def _make_status(wallet: str, fill: Fill, rng: random.Random) -> dict[str, Any]:
    state = {
        "coin": fill["coin"], "user": wallet, "side": fill["side"], "sz": fill["sz"], "executedSz": "0.0", "executedNtl": "0.0",
        "minutes": 30, "reduceOnly": False, "randomize": False, "timestamp": fill["time"],
    }  # fmt: skip
    status = {"time": fill["time"] // 1000, "state": state, "status": {"status": rng.choice(["activated", "finished"])}}
    return status | ({"twapId": fill["twapId"]} if rng.random() < 0.7 else {})


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that affects one call whose type contains `of`, or whose wallet is `of` (empty: any call).

    reset: no response; cut: the body ends before its Content-Length; cut unsaid: the body ends early, without a Content-Length;
    stall: nothing follows a part of the body; html, null: the body of a 200; `after`: Retry-After has `seconds`.
    """

    kind: Kind
    of: str = ""
    at: float = 0.5
    seconds: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the server received. `at`: the server's clock. `used`: the weight already charged in the window."""

    at: float
    question: dict[str, Any]
    status: int | None
    items: int
    used: int
    weight: int
    fault: Kind | None


class _Texts:
    """A wallet's responses, ready to be sent."""

    def __init__(self, user: User, *, apart: bool) -> None:
        def texts(fills: Iterable[Fill], *, is_slice: bool) -> tuple[list[int], list[str]]:
            made: list[str] = []
            times: list[int] = []
            for fill in fills:
                bare = {name: value for name, value in fill.items() if name != "twapId"}
                made.append(json.dumps({"fill": bare, "twapId": fill["twapId"]} if is_slice else fill))
                times.append(fill["time"])
            return times, made

        newest = slice(None) if apart else slice(-REACHABLE, None)
        own = [fill for fill in user.fills[newest] if fill["twapId"] is None]
        slices = [fill for fill in user.fills[newest] if fill["twapId"] is not None]
        self.fills = texts(own[-REACHABLE:], is_slice=False)
        self.slices = texts(slices[-REACHABLE:], is_slice=True)
        self.history = [json.dumps(status) for status in user.history]


@dataclass(slots=True)
class InfoServer:
    """The server. `limit`: weight in any `window_seconds`. `apart`: slices do not count towards the 10,000 fills.

    Each of `faults` affects the first call that matches it. `chance`: the chance of a random fault of `kinds`. `refused` wallets
    always get a 422 with their text. `seconds`: the duration of each response.
    """

    users: Mapping[str, User] = field(default_factory=dict[str, User])
    limit: int = 10**9
    window_seconds: float = 60.0
    apart: bool = False
    seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list[Fault])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    random: random.Random = field(default_factory=random.Random)
    chance: float = 0.0
    kinds: tuple[Kind, ...] = ("429", "429 null", "500", "502", "503", "reset", "cut", "cut unsaid")
    url: str = ""
    log: list[Call] = field(default_factory=list[Call])
    _charges: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    _texts: dict[str, _Texts] = field(default_factory=dict[str, _Texts])
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def fault_of(self, question: dict[str, Any]) -> Fault | None:
        with self._lock:
            for n, fault in enumerate(self.faults):
                if fault.of in question["type"] or fault.of == question["user"]:
                    return self.faults.pop(n)
            if self.random.random() < self.chance:
                return Fault(self.random.choice(self.kinds), at=self.random.random())
        return None

    def used(self) -> int:
        """Return the weight charged in the current window."""
        since = time.monotonic() - self.window_seconds
        with self._lock:
            while self._charges and self._charges[0][0] <= since:
                self._charges.popleft()
            return sum(weight for _, weight in self._charges)

    def charge(self, weight: int) -> None:
        with self._lock:
            self._charges.append((time.monotonic(), weight))

    def note(self, call: Call) -> None:
        with self._lock:
            self.log.append(call)

    def items_of(self, question: dict[str, Any]) -> list[str]:
        with self._lock:
            if question["user"] not in self.users:
                return []
            if question["user"] not in self._texts:
                self._texts[question["user"]] = _Texts(self.users[question["user"]], apart=self.apart)
            texts = self._texts[question["user"]]
        if question["type"] == "twapHistory":
            return texts.history
        times, made = texts.fills if question["type"] == "userFillsByTime" else texts.slices
        first = bisect_left(times, question["startTime"])
        return made[first : min(bisect_right(times, question.get("endTime", 2**63)), first + PAGE)]


class _Handler(BaseHTTPRequestHandler):
    info: InfoServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_POST(self) -> None:
        at, info = time.monotonic(), self.info
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = info.fault_of(question)
        kind = fault and fault.kind
        items: list[str] = []
        with info._lock:
            used = info.used()
            refusal = self._refusal(question, kind)
            if refusal is None and used >= info.limit:
                refusal = 429, b"null" if len(info.log) % 2 else b""
            weight = 0 if refusal is not None and refusal[0] == 429 else 20
            info.charge(weight)
        if refusal is None:
            items = info.items_of(question)
            weight += len(items) // 20
            info.charge(len(items) // 20)
        info.note(Call(at, question, None if kind == "reset" else refusal[0] if refusal else 200, len(items), used, weight, kind))
        time.sleep(info.seconds)
        if refusal is not None:
            headers = {"Retry-After": str(fault.seconds)} if fault is not None and fault.kind.endswith("after") else {}
            self._answer(*refusal, headers)
        elif fault is None:
            self._answer(200, f"[{','.join(items)}]".encode(), {})
        else:
            self._fail(fault, f"[{','.join(items)}]".encode())

    def _refusal(self, question: dict[str, Any], kind: Kind | None) -> tuple[int, bytes] | None:
        if question["user"] in self.info.refused:
            return 422, self.info.refused[question["user"]].encode()
        if kind == "422" or not re.fullmatch("0x[0-9a-f]{40}", question["user"]):
            return 422, b"Failed to deserialize the JSON body into the target type"
        if kind in _STATUSES:
            return _STATUSES[kind], b"null" if kind.endswith("null") else b""
        return None

    def _fail(self, fault: Fault, body: bytes) -> None:
        part = body[: min(int(len(body) * fault.at), len(body) - 1)]
        if fault.kind == "html":
            self._answer(200, b"<html>Bad gateway</html>", {})
        elif fault.kind == "null":
            self._answer(200, b"null", {})
        elif fault.kind == "reset":
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.close_connection = True
            self._answer(200, part, {"Connection": "close"}, None if fault.kind == "cut unsaid" else len(body))
            if fault.kind == "stall":
                # Wait until the client gives up.
                self.connection.settimeout(20)
                self.connection.recv(1)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], length: int | None = -1) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        self.wfile.write(body)


@dataclass(slots=True)
class FreeBudget:
    """A budget that admits every call and records it."""

    begun: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    ended: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    paused: list[float] = field(default_factory=list[float])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, most_weight: int, most_seconds: float) -> int:
        with self._lock:
            self.begun.append((most_weight, most_seconds))
            return len(self.begun)

    def end(self, call: int, weight: int) -> None:
        self.ended.append((call, weight))

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)


@contextmanager
def serve_info(info: InfoServer) -> Generator[InfoServer]:
    """Serve until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"info": info}))
    server.daemon_threads = True
    info.url = f"http://127.0.0.1:{server.server_port}/info"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield info
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
