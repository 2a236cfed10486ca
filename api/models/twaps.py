"""Response models of TWAPs. docs/twaps.md defines each figure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.models.common import INFO_API, Address, Answer, Backfill, Coin, Decimal, Fees, Instant, Listed, Side, TwapId


class Analytics(Answer):
    """A row of hl.twaps. docs/twaps.md defines each figure."""

    twap_id: TwapId
    wallet: Address
    coin: Coin
    side: Side
    status: str | None
    error: str | None
    verdict: Annotated[str, Field(examples=["match"])]
    started_at: Instant | None
    begins_at: Annotated[
        Instant | None, Field(description="When the TWAP began. null: it has not begun, or no source has the time.")
    ]
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
    ts: Annotated[Instant, Field(description="When the event happened. `raw` has nanoseconds.")]
    asset: Coin
    side: Side
    size_requested: Decimal | None
    size_executed: Decimal | None
    notional_executed: Decimal | None
    status: Annotated[
        str, Field(examples=["finished"], description="Kind of event: activated, finished, terminated, error, …; an open set.")
    ]
    error: str | None
    duration_minutes: int | None
    started_at: Annotated[Instant | None, Field(description="When the TWAP was placed.")]
    reduce_only: bool | None
    randomize: bool | None
    raw: Annotated[dict[str, Any], Field(description="The row as the source has it.")]


class Twap(Answer):
    twap_id: TwapId
    rows: list[TwapEvent]
    analytics: Analytics | None


class Executed(Answer):
    size: Decimal | None
    notional: Decimal | None


class ListedTwap(Answer):
    """The latest event of a TWAP in the range, otherwise the last one before it. If it has no events, `status` is null and the
    values come from its slices.
    """

    twap_id: TwapId
    wallet: Address
    asset: Coin
    side: Side
    status: Annotated[
        str | None,
        Field(
            examples=["finished"],
            description="Kind of event: activated, finished, terminated, error, …; an open set. null: only slices are known.",
        ),
    ]
    error: str | None
    duration_minutes: int | None
    started_at: Annotated[Instant | None, Field(description="When the TWAP was placed.")]
    latest_ts: Annotated[Instant, Field(description="When the event happened. Without a status: time of the last slice.")]
    size_requested: Decimal | None
    size_executed: Annotated[Decimal | None, Field(description="As reported by the event. Without a status: sum of the slices.")]
    notional_executed: Annotated[
        Decimal | None, Field(description="As reported by the event. Without a status: sum of the slices.")
    ]
    executed: Executed
    reduce_only: bool | None
    randomize: bool | None
    raw: Annotated[
        dict[str, Any] | None,
        Field(
            description="The row as the source has it; null without a status. With `latest_per_twap=false`: "
            '`{"latest": …, "all_rows": […]}`.'
        ),
    ]
    analytics: Annotated[Analytics | None, Field(description="null: not computed yet.")]


class BackfillOfTwaps(Backfill):
    statuses_asked_at: Annotated[Instant | None, Field(description="When the statuses of its TWAPs were fetched. null: not yet.")]


class TwapList(Listed):
    wallet: Address
    start: Instant
    end: Instant
    twaps: list[ListedTwap]
    info_api: Annotated[BackfillOfTwaps | None, Field(description=INFO_API)] = None
