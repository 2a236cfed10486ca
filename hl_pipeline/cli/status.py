"""`hl status` and `hl url`: settings, what can be reached, and what is there. Queries: `warehouse.status_queries`."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import (
    Demo,
    FirstDay,
    LastDay,
    check_order,
    console,
    fail,
    load_settings,
    open_existing,
    program,
)
from hl_pipeline.settings import Settings, variable
from hl_pipeline.warehouse.connect import NoDatabaseError, connect
from hl_pipeline.warehouse.dirty_days import read_dirty
from hl_pipeline.warehouse.spending import read_spent
from hl_pipeline.warehouse.status_queries import (
    read_failed_objects,
    read_fills_days,
    read_stale_objects,
    read_status_days,
)
from hl_pipeline.warehouse.urls import hide_password


def status(demo: Demo = False, first: FirstDay = None, last: LastDay = None) -> None:
    """Settings (secrets hidden), whether database and lake can be reached, and which days are there. With --from and --to: what
    is there of those days, hour by hour, and what lacks.
    """
    # With polars: other commands do without.
    from hl_pipeline.warehouse.backfill_progress import count_wallets_by_state
    from hl_pipeline.warehouse.ledger import read_reset

    settings = load_settings(demo)
    if first is not None or last is not None:
        _print_calendar(settings, first, last)
        return
    table = Table("setting", "value", box=None, header_style="bold")
    for name in Settings.model_fields:
        value = getattr(settings, name)
        shown = hide_password(value.get_secret_value()) if hasattr(value, "get_secret_value") else str(value)
        table.add_row(variable(name), "[dim]unset[/]" if value is None else shown)
    console.print(table)
    console.print(f"\nlake      {_describe_lake(settings)}")
    with open_existing(settings) as url, connect(url, "hl status") as connection:
        console.print(f"database  {hide_password(url)}: PostgreSQL {connection.info.parameter_status('server_version')}")
        fills, statuses = read_fills_days(connection), read_status_days(connection)
        spent = read_spent(connection)
        wallets = count_wallets_by_state(connection)
        dirty = read_dirty(connection)
        reset = read_reset(connection)
        failed, stale = read_failed_objects(connection), read_stale_objects(connection)
    if spent.requests or settings.s3_budget_usd is not None:
        budget = "" if settings.s3_budget_usd is None else f" of ${settings.s3_budget_usd:,}"
        console.print(f"money     spent this month ${spent.dollars:,.4f}{budget}, {spent.requests:,} requests", highlight=False)
    console.print(f"days      {len(fills)}, {sum(day.rows for day in fills):,} fills")
    for day in fills:
        place = "  [dim]in the lake alone[/]" if day.is_thinned else ""
        place += "  [yellow]statistics or TWAPs are not of these fills: run again[/]" if day.lacks_statistics else ""
        loaded = f"{day.duplicates} duplicates dropped  loaded {day.loaded_at:%Y-%m-%d %H:%M}"
        console.print(f"  {day.date}  {day.state or '':<10}  {day.rows:>12,} fills  {loaded}{place}", highlight=False)
    console.print(f"statuses  {len(statuses)} days, {sum(day.rows for day in statuses):,} events of TWAPs")
    for day in statuses:
        place = "  [yellow]hl.twaps is not of these: run again[/]" if day.lacks_twaps else ""
        why = f"  {day.explanation}" if day.state in ("incomplete", "pending") else ""
        console.print(f"  {day.date}  {day.state:<10}  {day.rows:>12,} events{escape(why)}{place}", highlight=False)
    if wallets:
        states = ", ".join(f"{count:,} {state}" for state, count in wallets.items())
        console.print(f"wallets   asked of the info API: {states}", highlight=False)
    for day, reason in dirty.items():
        console.print(f"  [yellow]load again[/] {day}: {escape(reason)} (`{program()} ingest --dirty`)", highlight=False)
    if reset:
        console.print(
            f"  [yellow]{len(reset)} objects are to be downloaded again[/] (`{program()} reset checkpoint`)", highlight=False
        )
    for day, key in stale:
        console.print(f"  [yellow]load again[/] {day}: {escape(key)} has come anew since", highlight=False)
    for key, error in failed:
        console.print(f"  [red]failed[/] {escape(key)}: {escape(error)}", highlight=False)


def print_url(demo: Demo = False) -> None:
    """The URL of the running database, for psql and other clients."""
    from hl_pipeline.warehouse.connect import find_database_url

    try:
        typer.echo(find_database_url(load_settings(demo)))
    except NoDatabaseError as error:
        fail(str(error))


def _print_calendar(settings: Settings, first: date | None, last: date | None) -> None:
    from hl_pipeline.cli.calendar import read_calendar

    if first is None or last is None:
        fail(f"{'--from' if first is None else '--to'} lacks: both days are needed", code=ExitCode.USAGE)
    check_order(first, last)
    with open_existing(settings) as url, connect(url, "hl status") as connection:
        for line in read_calendar(connection, first, last):
            console.print(line, highlight=False)


def _describe_lake(settings: Settings) -> str:
    from hl_pipeline.lake.store import open_lake

    if not settings.lake.startswith("s3://") and not Path(settings.lake).is_dir():
        return f"{settings.lake}: not made yet"
    try:
        lake = open_lake(settings.lake)
        lake.filesystem.get_file_info(lake.root)
    except (OSError, ValueError) as error:
        return f"[red]{settings.lake}: {error}[/]"
    return f"{settings.lake}: reachable"
