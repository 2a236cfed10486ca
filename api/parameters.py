"""The request parameters: their types, those of each route, and the errors for wrong ones."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Path, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

_Moment = TypeVar("_Moment", date, datetime)
Format = Literal["json", "csv", "ndjson", "parquet", "arrow"]
FileFormat = Literal["csv", "ndjson", "parquet", "arrow"]
TaxLines = Literal["twaps", "fills"]
TaxLayout = Literal["default", "koinly", "cointracker", "awaken", "awaken-spot"]
Dataset = Literal["node_trades", "node_fills", "node_fills_by_block", "twap_statuses"]
Found = Literal["present", "unprovable", "not due", "missing", "failed", "blocks missing"]
HourState = Literal[Found, "acknowledged"]
Interval = Literal["1m", "5m", "15m", "1h", "4h", "1d"]
Period = Literal["day", "week", "month", "year", "all"]
Order = Literal["desc", "asc"]
CoinSort = Literal[
    "notional", "volume", "trades", "fills", "fees_in_quote", "liquidation_notional", "twap_notional", "builder_notional"
]
WalletSort = Literal["notional", "maker_notional", "taker_notional", "fills", "closed_pnl", "fees_in_quote"]
WalletBoard = Literal["volume", "pnl", "fees"]
VolumeSort = Literal["notional", "maker_notional", "taker_notional", "fills"]
PnlSort = Literal["closed_pnl", "net_pnl"]
FeesSort = Literal["fees_in_quote"]
TwapSort = Literal["twaps", "notional", "slices", "closed_pnl"]
BuilderSort = Literal["fees_in_quote", "notional", "fills"]
LastDays = Literal["1d", "7d", "30d", "90d"]
Judged = Literal["fills", "twap_statuses"]
DayState = Literal["whole", "unprovable", "pending", "incomplete", "no source", "not judged", "not loaded", "never asked for"]

FIRST = datetime(2023, 1, 1, tzinfo=UTC)
LAST = datetime(2200, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
DEFAULT_LIMIT, MAX_LIMIT, MAX_OFFSET = 500, 5000, 1_000_000
INT64 = 2**63
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# An unescaped plus arrives as a space.
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)([Zz]|[+ -]\d\d:\d\d)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPAN = f"from {FIRST:%Y-%m-%d} to {LAST:%Y-%m-%d}"


def wrong(name: str, message: str, value: object) -> RequestValidationError:
    """Return the error for a query parameter in FastAPI's format."""
    return RequestValidationError([{"type": "value_error", "loc": ("query", name), "msg": message, "input": value}])


async def refuse_repeated(request: Request) -> None:
    """Dependency that refuses a repeated parameter instead of taking its last value. Raises RequestValidationError."""
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name in seen:
            raise wrong(name, "is given more than once", value)
        seen.add(name)


