"""`hl`, the command line. Each command is thin: it reads its options, calls what does the work, and shows what came of it."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from hl_pipeline.cli.ingest import ingest, reset_app
from hl_pipeline.cli.show import show_app
from hl_pipeline.cli.terminal import (
    Demo,
    FirstDay,
    FromDay,
    LastDay,
    ToDay,
    check_days,
    check_order,
    console,
    deliver_again,
    errors,
    fail,
    load_settings,
    open_lake_there,
    parse_day,
    program,
    reading,
    showing_listings,
    wide,
    working,
)
from hl_pipeline.domain.datasets import BY_NAME
from hl_pipeline.settings import NONE, Settings, variable
from hl_pipeline.warehouse.connect import NoDatabaseError, connect, hide_password
from hl_pipeline.warehouse.dirty_days import read_dirty
from hl_pipeline.warehouse.spending import Spent, read_spent

if TYPE_CHECKING:
    from collections.abc import Callable

    from hl_pipeline.ops.run_days import Day
    from hl_pipeline.stages.cost import Bill

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Hyperliquid's trading history in a Parquet lake and PostgreSQL: complete, exact, counted once.",
)
app.add_typer(show_app, name="show")
app.add_typer(reset_app, name="reset")

_SIZE = "SELECT sum(pg_total_relation_size(to_regclass(name))) FROM unnest(%s::text[]) name"
_DATASETS = tuple(BY_NAME)
_DEMO_DAYS = 2
_DEMO_FILLS_PER_HOUR = 4_000
_DEMO_FIRST = date(2025, 9, 1)


@app.command()
def up(
    demo: Demo = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of the UI.")] = None,
    api_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of the REST API.")] = None,
    first: Annotated[
        date | None,
        typer.Option(
            "--backfill-from",
            parser=parse_day,
            metavar="DAY",
            help="Once up, ask for the days from this one on that lack.",
        ),
    ] = None,
    last: Annotated[
        date | None,
        typer.Option("--backfill-to", parser=parse_day, metavar="DAY", help="The last of them, itself included; else yesterday."),
    ] = None,
) -> None:
    """Start PostgreSQL (unless HL_DATABASE_URL is set), the Dagster UI, its daemon and the REST API; Ctrl-C stops them.

    With --backfill-from they are also filled: one backfill of the days that are not loaded, none of those that wait already.
    """
    from hl_pipeline.ops.services import AlreadyUpError, give_api_its_database, run_services

    days = _days_to_fill(first, last)
    settings = load_settings(demo)
    with working(settings) as url:
        give_api_its_database(url)
        try:
            code = run_services(
                settings.home.absolute(), port or settings.port, api_port or settings.api_port, _asking(url, days)
            )
        except AlreadyUpError as error:
            fail(str(error))
    raise typer.Exit(code)


@app.command()
def api(
    demo: Demo = False,
    host: Annotated[str, typer.Option(help="Address to listen on: it asks nobody who they are.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535)] = None,
) -> None:
    """Start PostgreSQL (unless HL_DATABASE_URL is set) and the REST API alone; Ctrl-C stops them."""
    from hl_pipeline.ops.services import give_api_its_database, run_api

    settings = load_settings(demo)
    with working(settings) as url:
        give_api_its_database(url)
        code = run_api(host, port or settings.api_port)
    raise typer.Exit(code)


@app.command()
def demo() -> None:
    """See it work: a small sample bucket, its days through Dagster into lake and database, in a home of its own."""
    from hl_pipeline.ops.run_days import Outcome, ingest_days, worst
    from hl_pipeline.partitions import days_between
    from hl_pipeline.sample.generate import write_sample

    settings = load_settings(demo=True)
    last = date.fromordinal(_DEMO_FIRST.toordinal() + _DEMO_DAYS - 1)
    if not Path(settings.node_data_url).is_dir():
        with console.status("making a sample bucket"):
            made = write_sample(
                settings.home / "sample", first_day=_DEMO_FIRST, days=_DEMO_DAYS, fills_per_hour=_DEMO_FILLS_PER_HOUR
            )
        console.print(
            f"sample bucket of made-up trades: {made.objects} objects, {made.fills:,} fills, {made.bytes / 1e6:.1f} MB "
            f"in {settings.home}"
        )
    with working(settings) as url:
        done = ingest_days(days_between(_DEMO_FIRST, last), settings, console)
        _print_demo_summary(url, done)
    console.print(
        f"\nOpen the UI on it: [bold]{program()} up --demo[/]   Look at figures: [bold]{program()} show daily-stats --demo[/]"
    )
    raise typer.Exit(1 if worst(done) == Outcome.FAILED else 0)


app.command()(ingest)


@app.command()
def backfill(
    shard: Annotated[list[str] | None, typer.Option(metavar="XX", help="Shards of wallets, 00 to ff; may be repeated.")] = None,
    worker: Annotated[int | None, typer.Option(min=1, help="This machine's number, from 1: with --of, its part of all.")] = None,
    of: Annotated[int | None, typer.Option(min=1, max=256, help="How many machines share the shards.")] = None,
    wallet: Annotated[list[str] | None, typer.Option(metavar="0x...", help="These wallets alone; may be repeated.")] = None,
    wallets: Annotated[
        str | None, typer.Option(metavar="FILE", help="Those of a file, an address a line; -: standard input.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every wallet that is known.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="No more wallets than so many.")] = None,
) -> None:
    """Fills from before the buckets, from the info API, wallet by wallet; what was asked is not asked again. Exit code 0: all
    wallets complete; 3: some have more than the API reaches, or were not asked yet; 1: a wallet or a shard failed.
    """
    from hl_pipeline.ops.run_days import InterruptedIngestError
    from hl_pipeline.ops.run_shards import BadWalletsError, backfill_shards, choose_shards, read_wallets

    if not (shard or worker or of or wallet or wallets or everything):
        fail("which wallets? --all, --shard XX, --worker I --of N, --wallet 0x... or --wallets FILE", code=2)
    try:
        shards = choose_shards(shard or [], worker, of)
        chosen = read_wallets(wallet or [], wallets)
    except BadWalletsError as error:
        fail(str(error), code=2)
    settings = load_settings()
    with working(settings) as url:
        try:
            outcome = backfill_shards(shards, chosen, limit, url, settings, console, is_named=bool(shard))
        except (InterruptedIngestError, KeyboardInterrupt):
            fail("interrupted; run the same again to go on", code=130)
    raise typer.Exit(int(outcome))


@app.command()
def cost(first: FromDay, last: ToDay, demo: Demo = False) -> None:
    """What it costs to ingest days, by listings alone: objects, GiB, dollars, disk, less what the lake has. Downloads nothing."""
    from hl_pipeline.domain.errors import BucketError
    from hl_pipeline.stages.cost import draw_up_bill
    from hl_pipeline.warehouse.ledger import read_reset

    days = check_days(first, last)
    settings = load_settings(demo)
    with (reading if demo else working)(settings) as url, connect(url, "hl cost") as connection:
        try:
            with showing_listings():
                bill = draw_up_bill(days, settings, read_reset(connection))
        except BucketError as error:
            fail(str(error))
        _print_bill(bill, settings, read_spent(connection))


@app.command()
def rebuild(first: FirstDay = None, last: LastDay = None) -> None:
    """Make the database again from the lake: fills, candles and statistics of every day that it has. The bucket is not read."""
    from hl_pipeline.ops.run_days import InterruptedIngestError, ingest_days, worst
    from hl_pipeline.stages.rebuild import days_in_lake, days_left_alone, record_objects

    check_order(first, last)
    settings = load_settings()
    lake = open_lake_there(settings)
    with working(settings) as url:
        in_lake = days_in_lake(lake)
        days = [day for day in in_lake if (first or day) <= day <= (last or day)]
        if not days:
            fail(f"the lake ({settings.lake}) has no fills{' of those days' if first or last else ''}; see HL_LAKE_URL")
        with connect(url, "hl rebuild") as connection:
            record_objects(connection, lake)
            left = days_left_alone(connection, in_lake)
        try:
            done = ingest_days(days, settings, console, from_lake=True, command="hl rebuild")
        except (InterruptedIngestError, KeyboardInterrupt):
            fail("interrupted; run the same again to go on", code=130)
    if left:
        console.print(
            f"{len(left)} days are in the database but not in the lake, and stay as they were: {left[0]} …", highlight=False
        )
    raise typer.Exit(int(worst(done)))


@app.command()
def drop(
    first: FromDay,
    last: ToDay,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take days out of hl.fills to free disk. The lake, candles and statistics keep them; `hl rebuild` brings them back."""
    from hl_pipeline.stages.fills_retention import kept_days
    from hl_pipeline.stages.rebuild import days_in_lake
    from hl_pipeline.warehouse.load_fills import DayInUseError, thin_day
    from hl_pipeline.warehouse.locks import lock_fills_day

    check_order(first, last)
    settings = load_settings()
    with reading(settings) as url, connect(url, "hl drop") as connection:
        days = kept_days(connection, first, last)
        if not days:
            console.print(f"hl.fills has no rows from {first} to {last}: nothing to do", highlight=False)
            return
        if only_here := sorted(set(days) - set(days_in_lake(open_lake_there(settings)))):
            fail(
                f"the lake ({settings.lake}) does not have {len(only_here)} of those days ({only_here[0]}, ...): "
                "they would be lost. Is HL_LAKE_URL right?"
            )
        (size,) = connection.execute(_SIZE, [[f"hl.fills_{day:%Y%m%d}" for day in days]]).fetchall()
        console.print(
            f"{len(days)} days, {days[0]} to {days[-1]}, {int(size[0] or 0) / 1e6:,.1f} MB in hl.fills", highlight=False
        )
        if not yes:
            typer.confirm("Take them out of hl.fills? The lake, candles and statistics keep them", abort=True)
        for day in days:
            try:
                with lock_fills_day(connection, day):
                    thin_day(connection, day, settings.swap_wait_seconds)
            except DayInUseError as error:
                fail(f"{error}. Dropped before it: {days.index(day)} days")
    console.print(f"dropped; `{program()} rebuild --from {days[0]} --to {days[-1]}` brings them back", highlight=False)


