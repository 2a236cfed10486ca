"""An independent second way to the answers of POST /info: from the records alone, as simply as possible."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import psycopg

from hl_pipeline_tests.servers.api import make_day

Fill = dict[str, Any]
PAGE = 2_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = {
    "coin": "coin", "px": "px", "sz": "sz", "side": "side", "startPosition": "start_position", "dir": "dir", "hash": "hash",
    "closedPnl": "closed_pnl", "oid": "oid", "crossed": "crossed", "fee": "fee", "tid": "tid", "cloid": "cloid",
    "feeToken": "fee_token", "builder": "builder", "builderFee": "builder_fee", "deployerFee": "deployer_fee",
    "priorityGas": "priority_gas", "twapId": "twap_id",
}  # fmt: skip
_LIQUIDATION = {"liquidatedUser": "liquidated_user", "markPx": "liquidation_mark_px", "method": "liquidation_method"}
_ADDED = ("sz", "closedPnl", "fee", "builderFee", "deployerFee", "priorityGas")


def store_fills(connection: psycopg.Connection, fills: Iterable[tuple[str, Fill]]) -> None:
    """Write fills (wallet, members) into hl.fills in their order. Members without a column go to `extra`."""
    rows = list(fills)
    names = [*_COLUMNS.values(), *_LIQUIDATION.values(), "time", "wallet", "object_id", "ordinal", "extra"]
    for day in {_instant(fill["time"]).date() for _, fill in rows}:
        make_day(connection, day)
    with connection.cursor().copy(f"COPY hl.fills ({', '.join(names)}) FROM STDIN".encode()) as copy:
        for ordinal, (wallet, fill) in enumerate(rows):
            stored = {**fill, **{name: "\\x" + fill[name][2:] for name in ("hash", "cloid") if fill.get(name)}}
            liquidation = fill.get("liquidation") or {}
            extra = {name: value for name, value in fill.items() if name not in {*_COLUMNS, "time", "liquidation"}}
            extra |= {} if "twapId" in fill else {"_missing": ["twapId"]}
            values = [stored.get(name) for name in _COLUMNS] + [liquidation.get(name) for name in _LIQUIDATION]
            own = (_instant(fill["time"]), wallet, 4_000_000, ordinal, json.dumps(extra) if extra else None)
            copy.write_row((*values, *own))


def aggregated(fills: Iterable[Fill]) -> list[Fill]:
    """Combine the fills of one order in one block: sizes and fees added, the price weighted by size."""
    found: dict[str, list[Fill]] = {}
    for fill in fills:
        same = ("time", "coin", "oid", "side", "dir", "crossed", "feeToken")
        found.setdefault(json.dumps([fill[name] for name in same]), []).append(fill)
    combined: list[Fill] = []
    for group in found.values():
        sums = {name: sum(Decimal(one[name]) for one in group if name in one) for name in _ADDED if name in group[0]}
        notional = sum(Fraction(one["px"]) * Fraction(one["sz"]) for one in group)
        price = notional / sum(Fraction(one["sz"]) for one in group)
        # Half a unit of the tenth decimal is rounded up.
        px = Decimal(int(price * 10**10 + Fraction(1, 2))).scaleb(-10) if len(group) > 1 else group[0]["px"]
        combined.append({**group[0], **{name: as_text(value) for name, value in {**sums, "px": px}.items()}})
    return combined


def as_text(number: object) -> str:
    """Return a number as Hyperliquid writes it: without trailing zeros, but with at least one decimal."""
    whole, _, decimals = f"{Decimal(str(number)):f}".partition(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}"


def candles(minutes: Iterable[dict[str, Any]], coin: str, interval: str, minutes_each: int) -> list[dict[str, Any]]:
    """Return the candles of `minutes`, which are ascending and have t (ms), o, h, l, c, v and n."""
    found: dict[int, list[dict[str, Any]]] = {}
    step = minutes_each * 60_000
    for minute in minutes:
        found.setdefault(minute["t"] // step * step, []).append(minute)
    return [
        {
            "t": start, "T": start + step - 1, "s": coin, "i": interval, "o": as_text(own[0]["o"]), "c": as_text(own[-1]["c"]),
            "h": as_text(max(Decimal(one["h"]) for one in own)), "l": as_text(min(Decimal(one["l"]) for one in own)),
            "v": as_text(sum(Decimal(one["v"]) for one in own)), "n": sum(one["n"] for one in own),
        }
        for start, own in found.items()
    ]  # fmt: skip


def _instant(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
