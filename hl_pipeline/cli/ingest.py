"""`hl ingest`: selects days and their source, and prints one line per finished day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.progress import showing_days, showing_listings
from hl_pipeline.cli.reset import ObjectKeys, Yes, objects_in_lake
from hl_pipeline.cli.terminal import (
    Demo,
    FirstDay,
    LastDay,
    check_days,
    check_order,
    connect,
    console,
    fail,
    load_settings,
    loading,
    open_existing_lake,
    open_installation,
    program,
)

if TYPE_CHECKING:
    import psycopg

    from hl_pipeline.domain.object_keys import Place
    from hl_pipeline.ops.run_days import IngestedDay
    from hl_pipeline.settings import Settings

_WAYS = ("--since", "--object-key", "--local-file", "--dirty")
_WITH_FORCE = ("--local-file", "--dirty")
_WITH_REDOWNLOAD = ("--object-key",)


def parse_moment(text: str) -> datetime:
    """Parse a time typed by the user; without a zone it is UTC. Raises BadParameter."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time like 2026-03-15T14:00:00Z (UTC) or a day like 2026-03-15") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def ingest(
    first: FirstDay = None,
    last: LastDay = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_moment, metavar="TIME", help="Days whose objects were added to the buckets at this time or later."
        ),
    ] = None,
    object_keys: ObjectKeys = None,
    local_files: Annotated[
        list[Path] | None,
        typer.Option("--local-file", metavar="PATH", help="Load this file, a copy of an object of the bucket. Repeatable."),
    ] = None,
    key_of_file: Annotated[
        str | None, typer.Option("--as", metavar="KEY", help="Object key of the local file, if its path does not show it.")
    ] = None,
    dirty: Annotated[bool, typer.Option("--dirty", help="The days listed in hl.dirty_days.")] = False,
    missing: Annotated[
        bool,
        typer.Option("--missing", help="With --from and --to: skip days that lack nothing, without listing their objects."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Load again from the lake; no bucket is read. A local file replaces its object.")
    ] = False,
    redownload: Annotated[
        bool,
        typer.Option(
            "--redownload", help="Download objects again although the lake has them, after showing the cost and asking."
        ),
    ] = False,
    yes: Yes = False,
    demo: Demo = False,
) -> None:
    """Load days without the UI: from --from to --to, or the days that another option selects within these bounds.

    Objects already in the lake are not downloaded again. Whole days with nothing new are skipped.
    Exit code 0: all days are whole. 3: loaded, but a day is incomplete. 1: a day failed.
    """
    from hl_pipeline.warehouse.dirty_days import read_dirty

    ways = dict(zip(_WAYS, (since is not None, bool(object_keys), bool(local_files), dirty), strict=True))
    given = [way for way, is_given in ways.items() if is_given]
    _check_ways(given, first, last, force=force, redownload=redownload, missing=missing)
    if key_of_file is not None and len(local_files or []) != 1:
        fail("--as KEY needs exactly one --local-file: it is the object key of that file", code=ExitCode.USAGE)
    if yes and not redownload:
        fail("--yes needs --redownload: no other option asks for confirmation", code=ExitCode.USAGE)
    span = check_days(first, last) if first and last and not any(ways.values()) else None
    settings = load_settings(demo)
    with open_installation(settings) as url, connect(url, "hl ingest") as connection:
        left_out: list[date] = []
        of_lake: list[date] = []
        if local_files:
            days = _take_local_files(local_files, key_of_file, settings, connection, first, last, replace=force)
        elif dirty:
            days = [day for day in read_dirty(connection) if (first or day) <= day <= (last or day)]
            console.print(f"hl.dirty_days: {_count(days)}", highlight=False)
            if not force:
                days, of_lake, left_out = _part_days_begun(days, settings, connection)
        elif since is not None:
            days = _skip_unchanged(_find_days_since(since, settings, connection, first, last), settings, connection)
        elif object_keys:
            days = _find_days_of_keys(object_keys, settings, connection, first, last)
            days = days if redownload else _skip_unchanged(days, settings, connection)
        else:
            assert span is not None
            skip = _skip_finished if missing else _skip_unchanged
            days = span if force or redownload else skip(span, settings, connection)
        if force and not local_files:
            days, left_out = _keep_days_in_lake(days, settings)
        if redownload and days:
            _reset_to_redownload(days, object_keys, settings, connection, yes=yes)
        if not days and not of_lake:
            console.print("nothing to do", highlight=False)
            raise typer.Exit(ExitCode.INCOMPLETE if left_out else ExitCode.WHOLE)
        from_lake = force or bool(local_files)
        _run(days, of_lake, settings, from_lake=from_lake, redownload=redownload, left_out=left_out)


