"""`hl status` and `hl url`: loaded days, missing data, connections and settings. `warehouse.status_queries` has the queries."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.output import AsJson, Output, choose_output, print_json, print_rows
from hl_pipeline.cli.terminal import (
    Demo,
    FirstDay,
    LastDay,
    check_existing,
    check_order,
    connect,
    console,
    errors,
    fail,
    load_settings,
    open_existing,
    program,
    wide,
)

if TYPE_CHECKING:
    import psycopg

    from hl_pipeline.cli.tiers import Tier
    from hl_pipeline.settings import Settings
    from hl_pipeline.warehouse.outdated_days import OutdatedDay
    from hl_pipeline.warehouse.show_queries import Rows
    from hl_pipeline.warehouse.spending import Spent
    from hl_pipeline.warehouse.status_queries import FillsDayStatus, StatusDay
    from hl_pipeline.warehouse.workers import Worker


@dataclass(frozen=True, slots=True)
class _Contents:
    """What `hl status` reads from the database."""

    server_version: str
    days: list[FillsDayStatus]
    statuses: list[StatusDay]
    spent: Spent
    wallets: dict[str, int]
    load_again: dict[date, str]
    download_again: list[str]
    changed_since: list[tuple[date, str]]
    failed: list[tuple[str, str]]
    outdated: list[OutdatedDay]
    holes: set[tuple[date, str]]
    tiers: list[Tier]
    workers: list[Worker]


def status(
    demo: Demo = False,
    first: FirstDay = None,
    last: LastDay = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the days as CSV; with --from and --to, their hours.")] = False,
    every_setting: Annotated[bool, typer.Option("--settings", help="Also show settings with default values.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 3 if a loaded day has a gap that is not acknowledged.")
    ] = False,
) -> None:
    """Show loaded days, what is missing in them, and whether the database and the lake can be reached.

    It also shows changed settings, with secrets hidden. With --from and --to: show these days hour by hour.
    """
    output = choose_output(as_json, as_csv)
    settings = load_settings(demo)
    if first is not None or last is not None:
        if check:
            fail("--check covers all loaded days: leave out --from and --to", code=ExitCode.USAGE)
        _print_span(settings, first, last, output)
        return
    try:
        with open_existing(settings) as url, connect(url, "hl status") as connection:
            contents = _read(connection, settings)
    except typer.Exit:
        # Printed on failure too: a setting may be the cause.
        if output == Output.TABLE:
            _print_settings(settings, every=every_setting)
        raise
    match output:
        case Output.TABLE:
            _print_contents(contents, settings, url)
            _print_settings(settings, every=every_setting)
        case Output.JSON:
            from hl_pipeline.settings import Settings, variable
            from hl_pipeline.warehouse.urls import hide_password

            shown = {variable(name): _show_setting(settings, name) for name in Settings.model_fields}
            print_json({"settings": shown, "database": hide_password(url), **asdict(contents, dict_factory=_drop_holes)})
        case Output.CSV:
            print_rows(_list_days(contents), output)
    if check and (faults := _find_faults(contents)):
        for fault in faults:
            errors.print(f"[red]missing:[/] {escape(fault)}")
        raise typer.Exit(ExitCode.INCOMPLETE)


def _read(connection: psycopg.Connection, settings: Settings) -> _Contents:
    from hl_pipeline.warehouse.dirty_days import read_dirty
    from hl_pipeline.warehouse.ledger import read_reset
    from hl_pipeline.warehouse.outdated_days import read_outdated_days
    from hl_pipeline.warehouse.spending import read_spent
    from hl_pipeline.warehouse.status_queries import (
        count_wallets_by_state,
        read_days_with_holes,
        read_failed_objects,
        read_fills_days,
        read_stale_objects,
        read_status_days,
    )
    from hl_pipeline.warehouse.workers import read_workers

    return _Contents(
        server_version=connection.info.parameter_status("server_version") or "",
        days=read_fills_days(connection),
        statuses=read_status_days(connection),
        spent=read_spent(connection),
        wallets=count_wallets_by_state(connection),
        load_again=dict(read_dirty(connection)),
        download_again=sorted(key for _, key in read_reset(connection)),
        changed_since=read_stale_objects(connection),
        failed=read_failed_objects(connection),
        outdated=read_outdated_days(connection),
        holes=read_days_with_holes(connection),
        tiers=_measure(connection, settings),
        workers=read_workers(connection),
    )


def _measure(connection: psycopg.Connection, settings: Settings) -> list[Tier]:
    from hl_pipeline.cli.tiers import measure_tiers

    try:
        return measure_tiers(connection, settings)
    except (OSError, ValueError):
        # The line about the lake says why it cannot be reached.
        return []


def _find_faults(contents: _Contents) -> list[str]:
    """List what is missing, one line each, except acknowledged holes and data that is not due yet."""
    faults = [
        f"{day.date}: {kind} {day.state or 'not judged'}"
        for kind, days in (("fills", contents.days), ("twap_statuses", contents.statuses))
        for day in days
        if day.state is None or (day.state == "incomplete" and (day.date, kind) in contents.holes)
    ]
    faults += [f"{day.date}: statistics or TWAPs are older than its fills" for day in contents.days if day.lacks_statistics]
    faults += [f"{day.date}: hl.twaps is older than its statuses" for day in contents.statuses if day.lacks_twaps]
    faults += [f"{day}: must be loaded again: {reason}" for day, reason in contents.load_again.items()]
    faults += [f"{day}: {key} has changed since it was loaded" for day, key in contents.changed_since]
    return faults + [f"{key}: {error}" for key, error in contents.failed]


def _list_days(contents: _Contents) -> Rows:
    """Return a row for each day of fills and of statuses."""
    from hl_pipeline.warehouse.show_queries import Rows

    fills = [
        (day.date, "fills", day.state, day.rows, day.duplicates, day.loaded_at, day.is_thinned, day.explanation)
        for day in contents.days
    ]
    statuses = [(day.date, "twap_statuses", day.state, day.rows, None, None, None, day.explanation) for day in contents.statuses]
    return Rows(
        ["date", "what", "state", "rows", "duplicates", "loaded_at", "is_thinned", "explanation"],
        sorted([*fills, *statuses], key=_by_day),
    )


def _by_day(row: tuple[Any, ...]) -> tuple[date, str]:
    return row[0], row[1]


def _drop_holes(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in fields if name != "holes"}


def _show_setting(settings: Settings, name: str) -> str | None:
    from api.settings import NEVER_SHOWN
    from hl_pipeline.warehouse.urls import hide_password

    value = getattr(settings, name)
    if value in (None, ""):
        return None
    if name in NEVER_SHOWN:
        return "***"
    return hide_password(value.get_secret_value()) if hasattr(value, "get_secret_value") else str(value)


def _print_settings(settings: Settings, *, every: bool) -> None:
    from rich.table import Table

    from hl_pipeline.settings import Settings, variable

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2), pad_edge=False)
    known = Settings.model_fields
    changed = [name for name in known if getattr(settings, name) != known[name].default]
    for name in known if every else changed:
        shown = _show_setting(settings, name)
        table.add_row(f"  {variable(name)}", "[dim]unset[/]" if shown is None else escape(shown))
    others = "" if every else f"; the others have default values (`{program()} status --settings` shows all)"
    console.print(f"settings  {len(changed)} changed{others}", highlight=False)
    if table.row_count:
        wide.print(table, highlight=False)


def _print_contents(contents: _Contents, settings: Settings, url: str) -> None:
    from hl_pipeline.warehouse.urls import hide_password

    spent = contents.spent
    console.print(f"days      {len(contents.days)}, {sum(day.rows for day in contents.days):,} fills")
    for day in contents.days:
        place = "  [dim]only in the lake[/]" if day.is_thinned else ""
        place += "  [yellow]statistics or TWAPs are older than the fills: load the day again[/]" if day.lacks_statistics else ""
        loaded = f"{day.duplicates} duplicates dropped  loaded {day.loaded_at:%Y-%m-%d %H:%M}"
        console.print(f"  {day.date}  {day.state or '':<10}  {day.rows:>12,} fills  {loaded}{place}", highlight=False)
        if day.state in ("incomplete", "pending") and day.explanation:
            console.print(f"              {escape(day.explanation)}", highlight=False)
    console.print(f"statuses  {len(contents.statuses)} days, {sum(day.rows for day in contents.statuses):,} TWAP events")
    for day in contents.statuses:
        place = "  [yellow]hl.twaps is older than the statuses: load the day again[/]" if day.lacks_twaps else ""
        console.print(f"  {day.date}  {day.state:<10}  {day.rows:>12,} events{place}", highlight=False)
        if day.state in ("incomplete", "pending"):
            console.print(f"              {escape(day.explanation)}", highlight=False)
    if contents.wallets:
        states = ", ".join(f"{count:,} {state}" for state, count in contents.wallets.items())
        console.print(f"wallets   backfilled from the info API: {states}", highlight=False)
    _print_to_do(contents)
    if spent.requests or settings.s3_budget_usd is not None:
        budget = "" if settings.s3_budget_usd is None else f" of ${settings.s3_budget_usd:,}"
        requests = "1 request" if spent.requests == 1 else f"{spent.requests:,} requests"
        console.print(f"money     spent this month ${spent.dollars:,.4f}{budget}, {requests}", highlight=False)
    console.print(f"database  {hide_password(url)}: PostgreSQL {contents.server_version}")
    console.print(f"lake      {_describe_lake(settings)}")
    _print_tiers(contents.tiers)
    if contents.workers or settings.launcher == "celery":
        _print_workers(contents.workers)


def _print_tiers(tiers: list[Tier]) -> None:
    from hl_pipeline.cli.tiers import describe_tiers

    for line in describe_tiers(tiers):
        console.print(f"          {line}", highlight=False)


def _print_workers(workers: list[Worker]) -> None:
    from hl_pipeline.ops.code_version import identify_code

    own = identify_code()
    live = [worker for worker in workers if not worker.is_silent]
    able = sum(worker.slots for worker in live if worker.code == own)
    console.print(f"workers   {len(live)}, which take {able} runs at once", highlight=False)
    for worker in workers:
        state = f"{worker.runs} of {worker.slots} runs"
        if worker.is_silent:
            state = f"[red]no heartbeat for {worker.silent_seconds:.0f} s[/]"
        elif worker.code != own:
            state = f"[yellow]takes no runs: its code is {worker.code}, and that of this machine is {own}[/]"
        console.print(f"  {escape(worker.worker)}  {state}", highlight=False)


def _print_to_do(contents: _Contents) -> None:
    """Print the days to load again, the objects to download again, outdated days and failures."""
    from hl_pipeline.warehouse.outdated_days import count_by_reason

    for day, reason in contents.load_again.items():
        console.print(f"  [yellow]load again[/] {day}: {escape(reason)} (`{program()} ingest --dirty`)", highlight=False)
    if again := len(contents.download_again):
        console.print(
            f"  [yellow]{again} objects are marked to be downloaded again[/] (`{program()} reset checkpoint`)", highlight=False
        )
    for day, key in contents.changed_since:
        console.print(f"  [yellow]load again[/] {day}: {escape(key)} has changed since it was loaded", highlight=False)
    for key, error in contents.failed:
        console.print(f"  [red]failed[/] {escape(key)}: {escape(error)}", highlight=False)
    for reason, days in count_by_reason(contents.outdated).items():
        console.print(
            f"  [yellow]made by an earlier version[/] {len(days)} days, {days[0]} to {days[-1]}: {escape(reason)} "
            f"(`{program()} upgrade`)",
            highlight=False,
        )


def print_url(
    demo: Demo = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Print a URL for read-only sessions.")] = False,
) -> None:
    """Print the URL of the running database, for psql and other clients."""
    from hl_pipeline.warehouse.connect import NoDatabaseError, find_database_url, find_read_only_url

    settings = load_settings(demo)
    check_existing(settings)
    try:
        typer.echo((find_read_only_url if read_only else find_database_url)(settings))
    except NoDatabaseError as error:
        fail(str(error))


def _print_span(settings: Settings, first: date | None, last: date | None, output: Output) -> None:
    from hl_pipeline.cli.calendar import read_calendar
    from hl_pipeline.warehouse.show_queries import Rows
    from hl_pipeline.warehouse.status_queries import CoveredHour, read_hours

    if first is None or last is None:
        fail(f"{'--from' if first is None else '--to'} is missing: give both days", code=ExitCode.USAGE)
    check_order(first, last)
    with open_existing(settings) as url, connect(url, "hl status") as connection:
        if output != Output.TABLE:
            names = [field.name for field in fields(CoveredHour)]
            hours = [tuple(getattr(hour, name) for name in names) for hour in read_hours(connection, first, last)]
            print_rows(Rows(names, hours), output)
            return
        for line in read_calendar(connection, first, last):
            console.print(line, highlight=False)


def _describe_lake(settings: Settings) -> str:
    if not settings.lake.startswith("s3://"):
        return f"{settings.lake}: {'reachable' if Path(settings.lake).is_dir() else 'not created yet'}"
    # Imports Arrow, which a directory does not need.
    from hl_pipeline.lake.store import open_lake

    try:
        lake = open_lake(settings.lake)
        lake.filesystem.get_file_info(lake.root)
    except (OSError, ValueError) as error:
        return f"[red]{settings.lake}: {error}[/]"
    return f"{settings.lake}: reachable"