@app.command()
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
        fail(f"--source is {source!r}, must be one of {', '.join(_DATASETS)}", code=2)
    if hour is not None and not 0 <= hour <= 23:
        fail(f"--hour is {hour}, must be 0 to 23 (UTC, of the object)", code=2)
    if undo == bool(note.strip()):
        fail("--note TEXT (why it is known) or --undo must be given, not both", code=2)
    said = f"{source} {first} to {last}" + ("" if hour is None else f", hour {hour}")
    with reading(load_settings(demo)) as url, connect(url, "hl acknowledge") as connection:
        if undo:
            days = undo_acknowledge(connection, source, first, last, hour)
        else:
            days = acknowledge_holes(connection, source, first, last, hour, note.strip())
    if not days:
        what = "nothing was acknowledged" if undo else "nothing that is known there is a hole"
        fail(f"{said}: {what}; see `{program()} status --from {first} --to {last}`")
    others = (last - first).days + 1 - len(days)
    left = f"; of {others} other days there is {'no note' if undo else 'no hole'}" if others else ""
    console.print(
        f"{source}: {'taken back' if undo else 'acknowledged'} on {len(days)} days, {days[0]} to {days[-1]}{left}. "
        f"Checks follow when the days are materialized again: `{program()} ingest --from {days[0]} --to {days[-1]}`",
        highlight=False,
    )


