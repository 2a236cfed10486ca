"""What answers about the bucket's hours and days look like. docs/concepts/complete-days.md says what each state is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.models.common import Answer, Day, Instant, Run
from api.parameters import Dataset, DayState, Found, HourState, Judged


class Hour(Answer):
    """A row of hl.coverage."""

    source: Annotated[Dataset, Field(description="The dataset.")]
    object_date: Annotated[Day, Field(description="Day of the bucket.")]
    object_hour: Annotated[int | None, Field(description="Hour of the bucket; null: all objects of the day that have no hour.")]
    state: Annotated[HourState, Field(description="As found; acknowledged: a hole that people know of.")]
    found: Annotated[Found, Field(description="What became of the object, acknowledged or not.")]
    expected: Annotated[bool, Field(description="Whether it is a hole when the object is not there.")]
    is_hole: bool
    note: Annotated[str | None, Field(description="What people have said of it.")]
    why: Annotated[str, Field(description="The state in words, of what is not there.")]
    object_key: str | None
    etag: str | None
    rows: int | None
    bad_lines: int | None
    first_block: int | None
    last_block: int | None
    missing_blocks: int
    missing_ranges: Annotated[
        list[tuple[int, int]], Field(description="Block numbers missing in it or before it: first and last.")
    ]
    fetched_at: Instant | None
    judged_at: Instant


class RunsOfDays(Answer):
    fills: list[Run]
    twap_statuses: list[Run]


class BackfilledWallets(Answer):
    """How many wallets the info API was asked for, from `from` to `to` (which is not in it), and what became of them."""

    from_: Annotated[Instant | None, Field(alias="from")]
    to: Instant | None
    complete: int
    truncated: Annotated[int, Field(description="The API reaches no more of them: older fills may lack.")]
    failed: int
    not_asked: Annotated[int, Field(description="Not yet, or not to the end.")]


class CoverageList(Answer):
    start: Day
    end: Day
    dataset: Dataset | None
    state: HourState | None
    is_hole: bool | None
    hours: list[Hour]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; null: this was the last.")]
    days: Annotated[RunsOfDays, Field(description="Which days of the range are in the database, as each list says it.")]
    info_api: Annotated[
        BackfilledWallets | None,
        Field(description="Of ranges from before the buckets, where wallets are known: all that there can be is theirs."),
    ] = None


class JudgedDay(Answer):
    """A day of hl.fills_days or hl.twap_days, or one that is not there."""

    date: Day
    what: Judged
    state: Annotated[
        DayState,
        Field(
            description="As judged when it was loaded. not judged: a first version loaded it. not loaded: its objects were asked "
            "for. never asked for: neither."
        ),
    ]
    explanation: Annotated[str | None, Field(description="The state in words.")]
    edges: Annotated[list[str] | None, Field(description="Its edges that no object crosses, in words.")]
    holes: Annotated[int, Field(description="Number of hours that now have a hole that nobody has acknowledged.")]
    acknowledged: Annotated[int, Field(description="Number of hours that now have an acknowledged hole.")]
    rows: int | None
    duplicates: int | None
    loaded_at: Instant | None
    thinned_at: Annotated[Instant | None, Field(description="When its fills were taken out of the database: the lake has them.")]


class DayList(Answer):
    start: Day
    end: Day
    what: Judged | None
    state: DayState | None
    days: list[JudgedDay]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; null: this was the last.")]
