"""The parameters of the coverage of days and hours, and of the cost. Types are in api/parameters.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from api.parameters import (
    OPTIONAL,
    Dataset,
    DayState,
    HourState,
    InFormat,
    Judged,
    OnDays,
    Paged,
    PerhapsOnDays,
    plain_boolean,
)


class CoverageAsked(Paged, OnDays):
    """Of /api/v1/coverage."""

    dataset: Annotated[Dataset | None, OPTIONAL, Field(description="Only this dataset of the bucket.")] = None
    state: Annotated[HourState | None, OPTIONAL, Field(description="Only hours in this state.")] = None
    is_hole: Annotated[
        bool | None,
        BeforeValidator(plain_boolean),
        OPTIONAL,
        Field(description="True: only holes, acknowledged or not. False: only hours without a hole."),
    ] = None
    format: InFormat = None


class CoverageDaysAsked(Paged, OnDays):
    """Of /api/v1/coverage/days."""

    what: Annotated[Judged | None, OPTIONAL, Field(description="Only days of this table.")] = None
    state: Annotated[DayState | None, OPTIONAL, Field(description="Only days in this state.")] = None
    format: InFormat = None


class CostAsked(PerhapsOnDays):
    """Of /api/v1/cost."""
