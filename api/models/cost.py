"""Response models of /api/v1/cost."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.models.common import Answer, Day, Decimal


class Spent(Answer):
    requests: Annotated[int, Field(description="Number of requests, retries and failures included.")]
    failed_requests: Annotated[int, Field(description="Number of them that ended with an error.")]
    received_bytes: int
    dollars: Annotated[
        Decimal,
        Field(description="US dollars by the prices in the settings. A request under way counts with the most it can cost."),
    ]


class SpentInBucket(Spent):
    bucket: str


class SpentInMonth(Spent):
    month: Annotated[Day, Field(description="First day of the UTC month.")]


class Cost(Spent):
    start: Day | None
    end: Day | None
    buckets: Annotated[list[SpentInBucket], Field(description="The same by bucket.")]
    months: Annotated[list[SpentInMonth], Field(description="The same by UTC month.")]
    budget_dollars: Annotated[
        Decimal | None, Field(description="HL_S3_BUDGET_USD, the most that may be spent in a UTC month. null: not set.")
    ]
