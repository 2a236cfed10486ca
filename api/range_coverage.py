"""Which days of a range are there and what they lack, so that an empty list is not taken for "nothing happened"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

import orjson
from psycopg import AsyncConnection

from api.coins import ALL_SEEN, IS_SEEN, SeenCoin, UnknownCoinError, likely_coins
from api.database import read_sql

Of = Literal["twaps", "fills", "candles", "daily_stats", "user_stats"]

_COVERAGE = read_sql("coverage")
_BACKFILL = read_sql("backfill")
_BACKFILL_COUNTS = read_sql("backfill_counts")
# A connection for exports has all values as texts.
_YES = ((True,), ("true",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What was asked for, as far as it decides what is said beside the rows."""

    of: Of
    start: datetime
    end: datetime
    wallet: str | None = None
    coin: str | None = None


async def describe_range(connection: AsyncConnection, asked: Range) -> dict[str, Any]:
    """The fields `coverage` and, where there is something to say, `info_api` of an answer.

    Raises UnknownCoinError for a coin that was never seen.
    """
    await refuse_unknown_coin(connection, asked.coin, asked.wallet)
    coverage = await read_coverage(connection, asked.of, asked.start.date(), asked.end.date())
    known = await read_backfill(connection, asked.wallet, asked.start, asked.end, of_twaps=asked.of == "twaps")
    return {"coverage": coverage, **known}


async def refuse_unknown_coin(connection: AsyncConnection, coin: str | None, wallet: str | None) -> None:
    """Raises UnknownCoinError for a coin that was never seen, nor in the TWAPs of `wallet`; None is no coin."""
    if coin is None:
        return
    if await (await connection.execute(IS_SEEN, {"coin": coin, "wallet": wallet})).fetchone() in _YES:
        return
    seen = [SeenCoin(name, tokens) for name, tokens in await (await connection.execute(ALL_SEEN)).fetchall()]
    raise UnknownCoinError(coin, likely_coins(coin, seen))


async def read_coverage(connection: AsyncConnection, what: Of, first: date, last: date) -> orjson.Fragment:
    """The runs of days from `first` to `last` in hl.twap_statuses, hl.fills, or what is made of these, as JSON."""
    row = await (await connection.execute(_COVERAGE, {"first": first, "last": last, "what": what})).fetchone()
    assert row is not None
    return orjson.Fragment(row[0]) if isinstance(row[0], str) else row[0]


async def read_backfill(
    connection: AsyncConnection, wallet: str | None, start: date, end: date, *, of_twaps: bool = False
) -> dict[str, Any]:
    """`info_api`: what may be said of what the info API gave of a wallet, where that is a part of the range (a date: its
    midnight); else nothing. `of_twaps`: also when it was asked for the statuses of its TWAPs.
    """
    if wallet is None:
        return {}
    found = await connection.execute(_BACKFILL, {"wallet": wallet, "start": start, "end": end})
    if (row := await found.fetchone()) is None:
        return {}
    state, first, last, oldest, why, history = row
    told = {"state": state, "from": first, "to": last, "oldest": oldest}
    told |= {"statuses_asked_at": history} if of_twaps else {}
    return {"info_api": told | ({} if why is None else {"note": why})}


async def read_backfill_counts(connection: AsyncConnection, first: date, last: date) -> dict[str, Any]:
    """`info_api`: how many wallets the info API was asked for, by state, where their window is a part of the range."""
    found = await connection.execute(_BACKFILL_COUNTS, {"start": first, "end": last + timedelta(days=1)})
    if (row := await found.fetchone()) is None:
        return {}
    return {"info_api": dict(zip(("from", "to", "complete", "truncated", "failed", "not_asked"), row, strict=True))}
