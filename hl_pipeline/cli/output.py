"""Rows for a person, or for a program: a table, JSON or CSV. What the rows are is the matter of each command."""

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

AsJson = Annotated[bool, typer.Option("--json", help="As JSON: decimals are texts, times UTC, null is unknown.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="As CSV, with a head; an empty field is unknown.")]


Wide = Annotated[bool, typer.Option("--wide", help="All columns, however wide the table becomes.")]

_MOST_COLUMNS = 100
_LONGEST_CELL = 50
_BETWEEN = 2  # columns between two cells


class Output(Enum):
    """How rows are printed. A table has the columns that fit into a terminal, a wide one has them all."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    CSV = "csv"


def choose_output(as_json: bool, as_csv: bool, is_wide: bool = False) -> Output:
    """What --json, --csv and --wide ask for; one of them at most."""
    asked = [(as_json, "--json", Output.JSON), (as_csv, "--csv", Output.CSV), (is_wide, "--wide", Output.WIDE)]
    given = [(option, output) for is_given, option, output in asked if is_given]
    if len(given) > 1:
        fail(f"{given[0][0]} and {given[1][0]} are both given: choose one of them", code=ExitCode.USAGE)
    return given[0][1] if given else Output.TABLE


def print_rows(found: Rows, output: Output, first: Sequence[str] = ()) -> None:
    """Print them on standard output; a table without rows says so. Where not all columns fit, the `first` are the most important
    ones, and it says how many others there are. No value is cut.
    """
    if output == Output.JSON:
        print_json([dict(zip(found.columns, row, strict=True)) for row in found.rows])
    elif output == Output.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(found.columns)
        writer.writerows([_as_field(value) for value in row] for row in found.rows)
    elif found.rows:
        cells = [["" if value is None else _as_cell(value) for value in row] for row in found.rows]
        shown = range(len(found.columns)) if output == Output.WIDE else _choose_columns(found.columns, cells, first)
        from rich.table import Table

        table = Table(box=None, header_style="bold", padding=(0, _BETWEEN, 0, 0), pad_edge=False)
        for n in shown:
            table.add_column(found.columns[n], overflow="fold", max_width=None if output == Output.WIDE else _LONGEST_CELL)
        for row in cells:
            table.add_row(*(row[n] for n in shown))
        wide.print(table, highlight=False)
        if others := len(found.columns) - len(shown):
            errors.print(f"[dim]{others} more columns: --wide, --csv or --json[/]")
    else:
        console.print("nothing there", highlight=False)


def _choose_columns(names: Sequence[str], cells: Sequence[Sequence[str]], first: Sequence[str]) -> list[int]:
    """The numbers of the columns that fit, in their order: chosen first are the `first`, then the others from the left."""
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
