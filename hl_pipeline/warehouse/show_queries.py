"""The queries of `hl show`, with named parameters; None means no filter. The CLI formats the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

if TYPE_CHECKING:
    import psycopg

FILLS = """
SELECT time, coin, wallet, side, crossed, px, sz, dir, fee, fee_token, closed_pnl, twap_id, tid FROM hl.fills_readable
WHERE (%(day)s::date IS NULL OR (time >= %(day)s::date::timestamp AT TIME ZONE 'UTC'
                                 AND time < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'))
  AND (%(wallet)s::text IS NULL OR wallet = lower(%(wallet)s))
  AND (%(coin)s::text IS NULL OR coin = %(coin)s)
ORDER BY time DESC, tid, coin COLLATE "C", wallet COLLATE "C", side, oid, object_key COLLATE "C", ordinal LIMIT %(limit)s
"""
"""Parameters: day, wallet, coin, limit. `lake.newest_fills` has the same order."""

DAILY_STATS = """
SELECT period_start, days, coin, kind, trades, trim_scale(volume) AS volume, round(notional, 2) AS notional,
       buys, sells, open, high, low, close, vwap, liquidations, round(twap_notional, 2) AS twap_notional,
       round(builder_notional, 2) AS builder_notional, fills, non_market_rows,
       round(fees_in_quote, 2) AS fees_in_quote, is_complete
FROM hl.daily_stats_by(
    %(period)s, coalesce(%(first)s::date, (SELECT max(date) FROM hl.daily_stats) - %(back)s::int, '-infinity'),
    coalesce(%(last)s::date, 'infinity'))
WHERE %(coin)s::text IS NULL OR coin = %(coin)s
ORDER BY period_start DESC, notional DESC NULLS LAST, coin LIMIT %(limit)s
"""
"""Parameters: period, first, last, back (days before the last one, if `first` is not given), coin, limit."""

USER_STATS = """
SELECT period_start, days, wallet, fills, round(maker_notional, 2) AS maker_notional,
       round(taker_notional, 2) AS taker_notional, round(closed_pnl, 2) AS closed_pnl, closed_pnl_known,
       round((fees ->> 'USDC')::numeric, 2) AS usdc_fees, round(fees_in_quote, 2) AS fees_in_quote, fees_known,
       first_fill, last_fill, is_complete
FROM hl.user_stats_by(
    %(period)s, coalesce(%(first)s::date, (SELECT max(date) FROM hl.user_stats) - %(back)s::int, '-infinity'),
    coalesce(%(last)s::date, 'infinity'), %(wallet)s)
ORDER BY period_start DESC, maker_notional + taker_notional DESC NULLS LAST, wallet LIMIT %(limit)s
"""
"""Parameters: as DAILY_STATS, with wallet instead of coin."""

TWAPS = """
SELECT twap_id, begins_at, wallet, coin, side, duration_minutes AS minutes, status, verdict,
       size_requested, size_reported, size_observed, slices, slices_due, vwap, market_vwap, slippage_bps,
       slippage_arrival_bps, participation, schedule_deviation, fees, error
FROM hl.twaps
-- A TWAP that has not begun is dated by its placement, or else by its first status.
CROSS JOIN LATERAL (SELECT coalesce(begins_at, started_at, seen_from + interval '60 minutes') AS since) known
WHERE (%(first)s::date IS NULL OR since >= %(first)s::date::timestamp AT TIME ZONE 'UTC')
  AND (%(last)s::date IS NULL OR since < (%(last)s::date + 1)::timestamp AT TIME ZONE 'UTC')
  AND (%(wallet)s::text IS NULL OR wallet = lower(%(wallet)s)) AND (%(coin)s::text IS NULL OR coin = %(coin)s)
  AND (%(verdict)s::text IS NULL OR verdict = %(verdict)s)
ORDER BY since DESC, twap_id DESC LIMIT %(limit)s
"""
"""Parameters: first, last, wallet, coin, verdict, limit."""

CHECKPOINTS = """
SELECT object_key, size_bytes, rows, bad_lines, first_block, last_block, missing_blocks, fetched_at, loaded_at, error
FROM hl.s3_ingest_log ORDER BY object_date DESC, object_hour DESC NULLS LAST, object_key LIMIT %(limit)s
"""
"""Parameter: limit."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The result of a query: column names and rows."""

    columns: list[str]
    rows: Sequence[tuple[Any, ...]]


def read_rows(connection: psycopg.Connection, query: LiteralString, parameters: Mapping[str, object]) -> Rows:
    """Run one of the queries above."""
    cursor = connection.execute(query, parameters)
    return Rows([column.name for column in cursor.description or []], cursor.fetchall())
