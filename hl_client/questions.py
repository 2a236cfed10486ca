"""The questions to the API, one method each. What a method returns is up to the class: rows, pages, or something to await."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import date, datetime
from typing import Generic, Literal, TypeVar
from urllib.parse import quote

from hl_client.plan import Question

List_co = TypeVar("List_co", covariant=True)
One_co = TypeVar("One_co", covariant=True)
Day = date | str
"""A UTC day: a date, or a text like 2025-11-03."""
Moment = datetime | date | str
"""A day, or an instant: a datetime with a time zone, or a text like 2025-11-03T12:30:00Z."""
Interval = Literal["1m", "5m", "15m", "1h", "4h", "1d"]
Period = Literal["day", "week", "month", "year", "all"]
Order = Literal["desc", "asc"]
Board = Literal["volume", "pnl", "fees", "twaps", "builders"]
LastDays = Literal["1d", "7d", "30d", "90d"]
_BOARDS: dict[Board, str] = {"twaps": "twaps_ranked", "builders": "builders_ranked"}


class Lists(ABC, Generic[List_co]):
    """The questions that have rows for an answer. `limit`: at most so many rows; without it, all of them."""

    @abstractmethod
    def _list(self, question: Question) -> List_co: ...

    def twaps(
        self,
        wallet: str,
        start: Moment,
        end: Moment,
        *,
        asset: str | None = None,
        latest_per_twap: bool = True,
        limit: int | None = None,
    ) -> List_co:
        """The TWAPs of a wallet that run in the range, newest first, with their figures in `analytics`."""
        asked = _given(wallet=wallet, start=start, end=end, asset=asset, latest_per_twap=None if latest_per_twap else "false")
        return self._list(Question(path="/api/v1/twaps", parameters=asked, kind="twaps", rows="twaps", limit=_at_least_1(limit)))

    def twap_fills(self, twap_id: int, *, limit: int | None = None) -> List_co:
        """The fills of a TWAP's slices, oldest first."""
        path = f"/api/v1/twaps/{int(twap_id)}/fills"
        return self._list(Question(path=path, kind="fills", rows="fills", limit=_at_least_1(limit)))

    def fills(
        self, start: Moment, end: Moment, *, wallet: str | None = None, coin: str | None = None, limit: int | None = None
    ) -> List_co:
        """The fills of a wallet, a coin, or both, oldest first. Without a wallet, ask for short ranges."""
        asked = _given(wallet=wallet, coin=coin, start=start, end=end)
        return self._list(Question(path="/api/v1/fills", parameters=asked, kind="fills", rows="fills", limit=_at_least_1(limit)))

    def candles(self, coin: str, start: Moment, end: Moment, *, interval: Interval = "1m", limit: int | None = None) -> List_co:
        """The candles of a coin that begin in the range, oldest first. One without a trade is left out."""
        asked = _given(coin=coin, start=start, end=end, interval=interval)
        limit = _at_least_1(limit)
        return self._list(Question(path="/api/v1/candles", parameters=asked, kind="candles", rows="candles", limit=limit))

    def stats(
        self,
        start: Day,
        end: Day,
        *,
        coin: str | None = None,
        period: Period | None = None,
        sort: str | None = None,
        order: Order | None = None,
        top: int | None = None,
        limit: int | None = None,
    ) -> List_co:
        """Volume, prices and fees by day and coin. With `period`, `sort` or `top`, days are added up and coins ranked."""
        return self._list(_stats("daily", "daily_stats", start, end, {"coin": coin}, period, sort, order, top, limit))

    def wallet_stats(
        self,
        start: Day,
        end: Day,
        *,
        wallet: str | None = None,
        period: Period | None = None,
        sort: str | None = None,
        order: Order | None = None,
        top: int | None = None,
        limit: int | None = None,
    ) -> List_co:
        """Volume, profit and fees by day and wallet. With `period`, `sort` or `top`, days are added up and wallets ranked."""
        return self._list(_stats("users", "user_stats", start, end, {"wallet": wallet}, period, sort, order, top, limit))

    def leaderboard(
        self,
        board: Board,
        *,
        start: Day | None = None,
        end: Day | None = None,
        period: LastDays | None = None,
        coin: str | None = None,
        sort: str | None = None,
        order: Order | None = None,
        top: int | None = None,
        limit: int | None = None,
    ) -> List_co:
        """Wallets or builders by rank, over `start` to `end` or over the last days of a `period`."""
        asked = _given(start=start, end=end, period=period, coin=coin, sort=sort, order=order, top=top)
        path, kind = f"/api/v1/leaderboards/{quote(board, safe='')}", _BOARDS.get(board, "wallets_ranked")
        return self._list(Question(path=path, parameters=asked, kind=kind, rows="ranking", limit=_at_least_1(limit)))

    def builders(self, start: Day, end: Day, *, coin: str | None = None, limit: int | None = None) -> List_co:
        """What went through each builder, ordered by address."""
        asked = _given(start=start, end=end, coin=coin)
        limit = _at_least_1(limit)
        return self._list(Question(path="/api/v1/builders", parameters=asked, kind="builders", rows="builders", limit=limit))

    def coverage(
        self,
        start: Day,
        end: Day,
        *,
        what: Literal["fills", "twap_statuses"] | None = None,
        state: str | None = None,
        limit: int | None = None,
    ) -> List_co:
        """The verdict on each day of the range, of fills and of TWAP statuses, loaded or not."""
        asked = _given(start=start, end=end, what=what, state=state)
        path, limit = "/api/v1/coverage/days", _at_least_1(limit)
        return self._list(Question(path=path, parameters=asked, kind="coverage_days", rows="days", limit=limit))

    def coverage_hours(
        self,
        start: Day,
        end: Day,
        *,
        dataset: str | None = None,
        state: str | None = None,
        is_hole: bool | None = None,
        limit: int | None = None,
    ) -> List_co:
        """What became of each object of the buckets that was requested, by day, dataset and hour."""
        asked = _given(start=start, end=end, dataset=dataset, state=state, is_hole=is_hole)
        limit = _at_least_1(limit)
        return self._list(Question(path="/api/v1/coverage", parameters=asked, kind="coverage_hours", rows="hours", limit=limit))


