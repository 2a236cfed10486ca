"""Response models of the other dialect: rows of the other paths, in lists that are paged by offset."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.models.common import INFO_API, Address, Answer, Day, Instant, OfInfoApi, Run
from api.models.fills import Fill
from api.models.service import Health
from api.models.twaps import BackfillOfTwaps, ListedTwap


class _Paged(Answer):
    limit: int
    offset: int
    next_offset: Annotated[int | None, Field(description="`offset` of the next page. null: this is the last page.")]
    coverage: Annotated[list[Run], Field(description="Which days of the range are in the database, without gaps.")]


class TradeList(_Paged):
    trades: Annotated[list[Fill], Field(description="Oldest first. Each leg of a trade is a row.")]
    info_api: OfInfoApi = None


class WalletTwapList(_Paged):
    wallet: Address
    start_date: Instant
    end_date: Instant
    twaps: Annotated[list[ListedTwap], Field(description="Newest first.")]
    info_api: Annotated[BackfillOfTwaps | None, Field(description=INFO_API)] = None


class LoadedDays(Answer):
    first: Day | None
    last: Day | None
    days: Annotated[int, Field(description="Number of loaded days.")]
    whole_days: Annotated[int, Field(description="Number of them that are whole.")]


class Status(Health):
    version: str
    fills: Annotated[LoadedDays | None, Field(description="Days of fills. null: the database does not answer.")]
    twap_statuses: Annotated[LoadedDays | None, Field(description="Days of TWAP statuses. No source can prove one to be whole.")]
