"""A TWAP status and a trade to build examples from: plain values, changed by keyword."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from hl_pipeline_tests.naive import twaps as naive_twaps
from hl_pipeline_tests.naive.statistics import Leg, Row
from hl_pipeline_tests.naive.twaps import Days, Loaded, Status

DAY = date(2025, 9, 2)
OWNER, OTHER = "0x" + 40 * "a", "0x" + 40 * "b"


def ms(clock: str, day: date = DAY) -> int:
    """Return ms since 1970. `clock` is HH:MM:SS or HH:MM:SS.mmm."""
    moment = datetime.combine(day, datetime.strptime(clock, "%H:%M:%S.%f" if "." in clock else "%H:%M:%S").time(), UTC)  # noqa: DTZ007
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


STATUS: Status = {
    "twap_id": 1,
    "error": None,
    "wallet": OWNER,
    "coin": "BTC",
    "side": "B",
    "size_requested": Decimal(10),
    "size_executed": Decimal(0),
    "notional_executed": Decimal(0),
    "duration_minutes": 5,
    "reduce_only": False,
    "randomize": False,
    "started_at_ms": None,
}
LEG: Leg = {
    "wallet": OTHER,
    "coin": "BTC",
    "side": "B",
    "dir": "Open Long",
    "crossed": True,
    "twap_id": None,
    "fee": Decimal(0),
    "fee_token": "USDC",
    "closed_pnl": Decimal(0),
    "source": "node_fills_by_block",
    "builder": None,
    "liquidated_user": None,
}
numbers = count(1)


def trade(clock: str, px: str, sz: str = "1", day: date = DAY, **other: Any) -> Leg:
    """Return the taker's leg of a trade without a second leg, which is not part of a TWAP."""
    numbered = dict.fromkeys(("tid", "oid", "trade"), next(numbers))
    return {**LEG, **numbered, "time": ms(clock, day), "px": Decimal(px), "sz": Decimal(sz), **other}


NEXT = DAY + timedelta(days=1)
BOTH_DAYS = {DAY: Loaded(), NEXT: Loaded()}


def a_status(clock: str, status: str, day: date = DAY, ns: int = 0, **other: Any) -> Status:
    """Return a status `ns` after `clock`. By default, its TWAP buys 10 BTC in five minutes."""
    return {**STATUS, "time_ns": ms(clock, day) * 10**6 + ns, "status": status, **other}


def an_end(clock: str, size: int | None, status: str = "finished", **other: Any) -> Status:
    return a_status(
        clock, status, size_executed=None if size is None else Decimal(size), notional_executed=Decimal(1000), **other
    )


def a_slice(clock: str, px: str, sz: str = "1", day: date = DAY, **other: Any) -> Leg:
    return trade(clock, px, sz, day, **{"wallet": OWNER, "twap_id": 1, **other})


def every_30_s(clocks: str, px: str = "100") -> list[Leg]:
    return [a_slice(clock, px) for clock in clocks.split()]


def the_twap(statuses: list[Status], legs: list[Leg], days: Days = BOTH_DAYS) -> Row:
    [(twap_id, row)] = naive_twaps.twaps(statuses, legs, days).items()
    assert twap_id == 1
    return row


def assert_has(row: Row, **expected: Any) -> None:
    """Assert that a row has these values. Numbers may be given as text."""
    numbers = {
        name: Decimal(value) for name, value in expected.items() if isinstance(value, str) and isinstance(row[name], Decimal)
    }
    assert {name: row[name] for name in expected} == {**expected, **numbers}


def utc(clock: str, day: date = DAY, microseconds: int = 0) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms(clock, day), microseconds=microseconds)