@app.command()
def status(demo: Demo = False, first: FirstDay = None, last: LastDay = None) -> None:
    """Settings (secrets hidden), whether database and lake can be reached, and which days are there. With --from and --to: what
    is there of those days, hour by hour, and what lacks.
    """
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
    with reading(settings) as url, connect(url, "hl status") as connection:
        console.print(f"database  {hide_password(url)}: PostgreSQL {connection.info.parameter_status('server_version')}")
        rows = connection.execute(
            "SELECT date, rows, duplicates, loaded_at, state, thinned_at, "
            "candles_at IS NULL OR daily_stats_at IS NULL OR user_stats_at IS NULL OR twaps_at IS NULL "
            "FROM hl.fills_days ORDER BY date"
        ).fetchall()
        statuses = connection.execute(
            "SELECT date, rows, state, explanation, twaps_at IS NULL FROM hl.twap_days ORDER BY date"
        ).fetchall()
        spent = read_spent(connection)
        wallets = connection.execute("SELECT state, count(*) FROM hl.backfill_progress GROUP BY 1 ORDER BY 1").fetchall()
        dirty = read_dirty(connection)
        reset = read_reset(connection)
        failed = connection.execute("SELECT object_key, error FROM hl.s3_ingest_log WHERE error IS NOT NULL").fetchall()
        stale = connection.execute(
            "SELECT date, object_key FROM hl.fills_day_objects o JOIN hl.s3_ingest_log l USING (object_id) WHERE o.etag <> l.etag"
        ).fetchall()
    if spent.requests or settings.s3_budget_usd is not None:
        budget = "" if settings.s3_budget_usd is None else f" of ${settings.s3_budget_usd:,}"
        console.print(f"money     spent this month ${spent.dollars:,.4f}{budget}, {spent.requests:,} requests", highlight=False)
    console.print(f"days      {len(rows)}, {sum(row[1] for row in rows):,} fills")
    for day, count, duplicates, loaded_at, state, thinned_at, lacks_statistics in rows:
        place = "  [dim]in the lake alone[/]" if thinned_at else ""
        place += "  [yellow]statistics or TWAPs are not of these fills: run again[/]" if lacks_statistics else ""
        loaded = f"{duplicates} duplicates dropped  loaded {loaded_at:%Y-%m-%d %H:%M}"
        console.print(f"  {day}  {state or '':<10}  {count:>12,} fills  {loaded}{place}", highlight=False)
    console.print(f"statuses  {len(statuses)} days, {sum(row[1] for row in statuses):,} events of TWAPs")
    for day, count, state, explanation, lacks_twaps in statuses:
        place = "  [yellow]hl.twaps is not of these: run again[/]" if lacks_twaps else ""
        why = f"  {explanation}" if state in ("incomplete", "pending") else ""
        console.print(f"  {day}  {state:<10}  {count:>12,} events{escape(why)}{place}", highlight=False)
    if wallets:
        states = ", ".join(f"{count:,} {state}" for state, count in wallets)
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


