"""`hl lake`: looks at the lake's compacted tables, queries them, and keeps them in order."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.output import AsCsv, AsJson, Output, Wide, choose_output, print_json, print_rows
from hl_pipeline.cli.terminal import Demo, connect, console, errors, fail, load_settings, open_existing, open_existing_lake

if TYPE_CHECKING:
    import psycopg

    from hl_pipeline.lake.store import Lake

lake_app = typer.Typer(no_args_is_help=True, help="Look at the compacted lake, query it, and keep it in order.")

_NAMES = ("fills", "twaps", "candles", "daily_stats", "user_stats")
_TABLES = "fills, twaps, candles, daily_stats or user_stats."


def parse_time(text: str | datetime) -> datetime:
    """Parse a time typed by the user, in UTC unless it says otherwise. Raises BadParameter."""
    if isinstance(text, datetime):
        return text
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} must be a time like 2026-03-16T12:00:00Z or a day like 2026-03-16") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", parser=parse_time, metavar="TIME", help="The tables as they were at this time (UTC)."),
]


@lake_app.command("snapshots")
def show_snapshots(
    table: Annotated[str, typer.Argument(help=_TABLES)] = "fills",
    demo: Demo = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    is_wide: Wide = False,
) -> None:
    """Show the snapshots of a table, newest first: each is the table as it was from that time on."""
    from hl_pipeline.lake.snapshots import list_versions
    from hl_pipeline.stages.lake_catalog import opened_catalog
    from hl_pipeline.stages.lake_tables import open_table
    from hl_pipeline.warehouse.show_queries import Rows

    output = choose_output(as_json, as_csv, is_wide)
    _check_table(table)
    with _opened(demo, "hl lake snapshots") as (connection, lake), opened_catalog(connection, lake) as catalog:
        versions = list_versions(open_table(catalog, table))
    rows = [(v.at, v.snapshot_id, v.is_current, v.rows, v.files, v.bytes, v.facts) for v in versions]
    print_rows(Rows(["at", "snapshot_id", "is_current", "rows", "files", "bytes", "facts"], rows), output)


@lake_app.command("files")
def show_files(
    table: Annotated[str, typer.Argument(help=_TABLES)] = "fills",
    as_of: AsOf = None,
    demo: Demo = False,
) -> None:
    """Print the paths of a table's files, one a line, for engines that read no Iceberg. Do not use a wildcard in their place."""
    from hl_pipeline.stages.lake_tables import files_as_of

    _check_table(table)
    with _opened(demo, "hl lake files") as (connection, lake):
        files = files_as_of(connection, lake, as_of, [table])
    scheme = "" if lake.is_local else "s3://"
    for path in files.get(table, []):
        typer.echo(f"{scheme}{path}")


@lake_app.command("query")
def query(
    sql: Annotated[
        str, typer.Argument(help="A query in DuckDB's SQL, on the views fills, twaps, candles, daily_stats, user_stats.")
    ],
    as_of: AsOf = None,
    demo: Demo = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    is_wide: Wide = False,
) -> None:
    """Run SQL on the compacted tables. It can read nothing else, and change nothing."""
    from hl_pipeline.lake.query import QueryError, UnreadableFileError, run_query
    from hl_pipeline.stages.lake_tables import files_as_of
    from hl_pipeline.warehouse.show_queries import Rows

    output = choose_output(as_json, as_csv, is_wide)
    with _opened(demo, "hl lake query") as (connection, lake):
        views = files_as_of(connection, lake, as_of)
        try:
            columns, rows = run_query(lake, sql, views)
        except QueryError as error:
            fail(f"{error}\n(views: {', '.join(views)})", code=ExitCode.USAGE)
        except UnreadableFileError as error:
            fail(f"{error}\n`hl lake verify` looks at all files")
    print_rows(Rows(columns, [tuple(_shown(value) for value in row) for row in rows]), output)


def _shown(value: Any) -> Any:
    return f"0x{value.hex()}" if isinstance(value, bytes) else value


