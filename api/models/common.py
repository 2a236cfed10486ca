"""What answers of several paths have in common: types of values, lists, errors, how far the data reaches.

Decimals are texts: exact, without exponent or trailing zeros.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.export import COVERAGE_HEADERS, MEDIA_TYPES
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


class UnknownCoin(Problem):
    detail: Annotated[str, Field(examples=["no coin 'btc' was ever seen in the days that are loaded; did you mean BTC?"])]
    candidates: Annotated[list[str], Field(description="Coins that were seen, the likeliest first.", examples=[["BTC"]])]


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
        Field(description="unprovable: all objects are there, but a missing row would not show. partial: some are missing."),
    ]
    note: Annotated[str, Field(description="Why, where that is the same for all days of the run.")] = ""
    holes: Annotated[int, Field(description="Number of hours of the bucket with a hole that nobody has acknowledged.")] = 0
    acknowledged: Annotated[int, Field(description="Number of hours with an acknowledged hole.")] = 0
    hours: Annotated[
        list[Hole], Field(max_length=24, description="The first of both, what is not acknowledged before what is.")
    ] = []


class Listed(Answer):
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; null: this was the last.")]
    coverage: Annotated[list[Run], Field(description="Which days of the range are in the database, without gaps.")]


class Backfill(Answer):
    """The range for which the info API was asked about a wallet: from `from` up to, but not including, `to`."""

    state: Annotated[
        Literal["not asked", "started", "complete", "truncated", "failed"],
        Field(description="truncated: the API reaches no more of the wallet, older fills may lack."),
    ]
    from_: Annotated[Instant | None, Field(alias="from")]
    to: Instant | None
    oldest: Annotated[Instant | None, Field(description="The oldest fill that came; null: none did.")]
    note: Annotated[str, Field(description="Why it is truncated, or failed.")] = ""


INFO_API = "What the info API was asked for of the wallet, where the range is from before the buckets, or from its window."
OfInfoApi = Annotated[Backfill | None, Field(description=INFO_API)]


INVALID: dict[int | str, dict[str, Any]] = {422: {"model": Invalid, "description": "A parameter is wrong: which, and why."}}
ERRORS: dict[int | str, dict[str, Any]] = {
    **INVALID,
    503: {"model": Problem, "description": "The database is away, not ready, or busy."},
    504: {"model": Problem, "description": "The query took too long: ask for less."},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such TWAP."}}
CHANGED: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Fills at the cursor were loaded again in another order: from where to ask again."}
}
UNKNOWN_COIN: dict[int | str, dict[str, Any]] = {
    404: {"model": UnknownCoin, "description": "No such coin was ever seen: which one was likely meant."}
}
EXPORTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {MEDIA_TYPES["csv"]: {"schema": {"type": "string"}}, MEDIA_TYPES["parquet"]: {"schema": {"type": "string"}}},
        "headers": {
            name: {"description": f"Of CSV and Parquet: {text}", "schema": {"type": "string"}}
            for name, text in COVERAGE_HEADERS.items()
        },
    }
}
