"""Shared by the commands of `hl`: common options, settings, opening an installation, connecting, one-line errors."""

from __future__ import annotations

import gc
import io
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, NoReturn, cast

import typer
from rich.console import Console
from rich.markup import escape

from hl_pipeline.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import psycopg

    from hl_pipeline.lake.store import Lake
    from hl_pipeline.settings import Settings

console = Console(soft_wrap=True)
# Wide enough for any table: a terminal wraps the lines, a file or a pipe keeps them intact.
wide = Console(width=10_000)
errors = Console(stderr=True, soft_wrap=True, highlight=False)

_JSON_HANDLER = "hl-json"

Demo = Annotated[bool, typer.Option("--demo", help="Use the demo's home (.hl-demo) and settings instead of yours.")]


def parse_prefix(text: str) -> str:
    """Parse a path prefix typed by the user. Raises BadParameter."""
    from hl_pipeline.settings import check_path_prefix

    try:
        return check_path_prefix(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}") from None


def parse_day(text: str | date) -> date:
    """Parse a day typed by the user. Raises BadParameter."""
    if isinstance(text, date):  # a default
        return text
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day like 2026-03-15") from None


FromDay = Annotated[date, typer.Option("--from", parser=parse_day, metavar="DAY", help="First day (UTC), like 2026-03-15.")]
FirstDay = Annotated[
    date | None, typer.Option("--from", parser=parse_day, metavar="DAY", help="First day (UTC), like 2026-03-15.")
]
LastDay = Annotated[date | None, typer.Option("--to", parser=parse_day, metavar="DAY", help="Last day (UTC), inclusive.")]
ToDay = Annotated[date, typer.Option("--to", parser=parse_day, metavar="DAY", help="Last day (UTC), inclusive.")]


def load_settings(demo: bool = False) -> Settings:
    """Return the user's settings, or the demo's."""
    from hl_pipeline.settings import NONE, DemoSettings, Settings

    if not demo:
        settings = Settings()
        set_log_format(settings.log_format)
        _warn_of_unknown_settings()
        return settings
    home = DemoSettings().home.absolute()
    sample = _sample_of(DemoSettings(home=home))
    settings = DemoSettings(
        home=home,
        node_data_url=str(sample / "hl-mainnet-node-data"),
        twap_data_url=str(sample / "artemis-hyperliquid-data" / "raw" / "twap_statuses"),
        info_url=NONE,
    )
    if not (days := days_of_sample(Path(settings.node_data_url))):
        return settings
    start, end = (datetime.combine(day, time(), UTC) for day in (days[0], days[-1] + timedelta(days=1)))
    return settings.model_copy(update={"backfill_from": start, "backfill_to": end})


def days_of_sample(bucket: Path) -> list[date]:
    """Return the days of a sample bucket. Of the day after the last, it has only the first hour."""
    return sorted({date.fromisoformat(path.name) for path in bucket.glob("*/hourly/*")})[:-1]


def _sample_of(settings: Settings) -> Path:
    return settings.home / "sample"


@contextmanager
def serving_info(settings: Settings) -> Generator[Settings]:
    """Yield the settings. For a demo, serve an info API from its sample until the block ends, and point the settings to it."""
    from hl_pipeline.settings import DemoSettings

    if not isinstance(settings, DemoSettings) or not _sample_of(settings).is_dir():
        yield settings
        return
    from hl_pipeline.sample.info_server import serve_info

    with serve_info(_sample_of(settings)) as url:
        yield settings.model_copy(update={"info_url": url})


def _warn_of_unknown_settings() -> None:
    """Warn of unknown HL_* variables: a mistyped name would otherwise be ignored silently."""
    from dotenv import dotenv_values

    from hl_pipeline.settings import PREFIX, RESOLVED, Settings, variable

    ours = {variable(name) for name in Settings.model_fields} | {RESOLVED}
    given = {*os.environ, *dotenv_values(".env")}
    for name in sorted(name for name in given if name.startswith(PREFIX) and name not in ours):
        errors.print(f"[yellow]warning:[/] {name} is not a setting; see .env.example for all names")


class _JsonLines(io.TextIOBase):
    """Standard error, with each line as a JSON object."""

    def write(self, text: str) -> int:
        from hl_pipeline.ops.json_lines import as_json_line

        sys.stderr.write("".join(f"{as_json_line('hl', line)}\n" for line in text.splitlines() if line.strip()))
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()


def set_log_format(log_format: str) -> None:
    """Write errors, warnings and the pipeline's events to standard error as JSON, or only errors and warnings as text."""
    pipeline = logging.getLogger("hl_pipeline")
    for handler in [handler for handler in pipeline.handlers if handler.name == _JSON_HANDLER]:
        pipeline.removeHandler(handler)
        pipeline.setLevel(logging.NOTSET)
    errors.file = cast("IO[str]", _JsonLines() if log_format == "json" else None)
    if log_format == "json":
        from hl_pipeline.events import json_formatter

        handler = logging.StreamHandler(sys.stderr)
        handler.name = _JSON_HANDLER
        handler.setFormatter(json_formatter())
        pipeline.addHandler(handler)
        pipeline.setLevel(logging.INFO)


