"""The figures of a TWAP's picture: its slices over the market's candles, and what it executed beside its straight schedule.

Computed exactly from the answers of the API; only what is drawn becomes a float.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from api.parameters import Interval, iso

_STEPS: dict[Interval, int] = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14_400, "1d": 86_400}
_MOST_CANDLES = 200
_LEAST_MARGIN = timedelta(minutes=5)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Window:
    """The time that a picture shows: the TWAP's run with a margin, and the length of a candle."""

    begins: datetime
    ends: datetime
    start: datetime
    end: datetime
    interval: Interval

    @property
    def step(self) -> int:
        """The seconds of a candle."""
        return _STEPS[self.interval]


@dataclass(frozen=True, slots=True)
class Row:
    """A candle, and what the TWAP did in it. None: unknown, or there were no trades."""

    time: datetime
    candle: dict[str, Any] | None
    slices: int
    size: Decimal
    px: Decimal | None
    executed: Decimal
    due: Decimal | None
    share: Decimal | None


def parse(text: str) -> datetime:
    """Return a time of the API."""
    return datetime.fromisoformat(text)


def find_window(twap: dict[str, Any]) -> Window | None:
    """Return what a picture of the TWAP shows. None: it never began."""
    begins = twap["begins_at"] or twap["first_slice_at"]
    if begins is None:
        return None
    first = parse(begins)
    ends = [parse(text) for text in (twap["ended_at"] or twap["planned_end"], twap["last_slice_at"]) if text is not None]
    last = max([first, *ends])
    margin = max(_LEAST_MARGIN, (last - first) / 12)
    span = (last - first + 2 * margin).total_seconds()
    interval: Interval = "1d"
    for name, step in _STEPS.items():
        if span / step <= _MOST_CANDLES:
            interval = name
            break
    step = _STEPS[interval]
    return Window(first, last, _floor(first - margin, step), _floor(last + margin, step), interval)


def make_rows(
    twap: dict[str, Any], window: Window, candles: Sequence[dict[str, Any]], fills: Sequence[dict[str, Any]]
) -> list[Row]:
    """Return a row for each candle that has trades of the market or of the TWAP, oldest first."""
    by_time = {parse(candle["time"]): candle for candle in candles}
    own: dict[datetime, list[dict[str, Any]]] = defaultdict(list)
    for fill in fills:
        own[_floor(parse(fill["time"]), window.step)].append(fill)
    rows: list[Row] = []
    executed = _ZERO
    for time in sorted(by_time.keys() | own.keys()):
        candle, of_time = by_time.get(time), own.get(time, [])
        size = sum((Decimal(fill["sz"]) for fill in of_time), _ZERO)
        notional = sum((Decimal(fill["px"]) * Decimal(fill["sz"]) for fill in of_time), _ZERO)
        executed += size
        volume = None if candle is None or candle["volume"] is None else Decimal(candle["volume"])
        rows.append(
            Row(
                time,
                candle,
                len({fill["oid"] for fill in of_time}),
                size,
                notional / size if size else None,
                executed,
                due_at(twap, time + timedelta(seconds=window.step)),
                size / volume if volume else None,
            )
        )
    return rows


def due_at(twap: dict[str, Any], moment: datetime) -> Decimal | None:
    """Return the size that a straight schedule has sent by then. None: the size, the beginning or the end is unknown."""
    if twap["size_requested"] is None or twap["begins_at"] is None or twap["planned_end"] is None:
        return None
    begins, ends = parse(twap["begins_at"]), parse(twap["planned_end"])
    passed, whole = min(max(moment, begins), ends) - begins, ends - begins
    micro = timedelta(microseconds=1)
    return Decimal(twap["size_requested"]) * (passed // micro) / (whole // micro) if whole else None


def draw(twap: dict[str, Any], window: Window, rows: Sequence[Row], fills: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what explorer.js draws: times in seconds since 1970, and floats."""
    by_order: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for fill in fills:
        by_order[fill["oid"]].append(fill)
    slices = sorted(_slice(of_order) for of_order in by_order.values())
    planned = None
    if twap["begins_at"] and twap["planned_end"] and twap["size_requested"]:
        planned = [[_seconds(twap["begins_at"]), 0], [_seconds(twap["planned_end"]), float(twap["size_requested"])]]
    return {
        "kind": "twap",
        "coin": twap["coin"],
        "step": window.step,
        "from": window.start.timestamp(),
        "to": window.end.timestamp() + window.step,
        **draw_candles(rows),
        "own": [float(row.size) for row in rows],
        "share": [None if row.share is None else float(row.share) * 100 for row in rows],
        "slices": [list(column) for column in zip(*slices, strict=True)] or [[], [], []],
        "schedule": planned,
        "lines": {name: _float(twap[column]) for name, column in _LINES.items()},
    }


_LINES = {"Arrival": "arrival_px", "VWAP of the TWAP": "vwap", "VWAP of the market": "market_vwap"}


def draw_candles(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the candles as columns."""
    return {
        "time": [row.time.timestamp() for row in rows],
        **{
            name: [None if row.candle is None else _float(row.candle[name]) for row in rows]
            for name in ("open", "high", "low", "close", "volume")
        },
    }


def rows_of_market(candles: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the candles as rows without a TWAP."""
    return [Row(parse(candle["time"]), candle, 0, _ZERO, None, _ZERO, None, None) for candle in candles]


def as_parameter(moment: datetime) -> str:
    """Return a time as a parameter of the API."""
    return iso(moment.astimezone(UTC))


def _slice(fills: Sequence[dict[str, Any]]) -> tuple[float, float, float]:
    size = sum((Decimal(fill["sz"]) for fill in fills), _ZERO)
    notional = sum((Decimal(fill["px"]) * Decimal(fill["sz"]) for fill in fills), _ZERO)
    return _seconds(fills[0]["time"]), float(notional / size if size else Decimal(fills[0]["px"])), float(size)


def _seconds(text: str) -> float:
    return parse(text).timestamp()


def _float(text: str | None) -> float | None:
    return None if text is None else float(text)


def _floor(moment: datetime, step: int) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() // step * step, UTC)
