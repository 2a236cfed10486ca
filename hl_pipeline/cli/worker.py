"""`hl worker`: takes runs from the broker. `ops.celery_worker` executes them."""

from __future__ import annotations

import typer

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import console, fail, load_settings, open_installation


def worker() -> None:
    """Take runs that `hl up` on another machine sends through HL_BROKER_URL, HL_RUNS_AT_ONCE at a time (HL_LAUNCHER=celery).

    Ctrl-C or SIGTERM: it takes no more runs, and ends when those in progress have ended. A second one interrupts them.
    """
    settings = load_settings()
    if settings.launcher != "celery":
        fail(
            f"hl worker takes runs from a broker: set HL_LAUNCHER=celery and HL_BROKER_URL (HL_LAUNCHER is {settings.launcher})",
            code=ExitCode.USAGE,
        )
    if settings.database_url is None:
        fail("hl worker needs the database of the machine with hl up: set HL_DATABASE_URL", code=ExitCode.USAGE)
    with open_installation(settings) as url:
        from hl_pipeline.ops.celery_worker import log_to_terminal, run_worker

        log_to_terminal()
        code = run_worker(settings, url, lambda text: console.print(text, highlight=False))
    raise typer.Exit(code)
