"""`hl export`: writes what the REST API returns into a file, without a running API."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import date
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import Demo, check_wallet, errors, fail, load_settings, open_existing

if TYPE_CHECKING:
    from hl_pipeline.settings import Settings

export_app = typer.Typer(no_args_is_help=True, help="Write rows into a file.")
_LAYOUTS = "Columns: default, or those of koinly, cointracker, awaken (perpetuals) or awaken-spot."
_FIRST_YEAR, _LAST_YEAR = 2023, 2200
# A year of a large wallet takes minutes, and nobody waits for the connection.
_SECONDS = 86_400.0


class TaxFormat(Enum):
    """Format of the file."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"
    ARROW = "arrow"


class TaxLayout(Enum):
    """Columns of the file."""

    DEFAULT = "default"
    KOINLY = "koinly"
    COINTRACKER = "cointracker"
    AWAKEN = "awaken"
    AWAKEN_SPOT = "awaken-spot"


class TaxLines(Enum):
    """What a line is."""

    TWAPS = "twaps"
    FILLS = "fills"


@export_app.command("tax")
def export_tax(
    wallet: Annotated[str, typer.Option(help="The address.")],
    year: Annotated[int, typer.Option(min=_FIRST_YEAR, max=_LAST_YEAR, help="The year (UTC).")],
    demo: Demo = False,
    file_format: Annotated[
        TaxFormat, typer.Option("--format", metavar="FORMAT", help="csv, ndjson, parquet or arrow.")
    ] = TaxFormat.CSV,
    layout: Annotated[TaxLayout, typer.Option(metavar="LAYOUT", help=_LAYOUTS)] = TaxLayout.DEFAULT,
    lines: Annotated[
        TaxLines,
        typer.Option(metavar="LINES", help="twaps: a line per TWAP and one per fill outside TWAPs. fills: a line per fill."),
    ] = TaxLines.TWAPS,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write; it is replaced. Default: standard output.")
    ] = None,
) -> None:
    """Write a wallet's year for its accounts: prices, sizes, fees and realized profit. docs/guides/tax.md has the columns.

    Exit code 3: days of the year are missing. Standard error lists them.
    """
    check_wallet(wallet)
    if output is None and file_format in (TaxFormat.PARQUET, TaxFormat.ARROW) and sys.stdout.isatty():
        fail(f"{file_format.value} is binary: give --output FILE", code=ExitCode.USAGE)
    settings = load_settings(demo)
    with open_existing(settings) as url:
        work = _write(settings, url, wallet.lower(), year, file_format.value, layout.value, lines.value, output)
        missing = asyncio.run(work)
    for run in missing:
        days = (date.fromisoformat(run["to"]) - date.fromisoformat(run["from"])).days + 1
        reason = f"{run['state']}: {run['note']}" if run.get("note") else run["state"]
        errors.print(f"missing: {run['from']} to {run['to']} ({days} {'day' if days == 1 else 'days'}), {reason}", markup=False)
    if missing:
        raise typer.Exit(int(ExitCode.INCOMPLETE))


async def _write(
    settings: Settings, url: str, wallet: str, year: int, chosen: Any, layout: Any, lines: Any, output: Path | None
) -> list[dict[str, Any]]:
    """Write the file. Returns the runs of missing days. Ends the command on an error, without a file."""
    import psycopg
    from fastapi import HTTPException
    from psycopg_pool import PoolTimeout
    from pydantic import SecretStr

    from api.database import make_export_pool
    from api.export import Opened
    from api.file_formats import encode
    from api.lake import Lake, retrying
    from api.lake_files import LakeChangedError, LakeMemoryError, LakeSlowError
    from api.settings import ApiOptions, ApiSettings
    from api.tax import missing_runs, open_tax, year_range
    from api.tax_layouts import read_layout

    own = {name: getattr(settings, name) for name in ApiOptions.model_fields}
    api = ApiSettings(**own | {"api_database_url": SecretStr(url), "api_export_timeout_seconds": _SECONDS})
    lake = Lake(settings.lake, api)

    async def begin() -> tuple[AsyncExitStack, Opened]:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(make_export_pool(api))
            connection = await stack.enter_async_context(pool.connection())
            columns = await read_layout(connection, layout)
            opened = await open_tax(stack, connection, lake, _SECONDS, year_range(wallet, year), lines, columns)
            return stack.pop_all(), opened

    try:
        stack, opened = await retrying(begin)
        async with stack:
            await _save(encode(chosen, opened.source, opened.first, opened.columns, opened.facts), output)
        return missing_runs(opened.facts)
    except HTTPException as error:
        fail(str(error.detail))
    except (psycopg.Error, PoolTimeout, LakeChangedError, LakeMemoryError, LakeSlowError) as error:
        fail(" ".join(str(error).split()) or type(error).__name__)
    finally:
        lake.close()


async def _save(body: AsyncIterator[bytes], output: Path | None) -> None:
    """Write to standard output, or replace a file once all of it is written."""
    if output is None:
        async for part in body:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f".{output.name}.partial")
    try:
        with partial.open("wb") as file:
            async for part in body:
                file.write(part)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
