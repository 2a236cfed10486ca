"""hl.backfill_progress, hl.backfill_pages, hl.backfill_bad: the backfill progress of each wallet, and pages not yet in the lake.

A page and the progress that follows from it are one transaction, so a killed run continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Literal, LiteralString

import polars as pl
import psycopg

from hl_pipeline.domain.records import ApiShard, HistoryKind, HistoryPage, WalletVerdict
from hl_pipeline.formats.fills import BadLine
from hl_pipeline.warehouse.dirty_days import note_dirty
from hl_pipeline.warehouse.ledger import record_fetched

State = Literal["pending", "started", "complete", "truncated", "failed"]

# Jumps from wallet to wallet in the index: scanning every day of every wallet would take a hundred times as long.
_DISCOVER = """
WITH RECURSIVE known AS (
    (SELECT wallet FROM hl.user_stats ORDER BY wallet LIMIT 1)
    UNION ALL
    SELECT (SELECT s.wallet FROM hl.user_stats s WHERE s.wallet > known.wallet ORDER BY s.wallet LIMIT 1)
    FROM known WHERE known.wallet IS NOT NULL
)
INSERT INTO hl.backfill_progress (wallet)
SELECT wallet FROM known WHERE wallet ~ '^0x[0-9a-f]{40}$'
ON CONFLICT DO NOTHING
"""
_ADD = "INSERT INTO hl.backfill_progress (wallet) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING"

# A wallet is done if its whole window was fetched. Failed wallets come last.
_UNFINISHED = """
SELECT wallet FROM hl.backfill_progress
WHERE shard = ANY(%(shards)s) AND (%(wallets)s::text[] IS NULL OR wallet = ANY(%(wallets)s))
  AND NOT (state IN ('complete', 'truncated') AND window_start <= %(start)s AND window_end >= %(end)s)
ORDER BY state = 'failed', wallet LIMIT %(limit)s
"""
_BEGIN = """
UPDATE hl.backfill_progress SET
    state = 'started', started_at = coalesce(started_at, clock_timestamp()), ended_at = NULL, reason = NULL, error = NULL
WHERE wallet = %s
"""
# Fills of another window are in the lake, or about to be. They are fetched again and deduplicated.
_RESET = """
UPDATE hl.backfill_progress SET
    window_start = %(start)s, window_end = %(end)s, fills_next = NULL, slices_next = NULL, fills_walked = false,
    slices_walked = false, oldest = NULL, newest = NULL, fills = 0, crowded = '{}', requests = 0, weight = 0,
    bad = (SELECT count(*) FROM hl.backfill_bad b WHERE b.wallet = %(wallet)s AND kind <> 'twap_history'),
    started_at = clock_timestamp()
WHERE wallet = %(wallet)s AND (window_start, window_end) IS DISTINCT FROM (%(start)s, %(end)s)
"""
_READ = """
SELECT fills_walked, slices_walked, fills_next, slices_next, fills, bad, oldest, crowded
FROM hl.backfill_progress WHERE wallet = %s
"""
_LAST_PAGE = "SELECT fills FROM hl.backfill_pages WHERE wallet = %s AND kind = %s ORDER BY page DESC LIMIT 1"
_KEEP_PAGE = """
INSERT INTO hl.backfill_pages (wallet, kind, page, rows, fills)
SELECT %(wallet)s, %(kind)s, coalesce(max(page), 0) + 1, %(rows)s, %(fills)s
FROM hl.backfill_pages WHERE wallet = %(wallet)s AND kind = %(kind)s
"""
KEEP_BAD = "INSERT INTO hl.backfill_bad (wallet, kind, reason, item) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
_WENT_ON: dict[HistoryKind, LiteralString] = {
    "fills": """
UPDATE hl.backfill_progress SET
    fills_next = %(next)s, fills_walked = %(next)s::timestamptz IS NULL, fills = fills + %(rows)s, bad = bad + %(bad)s,
    oldest = least(oldest, %(first)s), newest = greatest(newest, %(last)s), crowded = crowded || %(crowded)s::bigint[],
    requests = requests + %(requests)s, weight = weight + %(weight)s
WHERE wallet = %(wallet)s
""",
    "twap_slices": """
UPDATE hl.backfill_progress SET
    slices_next = %(next)s, slices_walked = %(next)s::timestamptz IS NULL, fills = fills + %(rows)s, bad = bad + %(bad)s,
    oldest = least(oldest, %(first)s), newest = greatest(newest, %(last)s), crowded = crowded || %(crowded)s::bigint[],
    requests = requests + %(requests)s, weight = weight + %(weight)s
