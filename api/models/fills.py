"""Response models of fills. docs/reference/tables-fills.md explains each column."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.models.common import Address, Answer, Coin, Decimal, Hex, Instant, Listed, OfInfoApi, Side, TwapId


class Fill(Answer):
    """A row of hl.fills."""

    time: Instant
    block_number: int | None
    block_time_ns: Annotated[str | None, Field(pattern=r"^\d+$")]
    coin: Coin
    wallet: Address
    side: Side
    px: Decimal
    sz: Decimal
    start_position: Decimal | None
    dir: str | None
    closed_pnl: Decimal | None
    hash: Hex | None
    oid: int | None
    counterparty_oid: int | None
    crossed: bool | None
    fee: Decimal | None
    tid: int | None
    cloid: Hex | None
    fee_token: str | None
    builder: str | None
    builder_fee: Decimal | None
    deployer_fee: Decimal | None
    priority_gas: Decimal | None
    twap_id: TwapId | None
    liquidated_user: str | None
    liquidation_mark_px: Decimal | None
    liquidation_method: str | None
    extra: Any
    object_id: int
    ordinal: int | None


class FillList(Listed):
    wallet: Address | None
    coin: Coin | None
    start: Instant
    end: Instant
    fills: list[Fill]
    info_api: OfInfoApi = None


class TwapFillList(Listed):
    twap_id: TwapId
    fills: list[Fill]
