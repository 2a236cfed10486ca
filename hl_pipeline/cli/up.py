"""`hl up` and `hl api`: run services until Ctrl-C. `ops.services` starts and stops them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import (
    Demo,
    check_days,
    fail,
    load_settings,
    open_installation,
    parse_day,
    parse_prefix,
    serving_info,
)

if TYPE_CHECKING:
    from hl_pipeline.settings import Settings


def up(
    demo: Demo = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the UI.")] = None,
    api_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the REST API.")] = None,
    path_prefix: Annotated[
        str | None,
        typer.Option(
            parser=parse_prefix,
            metavar="PATH",
            help="Path prefix of the UI behind a proxy that does not strip it, like /dagster.",
        ),
    ] = None,
    api_path_prefix: Annotated[
        str | None,
        typer.Option(parser=parse_prefix, metavar="PATH", help="Path prefix of the REST API behind a proxy, like /hl."),
    ] = None,
    first: Annotated[
        date | None,
        typer.Option(
            "--backfill-from",
            parser=parse_day,
            metavar="DAY",
            help="After the start, launch a backfill of the missing days from this one on.",
        ),
    ] = None,
    last: Annotated[
        date | None,
        typer.Option(
            "--backfill-to", parser=parse_day, metavar="DAY", help="Last day of the backfill, inclusive. Default: yesterday."
        ),
    ] = None,
) -> None:
    """Start PostgreSQL (unless HL_DATABASE_URL is set), the Dagster UI, its daemon and the REST API; Ctrl-C stops them.

    With --backfill-from, also launch one backfill of the days that are neither loaded nor queued.
    """
    from hl_pipeline.ops.database_watch import DatabaseWatch
    from hl_pipeline.ops.notify import AlertUrlError, open_destinations
    from hl_pipeline.ops.services import Address, AlreadyUpError, give_api_its_database, run_services

    days = _days_to_fill(first, last)
    chosen = _with_options(load_settings(demo), port=port, path_prefix=path_prefix, api_path_prefix=api_path_prefix)
    try:
        open_destinations(chosen)
    except AlertUrlError as error:
        fail(str(error), code=ExitCode.USAGE)
    with serving_info(chosen) as settings, open_installation(settings) as url:
        give_api_its_database(url)
        try:
            code = run_services(
                settings.home.absolute(),
                Address(settings.port, settings.path_prefix),
                Address(api_port or settings.api_port, settings.api_path_prefix),
                DatabaseWatch(url, settings.home if settings.database_url is None else None),
                _backfill_request(url, days),
                as_json=settings.log_format == "json",
            )
        except AlreadyUpError as error:
            fail(str(error))
    raise typer.Exit(code)


def api(
    demo: Demo = False,
    host: Annotated[str, typer.Option(help="Address to listen on. Any but loopback needs HL_API_KEYS.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535)] = None,
    path_prefix: Annotated[
        str | None, typer.Option(parser=parse_prefix, metavar="PATH", help="Path prefix behind a proxy, like /hl.")
    ] = None,
) -> None:
    """Start PostgreSQL (unless HL_DATABASE_URL is set) and the REST API alone; Ctrl-C stops them."""
    from hl_pipeline.ops.database_watch import DatabaseWatch
    from hl_pipeline.ops.services import Address, AlreadyUpError, give_api_its_database, run_api

    settings = _with_options(load_settings(demo), api_path_prefix=path_prefix)
    _check_is_guarded(host, settings)
    with open_installation(settings) as url:
        give_api_its_database(url)
        database = DatabaseWatch(url, settings.home if settings.database_url is None else None)
        try:
            code = run_api(
                host,
                Address(port or settings.api_port, settings.api_path_prefix),
                database,
                as_json=settings.log_format == "json",
            )
        except AlreadyUpError as error:
            fail(str(error))
    raise typer.Exit(code)


def _check_is_guarded(host: str, settings: Settings) -> None:
    """Refuse to listen where other machines reach the API, if it has no keys and was not told to do without."""
    import socket

    from api.access import CLOSED, is_loopback

    if settings.api_keys is not None or settings.api_without_keys:
        return
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        fail(f"cannot listen on {host}: {error.strerror}", code=ExitCode.USAGE)
    if not all(is_loopback(str(address[0])) for *_, address in found):
        fail(f"--host {host} lets other machines in, but {CLOSED}", code=ExitCode.USAGE)


def _with_options(settings: Settings, **given: int | str | None) -> Settings:
    """Return the settings with those given as options, so that children know them too."""
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


def _days_to_fill(first: date | None, last: date | None) -> list[date]:
    """Return the days of --backfill-from and --backfill-to (default: the last complete day), or none without them."""
    if first is None:
        if last is not None:
            fail("--backfill-to needs --backfill-from, the first day", code=ExitCode.USAGE)
        return []
    if last is not None and last < first:
        fail(f"--backfill-to {last} is before --backfill-from {first}", code=ExitCode.USAGE)
    return check_days(first, last or max(first, datetime.now(UTC).date() - timedelta(days=1)))


def _backfill_request(database_url: str, days: list[date]) -> Callable[[str], str] | None:
    """Return a function that launches a backfill of `days` at a webserver's address and describes the result."""
    from hl_pipeline.ops.launch_backfill import request_backfill

    return (lambda webserver: request_backfill(webserver, database_url, days).describe()) if days else None
