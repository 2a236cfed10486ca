"""The checks of a day of fills, from counts and the verdict. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.domain.tallies import HourTally, HourTotals


def check_key(tally: HourTally, duplicates: int, conflicts: int) -> Check:
    """Check that each fill is stored once and no dropped duplicate differs from the kept row."""
    is_unique = tally.repeated == conflicts == 0
    problem = f"{tally.repeated} rows repeat a fill; {conflicts} dropped duplicates differ from the kept fill."
    return Check(
        "key_unique",
        is_unique,
        "Every fill is stored once." if is_unique else problem,
        metadata={"repeated": tally.repeated, "duplicates_dropped": duplicates, "conflicts": conflicts},
    )


def check_legs(tally: HourTally) -> Check:
    """Check that no trade has more than two legs, or two legs on one side."""
    return Check(
        "legs_pair",
        tally.not_a_pair == 0,
        f"{tally.trades} trades: {tally.single_legs} with one leg, {tally.not_a_pair} with legs that do not form a pair.",
        metadata={"trades": tally.trades, "trades_with_one_leg": tally.single_legs, "not_a_pair": tally.not_a_pair},
    )


def check_lake_equals_database(
    lake: Mapping[int, HourTotals], database: Mapping[int, HourTotals], verified_rows: int = 0, *, is_thinned: bool = False
) -> Check:
    """Check that the lake and the database have the same rows in each hour. A thinned day has no rows in the database.

    `verified_rows`: rows of hours that were equal in an earlier check and were not loaded since.
    """
    expected: Mapping[int, HourTotals] = dict[int, HourTotals]() if is_thinned else lake
    differing = sorted(hour for hour in expected.keys() | database.keys() if expected.get(hour) != database.get(hour))
    equal = (
        "Only in the lake: removed from hl.fills by HL_FILLS_KEEP_DAYS or hl drop." if is_thinned else "The same rows in both."
    )
    return Check(
        "lake_equals_database",
        not differing,
        f"Hours that differ: {differing}. Materialize fills of this day again." if differing else equal,
        metadata={
            "rows_in_lake": verified_rows + sum(totals.rows for totals in lake.values()),
            "rows_in_database": verified_rows + sum(totals.rows for totals in database.values()),
            "differing_hours": differing,
        },
    )


def check_whole(verdict: DayVerdict) -> Check:
    """Check that the day is whole."""
    return Check(
        "day_is_whole",
        verdict.is_whole,
        verdict.explain(),
        verdict.is_harmless,
        {
            "missing_hours": sum(state.state != "present" for state in verdict.hours),
            "missing_blocks": verdict.missing_blocks,
        },
    )
