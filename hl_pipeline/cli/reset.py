"""`hl reset`: marks objects to be downloaded again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import (
    Demo,
    FirstDay,
    LastDay,
    check_days,
    connect,
    console,
    fail,
    load_settings,
    open_existing,
    open_existing_lake,
    program,
)

if TYPE_CHECKING:
    from hl_pipeline.domain.records import ObjectMeta, StatusObject
    from hl_pipeline.lake.store import Lake
    from hl_pipeline.settings import Settings

reset_app = typer.Typer(no_args_is_help=True, help="Mark objects to be downloaded again.")

ObjectKeys = Annotated[
    list[str] | None, typer.Option("--object-key", metavar="KEY", help="Key of an object in the bucket. Repeatable.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@reset_app.command("checkpoint")
def reset_checkpoint(
    first: FirstDay = None,
    last: LastDay = None,
    object_keys: ObjectKeys = None,
    yes: Yes = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Remove the mark from objects that were not downloaded again yet.")
    ] = False,
    demo: Demo = False,
) -> None:
    """Mark objects to be downloaded again, and paid again, by the next run that needs them. Until then, the lake and the database
    keep the old data.
    """
    from hl_pipeline.stages.paid_buckets import prices_of_datasets
    from hl_pipeline.warehouse.ledger import is_reset, reset_object, undo_reset

    if bool(object_keys) == (first is not None or last is not None):
        fail("give either --from and --to, or --object-key, not both", code=ExitCode.USAGE)
    if not object_keys and (first is None or last is None):
        fail(f"{'--from' if first is None else '--to'} is missing: give both days", code=ExitCode.USAGE)
    days = check_days(first, last) if first and last else []
    settings = load_settings(demo)
    with open_existing(settings) as url, connect(url, "hl reset") as connection:
        there = objects_in_lake(open_existing_lake(settings), days, object_keys, settings, must_be_there=True)
        if undo:
            taken_back = sum(undo_reset(connection, meta) for meta in there)
            console.print(f"mark removed from {taken_back:,} objects", highlight=False)
            return
        there = [meta for meta in there if not is_reset(connection, meta)]
        if not there:
            console.print("nothing to do: the lake has no such objects, or they are already marked")
            return
        prices = prices_of_datasets(settings)
        dollars = sum(prices[meta.dataset].of_downloads([meta.size]) for meta in there)
        size = sum(meta.size for meta in there) / 2**30
        console.print(
            f"{len(there):,} objects, {size:,.3f} GiB: downloading them again will cost ${dollars:,.4f}", highlight=False
        )
        if not yes:
            typer.confirm("Mark them to be downloaded again?", abort=True)
        for meta in there:
            reset_object(connection, meta)
    console.print(
        f"the next run that needs them downloads them; to undo: `{program()} reset checkpoint … --undo`", highlight=False
    )


def objects_in_lake(
    lake: Lake, days: Sequence[date], keys: list[str] | None, settings: Settings, *, must_be_there: bool = False
) -> list[ObjectMeta | StatusObject]:
    """Return the objects in the lake with these keys or, without keys, those that the days need."""
    from hl_pipeline.stages.find_objects import NoSuchObjectError, list_in_lake, place_of_given
    from hl_pipeline.stages.raw_tables import find_in_lake

    if not keys:
        return list_in_lake(lake, days)
    try:
        places = [place_of_given(key, settings) for key in keys]
    except NoSuchObjectError as error:
        fail(str(error), code=ExitCode.USAGE)
    by_key = {place.key: find_in_lake(lake, place) for place in places}
    if must_be_there and (missing := [key for key, meta in by_key.items() if meta is None]):
        fail(f"the lake ({settings.lake}) has no {missing[0]}: nothing to mark, the next run that needs it downloads it")
    return [meta for meta in by_key.values() if meta is not None]
