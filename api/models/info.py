"""The bodies that `POST /info` accepts: those of Hyperliquid's info API. Unknown members are ignored, as there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool
from pydantic.alias_generators import to_camel

from api.parameters import LAST, Coin, Wallet

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MS = (LAST - _EPOCH) // timedelta(milliseconds=1)
Milliseconds = Annotated[int, Field(strict=True, ge=0, le=LAST_MS)]
Interval = Literal["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "8h", "12h", "1d"]


class _Asked(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class UserFills(_Asked):
    type: Literal["userFills", "userTwapSliceFills"]
    user: Wallet
    aggregate_by_time: StrictBool | None = None


class UserFillsByTime(_Asked):
    type: Literal["userFillsByTime", "userTwapSliceFillsByTime"]
    user: Wallet
    start_time: Milliseconds
    end_time: Milliseconds | None = None
    aggregate_by_time: StrictBool | None = None
    reversed: StrictBool | None = None


class TwapHistory(_Asked):
    type: Literal["twapHistory"]
    user: Wallet


class _CandlesAsked(_Asked):
    coin: Coin
    interval: Interval
    start_time: Milliseconds
    end_time: Milliseconds | None = None


class CandleSnapshot(_Asked):
    type: Literal["candleSnapshot"]
    req: _CandlesAsked


class Meta(_Asked):
    type: Literal["meta"]
    dex: str | None = None


class SpotMeta(_Asked):
    type: Literal["spotMeta"]


Asked = UserFills | UserFillsByTime | TwapHistory | CandleSnapshot | Meta | SpotMeta
