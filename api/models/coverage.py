"""Response models of coverage: hours of the buckets and verdicts on days. docs/concepts/complete-days.md explains each state."""

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
    state: Annotated[HourState, Field(description="The same as `found`, or `acknowledged` for a hole with a note.")]
    found: Annotated[Found, Field(description="The state of the object, whether or not a hole is acknowledged.")]
    expected: Annotated[bool, Field(description="Whether a missing object counts as a hole.")]
    is_hole: bool
    note: Annotated[str | None, Field(description="The note of the acknowledgement.")]
    why: Annotated[str, Field(description="The reason in words, if the object is missing or incomplete.")]
    object_key: str | None
    etag: str | None
    rows: int | None
    bad_lines: int | None
    first_block: int | None
    last_block: int | None
    missing_blocks: int
    missing_ranges: Annotated[
        list[tuple[int, int]], Field(description="Ranges of block numbers missing in the object or before it: first and last.")
    ]
    fetched_at: Instant | None
    judged_at: Instant


class RunsOfDays(Answer):
    fills: list[Run]
    twap_statuses: list[Run]


class BackfilledWallets(Answer):
    """Number of wallets backfilled from the info API, by state, from `from` (inclusive) to `to` (exclusive)."""

    from_: Annotated[Instant | None, Field(alias="from")]
    to: Instant | None
    complete: int
    truncated: Annotated[int, Field(description="They have more history than the API returns, so older fills may be missing.")]
    failed: int
    not_asked: Annotated[int, Field(description="Not fetched yet, or not finished.")]


class CoverageList(Answer):
    start: Day
    end: Day
    dataset: Dataset | None
    state: HourState | None
    is_hole: bool | None
    hours: list[Hour]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page. null: this is the last page.")]
    days: Annotated[
        RunsOfDays, Field(description="Which days of the range are in the database, as in `coverage` of the other lists.")
    ]
    info_api: Annotated[
        BackfilledWallets | None,
        Field(description="Backfilled wallets, if the range begins before the buckets: no other source has fills of that time."),
    ] = None


class JudgedDay(Answer):
    """A day of hl.fills_days or hl.twap_days, or a day that is not loaded."""

    date: Day
    what: Judged
    state: Annotated[
        DayState,
        Field(
            description="Verdict when the day was loaded. not judged: loaded by an early version. not loaded: its objects were "
            "requested, but it is not loaded. never asked for: neither."
        ),
    ]
    explanation: Annotated[str | None, Field(description="The reason for the state.")]
    edges: Annotated[list[str] | None, Field(description="Midnights of the day that no object crosses, in words.")]
    holes: Annotated[int, Field(description="Current number of hours with a hole that is not acknowledged.")]
    acknowledged: Annotated[int, Field(description="Current number of hours with an acknowledged hole.")]
    rows: int | None
    duplicates: int | None
    loaded_at: Instant | None
    thinned_at: Annotated[
        Instant | None, Field(description="When its fills were removed from the database. They are read from the lake.")
    ]


class DayList(Answer):
    start: Day
    end: Day
    what: Judged | None
    state: DayState | None
    days: list[JudgedDay]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page. null: this is the last page.")]
