"""`hl demo` and `hl sample`: made-up trades, to see it work."""

from __future__ import annotations

import shlex
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.ingest import run_days
from hl_pipeline.cli.terminal import console, fail, load_settings, open_installation, parse_day, program
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.status_queries import read_busiest_coins

if TYPE_CHECKING:
    from hl_pipeline.ops.run_days import IngestedDay

_DAYS = 2
_FILLS_PER_HOUR = 4_000
_FIRST = date(2025, 9, 1)
_BUSIEST = 4


def demo() -> None:
    """See it work: a small sample bucket, its days through Dagster into lake and database, in a home of its own."""
    from hl_pipeline.ops.run_days import Outcome, worst
    from hl_pipeline.partitions import days_between
    from hl_pipeline.sample.generate import write_sample

    settings = load_settings(demo=True)
    last = date.fromordinal(_FIRST.toordinal() + _DAYS - 1)
    if not Path(settings.node_data_url).is_dir():
        with console.status("making a sample bucket"):
            made = write_sample(settings.home / "sample", first_day=_FIRST, days=_DAYS, fills_per_hour=_FILLS_PER_HOUR)
        console.print(
            f"sample bucket of made-up trades: {made.objects} objects, {made.fills:,} fills, {made.bytes / 1e6:.1f} MB "
            f"in {settings.home}"
        )
    with open_installation(settings) as url:
        done = run_days(days_between(_FIRST, last), settings)
        _print_demo_summary(url, done)
    console.print(
        f"\nOpen the UI on it: [bold]{program()} up --demo[/]   Look at figures: [bold]{program()} show daily-stats --demo[/]"
    )
    outcome = worst(day.outcome for day in done)
    raise typer.Exit(ExitCode.FAILED if outcome == Outcome.FAILED else ExitCode.WHOLE)


def sample(
    fills_per_hour: Annotated[int, typer.Option(min=1, help="About so many.")],
    days: Annotated[int, typer.Option(min=1, max=366)],
    first: Annotated[date, typer.Option("--from", parser=parse_day, metavar="DAY", help="First day.")] = _FIRST,
    out: Annotated[Path, typer.Option(help="Directory to write; it must not be there yet.")] = Path("sample"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
) -> None:
    """Make sample buckets of realistic fills and TWAP statuses, with a record of the truth; to use them set what is shown."""
    from hl_pipeline.sample.generate import write_sample

    if out.exists():
        fail(f"{out} is there already; choose another with --out, or remove it", code=ExitCode.USAGE)
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
    # A home of its own: made-up fills never stand among real ones.
    places = {"HL_HOME": out / ".hl", "HL_NODE_DATA_URL": made.node_data_dir, "HL_TWAP_DATA_URL": made.twap_data_dir}
    for name, place in places.items():
        typer.echo(f"export {name}={shlex.quote(str(place.absolute()))}")


def _print_demo_summary(url: str, days: list[IngestedDay]) -> None:
    table = Table("day", "fills", "fetched", "seconds", "missing blocks", "bad lines", box=None, header_style="bold")
    for day in days:
        figures = (f"{day.rows:,}", f"{day.bytes_fetched / 1e6:.1f} MB", f"{day.seconds:.1f}", day.missing_blocks, day.bad_lines)
        table.add_row(str(day.day), *map(str, figures))
    console.print(table)
    with connect(url, "hl demo") as connection:
        busiest = read_busiest_coins(connection, _BUSIEST)
    coins = ", ".join(f"{coin} {notional:,.0f} in {trades:,} trades" for coin, trades, notional in busiest)
    console.print(f"most traded: {coins}", highlight=False)
