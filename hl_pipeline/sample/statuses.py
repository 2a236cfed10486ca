"""Draws the statuses of the sample's TWAPs, hour by hour from their slices, and the truth. `generate` describes the files."""

import json
from collections import defaultdict
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hl_pipeline.sample.sources import DAY_NS, FIRST_STATUS_DAY, DrawnHour, day_of, ns_of
from hl_pipeline.sample.status_objects import Event, Objects, decimal_text, write_day, write_hour, write_junk
from hl_pipeline.sample.text import World
from hl_pipeline.sample.twaps import (
    ACTIVATED,
    ERROR,
    FINISHED,
    MESSAGES,
    STATUSES,
    TELL_ALL,
    TELL_ALL_BUT_LAST,
    TELL_NONE,
    TERMINATED,
    WAITING,
)
from hl_pipeline.sample.values import SLICE_NS, UNIT, Bools, Ints, Markets, Twaps, draw_ticks

_TRUTH = pa.schema(
    [
        ("twap_id", pa.int64()),
        ("time_ns", pa.int64()),
        *[(name, pa.string()) for name in ("status", "error", "wallet", "coin", "side")],
        *[(name, pa.decimal128(38, 10)) for name in ("size_requested", "size_executed", "notional_executed")],
        ("duration_minutes", pa.int64()),
        ("reduce_only", pa.bool_()),
        ("randomize", pa.bool_()),
        ("started_at_ms", pa.int64()),
        ("keys", pa.list_(pa.string())),
    ]
)
_NEVER = 2**63 - 1


