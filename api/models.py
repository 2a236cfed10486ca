"""What answers look like, for /docs and /openapi.json. Decimals are texts: exact, without exponent or trailing zeros."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.export import MEDIA_TYPES
from api.parameters import Dataset

Decimal = Annotated[str, Field(pattern=r"^-?\d+(\.\d*[1-9])?$", examples=["9050.25"])]
Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2025-11-03T12:30:00Z"])]
Day = Annotated[str, Field(json_schema_extra={"format": "date"}, examples=["2025-11-03"])]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-f]+$", examples=["0xb90e02bd0033897061b272186d9f16340f153e87"])]
Hex = Annotated[str, Field(pattern=r"^0x[0-9a-f]*$")]
Coin = Annotated[str, Field(examples=["SOL"])]
Side = Annotated[Literal["A", "B"], Field(description="B: buys, A: sells.")]
TwapId = Annotated[str, Field(pattern=r"^-?\d+$", examples=["1544034"])]
Fees = Annotated[dict[str, Decimal] | None, Field(description="By token; rebates are negative.", examples=[{"USDC": "12.5"}])]


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(Answer):
    detail: Annotated[str, Field(examples=["TWAP ID 123456 not found"])]


class WrongParameter(Answer):
    type: str
    loc: Annotated[list[str | int], Field(examples=[["query", "wallet"]])]
    msg: str
    input: Any


class Invalid(Answer):
    detail: list[WrongParameter]


class Hole(Answer):
    """An hour of the bucket in which something lacks."""

    source: Dataset
    object_date: Day
    object_hour: Annotated[int | None, Field(description="Not there: all objects of the day that have no hour.")] = None
    state: Literal["missing", "failed", "blocks missing", "acknowledged"]


class Run(Answer):
    """Days, both ends in it, of which the same is to be said."""

    from_: Annotated[Day, Field(alias="from")]
    to: Day
    state: Annotated[
        Literal["whole", "unprovable", "partial", "absent"],
        Field(description="unprovable: all objects are there, nothing proves that they lack no row. partial: some lack."),
    ]
    note: Annotated[str, Field(description="Why, where that is the same for all days of the run.")] = ""
    holes: Annotated[int, Field(description="So many hours of the bucket lack something that nobody has acknowledged.")] = 0
    acknowledged: Annotated[int, Field(description="So many lack something that people know of.")] = 0
    hours: Annotated[
        list[Hole], Field(max_length=24, description="The first of both, what is not acknowledged before what is.")
    ] = []


class Listed(Answer):
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; null: this was the last.")]
    coverage: Annotated[list[Run], Field(description="Which days of the range are in the database, without gaps.")]


class Analytics(Answer):
    """The row of hl.twaps: docs/twaps.md defines each figure."""

    twap_id: TwapId
    wallet: Address
    coin: Coin
    side: Side
    status: str | None
    error: str | None
    verdict: Annotated[str, Field(examples=["match"])]
    started_at: Instant | None
    begins_at: Instant
    planned_end: Instant | None
    ended_at: Instant | None
    duration_minutes: int | None
    reduce_only: bool | None
    randomize: bool | None
    statuses: int
    size_requested: Decimal | None
    size_reported: Decimal | None
    notional_reported: Decimal | None
    fills: int
    slices: int
    slices_due: int | None
    size_observed: Decimal
    notional_observed: Decimal
    first_slice_at: Instant | None
    last_slice_at: Instant | None
    vwap: Decimal | None
    whole_minutes: int
    market_volume: Decimal | None
    market_notional: Decimal | None
    market_vwap: Decimal | None
    own_volume: Decimal
    own_notional: Decimal
    market_vwap_without_own: Decimal | None
    participation: Decimal | None
    arrival_px: Decimal | None
    slippage_bps: Decimal | None
    slippage_without_own_bps: Decimal | None
    slippage_arrival_bps: Decimal | None
    schedule_deviation: Decimal | None
    maker_share: Decimal | None
    fees: Fees
    closed_pnl: Decimal | None
    is_complete: bool | None
    seen_from: Instant
    seen_to: Instant


class TwapEvent(Answer):
    wallet: Address
    ts: Annotated[Instant, Field(description="When it happened; `raw` has it to the nanosecond.")]
    asset: Coin
    side: Side
    size_requested: Decimal | None
    size_executed: Decimal | None
    notional_executed: Decimal | None
    status: Annotated[str, Field(examples=["finished"], description="activated, finished, terminated, error, …: an open set.")]
    error: str | None
    duration_minutes: int | None
    started_at: Annotated[Instant | None, Field(description="When the TWAP was placed.")]
    reduce_only: bool | None
    randomize: bool | None
    raw: Annotated[dict[str, Any], Field(description="The source's own row.")]


class Twap(Answer):
    twap_id: TwapId
    rows: list[TwapEvent]
    analytics: Analytics | None


class Executed(Answer):
    size: Decimal | None
    notional: Decimal | None


class ListedTwap(Answer):
    """The latest event of a TWAP in the range."""

    twap_id: TwapId
    wallet: Address
    asset: Coin
    side: Side
    status: Annotated[str, Field(examples=["finished"], description="activated, finished, terminated, error, …: an open set.")]
    error: str | None
    duration_minutes: int | None
    started_at: Annotated[Instant | None, Field(description="When the TWAP was placed.")]
    latest_ts: Annotated[Instant, Field(description="When the event happened.")]
    size_requested: Decimal | None
    size_executed: Decimal | None
    notional_executed: Decimal | None
    executed: Executed
    reduce_only: bool | None
    randomize: bool | None
    raw: Annotated[dict[str, Any], Field(description='The source\'s own row; or, asked for, `{"latest": …, "all_rows": […]}`.')]
    analytics: Annotated[Analytics | None, Field(description="null: not made yet.")]


class Backfill(Answer):
    """How far the info API was asked for a wallet, from `from` to `to` (which is not in it)."""

    state: Annotated[
        Literal["not asked", "started", "complete", "truncated", "failed"],
        Field(description="truncated: the API reaches no more of the wallet, older fills may lack."),
    ]
    from_: Annotated[Instant | None, Field(alias="from")]
    to: Instant | None
    oldest: Annotated[Instant | None, Field(description="The oldest fill that came; null: none did.")]
    note: Annotated[str, Field(description="Why it is truncated, or failed.")] = ""


class BackfillOfTwaps(Backfill):
    statuses_asked_at: Annotated[
        Instant | None, Field(description="When it was asked for the statuses of its TWAPs; null: not yet.")
    ]


_INFO_API = "What the info API was asked for of the wallet, where the range is from before the buckets, or from its window."
OfInfoApi = Annotated[Backfill | None, Field(description=_INFO_API)]


class TwapList(Listed):
    wallet: Address
    start: Instant
    end: Instant
    twaps: list[ListedTwap]
    info_api: Annotated[BackfillOfTwaps | None, Field(description=_INFO_API)] = None


class Health(Answer):
    status: Literal["healthy", "degraded"]
    database: Annotated[str, Field(examples=["connected"], description="connected, or error: and why.")]
    last_ingested_object: str | None
    last_ingested_at: Instant | None


class Service(Answer):
    service: str
    version: str
    docs: str
    openapi: str
    health: str
    metrics: str


INVALID: dict[int | str, dict[str, Any]] = {422: {"model": Invalid, "description": "A parameter is wrong: which, and why."}}
ERRORS: dict[int | str, dict[str, Any]] = {
    **INVALID,
    503: {"model": Problem, "description": "The database is away, not ready, or busy."},
    504: {"model": Problem, "description": "The query took too long: ask for less."},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such TWAP."}}
EXPORTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPES["csv"]: {"schema": {"type": "string"}}, MEDIA_TYPES["parquet"]: {"schema": {"type": "string"}}}}
}
