"""`hl acknowledge`: marks holes that cannot be filled, so that their checks only warn."""

from __future__ import annotations

from typing import Annotated

import typer

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import (
    Demo,
    FromDay,
    ToDay,
    check_order,
    connect,
    console,
    fail,
    load_settings,
    open_existing,
    program,
)
from hl_pipeline.domain.datasets import BY_NAME

_DATASETS = tuple(BY_NAME)


def acknowledge(
    source: Annotated[str, typer.Option(help="The dataset: " + ", ".join(_DATASETS) + ".")],
    first: FromDay,
    last: ToDay,
    demo: Demo = False,
    hour: Annotated[
        int | None, typer.Option(help="Hour of the object, 0 to 23. Default: every hole in the day, including future ones.")
    ] = None,
    note: Annotated[str, typer.Option(help="The reason, for whoever reads it later.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Remove the acknowledgement.")] = False,
) -> None:
    """Acknowledge holes that cannot be filled. Their checks then warn instead of failing. The day stays incomplete."""
    from hl_pipeline.warehouse.coverage import acknowledge_holes, undo_acknowledge

    check_order(first, last)
    if source not in _DATASETS:
        fail(f"--source is {source!r}; it must be one of {', '.join(_DATASETS)}", code=ExitCode.USAGE)
    if hour is not None and not 0 <= hour <= 23:
        fail(f"--hour is {hour}; it must be 0 to 23 (UTC, of the object)", code=ExitCode.USAGE)
    if undo == bool(note.strip()):
        fail("give either --note TEXT (the reason) or --undo, not both", code=ExitCode.USAGE)
    holes = f"{source} {first} to {last}" + ("" if hour is None else f", hour {hour}")
    with open_existing(load_settings(demo)) as url, connect(url, "hl acknowledge") as connection:
        if undo:
            days = undo_acknowledge(connection, source, first, last, hour)
        else:
            days = acknowledge_holes(connection, source, first, last, hour, note.strip())
    if not days:
        what = "nothing was acknowledged" if undo else "no known holes"
        fail(f"{holes}: {what}; see `{program()} status --from {first} --to {last}`")
    others = (last - first).days + 1 - len(days)
    left = f"; {others} other days have {'no note' if undo else 'no hole'}" if others else ""
    console.print(
        f"{source}: {'acknowledgement removed' if undo else 'acknowledged'} on {len(days)} days, {days[0]} to {days[-1]}{left}. "
        f"To update the checks, materialize the days again: `{program()} ingest --from {days[0]} --to {days[-1]}`",
        highlight=False,
    )
