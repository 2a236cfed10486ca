"""Independent statistics from a day's legs, row by row, with dict and Decimal, without the pipeline's code.

A leg is a row of a sample's `truth/legs.parquet` as a dict. Legs with the same `trade` are one trade.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from functools import wraps
from pathlib import Path
from typing import Any

import polars as pl

Leg = dict[str, Any]
Row = dict[str, Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STABLE_COINS = ("USDC", "USDH", "USDT0", "USDE")
NO_TRADES = ("Spot Dust Conversion", "Net Child Vaults", "Settlement")
NO_TRADES_BEGIN = ("Split ", "Merge ", "Negate ")


def read_legs(truth: Path, day: date) -> list[Leg]:
    """Read the legs of a UTC day in the order of their source: by time, block, dataset, hour and position in the file."""
    legs = [leg for leg in pl.read_parquet(truth / "legs.parquet").to_dicts() if day_of(leg) == day]
    return sorted(legs, key=_place)


def _place(leg: Leg) -> tuple[int, ...]:
    dataset = ("node_trades", "node_fills", "node_fills_by_block").index(leg["source"])
    *_, date_, name = leg["key"].split("/")
    no_block = leg["block_number"] is None
    return leg["time"], no_block, leg["block_number"] or 0, dataset, int(date_), int(name.partition(".")[0])


def day_of(leg: Leg) -> date:
    return moment(leg["time"]).date()


def moment(time_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=time_ms)


def is_market(leg: Leg) -> bool:
    said = leg["dir"] or ""
    return leg["tid"] != 0 and said not in NO_TRADES and not said.startswith(NO_TRADES_BEGIN)


def exactly(function: Callable[[Sequence[Leg]], dict[Any, Row]]) -> Callable[[Sequence[Leg]], dict[Any, Row]]:
    """Run a function with exact sums and products."""

    @wraps(function)
    def exact(legs: Sequence[Leg]) -> dict[Any, Row]:
        with localcontext(Context(prec=200)):
            return function(legs)

    return exact


@exactly
def candles(legs: Sequence[Leg]) -> dict[tuple[str, datetime], Row]:
    """Compute candles by coin and minute."""
    by_minute = grouped(trades_of(legs), lambda trade: (trade["coin"], trade["time"].replace(second=0, microsecond=0)))
    return {key: {**prices(trades), **amounts(trades), "trades": len(trades)} for key, trades in by_minute.items()}


@exactly
def daily_stats(legs: Sequence[Leg]) -> dict[str, Row]:
    """Compute daily_stats by coin."""
    trades = grouped(trades_of(legs), lambda trade: trade["coin"])
    return {coin: day_of_coin(coin, own, trades.get(coin, [])) for coin, own in grouped(legs, lambda leg: leg["coin"]).items()}


@exactly
def user_stats(legs: Sequence[Leg]) -> dict[str, Row]:
    """Compute user_stats by wallet."""
    return {wallet: day_of_wallet(own) for wallet, own in grouped(legs, lambda leg: leg["wallet"]).items()}


@exactly
def builder_stats(legs: Sequence[Leg]) -> dict[tuple[str | None, str], Row]:
    """Compute builder_stats by builder (None: only its fee is known) and coin."""
    built = [leg for leg in legs if leg["source"] != "node_trades" and has(leg, "builder", "builder_fee")]
    of_pair = grouped(built, lambda leg: (leg["builder"] if isinstance(leg["builder"], str) else None, leg["coin"]))
    return {pair: _day_of_builder(own) for pair, own in of_pair.items()}


def _day_of_builder(legs: Sequence[Leg]) -> Row:
    market = [leg for leg in legs if is_market(leg)]
    # A source leaves the fee out if there is none. It is in the token of the whole fee.
    paid = [leg | {"fee": leg["builder_fee"] or Decimal(0)} for leg in legs]
    worth = [_builder_fee_in_quote(leg) for leg in legs]
    return {
        "fills": len(market),
        "non_market_rows": len(legs) - len(market),
        "fills_with_fee": sum(leg["builder_fee"] is not None for leg in legs),
        "notional": amounts(market)["notional"],
        "fees_in_quote": known_sum(worth),
        "wallets": len({leg["wallet"] for leg in market}),
        "fees": fees_by_token(paid),
    }


def _builder_fee_in_quote(leg: Leg) -> Decimal | None:
    if not leg["builder_fee"]:
        return Decimal(0)
    if leg["fee"] is None:
        return None if kind_of(leg["coin"]) in ("spot", "outcome") or leg["fee_token"] == leg["coin"] else leg["builder_fee"]
    # Valued as a fee of the same token and the same sign; a fee of 0 counts as one that was paid.
    sign = -1 if leg["fee"] < 0 else 1
    value = fee_in_quote(leg | {"fee": sign * leg["builder_fee"]})
    return None if value is None else sign * value


def trades_of(legs: Iterable[Leg]) -> list[Row]:
    """Return the trades in chronological order, each by its taker's leg, or else by its only leg."""
    trades = []
    for of_trade in grouped(filter(is_market, legs), lambda leg: leg["trade"]).values():
        known = [leg for leg in of_trade if leg["source"] != "node_trades"]
        taken = next((leg for leg in of_trade if leg["crossed"]), of_trade[0])
        built = any(has(leg, "builder", "builder_fee") for leg in known)
        trades.append(
            {
                "coin": taken["coin"],
                "time": moment(taken["time"]),
                "px": taken["px"],
                "sz": taken["sz"],
                "taker_buys": (taken["side"] == "B") == taken["crossed"],
                "by_twap": any(leg["twap_id"] is not None for leg in of_trade),
                "liquidated": any(has(leg, "liquidation", "liquidated_user") for leg in known) if known else None,
                "by_builder": built if built or len(known) == len(of_trade) else None,
            }
        )
    return sorted(trades, key=lambda trade: trade["time"])