class Statuses:
    """Follows the TWAPs through the hours, and writes a day's objects and truth after its last hour."""

    def __init__(self, directory: Path, truth_dir: Path, world: World, start_ns: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._truth_dir, self._world = directory, truth_dir, world
        self._told_from_ns = max(start_ns, ns_of(FIRST_STATUS_DAY))
        self._twap, self._place, self._due_ns = _due_statuses(world.twaps)
        n = len(world.twaps.id)
        self._size, self._notional, self._lost_legs = (np.zeros(n, np.int64) for _ in range(3))
        self._placed_ms = world.twaps.placed_ns // 10**6
        self._begin_ns, self._first_ns = np.zeros(n, np.int64), np.full(n, _NEVER)
        self._last_ns = np.zeros(n, np.int64)
        self._has_ended = np.zeros(n, bool)
        self._after_ns = 0
        self._events: dict[date, list[Event]] = defaultdict(list)
        self._objects: Objects = {}
        self._has_junk = False
        self._truth = pq.ParquetWriter(self._path("statuses.parquet", ".part"), _TRUTH, compression="zstd")

    def add_hour(self, made: DrawnHour) -> None:
        """Add an hour. `made`: everything drawn for it, including legs that are in no object."""
        twaps, block_ns = self._world.twaps, made.block_ns
        if not self._after_ns:
            self._after_ns = int(block_ns[0]) - 1
            self._add_slices_before()
        begin = (twaps.start_ns > self._after_ns) & (twaps.start_ns <= block_ns[-1])
        self._begin_ns[begin] = block_ns[np.searchsorted(block_ns, twaps.start_ns[begin])]
        self._add_slices(made)
        events = self._draw_events(made)
        for event in events:
            self._events[day_of(event.time_ns)].append(event)
        if made.hour_ns >= ns_of(FIRST_STATUS_DAY):
            self._objects |= write_hour(self._directory, made, events)
        # Hour 0 has the last events of the previous day.
        if made.hour_ns % DAY_NS == 0:
            self._write_days(before=day_of(int(block_ns[-1])))
        self._after_ns = int(block_ns[-1])

    def close(self) -> None:
        self._write_days(before=date.max)
        self._truth.close()
        self._path("statuses.parquet", ".part").rename(self._path("statuses.parquet"))
        ids = {kind: self._world.twaps.id[which].tolist() for kind, which in self._kinds().items()}
        temporary = self._path("twaps.json", ".part")
        temporary.write_text(json.dumps(ids | {"status_objects": self._objects}) + "\n")
        temporary.rename(self._path("twaps.json"))

    def _path(self, name: str, ending: str = "") -> Path:
        return self._truth_dir / (f".{name}{ending}" if ending else name)

    def _add_slices_before(self) -> None:
        """Add the slices before the first block, with prices that appear nowhere."""
        twaps = self._world.twaps
        slices = np.clip((self._after_ns - twaps.start_ns) // SLICE_NS + 1, 0, twaps.stops)
        twap = np.repeat(np.arange(len(slices)), slices)
        due_ns = twaps.start_ns[twap] + SLICE_NS * (np.arange(len(twap)) - (np.cumsum(slices) - slices)[twap])
        ticks = draw_ticks(np.random.default_rng(0), self._world.markets, twaps.coin[twap], due_ns)
        sz = (twaps.sz * twaps.fills)[twap]
        np.add.at(self._size, twap, sz)
        np.add.at(self._notional, twap, _notional(self._world.markets, twaps.coin[twap], ticks, sz))

    def _add_slices(self, made: DrawnHour) -> None:
        legs, twaps, markets = made.legs, self._world.twaps, self._world.markets
        rows = np.flatnonzero(legs["twap"] >= 0)
        twap = legs["twap"][rows] - twaps.id[:1]
        coin, sz, time_ns = legs["coin"][rows], legs["sz"][rows], made.block_ns[legs["block"][rows]]
        np.add.at(self._size, twap, sz)
        np.add.at(self._notional, twap, _notional(markets, coin, legs["px"][rows] // markets.tick[coin], sz))
        np.add.at(self._lost_legs, twap, legs["lost"][rows])
        np.minimum.at(self._first_ns, twap, time_ns)
        np.maximum.at(self._last_ns, twap, time_ns)

    def _draw_events(self, made: DrawnHour) -> list[Event]:
        """Return the statuses of this hour that objects may contain, by time, and apply the changes of all statuses."""
        twaps, block_ns = self._world.twaps, made.block_ns
        first, last = np.searchsorted(self._due_ns, [self._after_ns, block_ns[-1]], side="right").tolist()
        twap, place, due_ns = (column[first:last] for column in (self._twap, self._place, self._due_ns))
        block = np.where((place > ACTIVATED) & twaps.at_edge[twap], 0, np.searchsorted(block_ns, due_ns))
        time_ns = block_ns[block]
        placed = due_ns == twaps.placed_ns[twap]
        self._placed_ms[twap[placed]] = time_ns[placed] // 10**6
        self._has_ended[twap[place > ACTIVATED]] = True
        told = (twaps.told[twap] == TELL_ALL) | (twaps.told[twap] == TELL_ALL_BUT_LAST) & (place <= ACTIVATED)
        told = np.flatnonzero(told & (time_ns >= self._told_from_ns))
        told = told[np.lexsort((place[told], twaps.id[twap[told]], block[told]))]
        return [self._event(made, int(twap[i]), int(place[i]), int(block[i])) for i in told]

    def _event(self, made: DrawnHour, twap: int, place: int, block: int) -> Event:
        twaps, world = self._world.twaps, self._world
        ended = place > ACTIVATED
        return Event(
            twap_id=int(twaps.id[twap]),
            status=STATUSES[place],
            error=MESSAGES[twaps.message[twap]] if place == ERROR else None,
            time_ns=int(made.block_ns[block]),
            block_number=made.first_block + block,
            wallet="0x" + bytes(world.wallets[twaps.wallet[twap]]).decode(),
            coin=world.markets.names[twaps.coin[twap]],
            side="B" if twaps.buy[twap] else "A",
            requested=int(twaps.slices[twap] * twaps.fills[twap] * twaps.sz[twap]),
            # No slice comes after the end, so the current sum is the final one.
            executed=int(self._size[twap]) if ended else 0,
            notional=int(self._notional[twap]) if ended else 0,
            minutes=int(twaps.slices[twap] + 1) // 2,
            reduce_only=bool(twaps.reduce_only[twap]),
            randomize=bool(twaps.randomize[twap]),
            started_ms=int(self._placed_ms[twap]),
            trigger=_trigger(world.markets, twaps, twap) if place == WAITING else {},
        )

    def _write_days(self, before: date) -> None:
        for day in sorted(day for day in self._events if day < before):
            events = self._events.pop(day)
            written = write_day(self._directory, day, events)
            if written and not self._has_junk:
                write_junk(self._directory, beside=next(iter(written)))
                self._has_junk = True
            self._objects |= written
            self._truth.write_table(_truth_table(events))

    def _kinds(self) -> dict[str, Bools]:
        """Return which TWAPs are of which kind; `generate` describes the kinds."""
        twaps = self._world.twaps
        begins = self._begin_ns >= self._told_from_ns
        days = np.where(self._last_ns > 0, self._last_ns // DAY_NS - self._first_ns // DAY_NS, 0)
        ended, is_waiter, has_lost = begins & self._has_ended, twaps.placed_ns < twaps.start_ns, self._lost_legs > 0
        return {
            "ordinary": ended & (twaps.end == FINISHED) & (twaps.told == TELL_ALL) & ~is_waiter & ~has_lost,
            "terminated": ended & (twaps.end == TERMINATED),
            "error_at_once": ended & (twaps.end == ERROR) & (twaps.stops == 0),
            "error_after_slices": ended & (twaps.end == ERROR) & (twaps.stops > 0),
            "running": begins & ~self._has_ended,
            "over_midnight": begins & (days >= 1),
            "three_days": begins & (days >= 2),
            "no_last_status": ended & (twaps.told == TELL_ALL_BUT_LAST),
            "no_status": begins & (twaps.told == TELL_NONE),
            "missing_slices": begins & has_lost,
            "waited_for_trigger": begins & is_waiter,
            "begun_before": (self._first_ns < _NEVER) & ~begins,
        }


def _due_statuses(twaps: Twaps) -> tuple[Ints, Ints, Ints]:
    """Return all statuses by due time: TWAP, kind (in `STATUSES`), time."""
    waiting, activated = np.flatnonzero(twaps.placed_ns < twaps.start_ns), np.flatnonzero(twaps.activates)
    twap = np.concatenate([waiting, activated, np.arange(len(twaps.id))])
    place = np.concatenate([np.full(len(waiting), WAITING), np.full(len(activated), ACTIVATED), twaps.end])
    due_ns = np.concatenate([twaps.placed_ns[waiting], twaps.start_ns[activated], twaps.end_ns])
    order = np.argsort(due_ns, kind="stable")
    return twap[order], place[order], due_ns[order]


def _notional(markets: Markets, coin: Ints, ticks: Ints, sz: Ints) -> Ints:
    """Return the exact notional in units of 1e-10: a tick times a step is a whole number of them."""
    return ticks * (sz // markets.step[coin]) * (markets.tick[coin] * markets.step[coin] // UNIT)


def _trigger(markets: Markets, twaps: Twaps, twap: int) -> dict[str, Any]:
    """Return the extra fields of a waiting state. Their real names are unknown."""
    coin = twaps.coin[twap]
    low, high = (decimal_text(int(markets.price_ticks[coin] * part // 100 * markets.tick[coin])) for part in (97, 103))
    trigger, stop = (high, low) if twaps.buy[twap] else (low, high)
    return {"trigger": {"px": trigger, "isAbove": bool(twaps.buy[twap])}, "stopPx": stop}


def _truth_table(events: list[Event]) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            "twap_id": event.twap_id,
            "time_ns": event.time_ns if event.is_exact else event.time_ns // 10**6 * 10**6,
            "status": event.status,
            "error": event.error,
            "wallet": event.wallet,
            "coin": event.coin,
            "side": event.side,
            "size_requested": Decimal(event.requested).scaleb(-10),
            "size_executed": Decimal(event.executed).scaleb(-10),
            "notional_executed": Decimal(event.notional).scaleb(-10),
            "duration_minutes": event.minutes,
            "reduce_only": event.reduce_only,
            "randomize": event.randomize,
            "started_at_ms": event.started_ms,
            "keys": event.keys,
        }
        for event in events
    ]
    return pa.Table.from_pylist(rows, _TRUTH)
