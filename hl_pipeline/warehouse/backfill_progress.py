"""hl.backfill_progress, hl.backfill_pages, hl.backfill_bad: how far the info API was asked for each wallet, and what came that is
not in the lake yet. A page and what follows from it are one transaction, so that whoever is killed goes on where it was.
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

# From one wallet of the index to the next: a scan of every day of every wallet would take a hundred times as long.
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

# What is done was asked for all of the window; failed ones come last.
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
# What came of another window is in the lake, or about to be: it comes again, and is there once.
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

# Of whole days what the statistics counted; of the day on which the window ends what hl.fills has after it (if that is thinned,
# the whole day: rather too many than too few).
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
# The last pages of a wallet that has not come to its end stay: they tell what of the moment from which it goes on is there.
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

# Of a wallet with pages on their way the lake lacks some.
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
    """From `start` to `end`, which is not in it (UTC)."""

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
    """How far the walks of a wallet are: by kind from where it goes on (ms; None: from the beginning), absent: it is walked."""

    unwalked: dict[HistoryKind, int | None]
    fills: int
    bad: int
    oldest_ms: int | None
    crowded_ms: list[int]


@dataclass(frozen=True, slots=True)
class Tally:
    """Wallets by state (`unasked`: pending or in work), and the fills and bad items that came of all of them."""

    wallets: int
    complete: int
    truncated: int
    failed: int
    unasked: int
    fills: int
    bad: int


@dataclass(frozen=True, slots=True)
class Staged:
    """Pages on their way into the lake: where each stands (wallet, kind, page), and their fills (FILL_SCHEMA)."""

    pages: list[tuple[str, str, int]]
    fills: list[pl.DataFrame]


def discover_wallets(connection: psycopg.Connection) -> int:
    """Note every wallet that hl.user_stats has; how many are new."""
    return connection.execute(_DISCOVER).rowcount


def add_wallets(connection: psycopg.Connection, wallets: Sequence[str]) -> int:
    """Note these wallets (lower case); how many are new."""
    return connection.execute(_ADD, [list(wallets)]).rowcount


def unfinished_wallets(
    connection: psycopg.Connection,
    shards: Iterable[str],
    window: Window,
    wallets: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[str]:
    """The wallets of those shards (and among `wallets`) that are neither complete nor truncated for the window."""
    numbers = [int(shard, 16) for shard in shards]
    given = {"shards": numbers, "wallets": wallets, "start": window.start, "end": window.end, "limit": limit}
    return [row[0] for row in connection.execute(_UNFINISHED, given)]


def begin_wallet(connection: psycopg.Connection, wallet: str, window: Window) -> None:
    """Note that the wallet is in work. What was asked of another window counts for nothing."""
    with connection.transaction():
        connection.execute(_RESET, {"wallet": wallet, "start": window.start, "end": window.end})
        connection.execute(_BEGIN, [wallet])


def read_progress(connection: psycopg.Connection, wallet: str) -> Progress:
    """How far the walks of a wallet are, and what came."""
    [row] = connection.execute(_READ, [wallet]).fetchall()
    walked, slices_walked, fills_next, slices_next, fills, bad, oldest, crowded = row
    unwalked: dict[HistoryKind, int | None] = {}
    if not walked:
        unwalked["fills"] = _ms_or_none(fills_next)
    if not slices_walked:
        unwalked["twap_slices"] = _ms_or_none(slices_next)
    return Progress(unwalked, fills, bad, _ms_or_none(oldest), crowded)


def last_page(connection: psycopg.Connection, wallet: str, kind: HistoryKind) -> pl.DataFrame | None:
    """The fills of the last page that came, of a wallet in work."""
    row = connection.execute(_LAST_PAGE, [wallet, kind]).fetchone()
    return None if row is None else pl.read_parquet(BytesIO(row[0]))


def keep_page(connection: psycopg.Connection, wallet: str, kind: HistoryKind, page: HistoryPage) -> None:
    """Keep what a page brought and from where the next one begins, at once."""
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
    """Note what may be said of a wallet that was asked for everything."""
    connection.execute(_END, [verdict.state, verdict.reason, wallet])


def fail_wallet(connection: psycopg.Connection, wallet: str, error: str, requests: int, weight: int) -> None:
    """Note why a wallet could not be asked to its end, and what the call that failed took."""
    connection.execute(_FAIL, [error, requests, weight, wallet])


def count_after(connection: psycopg.Connection, wallet: str, window: Window) -> int:
    """The wallet's fills that the warehouse has from after the window."""
    day = (window.end - timedelta(milliseconds=1)).date()
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    given = {"wallet": wallet, "day": day, "end": window.end, "midnight": midnight}
    [row] = connection.execute(_AFTER, given).fetchall()
    return int(row[0])


