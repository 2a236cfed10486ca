"""Shared response models: value types, lists, errors, coverage.

Decimals are strings: exact, without exponent or trailing zeros.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.export import COVERAGE_HEADERS, PAGE_HEADERS
from api.file_formats import FILE_FORMATS, MEDIA_TYPES
from api.parameters import Dataset

Decimal = Annotated[str, Field(pattern=r"^-?\d+(\.\d*[1-9])?$", examples=["9050.25"])]
Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2025-11-03T12:30:00Z"])]
Day = Annotated[str, Field(json_schema_extra={"format": "date"}, examples=["2025-11-03"])]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-f]+$", examples=["0xb90e02bd0033897061b272186d9f16340f153e87"])]
Hex = Annotated[str, Field(pattern=r"^0x[0-9a-f]*$")]
Coin = Annotated[str, Field(examples=["SOL"])]
Side = Annotated[Literal["A", "B"], Field(description="`B`: buys. `A`: sells.")]
TwapId = Annotated[str, Field(pattern=r"^-?\d+$", examples=["1544034"])]
Fees = Annotated[
    dict[str, Decimal] | None, Field(description="Fees by token; rebates are negative.", examples=[{"USDC": "12.5"}])
]


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(Answer):
    detail: Annotated[str, Field(examples=["TWAP ID 123456 not found"])]


class UnknownCoin(Problem):
    detail: Annotated[str, Field(examples=["no coin 'btc' is in the loaded days; did you mean BTC?"])]
    candidates: Annotated[list[str], Field(description="Similar coins in the database, best match first.", examples=[["BTC"]])]


class WrongParameter(Answer):
    type: str
    loc: Annotated[list[str | int], Field(examples=[["query", "wallet"]])]
    msg: str
    input: Any


class Invalid(Answer):
    detail: list[WrongParameter]


class Hole(Answer):
    """An hour of the bucket with missing data."""

    source: Dataset
    object_date: Day
    object_hour: Annotated[int | None, Field(description="Absent: all objects of the day that have no hour.")] = None
    state: Literal["missing", "failed", "blocks missing", "acknowledged"]


class Run(Answer):
    """Consecutive days with the same state; both ends are inclusive."""

    from_: Annotated[Day, Field(alias="from")]
    to: Day
    state: Annotated[
        Literal["whole", "unprovable", "partial", "absent"],
        Field(
            description="unprovable: all objects are present, but a missing row could not be detected. partial: some are missing."
        ),
    ]
    tier: Annotated[
        Literal["postgresql", "lake"],
        Field(description="Where fills were read: absent: in PostgreSQL. lake: the days are not in hl.fills, only in the lake."),
    ] = "postgresql"
    note: Annotated[str, Field(description="The reason, if it is the same for all days of the run.")] = ""
    holes: Annotated[int, Field(description="Number of hours of the bucket with a hole that is not acknowledged.")] = 0
    acknowledged: Annotated[int, Field(description="Number of hours with an acknowledged hole.")] = 0
    hours: Annotated[
        list[Hole], Field(max_length=24, description="The first holes, those not acknowledged before the acknowledged ones.")
    ] = []


class Listed(Answer):
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page. null: this is the last page.")]
    coverage: Annotated[list[Run], Field(description="Which days of the range are in the database, without gaps.")]


class Backfill(Answer):
    """The backfill of a wallet from the info API: its range from `from` (inclusive) to `to` (exclusive), and its state."""

    state: Annotated[
        Literal["not asked", "started", "complete", "truncated", "failed"],
        Field(description="truncated: the wallet has more history than the API returns, so older fills may be missing."),
    ]
    from_: Annotated[Instant | None, Field(alias="from")]
    to: Instant | None
    oldest: Annotated[Instant | None, Field(description="The oldest fill that the API returned. null: none.")]
    note: Annotated[str, Field(description="Why the state is truncated or failed.")] = ""


INFO_API = "The backfill of the wallet from the info API, if the range overlaps its window or begins before the buckets."
OfInfoApi = Annotated[Backfill | None, Field(description=INFO_API)]


INVALID: dict[int | str, dict[str, Any]] = {
    422: {"model": Invalid, "description": "A parameter is wrong. The error names it and the reason."}
}
ERRORS: dict[int | str, dict[str, Any]] = {
    **INVALID,
    503: {"model": Problem, "description": "The database is unreachable, not ready or busy."},
    504: {"model": Problem, "description": "The query took too long. Request a shorter range."},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "The TWAP does not exist."}}
CHANGED: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Problem,
        "description": "Fills at the cursor were loaded again and changed. The error says where to start again.",
    }
}
UNKNOWN_COIN: dict[int | str, dict[str, Any]] = {
    404: {"model": UnknownCoin, "description": "The coin was never seen. The error lists similar coins."}
}
EXPORTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {MEDIA_TYPES[one]: {"schema": {"type": "string"}} for one in FILE_FORMATS},
        "headers": {
            name: {"description": f"Only in files: {text}", "schema": {"type": "string"}}
            for name, text in (COVERAGE_HEADERS | PAGE_HEADERS).items()
        },
    },
    406: {"model": Problem, "description": "`Accept` has no format of this path. The error lists them."},
}
