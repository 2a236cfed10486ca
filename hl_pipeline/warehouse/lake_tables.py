"""The ledger of days in the lake's Iceberg tables, and where the catalog has these tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg.rows import class_row

_DAYS = "SELECT table_name, date, files, rows, bytes FROM hl.lake_days ORDER BY table_name, date"
_LOCATIONS = """
SELECT table_name, metadata_location FROM hl_iceberg.iceberg_tables
WHERE catalog_name = 'hl' AND table_namespace = 'hl' ORDER BY table_name
"""
_MOVE = """
UPDATE hl_iceberg.iceberg_tables SET metadata_location = %s, previous_metadata_location = NULL
WHERE catalog_name = 'hl' AND table_namespace = 'hl' AND table_name = %s
"""
# Partitions of hl.fills that have rows.
_SIZE_OF_FILLS = """
SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint, count(*) FROM pg_inherits
WHERE inhparent = 'hl.fills'::regclass
"""


@dataclass(frozen=True, slots=True)
class LedgerDay:
    """A day of a table in the lake, as published. `files` are paths within the lake."""

    table_name: str
    date: date
    files: list[str]
    rows: int
    bytes: int


def read_ledger_days(connection: psycopg.Connection) -> list[LedgerDay]:
    """Return the published days of all tables."""
    return connection.cursor(row_factory=class_row(LedgerDay)).execute(_DAYS).fetchall()


def read_locations(connection: psycopg.Connection) -> dict[str, str]:
    """Return the location of each table's metadata."""
    return dict(connection.execute(_LOCATIONS).fetchall())


def replace_locations(connection: psycopg.Connection, locations: Mapping[str, str]) -> None:
    """Let the catalog point to other metadata of these tables, all of them at once."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_MOVE, [(location, name) for name, location in locations.items()])


def measure_hot_fills(connection: psycopg.Connection) -> tuple[int, int]:
    """Return the bytes and the number of days in hl.fills, with indexes."""
    row = connection.execute(_SIZE_OF_FILLS).fetchone()
    assert row is not None
    return row
