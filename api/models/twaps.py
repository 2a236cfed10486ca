"""What answers about TWAPs look like. docs/twaps.md defines each figure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.models.common import INFO_API, Address, Answer, Backfill, Coin, Decimal, Fees, Instant, Listed, Side, TwapId


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
    begins_at: Annotated[Instant | None, Field(description="null: it has not begun, or no source says when.")]
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
    whole_minutes: int | None
    market_volume: Decimal | None
    market_notional: Decimal | None
    market_vwap: Decimal | None
    own_volume: Decimal | None
    own_notional: Decimal | None
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
    """The latest event of a TWAP in the range, else the last one before; without either what its slices tell, `status` null."""

    twap_id: TwapId
    wallet: Address
    asset: Coin
    side: Side
    status: Annotated[
        str | None,
        Field(
            examples=["finished"],
            description="activated, finished, terminated, error, …: an open set. null: no event of it is known, its slices are.",
        ),
    ]
    error: str | None
    duration_minutes: int | None
    started_at: Annotated[Instant | None, Field(description="When the TWAP was placed.")]
    latest_ts: Annotated[Instant, Field(description="When the event happened; without a status, its last slice.")]
    size_requested: Decimal | None
    size_executed: Annotated[Decimal | None, Field(description="As the event says; without a status, of its slices.")]
    notional_executed: Annotated[Decimal | None, Field(description="As the event says; without a status, of its slices.")]
    executed: Executed
    reduce_only: bool | None
    randomize: bool | None
    raw: Annotated[
        dict[str, Any] | None,
        Field(description='The source\'s own row, null without a status; or, asked for, `{"latest": …, "all_rows": […]}`.'),
    ]
    analytics: Annotated[Analytics | None, Field(description="null: not made yet.")]


class BackfillOfTwaps(Backfill):
    statuses_asked_at: Annotated[
        Instant | None, Field(description="When it was asked for the statuses of its TWAPs; null: not yet.")
    ]


class TwapList(Listed):
    wallet: Address
    start: Instant
    end: Instant
    twaps: list[ListedTwap]
    info_api: Annotated[BackfillOfTwaps | None, Field(description=INFO_API)] = None
