"""Fetches a shard of wallets from the info API into the lake: fills from before the buckets, and TWAP statuses."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import psycopg

from hl_pipeline.domain.checks import Check
from hl_pipeline.events import emit
from hl_pipeline.formats.exact_decode import parse_json
from hl_pipeline.formats.fills import FILL_KEY, BadLine
from hl_pipeline.formats.twap_statuses import TWAP_STATUS_SCHEMA, DecodedStatuses, decode_history
from hl_pipeline.lake.api_fills import add_api_fills, api_bad_path, write_api_progress
from hl_pipeline.lake.store import Lake, write_bad_lines
from hl_pipeline.lake.twaps import add_api_history
from hl_pipeline.settings import Settings
from hl_pipeline.sources.info import InfoApi, InfoError, InfoRefusedError
from hl_pipeline.sources.info_paging import judge, walk
from hl_pipeline.tracing import span
from hl_pipeline.warehouse.backfill_histories import (
    UNMATCHED,
    Histories,
    fail_history,
    forget_unmatched,
    keep_histories,
    read_failed_histories,
    read_histories,
    read_started_twaps,
    read_unmatched,
    wallets_without_history,
)
from hl_pipeline.warehouse.backfill_progress import (
    Tally,
    Window,
    begin_wallet,
    count_after,
    count_staged,
    count_within,
    discover_wallets,
    end_wallet,
    fail_wallet,
    forget_staged,
    keep_page,
    last_page,
    read_bad,
    read_done,
    read_failed,
    read_progress,
    read_staged,
    read_tally,
    read_truncated,
    unfinished_wallets,
)
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.locks import lock_shard

_log = logging.getLogger(__name__)
_SHOWN = 1000  # maximum number of wallets that a check lists

_AT_ONCE = 4
"""Wallets fetched in parallel, so that the weight of a minute is used even if responses take seconds."""

_STAGED_FILLS = 250_000
"""Maximum number of fills waiting to be written to the lake; they are in memory when written."""

_FAILURES_IN_A_ROW = 8
"""After this many wallets in a row without a response, the run stops: the API is down."""

_HISTORIES_AT_ONCE = 64
"""Number of wallets whose responses are held in memory until they are in the lake. If the run is killed, they are fetched again.
"""


class InfoDownError(RuntimeError):
    """The info API does not respond for any wallet. The message has its last error."""


@dataclass(frozen=True, slots=True)
class WalletSelection:
    """The wallets of a shard to fetch: `wallets` (lower case; empty for all known), at most `limit` (0 for all).

    `discover`: add new wallets from hl.user_stats first.
    """

    wallets: tuple[str, ...] = ()
    limit: int = 0
    discover: bool = True


@dataclass(frozen=True, slots=True)
class Asking:
    """The work of a run on a shard: number of wallets, rows, calls, their weight, and the days with new rows."""

    wallets: int
    rows: int
    requests: int
    weight: int
    days: list[date]
    seconds: float


@dataclass(frozen=True, slots=True)
class FetchedShard:
    """The result of fetching fills, and the state of the shard's wallets: failed ones with their error, truncated ones with their
    oldest fill and the reason; the first 1,000 of each.
    """

    now: Asking
    tally: Tally
    failed: list[tuple[str, str]]
    truncated: list[tuple[str, datetime | None, str]]

    @property
    def seconds(self) -> float:
        return self.now.seconds

    @property
    def checks(self) -> list[Check]:
        return [_check_answered(self.failed), self._check_complete()]

    def _check_complete(self) -> Check:
        tally = self.tally
        description = f"{tally.complete} of {tally.wallets} wallets are complete"
        if tally.truncated:
            description += f", {tally.truncated} have more history than the API returns"
        if tally.failed:
            description += f", {tally.failed} failed"
        if tally.unasked:
            description += f", {tally.unasked} not fetched yet"
        truncated: list[dict[str, str | int]] = [
            {"wallet": wallet, "oldest": str(oldest), "why": reason} for wallet, oldest, reason in self.truncated
        ]
        return Check(
            "wallets_complete",
            tally.complete == tally.wallets,
            description + ".",
            is_harmless=True,
            metadata={"wallets_truncated": tally.truncated, "wallets_not_asked": tally.unasked}
            | ({"truncated": truncated} if truncated else {}),
        )


@dataclass(frozen=True, slots=True)
class FetchedHistories:
    """The result of fetching TWAP statuses, and the state of the shard's wallets: failed ones with their error."""

    now: Asking
    histories: Histories
    failed: list[tuple[str, str]]

    @property
    def seconds(self) -> float:
        return self.now.seconds

    @property
    def checks(self) -> list[Check]:
        return [_check_answered(self.failed), self._check_twaps()]

    def _check_twaps(self) -> Check:
        histories = self.histories
        return Check(
            "statuses_have_twaps",
            not histories.bad,
            f"{histories.statuses} statuses of {histories.asked} wallets; {histories.bad} in quarantine.",
            is_harmless=True,
            metadata={"bad_items": histories.bad},
        )


