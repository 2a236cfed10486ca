"""Prints rows as a table, JSON or CSV. The commands choose the rows."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import console, errors, fail, wide

if TYPE_CHECKING:
    from hl_pipeline.warehouse.show_queries import Rows

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: decimals as strings, times in UTC, null for unknown.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV with a header; an empty field is unknown.")]


Wide = Annotated[bool, typer.Option("--wide", help="Print all columns, even if the table is too wide.")]

_MOST_COLUMNS = 100
_LONGEST_CELL = 50
_BETWEEN = 2  # columns between two cells


class Output(Enum):
    """Output format of rows. A table has the columns that fit into a terminal; a wide table has all columns."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    CSV = "csv"


def choose_output(as_json: bool, as_csv: bool, is_wide: bool = False) -> Output:
    """Return the format chosen by --json, --csv or --wide. Ends the command if two are given."""
    formats = [(as_json, "--json", Output.JSON), (as_csv, "--csv", Output.CSV), (is_wide, "--wide", Output.WIDE)]
    given = [(option, output) for is_given, option, output in formats if is_given]
    if len(given) > 1:
        fail(f"{given[0][0]} and {given[1][0]} exclude each other: choose one format", code=ExitCode.USAGE)
    return given[0][1] if given else Output.TABLE


def print_rows(result: Rows, output: Output, first: Sequence[str] = ()) -> None:
    """Print rows on standard output, or a message if a table has no rows.

    If not all columns fit, the columns in `first` take precedence and the number of hidden ones is printed. Values are never cut.
    """
    if output == Output.JSON:
        print_json([dict(zip(result.columns, row, strict=True)) for row in result.rows])
    elif output == Output.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(result.columns)
        writer.writerows([_as_field(value) for value in row] for row in result.rows)
    elif result.rows:
        cells = [["" if value is None else _as_cell(value) for value in row] for row in result.rows]
        shown = range(len(result.columns)) if output == Output.WIDE else _choose_columns(result.columns, cells, first)
        from rich.table import Table

        table = Table(box=None, header_style="bold", padding=(0, _BETWEEN, 0, 0), pad_edge=False)
        for n in shown:
            table.add_column(result.columns[n], overflow="fold", max_width=None if output == Output.WIDE else _LONGEST_CELL)
        for row in cells:
            table.add_row(*(row[n] for n in shown))
        wide.print(table, highlight=False)
        if others := len(result.columns) - len(shown):
            errors.print(f"[dim]{others} more columns: --wide, --csv or --json[/]")
    else:
        console.print("no rows", highlight=False)


def _choose_columns(names: Sequence[str], cells: Sequence[Sequence[str]], first: Sequence[str]) -> list[int]:
    """Return the indexes of the columns that fit, in table order. Columns in `first` are chosen before the others."""
    from rich.cells import cell_len

    widths = [min(max(cell_len(name), *(cell_len(row[n]) for row in cells)), _LONGEST_CELL) for n, name in enumerate(names)]
    chosen: list[int] = []
    left = _MOST_COLUMNS + _BETWEEN
    for n in sorted(range(len(names)), key=lambda n: first.index(names[n]) if names[n] in first else len(first)):
        if widths[n] + _BETWEEN <= left:
            chosen.append(n)
            left -= widths[n] + _BETWEEN
    return sorted(chosen)


def print_json(content: object) -> None:
    """Print content as JSON, with values formatted as in the REST API."""
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
    """Format a value as in the CSV of the REST API."""
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
    """Format a number without exponent or trailing zeros."""
    return f"{number.normalize():f}" if number else "0"
