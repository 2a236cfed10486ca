"""The pages about tables in docs/reference, from hl_pipeline/data_dictionary.py. `write_reference` writes them."""

from __future__ import annotations

from hl_pipeline.data_dictionary import (
    FILL_COLUMNS,
    FILLS_TABLE_ONLY,
    LAKE_ONLY,
    NOTIONAL,
    STATUS_COLUMNS,
    STATUS_LAKE_ONLY,
    TABLES,
    Column,
)
from hl_pipeline_tests.tools.markdown_tables import table

# The pages: each title, and the tables on that page in order.
_PAGES = {
    "tables-fills": ("Table of fills", ("hl.fills",)),
    "tables-statistics": ("Candles and statistics", ("hl.candles", "hl.daily_stats", "hl.user_stats", "hl.builder_stats")),
    "tables-twaps": (
        "Tables of TWAPs",
        ("hl.twap_statuses", "hl.twaps", "hl.twap_days", "hl.twap_slice_days", "hl.twap_day_objects"),
    ),
    "tables-ledgers": (
        "Ledgers and completeness",
        (
            "hl.coverage",
            "hl.acknowledged",
            "hl.fills_days",
            "hl.fills_hours",
            "hl.fills_day_objects",
            "hl.dirty_days",
            "hl.lake_days",
            "hl.s3_ingest_log",
            "hl.s3_requests",
            "hl.workers",
            "hl.worker_runs",
        ),
    ),
    "tables-backfill": (
        "Tables of the info API",
        ("hl.backfill_progress", "hl.backfill_pages", "hl.backfill_bad", "hl.info_calls", "hl.info_egresses"),
    ),
}
_INDEX = """The schema is `hl`. Types are PostgreSQL's; the lake has the same as Parquet types. All days are UTC days of the
event. [Fills, trades and volume](../concepts/fills-and-trades.md) defines the words, and
[Stable interfaces](../interfaces.md#postgresql) says which tables you can rely on.

`hl.fills_readable` is `hl.fills` for people: `hash` and `cloid` as `0x…`, the object by its key.
`hl.daily_stats_by(period, from, to)` and `hl.user_stats_by(period, from, to, wallet)` add up days.
The period is `day`, `week`, `month`, `year` or `all`. `hl.shard_of(wallet)` is the shard of a wallet.
"""
_LAKE = """# Columns of the lake

[The lake](lake.md) describes its directories.

## raw_fills and fills

As `hl.fills` without `object_id`, plus the columns below. `time` is a timestamp of ms in UTC, decimals are `Decimal(38, 10)`,
`hash` and `cloid` are binary.

`api_fills/` has the columns of `raw_fills/`, with NULL blocks. It is cut by the day of the event and the shard of wallets. In
`raw_fills/` a row's number, from 0, is its `ordinal`, which is no column there.
"""
_COMPACTED = """## iceberg/fills

[The Iceberg table](../guides/engines.md) `hl.fills` has the columns of `fills/`, with times of µs, and one more. The tables
`hl.twaps`, `hl.candles`, `hl.daily_stats` and `hl.user_stats` have the columns of PostgreSQL. Sums of px × sz are
`Decimal(38, 20)` there, other decimals `Decimal(38, 10)`, and JSON is text. `hl.twaps` has its day as `date`, too.
"""
_STATUSES_LAKE = """## raw_twap_statuses, twap_statuses and twap_slices

The first two are as `hl.twap_statuses` from `twap_id` to `time_ns`, plus the columns below. `started_at` is a timestamp of µs
in UTC, decimals are `Decimal(38, 10)`, and `twap_statuses/` has `object` too. `twap_slices/` has columns of the lake's
`fills/`.
"""


def table_pages() -> dict[str, str]:
    """Return the text of each page by name."""
    placed = [name for _, names in _PAGES.values() for name in names]
    assert sorted(placed) == sorted(TABLES), "each table has one page: _PAGES"
    pages = {
        page: f"# {title}\n\n"
        + "\n\n".join(f"## {name}\n\n{TABLES[name].meaning}\n\n{_rows(_columns(name))}" for name in names)
        + "\n"
        for page, (title, names) in _PAGES.items()
    }
    rows = [
        (f"[`{name}`]({page}.md#{name.replace('.', '')})", TABLES[name].meaning)
        for page, (_, names) in _PAGES.items()
        for name in names
    ]
    only_lake = "[Columns of the lake](tables-lake.md) has what only Parquet has."
    index = f"# Tables\n\n{_INDEX}\n{table(('table', 'what it has'), rows)}\n\n{only_lake}\n"
    lake = f"{_LAKE}\n{_rows(LAKE_ONLY)}\n\n{_COMPACTED}\n{_rows((NOTIONAL,))}\n\n{_STATUSES_LAKE}\n{_rows(STATUS_LAKE_ONLY)}\n"
    return {"tables": index, **pages, "tables-lake": lake}


def _columns(name: str) -> tuple[Column, ...]:
    """Of fills and statuses with the source's own fields, which say more than that the lake has a column of the same name."""
    if name == "hl.twap_statuses":
        return STATUS_COLUMNS + TABLES[name].columns[len(STATUS_COLUMNS) :]
    return FILL_COLUMNS + FILLS_TABLE_ONLY if name == "hl.fills" else TABLES[name].columns


def _rows(columns: tuple[Column, ...]) -> str:
    return table(
        ("column", "type", "unit", "meaning", "from"),
        ((f"`{column.name}`", column.type, column.unit, column.meaning, _origin(column.comes_from)) for column in columns),
    )


def _origin(given: tuple[str, ...] | str) -> str:
    return given if isinstance(given, str) else ", ".join(f"`{name}`" for name in given)