@contextmanager
def loading() -> Generator[None]:
    """Pause the garbage collector during large imports, where it takes a fifth of the time. It ignores the imported objects
    afterwards.
    """
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        gc.enable()


def deliver_again(lost: sys.UnraisableHookArgs) -> None:
    """Hook for sys.unraisablehook: raises Ctrl-C again if it arrived, and was lost, during garbage collection."""
    if isinstance(lost.exc_value, Exception | None):
        sys.__unraisablehook__(lost)
    else:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()


@contextmanager
def open_installation(settings: Settings, *, migrated: bool = True) -> Generator[str]:
    """Start the installation if needed and yield its database URL. The schema is migrated if `migrated`.

    Errors end the command with a one-line message.
    """
    from hl_pipeline.ops.installation import hold_installation
    from hl_pipeline.warehouse.connect import NoDatabaseError
    from hl_pipeline.warehouse.embedded import EmbeddedServerError
    from hl_pipeline.warehouse.migrate import SchemaError

    check_demo(settings)
    with ExitStack() as stack:
        try:
            url = stack.enter_context(hold_installation(settings, migrated=migrated))
        except (NoDatabaseError, EmbeddedServerError, SchemaError) as error:
            fail(str(error))
        except OSError as error:
            fail(f"HL_HOME ({settings.home.absolute()}): {error}")
        try:
            yield url
        except (NoDatabaseError, EmbeddedServerError, SchemaError, OSError) as error:
            fail(str(error))


@contextmanager
def open_existing(settings: Settings, *, migrated: bool = True) -> Generator[str]:
    """Like `open_installation`, but ends the command if there is no installation: a read must not create one."""
    check_existing(settings)
    with open_installation(settings, migrated=migrated) as url:
        yield url


def connect(url: str, application: str) -> psycopg.Connection:
    """Call `warehouse.connect.connect`. Imported here, so that only commands that connect load the driver."""
    from hl_pipeline.warehouse import connect as warehouse

    return warehouse.connect(url, application)


def check_existing(settings: Settings) -> None:
    """End the command if there is no installation; the message mentions the demo if there is one."""
    from hl_pipeline.settings import DemoSettings

    if settings.database_url is not None or (settings.home / "postgres").is_dir():
        return
    check_demo(settings)
    where = f"there is no installation in {settings.home.absolute()} yet"
    demo = DemoSettings().home
    if (demo / "postgres").is_dir():
        fail(f"{where}, but a demo in {demo.absolute()}: use --demo, or run `hl up` or `hl ingest` first")
    fail(f"{where}: run `hl up`, `hl ingest` or `hl demo` first")


def check_demo(settings: Settings) -> None:
    """End the command if it needs a demo that does not exist."""
    from hl_pipeline.settings import DemoSettings

    if isinstance(settings, DemoSettings) and not _sample_of(settings).is_dir():
        fail(f"there is no demo in {settings.home.absolute()} yet: run `hl demo` first")


def check_order(first: date | None, last: date | None) -> None:
    """End the command if `last` is before `first`."""
    if first is not None and last is not None and last < first:
        fail(f"--to {last} is before --from {first}", code=ExitCode.USAGE)


def check_wallet(wallet: str | None) -> str | None:
    """Return the address. Ends the command if it is none."""
    if wallet is not None and not re.fullmatch(r"0x[0-9a-fA-F]{40}", wallet):
        fail(f"--wallet is {wallet!r}; it must be 0x and 40 hex digits", code=ExitCode.USAGE)
    return wallet


def check_days(first: date, last: date) -> list[date]:
    """Return the days from `first` to `last`. Ends the command if a day is outside the partitions."""
    with loading():
        from hl_pipeline.partitions import DAYS, days_between

    check_order(first, last)
    keys = DAYS.get_partition_keys()
    if str(first) < keys[0] or str(last) > keys[-1]:
        fail(f"days must be from {keys[0]} to {keys[-1]} (UTC); given: {first} to {last}", code=ExitCode.USAGE)
    return days_between(first, last)


def program() -> str:
    """Return the command that calls this program again on the same installation."""
    program = Path(sys.argv[0]).absolute()
    called = str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else "hl"
    return f"{called} --demo" if "--demo" in sys.argv[1:] else called


def open_existing_lake(settings: Settings) -> Lake:
    """Open the lake. Ends the command if it does not exist."""
    from hl_pipeline.lake.store import open_lake

    if not settings.lake.startswith("s3://") and not Path(settings.lake).is_dir():
        fail(f"there is no lake in {settings.lake}; check HL_LAKE_URL")
    return open_lake(settings.lake)


def fail(message: str, code: ExitCode = ExitCode.FAILED) -> NoReturn:
    """Print the error and end the command."""
    errors.print(f"[red]error:[/] {escape(message)}")
    raise typer.Exit(int(code))
