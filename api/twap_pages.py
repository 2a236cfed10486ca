"""Pages of TWAPs, and one TWAP with its events. For every route that returns TWAPs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fastapi import HTTPException
from psycopg import AsyncConnection, Column
from psycopg.rows import dict_row

from api.database import NUMERIC, read_sql, without_zeros
from api.parameters import INT64, nanoseconds

LISTED = read_sql("twaps_listed")
_ANALYTICS = read_sql("twap_analytics")
TWAPS = LISTED + b", analytics AS (" + _ANALYTICS + b"WHERE twap_id IN (SELECT twap_id FROM shown))" + read_sql("twaps")
TWAPS_FILE = LISTED + read_sql("export_twaps")
"""The TWAPs as flat rows. Their first column is for cursors alone (`hidden=1`)."""
_TWAP = read_sql("twap")
_ANALYTICS_OF_ONE = _ANALYTICS + b"WHERE twap_id = %(twap_id)s"
NEWEST = (INT64 - 1, 0)
"""The position before the first TWAP: time in ns, TWAP ID."""


def twap_values(
    wallet: str,
    asset: str | None,
    start: datetime,
    end: datetime,
    *,
    before: tuple[int, int] = NEWEST,
    offset: int = 0,
    all_rows: bool = False,
) -> dict[str, Any]:
    """Return the query values for the TWAPs of a wallet after the position `before`."""
    before_ns, before_id = before
    return {
        "wallet": wallet,
        "asset": asset,
        "start": start,
        "end": end,
        "start_ns": nanoseconds(start),
        "end_ns": nanoseconds(end) + 999,
        "before_ns": before_ns,
        "before_id": before_id,
        "all_rows": all_rows,
        "offset": offset,
    }


async def read_twaps(
    connection: AsyncConnection, values: dict[str, Any], limit: int
) -> tuple[list[dict[str, Any]], tuple[int, int] | None]:
    """Return at most `limit` TWAPs, and the position of the last one if there are more."""
    cursor = await connection.execute(TWAPS, {**values, "limit": limit + 1})
    columns = cursor.description or []
    names = [column.name for column in columns]
    # A row has the listed columns first, then the row of hl.twaps, if there is one.
    listed = names.index("raw") + 1
    rows = await cursor.fetchall()
    twaps: list[dict[str, Any]] = []
    for row in rows[:limit]:
        twap = dict(zip(names[1:listed], row[1:listed], strict=True))
        twap["executed"] = {"size": twap["size_executed"], "notional": twap["notional_executed"]}
        twap["analytics"] = None if row[listed] is None else _analytics(columns[listed:], row[listed:])
        twaps.append(twap)
    return twaps, (rows[limit - 1][0], int(twaps[-1]["twap_id"])) if len(rows) > limit else None


async def read_twap(connection: AsyncConnection, twap_id: int) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the events of a TWAP and its row of hl.twaps. Raises HTTPException if there is neither."""
    cursor = connection.cursor(row_factory=dict_row)
    rows = await (await cursor.execute(_TWAP, {"twap_id": twap_id})).fetchall()
    cursor = await connection.execute(_ANALYTICS_OF_ONE, {"twap_id": twap_id})
    row = await cursor.fetchone()
    analytics = None if row is None else _analytics(cursor.description or [], row)
    if not rows and analytics is None:
        raise not_found(twap_id)
    return rows, analytics


def _analytics(columns: Sequence[Column], row: Sequence[Any]) -> dict[str, Any]:
    """Convert a row of hl.twaps to a response. It has every column, including columns of a newer schema."""
    analytics = {
        column.name: without_zeros(value) if value is not None and column.type_code == NUMERIC else value
        for column, value in zip(columns, row, strict=True)
    }
    return {**analytics, "twap_id": str(analytics["twap_id"])}


def not_found(twap_id: int) -> HTTPException:
    """Return the error for a TWAP that is not known."""
    return HTTPException(404, f"TWAP ID {twap_id} not found")
