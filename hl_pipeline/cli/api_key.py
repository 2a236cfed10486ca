"""`hl api-key`: makes a key for the REST API. It stores nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import fail


def api_key(
    name: Annotated[str, typer.Argument(help="Name of the key, for logs and limits: whom or what it is for.")],
    exports: Annotated[bool, typer.Option("--exports", help="Allow files: every format but JSON.")] = False,
) -> None:
    """Make a key for the REST API: print the key once, and the entry for HL_API_KEYS, which holds only its hash."""
    from api.keys import check_name, make_entry, make_key

    try:
        check_name(name)
    except ValueError as error:
        fail(str(error), code=ExitCode.USAGE)
    key = make_key()
    typer.echo(f"Key, for the client; it is not shown again:\n\n  {key}\n")
    typer.echo(f"Entry, for HL_API_KEYS of the API:\n\n  {make_entry(name, key, may_export=exports)}\n")
    typer.echo("Add the entry to HL_API_KEYS (commas between entries) and restart the API.")
