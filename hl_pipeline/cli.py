"""`hl`, the command line. Each command is thin: it reads its options, calls what does the work, and shows what came of it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hl_pipeline.settings import PREFIX, RESOLVED, DemoSettings, Settings, variable
from hl_pipeline.warehouse.connect import NoDatabaseError, connect, hide_password
from hl_pipeline.warehouse.embedded import EmbeddedServerError

if TYPE_CHECKING:
    from hl_pipeline.ingest import Day
    from hl_pipeline.lake import Lake

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Hyperliquid's trading history in a Parquet lake and PostgreSQL: complete, exact, counted once.",
)
show_app = typer.Typer(no_args_is_help=True, help="Look at what is in the database.")
app.add_typer(show_app, name="show")
console = Console(soft_wrap=True)
# As wide as a table needs: a terminal breaks its lines, a file or a pipe keeps them whole.
wide = Console(width=10_000)
errors = Console(stderr=True, soft_wrap=True, highlight=False)

# So far back from the last day `hl show` looks unless it is told: a year of every wallet takes a while to add up.
_DAYS_BACK = {"day": 6, "week": 27, "month": 91, "year": 730}
_PERIODS = ("day", "week", "month", "year", "all")
_SIZE = "SELECT sum(pg_total_relation_size(to_regclass(name))) FROM unnest(%s::text[]) name"
_DEMO_DAYS = 2
_DEMO_FILLS_PER_HOUR = 4_000
_DEMO_FIRST = date(2025, 9, 1)

Demo = Annotated[bool, typer.Option("--demo", help="The demo's own home (.hl-demo) and settings instead of yours.")]


def _parse_day(text: str | date) -> date:
    if isinstance(text, date):  # a default
        return text
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day like 2026-03-15") from None


FromDay = Annotated[date, typer.Option("--from", parser=_parse_day, metavar="DAY", help="First day (UTC), like 2026-03-15.")]
FirstDay = Annotated[date | None, typer.Option("--from", parser=_parse_day, metavar="DAY", help="From this day on (UTC).")]
LastDay = Annotated[date | None, typer.Option("--to", parser=_parse_day, metavar="DAY", help="Up to this day, included.")]
ToDay = Annotated[date, typer.Option("--to", parser=_parse_day, metavar="DAY", help="Last day (UTC), itself included.")]


@app.command()
def up(demo: Demo = False, port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of the UI.")] = None) -> None:
    """Start PostgreSQL (unless HL_DATABASE_URL is set), the Dagster UI and its daemon; Ctrl-C stops them."""
    from hl_pipeline.processes import AlreadyUpError, run_services

    settings = _settings(demo)
    with _running(settings):
        try:
            code = run_services(settings.home.absolute(), port or settings.port)
        except AlreadyUpError as error:
            _fail(str(error))
    raise typer.Exit(code)


@app.command()
def demo() -> None:
    """See it work: a small sample bucket, its days through Dagster into lake and database, in a home of its own."""
    from hl_pipeline.ingest import Outcome, days_between, ingest_days, worst
    from hl_pipeline.sample import write_sample

    settings = _settings(demo=True)
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
    with _running(settings) as url:
        done = ingest_days(days_between(_DEMO_FIRST, last), settings, console)
        _print_demo_summary(url, done)
    console.print(f"\nOpen the UI on it: [bold]{_hl()} up --demo[/]   Look at figures: [bold]{_hl()} show daily-stats --demo[/]")
    raise typer.Exit(1 if worst(done) == Outcome.FAILED else 0)


@app.command()
def ingest(first: FromDay, last: ToDay) -> None:
    """Materialize days without a UI. Exit code 0: all whole; 3: loaded, but a day is incomplete; 1: a day failed."""
    from hl_pipeline.ingest import InterruptedIngestError, days_between, ingest_days, worst
    from hl_pipeline.partitions import DAYS

    _check_order(first, last)
    known = DAYS.get_partition_keys()
    if str(first) < known[0] or str(last) > known[-1]:
        _fail(f"days go from {known[0]} to {known[-1]} (UTC); asked for {first} to {last}", code=2)
    settings = _settings()
    with _running(settings):
        try:
            outcome = worst(ingest_days(days_between(first, last), settings, console))
        except (InterruptedIngestError, KeyboardInterrupt):
            _fail("interrupted; run the same again to go on", code=130)
    raise typer.Exit(int(outcome))


@app.command()
def rebuild(first: FirstDay = None, last: LastDay = None) -> None:
    """Make the database again from the lake: fills, candles and statistics of every day that it has. The bucket is not read."""
    from hl_pipeline.ingest import InterruptedIngestError, ingest_days, worst
    from hl_pipeline.rebuild import days_in_lake, days_left_alone, record_objects

    _check_order(first, last)
    settings = _settings()
    lake = _open_lake(settings)
    with _running(settings) as url:
        in_lake = days_in_lake(lake)
        days = [day for day in in_lake if (first or day) <= day <= (last or day)]
        if not days:
            _fail(f"the lake ({settings.lake}) has no fills{' of those days' if first or last else ''}; see HL_LAKE_URL")
        with connect(url, "hl rebuild") as connection:
            record_objects(connection, lake)
            left = days_left_alone(connection, in_lake)
        try:
            done = ingest_days(days, settings, console, from_lake=True)
        except (InterruptedIngestError, KeyboardInterrupt):
            _fail("interrupted; run the same again to go on", code=130)
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
    from hl_pipeline.rebuild import days_in_lake
    from hl_pipeline.thinning import kept_days
    from hl_pipeline.warehouse.load_fills import DayInUseError, thin_day
    from hl_pipeline.warehouse.locks import lock_fills_day

    _check_order(first, last)
    settings = _settings()
    with _reading(settings) as url, connect(url, "hl drop") as connection:
        days = kept_days(connection, first, last)
        if not days:
            console.print(f"hl.fills has no rows from {first} to {last}: nothing to do", highlight=False)
            return
        if only_here := sorted(set(days) - set(days_in_lake(_open_lake(settings)))):
            _fail(
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
                _fail(f"{error}. Dropped before it: {days.index(day)} days")
    console.print(f"dropped; `{_hl()} rebuild --from {days[0]} --to {days[-1]}` brings them back", highlight=False)


@app.command()
def status(demo: Demo = False) -> None:
    """Settings (secrets hidden), whether database and lake can be reached, and which days are there."""
    settings = _settings(demo)
    table = Table("setting", "value", box=None, header_style="bold")
    for name in Settings.model_fields:
        value = getattr(settings, name)
        shown = hide_password(value.get_secret_value()) if hasattr(value, "get_secret_value") else str(value)
        table.add_row(variable(name), "[dim]unset[/]" if value is None else shown)
    console.print(table)
    console.print(f"\nlake      {_describe_lake(settings)}")
    with _reading(settings) as url, connect(url, "hl status") as connection:
        console.print(f"database  {hide_password(url)}: PostgreSQL {connection.info.parameter_status('server_version')}")
        rows = connection.execute(
            "SELECT date, rows, duplicates, loaded_at, state, thinned_at, "
            "candles_at IS NULL OR daily_stats_at IS NULL OR user_stats_at IS NULL FROM hl.fills_days ORDER BY date"
        ).fetchall()
        failed = connection.execute("SELECT object_key, error FROM hl.s3_ingest_log WHERE error IS NOT NULL").fetchall()
        stale = connection.execute(
            "SELECT date, object_key FROM hl.fills_day_objects o JOIN hl.s3_ingest_log l USING (object_id) WHERE o.etag <> l.etag"
        ).fetchall()
    console.print(f"days      {len(rows)}, {sum(row[1] for row in rows):,} fills")
    for day, count, duplicates, loaded_at, state, thinned_at, lacks_statistics in rows:
        place = "  [dim]in the lake alone[/]" if thinned_at else ""
        place += "  [yellow]statistics are not of these fills: run again[/]" if lacks_statistics else ""
        loaded = f"{duplicates} duplicates dropped  loaded {loaded_at:%Y-%m-%d %H:%M}"
        console.print(f"  {day}  {state or '':<10}  {count:>12,} fills  {loaded}{place}", highlight=False)
    for day, key in stale:
        console.print(f"  [yellow]load again[/] {day}: {escape(key)} has come anew since", highlight=False)
    for key, error in failed:
        console.print(f"  [red]failed[/] {escape(key)}: {escape(error)}", highlight=False)


@show_app.command("fills")
def show_fills(
    demo: Demo = False,
    day: Annotated[date | None, typer.Option(parser=_parse_day, metavar="DAY", help="Only this day (UTC).")] = None,
    wallet: Annotated[str | None, typer.Option(help="Only this address.")] = None,
    coin: Annotated[str | None, typer.Option(help="Only this coin, like BTC, @107 or xyz:TSLA.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
) -> None:
    """The newest fills."""
    query = """
        SELECT time, coin, wallet, side, crossed, px, sz, dir, fee, fee_token, closed_pnl, twap_id, tid FROM hl.fills_readable
        WHERE (%(day)s::date IS NULL OR (time >= %(day)s::date::timestamp AT TIME ZONE 'UTC'
                                         AND time < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'))
          AND (%(wallet)s::text IS NULL OR wallet = lower(%(wallet)s))
          AND (%(coin)s::text IS NULL OR coin = %(coin)s)
        ORDER BY time DESC, tid LIMIT %(limit)s
    """
    if _show(demo, query, {"day": day, "wallet": _check_wallet(wallet), "coin": coin, "limit": limit}) == limit:
        return
    with _reading(_settings(demo)) as url, connect(url, "hl show") as connection:
        thinned = connection.execute(
            "SELECT date FROM hl.fills_days WHERE thinned_at IS NOT NULL AND date = coalesce(%s, date) ORDER BY date", [day]
        ).fetchall()
    if thinned:
        console.print(
            f"[yellow]{len(thinned)} days are in the lake alone[/] ({thinned[0][0]} …): `{_hl()} rebuild` brings them back"
        )


@show_app.command("daily-stats")
def show_daily_stats(
    demo: Demo = False,
    period: Annotated[str, typer.Option(help="day, week, month, year or all.")] = "day",
    first: FirstDay = None,
    last: LastDay = None,
    coin: Annotated[str | None, typer.Option(help="Only this coin, like BTC, @107 or xyz:TSLA.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
) -> None:
    """What was traded in each coin: the newest periods first, in each the coins with the most notional."""
    query = """
        SELECT period_start, days, coin, kind, trades, trim_scale(volume) AS volume, round(notional, 2) AS notional,
               buys, sells, open, high, low, close, vwap, liquidations, round(twap_notional, 2) AS twap_notional,
               round(builder_notional, 2) AS builder_notional, fills, non_market_rows,
               round(fees_in_quote, 2) AS fees_in_quote, is_complete
        FROM hl.daily_stats_by(
            %(period)s, coalesce(%(first)s::date, (SELECT max(date) FROM hl.daily_stats) - %(back)s::int, '-infinity'),
            coalesce(%(last)s::date, 'infinity'))
        WHERE %(coin)s::text IS NULL OR coin = %(coin)s
        ORDER BY period_start DESC, notional DESC NULLS LAST, coin LIMIT %(limit)s
    """
    _check_period(period)
    _check_order(first, last)
    back = None if last or coin else _DAYS_BACK.get(period)
    _show(demo, query, {"period": period, "first": first, "last": last, "back": back, "coin": coin, "limit": limit})


@show_app.command("user-stats")
def show_user_stats(
    demo: Demo = False,
    period: Annotated[str, typer.Option(help="day, week, month, year or all.")] = "day",
    first: FirstDay = None,
    last: LastDay = None,
    wallet: Annotated[str | None, typer.Option(help="Only this address.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
) -> None:
    """What each wallet did: the newest periods first, in each the wallets with the most notional."""
    _check_period(period)
    query = """
        SELECT period_start, days, wallet, fills, round(maker_notional, 2) AS maker_notional,
               round(taker_notional, 2) AS taker_notional, round(closed_pnl, 2) AS closed_pnl, closed_pnl_known,
               round((fees ->> 'USDC')::numeric, 2) AS usdc_fees, fees_known, first_fill, last_fill, is_complete
        FROM hl.user_stats_by(
            %(period)s, coalesce(%(first)s::date, (SELECT max(date) FROM hl.user_stats) - %(back)s::int, '-infinity'),
            coalesce(%(last)s::date, 'infinity'), %(wallet)s)
        ORDER BY period_start DESC, maker_notional + taker_notional DESC NULLS LAST, wallet LIMIT %(limit)s
    """
    _check_order(first, last)
    back = None if last or _check_wallet(wallet) else _DAYS_BACK.get(period)
    _show(demo, query, {"period": period, "first": first, "last": last, "back": back, "wallet": wallet, "limit": limit})


@show_app.command("checkpoints")
def show_checkpoints(demo: Demo = False, limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50) -> None:
    """The ledger: the newest objects, what they held, when they were fetched and loaded, and errors."""
    query = """
        SELECT object_key, size_bytes, rows, bad_lines, first_block, last_block, missing_blocks, fetched_at, loaded_at, error
        FROM hl.s3_ingest_log ORDER BY object_date DESC, object_hour DESC LIMIT %(limit)s
    """
    _show(demo, query, {"limit": limit})


@app.command("url")
def print_url(demo: Demo = False) -> None:
    """The URL of the running database, for psql and other clients."""
    from hl_pipeline.warehouse.connect import find_database_url

    try:
        typer.echo(find_database_url(_settings(demo)))
    except NoDatabaseError as error:
        _fail(str(error))


@app.command()
def sample(
    fills_per_hour: Annotated[int, typer.Option(min=1, help="About so many.")],
    days: Annotated[int, typer.Option(min=1, max=366)],
    first: Annotated[date, typer.Option("--from", parser=_parse_day, metavar="DAY", help="First day.")] = _DEMO_FIRST,
    out: Annotated[Path, typer.Option(help="Directory to write; it must not be there yet.")] = Path("sample"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
) -> None:
    """Make a sample bucket of realistic fills, with a record of the truth beside it; set HL_NODE_DATA_URL to use it."""
    from hl_pipeline.sample import write_sample

    if out.exists():
        _fail(f"{out} is there already; choose another with --out, or remove it", code=2)
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
        _fail(str(error), code=2)
    console.print(f"{made.fills:,} fills in {made.objects} objects, {made.bytes / 1e6:,.1f} MB; truth in {made.truth_dir}")
    console.print(f"HL_NODE_DATA_URL={made.node_data_dir}")


def main() -> None:
    """The entry point: errors that people can mend are said in one line."""
    try:
        app()
    except ValidationError as error:
        for item in error.errors():
            name = variable(".".join(map(str, item["loc"])))
            errors.print(f"[red]error:[/] {name}: {item['msg']} (it is {item.get('input')!r}); see .env.example")
        sys.exit(2)


def _settings(demo: bool = False) -> Settings:
    if not demo:
        _warn_of_unknown_settings()
        return Settings()
    home = DemoSettings().home.absolute()
    return DemoSettings(home=home, node_data_url=str(home / "sample" / "hl-mainnet-node-data"))


def _warn_of_unknown_settings() -> None:
    """A mistyped name would be passed over in silence."""
    from dotenv import dotenv_values

    known = {variable(name) for name in Settings.model_fields} | {RESOLVED}
    found = {*os.environ, *dotenv_values(".env")}
    for name in sorted(name for name in found if name.startswith(PREFIX) and name not in known):
        errors.print(f"[yellow]warning:[/] {name} is no setting of ours; see .env.example")


@contextmanager
def _running(settings: Settings) -> Generator[str]:
    from hl_pipeline.installation import running

    with ExitStack() as stack:
        try:
            url = stack.enter_context(running(settings))
        except (NoDatabaseError, EmbeddedServerError) as error:
            _fail(str(error))
        except OSError as error:
            _fail(f"HL_HOME ({settings.home.absolute()}): {error}")
        try:
            yield url
        except (NoDatabaseError, EmbeddedServerError, OSError) as error:
            _fail(str(error))


@contextmanager
def _reading(settings: Settings) -> Generator[str]:
    """As `_running`, but nothing is made where nothing was: looking at an installation must not begin one."""
    if settings.database_url is None and not (settings.home / "postgres").is_dir():
        _fail(f"there is no installation in {settings.home.absolute()} yet: run `hl up`, `hl ingest` or `hl demo` first")
    with _running(settings) as url:
        yield url


def _show(demo: bool, query: str, parameters: dict[str, object]) -> int:
    """Print what the query gives; how many rows that is."""
    with _reading(_settings(demo)) as url, connect(url, "hl show") as connection:
        cursor = connection.execute(query.encode(), parameters)
        names = [column.name for column in cursor.description or []]
        table = Table(*names, box=None, header_style="bold")
        for row in cursor:
            table.add_row(*("" if value is None else _cell(value) for value in row))
    (wide if table.row_count else console).print(table if table.row_count else "nothing there", highlight=False)
    return table.row_count


def _check_order(first: date | None, last: date | None) -> None:
    if first is not None and last is not None and last < first:
        _fail(f"--to {last} is before --from {first}", code=2)


def _open_lake(settings: Settings) -> Lake:
    """The lake, which must be there already."""
    from hl_pipeline.lake import open_lake

    if not settings.lake.startswith("s3://") and not Path(settings.lake).is_dir():
        _fail(f"there is no lake in {settings.lake}; see HL_LAKE_URL")
    return open_lake(settings.lake)


def _check_period(period: str) -> None:
    if period not in _PERIODS:
        _fail(f"--period is {period!r}, must be one of {', '.join(_PERIODS)}", code=2)


def _check_wallet(wallet: str | None) -> str | None:
    if wallet is not None and not re.fullmatch(r"0x[0-9a-fA-F]{40}", wallet):
        _fail(f"--wallet is {wallet!r}, must be 0x and 40 hex digits", code=2)
    return wallet


def _cell(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if value else "0"
    if isinstance(value, dict):
        return escape(", ".join(f"{amount} {token}" for token, amount in value.items()))
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")[:-6]
    return escape(str(value))


def _describe_lake(settings: Settings) -> str:
    from hl_pipeline.lake import open_lake

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


def _hl() -> str:
    """How to call this program from here."""
    program = Path(sys.argv[0]).absolute()
    return str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else "hl"


def _fail(message: str, code: int = 1) -> NoReturn:
    errors.print(f"[red]error:[/] {escape(message)}")
    raise typer.Exit(code)
