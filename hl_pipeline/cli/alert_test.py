"""`hl alert-test`: sends a test message to each destination of HL_ALERT_URLS."""

from __future__ import annotations

import typer

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import Demo, errors, fail, load_settings


def alert_test(demo: Demo = False) -> None:
    """Send a test message to each URL of HL_ALERT_URLS, and say which received it."""
    from rich.markup import escape

    from hl_pipeline.ops.notify import AlertUrlError, Message, open_destinations

    settings = load_settings(demo)
    try:
        destinations = open_destinations(settings)
    except AlertUrlError as error:
        fail(str(error), code=ExitCode.USAGE)
    if not destinations:
        fail("HL_ALERT_URLS is not set, so no alerts are sent; docs/alerts.md has examples", code=ExitCode.USAGE)
    message = Message("hl-pipeline: test", f"Alerts of hl-pipeline arrive here.\nUI: {settings.address_of_ui}")
    failed = False
    for destination in destinations:
        why = destination.send(message)
        if why is None:
            typer.echo(f"{destination.name}: sent")
        else:
            failed = True
            errors.print(f"[red]error:[/] {destination.name}: {escape(why)}")
    raise typer.Exit(ExitCode.FAILED if failed else ExitCode.WHOLE)