def _check_ways(given: list[str], first: date | None, last: date | None, *, force: bool, redownload: bool, missing: bool) -> None:
    """End the command if options exclude each other or are missing."""
    check_order(first, last)
    if missing and (given or force or redownload):
        fail("--missing can be combined only with --from and --to", code=ExitCode.USAGE)
    if len(given) > 1:
        fail(f"{given[0]} and {given[1]} exclude each other: each selects the days", code=ExitCode.USAGE)
    if not given and (first is None or last is None):
        fail(f"--from and --to must be given, or one of {', '.join(_WAYS)}", code=ExitCode.USAGE)
    if force and redownload:
        fail("--force and --redownload exclude each other: --force reads no bucket", code=ExitCode.USAGE)
    for option, is_given, goes_with, why in (
        ("--force", force, _WITH_FORCE, "it reads no bucket"),
        ("--redownload", redownload, _WITH_REDOWNLOAD, "it is for objects in the lake"),
    ):
        if is_given and given and given[0] not in goes_with:
            fail(
                f"{given[0]} and {option} exclude each other: {why}. Use it with --from and --to, or with {', '.join(goes_with)}",
                code=ExitCode.USAGE,
            )


def _skip_finished(days: list[date], settings: Settings, connection: psycopg.Connection) -> list[date]:
    """Return the days that are incomplete, or were when they were loaded."""
    from hl_pipeline.stages.unchanged_days import find_finished_days

    finished = find_finished_days(days, settings, connection)
    if finished:
        console.print(f"skipped, because nothing is missing: {_count(finished)}", highlight=False)
    return [day for day in days if day not in finished]


def _skip_unchanged(days: list[date], settings: Settings, connection: psycopg.Connection) -> list[date]:
    """Return the days that are incomplete or have new objects. Loading the others again would change nothing."""
    with loading():
        from hl_pipeline.domain.errors import BucketError
        from hl_pipeline.stages.unchanged_days import find_unchanged_days

    try:
        with showing_listings():
            unchanged = find_unchanged_days(days, settings, connection) if days else []
    except BucketError:
        # Each day reports the error when it runs.
        return days
    if unchanged:
        again = f"to rebuild them anyway: `{program()} rebuild --from {unchanged[0]} --to {unchanged[-1]}`"
        console.print(f"nothing new, and nothing missing: {_count(unchanged)} ({again})", highlight=False)
    return [day for day in days if day not in unchanged]


def _find_days_since(
    since: datetime, settings: Settings, connection: psycopg.Connection, first: date | None, last: date | None
) -> list[date]:
    from hl_pipeline.domain.errors import BucketError
    from hl_pipeline.stages.find_objects import list_modified_since

    try:
        with showing_listings():
            places = list_modified_since(settings, since, first, last, _today())
    except BucketError as error:
        fail(str(error))
    days = _days_of(places, connection, first, last)
    console.print(f"{len(places):,} objects since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC: {_count(days)}", highlight=False)
    return days


def _find_days_of_keys(
    keys: list[str], settings: Settings, connection: psycopg.Connection, first: date | None, last: date | None
) -> list[date]:
    from hl_pipeline.domain.errors import BucketError
    from hl_pipeline.stages.find_objects import NoSuchObjectError, look_up

    try:
        places = look_up(settings, keys)
    except (BucketError, NoSuchObjectError) as error:
        fail(str(error), code=ExitCode.USAGE if isinstance(error, NoSuchObjectError) else ExitCode.FAILED)
    return _days_of(places, connection, first, last)


def _take_local_files(
    paths: list[Path],
    key: str | None,
    settings: Settings,
    connection: psycopg.Connection,
    first: date | None,
    last: date | None,
    *,
    replace: bool,
) -> list[date]:
    """Take the files into the lake and return their days. If one file is refused, none is taken."""
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.find_objects import NoSuchObjectError, place_of_given
    from hl_pipeline.stages.local_files import LocalFileError, fetch_local_file, identify, refuse_conflicts

    lake = open_lake(settings.lake)
    try:
        place = None if key is None else place_of_given(key, settings)
        files = [identify(path, place, settings.decode_threads) for path in paths]
        refuse_conflicts(lake, files, replace=replace)
    except (LocalFileError, NoSuchObjectError) as error:
        fail(str(error), code=ExitCode.USAGE)
    for file in files:
        meta, is_new = fetch_local_file(file, lake, connection, settings.decode_threads)
        bad = f", {meta.bad_lines:,} bad lines" if meta.bad_lines else ""
        what = f"{meta.rows:,} rows{bad}" if is_new else "already in the lake"
        console.print(f"{file.path} is {meta.key}: {what}", highlight=False)
    return _days_of([file.place for file in files], connection, first, last)


def _part_days_begun(
    days: Sequence[date], settings: Settings, connection: psycopg.Connection
) -> tuple[list[date], list[date], list[date]]:
    """Split dirty days into those requested before, others with data in the lake, and days without any data.

    Fills from the info API are no reason to pay for the bucket's objects of their days.
    """
    from hl_pipeline.warehouse.ledger import days_begun

    begun = days_begun(connection)
    of_lake, left_out = _keep_days_in_lake([day for day in days if day not in begun], settings)
    if of_lake:
        console.print(
            f"loaded only from the lake, because their objects were never requested: {_count(of_lake)} (use --from, --to)",
            highlight=False,
        )
    return [day for day in days if day in begun], of_lake, left_out


