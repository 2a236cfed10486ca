"""The reference for the figures of TWAPs, checked by examples worked out by hand: a few rows each, and their figures."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from hl_pipeline_tests.naive import twaps as naive_twaps
from hl_pipeline_tests.naive.statistics import Leg, Row
from hl_pipeline_tests.naive.twap_examples import (
    BOTH_DAYS,
    DAY,
    NEXT,
    OTHER,
    OWNER,
    a_slice,
    a_status,
    an_end,
    assert_has,
    every_30_s,
    ms,
    the_twap,
    trade,
    utc,
)
from hl_pipeline_tests.naive.twaps import Days, Loaded, Status

FIVE_MINUTES = "12:00:23 12:00:53 12:01:23 12:01:53 12:02:23 12:02:53 12:03:23 12:03:53 12:04:23 12:04:53"


def test_a_twap_of_five_minutes_by_hand() -> None:
    statuses = [
        a_status("12:00:22.500", "activated", ns=123_456, started_at_ms=ms("12:00:22")),
        an_end("12:05:20", 10, ns=999_999, started_at_ms=ms("12:00:22")),
    ]
    # Ten slices at 100, but one at 110; the market at 98 and 102, before 12:01 and from 12:05 on at prices that must not matter.
    slices = every_30_s(FIVE_MINUTES.removesuffix(" 12:04:53"))
    slices.append(a_slice("12:04:53", "110", crossed=False, fee=Decimal("-0.10")))
    others = [
        trade("12:00:59.999", "1"),
        trade("12:01:00", "98", "2"),
        trade("12:04:59.999", "102", "2"),
        trade("12:05:00", "1"),
    ]
    assert_has(
        the_twap(statuses, slices + others),
        wallet=OWNER,
        status="finished",
        verdict="match",
        started_at=utc("12:00:22"),
        begins_at=utc("12:00:22.500"),
        planned_end=utc("12:05:22.500"),
        ended_at=utc("12:05:20"),
        seen_from=utc("11:00:22.500"),
        seen_to=utc("12:05:20", microseconds=999),
        statuses=2,
        fills=10,
        slices=10,
        slices_due=10,  # 297.5 s after the begin ten were due: at 0, 30, … 270 s
        size_observed="10",
        notional_observed="1010",
        vwap="101",
        first_slice_at=utc("12:00:23"),
        last_slice_at=utc("12:04:53"),
        schedule_deviation="0",  # each slice half a second after it is due
        maker_share="0.1",
        fees={"USDC": "-0.1"},
        closed_pnl=0,
        whole_minutes=4,  # 12:01, 12:02, 12:03, 12:04
        market_volume="12",  # 2 + 2, and eight slices
        market_notional="1210",  # 196 + 204 + 700 + 110
        own_volume="8",
        own_notional="810",
        market_vwap="100.8333333333",
        market_vwap_without_own="100",  # 400 / 4
        participation="0.6666666667",
        slippage_bps="16.5289",  # 101 / (1210 / 12) - 1
        slippage_without_own_bps="100",
        arrival_px=None,
        slippage_arrival_bps=None,
        is_complete=True,
    )


def test_a_twap_that_ended_within_its_first_minute_has_no_market_figures() -> None:
    statuses = [a_status("12:00:22", "activated"), an_end("12:00:59.999", 1, "terminated")]
    row = the_twap(statuses, [a_slice("12:00:22", "100"), trade("12:00:30", "100")])
    assert_has(row, verdict="match", whole_minutes=0, own_volume="0", own_notional="0", slices_due=2, vwap="100")
    assert_has(
        row, **dict.fromkeys(("market_volume", "market_notional", "market_vwap", "market_vwap_without_own", "participation"))
    )
    assert_has(row, **dict.fromkeys(("slippage_bps", "slippage_without_own_bps", "slippage_arrival_bps")))


@pytest.mark.parametrize(
    ("begin", "end", "minutes"),
    [
        ("12:00:00", "12:01:00", 1),
        ("12:00:00.001", "12:02:00", 1),
        ("12:00:00", "12:00:59.999", 0),
        ("12:00:00.001", "12:01:59.999", 0),
        ("12:00:30", "12:00:31", 0),
    ],
)
def test_a_minute_is_whole_when_its_first_and_its_last_moment_lie_within(begin: str, end: str, minutes: int) -> None:
    assert_has(the_twap([a_status(begin, "activated"), an_end(end, 0)], []), whole_minutes=minutes)


def test_a_coin_without_other_trades_by_hand() -> None:
    statuses = [a_status("12:00:00", "activated"), an_end("12:05:00", 10)]
    slices = [a_slice(f"12:0{n // 2}:{n % 2 * 30:02d}", str(100 + n)) for n in range(10)]
    row = the_twap(statuses, [*slices, trade("12:01:00", "7", coin="ETH")])
    assert_has(row, whole_minutes=5, market_volume="10", own_volume="10", market_vwap="104.5", vwap="104.5", participation="1")
    assert_has(row, slippage_bps="0", market_vwap_without_own=None, slippage_without_own_bps=None)


def test_a_twap_in_a_market_that_stands_still_has_no_market_price() -> None:
    row = the_twap([a_status("12:00:00", "activated"), an_end("12:05:00", 0, "terminated")], [])
    assert_has(row, market_volume="0", market_notional="0", market_vwap=None, participation=None, slippage_bps=None, vwap=None)
    assert_has(row, fees={}, closed_pnl=0, maker_share=None, schedule_deviation="1", first_slice_at=None, verdict="match")


def _over_midnight() -> tuple[list[Status], list[Leg]]:
    """From 23:50 for twenty minutes, a slice a minute on each side of midnight."""
    activated = a_status("23:50:00", "activated", duration_minutes=20)
    ended = an_end("00:10:00", 2, day=NEXT, duration_minutes=20)
    legs = [
        a_slice("23:55:00", "100"),
        trade("23:56:00", "90"),
        a_slice("00:05:00", "110", day=NEXT),
        trade("00:06:00", "90", day=NEXT),
    ]
    return [activated, ended], legs


WITHOUT_MARKET: dict[str, Any] = {
    **dict.fromkeys(("market_volume", "market_notional", "market_vwap", "participation")),
    "slippage_bps": None,
}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (
            Loaded(),
            {"verdict": "match", "is_complete": True, "size_observed": "2", "market_volume": "4", "slippage_bps": "769.2308"},
        ),
        # Without the fills of the second day: a hole, and no market though the minutes are the same.
        (
            Loaded(None, False),
            {
                "verdict": "hole",
                "is_complete": False,
                "size_observed": "1",
                "own_volume": "1",
                "whole_minutes": 20,
                **WITHOUT_MARKET,
            },
        ),
        # All of them in an incomplete day: the market is what is there.
        (Loaded("incomplete"), {"verdict": "match", "is_complete": False, "market_volume": "4"}),
        (Loaded("pending"), {"verdict": "match", "is_complete": False, "market_volume": "4"}),
        (Loaded(quarantined=True), {"verdict": "match", "is_complete": False, "market_volume": "4"}),
        (Loaded("unprovable"), {"verdict": "match", "is_complete": None, "market_volume": "4"}),
        (Loaded("no source"), {"verdict": "match", "is_complete": None, "market_volume": "4"}),
        # Fills but no candles yet; then no statuses: the end is not known.
        (Loaded(candles=False), {"verdict": "match", "is_complete": True, "size_observed": "2", **WITHOUT_MARKET}),
        (
            Loaded(statuses=None),
            {"verdict": "running", "size_observed": "2", "size_reported": None, "ended_at": None, "market_volume": "4"},
        ),
    ],
)
def test_a_twap_over_a_hole_by_hand(second: Loaded, expected: dict[str, Any]) -> None:
    assert_has(the_twap(*_over_midnight(), {DAY: Loaded(), NEXT: second}), **expected)


def test_what_lacks_in_a_day_that_is_not_wholly_known_is_no_hole() -> None:
    statuses, legs = _over_midnight()
    for state, verdict in (("incomplete", "hole"), ("unprovable", "missing_fills"), ("whole", "missing_fills")):
        assert_has(the_twap(statuses, legs[:2], {DAY: Loaded(), NEXT: Loaded(state)}), verdict=verdict)


@pytest.mark.parametrize(
    ("first", "second", "complete"),
    [
        ("whole", "whole", True),
        ("whole", "unprovable", None),
        ("no source", "incomplete", False),
        ("pending", "unprovable", False),
    ],
)
def test_one_incomplete_day_is_enough_and_else_one_that_cannot_be_proven(first: str, second: str, complete: bool | None) -> None:
    assert_has(the_twap(*_over_midnight(), {DAY: Loaded(first), NEXT: Loaded(second)}), is_complete=complete)


def test_the_day_of_an_end_at_midnight_belongs_to_the_window() -> None:
    statuses = [a_status("23:55:00", "activated"), an_end("00:00:00", 0, day=NEXT)]
    assert_has(
        the_twap(statuses, [], {DAY: Loaded(), NEXT: Loaded(None, False)}), is_complete=False, market_volume=None, whole_minutes=5
    )
    assert_has(
        the_twap([statuses[0], an_end("23:59:59.999", 0)], [], {DAY: Loaded()}),
        is_complete=True,
        market_volume="0",
        whole_minutes=4,
    )


def _deviation(clocks: str, end: str = "12:05:00", **other: Any) -> Row:
    statuses = [a_status("12:00:00", "activated", **other), an_end(end, 10, **other)]
    return the_twap(statuses, every_30_s(clocks))


ON_TIME = "12:00:00 12:00:30 12:01:00 12:01:30 12:02:00 12:02:30 12:03:00 12:03:30 12:04:00 12:04:30"


@pytest.mark.parametrize(
    ("clocks", "share"),
    [
        (ON_TIME, "0"),
        # Without the fifth: at 12:02:30 five of six. Without the last: at the end nine of ten.
        (ON_TIME.replace("12:02:00 ", ""), "0.1"),
        (ON_TIME.removesuffix(" 12:04:30"), "0.1"),
        # Two less, and so on until the end; two at once 30 s late; and 60 s early.
        (ON_TIME.replace("12:02:00 12:02:30 ", ""), "0.2"),
        (ON_TIME.replace("12:02:00", "12:02:30"), "0"),
        (ON_TIME.replace("12:03:00", "12:02:00"), "0.1"),
        # Before the begin nothing is due, at the begin the first.
        (ON_TIME.replace("12:00:00", "11:59:59.999"), "0.1"),
        (ON_TIME.replace("12:00:00 12:00:30", "11:59:59.999 11:59:59.999"), "0.2"),
        (ON_TIME.replace("12:00:00", "11:58:59"), "0.1"),
        # A millisecond before its time a slice is early; at the end it is still counted.
        (ON_TIME.replace("12:04:30", "12:05:00"), "0"),
        (ON_TIME.replace("12:00:30", "12:00:29.999"), "0.1"),
        ("", "1"),
        # After the end nothing more is due, and what comes then is only late.
        (ON_TIME.replace("12:04:30", "12:06:00"), "0.1"),
        (ON_TIME + " 12:06:00 12:06:30", "0.2"),
    ],
)
def test_the_distance_from_the_schedule_by_hand(clocks: str, share: str) -> None:
    assert_has(_deviation(clocks), schedule_deviation=share)


def test_the_distance_from_the_schedule_where_it_ended_early_or_nothing_is_known() -> None:
    # Ended after 2:00 with four slices of five that were due: 4/10 of 5/10.
    assert_has(_deviation(ON_TIME[:35], "12:02:00"), schedule_deviation="0.1", slices_due=5)
    assert_has(_deviation(ON_TIME, size_requested=None), schedule_deviation=None, slices_due=10)
    assert_has(_deviation(ON_TIME, size_requested=Decimal(0)), schedule_deviation=None, slices_due=10)
    assert_has(_deviation(ON_TIME, duration_minutes=None), schedule_deviation=None, slices_due=None, planned_end=None)
    assert_has(_deviation(ON_TIME, duration_minutes=0), schedule_deviation=None, slices_due=0)
    # Of 7 asked for: at 12:04:30 and later 10/7 - 1.
    assert_has(_deviation(ON_TIME, size_requested=Decimal(7)), schedule_deviation="0.4285714286")


@pytest.mark.parametrize(("side", "sign"), [("B", 1), ("A", -1)])
def test_slippage_is_positive_where_a_buyer_paid_more_or_a_seller_got_less(side: str, sign: int) -> None:
    statuses = [a_status("12:00:00", "activated", side=side), an_end("12:05:00", 10, side=side)]
    legs = [trade("11:59:30", "80"), a_slice("12:01:00", "102", side=side), trade("12:02:00", "98"), trade("12:03:00", "100")]
    row = the_twap(statuses, legs)
    # 102 against 300 / 3, 198 / 2 = 99, and 80.
    assert_has(row, market_vwap="100", market_vwap_without_own="99", arrival_px="80", vwap="102")
    assert_has(row, slippage_bps=str(200 * sign), slippage_without_own_bps=str(Decimal("303.0303") * sign))
    assert_has(row, slippage_arrival_bps=str(2750 * sign))


def test_slippage_follows_from_prices_that_are_not_rounded() -> None:
    # Paid 1 / 3 × 10⁻¹⁰ on average (of 3 × 10⁻¹⁰ units 10⁻¹⁰ for one): rounded to 10 decimals that would be 0.
    statuses = [a_status("12:00:00", "activated"), an_end("12:05:00", 10)]
    cheap, free = a_slice("12:01:00", "0.0000000001"), a_slice("12:01:30", "0", "2")
    assert_has(the_twap(statuses, [cheap, free, trade("12:02:00", "0.0000000001", "3")]), vwap="0", market_vwap="0.0000000001")
    # (1/3) / (4/6) - 1
    assert_has(the_twap(statuses, [cheap, free, trade("12:02:00", "0.0000000001", "3")]), slippage_bps="-5000")


@pytest.mark.parametrize(
    ("number", "digits", "expected"),
    [
        (Fraction(1, 2), 0, "1"),
        (Fraction(-1, 2), 0, "-1"),
        (Fraction(1, 20_000), 4, "0.0001"),
        (Fraction(-1, 20_000), 4, "-0.0001"),
        (Fraction(-1, 20_001), 4, "0"),
        (Fraction(2, 3), 10, "0.6666666667"),
        (Fraction(-5, 2), 0, "-3"),
        (Fraction(10**30 + 1, 3), 2, "333333333333333333333333333333.67"),
    ],
)
def test_halves_are_rounded_away_from_zero(number: Fraction, digits: int, expected: str) -> None:
    with naive_twaps.localcontext(naive_twaps.Context(prec=200)):
        assert naive_twaps.rounded(number, digits) == Decimal(expected)


@pytest.mark.parametrize(
    ("traded_at", "begin", "px"),
    [
        ("11:00:59", "12:00:00", "50"),  # its candle began exactly 60 minutes before
        ("11:00:59", "12:00:00.001", None),
        ("10:59:59.999", "12:00:00", None),
        ("11:59:59.999", "12:00:00", "50"),  # its candle ended just then
        ("11:59:59.999", "12:00:59.999", "50"),
        ("12:00:00", "12:00:59.999", None),  # its candle has not ended
        ("12:00:00", "12:01:00", "50"),
    ],
)
def test_the_price_on_arrival_is_of_a_candle_that_has_ended_within_an_hour(traded_at: str, begin: str, px: str | None) -> None:
    statuses = [a_status(begin, "activated"), an_end("12:10:00", 1)]
    legs = [trade(traded_at, "49"), trade(traded_at, "50"), trade("11:55:00", "7", coin="ETH"), a_slice("12:05:00", "100")]
    bps = None if px is None else Decimal(10_000)
    assert_has(the_twap(statuses, legs), arrival_px=px, slippage_arrival_bps=bps)


def test_the_price_on_arrival_comes_from_the_day_before_where_that_is_there() -> None:
    statuses = [a_status("00:10:00", "activated", day=NEXT), an_end("00:10:30", 0, day=NEXT)]
    earlier = trade("23:30:00", "50")
    assert_has(the_twap(statuses, [earlier]), arrival_px="50", seen_from=utc("23:10:00"))
    assert_has(the_twap(statuses, [earlier], {NEXT: Loaded()}), arrival_px=None)


@pytest.mark.parametrize(
    ("said", "last"),
    [
        (("finished", "activated"), "finished"),
        (("activated", "waitingForTrigger"), "activated"),
        (("waitingForTrigger", "error"), "error"),
        (("terminated", "finished"), "terminated"),  # of two ends the greater text
        (("finished", "error"), "finished"),
        (("activated", "aNewOne"), "aNewOne"),
    ],
)
def test_of_statuses_of_the_same_moment_the_one_further_on_is_the_last(said: tuple[str, str], last: str) -> None:
    for names in (said, said[::-1]):
        assert the_twap([a_status("12:00:00", name) for name in names], [])["status"] == last
    first, second = (a_status("12:00:00", name, ns=ns) for name, ns in zip(said, (0, 1), strict=True))
    assert the_twap([second, first], [])["status"] == said[1]


def test_what_is_known_is_taken_from_the_last_status_that_knows_it() -> None:
    unknown: dict[str, Any] = dict.fromkeys(("size_requested", "duration_minutes", "reduce_only", "randomize"))
    statuses = [
        a_status("12:00:00", "activated", randomize=True, started_at_ms=ms("11:59:59")),
        a_status("12:00:01", "changed", **unknown | {"size_requested": Decimal(8), "reduce_only": True}),
        an_end("12:05:00", None, **unknown, error="text"),
    ]
    row = the_twap(statuses, [])
    assert_has(
        row, size_requested="8", duration_minutes=5, reduce_only=True, randomize=True, started_at=utc("11:59:59"), statuses=3
    )
    assert_has(row, size_reported=None, error="text", verdict="unreported", notional_reported="1000")


def test_slices_alone_are_a_twap_too() -> None:
    row = the_twap([], [a_slice("12:03:00", "100", oid=7), a_slice("12:01:30", "100", oid=7), trade("12:02:00", "50", "3")])
    assert_has(
        row, verdict="status_missing", status=None, wallet=OWNER, begins_at=utc("12:01:30"), ended_at=None, planned_end=None
    )
    # The window goes to the last slice: one whole minute, 12:02.
    assert_has(row, statuses=0, fills=2, slices=1, whole_minutes=1, market_volume="3", own_volume="0", participation="0")
    assert_has(
        row,
        seen_from=utc("11:01:30"),
        seen_to=utc("12:02:30", DAY + timedelta(days=3)),
    )


def test_what_one_fill_does_not_say_is_unknown_of_the_twap() -> None:
    statuses = [a_status("12:00:00", "activated"), an_end("12:05:00", 2)]
    known = a_slice("12:00:00", "100", fee=Decimal("0.5"), fee_token="USDC", closed_pnl=Decimal("1.50"), crossed=False)
    assert_has(the_twap(statuses, [known]), fees={"USDC": "0.5"}, closed_pnl=Decimal("1.5"), maker_share="1")
    assert_has(
        the_twap(statuses, [known, a_slice("12:00:30", "100", fee=None)]), fees=None, closed_pnl=Decimal("1.5"), maker_share="0.5"
    )
    assert_has(the_twap(statuses, [known, a_slice("12:00:30", "100", closed_pnl=None)]), closed_pnl=None, fees={"USDC": "0.5"})
    assert_has(the_twap(statuses, [known, a_slice("12:00:30", "100", crossed=None)]), maker_share=None)
    other = a_slice("12:00:30", "100", fee=Decimal("-0.0000001"), fee_token="HYPE")
    assert_has(the_twap(statuses, [known, other]), fees={"USDC": "0.5", "HYPE": "-0.0000001"})


ACTIVATED = a_status("12:00:00", "activated")
WAITING = a_status("12:00:00", "waitingForTrigger")
ONE = a_slice("12:00:00", "100")


@pytest.mark.parametrize(
    ("statuses", "legs", "days", "verdict"),
    [
        # They do not agree; that comes before all else.
        ([ACTIVATED, an_end("12:05:00", 1)], [{**ONE, "wallet": OTHER}], {DAY: Loaded()}, "conflict"),
        ([ACTIVATED, an_end("12:05:00", 1)], [{**ONE, "coin": "ETH"}], {DAY: Loaded()}, "conflict"),
        ([ACTIVATED], [{**ONE, "side": "A"}], {DAY: Loaded()}, "conflict"),
        ([WAITING], [{**ONE, "side": "A"}], {DAY: Loaded()}, "conflict"),
        ([{**ACTIVATED, "coin": "ETH"}, an_end("12:05:00", 1)], [ONE], {DAY: Loaded()}, "conflict"),
        ([{**ACTIVATED, "wallet": OTHER}, an_end("12:05:00", 0, "error")], [], {DAY: Loaded()}, "conflict"),
        # Waiting is no lack, however long; with a slice it is no waiting.
        ([WAITING], [], {DAY: Loaded()}, "waiting"),
        ([WAITING], [ONE], {DAY: Loaded()}, "status_missing"),
        # Running until the day by which its end must be known is there.
        ([ACTIVATED], [], {DAY: Loaded()}, "status_missing"),
        ([ACTIVATED], [], {DAY: Loaded(statuses="incomplete")}, "status_missing"),
        ([ACTIVATED], [], {DAY: Loaded(statuses="pending")}, "running"),
        ([a_status("23:53:59.999", "activated")], [], {DAY: Loaded()}, "status_missing"),
        ([a_status("23:54:00", "activated")], [], {DAY: Loaded()}, "running"),
        ([a_status("23:54:00", "activated")], [], BOTH_DAYS, "status_missing"),
        ([{**ACTIVATED, "duration_minutes": None}], [], BOTH_DAYS, "running"),
        ([{**ACTIVATED, "duration_minutes": None}], [], {DAY: Loaded(), DAY + timedelta(days=3): Loaded()}, "status_missing"),
        ([], [ONE], {}, None),
        ([], [ONE], {DAY: Loaded(statuses=None)}, "status_missing"),
        # Ended.
        ([ACTIVATED, an_end("12:05:00", None)], [ONE], {DAY: Loaded()}, "unreported"),
        ([an_end("12:05:00", None, "error")], [], {DAY: Loaded()}, "unreported"),
        ([an_end("12:05:00", 0, "error")], [], {DAY: Loaded()}, "failed"),
        ([an_end("12:05:00", 1, "error")], [ONE], {DAY: Loaded()}, "match"),
        ([an_end("12:05:00", 0, "error")], [ONE], {DAY: Loaded()}, "excess_fills"),
        ([an_end("12:05:00", 0, "terminated")], [], {DAY: Loaded()}, "match"),
        ([an_end("12:05:00", 1)], [ONE], {DAY: Loaded("incomplete")}, "match"),
        ([an_end("12:05:00", 0)], [ONE], {DAY: Loaded("incomplete")}, "excess_fills"),
        ([an_end("12:05:00", 2)], [ONE], {DAY: Loaded("incomplete")}, "hole"),
        ([an_end("12:05:00", 2)], [ONE], {DAY: Loaded("unprovable")}, "missing_fills"),
        ([an_end("12:05:00", 2, "error")], [ONE], {DAY: Loaded()}, "missing_fills"),
    ],
)
def test_the_first_verdict_that_applies_is_the_verdict(
    statuses: list[Status], legs: list[Leg], days: Days, verdict: str | None
) -> None:
    found = naive_twaps.twaps(statuses, legs, days)
    assert [row["verdict"] for row in found.values()] == ([] if verdict is None else [verdict])
