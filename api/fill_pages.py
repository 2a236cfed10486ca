"""Pages of hl.fills, for whoever asks by wallet, coin or TWAP."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import Request
from psycopg import AsyncConnection
from pydantic import AwareDatetime, TypeAdapter

from api.database import read_sql
from api.paging import make_cursor, read_cursor, read_rows
from api.parameters import Int64, Paged, Text

FILLS = read_sql("fills")
# What identifies a fill, in the order of a page; an unknown number is -1.
_KEY = ("time", "coin", "wallet", "side", "tid", "oid", "counterparty_oid")
_POSITION = TypeAdapter(tuple[AwareDatetime, Text, Text, Text, Int64, Int64, Int64])


def fills_asked(
    request: Request, asked: Paged, start: datetime, end: datetime, *, wallet: str | None, coin: str | None, twap_id: int | None
) -> dict[str, Any]:
    """The values of the query. Raises RequestValidationError for a wrong cursor."""
    position = read_cursor(request, asked, _POSITION, (start, "", "", "", -2, -2, -2))
    after = {f"after_{name}": value for name, value in zip(_KEY, position, strict=True)}
    # Not from the start again: the tables of days before the cursor are not touched.
    return {"wallet": wallet, "coin": coin, "twap_id": twap_id, "start": max(start, position[0]), "end": end, **after}


async def fills_page(request: Request, connection: AsyncConnection, asked: Paged, values: dict[str, Any]) -> dict[str, Any]:
    """The fields `fills` and `next_cursor` of an answer."""
    rows, more = await read_rows(connection, FILLS, values, asked.limit)
    position = tuple(-1 if rows[-1][name] is None else rows[-1][name] for name in _KEY) if more else ()
    return {"fills": rows, "next_cursor": make_cursor(request, asked, position) if more else None}
