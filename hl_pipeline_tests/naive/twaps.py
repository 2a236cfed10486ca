"""An independent hl.twaps from statuses and legs, row by row, following docs/twaps.md, without the pipeline's code.

A status is a row of a sample's `truth/statuses.parquet` as a dict, a leg one of its `truth/legs.parquet`. Moments are whole
numbers since 1970 here (ms unless a name says otherwise), sums are exact Decimals, what is divided is a Fraction: each figure is
rounded once, at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from itertools import groupby
from typing import Any

from hl_pipeline_tests.naive import statistics as naive_statistics
from hl_pipeline_tests.naive.statistics import Leg, Row, grouped

Status = dict[str, Any]
Candles = Mapping[int, Row]
"""A coin's candles, by the time at which each begins."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, MINUTE, DAY = 1000, 60_000, 86_400_000
BETWEEN_SLICES = 30 * SECOND
ARRIVAL = 60 * MINUTE
LONGEST_MINUTES = 4_320
PLACES = {"waitingForTrigger": 0, "activated": 1}
OPEN = tuple(PLACES)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The loaded state of a day: of its fills and statuses (None if not loaded), and whether its candles were made."""

    fills: str | None = "whole"
    candles: bool = True
    statuses: str | None = "unprovable"
    quarantined: bool = False


NOT_LOADED = Loaded(None, False, None)
Days = Mapping[date, Loaded]


@dataclass(frozen=True, slots=True)
class Window:
    begin: int
    end: int

    @property
    def whole_minutes(self) -> range:
        """Return the start times of its whole minutes."""
        return range(-(-self.begin // MINUTE) * MINUTE, self.end // MINUTE * MINUTE, MINUTE)

    def days(self) -> list[date]:
        first, last = sorted((self.begin // DAY, self.end // DAY))
        return [day_at(number * DAY) for number in range(first, last + 1)]


def twaps(statuses: Iterable[Status], legs: Iterable[Leg], days: Days) -> dict[int, Row]:
    """Compute every TWAP by ID, from the days that are loaded according to `days`."""
    with localcontext(Context(prec=200)):
        there = [leg for leg in legs if loaded_at(days, leg["time"]).fills is not None]
        told = [status for status in statuses if loaded_at(days, status["time_ns"] // 10**6).statuses is not None]
        of_coin = candles_by_coin([leg for leg in there if loaded_at(days, leg["time"]).candles])
        fills_of = grouped((leg for leg in there if leg["twap_id"] is not None), lambda leg: leg["twap_id"])
        told_of = grouped(told, lambda status: status["twap_id"])
        return {
            twap_id: twap(told_of.get(twap_id, []), fills_of.get(twap_id, []), of_coin, days)
            for twap_id in sorted(told_of.keys() | fills_of.keys())
        }


def candles_by_coin(legs: Sequence[Leg]) -> dict[str, dict[int, Row]]:
    found: dict[str, dict[int, Row]] = {}
    for (coin, minute), candle in naive_statistics.candles(legs).items():
        found.setdefault(coin, {})[(minute - EPOCH) // timedelta(milliseconds=1)] = candle
    return found


def twap(statuses: Sequence[Status], fills: Sequence[Leg], candles: Mapping[str, Candles], days: Days) -> Row:
    told = sorted(statuses, key=lambda status: (status["time_ns"], PLACES.get(status["status"], 2), status["status"]))
    fills = sorted(fills, key=lambda fill: fill["time"])
    window = window_of(told, fills)
    row = {
        **who_and_what(told, fills),
        **when(told, window),
        **reported(told),
        **observed(fills),
        **against_the_schedule(told, fills, window),
        **market(told, fills, window, candles, days),
        **seen(told, fills, window),
        "is_complete": is_complete(known_span(told, window), days),
    }
    return {**row, **slippages(row, fills), "verdict": verdict(told, fills, row, window, days)}


# Owner and time


def who_and_what(told: Sequence[Status], fills: Sequence[Leg]) -> Row:
    said_by = told[-1] if told else fills[0]
    return {
        **{name: said_by[name] for name in ("wallet", "coin", "side")},
        "status": told[-1]["status"] if told else None,
        "error": told[-1]["error"] if told else None,
        **{name: last_known(told, name) for name in ("duration_minutes", "size_requested", "reduce_only", "randomize")},
        "statuses": len(told),
    }


def when(told: Sequence[Status], window: Window | None) -> Row:
    return {
        "started_at": at(last_known(told, "started_at_ms")),
        "begins_at": at(window.begin) if window else None,
        "planned_end": at(planned_end(told, window.begin)) if window else None,
        "ended_at": at(ended(told)),
    }


def window_of(told: Sequence[Status], fills: Sequence[Leg]) -> Window | None:
    """Return the window of a TWAP. None if it has not begun, or its beginning is unknown."""
    begin = begins(told, fills)
    if begin is None:
        return None
    ends = (ended(told), planned_end(told, begin), fills[-1]["time"] if fills else None, begin)
    return Window(begin, next(end for end in ends if end is not None))


def known_span(told: Sequence[Status], window: Window | None) -> Window:
    """Return the window. Without one, return the span from the order's placement to its last status."""
    if window is not None:
        return window
    placed = last_known(told, "started_at_ms")
    return Window(told[0]["time_ns"] // 10**6 if placed is None else placed, told[-1]["time_ns"] // 10**6)


def begins(told: Sequence[Status], fills: Sequence[Leg]) -> int | None:
    activated = [status for status in told if status["status"] == "activated"]
    if activated:
        return activated[0]["time_ns"] // 10**6
    executed_something = bool(fills) or bool(reported(told)["size_reported"])
    placed = last_known(told, "started_at_ms")
    if placed is not None and executed_something and not has_trigger(told):
        return placed
    return fills[0]["time"] if fills else None


def has_trigger(told: Sequence[Status]) -> bool:
    return any(status["status"] == "waitingForTrigger" or status.get("trigger") is not None for status in told)


def planned_end(told: Sequence[Status], begin: int) -> int | None:
    minutes = last_known(told, "duration_minutes")
    return None if minutes is None else begin + minutes * MINUTE


def ended(told: Sequence[Status]) -> int | None:
    return told[-1]["time_ns"] // 10**6 if told and told[-1]["status"] not in OPEN else None


def seen(told: Sequence[Status], fills: Sequence[Leg], window: Window | None) -> Row:
    moments = [status["time_ns"] // 1000 for status in told] + [fill["time"] * 1000 for fill in fills]
    first, last = [*moments], [*moments]
    if window is not None:
        first.append(window.begin * 1000)
        last += [window.begin * 1000, window.end * 1000]
        last += [due_by(told, window.begin) * 1000] if ended(told) is None else []
    elif (placed := last_known(told, "started_at_ms")) is not None:
        first.append(placed * 1000)
    return {"seen_from": at_microsecond(min(first) - ARRIVAL * 1000), "seen_to": at_microsecond(max(last))}


def due_by(told: Sequence[Status], begin: int) -> int:
    """Return the time by which a final status must have arrived."""
    minutes = last_known(told, "duration_minutes")
    return begin + (LONGEST_MINUTES if minutes is None else minutes) * MINUTE + MINUTE


# Execution


def reported(told: Sequence[Status]) -> Row:
    if ended(told) is None:
        return {"size_reported": None, "notional_reported": None}
    return {"size_reported": told[-1]["size_executed"], "notional_reported": told[-1]["notional_executed"]}


def observed(fills: Sequence[Leg]) -> Row:
    size, notional = sums(fills)
    knows_maker = fills and all(fill["crossed"] is not None or not fill["sz"] for fill in fills)
    made, _ = sums([fill for fill in fills if fill["crossed"] is False])
    return {
        "fills": len(fills),
        "slices": len({fill["oid"] for fill in fills}),
        "size_observed": size,
        "notional_observed": notional,
        "first_slice_at": at(fills[0]["time"]) if fills else None,
        "last_slice_at": at(fills[-1]["time"]) if fills else None,
        "vwap": rounded(ratio(notional, size), 10),
        "maker_share": rounded(ratio(made, size), 10) if knows_maker else None,
        "fees": naive_statistics.fees_by_token(fills),
        "closed_pnl": naive_statistics.known_sum(fill["closed_pnl"] for fill in fills),
    }


def against_the_schedule(told: Sequence[Status], fills: Sequence[Leg], window: Window | None) -> Row:
    minutes, size = last_known(told, "duration_minutes"), last_known(told, "size_requested")
    if minutes is None or window is None:
        return {"slices_due": None, "schedule_deviation": None}
    slices_due = min(2 * minutes, (window.end - window.begin) // BETWEEN_SLICES + 1)
    return {"slices_due": slices_due, "schedule_deviation": rounded(deviation(minutes, size, fills, window), 10)}


def deviation(minutes: int, size: Decimal | None, fills: Sequence[Leg], window: Window) -> Fraction | None:
    if not minutes or not size:
        return None
    executed_at = executed_by(fills)
    executed_at[window.end] = sums([fill for fill in fills if fill["time"] <= window.end])[0]
    return max(abs(exact(amount) / exact(size) - due(moment, window.begin, minutes)) for moment, amount in executed_at.items())


def executed_by(fills: Sequence[Leg]) -> dict[int, Decimal]:
    """Return the size executed up to each time of a fill."""
    executed, found = Decimal(0), {}
    for moment, together in groupby(fills, lambda fill: fill["time"]):
        executed += sums([*together])[0]
        found[moment] = executed
    return found


def due(moment: int, begin: int, minutes: int) -> Fraction:
    """Return the share of the size that is due at `moment`."""
    if moment < begin:
        return Fraction(0)
    return min(Fraction(1), Fraction((moment - begin) // BETWEEN_SLICES + 1, 2 * minutes))


# The market during the TWAP


MARKET = (
    *("whole_minutes", "market_volume", "market_notional", "own_volume", "own_notional", "market_vwap"),
    *("market_vwap_without_own", "participation", "arrival_px"),
)


def market(
    told: Sequence[Status], fills: Sequence[Leg], window: Window | None, candles: Mapping[str, Candles], days: Days
) -> Row:
    if window is None:
        return dict.fromkeys(MARKET)
    of_coin = candles.get((told[-1] if told else fills[0])["coin"], {})
    minutes = window.whole_minutes
    own_volume, own_notional = sums([fill for fill in fills if fill["time"] // MINUTE * MINUTE in minutes])
    volume, notional = traded(of_coin, minutes)
    if not minutes or not all(loaded_on(days, day).candles for day in window.days()):
        volume = notional = None
    return {
        "whole_minutes": len(minutes),
        "market_volume": volume,
        "market_notional": notional,
        "own_volume": own_volume,
        "own_notional": own_notional,
        "market_vwap": rounded(ratio(notional, volume), 10),
        "market_vwap_without_own": rounded(ratio(*others(volume, notional, own_volume, own_notional)), 10),
        "participation": rounded(ratio(own_volume, volume), 10),
        "arrival_px": arrival_px(of_coin, window.begin),
    }


def traded(candles: Candles, minutes: range) -> tuple[Decimal | None, Decimal | None]:
    in_them = [candles[minute] for minute in minutes if minute in candles]
    if any(candle[name] is None for candle in in_them for name in ("volume", "notional")):
        return None, None
    return total(candle["volume"] for candle in in_them), total(candle["notional"] for candle in in_them)


def others(
    volume: Decimal | None, notional: Decimal | None, own_volume: Decimal, own_notional: Decimal
) -> tuple[Decimal | None, Decimal | None]:
    """Return the market's notional and volume without the TWAP's own. None if nothing is left."""
    if volume is None or notional is None or volume <= own_volume:
        return None, None
    return notional - own_notional, volume - own_volume


def arrival_px(candles: Candles, begin: int) -> Decimal | None:
    last = max((minute for minute in candles if minute + MINUTE <= begin), default=None)
    return candles[last]["close"] if last is not None and begin - last <= ARRIVAL else None


def slippages(row: Row, fills: Sequence[Leg]) -> Row:
    size, notional = sums(fills)
    paid = ratio(notional, size)
    of_market = ratio(row["market_notional"], row["market_volume"])
    of_others = ratio(*others(row["market_volume"], row["market_notional"], row["own_volume"], row["own_notional"]))
    arrival = None if row["arrival_px"] is None else exact(row["arrival_px"])
    return {
        "slippage_bps": slippage(row["side"], paid, of_market),
        "slippage_without_own_bps": slippage(row["side"], paid, of_others),
        "slippage_arrival_bps": slippage(row["side"], paid, arrival),
    }


def slippage(side: str, paid: Fraction | None, against: Fraction | None) -> Decimal | None:
    """Return the slippage, which is positive if the owner did worse."""
    if paid is None or not against:
        return None
    worse = paid - against if side == "B" else against - paid
    return rounded(worse / against * 10_000, 4)


def is_complete(span: Window, days: Days) -> bool | None:
    said = [fills_are_whole(loaded_on(days, day)) for day in span.days()]
    return False if False in said else None if None in said else True


def fills_are_whole(day: Loaded) -> bool | None:
    if day.quarantined or day.fills in (None, "incomplete", "pending"):
        return False
    return True if day.fills == "whole" else None


# Verdict


def verdict(told: Sequence[Status], fills: Sequence[Leg], row: Row, window: Window | None, days: Days) -> str:
    if len({(said["wallet"], said["coin"], said["side"]) for said in (*told, *fills)}) > 1:
        return "conflict"
    if not told:
        return "status_missing"
    if told[-1]["status"] == "waitingForTrigger" and not fills:
        return "waiting"
    if ended(told) is None:
        assert window is not None  # it is activated, or has slices
        due_on = loaded_at(days, due_by(told, window.begin)).statuses
        return "running" if due_on in (None, "pending") else "status_missing"
    return verdict_of_sizes(row["status"], row["size_reported"], row["size_observed"], row["is_complete"])


def verdict_of_sizes(status: str, said: Decimal | None, seen_size: Decimal, complete: bool | None) -> str:
    if said is None:
        return "unreported"
    if status == "error" and said == seen_size == 0:
        return "failed"
    if said == seen_size:
        return "match"
    if seen_size > said:
        return "excess_fills"
    return "hole" if complete is False else "missing_fills"


# Times and numbers


def last_known(told: Sequence[Status], name: str) -> Any:
    return next((status[name] for status in reversed(told) if status[name] is not None), None)


def at(moment: int | None) -> datetime | None:
    return None if moment is None else EPOCH + timedelta(milliseconds=moment)


def at_microsecond(moment: int) -> datetime:
    return EPOCH + timedelta(microseconds=moment)


def day_at(moment: int) -> date:
    return (EPOCH + timedelta(milliseconds=moment)).date()


def loaded_on(days: Days, day: date) -> Loaded:
    return days.get(day, NOT_LOADED)


def loaded_at(days: Days, moment: int) -> Loaded:
    return loaded_on(days, day_at(moment))


def sums(fills: Iterable[Leg]) -> tuple[Decimal, Decimal]:
    """Return the total size and notional."""
    found = [*fills]
    return total(fill["sz"] for fill in found), total(fill["px"] * fill["sz"] for fill in found)


def total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def exact(amount: Decimal) -> Fraction:
    return Fraction(amount)


def ratio(amount: Decimal | None, by: Decimal | None) -> Fraction | None:
    return None if amount is None or not by else exact(amount) / exact(by)


def rounded(number: Fraction | None, digits: int) -> Decimal | None:
    """Round a number, with halves away from zero."""
    if number is None:
        return None
    doubled = abs(number) * 2 * 10**digits
    units = (doubled.numerator // doubled.denominator + 1) // 2
    return Decimal(units if number >= 0 else -units).scaleb(-digits)