def has(leg: Leg, *names: str) -> bool:
    """Return whether a leg has one of these fields. Its source may leave out some of them."""
    return any(leg.get(name) is not None for name in names)


def day_of_coin(coin: str, legs: Sequence[Leg], trades: Sequence[Row]) -> Row:
    bought, sold = [t for t in trades if t["taker_buys"]], [t for t in trades if not t["taker_buys"]]
    all_of = amounts(trades)
    return {
        "kind": kind_of(coin),
        **counts(legs),
        "fees_in_quote": known_sum(fee_in_quote(leg) for leg in legs),
        "trades": len(trades),
        **all_of,
        "buys": len(bought),
        "sells": len(sold),
        **amounts(bought, "buy_"),
        **amounts(sold, "sell_"),
        "liquidations": known_sum(None if t["liquidated"] is None else int(t["liquidated"]) for t in trades),
        "liquidation_notional": amounts_where(trades, "liquidated")["notional"],
        **{f"twap_{name}": amount for name, amount in amounts_where(trades, "by_twap").items()},
        **{f"builder_{name}": amount for name, amount in amounts_where(trades, "by_builder").items()},
        "wallets": len({leg["wallet"] for leg in legs if is_market(leg)}),
        **prices(trades),
        "fees": fees_by_token(legs),
        "vwap": rounded_half_up(all_of["notional"], all_of["volume"]),
    }


def day_of_wallet(legs: Sequence[Leg]) -> Row:
    market = [leg for leg in legs if is_market(leg)]
    made, taken = [leg for leg in market if not leg["crossed"]], [leg for leg in market if leg["crossed"]]
    return {
        **counts(legs),
        "fees_in_quote": known_sum(fee_in_quote(leg) for leg in legs),
        "maker_fills": len(made),
        "taker_fills": len(taken),
        "maker_notional": amounts(made)["notional"],
        "taker_notional": amounts(taken)["notional"],
        "closed_pnl": known_sum(leg["closed_pnl"] for leg in legs),
        "closed_pnl_known": sum(leg["closed_pnl"] is not None for leg in legs),
        "coins": len({leg["coin"] for leg in market}),
        "twaps": len({leg["twap_id"] for leg in legs} - {None}),
        "first_fill": moment(min(leg["time"] for leg in legs)),
        "last_fill": moment(max(leg["time"] for leg in legs)),
        "fees": fees_by_token(legs),
        "sources": sorted({leg["source"] for leg in legs}),
    }


def counts(legs: Sequence[Leg]) -> Row:
    market = sum(is_market(leg) for leg in legs)
    fees_known = sum(leg["fee"] is not None for leg in legs)
    return {"fills": market, "non_market_rows": len(legs) - market, "fees_known": fees_known}


def prices(trades: Sequence[Row]) -> Row:
    px = [trade["px"] for trade in trades]
    if not px:
        return dict.fromkeys(("open", "high", "low", "close"))
    return {"open": px[0], "high": max(px), "low": min(px), "close": px[-1]}


def amounts(trades: Sequence[Row], prefix: str = "") -> Row:
    volume, notional = sum(t["sz"] for t in trades), sum(t["px"] * t["sz"] for t in trades)
    return {f"{prefix}volume": volume, f"{prefix}notional": notional}