WHERE wallet = %(wallet)s
""",
}
_END = "UPDATE hl.backfill_progress SET state = %s, reason = %s, ended_at = clock_timestamp() WHERE wallet = %s"
_FAIL = """
UPDATE hl.backfill_progress SET
    state = 'failed', error = %s, ended_at = clock_timestamp(), requests = requests + %s, weight = weight + %s
WHERE wallet = %s
"""

# Whole days are counted from the statistics, the day on which the window ends from hl.fills. If that day is thinned, the whole
# day counts: too many is safer than too few.
_AFTER = """
SELECT (SELECT coalesce(sum(fills + non_market_rows), 0) FROM hl.user_stats WHERE wallet = %(wallet)s AND date > %(day)s)
     + (SELECT count(*) FROM hl.fills WHERE wallet = %(wallet)s AND time >= %(end)s AND time < %(midnight)s)
     + (SELECT coalesce(sum(fills + non_market_rows), 0) FROM hl.user_stats s JOIN hl.fills_days d USING (date)
        WHERE wallet = %(wallet)s AND date = %(day)s AND %(end)s < %(midnight)s AND d.thinned_at IS NOT NULL)
"""
_WITHIN = """
SELECT coalesce(sum(fills), 0) FROM hl.user_stats
WHERE wallet = %(wallet)s AND date >= %(first)s AND date < %(last)s AND sources <> '{api_fills}'
"""

_STAGED = """
SELECT coalesce(sum(rows), 0) FROM hl.backfill_pages JOIN hl.backfill_progress USING (wallet) WHERE shard = %s
"""
_PAGES = """
SELECT wallet, kind, page, p.fills FROM hl.backfill_pages p JOIN hl.backfill_progress USING (wallet)
WHERE shard = %s ORDER BY wallet, kind, page
"""
# The last page of an unfinished wallet is kept: it shows which fills of the next page's first millisecond were fetched.
_FORGET_PAGES = """
DELETE FROM hl.backfill_pages p
USING hl.backfill_progress w, unnest(%s::text[], %s::text[], %s::int[]) AS written (wallet, kind, page)
WHERE (p.wallet, p.kind, p.page) = (written.wallet, written.kind, written.page) AND w.wallet = p.wallet
  AND (w.state IN ('complete', 'truncated')
       OR p.page < (SELECT max(page) FROM hl.backfill_pages o WHERE o.wallet = p.wallet AND o.kind = p.kind))
"""
_BAD = """
SELECT b.wallet, kind, b.reason, item FROM hl.backfill_bad b JOIN hl.backfill_progress USING (wallet)
WHERE shard = %s ORDER BY wallet, kind, digest
"""
_ETAGS = "SELECT object_key, etag FROM hl.s3_ingest_log WHERE source = 'api_fills' AND object_key = ANY(%s)"

# A wallet with stored pages is not completely in the lake.
_READ_DONE = """
SELECT coalesce(json_agg(to_jsonb(w) ORDER BY wallet), '[]')::text FROM hl.backfill_progress w
WHERE shard = %s AND state IN ('complete', 'truncated') AND NOT EXISTS (SELECT FROM hl.backfill_pages p WHERE p.wallet = w.wallet)
"""
_FORGET_UNTOUCHED = """
DELETE FROM hl.backfill_progress WHERE window_start IS NULL AND history_at IS NULL
    AND wallet IN (SELECT wallet FROM json_populate_recordset(NULL::hl.backfill_progress, %s::json))
"""
_RESTORE = """
INSERT INTO hl.backfill_progress
    (wallet, state, window_start, window_end, fills_walked, slices_walked, oldest, newest, fills, bad, crowded,
     requests, weight, reason, started_at, ended_at, statuses, history_error, history_at)
SELECT wallet, state, window_start, window_end, fills_walked, slices_walked, oldest, newest, fills, bad, crowded,
       requests, weight, reason, started_at, ended_at, statuses, history_error, history_at
FROM json_populate_recordset(NULL::hl.backfill_progress, %s::json)
ON CONFLICT DO NOTHING
"""

_TALLY = """
SELECT count(*), count(*) FILTER (WHERE state = 'complete'), count(*) FILTER (WHERE state = 'truncated'),
       count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE state IN ('pending', 'started')),
       coalesce(sum(fills), 0), coalesce(sum(bad), 0)