def nanoseconds(instant: datetime) -> int:
    """Return the nanoseconds since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1) * 1000


def iso(instant: datetime) -> str:
    """Format a time as the API does: UTC, with 0, 3 or 6 fractional digits."""
    digits = "seconds" if instant.microsecond == 0 else "microseconds" if instant.microsecond % 1000 else "milliseconds"
    return instant.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def _plain_integer(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,19}", value):
        raise PydanticCustomError("int_parsing", "must be a whole number")
    return value


def _plain_boolean(value: object) -> object:
    if isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise PydanticCustomError("bool_parsing", "must be true or false")
        return value.lower() == "true"
    return value


def _day(value: object) -> date:
    try:
        if not _DAY.fullmatch(str(value)):
            raise ValueError
        day = date.fromisoformat(str(value))
    except ValueError:
        raise PydanticCustomError("day", "must be a day like 2025-11-03") from None
    if not FIRST.date() <= day <= LAST.date():
        raise PydanticCustomError("day", f"must be {_SPAN}")  # pyright: ignore[reportArgumentType]
    return day


def _first_instant(value: object) -> datetime:
    return _instant(str(value), time.min)


def _last_instant(value: object) -> datetime:
    return _instant(str(value), time.max)


def _instant(text: str, of_day: time) -> datetime:
    """Parse a time in UTC, to the microsecond. For a day, return its time `of_day`."""
    try:
        if _DAY.fullmatch(text):
            instant = datetime.combine(date.fromisoformat(text), of_day, UTC)
        else:
            parts = _INSTANT.fullmatch(text)
            if parts is None:
                raise ValueError
            zone = (parts[3] or "Z").upper().replace(" ", "+")
            instant = datetime.fromisoformat(f"{parts[1]}T{parts[2]}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "instant", "must be a day (2025-11-03) or an instant (2025-11-03T12:30:00Z, 2025-11-03T12:30:00.5+02:00)"
        ) from None
    if not FIRST <= instant <= LAST:
        raise PydanticCustomError("instant", f"must be {_SPAN}")  # pyright: ignore[reportArgumentType]
    return instant


def _not_before_start(end: _Moment, info: ValidationInfo) -> _Moment:
    if "start" in info.data and end < info.data["start"]:
        raise PydanticCustomError("range", "must not be before start")
    return end


def _say_nothing_of_null(schema: dict[str, Any]) -> None:
    """Remove null from the schema: a parameter can be omitted, but not be null."""
    [kept] = [one for one in schema.pop("anyOf") if one != {"type": "null"}]
    schema.update({**kept, **schema})


_OPTIONAL = Field(json_schema_extra=_say_nothing_of_null)
_INSTANT_SCHEMA = {
    "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
    "examples": ["2025-11-03", "2025-11-03T12:30:00Z"],
}
# In a cursor: any value of a table.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Int64 = Annotated[int, Field(ge=-INT64, le=INT64 - 1)]
Wallet = Annotated[
    str,
    Field(pattern=r"^0[xX][0-9a-fA-F]{40}$", examples=["0xb90e02bd0033897061b272186d9f16340f153e87"], description="An address."),
    AfterValidator(str.lower),
]
Coin = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x20\x7f]{1,64}$",
        examples=["SOL"],
        description="A coin, case-sensitive: `SOL`, spot `PURR/USDC` or `@107`, HIP-3 `xyz:TSLA`, outcome `#1890`.",
    ),
]
Start = Annotated[
    datetime,
    BeforeValidator(_first_instant),
    WithJsonSchema(_INSTANT_SCHEMA),
    Field(description=f"Start of the range, inclusive: a day or an instant (UTC if it has no zone), {_SPAN}."),
]
End = Annotated[
    datetime,
    BeforeValidator(_last_instant),
    WithJsonSchema(_INSTANT_SCHEMA),
    Field(description=f"End of the range, inclusive: an instant (UTC if it has no zone) or a whole day, {_SPAN}."),
    AfterValidator(_not_before_start),
]
Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date", "examples": ["2025-11-03"]})]
Limit = Annotated[
    int,
    Field(ge=1, le=MAX_LIMIT, description=f"Maximum number of rows. Default: {DEFAULT_LIMIT} in JSON, no limit in a file."),
    BeforeValidator(_plain_integer),
]
_Top = Annotated[int, Field(ge=1, le=MAX_LIMIT), BeforeValidator(_plain_integer)]
WalletInPath = Annotated[
    str,
    Path(pattern=r"^0[xX][0-9a-fA-F]{40}$", examples=["0xb90e02bd0033897061b272186d9f16340f153e87"], description="An address."),
    AfterValidator(str.lower),
]
CoinInPath = Annotated[
    str,
    Path(pattern=r"^[^\x00-\x20\x7f]{1,64}$", examples=["SOL"], description="A coin, case-sensitive; escape `/`, `#` and `@`."),
]
TwapId = Annotated[
    int, Path(ge=-INT64, le=INT64 - 1, examples=[1544034], description="ID of a TWAP."), BeforeValidator(_plain_integer)
]
_Cursor = Annotated[
    str | None,
    _OPTIONAL,
    Field(description="`next_cursor` of the previous page. Only valid for the same path and the same other parameters."),
]
_Format = Annotated[
    Format | None,
    _OPTIONAL,
    Field(description="Overrides the header `Accept`. Default: JSON. Files have the whole range unless `limit` is given."),
]


class Parameters(BaseModel):
    """No parameters; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Limited(Parameters):
    limit: Limit = DEFAULT_LIMIT

    @property
    def export_limit(self) -> int | None:
        """The limit of a file, which has the whole range unless `limit` is given."""
        return self.limit if "limit" in self.model_fields_set else None


class Paged(_Limited):
    cursor: _Cursor = None


class TwapFillsAsked(Paged):
    format: _Format = None


class _Range(Parameters):
    start: Start
    end: End


class _Days(Parameters):
    start: Annotated[Day, Field(description=f"First day, {_SPAN}.")]
    end: Annotated[Day, Field(description="Last day, inclusive."), AfterValidator(_not_before_start)]


class _OfWallet(Parameters):
    wallet: Wallet


class _OfCoin(Parameters):
    coin: Coin


class _PerhapsOfWallet(Parameters):
    wallet: Annotated[Wallet | None, _OPTIONAL, Field(description="Only this address.")] = None


