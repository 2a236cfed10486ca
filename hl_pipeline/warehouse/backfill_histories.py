"""hl.backfill_progress and hl.backfill_bad: which wallets' TWAP statuses were fetched, and the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import psycopg

from hl_pipeline.formats.fills import BadLine
from hl_pipeline.warehouse.backfill_progress import KEEP_BAD
from hl_pipeline.warehouse.dirty_days import note_dirty

UNMATCHED = "it has no twapId"
"""The beginning of the reason for quarantining a status without a TWAP."""
_NO_HISTORY = """
SELECT wallet FROM hl.backfill_progress
WHERE shard = ANY(%s) AND (%s::text[] IS NULL OR wallet = ANY(%s)) AND history_at IS NULL
ORDER BY history_error IS NOT NULL, wallet LIMIT %s
"""
_STARTED_TWAPS = """
SELECT DISTINCT wallet, coin, started_at, twap_id FROM hl.twap_statuses WHERE wallet = ANY(%s) AND started_at IS NOT NULL
"""
_HISTORY_CAME = """
UPDATE hl.backfill_progress SET statuses = %s, history_error = NULL, history_at = clock_timestamp() WHERE wallet = %s
"""
_UNMATCHED = """
SELECT b.wallet, item FROM hl.backfill_bad b JOIN hl.backfill_progress USING (wallet)
WHERE shard = %s AND kind = 'twap_history' AND starts_with(b.reason, %s) ORDER BY wallet, digest
"""
_FORGET_UNMATCHED = "DELETE FROM hl.backfill_bad WHERE wallet = %s AND kind = 'twap_history' AND item = %s"
_ONE_STATUS_MORE = "UPDATE hl.backfill_progress SET statuses = statuses + 1 WHERE wallet = %s"
_HISTORY_FAILED = "UPDATE hl.backfill_progress SET history_error = %s WHERE wallet = %s"
_HISTORIES = """
SELECT count(*), count(history_at), count(history_error), coalesce(sum(statuses), 0),
       (SELECT count(*) FROM hl.backfill_bad b JOIN hl.backfill_progress w USING (wallet)
        WHERE w.shard = %s AND kind = 'twap_history')
FROM hl.backfill_progress WHERE shard = %s
"""
_FAILED_HISTORIES = """
SELECT wallet, history_error FROM hl.backfill_progress WHERE shard = %s AND history_error IS NOT NULL ORDER BY wallet
"""


@dataclass(frozen=True, slots=True)
class Histories:
    """Counts of wallets, of wallets whose TWAP statuses were fetched or failed, of statuses and of bad items."""

    wallets: int
    asked: int
    failed: int
    statuses: int
    bad: int


def wallets_without_history(
    connection: psycopg.Connection, shards: Iterable[str], wallets: Sequence[str] | None = None, limit: int | None = None
) -> list[str]:
    """Return the wallets of these shards (and in `wallets`) whose TWAP statuses were not fetched yet."""
    numbers = [int(shard, 16) for shard in shards]
    return [row[0] for row in connection.execute(_NO_HISTORY, [numbers, wallets, wallets, limit])]


def read_started_twaps(connection: psycopg.Connection, wallets: Sequence[str]) -> list[tuple[str, str, datetime, int]]:
    """Return the TWAPs of these wallets in hl.twap_statuses: wallet, coin, time of placement, ID."""
    return connection.execute(_STARTED_TWAPS, [list(wallets)]).fetchall()


def keep_histories(
    connection: psycopg.Connection,
    statuses: Mapping[str, int],
    bad: Iterable[tuple[str, BadLine]],
    days: Sequence[date],
    why: str,
) -> None:
    """Record that the statuses of these wallets are in the lake, with their days and bad items, in one transaction."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(KEEP_BAD, [(wallet, "twap_history", item.reason, item.text) for wallet, item in bad])
        cursor.executemany(_HISTORY_CAME, [(count, wallet) for wallet, count in statuses.items()])
        if days:
            note_dirty(connection, days, why)


def read_unmatched(connection: psycopg.Connection, shard: str) -> list[tuple[str, bytes]]:
    """Return the unmatched statuses of a shard's wallets, as JSON."""
    return connection.execute(_UNMATCHED, [int(shard, 16), UNMATCHED]).fetchall()


def forget_unmatched(
    connection: psycopg.Connection, matched: Iterable[tuple[str, bytes]], days: Sequence[date], why: str
) -> None:
    """Remove statuses from quarantine that are matched now and are in the lake on these days."""
    matched = list(matched)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_FORGET_UNMATCHED, matched)
        cursor.executemany(_ONE_STATUS_MORE, [[wallet] for wallet, _ in matched])
        note_dirty(connection, days, why)


def fail_history(connection: psycopg.Connection, wallet: str, error: str) -> None:
    """Record the error of fetching a wallet's TWAP statuses."""
    connection.execute(_HISTORY_FAILED, [error, wallet])


def read_histories(connection: psycopg.Connection, shard: str) -> Histories:
    """Return the counts of a shard's wallets."""
    [row] = connection.execute(_HISTORIES, [int(shard, 16)] * 2).fetchall()
    return Histories(*(int(value) for value in row))


def read_failed_histories(connection: psycopg.Connection, shard: str) -> list[tuple[str, str]]:
    """Return the shard's failed wallets with their errors."""
    return connection.execute(_FAILED_HISTORIES, [int(shard, 16)]).fetchall()
