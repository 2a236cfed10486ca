"""`hl acknowledge`: holes that are known and cannot be mended."""

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
    hour: Annotated[int | None, typer.Option(help="Hour of the object, 0 to 23. Without: whatever lacks of the day.")] = None,
    note: Annotated[str, typer.Option(help="Why, for those who come after you.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
) -> None:
    """Say of holes that they are known and cannot be mended: their checks warn, no more. No day is called whole by it."""
    from hl_pipeline.warehouse.coverage import acknowledge_holes, undo_acknowledge

    check_order(first, last)
    if source not in _DATASETS:
        fail(f"--source is {source!r}, must be one of {', '.join(_DATASETS)}", code=ExitCode.USAGE)
    if hour is not None and not 0 <= hour <= 23:
        fail(f"--hour is {hour}, must be 0 to 23 (UTC, of the object)", code=ExitCode.USAGE)
    if undo == bool(note.strip()):
        fail("--note TEXT (why it is known) or --undo must be given, not both", code=ExitCode.USAGE)
    holes = f"{source} {first} to {last}" + ("" if hour is None else f", hour {hour}")
    with open_existing(load_settings(demo)) as url, connect(url, "hl acknowledge") as connection:
        if undo:
            days = undo_acknowledge(connection, source, first, last, hour)
        else:
            days = acknowledge_holes(connection, source, first, last, hour, note.strip())
    if not days:
        what = "nothing was acknowledged" if undo else "nothing that is known there is a hole"
        fail(f"{holes}: {what}; see `{program()} status --from {first} --to {last}`")
    others = (last - first).days + 1 - len(days)
    left = f"; of {others} other days there is {'no note' if undo else 'no hole'}" if others else ""
    console.print(
        f"{source}: {'taken back' if undo else 'acknowledged'} on {len(days)} days, {days[0]} to {days[-1]}{left}. "
        f"Checks follow when the days are materialized again: `{program()} ingest --from {days[0]} --to {days[-1]}`",
        highlight=False,
    )
