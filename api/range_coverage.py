"""Which days of a range are present and what they are missing, so that an empty list is not taken for "nothing happened"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

import orjson
from psycopg import AsyncConnection

from api.coins import ALL_SEEN, IS_NEW, IS_SEEN_BEFORE, SeenCoin, UnknownCoinError, likely_coins
from api.database import read_sql

Of = Literal["twaps", "fills", "candles", "daily_stats", "user_stats", "builder_stats"]

_COVERAGE = read_sql("coverage")
# All facts about a range, in one round trip.
_FACTS = b"SELECT * FROM (SELECT (%b) AS coverage, (%b) AS is_seen) of_days LEFT JOIN (%b) of_wallet ON true" % (
    _COVERAGE,
    IS_SEEN_BEFORE,
    read_sql("backfill"),
)
_BACKFILL_COUNTS = read_sql("backfill_counts")
# An export connection returns all values as texts.
_YES = (True, "true")
IN_LAKE_ALONE = "in the lake alone, which /api/v1/fills reads"
"""The `lake_fault` of a path that reads fills from PostgreSQL alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The parts of a request that determine the coverage fields of its response."""

    of: Of
    start: datetime
    end: datetime
    wallet: str | None = None
    coin: str | None = None


async def describe_range(connection: AsyncConnection, asked: Range, lake_fault: str | None = None) -> dict[str, Any]:
    """Return the field `coverage` of a response and, if it applies, `info_api`. `lake_fault`: why the lake cannot be read.

    `info_api` is present if the wallet's window in the info API overlaps the range. For TWAPs, it also has the time when their
    statuses were requested. Raises UnknownCoinError for a coin that was never seen, not even in the wallet's TWAPs.
    """
    values = {"first": asked.start.date(), "last": asked.end.date(), "start": asked.start, "end": asked.end}
    found = await connection.execute(
        _FACTS, {**values, "what": asked.of, "wallet": asked.wallet, "coin": asked.coin, "lake_fault": lake_fault}
    )
    row = await found.fetchone()
    assert row is not None
    coverage, is_seen, state, first, last, oldest, why, history = row
    if asked.coin is not None and is_seen not in _YES and not await _is_new(connection, asked.coin):
        seen = [SeenCoin(name, tokens) for name, tokens in await (await connection.execute(ALL_SEEN)).fetchall()]
        raise UnknownCoinError(asked.coin, likely_coins(asked.coin, seen))
    facts = {"coverage": _as_fragment(coverage)}
    if state is None:
        return facts
    told = {"state": state, "from": first, "to": last, "oldest": oldest}
    told |= {"statuses_asked_at": history} if asked.of == "twaps" else {}
    return {**facts, "info_api": told | ({} if why is None else {"note": why})}


async def _is_new(connection: AsyncConnection, coin: str) -> bool:
    row = await (await connection.execute(IS_NEW, {"coin": coin})).fetchone()
    return row is not None and row[0] in _YES


async def read_coverage(
    connection: AsyncConnection, what: Of, first: date, last: date, lake_fault: str | None = None
) -> orjson.Fragment:
    """Return the runs of days from `first` to `last` in hl.twap_statuses, hl.fills, or a table derived from fills, as JSON."""
    values = {"first": first, "last": last, "what": what, "lake_fault": lake_fault}
    row = await (await connection.execute(_COVERAGE, values)).fetchone()
    assert row is not None
    return _as_fragment(row[0])


def _as_fragment(coverage: orjson.Fragment | str) -> orjson.Fragment:
    """Convert coverage to a fragment. An export connection returns JSON as text."""
    return orjson.Fragment(coverage) if isinstance(coverage, str) else coverage


async def read_backfill_counts(connection: AsyncConnection, first: date, last: date) -> dict[str, Any]:
    """Return the field `info_api`: the number of wallets in each state whose window in the info API overlaps the range."""
    found = await connection.execute(_BACKFILL_COUNTS, {"start": first, "end": last + timedelta(days=1)})
    if (row := await found.fetchone()) is None:
        return {}
    return {"info_api": dict(zip(("from", "to", "complete", "truncated", "failed", "not_asked"), row, strict=True))}