def _check_answered(failed: list[tuple[str, str]]) -> Check:
    named = "; ".join(error for _, error in failed[:3]) + ("; ..." if len(failed) > 3 else "")
    wallets: list[dict[str, str | int]] = [{"wallet": wallet, "error": error} for wallet, error in failed[:_SHOWN]]
    return Check(
        "wallets_answered",
        not failed,
        f"{len(failed)} wallets failed; run again: {named}" if failed else "No wallet failed.",
        metadata={"wallets_failed": len(failed)} | ({"failed": wallets} if wallets else {}),
    )


@dataclass(slots=True)
class _Counts:
    """Counters that the threads of a run share."""

    rows: int = 0
    requests: int = 0
    weight: int = 0
    failures_in_a_row: int = 0
    last_failure: str = ""
    is_over: bool = False


def fetch_histories(
    shard: str, selection: WalletSelection, api: InfoApi, lake: Lake, connection: psycopg.Connection
) -> FetchedHistories:
    """Fetch the TWAP statuses of all selected wallets of a shard into the lake.

    Raises InfoDownError if the API responds for none.
    """
    started = time.perf_counter()
    counts = _Counts()
    days: set[date] = set()
    with span("fetch raw_api_twap_history", shard=shard), lock_shard(connection, shard):
        wallets = wallets_without_history(connection, [shard], list(selection.wallets) or None, selection.limit or None)
        for first in range(0, len(wallets), _HISTORIES_AT_ONCE):
            days |= _fetch_batch_of_histories(wallets[first : first + _HISTORIES_AT_ONCE], shard, api, lake, connection, counts)
        days |= _match_again(shard, lake, connection)
        write_api_progress(lake, shard, read_done(connection, shard))
    return FetchedHistories(
        _sum_up(wallets, counts, days, started), read_histories(connection, shard), read_failed_histories(connection, shard)
    )


def _fetch_batch_of_histories(
    wallets: list[str], shard: str, api: InfoApi, lake: Lake, connection: psycopg.Connection, counts: _Counts
) -> set[date]:
    """Fetch some wallets into the lake and return the days of the new rows. If killed before, they are fetched again."""
    decoded: dict[str, DecodedStatuses] = {}
    before = counts.weight
    for wallet in wallets:
        try:
            answer = api.twap_history(wallet)
        except InfoError as error:
            fail_history(connection, wallet, str(error))
            emit(_log, "history_failed", level=logging.WARNING, wallet=wallet, error=error, weight=error.weight)
            counts.requests += error.requests
            counts.weight += error.weight
            counts.failures_in_a_row += not isinstance(error, InfoRefusedError)
            if counts.failures_in_a_row >= _FAILURES_IN_A_ROW:
                raise InfoDownError(f"the info API did not respond for the last {_FAILURES_IN_A_ROW} wallets: {error}") from error
            continue
        counts.failures_in_a_row = 0
        counts.requests += answer.requests
        counts.weight += answer.weight
        decoded[wallet] = decode_history(answer.items, wallet)
    bad = [(wallet, item) for wallet, statuses in decoded.items() for item in statuses.bad]
    matched, unmatched = match_twaps(
        pl.concat([pl.DataFrame(schema=TWAP_STATUS_SCHEMA), *(statuses.statuses for statuses in decoded.values())]),
        read_started_twaps(connection, wallets),
    )
    bad += unmatched
    days = _add_history(lake, shard, matched)
    of_wallet = dict(matched.group_by("wallet").len().iter_rows())
    statuses = {wallet: of_wallet.get(wallet, 0) for wallet in decoded}
    keep_histories(connection, statuses, bad, days, f"TWAP statuses from the info API, shard {shard}")
    write_bad_lines(lake, api_bad_path(shard), read_bad(connection, shard))
    counts.rows += matched.height
    emit(_log, "histories_written", shard=shard, wallets=len(decoded), rows=matched.height, weight=counts.weight - before)
    return set(days)