@app.command("url")
def print_url(demo: Demo = False) -> None:
    """The URL of the running database, for psql and other clients."""
    from hl_pipeline.warehouse.connect import find_database_url

    try:
        typer.echo(find_database_url(load_settings(demo)))
    except NoDatabaseError as error:
        fail(str(error))


@app.command()
def sample(
    fills_per_hour: Annotated[int, typer.Option(min=1, help="About so many.")],
    days: Annotated[int, typer.Option(min=1, max=366)],
    first: Annotated[date, typer.Option("--from", parser=parse_day, metavar="DAY", help="First day.")] = _DEMO_FIRST,
    out: Annotated[Path, typer.Option(help="Directory to write; it must not be there yet.")] = Path("sample"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
) -> None:
    """Make sample buckets of realistic fills and TWAP statuses, with a record of the truth; to use them set what is shown."""
    from hl_pipeline.sample.generate import write_sample

    if out.exists():
        fail(f"{out} is there already; choose another with --out, or remove it", code=2)
    try:
        with console.status("writing") as shown:
            made = write_sample(
                out,
                first_day=first,
                days=days,
                fills_per_hour=fills_per_hour,
                seed=seed,
                progress=lambda fills: shown.update(f"writing: {fills:,} fills"),
            )
    except ValueError as error:
        fail(str(error), code=2)
    console.print(f"{made.fills:,} fills in {made.objects} objects, {made.bytes / 1e6:,.1f} MB; truth in {made.truth_dir}")
    console.print(f"HL_NODE_DATA_URL={made.node_data_dir}")
    console.print(f"HL_TWAP_DATA_URL={made.twap_data_dir}")


def main() -> None:
    """The entry point: errors that people can mend are said in one line."""
    sys.unraisablehook = deliver_again
    try:
        app()
    except ValidationError as error:
        for item in error.errors():
            name = variable(".".join(map(str, item["loc"])))
            errors.print(f"[red]error:[/] {name}: {item['msg']} (it is {item.get('input')!r}); see .env.example")
        sys.exit(2)


def _days_to_fill(first: date | None, last: date | None) -> list[date]:
    """The days of --backfill-from and --backfill-to; none without them. To the last day that is over, unless it is said."""
    if first is None:
        if last is not None:
            fail("--backfill-to needs --backfill-from, the first day", code=2)
        return []
    if last is not None and last < first:
        fail(f"--backfill-to {last} is before --backfill-from {first}", code=2)
    return check_days(first, last or max(first, datetime.now(UTC).date() - timedelta(days=1)))


def _asking(database_url: str, days: list[date]) -> Callable[[str], str] | None:
    """What asks the webserver at an address for `days`, and says what came of it."""
    from hl_pipeline.ops.launch_backfill import ask_for_days

    return (lambda webserver: ask_for_days(webserver, database_url, days).describe()) if days else None


def _print_bill(bill: Bill, settings: Settings, spent: Spent) -> None:
    table = Table(box=None, header_style="bold")
    for name in ("dataset", "objects", "GiB", "in the lake", "GiB", "to download", "GiB", "dollars", "not in the bucket"):
        table.add_column(name, justify="left" if name == "dataset" else "right")
    for item in bill.costs:
        amounts = [
            f for a in (item.wanted, item.in_lake, item.to_download) for f in (f"{a.objects:,}", f"{a.bytes / 2**30:,.3f}")
        ]
        lacking = "" if item.hours_not_there is None else f"{item.hours_not_there:,}"
        table.add_row(item.dataset, *amounts, f"{item.dollars:,.4f}", lacking)
    wide.print(table, highlight=False)
    console.print(f"\nto download  ${bill.dollars:,.4f}", highlight=False)
    console.print(
        f"listing      ${bill.dollars_of_lists:,.6f} for {bill.lists:,} requests, spent by this command", highlight=False
    )
    for name in ("node_data_url", "twap_data_url"):
        place = getattr(settings, name)
        if not place.startswith("s3://"):
            why = "nothing is asked for" if place == NONE else "a directory costs nothing"
            console.print(f"free         {variable(name)} is {place}: {why}", highlight=False)
    elsewhere = "" if settings.database_url is None else " in the database of HL_DATABASE_URL, whose disk is not looked at"
    console.print(f"lake         about {bill.room.lake / 1e9:,.1f} GB more in {settings.lake}", highlight=False)
    console.print(f"hl.fills     about {(bill.room.database or 0) / 1e9:,.1f} GB more{elsewhere}", highlight=False)
    for disk in bill.disks:
        free = f"{max(disk.free, 0) / 1e9:,.1f} GB free beside the {settings.disk_reserve_gb:g} GB of HL_DISK_RESERVE_GB"
        console.print(f"disk         {disk.path}: about {disk.needed / 1e9:,.1f} GB needed, {free}", highlight=False)
    budget = settings.s3_budget_usd
    left = None if budget is None else max(budget - spent.dollars, Decimal(0))
    of_budget = "HL_S3_BUDGET_USD is not set" if left is None else f"${left:,.4f} of ${budget:,} left for {spent.month} (UTC)"
    console.print(f"budget       {of_budget}", highlight=False)
    obstacles = bill.find_obstacles(left)
    console.print(
        f"[yellow]it does not fit: {escape('; '.join(obstacles))}[/]" if obstacles else "[green]it fits[/]", highlight=False
    )


def _print_calendar(settings: Settings, first: date | None, last: date | None) -> None:
    from hl_pipeline.cli.calendar import read_calendar

    if first is None or last is None:
        fail(f"{'--from' if first is None else '--to'} lacks: both days are needed", code=2)
    check_order(first, last)
    with reading(settings) as url, connect(url, "hl status") as connection:
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


def _print_demo_summary(url: str, days: list[Day]) -> None:
    table = Table("day", "fills", "fetched", "seconds", "missing blocks", "bad lines", box=None, header_style="bold")
    for day in days:
        figures = (f"{day.rows:,}", f"{day.bytes_fetched / 1e6:.1f} MB", f"{day.seconds:.1f}", day.missing_blocks, day.bad_lines)
        table.add_row(str(day.day), *map(str, figures))
    console.print(table)
    query = "SELECT coin, sum(trades), sum(notional) FROM hl.daily_stats GROUP BY coin ORDER BY 3 DESC NULLS LAST LIMIT 4"
    with connect(url, "hl demo") as connection:
        busiest = connection.execute(query.encode()).fetchall()
    said = ", ".join(f"{coin} {notional:,.0f} in {trades:,} trades" for coin, trades, notional in busiest)
    console.print(f"most traded: {said}", highlight=False)
