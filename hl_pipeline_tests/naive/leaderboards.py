"""Independent rankings and the flow of TWAPs, row by row, with dict, Decimal and Fraction, without the pipeline's code.

A row is a dict with the columns of hl.user_stats, hl.builder_stats or hl.twaps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

from hl_pipeline_tests.naive.statistics import grouped, known_sum, plain

Row = dict[str, Any]
_EXACT = Context(prec=200)


def ranked(totals: dict[str, Row], sort: str, order: str = "desc", top: int | None = None) -> list[Row]:
    """Return the totals by name as rows with `rank`: 1 plus the number of better values, None for an unknown value.

    Equal values are ordered by name, unknown ones come last.
    """
    sign = 1 if order == "asc" else -1
    known = {name: sign * Decimal(total[sort]) for name, total in totals.items() if total[sort] is not None}
    order_of = [*sorted(known, key=lambda name: (known[name], name)), *sorted(totals.keys() - known.keys())]
    return [
        {"rank": 1 + sum(other < known[name] for other in known.values()) if name in known else None, **totals[name]}
        for name in order_of[:top]
    ]


def totals_of_wallets(rows: Iterable[Row]) -> dict[str, Row]:
    """Add up rows of hl.user_stats by wallet."""
    return {wallet: _of_wallet(wallet, own) for wallet, own in grouped(rows, lambda row: row["wallet"]).items()}


def _of_wallet(wallet: str, rows: Sequence[Row]) -> Row:
    names = ("maker_notional", "taker_notional", "closed_pnl", "fees_in_quote")
    with localcontext(_EXACT):
        sums = {name: known_sum(row[name] for row in rows) for name in names}
        both = (
            None if None in (sums["maker_notional"], sums["taker_notional"]) else sums["maker_notional"] + sums["taker_notional"]
        )
        net = None if None in (sums["closed_pnl"], sums["fees_in_quote"]) else sums["closed_pnl"] - sums["fees_in_quote"]
    return {
        "wallet": wallet,
        "days": len(rows),
        "fills": sum(row["fills"] for row in rows),
        **{name: _text(sums[name]) for name in names},
        "notional": _text(both),
        "net_pnl": _text(net),
        "first_fill": min(row["first_fill"] for row in rows),
        "last_fill": max(row["last_fill"] for row in rows),
        "is_complete": _all_complete(rows),
        "fees": _fees(rows),
    }


def totals_of_builders(rows: Iterable[Row]) -> dict[str, Row]:
    """Add up rows of hl.builder_stats by builder ('' for None)."""
    return {name: _of_builder(own) for name, own in grouped(rows, lambda row: row["builder"] or "").items()}


def _of_builder(rows: Sequence[Row]) -> Row:
    counts = ("fills", "non_market_rows", "fills_with_fee")
    with localcontext(_EXACT):
        sums = {name: _text(known_sum(row[name] for row in rows)) for name in ("notional", "fees_in_quote")}
    return {
        "builder": rows[0]["builder"],
        "days": len({row["date"] for row in rows}),
        "coins": len({row["coin"] for row in rows}),
        **{name: sum(row[name] for row in rows) for name in counts},
        **sums,
        "is_complete": _all_complete(rows),
        "fees": _fees(rows),
    }


def totals_of_twaps(rows: Iterable[Row]) -> dict[str, Row]:
    """Add up rows of hl.twaps by wallet."""
    return {wallet: {"wallet": wallet, **of_twaps(own)} for wallet, own in grouped(rows, lambda row: row["wallet"]).items()}


def of_twaps(rows: Sequence[Row]) -> Row:
    begins = [row["begins_at"] for row in rows if row["begins_at"] is not None]
    with localcontext(_EXACT):
        notional, pnl = sum(row["notional_observed"] for row in rows), known_sum(row["closed_pnl"] for row in rows)
    return {
        "twaps": len(rows),
        "coins": len({row["coin"] for row in rows}),
        "fills": sum(row["fills"] for row in rows),
        "slices": sum(row["slices"] for row in rows),
        "notional": plain(Decimal(notional)),
        "closed_pnl": _text(pnl),
        "first_begins_at": min(begins, default=None),
        "last_begins_at": max(begins, default=None),
        "is_complete": _all_complete(rows),
        "fees": _fees(rows),
    }


def flow(twaps: Iterable[Row], slices: Sequence[Row], absent: Collection[date], at: datetime, px: Decimal | None) -> Row:
    """Return what /twap-flow tells of TWAPs of one coin at a moment.

    A slice has `twap_id`, `time`, `px` and `sz`. Those of days in `absent` are not in the database.
    """
    running = [twap for twap in twaps if _runs(twap, at)]
    executed = [_executed(twap, slices, absent, at) for twap in running]
    told: Row = {"executed": _flow([(twap["side"], *done) for twap, done in zip(running, executed, strict=True)])}
    for name, span in (("next_1h", timedelta(hours=1)), ("next_24h", timedelta(hours=24)), ("until_end", None)):
        sizes = [_due(twap, at, span) for twap in running]
        told[name] = _flow([(twap["side"], size, _worth(size, px)) for twap, size in zip(running, sizes, strict=True)])
    sides = [twap["side"] for twap in running]
    return {"px": _text(px), "buys": sides.count("B"), "sells": sides.count("A"), **told}


def _runs(twap: Row, at: datetime) -> bool:
    if twap["begins_at"] is None or twap["begins_at"] > at:
        return False
    if twap["ended_at"] is not None:
        return twap["ended_at"] > at
    if twap["planned_end"] is not None:
        return twap["planned_end"] > at
    return twap["seen_to"] > at


def _executed(twap: Row, slices: Sequence[Row], absent: Collection[date], at: datetime) -> tuple[Decimal | None, Decimal | None]:
    if twap["last_slice_at"] is None or twap["last_slice_at"] <= at:
        return twap["size_observed"], twap["notional_observed"]
    if twap["first_slice_at"] > at:
        return Decimal(0), Decimal(0)
    own = [one for one in slices if one["twap_id"] == twap["twap_id"]]
    if any(one["time"].date() in absent and one["time"].date() <= at.date() for one in own):
        return None, None
    own = [one for one in own if one["time"] <= at]
    with localcontext(_EXACT):
        return sum((one["sz"] for one in own), Decimal(0)), sum((one["px"] * one["sz"] for one in own), Decimal(0))


def _due(twap: Row, at: datetime, span: timedelta | None) -> Decimal | None:
    """The share of the requested size that an even schedule sends from `at` on."""
    if twap["planned_end"] is None:
        return None
    left = twap["planned_end"] - at
    if left <= timedelta(0):
        return Decimal(0)
    if twap["size_requested"] is None:
        return None
    microsecond = timedelta(microseconds=1)
    comes, whole = (
        (left if span is None else min(left, span)) // microsecond,
        (twap["planned_end"] - twap["begins_at"]) // microsecond,
    )
    size = Fraction(twap["size_requested"]) * Fraction(comes, whole)
    with localcontext(_EXACT):
        return (Decimal(size.numerator) / Decimal(size.denominator)).quantize(Decimal("1e-10"), ROUND_HALF_UP)


def _worth(size: Decimal | None, px: Decimal | None) -> Decimal | None:
    if size is None or (px is None and size):
        return None
    with localcontext(_EXACT):
        return size * (px or 0)


def _flow(parts: Sequence[tuple[str, Decimal | None, Decimal | None]]) -> Row:
    with localcontext(_EXACT):
        known = {side: sum((size for own, size, _ in parts if own == side and size is not None), Decimal(0)) for side in "AB"}
        signs = [1 if side == "B" else -1 for side, _, _ in parts]
        sizes, notionals = [size for _, size, _ in parts], [notional for _, _, notional in parts]
        net = {n: _net(signs, amounts) for n, amounts in ((1, sizes), (2, notionals))}
        gross = {n: known_sum(part[n] for part in parts) for n in (1, 2)}
    return {
        "unknown": sum(size is None for _, size, _ in parts),
        "known_buy_size": plain(known["B"]),
        "known_sell_size": plain(known["A"]),
        "net_size": _text(net[1]),
        "gross_size": _text(gross[1]),
        "net_notional": _text(net[2]),
        "gross_notional": _text(gross[2]),
    }


def _net(signs: Sequence[int], amounts: Sequence[Decimal | None]) -> Decimal | None:
    return known_sum(None if amount is None else sign * amount for sign, amount in zip(signs, amounts, strict=True))


def _all_complete(rows: Sequence[Row]) -> bool | None:
    told = [row["is_complete"] for row in rows]
    return False if False in told else None if None in told else True


def _fees(rows: Sequence[Row]) -> dict[str, str] | None:
    if any(row["fees"] is None for row in rows):
        return None
    amounts: dict[str, Decimal] = {}
    with localcontext(_EXACT):
        for row in rows:
            for token, amount in row["fees"].items():
                amounts[token] = amounts.get(token, Decimal(0)) + Decimal(amount)
    return {token: plain(amount) for token, amount in amounts.items()}


def _text(number: Decimal | int | None) -> str | None:
    return None if number is None else plain(Decimal(number))
