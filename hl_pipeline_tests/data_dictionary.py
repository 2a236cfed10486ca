"""Writes the tables of docs/data-model.md from hl_pipeline/data_dictionary.py (`python -m hl_pipeline_tests.data_dictionary`)."""

from __future__ import annotations

from pathlib import Path

from hl_pipeline.data_dictionary import (
    FILL_COLUMNS,
    FILLS_TABLE_ONLY,
    LAKE_ONLY,
    STATUS_COLUMNS,
    STATUS_LAKE_ONLY,
    TABLES,
    Column,
)

DOCUMENT = Path(__file__).parent.parent / "docs" / "data-model.md"
_HEADING = "## Tables and columns\n\nPostgreSQL's types; the lake has the same as Parquet types.\n\n"
_LAKE = """### The lake's `raw_fills/` and `fills/`

As `hl.fills` without `object_id` (`time` is a timestamp of ms in UTC, decimals are `Decimal(38, 10)`, `hash` and `cloid`
binary), and the columns below. `api_fills/` (from the info API, by the day of the event and shard of wallets) has those of
`raw_fills/`; blocks are NULL there. In `raw_fills/` a row's number, from 0, is its `ordinal`, which is no column there.
"""
_STATUSES_LAKE = """### The lake's `raw_twap_statuses/`, `twap_statuses/` and `twap_slices/`

The first two as `hl.twap_statuses` from `twap_id` to `time_ns` (`started_at` is a timestamp of µs in UTC, decimals are
`Decimal(38, 10)`; `twap_statuses/` has `object` too), and the columns below. `twap_slices/` has columns of the lake's `fills/`.
"""


def written() -> str:
    """The document as it should be: its own words, then the tables."""
    words, heading, _ = DOCUMENT.read_text().partition(_HEADING)
    parts = [f"### `{name}`\n\n{table.meaning}\n\n{_rows(_columns(name))}" for name, table in TABLES.items()]
    lake = [f"{_LAKE}\n{_rows(LAKE_ONLY)}", f"{_STATUSES_LAKE}\n{_rows(STATUS_LAKE_ONLY)}"]
    return words + heading + "\n\n".join([*parts, *lake]) + "\n"


def _columns(name: str) -> tuple[Column, ...]:
    """Of fills and statuses with the source's own fields, which say more than that the lake has a column of the same name."""
    if name == "hl.twap_statuses":
        return STATUS_COLUMNS + TABLES[name].columns[len(STATUS_COLUMNS) :]
    return FILL_COLUMNS + FILLS_TABLE_ONLY if name == "hl.fills" else TABLES[name].columns


def _rows(columns: tuple[Column, ...]) -> str:
    lines = ["| column | type | unit | meaning | from |", "|---|---|---|---|---|"]
    for column in columns:
        given = column.comes_from
        origin = given if isinstance(given, str) else ", ".join(f"`{name}`" for name in given)
        lines.append(f"| `{column.name}` | {column.type} | {column.unit} | {column.meaning} | {origin} |")
    return "\n".join(lines)


if __name__ == "__main__":
    DOCUMENT.write_text(written())