def _keep_days_in_lake(days: Sequence[date], settings: Settings) -> tuple[list[date], list[date]]:
    """Split days into those with data in the lake and the others, which are printed."""
    from hl_pipeline.stages.rebuild import days_in_lake

    if not days:
        return [], []
    in_lake = set(days_in_lake(open_existing_lake(settings), min(days), max(days)))
    left_out = [day for day in days if day not in in_lake]
    if left_out:
        console.print(f"skipped, because the lake has no data for them: {_count(left_out)}", highlight=False)
    return [day for day in days if day in in_lake], left_out


def _reset_to_redownload(
    days: list[date], keys: list[str] | None, settings: Settings, connection: psycopg.Connection, *, yes: bool
) -> None:
    """Print the cost, ask for confirmation, and mark the objects to be downloaded again."""
    from hl_pipeline.domain.errors import BucketError
    from hl_pipeline.lake.store import open_lake
    from hl_pipeline.stages.cost import draw_up_bill
    from hl_pipeline.warehouse.ledger import read_reset, reset_object
    from hl_pipeline.warehouse.spending import read_spent

    there = objects_in_lake(open_lake(settings.lake), days, keys, settings)
    try:
        with showing_listings():
            bill = draw_up_bill(days, settings, read_reset(connection) | {(meta.dataset, meta.key) for meta in there})
    except BucketError as error:
        fail(str(error))
    # Objects that are no longer in the bucket stay unchanged.
    there = [meta for meta in there if (meta.dataset, meta.key) in bill.listed]
    objects = sum(item.to_download.objects for item in bill.costs)
    size = sum(item.to_download.bytes for item in bill.costs)
    console.print(
        f"{_count(days)}: {objects:,} objects to download, {size / 2**30:,.3f} GiB, ${bill.dollars:,.4f}; "
        f"{len(there):,} of them replace objects in the lake",
        highlight=False,
    )
    spent = read_spent(connection).dollars
    if obstacles := bill.find_obstacles(None if settings.s3_budget_usd is None else settings.s3_budget_usd - spent):
        fail(f"it does not fit: {'; '.join(obstacles)}")
    if not yes:
        typer.confirm("Download them?", abort=True)
    for meta in there:
        reset_object(connection, meta)


def run_days(days: list[date], settings: Settings, *, from_lake: bool = False, command: str = "hl ingest") -> list[IngestedDay]:
    """Run `ops.run_days.ingest_days` with a progress bar, and print a line for each finished day."""
    with loading():
        from hl_pipeline.ops.run_days import ingest_days

    done: list[IngestedDay] = []
    with showing_days(len(days)) as bar:
        for day in ingest_days(days, settings, bar.begin, from_lake=from_lake, command=command):
            done.append(day)
            bar.finish()
            console.print(_line(day), highlight=False)
    return done


def _line(day: IngestedDay) -> str:
    colour = {"WHOLE": "green", "INCOMPLETE": "yellow", "FAILED": "red"}[day.outcome.name]
    figures = f"{day.rows:>12,} fills  {day.bytes_fetched / 1e6:>8,.1f} MB fetched  {day.seconds:>6.1f} s"
    bad = f"  {day.bad_lines} bad lines" if day.bad_lines else ""
    return f"{day.day}  [{colour}]{day.state:<11}[/]{figures}{bad}  {escape(day.explanation)}"


def _run(
    days: list[date], of_lake: list[date], settings: Settings, *, from_lake: bool, redownload: bool, left_out: list[date]
) -> None:
    from hl_pipeline.ops.run_days import worst
    from hl_pipeline.ops.run_in_process import RunInterruptedError

    try:
        done = run_days(days, settings, from_lake=from_lake) if days else []
        done += run_days(of_lake, settings, from_lake=True) if of_lake else []
        code = ExitCode.of(worst(day.outcome for day in done))
    except (RunInterruptedError, KeyboardInterrupt):
        again = (
            "to continue, run the same command without --redownload: it downloads the remaining objects" if redownload else None
        )
        fail(f"interrupted; {again or 'run the same command to continue'}", code=ExitCode.INTERRUPTED)
    raise typer.Exit(ExitCode.INCOMPLETE if left_out and code == ExitCode.WHOLE else code)


def _days_of(places: Sequence[Place], connection: psycopg.Connection, first: date | None, last: date | None) -> list[date]:
    from hl_pipeline.domain.object_keys import choose_days
    from hl_pipeline.partitions import DAYS
    from hl_pipeline.warehouse.ledger import days_begun

    oldest = DAYS.start.date()
    return choose_days(places, days_begun(connection), max(first or oldest, oldest), last, _today())


def _count(days: Sequence[date]) -> str:
    if not days:
        return "0 days"
    return f"{len(days)} days, {days[0]} to {days[-1]}" if len(days) > 1 else f"1 day, {days[0]}"


def _today() -> date:
    return datetime.now(UTC).date()