def count_within(connection: psycopg.Connection, wallet: str, window: Window) -> int:
    """The wallet's trades of the window's whole days on which a bucket has some of it."""
    first = (window.start + timedelta(days=1, microseconds=-1)).date()
    [row] = connection.execute(_WITHIN, {"wallet": wallet, "first": first, "last": window.end.date()}).fetchall()
    return int(row[0])


def count_staged(connection: psycopg.Connection, shard: str) -> int:
    """The fills of a shard that are on their way into the lake."""
    [row] = connection.execute(_STAGED, [int(shard, 16)]).fetchall()
    return int(row[0])


def read_staged(connection: psycopg.Connection, shard: str) -> Staged:
    """What is on its way into the lake."""
    rows = connection.execute(_PAGES, [int(shard, 16)]).fetchall()
    return Staged([row[:3] for row in rows], [pl.read_parquet(BytesIO(row[3])) for row in rows])


def forget_staged(connection: psycopg.Connection, shard: str, staged: Staged, written: Sequence[ApiShard]) -> list[date]:
    """The pages are in the lake, in those files: note the files, the days whose files are new, and let the pages go, at once.

    The days that are noted.
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
    """The items of a shard's wallets that could not be taken, each with wallet and kind in its reason."""
    rows = connection.execute(_BAD, [int(shard, 16)]).fetchall()
    return [BadLine(n, None, f"{wallet}: {kind}: {reason}", item) for n, (wallet, kind, reason, item) in enumerate(rows, 1)]


def read_done(connection: psycopg.Connection, shard: str) -> str:
    """The shard's wallets of which all that came is in the lake, and nothing more is to be asked, as JSON."""
    [row] = connection.execute(_READ_DONE, [int(shard, 16)]).fetchall()
    return row[0]


def restore_done(connection: psycopg.Connection, wallets: str, bad: Iterable[BadLine]) -> None:
    """Note what `read_done` and `read_bad` gave, of wallets of which nothing is known here."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_FORGET_UNTOUCHED, [wallets])
        cursor.execute(_RESTORE, [wallets])
        items = [(*item.reason.split(": ", 2), item.text) for item in bad]
        cursor.execute(_ADD, [[wallet for wallet, *_ in items]])
        cursor.executemany(KEEP_BAD, items)


def read_tally(connection: psycopg.Connection, shards: Iterable[str], wallets: Sequence[str] | None = None) -> Tally:
    """How the wallets of shards (and among `wallets`) stand."""
    [row] = connection.execute(_TALLY, [[int(shard, 16) for shard in shards], wallets, wallets]).fetchall()
    return Tally(*(int(value) for value in row))


def read_failed(connection: psycopg.Connection, shard: str) -> list[tuple[str, str]]:
    """The shard's wallets that failed, and why."""
    return connection.execute(_FAILED, [int(shard, 16)]).fetchall()


def read_truncated(connection: psycopg.Connection, shard: str, limit: int) -> list[tuple[str, datetime | None, str]]:
    """Truncated wallets of the shard, the oldest time that came of each, and why: at most `limit`."""
    return connection.execute(_TRUNCATED, [int(shard, 16), limit]).fetchall()


def count_states(connection: psycopg.Connection, wallets: Sequence[str]) -> tuple[int, int]:
    """How many of these wallets are complete, and how many are truncated."""
    [row] = connection.execute(_OF_DAY, [list(wallets)]).fetchall()
    return row


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _ms_or_none(moment: datetime | None) -> int | None:
    return None if moment is None else _ms(moment)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC) + timedelta(milliseconds=ms % 1000)
