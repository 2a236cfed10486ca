"""Finds days loaded by an earlier version without data that this version writes. `hl upgrade` rebuilds them from the lake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import psycopg

# One row is enough: one version writes a whole day of these tables, and hours added later come after its first row.
# If the schema does not have the column yet, `{column}` is NULL, and the day is outdated.
_SIGNS = {
    ("fills", "ordinal"): """
SELECT d.date FROM hl.fills_days d CROSS JOIN LATERAL (
    SELECT {column} AS found FROM hl.fills t
    WHERE t.time >= d.date::timestamp AT TIME ZONE 'UTC' AND t.time < (d.date + 1)::timestamp AT TIME ZONE 'UTC'
      AND t.object_id < 4000000 LIMIT 1
) first_fill WHERE found IS NULL
""",
    # A wallet with fees only in USDC always has fees_in_quote.
    ("user_stats", "fees_in_quote"): """
SELECT d.date FROM hl.fills_days d CROSS JOIN LATERAL (
    SELECT {column} AS found FROM hl.user_stats t
    WHERE t.date = d.date AND t.fees ->> 'USDC' IS NOT NULL AND (SELECT count(*) FROM json_object_keys(t.fees)) = 1 LIMIT 1
) first_wallet WHERE found IS NULL
""",
    ("fills_days", "builder_stats_at"): """
SELECT t.date FROM hl.fills_days t WHERE {column} IS NULL AND t.user_stats_at IS NOT NULL AND t.rows > 0
""",
    ("twaps", "begins_at"): """
SELECT DISTINCT d.date FROM hl.twap_days d JOIN hl.twaps t ON d.date = (t.seen_from AT TIME ZONE 'UTC')::date
WHERE {column} IS NOT NULL AND t.fills = 0 AND coalesce(t.size_reported, 0) = 0
  AND NOT EXISTS (SELECT FROM hl.twap_statuses s WHERE s.twap_id = t.twap_id AND s.status = 'activated')
""",
}
_REASONS = {
    ("fills", "ordinal"): "hl.fills and the lake have no order of fills within a millisecond (ordinal)",
    ("user_stats", "fees_in_quote"): "hl.user_stats has no fees in quote (fees_in_quote)",
    ("fills_days", "builder_stats_at"): "hl.builder_stats does not have the day (builder_stats_at)",
    ("twaps", "begins_at"): "hl.twaps has begins_at for TWAPs that never began (begins_at)",
}
_COLUMNS = """
SELECT relname, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'hl'::regnamespace AND attnum > 0 AND NOT attisdropped
"""
_ROWS = "SELECT date, rows FROM hl.fills_days UNION ALL SELECT date, 0 FROM hl.twap_days ORDER BY 1"


@dataclass(frozen=True, slots=True)
class OutdatedDay:
    """A day to rebuild, its number of fills, and the reasons, in the same words for all days."""

    date: date
    rows: int
    reasons: tuple[str, ...]


def read_outdated_days(connection: psycopg.Connection) -> list[OutdatedDay]:
    """Return the outdated days in order. Also works on a schema that is not migrated yet."""
    present = set(connection.execute(_COLUMNS).fetchall())
    reasons: dict[date, list[str]] = {}
    for (table, column), query in _SIGNS.items():
        if any(name == table for name, _ in present):
            named = f"t.{column}" if (table, column) in present else "NULL"
            for (day,) in connection.execute(query.format(column=named).encode()):
                reasons.setdefault(day, []).append(_REASONS[table, column])
    rows: dict[date, int] = {}
    for day, count in connection.execute(_ROWS) if reasons else ():
        rows[day] = rows.get(day, 0) + count
    return [OutdatedDay(day, rows[day], tuple(reasons[day])) for day in sorted(reasons)]


def count_by_reason(days: list[OutdatedDay]) -> Mapping[str, list[date]]:
    """Return the days of each reason."""
    found: dict[str, list[date]] = {}
    for day in days:
        for reason in day.reasons:
            found.setdefault(reason, []).append(day.date)
    return found
