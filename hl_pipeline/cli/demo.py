"""`hl demo` and `hl sample`: generate made-up trades and load them."""

from __future__ import annotations

import shlex
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.ingest import run_days
from hl_pipeline.cli.terminal import (
    check_days,
    connect,
    console,
    days_of_sample,
    fail,
    load_settings,
    open_installation,
    parse_day,
    program,
)

if TYPE_CHECKING:
    from hl_pipeline.ops.run_days import IngestedDay
    from hl_pipeline.settings import Settings

_DAYS = 2
_FILLS_PER_HOUR = 4_000
_FIRST_OF_SAMPLE = date(2025, 9, 1)
_BUSIEST = 4


def demo(
    first: Annotated[
        date | None,
        typer.Option(
            "--first-day",
            parser=parse_day,
            metavar="DAY",
            help="First of the two days. Default: the two latest days that are fully due.",
        ),
    ] = None,
) -> None:
    """Generate a small sample bucket and load its two days through Dagster into a separate lake and database."""
    from hl_pipeline.ops.run_days import Outcome, worst

    settings = load_settings(demo=True)
    days = _make_sample(settings, first)
    with open_installation(settings) as url:
        done = run_days(days, settings, command="hl demo")
        _print_demo_summary(url, done)
    console.print(
        f"\nOpen the UI on it: [bold]{program()} up --demo[/]   Look at the data: [bold]{program()} show daily-stats --demo[/]"
    )
    outcome = worst(day.outcome for day in done)
    raise typer.Exit(ExitCode.FAILED if outcome == Outcome.FAILED else ExitCode.WHOLE)


def _make_sample(settings: Settings, first: date | None) -> list[date]:
    """Return the days of the sample bucket, creating it first if needed. `first`: the requested first day, or None."""
    from hl_pipeline.domain.datasets import BY_BLOCK
    from hl_pipeline.domain.due_days import last_due_day
    from hl_pipeline.sample.generate import write_sample
    from hl_pipeline.sources.bucket_settings import settings_of

    if days := days_of_sample(Path(settings.node_data_url)):
        if first not in (None, days[0]):
            fail(
                f"the demo in {settings.home} has {days[0]} to {days[-1]}; remove the directory to choose other days",
                code=ExitCode.USAGE,
            )
        return days
    last_day = last_due_day(datetime.now(UTC), settings_of(BY_BLOCK.bucket, settings).publish_lag)
    first = first or last_day - timedelta(days=_DAYS - 1)
    days = check_days(first, first + timedelta(days=_DAYS - 1))
    # A temporary name until it is complete: an interrupted one is generated again.
    unfinished = settings.home / "sample.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with console.status("making a sample bucket"):
            made = write_sample(unfinished, first_day=first, days=_DAYS, fills_per_hour=_FILLS_PER_HOUR)
    except ValueError as error:
        fail(f"--first-day: {error}", code=ExitCode.USAGE)
    unfinished.rename(settings.home / "sample")
    console.print(
        f"sample bucket of made-up trades: {made.objects} objects, {made.fills:,} fills, {made.bytes / 1e6:.1f} MB "
        f"in {settings.home}"
    )
    return days


def sample(
    fills_per_hour: Annotated[int, typer.Option(min=1, help="Approximate number of fills per hour.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="Number of days.")],
    first: Annotated[date, typer.Option("--from", parser=parse_day, metavar="DAY", help="First day.")] = _FIRST_OF_SAMPLE,
    out: Annotated[Path, typer.Option(help="Directory to create; it must not exist.")] = Path("sample"),
    seed: Annotated[int, typer.Option(help="Random seed: the same seed gives the same bytes.")] = 1,
) -> None:
    """Generate sample buckets of realistic fills and TWAP statuses, with a record of the true values.

    The settings that point to them are printed at the end.
    """
    from hl_pipeline.sample.generate import write_sample

    if out.exists():
        fail(f"{out} already exists; choose another directory with --out, or remove it", code=ExitCode.USAGE)
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
        fail(str(error), code=ExitCode.USAGE)
    console.print(f"{made.fills:,} fills in {made.objects} objects, {made.bytes / 1e6:,.1f} MB; truth in {made.truth_dir}")
    # A separate home keeps made-up fills apart from real ones.
    places = {"HL_HOME": out / ".hl", "HL_NODE_DATA_URL": made.node_data_dir, "HL_TWAP_DATA_URL": made.twap_data_dir}
    for name, place in places.items():
        typer.echo(f"export {name}={shlex.quote(str(place.absolute()))}")


def _print_demo_summary(url: str, days: list[IngestedDay]) -> None:
    from rich.table import Table

    from hl_pipeline.warehouse.status_queries import read_busiest_coins

    table = Table("day", "fills", "fetched", "seconds", "missing blocks", "bad lines", box=None, header_style="bold")
    for day in days:
        figures = (f"{day.rows:,}", f"{day.bytes_fetched / 1e6:.1f} MB", f"{day.seconds:.1f}", day.missing_blocks, day.bad_lines)
        table.add_row(str(day.day), *map(str, figures))
    console.print(table)
    with connect(url, "hl demo") as connection:
        busiest = read_busiest_coins(connection, _BUSIEST)
    coins = ", ".join(f"{coin} {notional:,.0f} in {trades:,} trades" for coin, trades, notional in busiest)
    console.print(f"most traded, by notional in the coin's quote: {coins}", highlight=False)
