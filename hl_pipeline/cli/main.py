"""The `hl` command line: registers the commands and prints errors that users can fix as one line.

Each command has a module. It imports at the top only what `hl --help` needs, and the rest when the command runs.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Annotated

import typer
from rich.markup import escape
from typer.exceptions import Abort, TyperException

from hl_pipeline.cli.acknowledge import acknowledge
from hl_pipeline.cli.alert_test import alert_test
from hl_pipeline.cli.api_key import api_key
from hl_pipeline.cli.backfill import backfill
from hl_pipeline.cli.backup import backup, restore
from hl_pipeline.cli.completion import completion, prepare_completion
from hl_pipeline.cli.cost import cost
from hl_pipeline.cli.demo import demo, sample
from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.export import export_app
from hl_pipeline.cli.ingest import ingest
from hl_pipeline.cli.lake import lake_app
from hl_pipeline.cli.mcp import mcp
from hl_pipeline.cli.rebuild import drop, rebuild
from hl_pipeline.cli.reset import reset_app
from hl_pipeline.cli.show import show_app
from hl_pipeline.cli.status import print_url, status
from hl_pipeline.cli.terminal import Demo, deliver_again, errors, set_log_format
from hl_pipeline.cli.up import api, up
from hl_pipeline.cli.upgrade import upgrade
from hl_pipeline.cli.worker import worker

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Hyperliquid's trading history in a Parquet lake and PostgreSQL: complete, exact, each fill once.",
)


def _print_version(is_set: bool) -> None:
    if is_set:
        from importlib.metadata import version

        typer.echo(version("hl-pipeline"))
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    demo: Demo = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if demo:
        # --demo is accepted before the command and after it.
        context.default_map = _with_demo(context.command)


def _with_demo(command: object) -> dict[str, object]:
    """Return defaults that set --demo for a command and its subcommands."""
    commands: dict[str, object] = getattr(command, "commands", {})
    return {"demo": True, **{name: _with_demo(inner) for name, inner in commands.items()}}


# The help lists them in this order.
for command in (
    up,
    worker,
    api,
    api_key,
    alert_test,
    mcp,
    demo,
    ingest,
    backfill,
    cost,
    rebuild,
    drop,
    acknowledge,
    backup,
    restore,
    upgrade,
    status,
):
    app.command()(command)
app.command("url")(print_url)
app.command()(sample)
app.command()(completion)
app.add_typer(show_app, name="show")
app.add_typer(export_app, name="export")
app.add_typer(lake_app, name="lake")
app.add_typer(reset_app, name="reset")


def _end_quickly() -> None:
    # Without this, Python's final garbage collection scans everything Dagster loaded: a second of CPU. But DuckDB prints every
    # object that is not collected as a leak.
    if "duckdb" in sys.modules:
        gc.unfreeze()
    else:
        gc.freeze()


def main() -> None:
    """Run the program; errors that users can fix are printed as one line."""
    sys.unraisablehook = deliver_again
    atexit.register(_end_quickly)
    prepare_completion()
    # So that a wrong option or setting is JSON too. A setting in a file is known only when it was read.
    set_log_format(os.environ.get("HL_LOG_FORMAT", ""))
    try:
        # In standalone mode Typer prints errors in boxes.
        sys.exit(app(standalone_mode=False))
    except TyperException as error:
        # Without arguments the help is printed, which is no error.
        if message := error.format_message():
            errors.print(f"[red]error:[/] {escape(_in_our_words(message))}; --help lists the commands and options")
        sys.exit(error.exit_code)
    except Abort:
        errors.print("[red]error:[/] aborted")
        sys.exit(ExitCode.FAILED)
    except ValueError as error:
        _print_bad_settings(error)
        sys.exit(ExitCode.USAGE)


def _print_bad_settings(error: ValueError) -> None:
    """Print each invalid setting with the reason. Raises `error` again if it is not about settings."""
    # Imported here because `--help` checks no settings.
    from pydantic import ValidationError

    from api.settings import NEVER_SHOWN
    from hl_pipeline.settings import variable
    from hl_pipeline.warehouse.urls import hide_password

    if not isinstance(error, ValidationError):
        raise error
    for item in error.errors():
        field = ".".join(map(str, item["loc"]))
        given = hide_password(item["input"]) if isinstance(item["input"], str) else item["input"]
        found = "" if field in NEVER_SHOWN else f" (found {given!r})"
        errors.print(f"[red]error:[/] {variable(field)}: {escape(_in_our_words(item['msg']))}{found}; see .env.example")


def _in_our_words(message: str) -> str:
    """Rewrite the beginning of pydantic's messages in our style."""
    return message.replace("Input should be", "must be").replace("Value error, ", "")