class Questions(Lists[List_co], Generic[List_co, One_co]):
    """All questions."""

    @abstractmethod
    def _one(self, question: Question) -> One_co: ...

    def twap(self, twap_id: int) -> One_co:
        """One TWAP: all its events in `rows`, newest first, and its figures in `analytics`. The coverage is that of its fills."""
        path = f"/api/v1/twaps/{int(twap_id)}"
        return self._one(Question(path=path, coverage_path=f"{path}/fills"))

    def wallet(self, wallet: str, *, start: Day | None = None, end: Day | None = None) -> One_co:
        """What a wallet did: first and last fill, volume, profit, fees and TWAPs. Default: all loaded days."""
        return self._one(Question(path=f"/api/v1/wallets/{quote(wallet, safe='')}", parameters=_given(start=start, end=end)))

    def twap_flow(self, coin: str, at: Moment) -> One_co:
        """The TWAPs of a coin that run at a moment: what they executed, and what their schedules still bring."""
        return self._one(Question(path=f"/api/v1/coins/{quote(coin, safe='')}/twap-flow", parameters=_given(at=at)))

    def cost(self, *, start: Day | None = None, end: Day | None = None) -> One_co:
        """What the downloads from the buckets cost: requests, bytes and US dollars, and the budget of this month."""
        return self._one(Question(path="/api/v1/cost", parameters=_given(start=start, end=end)))


def _stats(
    name: str,
    kind: str,
    start: Day,
    end: Day,
    of: dict[str, str | None],
    period: Period | None,
    sort: str | None,
    order: Order | None,
    top: int | None,
    limit: int | None,
) -> Question:
    asked = _given(start=start, end=end, **of, period=period, sort=sort, order=order, top=top)
    # As the API decides it: docs/rest/statistics.md.
    adds_up = period not in (None, "day") or any(one is not None for one in (sort, order, top))
    kind = f"{kind}_by" if adds_up else kind
    return Question(path=f"/api/v1/stats/{name}", parameters=asked, kind=kind, rows="stats", limit=_at_least_1(limit))


def _given(**values: Moment | int | bool | None) -> dict[str, str]:
    return {name: _as_text(name, value) for name, value in values.items() if value is not None}


def _as_text(name: str, value: Moment | int | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{name}: {value} has no time zone; give one, such as tzinfo=datetime.UTC")
        return value.isoformat()
    return str(value)


def _at_least_1(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit: must be at least 1, not {limit}")
    return limit
