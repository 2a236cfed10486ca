"""The parameters of TWAPs, fills and trades, and of a wallet's tax file. Types are in api/parameters.py."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from api.parameters import (
    FIRST,
    INSTANT_SCHEMA,
    INT64,
    LAST,
    MAX_OFFSET,
    OPTIONAL,
    SPAN,
    Coin,
    FileFormat,
    InFormat,
    InRange,
    Limited,
    OfWallet,
    Paged,
    Parameters,
    PerhapsOfCoin,
    PerhapsOfWallet,
    TaxLayout,
    TaxLines,
    first_instant,
    last_instant,
    plain_boolean,
    plain_integer,
)


class TwapsAsked(Paged, InRange, OfWallet):
    """Of /api/v1/twaps."""

    asset: Annotated[Coin | None, OPTIONAL, Field(description="Only TWAPs in this coin.")] = None
    latest_per_twap: Annotated[
        bool, BeforeValidator(plain_boolean), Field(description="If false, `raw` has all events of the TWAP in the range.")
    ] = True
    offset: Annotated[
        int,
        Field(ge=0, le=MAX_OFFSET, description="Number of rows to skip; `cursor` is faster. Default: 0."),
        BeforeValidator(plain_integer),
    ] = 0
    format: InFormat = None

    @field_validator("offset")
    @classmethod
    def _is_not_beside_a_cursor(cls, offset: int, info: ValidationInfo) -> int:
        if offset and info.data.get("cursor") is not None:
            raise PydanticCustomError("offset", "cannot be combined with cursor: use one of them")
        return offset


class TwapFillsAsked(Paged):
    """Of /api/v1/twaps/{twap_id}/fills."""

    format: InFormat = None


class FillsAsked(Paged, InRange, PerhapsOfCoin, PerhapsOfWallet):
    """Of /api/v1/fills."""

    format: InFormat = None

    @field_validator("coin")
    @classmethod
    def _has_a_wallet_or_a_coin(cls, coin: str | None, info: ValidationInfo) -> str | None:
        if coin is None and info.data.get("wallet", "wrong") is None:
            raise PydanticCustomError("missing", "give a wallet, a coin, or both")
        return coin


class TaxAsked(Parameters):
    """Of /api/v1/wallets/{wallet}/tax."""

    year: Annotated[
        int, Field(ge=FIRST.year, le=LAST.year, description="The year (UTC).", examples=[2025]), BeforeValidator(plain_integer)
    ]
    lines: Annotated[
        TaxLines, Field(description="`twaps`: a line per TWAP and one per fill outside TWAPs. `fills`: a line per fill.")
    ] = "twaps"
    layout: Annotated[TaxLayout, Field(description="Columns: `default`, or those that a tax program imports.")] = "default"
    format: Annotated[
        FileFormat | None, OPTIONAL, Field(description="Overrides the header `Accept`. Default: CSV. There is no JSON.")
    ] = None


def _not_before_start_date(end: datetime, info: ValidationInfo) -> datetime:
    if (start := info.data.get("start_date")) is not None and end < start:
        raise PydanticCustomError("range", "must not be before start_date")
    return end


class _DialectAsked(Limited):
    """What the paths of the other dialect have in common: a range that may be omitted, and paging by offset."""

    start_date: Annotated[
        datetime,
        BeforeValidator(first_instant),
        WithJsonSchema(INSTANT_SCHEMA),
        Field(description=f"Start of the range, inclusive: a day or an instant, {SPAN}. Default: the first day."),
    ] = FIRST
    end_date: Annotated[
        datetime | None,
        BeforeValidator(last_instant),
        WithJsonSchema(INSTANT_SCHEMA),
        Field(description=f"End of the range, inclusive: an instant or a whole day, {SPAN}. Default: now."),
        AfterValidator(_not_before_start_date),
    ] = None
    asset: Annotated[Coin | None, OPTIONAL, Field(description="Only this coin.")] = None
    offset: Annotated[
        int, Field(ge=0, le=MAX_OFFSET, description="Number of rows to skip. Default: 0."), BeforeValidator(plain_integer)
    ] = 0
    format: InFormat = None

    @property
    def end(self) -> datetime:
        """The end of the range."""
        return self.end_date or datetime.now(UTC)


class WalletTwapsAsked(_DialectAsked):
    """Of /api/v1/wallets/{wallet}/twaps."""


class TradesAsked(_DialectAsked):
    """Of /api/v1/trades."""

    wallet_addresses: Annotated[
        str | None,
        OPTIONAL,
        Field(
            pattern=r"^0[xX][0-9a-fA-F]{40}(,0[xX][0-9a-fA-F]{40}){0,99}$",
            examples=["0xb90e02bd0033897061b272186d9f16340f153e87"],
            description="Up to 100 addresses, separated by commas.",
        ),
    ] = None
    twap_id: Annotated[
        int | None,
        OPTIONAL,
        Field(ge=-INT64, le=INT64 - 1, description="Only the slices of this TWAP.", validate_default=True),
        BeforeValidator(plain_integer),
    ] = None

    @property
    def wallets(self) -> list[str]:
        """The addresses, each once."""
        return list(dict.fromkeys((self.wallet_addresses or "").lower().split(","))) if self.wallet_addresses else []

    @field_validator("twap_id")
    @classmethod
    def _has_a_filter(cls, twap_id: int | None, info: ValidationInfo) -> int | None:
        if twap_id is None and info.data.get("wallet_addresses", "wrong") is None and info.data.get("asset", "wrong") is None:
            raise PydanticCustomError("missing", "give wallet_addresses, an asset, a twap_id, or several of them")
        return twap_id