class _PerhapsOfCoin(Parameters):
    coin: Annotated[Coin | None, _OPTIONAL, Field(description="Only this coin.", validate_default=True)] = None


class TwapsAsked(Paged, _Range, _OfWallet):
    asset: Annotated[Coin | None, _OPTIONAL, Field(description="Only TWAPs in this coin.")] = None
    latest_per_twap: Annotated[
        bool, BeforeValidator(_plain_boolean), Field(description="If false, `raw` has all events of the TWAP in the range.")
    ] = True
    offset: Annotated[
        int,
        Field(ge=0, le=MAX_OFFSET, description="Number of rows to skip; `cursor` is faster. Default: 0."),
        BeforeValidator(_plain_integer),
    ] = 0
    format: _Format = None

    @field_validator("offset")
    @classmethod
    def _is_not_beside_a_cursor(cls, offset: int, info: ValidationInfo) -> int:
        if offset and info.data.get("cursor") is not None:
            raise PydanticCustomError("offset", "cannot be combined with cursor: use one of them")
        return offset


class FillsAsked(Paged, _Range, _PerhapsOfCoin, _PerhapsOfWallet):
    format: _Format = None

    @field_validator("coin")
    @classmethod
    def _has_a_wallet_or_a_coin(cls, coin: str | None, info: ValidationInfo) -> str | None:
        if coin is None and info.data.get("wallet", "wrong") is None:
            raise PydanticCustomError("missing", "give a wallet, a coin, or both")
        return coin


class _StatsAsked(Paged, _Days):
    period: Annotated[
        Period | None,
        _OPTIONAL,
        Field(
            description="Aggregate the days of each period; weeks begin on Monday. Default: `day`, or `all` with `sort` or `top`."
        ),
    ] = None
    order: Annotated[Order | None, _OPTIONAL, Field(description="Sort order. Default: `desc`, the largest first.")] = None
    top: Annotated[_Top | None, _OPTIONAL, Field(description="Maximum number of rows per period, the first by `sort`.")] = None
    format: _Format = None


class DailyStatsAsked(_StatsAsked, _PerhapsOfCoin):
    sort: Annotated[
        CoinSort | None,
        _OPTIONAL,
        Field(description="Column that sorts the coins of a period, largest first. Default: the name; with `top`, notional."),
    ] = None


class UserStatsAsked(_StatsAsked, _PerhapsOfWallet):
    sort: Annotated[
        WalletSort | None,
        _OPTIONAL,
        Field(
            description="Column that sorts the wallets of a period, largest first. Default: the address; with `top`, notional."
        ),
    ] = None


class CandlesAsked(Paged, _Range, _OfCoin):
    interval: Annotated[
        Interval, Field(description="Length of a candle. Candles start at multiples of it from midnight (UTC).")
    ] = "1m"
    format: _Format = None


class CoverageAsked(Paged, _Days):
    dataset: Annotated[Dataset | None, _OPTIONAL, Field(description="Only this dataset of the bucket.")] = None
    state: Annotated[HourState | None, _OPTIONAL, Field(description="Only hours in this state.")] = None
    is_hole: Annotated[
        bool | None,
        BeforeValidator(_plain_boolean),
        _OPTIONAL,
        Field(description="True: only holes, acknowledged or not. False: only hours without a hole."),
    ] = None
    format: _Format = None


class CoverageDaysAsked(Paged, _Days):
    what: Annotated[Judged | None, _OPTIONAL, Field(description="Only days of this table.")] = None
    state: Annotated[DayState | None, _OPTIONAL, Field(description="Only days in this state.")] = None
    format: _Format = None


class _PerhapsDays(Parameters):
    start: Annotated[Day | None, _OPTIONAL, Field(description="First day.")] = None
    end: Annotated[Day | None, _OPTIONAL, Field(description="Last day, inclusive.", validate_default=True)] = None

    @field_validator("end")
    @classmethod
    def _is_not_before_start(cls, end: date | None, info: ValidationInfo) -> date | None:
        start = info.data.get("start")
        return end if end is None or start is None else _not_before_start(end, info)


class WalletAsked(_PerhapsDays):
    pass


class TaxAsked(Parameters):
    year: Annotated[
        int, Field(ge=FIRST.year, le=LAST.year, description="The year (UTC).", examples=[2025]), BeforeValidator(_plain_integer)
    ]
    lines: Annotated[
        TaxLines, Field(description="`twaps`: a line per TWAP and one per fill outside TWAPs. `fills`: a line per fill.")
    ] = "twaps"
    layout: Annotated[TaxLayout, Field(description="Columns: `default`, or those that a tax program imports.")] = "default"
    format: Annotated[
        FileFormat | None, _OPTIONAL, Field(description="Overrides the header `Accept`. Default: CSV. There is no JSON.")
    ] = None


