"""Reads a wallet's history from the info API page by page, oldest first, and judges whether it is complete. `info` sends the
requests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import polars as pl

from hl_pipeline.domain.records import HistoryKind, HistoryPage, WalletVerdict
from hl_pipeline.formats.api_fills import decode_fills, decode_twap_slices
from hl_pipeline.formats.decoding import Decoded
from hl_pipeline.formats.exact_decode import Json
from hl_pipeline.formats.fills import FILL_KEY, empty_fills
from hl_pipeline.sources.info import PAGE_ITEMS, Answer, InfoApi, InfoError

REACHABLE_FILLS = 10_000
"""Number of a wallet's newest fills that the API can return, over its whole history, whatever the window."""

_ASK: dict[HistoryKind, Callable[[InfoApi, str, int, int], Answer]] = {
    "fills": InfoApi.user_fills_by_time,
    "twap_slices": InfoApi.user_twap_slice_fills_by_time,
}
_DECODE: dict[HistoryKind, Callable[[list[Json], str, int], Decoded]] = {"fills": decode_fills, "twap_slices": decode_twap_slices}


def walk(
    api: InfoApi, kind: HistoryKind, wallet: str, start_ms: int, end_ms: int, seen: pl.DataFrame | None = None
) -> Iterator[HistoryPage]:
    """Yield pages of a wallet's new fills of a kind, from `start_ms` to `end_ms` (ms since 1970, both inclusive).

    To continue an interrupted walk, start at the last page's `next_ms`. That millisecond is fetched again, without the fills in
    `seen` (columns of FILL_KEY). Raises InfoError, also for a full page that is not sorted by time.
    """
    if seen is None:
        seen = empty_fills()
    seen_bad: set[bytes] = set()
    line = 1
    asked_ms = start_ms
    while True:
        answer = _ASK[kind](api, wallet, asked_ms, end_ms)
        decoded = _DECODE[kind](answer.items, wallet, line)
        line += len(answer.items)
        next_ms: int | None = None
        crowded_ms: int | None = None
        if len(answer.items) >= PAGE_ITEMS:
            next_ms = _last_ms(decoded, answer, asked_ms, end_ms, f"{wallet}: {kind} from {asked_ms}")
            if next_ms == asked_ms:
                crowded_ms, next_ms = asked_ms, (asked_ms + 1 if asked_ms < end_ms else None)
        once = decoded.fills.unique(FILL_KEY, keep="first", maintain_order=True)
        new = once.join(seen, on=FILL_KEY, how="anti", maintain_order="left")
        bad = [item for item in decoded.bad if item.text not in seen_bad]
        yield HistoryPage(new, bad, next_ms, crowded_ms, answer.requests, answer.weight)
        if next_ms is None:
            return
        # The next page repeats the fills of the millisecond where it starts.
        asked_ms = next_ms
        seen = once.filter(pl.col("time").cast(pl.Int64) == next_ms)
        seen_bad = {item.text for item in decoded.bad}


def _last_ms(decoded: Decoded, answer: Answer, asked_ms: int, end_ms: int, name: str) -> int:
    """Return the time of the last fill of a full page. Raises InfoError if it does not determine the next page."""
    times = decoded.fills["time"].cast(pl.Int64)
    if times.is_empty():
        why = f"none of the {decoded.lines} items of the page can be read: {decoded.bad[0].reason}"
    elif not times.is_sorted() or times[0] < asked_ms or times[-1] > end_ms:
        why = (
            f"a full page of fills from {times.min()} to {times.max()} is not sorted by time, or outside the requested window, "
            f"which ends at {end_ms}: the rest cannot be requested"
        )
    else:
        return times[-1]
    raise InfoError(f"{name}: {why}", answer.requests, answer.weight)


def judge(came: int, after: int, oldest_ms: int | None, crowded_ms: Collection[int] = (), within: int = 0) -> WalletVerdict:
    """Judge whether a wallet's window is complete. `came`: fills and slices from both walks, including bad ones. `after` and
    `within`: fills in the warehouse after and within the window. `oldest_ms`: the oldest fetched fill. `crowded_ms`: from the
    pages.

    It is unknown whether the API returns 10,000 fills and as many slices, or 10,000 of both together. Both are counted together,
    so a wallet reported as complete is complete either way.
    """
    reasons: list[str] = []
    if came + after >= REACHABLE_FILLS:
        reasons.append(
            f"{came} fills were fetched and {after} are known after the window: the API returns at most {REACHABLE_FILLS} per "
            "wallet, so older ones may be missing"
        )
    if came < within:
        reasons.append(f"{came} fills were fetched, but {within} in the window are known from other sources")
    if crowded_ms:
        moments = ", ".join(map(str, sorted(crowded_ms)))
        reasons.append(f"one millisecond fills a whole page of {PAGE_ITEMS}, so more fills may exist, at: {moments}")
    return WalletVerdict("truncated" if reasons else "complete", came, oldest_ms, "; ".join(reasons) or None)