FROM hl.backfill_progress WHERE shard = ANY(%s) AND (%s::text[] IS NULL OR wallet = ANY(%s))
"""
_FAILED = "SELECT wallet, error FROM hl.backfill_progress WHERE shard = %s AND state = 'failed' ORDER BY wallet"
_TRUNCATED = """
SELECT wallet, oldest, reason FROM hl.backfill_progress WHERE shard = %s AND state = 'truncated' ORDER BY wallet LIMIT %s
"""
_OF_DAY = """
SELECT count(*) FILTER (WHERE state = 'complete'), count(*) FILTER (WHERE state = 'truncated')
FROM hl.backfill_progress WHERE wallet = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class Window:
    """A time range in UTC from `start` (inclusive) to `end` (exclusive)."""

    start: datetime
    end: datetime

    @property
    def first_ms(self) -> int:
        return _ms(self.start)

    @property
    def last_ms(self) -> int:
        return _ms(self.end) - 1


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a wallet: for each unfinished kind, where the next page starts (ms; None for the start of the window)."""

    unwalked: dict[HistoryKind, int | None]
    fills: int
    bad: int
    oldest_ms: int | None
    crowded_ms: list[int]


@dataclass(frozen=True, slots=True)
class Tally:
    """Number of wallets by state (`unasked`: pending or in progress), and their total fills and bad items."""

    wallets: int
    complete: int
    truncated: int
    failed: int
    unasked: int
    fills: int
    bad: int


@dataclass(frozen=True, slots=True)
class Staged:
    """Pages not yet in the lake: the key of each (wallet, kind, page), and their fills (FILL_SCHEMA)."""

    pages: list[tuple[str, str, int]]
    fills: list[pl.DataFrame]


def discover_wallets(connection: psycopg.Connection) -> int:
    """Add every wallet of hl.user_stats. Returns the number of new ones."""
    return connection.execute(_DISCOVER).rowcount


def add_wallets(connection: psycopg.Connection, wallets: Sequence[str]) -> int:
    """Add these wallets (lower case). Returns the number of new ones."""
    return connection.execute(_ADD, [list(wallets)]).rowcount


def unfinished_wallets(
    connection: psycopg.Connection,
    shards: Iterable[str],
    window: Window,
    wallets: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[str]:
    """Return the wallets of these shards (and in `wallets`) that are neither complete nor truncated for the window."""
    numbers = [int(shard, 16) for shard in shards]
    given = {"shards": numbers, "wallets": wallets, "start": window.start, "end": window.end, "limit": limit}
    return [row[0] for row in connection.execute(_UNFINISHED, given)]


def begin_wallet(connection: psycopg.Connection, wallet: str, window: Window) -> None:
    """Mark a wallet as started. Progress in another window is discarded."""
    with connection.transaction():
        connection.execute(_RESET, {"wallet": wallet, "start": window.start, "end": window.end})
        connection.execute(_BEGIN, [wallet])


def read_progress(connection: psycopg.Connection, wallet: str) -> Progress:
    """Return the progress of a wallet."""
    [row] = connection.execute(_READ, [wallet]).fetchall()
    walked, slices_walked, fills_next, slices_next, fills, bad, oldest, crowded = row
    unwalked: dict[HistoryKind, int | None] = {}
    if not walked:
        unwalked["fills"] = _ms_or_none(fills_next)
    if not slices_walked:
        unwalked["twap_slices"] = _ms_or_none(slices_next)
    return Progress(unwalked, fills, bad, _ms_or_none(oldest), crowded)


def last_page(connection: psycopg.Connection, wallet: str, kind: HistoryKind) -> pl.DataFrame | None:
    """Return the fills of the last page of a started wallet."""
    row = connection.execute(_LAST_PAGE, [wallet, kind]).fetchone()
    return None if row is None else pl.read_parquet(BytesIO(row[0]))


def keep_page(connection: psycopg.Connection, wallet: str, kind: HistoryKind, page: HistoryPage) -> None:
    """Store a page and the start of the next one, in one transaction."""
    times = page.fills["time"]
    crowded = [] if page.crowded_ms is None else [page.crowded_ms]
    with connection.transaction(), connection.cursor() as cursor:
        if page.fills.height:
            written = BytesIO()
            page.fills.write_parquet(written, compression="zstd", compression_level=1)
            cursor.execute(_KEEP_PAGE, {"wallet": wallet, "kind": kind, "rows": page.fills.height, "fills": written.getvalue()})
        new_bad = 0
        for item in page.bad:
            new_bad += cursor.execute(KEEP_BAD, [wallet, kind, item.reason, item.text]).rowcount
        cursor.execute(
            _WENT_ON[kind],
            {
                "wallet": wallet,
                "next": None if page.next_ms is None else _moment(page.next_ms),
                "rows": page.fills.height,
                "bad": new_bad,
                "first": times.min(),
                "last": times.max(),
                "crowded": crowded,
                "requests": page.requests,
                "weight": page.weight,
            },
        )


def end_wallet(connection: psycopg.Connection, wallet: str, verdict: WalletVerdict) -> None:
    """Record the verdict on a completely fetched wallet."""
    connection.execute(_END, [verdict.state, verdict.reason, wallet])


def fail_wallet(connection: psycopg.Connection, wallet: str, error: str, requests: int, weight: int) -> None:
    """Record the error of a wallet, and the requests and weight of the failed call."""
    connection.execute(_FAIL, [error, requests, weight, wallet])


def count_after(connection: psycopg.Connection, wallet: str, window: Window) -> int:
    """Return the number of the wallet's fills in the warehouse after the window."""
    day = (window.end - timedelta(milliseconds=1)).date()
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    given = {"wallet": wallet, "day": day, "end": window.end, "midnight": midnight}
    [row] = connection.execute(_AFTER, given).fetchall()
    return int(row[0])