class CostAsked(_PerhapsDays):
    pass


class _RankingAsked(Paged, _PerhapsDays):
    order: Annotated[Order, Field(description="`desc`: the largest first.")] = "desc"
    top: Annotated[_Top | None, _OPTIONAL, Field(description="Maximum number of rows of all pages together.")] = None
    format: _Format = None
    period: Annotated[
        LastDays | None,
        _OPTIONAL,
        Field(
            description="Instead of `start` and `end`: this number of UTC days, ending with the newest loaded day that is over.",
            validate_default=True,
        ),
    ] = None

    @field_validator("period")
    @classmethod
    def _is_the_only_range(cls, period: LastDays | None, info: ValidationInfo) -> LastDays | None:
        if {"start", "end"} <= info.data.keys():
            given = [name for name in ("start", "end") if info.data[name] is not None]
            if period is not None and given:
                raise PydanticCustomError("period", "cannot be combined with start or end")
            if period is None and len(given) < 2:
                raise PydanticCustomError("missing", "give start and end, or a period")
        return period


class VolumeAsked(_RankingAsked):
    sort: Annotated[VolumeSort, Field(description="Column that ranks the wallets.")] = "notional"


class PnlAsked(_RankingAsked):
    sort: Annotated[PnlSort, Field(description="Column that ranks the wallets.")] = "closed_pnl"


class FeesAsked(_RankingAsked):
    sort: Annotated[FeesSort, Field(description="Column that ranks the wallets.")] = "fees_in_quote"


class TwapRankingAsked(_RankingAsked, _PerhapsOfCoin):
    sort: Annotated[TwapSort, Field(description="Column that ranks the wallets.")] = "twaps"


class BuilderRankingAsked(_RankingAsked, _PerhapsOfCoin):
    sort: Annotated[BuilderSort, Field(description="Column that ranks the builders.")] = "fees_in_quote"


class BuildersAsked(Paged, _Days, _PerhapsOfCoin):
    format: _Format = None


class TwapFlowAsked(Parameters):
    at: Annotated[
        datetime,
        BeforeValidator(_first_instant),
        WithJsonSchema(_INSTANT_SCHEMA),
        Field(description=f"The moment: an instant (UTC if it has no zone), or the beginning of a day, {_SPAN}."),
    ]


def _not_before_start_date(end: datetime, info: ValidationInfo) -> datetime:
    if (start := info.data.get("start_date")) is not None and end < start:
        raise PydanticCustomError("range", "must not be before start_date")
    return end


class _DialectAsked(_Limited):
    """What the paths of the other dialect have in common: a range that may be omitted, and paging by offset."""

    start_date: Annotated[
        datetime,
        BeforeValidator(_first_instant),
        WithJsonSchema(_INSTANT_SCHEMA),
        Field(description=f"Start of the range, inclusive: a day or an instant, {_SPAN}. Default: the first day."),
    ] = FIRST
    end_date: Annotated[
        datetime | None,
        BeforeValidator(_last_instant),
        WithJsonSchema(_INSTANT_SCHEMA),
        Field(description=f"End of the range, inclusive: an instant or a whole day, {_SPAN}. Default: now."),
        AfterValidator(_not_before_start_date),
    ] = None
    asset: Annotated[Coin | None, _OPTIONAL, Field(description="Only this coin.")] = None
    offset: Annotated[
        int, Field(ge=0, le=MAX_OFFSET, description="Number of rows to skip. Default: 0."), BeforeValidator(_plain_integer)
    ] = 0
    format: _Format = None

    @property
    def end(self) -> datetime:
        """The end of the range."""
        return self.end_date or datetime.now(UTC)


class WalletTwapsAsked(_DialectAsked):
    pass


class TradesAsked(_DialectAsked):
    wallet_addresses: Annotated[
        str | None,
        _OPTIONAL,
        Field(
            pattern=r"^0[xX][0-9a-fA-F]{40}(,0[xX][0-9a-fA-F]{40}){0,99}$",
            examples=["0xb90e02bd0033897061b272186d9f16340f153e87"],
            description="Up to 100 addresses, separated by commas.",
        ),
    ] = None
    twap_id: Annotated[
        int | None,
        _OPTIONAL,
        Field(ge=-INT64, le=INT64 - 1, description="Only the slices of this TWAP.", validate_default=True),
        BeforeValidator(_plain_integer),
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
