"""`hl`, the command line: its commands, and how errors that people can mend are said. Each command has its module."""

from __future__ import annotations

import sys

import typer
from pydantic import ValidationError

from hl_pipeline.cli.acknowledge import acknowledge
from hl_pipeline.cli.backfill import backfill
from hl_pipeline.cli.cost import cost
from hl_pipeline.cli.demo import demo, sample
from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.ingest import ingest
from hl_pipeline.cli.rebuild import drop, rebuild
from hl_pipeline.cli.reset import reset_app
from hl_pipeline.cli.show import show_app
from hl_pipeline.cli.status import print_url, status
from hl_pipeline.cli.terminal import deliver_again, errors
from hl_pipeline.cli.up import api, up
from hl_pipeline.settings import variable
from hl_pipeline.warehouse.urls import hide_password

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Hyperliquid's trading history in a Parquet lake and PostgreSQL: complete, exact, counted once.",
)
# In the order in which the help shows them.
for command in (up, api, demo, ingest, backfill, cost, rebuild, drop, acknowledge, status):
    app.command()(command)
app.command("url")(print_url)
app.command()(sample)
app.add_typer(show_app, name="show")
app.add_typer(reset_app, name="reset")


def main() -> None:
    """The entry point: errors that people can mend are said in one line."""
    sys.unraisablehook = deliver_again
    try:
        app()
    except ValidationError as error:
        for item in error.errors():
            name = variable(".".join(map(str, item["loc"])))
            given = hide_password(item["input"]) if isinstance(item["input"], str) else item["input"]
            errors.print(f"[red]error:[/] {name}: {item['msg']} (it is {given!r}); see .env.example")
        sys.exit(ExitCode.USAGE)