def amounts_where(trades: Sequence[Row], what: str) -> Row:
    """Sum the amounts of trades with a property. None if the property of a trade with an amount is unknown."""
    known = amounts([trade for trade in trades if trade[what]])
    unknown = [amounts([trade]) for trade in trades if trade[what] is None]
    return {name: None if any(amount[name] for amount in unknown) else known[name] for name in known}


def kind_of(coin: str) -> str:
    if ":" in coin:
        return "hip3"
    if coin.startswith("#"):
        return "outcome"
    return "spot" if coin.startswith("@") or "/" in coin else "perp"


def fee_in_quote(leg: Leg) -> Decimal | None:
    fee, kind, token, coin = leg["fee"], kind_of(leg["coin"]), leg["fee_token"], leg["coin"]
    if not fee:
        return fee
    base, _, quote = coin.partition("/")
    if token in (coin, base) or (kind == "outcome" and token == "+" + coin[1:]):
        return fee * leg["px"]
    if kind == "outcome":
        return fee if token in STABLE_COINS else None
    if kind == "spot" and not (quote and token == quote):
        received, given = ("base", "quote") if leg["side"] == "B" else ("quote", "base")
        return fee * leg["px"] if (received if fee >= 0 else given) == "base" else fee
    return fee


def fees_by_token(legs: Sequence[Leg]) -> dict[str, str] | None:
    if any(leg["fee"] is None or (leg["fee"] and leg["fee_token"] is None) for leg in legs):
        return None
    by_token = grouped((leg for leg in legs if leg["fee_token"] is not None), lambda leg: leg["fee_token"])
    return {token: plain(sum((leg["fee"] for leg in of_token), Decimal(0))) for token, of_token in by_token.items()}


def plain(number: Decimal) -> str:
    """Format a number without an exponent and without trailing zeros."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def rounded_half_up(amount: Decimal | None, by: Decimal | None) -> Decimal | None:
    if amount is None or not by:
        return None
    with localcontext(Context(prec=200)):
        return (amount / by).quantize(Decimal("1e-10"), ROUND_HALF_UP)


def known_sum(values: Iterable[Any]) -> Any:
    """Sum values. None if any of them is unknown."""
    found = list(values)
    return None if None in found else sum(found)


def grouped(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> dict[Any, list[Row]]:
    """Group rows by key, in the order in which the keys first appear."""
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return dict(found)


PERIODS: dict[str, Callable[[date], date | None]] = {
    "day": lambda day: day,
    "week": lambda day: day - timedelta(days=day.weekday()),
    "month": lambda day: day.replace(day=1),
    "year": lambda day: day.replace(month=1, day=1),
    "all": lambda _: None,
}
_OF_SUMS = ("open", "high", "low", "close", "vwap", "fees", "kind", "first_fill", "last_fill", "is_complete")
_NOT_MERGED = ("wallets", "coins", "twaps", "sources")


def by_period(period: str, days: dict[date, dict[str, Row]]) -> dict[tuple[date | None, str], Row]:
    """Merge the days' daily_stats or user_stats by the first day of the period and the coin or wallet."""
    dated = [{"start": PERIODS[period](day), "key": key, **row} for day in sorted(days) for key, row in days[day].items()]
    return {key: _merged(rows) for key, rows in grouped(dated, lambda row: (row["start"], row["key"])).items()}


def _merged(days: Sequence[Row]) -> Row:
    with localcontext(Context(prec=200)):
        names = days[0].keys() - {"start", "key", *_OF_SUMS, *_NOT_MERGED}
        merged: Row = {"days": len(days), **{name: known_sum(day[name] for day in days) for name in names}}
        merged["fees"] = _merged_fees([day["fees"] for day in days])
    said = [day["is_complete"] for day in days]
    merged["is_complete"] = False if False in said else None if None in said else True
    if "first_fill" in days[0]:
        merged |= {"first_fill": min(d["first_fill"] for d in days), "last_fill": max(d["last_fill"] for d in days)}
        return merged
    traded = [day for day in days if day["trades"]]
    merged |= {"open": traded[0]["open"], "close": traded[-1]["close"]} if traded else {"open": None, "close": None}
    merged |= {
        "kind": days[0]["kind"],
        "high": max((day["high"] for day in traded), default=None),
        "low": min((day["low"] for day in traded), default=None),
        "vwap": rounded_half_up(merged["notional"], merged["volume"]),
    }
    return merged


def _merged_fees(of_days: Sequence[dict[str, str] | None]) -> dict[str, str] | None:
    amounts_of: dict[str, Decimal] = defaultdict(Decimal)
    for fees in of_days:
        if fees is None:
            return None
        for token, amount in fees.items():
            amounts_of[token] += Decimal(amount)
    return {token: plain(amount) for token, amount in amounts_of.items()}