def _match_again(shard: str, lake: Lake, connection: psycopg.Connection) -> set[date]:
    """Write statuses to the lake whose TWAP was unknown when fetched but is now in hl.twap_statuses. Returns their days."""
    unmatched = read_unmatched(connection, shard)
    started = read_started_twaps(connection, sorted({wallet for wallet, _ in unmatched}))
    frames: list[pl.DataFrame] = []
    matched: list[tuple[str, bytes]] = []
    for wallet, item in unmatched:
        statuses = decode_history([parse_json(item)], wallet).statuses
        status_with_id, _ = match_twaps(statuses, [twap for twap in started if twap[0] == wallet])
        if status_with_id.height:
            frames.append(status_with_id)
            matched.append((wallet, item))
    if not frames:
        return set()
    days = _add_history(lake, shard, pl.concat(frames))
    forget_unmatched(connection, matched, days, f"TWAP statuses from the info API, shard {shard}")
    write_bad_lines(lake, api_bad_path(shard), read_bad(connection, shard))
    return set(days)


def _add_history(lake: Lake, shard: str, statuses: pl.DataFrame) -> list[date]:
    """Write statuses to the lake by day. Returns the days."""
    by_day = statuses.with_columns(date=pl.from_epoch("time_ns", "ns").dt.date()).partition_by("date", as_dict=True)
    for (day,), rows in by_day.items():
        add_api_history(lake, day, shard, rows.drop("date"))
    return sorted(day for (day,) in by_day)


def match_twaps(
    statuses: pl.DataFrame, started: list[tuple[str, str, datetime, int]]
) -> tuple[pl.DataFrame, list[tuple[str, BadLine]]]:
    """Return the statuses (TWAP_STATUS_SCHEMA) with their TWAP IDs, and by wallet those that match no TWAP.

    A status without an ID gets the ID of the TWAP with the same wallet, coin and start (to the ms), among these statuses and
    `started`. If several match, it stays unmatched.
    """
    ids: dict[tuple[str, str, datetime | None], set[int]] = {}
    own = statuses.filter(pl.col("twap_id").is_not_null() & pl.col("started_at").is_not_null())
    for wallet, coin, start, twap in [*own.select("wallet", "coin", "started_at", "twap_id").iter_rows(), *started]:
        ids.setdefault((wallet, coin, _to_ms(start)), set()).add(twap)
    rows: list[dict[str, Any]] = []
    unmatched: list[tuple[str, BadLine]] = []
    for row in statuses.iter_rows(named=True):
        if row["twap_id"] is not None:
            rows.append(row)
            continue
        place = (row["wallet"], row["coin"], _to_ms(row["started_at"]))
        candidates = ids.get(place, set()) if place[2] is not None else set[int]()
        if len(candidates) == 1:
            rows.append(row | {"twap_id": next(iter(candidates))})
        else:
            which = f"{len(candidates)} TWAPs are known" if candidates else "no TWAP is known"
            reason = f"{UNMATCHED}, and {which} of its wallet that began in {row['coin']} at {row['started_at']}"
            unmatched.append((row["wallet"], BadLine(row["line"], None, reason, row["raw"].encode())))
    return pl.DataFrame(rows, schema=TWAP_STATUS_SCHEMA), unmatched


