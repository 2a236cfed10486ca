"""Types of request parameters, what several routes share, and the errors for wrong ones. Those of each route are in api/asked."""

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
SPAN = f"from {FIRST:%Y-%m-%d} to {LAST:%Y-%m-%d}"


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


def plain_integer(value: object) -> object:
    """Refuse what Pydantic also takes for a whole number, such as `1_000`."""
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,19}", value):
        raise PydanticCustomError("int_parsing", "must be a whole number")
    return value


def plain_boolean(value: object) -> object:
    """Refuse what Pydantic also takes for true or false, such as `yes`."""
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
        raise PydanticCustomError("day", f"must be {SPAN}")  # pyright: ignore[reportArgumentType]
    return day


def first_instant(value: object) -> datetime:
    """Parse an instant, or the first of a day."""
    return _instant(str(value), time.min)


def last_instant(value: object) -> datetime:
    """Parse an instant, or the last of a day."""
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
        raise PydanticCustomError("instant", f"must be {SPAN}")  # pyright: ignore[reportArgumentType]
    return instant


def _not_before_start(end: _Moment, info: ValidationInfo) -> _Moment:
    if "start" in info.data and end < info.data["start"]:
        raise PydanticCustomError("range", "must not be before start")
    return end


def _say_nothing_of_null(schema: dict[str, Any]) -> None:
    """Remove null from the schema: a parameter can be omitted, but not be null."""
    [kept] = [one for one in schema.pop("anyOf") if one != {"type": "null"}]
    schema.update({**kept, **schema})


OPTIONAL = Field(json_schema_extra=_say_nothing_of_null)
INSTANT_SCHEMA = {
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
    BeforeValidator(first_instant),
    WithJsonSchema(INSTANT_SCHEMA),
    Field(description=f"Start of the range, inclusive: a day or an instant (UTC if it has no zone), {SPAN}."),
]
End = Annotated[
    datetime,
    BeforeValidator(last_instant),
    WithJsonSchema(INSTANT_SCHEMA),
    Field(description=f"End of the range, inclusive: an instant (UTC if it has no zone) or a whole day, {SPAN}."),
    AfterValidator(_not_before_start),
]
Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date", "examples": ["2025-11-03"]})]
Limit = Annotated[
    int,
    Field(ge=1, le=MAX_LIMIT, description=f"Maximum number of rows. Default: {DEFAULT_LIMIT} in JSON, no limit in a file."),
    BeforeValidator(plain_integer),
]
Top = Annotated[int, Field(ge=1, le=MAX_LIMIT), BeforeValidator(plain_integer)]
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
    int, Path(ge=-INT64, le=INT64 - 1, examples=[1544034], description="ID of a TWAP."), BeforeValidator(plain_integer)
]
_Cursor = Annotated[
    str | None,
    OPTIONAL,
    Field(description="`next_cursor` of the previous page. Only valid for the same path and the same other parameters."),
]
InFormat = Annotated[
    Format | None,
    OPTIONAL,
    Field(description="Overrides the header `Accept`. Default: JSON. Files have the whole range unless `limit` is given."),
]


class Parameters(BaseModel):
    """No parameters; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Limited(Parameters):
    limit: Limit = DEFAULT_LIMIT

    @property
    def export_limit(self) -> int | None:
        """The limit of a file, which has the whole range unless `limit` is given."""
        return self.limit if "limit" in self.model_fields_set else None


class Paged(Limited):
    cursor: _Cursor = None


class InRange(Parameters):
    start: Start
    end: End


class OnDays(Parameters):
    start: Annotated[Day, Field(description=f"First day, {SPAN}.")]
    end: Annotated[Day, Field(description="Last day, inclusive."), AfterValidator(_not_before_start)]


class OfWallet(Parameters):
    wallet: Wallet


class OfCoin(Parameters):
    coin: Coin


class PerhapsOfWallet(Parameters):
    wallet: Annotated[Wallet | None, OPTIONAL, Field(description="Only this address.")] = None


class PerhapsOfCoin(Parameters):
    coin: Annotated[Coin | None, OPTIONAL, Field(description="Only this coin.", validate_default=True)] = None


class PerhapsOnDays(Parameters):
    start: Annotated[Day | None, OPTIONAL, Field(description="First day.")] = None
    end: Annotated[Day | None, OPTIONAL, Field(description="Last day, inclusive.", validate_default=True)] = None

    @field_validator("end")
    @classmethod
    def _is_not_before_start(cls, end: date | None, info: ValidationInfo) -> date | None:
        start = info.data.get("start")
        return end if end is None or start is None else _not_before_start(end, info)
