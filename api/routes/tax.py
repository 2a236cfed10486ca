"""/api/v1/wallets/{wallet}/tax: a wallet's year for its accounts, as a file."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from psycopg import AsyncConnection

from api.asked.events import TaxAsked
from api.export import Opened, choose_format, stream
from api.file_formats import FILE_FORMATS
from api.models.common import ERRORS, EXPORTS
from api.parameters import WalletInPath
from api.tax import open_tax, year_range
from api.tax_layouts import read_layout

router = APIRouter(prefix="/api/v1", tags=["Wallets"])


@router.get("/wallets/{wallet}/tax", response_class=Response, responses={**ERRORS, **EXPORTS})
async def get_tax(request: Request, wallet: WalletInPath, asked: Annotated[TaxAsked, Query()]) -> Response:
    """Return a wallet's year (UTC) as a file: a line per TWAP and one per fill outside TWAPs, or one per fill.

    docs/guides/tax.md explains the columns and the layouts. There is no JSON; the default is CSV.
    """
    chosen = choose_format(request, asked.format, FILE_FORMATS)
    state = request.app.state

    async def open_rows(stack: AsyncExitStack, connection: AsyncConnection) -> Opened:
        layout = await read_layout(connection, asked.layout)
        seconds = state.settings.api_export_timeout_seconds
        return await open_tax(stack, connection, state.lake, seconds, year_range(wallet, asked.year), asked.lines, layout)

    layout = "" if asked.layout == "default" else f"-{asked.layout}"
    return await stream(request, chosen, f"tax-{wallet}-{asked.year}{layout}", open_rows)