@lake_app.command("vacuum")
def vacuum(
    demo: Demo = False, dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which files would go.")] = False
) -> None:
    """Remove snapshots older than HL_SNAPSHOTS_KEEP_DAYS, files that no snapshot needs, and hours by HL_HOURS_KEEP_DAYS.

    A schedule does this every night.
    """
    from hl_pipeline.stages.hours_retention import remove_old_hours
    from hl_pipeline.stages.vacuum import vacuum as vacuum_lake

    settings = load_settings(demo)
    with _opened(demo, "hl lake vacuum") as (connection, lake):
        done = vacuum_lake(lake, connection, settings, dry_run=dry_run)
        hours = remove_old_hours(lake, connection, settings, dry_run=dry_run)
    did = "would be removed" if dry_run else "removed"
    for table in done:
        console.print(
            f"hl.{table.table}: {len(table.snapshots)} snapshots expired, {len(table.files)} files {did}", highlight=False
        )
    if hours.files:
        console.print(f"hours of {len(hours.files)} compacted days, {sum(hours.files.values())} files {did}", highlight=False)
    for why in hours.kept.values():
        errors.print(f"[yellow]hours stay:[/] {escape(why)}")


@lake_app.command("verify")
def verify(demo: Demo = False, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """Compare the files of the compacted tables with the catalog and the ledger. Exits with 3 if one is missing or differs."""
    from hl_pipeline.stages.lake_tables import verify_lake
    from hl_pipeline.warehouse.show_queries import Rows

    output = choose_output(as_json, as_csv)
    with _opened(demo, "hl lake verify") as (connection, lake):
        files, faults = verify_lake(connection, lake)
    lost = [fault for fault in faults if fault.is_lost]
    match output:
        case Output.JSON:
            print_json({"files": files, "faults": [[f.table, f.path, f.what, f.is_lost] for f in faults]})
        case Output.CSV:
            print_rows(Rows(["table", "path", "what", "is_lost"], [(f.table, f.path, f.what, f.is_lost) for f in faults]), output)
        case _:
            for fault in faults:
                colour = "red" if fault.is_lost else "yellow"
                errors.print(f"[{colour}]hl.{fault.table}[/] {escape(fault.path)}: {escape(fault.what)}")
            console.print(
                f"{files} files, {len(lost)} of them wrong" if lost else f"{files} files, all as recorded", highlight=False
            )
    if lost:
        raise typer.Exit(ExitCode.INCOMPLETE)


@lake_app.command("relocate")
def relocate(demo: Demo = False) -> None:
    """Register the tables again after the lake has moved to HL_LAKE_URL: another directory, or a copied bucket."""
    from hl_pipeline.stages.lake_tables import relocate_lake

    with _opened(demo, "hl lake relocate", may_be_moved=True) as (connection, lake):
        try:
            moved = relocate_lake(connection, lake)
        except FileNotFoundError as error:
            fail(f"nothing was changed, because a file is not in the lake ({lake.root}): {error}")
    what = ", ".join(f"hl.{name}" for name in moved)
    console.print(f"registered again: {what}" if moved else "the catalog already has this place: nothing to do", highlight=False)


def _check_table(table: str) -> None:
    if table not in _NAMES:
        fail(f"the table is {table!r}; it must be one of {', '.join(_NAMES)}", code=ExitCode.USAGE)


@contextmanager
def _opened(demo: bool, application: str, *, may_be_moved: bool = False) -> Generator[tuple[psycopg.Connection, Lake]]:
    """Yield a connection and the lake. Ends the command if there is nothing to look at."""
    from hl_pipeline.lake.snapshots import NoSnapshotError
    from hl_pipeline.stages.lake_tables import LakeMovedError, NothingCompactedError, require_place

    settings = load_settings(demo)
    with open_existing(settings) as url, connect(url, application) as connection:
        lake = open_existing_lake(settings)
        try:
            if not may_be_moved:
                require_place(connection, lake)
            yield connection, lake
        except (NothingCompactedError, NoSnapshotError, LakeMovedError) as error:
            fail(str(error))