def _to_ms(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def fetch_shard(
    shard: str, selection: WalletSelection, api: InfoApi, lake: Lake, connection: psycopg.Connection, settings: Settings
) -> FetchedShard:
    """Fetch the fills of all selected wallets of a shard into the lake. The error of a failed wallet is recorded with its
    progress.

    Raises InfoDownError if the API responds for none.
    """
    started = time.perf_counter()
    window = Window(settings.backfill_from, settings.backfill_to)
    with span("fetch raw_api_fills", shard=shard), lock_shard(connection, shard):
        if selection.discover:
            discover_wallets(connection)
        wallets = unfinished_wallets(connection, [shard], window, list(selection.wallets) or None, selection.limit or None)
        emit(_log, "wallets_wanted", shard=shard, wallets=len(wallets))
        counts = _Counts()
        days: set[date] = set()
        try:
            for batch in _batches(wallets):
                _ask_wallets(batch, window, api, settings, counts)
                if count_staged(connection, shard) >= _STAGED_FILLS:
                    days |= _write_staged(shard, lake, connection)
                if counts.failures_in_a_row >= _FAILURES_IN_A_ROW:
                    raise InfoDownError(
                        f"the info API did not respond for the last {counts.failures_in_a_row} wallets, so the run stops: "
                        f"{counts.last_failure}"
                    )
        finally:
            # Includes pages left by an earlier run.
            days |= _write_staged(shard, lake, connection)
            write_api_progress(lake, shard, read_done(connection, shard))
    return FetchedShard(
        _sum_up(wallets, counts, days, started),
        read_tally(connection, [shard]),
        read_failed(connection, shard),
        read_truncated(connection, shard, _SHOWN),
    )


def _sum_up(wallets: list[str], counts: _Counts, days: set[date], started: float) -> Asking:
    seconds = time.perf_counter() - started
    return Asking(len(wallets), counts.rows, counts.requests, counts.weight, sorted(days), seconds)


def _batches(wallets: list[str]) -> Iterator[list[str]]:
    """Yield batches of wallets that are fetched in parallel. What the API can return limits the size of a batch's result."""
    size = 4 * _AT_ONCE
    for first in range(0, len(wallets), size):
        yield wallets[first : first + size]


def _ask_wallets(wallets: list[str], window: Window, api: InfoApi, settings: Settings, counts: _Counts) -> None:
    url = find_database_url(settings)
    lock = threading.Lock()

    def ask(wallet: str) -> None:
        if counts.is_over or counts.failures_in_a_row >= _FAILURES_IN_A_ROW:
            return
        with connect(url, "hl raw_api_fills") as connection:
            try:
                _ask_wallet(wallet, window, api, connection, counts, lock)
            except InfoError as error:
                fail_wallet(connection, wallet, str(error), error.requests, error.weight)
                emit(_log, "wallet_failed", level=logging.WARNING, wallet=wallet, error=error, weight=error.weight)
                with lock:
                    counts.requests += error.requests
                    counts.weight += error.weight
                    # A rejected request counts as a response.
                    if not isinstance(error, InfoRefusedError):
                        counts.failures_in_a_row += 1
                        counts.last_failure = str(error)
            else:
                counts.failures_in_a_row = 0

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="wallet") as pool:
        try:
            for _ in pool.map(ask, wallets):
                pass
        except BaseException:
            counts.is_over = True
            raise


def _ask_wallet(
    wallet: str, window: Window, api: InfoApi, connection: psycopg.Connection, counts: _Counts, lock: threading.Lock
) -> None:
    """Fetch the rest of a wallet's history, and judge the result. Raises InfoError."""
    begin_wallet(connection, wallet, window)
    weight = 0
    for kind, next_ms in read_progress(connection, wallet).unwalked.items():
        seen: pl.DataFrame | None = None
        if next_ms is not None and (page := last_page(connection, wallet, kind)) is not None:
            seen = page.filter(pl.col("time").cast(pl.Int64) == next_ms).select(FILL_KEY)
        start_ms = window.first_ms if next_ms is None else next_ms
        for page in walk(api, kind, wallet, start_ms, window.last_ms, seen):
            keep_page(connection, wallet, kind, page)
            emit(_log, "page_kept", level=logging.DEBUG, wallet=wallet, kind=kind, rows=page.fills.height, weight=page.weight)
            weight += page.weight
            with lock:
                counts.rows += page.fills.height
                counts.requests += page.requests
                counts.weight += page.weight
            if counts.is_over:
                return
    progress = read_progress(connection, wallet)
    verdict = judge(
        progress.fills + progress.bad,
        count_after(connection, wallet, window),
        progress.oldest_ms,
        progress.crowded_ms,
        count_within(connection, wallet, window),
    )
    end_wallet(connection, wallet, verdict)
    emit(_log, "wallet_done", wallet=wallet, state=verdict.state, fills=verdict.fills, weight=weight)


def _write_staged(shard: str, lake: Lake, connection: psycopg.Connection) -> set[date]:
    """Write the stored pages to the lake by day, then delete them. Returns the days with new fills."""
    staged = read_staged(connection, shard)
    # Bad items are written first, so that rows never appear without them.
    write_bad_lines(lake, api_bad_path(shard), read_bad(connection, shard))
    if not staged.pages:
        return set()
    by_day = pl.concat(staged.fills).with_columns(date=pl.col("time").dt.date()).partition_by("date", as_dict=True)
    written = [add_api_fills(lake, day, shard, rows.drop("date")) for (day,), rows in sorted(by_day.items())]
    emit(_log, "shard_written", shard=shard, rows=sum(frame.height for frame in staged.fills), days=len(written))
    return set(forget_staged(connection, shard, staged, written))
