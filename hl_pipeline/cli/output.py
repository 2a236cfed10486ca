"""Rows for a person, or for a program: a table, JSON or CSV. What the rows are is the matter of each command."""

from __future__ import annotations

import csv
import json
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import console, fail, wide
from hl_pipeline.warehouse.show_queries import Rows

AsJson = Annotated[bool, typer.Option("--json", help="As JSON: decimals are texts, times UTC, null is unknown.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="As CSV, with a head; an empty field is unknown.")]


class Output(Enum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def choose_output(as_json: bool, as_csv: bool) -> Output:
    """What --json and --csv ask for; not both."""
    if as_json and as_csv:
        fail("--json and --csv are both given: choose one of them", code=ExitCode.USAGE)
    return Output.JSON if as_json else Output.CSV if as_csv else Output.TABLE


def print_rows(found: Rows, output: Output) -> None:
    """Print them on standard output; a table without rows says so."""
    if output == Output.JSON:
        print_json([dict(zip(found.columns, row, strict=True)) for row in found.rows])
    elif output == Output.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(found.columns)
        writer.writerows([_as_field(value) for value in row] for row in found.rows)
    elif found.rows:
        table = Table(*found.columns, box=None, header_style="bold")
        for row in found.rows:
            table.add_row(*("" if value is None else _as_cell(value) for value in row))
        wide.print(table, highlight=False)
    else:
        console.print("nothing there", highlight=False)


def print_json(content: object) -> None:
    """Print it as JSON, values as the REST API writes them."""
    typer.echo(json.dumps(_as_json(content), indent=2, ensure_ascii=False))


def _as_json(value: Any) -> Any:
    match value:
        case dict():
            return {str(name): _as_json(part) for name, part in value.items()}
        case list() | tuple():
            return [_as_json(part) for part in value]
        case Decimal():
            return _plain(value)
        case datetime():
            instant = value.astimezone(UTC).replace(tzinfo=None)
            return instant.isoformat(timespec="microseconds" if instant.microsecond % 1000 else "milliseconds") + "Z"
        case date():
            return value.isoformat()
        case _:
            return value


def _as_field(value: Any) -> Any:
    """As the CSV of the REST API has it."""
    known = _as_json(value)
    if isinstance(known, bool):
        return str(known).lower()
    return json.dumps(known, ensure_ascii=False) if isinstance(known, dict | list) else known


def _as_cell(value: object) -> str:
    if isinstance(value, Decimal):
        return _plain(value)
    if isinstance(value, dict):
        return escape(", ".join(f"{amount} {token}" for token, amount in value.items()))
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")[:-6]
    return escape(str(value))


def _plain(number: Decimal) -> str:
    """No exponent, no trailing zeros."""
    return f"{number.normalize():f}" if number else "0"