def count_within(connection: psycopg.Connection, wallet: str, window: Window) -> int:
    """Return the number of the wallet's trades on whole days of the window with data from a bucket."""
    first = (window.start + timedelta(days=1, microseconds=-1)).date()
    [row] = connection.execute(_WITHIN, {"wallet": wallet, "first": first, "last": window.end.date()}).fetchall()
    return int(row[0])


def count_staged(connection: psycopg.Connection, shard: str) -> int:
    """Return the number of a shard's fills not yet in the lake."""
    [row] = connection.execute(_STAGED, [int(shard, 16)]).fetchall()
    return int(row[0])


def read_staged(connection: psycopg.Connection, shard: str) -> Staged:
    """Return a shard's pages not yet in the lake."""
    rows = connection.execute(_PAGES, [int(shard, 16)]).fetchall()
    return Staged([row[:3] for row in rows], [pl.read_parquet(BytesIO(row[3])) for row in rows])


def forget_staged(connection: psycopg.Connection, shard: str, staged: Staged, written: Sequence[ApiShard]) -> list[date]:
    """Delete pages that are now in the lake in the `written` files. In the same transaction, record the files in the ledger and
    mark days with new files as dirty. Returns these days.
    """
    with connection.transaction():
        known = dict(connection.execute(_ETAGS, [[meta.key for meta in written]]).fetchall())
        days = [date.fromisoformat(meta.date) for meta in written if known.get(meta.key) != meta.etag]
        for meta in written:
            record_fetched(connection, meta)
        if days:
            note_dirty(connection, days, f"fills from the info API, shard {shard}")
        columns = [list(column) for column in zip(*staged.pages, strict=True)] or [[], [], []]
        connection.execute(_FORGET_PAGES, columns)
    return days


def read_bad(connection: psycopg.Connection, shard: str) -> list[BadLine]:
    """Return the rejected items of a shard's wallets, each with wallet and kind in its reason."""
    rows = connection.execute(_BAD, [int(shard, 16)]).fetchall()
    return [BadLine(n, None, f"{wallet}: {kind}: {reason}", item) for n, (wallet, kind, reason, item) in enumerate(rows, 1)]


def read_done(connection: psycopg.Connection, shard: str) -> str:
    """Return the shard's finished wallets whose fills are all in the lake, as JSON."""
    [row] = connection.execute(_READ_DONE, [int(shard, 16)]).fetchall()
    return row[0]


def restore_done(connection: psycopg.Connection, wallets: str, bad: Iterable[BadLine]) -> None:
    """Restore the output of `read_done` and `read_bad` for wallets without progress here."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_FORGET_UNTOUCHED, [wallets])
        cursor.execute(_RESTORE, [wallets])
        items = [(*item.reason.split(": ", 2), item.text) for item in bad]
        cursor.execute(_ADD, [[wallet for wallet, *_ in items]])
        cursor.executemany(KEEP_BAD, items)


def read_tally(connection: psycopg.Connection, shards: Iterable[str], wallets: Sequence[str] | None = None) -> Tally:
    """Return the counts of the wallets of shards (and in `wallets`)."""
    [row] = connection.execute(_TALLY, [[int(shard, 16) for shard in shards], wallets, wallets]).fetchall()
    return Tally(*(int(value) for value in row))


def read_failed(connection: psycopg.Connection, shard: str) -> list[tuple[str, str]]:
    """Return the shard's failed wallets with their errors."""
    return connection.execute(_FAILED, [int(shard, 16)]).fetchall()


def read_truncated(connection: psycopg.Connection, shard: str, limit: int) -> list[tuple[str, datetime | None, str]]:
    """Return at most `limit` truncated wallets of the shard, each with its oldest fill and the reason."""
    return connection.execute(_TRUNCATED, [int(shard, 16), limit]).fetchall()


def count_states(connection: psycopg.Connection, wallets: Sequence[str]) -> tuple[int, int]:
    """Return how many of these wallets are complete, and how many truncated."""
    [row] = connection.execute(_OF_DAY, [list(wallets)]).fetchall()
    return row


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _ms_or_none(moment: datetime | None) -> int | None:
    return None if moment is None else _ms(moment)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC) + timedelta(milliseconds=ms % 1000)
