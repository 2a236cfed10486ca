"""TWAPs that wait for a trigger, through the pipeline: before they begin, and after some have begun and one never does.

The expected figures are worked out by hand. The reference (naive/twaps.py) has its own examples.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hl_pipeline_tests.days import STAGES, make_day
from hl_pipeline_tests.naive.fills import write_object
from hl_pipeline_tests.twap_days import Place, Written, environment_of, make_twap_day, query

PLACED, ACTIVATED = datetime(2026, 8, 10, 9, tzinfo=UTC), datetime(2026, 8, 11, 15, tzinfo=UTC)
STOPPED = ACTIVATED + timedelta(minutes=10, seconds=5)
DAYS = (PLACED.date(), ACTIVATED.date())
OWNER, OTHER = "0x" + 40 * "7", "0x" + 40 * "8"
BEGINS, NEVER, REFUSED, RUNS_UNSAID = 900, 902, 903, 904
NOT_BEGUN = dict.fromkeys(
    (
        *("begins_at", "planned_end", "slices_due", "schedule_deviation", "whole_minutes", "market_volume", "market_notional"),
        *("market_vwap", "market_vwap_without_own", "own_volume", "own_notional", "participation", "arrival_px"),
        *("slippage_bps", "slippage_without_own_bps", "slippage_arrival_bps", "vwap"),
    )
)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "000"


def _event(twap_id: int, moment: datetime, status: str, executed: str = "0.0", **state: Any) -> dict[str, Any]:
    asked = {"coin": "BTC", "user": OWNER, "side": "B", "sz": "4.0", "executedSz": executed, "executedNtl": "0.0"}
    asked |= {"minutes": 30, "reduceOnly": False, "randomize": False, "timestamp": _ms(PLACED)}
    # Of a trigger no member is certain.
    return {"time": _iso(moment), "twap_id": twap_id, "state": asked | {"trigger": {"above": True}} | state, "status": status}


def _block(number: int, moment: datetime, twap_id: int | None) -> bytes:
    usual = {"coin": "BTC", "px": "100.0", "sz": "1.0", "time": _ms(moment), "startPosition": "0.0", "closedPnl": "0.0"}
    usual |= {"hash": "0x" + 64 * "0", "tid": number, "fee": "0.01", "feeToken": "USDC", "dir": "Open Long"}
    events = [
        [OWNER, usual | {"side": "B", "crossed": True, "oid": 2 * number, "twapId": twap_id}],
        [OTHER, usual | {"side": "A", "crossed": False, "oid": 2 * number + 1, "twapId": None}],
    ]
    block = {"local_time": _iso(moment), "block_time": _iso(moment), "block_number": number, "events": events}
    return json.dumps(block).encode() + b"\n"


@pytest.fixture
def written(tmp_path: Path) -> Written:
    fills, statuses = tmp_path / "fills", tmp_path / "statuses"
    # A market on both days: when they were placed, and while they run.
    trades = [(PLACED + timedelta(minutes=n, seconds=1), None) for n in range(-2, 40)]
    trades += [(ACTIVATED + timedelta(seconds=1 + 30 * n), BEGINS) for n in range(3)]
    trades += [(ACTIVATED + timedelta(minutes=5, seconds=1 + 30 * n), RUNS_UNSAID) for n in range(2)]
    hours: dict[datetime, list[bytes]] = {}
    for number, (moment, twap_id) in enumerate(trades, 1):
        hours.setdefault(moment.replace(minute=0, second=0), []).append(_block(number, moment, twap_id))
    for hour, blocks in hours.items():
        write_object(fills, hour, b"".join(blocks))
    events = [
        *(_event(twap_id, PLACED, "waitingForTrigger") for twap_id in (BEGINS, NEVER)),
        _event(REFUSED, PLACED + timedelta(seconds=1), "error", trigger=None),
        _event(BEGINS, ACTIVATED, "activated"),
        _event(BEGINS, STOPPED, "stopped", "3.0"),
        _event(NEVER, ACTIVATED, "terminated"),
        # That it was activated stands in no object.
        _event(RUNS_UNSAID, STOPPED, "stopped", "2.0"),
    ]
    for day in DAYS:
        path = statuses / f"{day:%Y%m%d}" / "12.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(event) + "\n" for event in events if event["time"].startswith(str(day))))
    return Written(DAYS, fills, statuses, [], [], {})


def _figures(place: Place, twap_id: int, *names: str) -> dict[str, Any]:
    [row] = query(place, f"SELECT * FROM hl.twaps WHERE twap_id = {twap_id}")
    return {name: row[name] for name in names or NOT_BEGUN}


def test_a_twap_has_no_beginning_and_no_market_until_it_is_activated(written: Written, database_url: str, tmp_path: Path) -> None:
    place = Place(tmp_path / "lake", database_url)
    made = make_day(environment_of(place, written), DAYS[0])
    assert [row["twap_id"] for row in query(place, "SELECT twap_id FROM hl.twaps ORDER BY 1")] == [BEGINS, NEVER, REFUSED]
    for twap_id, verdict in ((BEGINS, "waiting"), (NEVER, "waiting"), (REFUSED, "failed")):
        assert _figures(place, twap_id) == NOT_BEGUN
        assert _figures(place, twap_id, "verdict", "started_at", "duration_minutes", "size_observed") == {
            "verdict": verdict, "started_at": PLACED, "duration_minutes": 30, "size_observed": 0
        }  # fmt: skip
    assert made.keys() == STAGES.keys()

    make_twap_day(place, written, DAYS[1])

    assert _figures(place, BEGINS, "verdict", "begins_at", "planned_end", "ended_at", "slices_due", "whole_minutes") == {
        "verdict": "match",
        "begins_at": ACTIVATED,
        "planned_end": ACTIVATED + timedelta(minutes=30),
        "ended_at": STOPPED,
        "slices_due": 21,
        "whole_minutes": 10,
    }
    assert _figures(place, BEGINS, "market_volume", "own_volume") == {"market_volume": 5, "own_volume": 3}
    # After 10:05 twenty-one of sixty slices were due, and three quarters of the size was executed: at 15:01:01.
    assert _figures(place, BEGINS, "schedule_deviation") == {"schedule_deviation": Decimal("0.7000000000")}
    assert _figures(place, NEVER) == NOT_BEGUN
    assert _figures(place, NEVER, "verdict", "ended_at", "started_at") == {
        "verdict": "match", "ended_at": ACTIVATED, "started_at": PLACED
    }  # fmt: skip
    assert _figures(place, RUNS_UNSAID, "verdict", "begins_at", "slices_due") == {
        "verdict": "match", "begins_at": ACTIVATED + timedelta(minutes=5, seconds=1), "slices_due": 11
    }  # fmt: skip


@pytest.mark.slow
def test_the_days_can_come_in_any_order(written: Written, database_url: str, tmp_path: Path) -> None:
    place = Place(tmp_path / "lake", database_url)
    for day in reversed(DAYS):
        make_twap_day(place, written, day)
    assert _figures(place, NEVER) == NOT_BEGUN
    assert _figures(place, BEGINS, "begins_at", "statuses", "is_complete") == {
        "begins_at": ACTIVATED, "statuses": 3, "is_complete": False
    }  # fmt: skip
    # Both days lack hours.
    assert _figures(place, NEVER, "is_complete") == {"is_complete": False}
