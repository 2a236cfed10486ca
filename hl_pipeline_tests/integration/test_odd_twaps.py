"""Random unusual TWAPs on days of all kinds: every column of hl.twaps equals the reference (naive/twaps.py)."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hl_pipeline_tests.naive import twaps as naive_twaps
from hl_pipeline_tests.naive.fills import write_object
from hl_pipeline_tests.naive.statistics import Leg, Row, grouped
from hl_pipeline_tests.naive.twap_examples import OTHER, OWNER, STATUS, ms, numbers, trade
from hl_pipeline_tests.naive.twaps import MINUTE, Days, Loaded, Status
from hl_pipeline_tests.twap_days import (
    FROM_LAKE,
    RAW,
    Place,
    Written,
    assert_equal,
    make_twap_day,
    status_key,
    stored_twaps,
)

ODD_DAYS = tuple(date(2025, 10, 10) + timedelta(days=number) for number in range(5))
LACKS_AN_HOUR, WITHOUT_CANDLES, QUARANTINED, WITHOUT_STATUSES = ODD_DAYS[1:]
ODD: Days = {
    ODD_DAYS[0]: Loaded(),
    LACKS_AN_HOUR: Loaded("incomplete"),
    WITHOUT_CANDLES: Loaded(candles=False),
    QUARANTINED: Loaded(quarantined=True),
    WITHOUT_STATUSES: Loaded(statuses=None),
}
ODD_BEGIN, ODD_END = (ms("00:00:00", day) for day in (ODD_DAYS[0], ODD_DAYS[-1] + timedelta(days=1)))
HOUR = 60 * MINUTE
EVERY_VERDICT = set(
    "conflict waiting status_missing running unreported failed match excess_fills hole missing_fills".split()  # noqa: SIM905
)
SEQUENCES = (
    *(
        "activated finished",
        "activated finished",
        "activated terminated",
        "activated error",
        "waitingForTrigger activated finished",
    ),
    *("activated", "error", "error", "finished", "waitingForTrigger", "waitingForTrigger terminated", "activated newKind", ""),
    *("activated activated finished", "activated finished finished", "waitingForTrigger activated"),
)
UNKNOWN = (
    "size_requested",
    "duration_minutes",
    "reduce_only",
    "randomize",
    "started_at_ms",
    "size_executed",
    "notional_executed",
)


def _odd_twap(random: Random, twap_id: int) -> tuple[list[Status], list[Leg]]:
    owner = {"wallet": random.choice((OWNER, OTHER)), "coin": random.choice(("BTC", "ETH", "@107")), "side": random.choice("AB")}
    day = random.randrange(ODD_BEGIN, ODD_END, naive_twaps.DAY)
    begin = max(
        ODD_BEGIN, day + random.choice((0, 30_000, -30_000, random.randrange(1440) * MINUTE)) + random.choice((0, 0, 1, -1, 500))
    )
    minutes = random.choice((5, 5, 7, 30, 1440, 4320))
    runs = random.choice(
        (0, 1, 29_999, 30_000, MINUTE - 1, MINUTE, 2 * MINUTE + 1, *4 * (minutes * MINUTE,), random.randrange(minutes * MINUTE))
    )
    requested = random.choice((Decimal(10), Decimal("0.0000000007"), Decimal(0), Decimal("7000")))
    slices = [leg for at in _odd_moments(random, begin, runs) for leg in _odd_slice(random, owner, twap_id, at, requested)]
    asked = {**owner, "twap_id": twap_id, "duration_minutes": minutes, "size_requested": requested}
    placed = random.choice((begin, begin - 1, begin - HOUR, None))
    told = _odd_statuses(random, {**asked, "started_at_ms": placed}, begin, begin + runs, slices)
    return told, _spoilt(random, slices) if random.random() < 0.2 else slices


def _odd_moments(random: Random, begin: int, runs: int) -> list[int]:
    """When its slices go out: on time or a little beside it, or over the whole of its time, and now and then before it."""
    apart = random.choice((30_000, max(30_000, runs // 10)))
    moments = [
        begin + apart * number + random.choice((0, 0, 0, 1, -1, 29_999)) for number in range(random.choice((0, 1, 5, 10, 10, 12)))
    ]
    if random.random() < 0.1:
        moments.append(begin - random.choice((1, MINUTE, HOUR + 1)))
    return [at for at in moments if ODD_BEGIN <= at < ODD_END and random.random() < 0.95]


def _odd_slice(random: Random, owner: Row, twap_id: int, at: int, requested: Decimal) -> list[Leg]:
    sz = (requested / 10 or Decimal(1)).quantize(Decimal("1e-10")) or Decimal("1e-10")
    order = {**owner, "oid": next(numbers), "twap_id": twap_id, "sz": sz}
    moments = [at + random.choice((0, 0, 1)) for _ in range(random.choice((1, 1, 2)))]
    return [
        _leg_at(moment, _odd_px(random), **order, crossed=random.choice((True, False))) for moment in moments if moment < ODD_END
    ]


def _odd_px(random: Random) -> Decimal:
    return Decimal(random.choice(("100", "101", "99.9999999999", "0.01", "123.456789")))


def _leg_at(moment: int, px: Decimal, **other: Any) -> Leg:
    return {**trade("00:00:00", "1"), "time": moment, "px": px, **other}


def _spoilt(random: Random, slices: list[Leg]) -> list[Leg]:
    """Fills of which one says too little or other things than the first."""
    oddities: tuple[Row, ...] = (
        *({"fee": None}, {"fee_token": None}, {"closed_pnl": None}, {"crossed": None}, {"dir": "Settlement"}),
        *({"fee": Decimal("-0.5"), "fee_token": "HYPE"}, {"closed_pnl": Decimal("-3.0000000001")}),
        *({"wallet": "0x" + 40 * "c"}, {"coin": "SOL"}, {"side": "A"}),
    )
    first = min((leg["time"] for leg in slices), default=0)
    return [{**leg, **(random.choice(oddities) if leg["time"] > first and random.random() < 0.3 else {})} for leg in slices]


def _odd_statuses(random: Random, asked: Row, begin: int, end: int, slices: list[Leg]) -> list[Status]:
    names = random.choice(SEQUENCES).split()
    size, notional = naive_twaps.sums(slices)
    reported = random.choice((size, size, size, size + 1, size / 2, Decimal(0))).quantize(Decimal("1e-10"))
    trigger: Row = random.choice(({}, {}, {}, {"trigger": None}, {"trigger": {"above": True}}))
    told: list[Status] = []
    for number, name in enumerate(names):
        is_last = number == len(names) - 1 and name != "activated"
        at = end if is_last else begin - random.choice((0, MINUTE)) if name == "waitingForTrigger" else begin + number
        executed = {"size_executed": reported, "notional_executed": notional.quantize(Decimal("1e-10"))} if is_last else {}
        unknown = dict.fromkeys(random.sample(UNKNOWN, 2)) if random.random() < 0.15 else {}
        odd = {"coin": "SOL"} if random.random() < 0.02 else {}
        time_ns = at * 10**6 + random.choice((0, 999_999, 123_456))
        told.append({**STATUS, **asked, **trigger, "time_ns": time_ns, "status": name, **executed, **unknown, **odd})
    return list({status_key(status): status for status in told if status["time_ns"] // 10**6 < ODD_END}.values())


def _odd_market(random: Random, legs: list[Leg]) -> list[Leg]:
    """The other legs of the slices, and trades of others around them, on the minutes' edges too."""
    found = [
        {**leg, "wallet": "0x" + 40 * "d", "side": "AB"[leg["side"] == "A"], "twap_id": None, "crossed": not leg["crossed"]}
        for leg in legs
        if leg["tid"]
    ]
    for leg in random.sample(legs, len(legs) // 2):
        at = leg["time"] + random.choice((0, MINUTE, -MINUTE, -HOUR, -HOUR - 1, 1 - HOUR, random.randrange(-HOUR, HOUR)))
        at = random.choice((at, at // MINUTE * MINUTE, at // MINUTE * MINUTE - 1))
        if ODD_BEGIN <= at < ODD_END and leg["coin"] != "@107":
            found.append(
                _leg_at(at, _odd_px(random), coin=leg["coin"], sz=Decimal(random.choice(("1", "0.0000000001", "12345.6"))))
            )
    return found


def _write_fills(bucket: Path, legs: list[Leg]) -> list[Leg]:
    """As the node would: blocks in objects by hour, cut 50 ms late. The legs that are in an object."""
    frame = {
        moment for start in range(ODD_BEGIN - HOUR, ODD_END + HOUR, HOUR) for moment in (start - 20, start + 5, start + HOUR // 2)
    }
    by_moment = grouped(legs, lambda leg: leg["time"])
    blocks = [(moment, by_moment.get(moment, [])) for moment in sorted(frame | by_moment.keys())]
    lines: dict[datetime, list[bytes]] = {}
    left: list[Leg] = []
    for number, (moment, of_block) in enumerate(blocks):
        hour = naive_twaps.at_microsecond((moment + 50) // HOUR * HOUR * 1000)
        if (hour.date(), hour.hour) != (LACKS_AN_HOUR, 13):
            events: list[Any] = [[leg["wallet"], _fill_json(leg)] for leg in of_block]
            events += [["0x12", {}]] if (hour.date(), hour.hour) == (QUARANTINED, 14) else []
            block = {"local_time": _iso((moment + 50) * 10**6), "block_time": _iso(moment * 10**6 + 5), "block_number": number}
            lines.setdefault(hour, []).append(json.dumps({**block, "events": events}).encode() + b"\n")
            left += of_block
    for hour, of_hour in lines.items():
        write_object(bucket, hour, b"".join(of_hour))
    return left


def _fill_json(leg: Leg) -> Row:
    usual = {"startPosition": "0.0", "hash": "0x" + 64 * "0", "time": leg["time"], "twapId": leg["twap_id"]}
    names = {"closed_pnl": "closedPnl", "fee_token": "feeToken"}
    said = {
        names.get(name, name): leg[name] for name in ("coin", "px", "sz", "side", "dir", "oid", "tid", "crossed", "fee", *names)
    }
    return {**usual, **_as_text({name: value for name, value in said.items() if value is not None})}


def _write_statuses(bucket: Path, told: list[Status]) -> None:
    names = {"coin": "coin", "user": "wallet", "side": "side", "sz": "size_requested", "executedSz": "size_executed"}
    names |= {"executedNtl": "notional_executed", "minutes": "duration_minutes", "reduceOnly": "reduce_only"}
    names |= {"randomize": "randomize", "timestamp": "started_at_ms"}
    for day, of_day in grouped(told, lambda status: naive_twaps.day_at(status["time_ns"] // 10**6)).items():
        path = bucket / f"{day:%Y/%m/%d}" / "statuses.jsonl"
        path.parent.mkdir(parents=True)
        with path.open("w") as file:
            for status in of_day:
                state = {name: status[column] for name, column in names.items() if status[column] is not None}
                state |= {"trigger": status["trigger"]} if "trigger" in status else {}
                event = {"time": _iso(status["time_ns"]), "twap_id": status["twap_id"], "status": status["status"]}
                file.write(json.dumps({**event, "state": _as_text(state)}) + "\n")


def _as_text(values: Row) -> Row:
    return {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in values.items()}


def _iso(time_ns: int) -> str:
    return f"{naive_twaps.at_microsecond(time_ns // 1000):%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09}"


@pytest.mark.slow
def test_odd_twaps_on_days_of_all_kinds_are_what_the_second_way_gives(database_url: str, tmp_path: Path) -> None:
    random = Random(1)
    made = [_odd_twap(random, twap_id) for twap_id in range(1, 301)]
    told, slices = [status for of_twap, _ in made for status in of_twap], [leg for _, of_twap in made for leg in of_twap]
    legs = _write_fills(tmp_path / "fills", [*slices, *_odd_market(random, slices)])
    _write_statuses(tmp_path / "statuses", told)
    odd = Written(ODD_DAYS, tmp_path / "fills", tmp_path / "statuses", legs, told, {})
    place = Place(tmp_path / "lake", database_url)
    for day in random.sample(ODD_DAYS, len(ODD_DAYS)):
        absent = {WITHOUT_CANDLES: ["candles"], WITHOUT_STATUSES: ["raw_twap_statuses", "twap_statuses"]}.get(day, [])
        make_twap_day(place, odd, day, [asset for asset in (*RAW, *FROM_LAKE) if asset not in absent])
    stored, expected = stored_twaps(place), naive_twaps.twaps(told, legs, ODD)
    assert_equal(stored, expected)
    assert {row["verdict"] for row in stored.values()} == EVERY_VERDICT
    assert {row["is_complete"] for row in stored.values()} == {True, False}
