"""`hl rebuild` and `hl drop`: rebuild the database from the lake, and remove days from it."""

from __future__ import annotations

from typing import Annotated

import typer

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.ingest import run_days
from hl_pipeline.cli.terminal import (
    Demo,
    FirstDay,
    FromDay,
    LastDay,
    ToDay,
    check_demo,
    check_order,
    connect,
    console,
    fail,
    load_settings,
    open_existing,
    open_existing_lake,
    open_installation,
    program,
)


def rebuild(first: FirstDay = None, last: LastDay = None, demo: Demo = False) -> None:
    """Rebuild the database from the lake: fills, candles, statistics and TWAPs of every day in it. No bucket is read."""
    from hl_pipeline.ops.run_days import worst
    from hl_pipeline.ops.run_in_process import RunInterruptedError
    from hl_pipeline.stages.rebuild import adopt_lake, days_in_lake, days_left_alone, record_objects

    check_order(first, last)
    settings = load_settings(demo)
    check_demo(settings)
    lake = open_existing_lake(settings)
    with open_installation(settings) as url:
        in_lake = days_in_lake(lake)
        days = [day for day in in_lake if (first or day) <= day <= (last or day)]
        if not days:
            fail(f"the lake ({settings.lake}) has no fills{' for those days' if first or last else ''}; check HL_LAKE_URL")
        with connect(url, "hl rebuild") as connection:
            adopted = adopt_lake(connection, lake)
            record_objects(connection, lake)
            left = days_left_alone(connection, in_lake)
        if adopted:
            tables = ", ".join(f"hl.{name}" for name in adopted)
            console.print(f"the lake has newer states of {tables} than the catalog: registered again", highlight=False)
        try:
            done = run_days(days, settings, from_lake=True, command="hl rebuild")
        except (RunInterruptedError, KeyboardInterrupt):
            fail("interrupted; run the same command to continue", code=ExitCode.INTERRUPTED)
    if left:
        console.print(
            f"{len(left)} days are in the database but not in the lake, and were left unchanged: {left[0]} …", highlight=False
        )
    raise typer.Exit(ExitCode.of(worst(day.outcome for day in done)))


def drop(
    first: FromDay,
    last: ToDay,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    demo: Demo = False,
) -> None:
    """Remove days from hl.fills to free disk space. The lake, candles and statistics keep them; `hl rebuild` restores them.

    A day is compacted and published in the lake's table first.
    """
    from hl_pipeline.domain.errors import LakeLacksError
    from hl_pipeline.stages.fills_retention import move_to_lake
    from hl_pipeline.stages.rebuild import days_in_lake
    from hl_pipeline.warehouse.fills_days import list_kept_days
    from hl_pipeline.warehouse.fills_partitions import DayInUseError
    from hl_pipeline.warehouse.status_queries import measure_fills

    check_order(first, last)
    settings = load_settings(demo)
    with open_existing(settings) as url, connect(url, "hl drop") as connection:
        days = list_kept_days(connection, first, last)
        if not days:
            console.print(f"hl.fills has no rows from {first} to {last}: nothing to do", highlight=False)
            return
        lake = open_existing_lake(settings)
        if only_here := sorted(set(days) - set(days_in_lake(lake))):
            fail(
                f"the lake ({settings.lake}) does not have {len(only_here)} of those days ({only_here[0]}, ...): "
                "they would be lost. Is HL_LAKE_URL right?"
            )
        megabytes = measure_fills(connection, days) / 1e6
        console.print(f"{len(days)} days, {days[0]} to {days[-1]}, {megabytes:,.1f} MB in hl.fills", highlight=False)
        if not yes:
            typer.confirm("Remove them from hl.fills? The lake, candles and statistics keep them", abort=True)
        for day in days:
            try:
                move_to_lake(day, lake, connection, settings.swap_wait_seconds)
            except (DayInUseError, LakeLacksError) as error:
                fail(f"{error}. {days.index(day)} days were dropped before this one")
    console.print(f"dropped; `{program()} rebuild --from {days[0]} --to {days[-1]}` restores them", highlight=False)
