"""The tools of `hl mcp`: questions to the REST API for agents. Each answer says what is missing: no gap looks like a zero."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from hl_client import Answer, AsyncClient, HlError, Result

MOST_ROWS = 500
_ROWS = 50
_MOST_RUNS = 20
# JavaScript, in which many hosts are written, rounds larger integers.
_MOST_EXACT = 2**53
_INSTRUCTIONS = """Hyperliquid's trading history from a database that holds some days and lacks others.

Read `summary` and `is_complete` of every answer first. If `is_complete` is false, data is missing on the days in `missing`: an
empty list then does not mean that nothing happened, a total is a lower bound, and you must say so. If `has_more` is true, only
the first rows are shown: do not add them up; ask for a shorter range, a higher limit, or a tool that adds up.

Times are UTC. Days are like 2025-11-03, instants like 2025-11-03T12:30:00Z; ranges include both ends. Numbers are exact decimals
in strings; null means unknown, never 0. Side B buys, side A sells. Coins are case-sensitive: SOL, @107 or PURR/USDC (spot),
xyz:TSLA (HIP-3)."""

Connect = Callable[[Context], AbstractAsyncContextManager[AsyncClient]]
"""Returns the client that asks for the caller of a tool."""
Wallet = Annotated[str, Field(description="An address: 0x and 40 hexadecimal digits.")]
Coin = Annotated[str, Field(description="A coin, case-sensitive: SOL, @107, PURR/USDC, xyz:TSLA.")]
Start = Annotated[str, Field(description="Start, inclusive: a UTC day (2025-11-03) or an instant (2025-11-03T12:30:00Z).")]
End = Annotated[str, Field(description="End, inclusive: an instant, or a UTC day with all of its hours.")]
FirstDay = Annotated[str, Field(description="First UTC day, like 2025-11-03.")]
LastDay = Annotated[str, Field(description="Last UTC day, inclusive.")]
Rows = Annotated[int, Field(ge=1, le=MOST_ROWS, description=f"Maximum number of rows, at most {MOST_ROWS}.")]
Twap = Annotated[int | str, Field(description="The ID of a TWAP, from the tool `twaps`.")]
Order = Annotated[Literal["desc", "asc"] | None, Field(description="Sort order; desc, the largest first, is the default.")]
Period = Literal["day", "week", "month", "year", "all"]
LastDays = Literal["1d", "7d", "30d", "90d"]
Sent = dict[str, Any]
Found = TypeVar("Found", Result, Answer)


def make_server(connect: Connect, version: str) -> MCPServer:
    """Return the server with all tools. `connect` opens the client of a call."""
    server = MCPServer("hl-pipeline", instructions=_INSTRUCTIONS, version=version, log_level="WARNING", subscriptions=False)
    for ask in (_add_lists_of_trades, _add_statistics, _add_summaries, _add_coverage):
        ask(server, connect)
    return server


def _add_lists_of_trades(server: MCPServer, connect: Connect) -> None:
    tool = _tool_of(server)

    @tool("The TWAP orders of a wallet that run in the range, newest first, with their figures in `analytics`.")
    async def twaps(
        context: Context, wallet: Wallet, start: Start, end: End, asset: Coin | None = None, limit: Rows = _ROWS
    ) -> Sent:
        result = await _ask(connect, context, lambda client: client.twaps(wallet, start, end, asset=asset, limit=limit))
        # What the node wrote, once more: half of the answer.
        return _send(result, without=("raw",))

    @tool("One TWAP order: all its events, newest first, and what was requested, executed and paid, with slippage and market.")
    async def twap(context: Context, twap_id: Twap) -> Sent:
        return _send(await _ask(connect, context, lambda client: client.twap(int(twap_id))))

    @tool("The fills of a TWAP's slices, oldest first.")
    async def twap_fills(context: Context, twap_id: Twap, limit: Rows = _ROWS) -> Sent:
        return _send(await _ask(connect, context, lambda client: client.twap_fills(int(twap_id), limit=limit)))

    @tool("The fills of a wallet, of a coin, or of a wallet in a coin, oldest first. For totals, use wallet_summary or stats.")
    async def fills(
        context: Context, start: Start, end: End, wallet: Wallet | None = None, coin: Coin | None = None, limit: Rows = _ROWS
    ) -> Sent:
        return _send(await _ask(connect, context, lambda client: client.fills(start, end, wallet=wallet, coin=coin, limit=limit)))

    @tool("The candles of a coin, oldest first: prices, volume and trades. A candle without a trade is left out.")
    async def candles(
        context: Context,
        coin: Coin,
        start: Start,
        end: End,
        interval: Literal["1m", "5m", "15m", "1h", "4h", "1d"] = "1h",
        limit: Rows = _ROWS,
    ) -> Sent:
        return _send(
            await _ask(connect, context, lambda client: client.candles(coin, start, end, interval=interval, limit=limit))
        )


def _add_statistics(server: MCPServer, connect: Connect) -> None:
    tool = _tool_of(server)

    @tool(
        "Volume, prices and fees of coins, by day. With `period`, `sort` or `top`, days are added up and coins ranked. `sort`: "
        "notional, volume, trades, fills, fees_in_quote, liquidation_notional, twap_notional or builder_notional."
    )
    async def coin_stats(
        context: Context,
        start: FirstDay,
        end: LastDay,
        coin: Coin | None = None,
        period: Period | None = None,
        sort: str | None = None,
        order: Order = None,
        limit: Rows = _ROWS,
    ) -> Sent:
        return _send(
            await _ask(
                connect,
                context,
                lambda client: client.stats(start, end, coin=coin, period=period, sort=sort, order=order, limit=limit),
            )
        )

    @tool(
        "Volume, profit and fees of wallets, by day. With `period` or `sort`, days are added up and wallets ranked. `sort`: "
        "notional, maker_notional, taker_notional, fills, closed_pnl or fees_in_quote."
    )
    async def wallet_stats(
        context: Context,
        start: FirstDay,
        end: LastDay,
        wallet: Wallet | None = None,
        period: Period | None = None,
        sort: str | None = None,
        order: Order = None,
        limit: Rows = _ROWS,
    ) -> Sent:
        return _send(
            await _ask(
                connect,
                context,
                lambda client: client.wallet_stats(start, end, wallet=wallet, period=period, sort=sort, order=order, limit=limit),
            )
        )

    @tool(
        "Wallets by rank: by volume, pnl, fees or their twaps; or builders. Give start and end, or a period: so many days up to "
        "the newest loaded one. Only twaps and builders take a coin. `sort`: another column of the rows."
    )
    async def leaderboard(
        context: Context,
        board: Literal["volume", "pnl", "fees", "twaps", "builders"],
        period: LastDays | None = None,
        start: FirstDay | None = None,
        end: LastDay | None = None,
        coin: Coin | None = None,
        sort: str | None = None,
        order: Order = None,
        limit: Rows = 10,
    ) -> Sent:
        return _send(
            await _ask(
                connect,
                context,
                lambda client: client.leaderboard(
                    board, start=start, end=end, period=period, coin=coin, sort=sort, order=order, limit=limit
                ),
            )
        )


def _add_summaries(server: MCPServer, connect: Connect) -> None:
    tool = _tool_of(server)

    @tool("What a wallet did: first and last fill, volume, profit, fees and TWAPs, added up. Default range: all loaded days.")
    async def wallet_summary(context: Context, wallet: Wallet, start: FirstDay | None = None, end: LastDay | None = None) -> Sent:
        return _send(await _ask(connect, context, lambda client: client.wallet(wallet, start=start, end=end)))

    @tool("The TWAPs of a coin that run at a moment: what they executed, and what their schedules still bring.")
    async def twap_flow(context: Context, coin: Coin, at: Start) -> Sent:
        return _send(await _ask(connect, context, lambda client: client.twap_flow(coin, at)))

    @tool(
        "What the downloads from requester-pays buckets have cost: requests, bytes and US dollars, by bucket and month. It is "
        "not the cost of trading, which wallet_summary and twap have. `hl cost` estimates days that are not loaded."
    )
    async def download_cost(context: Context, start: FirstDay | None = None, end: LastDay | None = None) -> Sent:
        return _send(await _ask(connect, context, lambda client: client.cost(start=start, end=end)))


def _add_coverage(server: MCPServer, connect: Connect) -> None:
    tool = _tool_of(server)

    @tool("Which days are loaded and complete, of fills and of TWAP statuses, and what is missing. Ask this before a long range.")
    async def coverage(
        context: Context,
        start: FirstDay,
        end: LastDay,
        what: Literal["fills", "twap_statuses"] | None = None,
        limit: Rows = 100,
    ) -> Sent:
        return _send(await _ask(connect, context, lambda client: client.coverage(start, end, what=what, limit=limit)))

    @tool("The hours of the source with their state. `is_hole`: only those of which something is missing.")
    async def coverage_hours(context: Context, start: FirstDay, end: LastDay, is_hole: bool = True, limit: Rows = _ROWS) -> Sent:
        return _send(
            await _ask(
                connect,
                context,
                lambda client: client.coverage_hours(start, end, is_hole=is_hole or None, limit=limit),
            )
        )


def _tool_of(server: MCPServer) -> Callable[[str], Callable[[Callable[..., Awaitable[Sent]]], object]]:
    reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    return lambda description: server.tool(description=description, annotations=reads)


async def _ask(connect: Connect, context: Context, question: Callable[[AsyncClient], Awaitable[Found]]) -> Found:
    try:
        async with connect(context) as client:
            return await question(client)
    except (HlError, ValueError) as error:
        raise ToolError(str(error)) from error


def _send(found: Result | Answer, without: tuple[str, ...] = ()) -> Sent:
    """Return an answer for an agent, with what it must know first."""
    missing = found.missing
    runs = [{name: value for name, value in run.items() if name != "hours"} for run in missing.as_json()]
    sent: Sent = {"summary": summarize(found), "is_complete": found.is_complete, "missing": runs[:_MOST_RUNS]}
    if len(runs) > _MOST_RUNS:
        sent["missing_left_off"] = len(runs) - _MOST_RUNS
    if found.info_api is not None:
        sent["info_api"] = found.info_api
    if isinstance(found, Answer):
        return {**sent, "answer": as_json(found.fields)}
    rows = [{name: as_json(value) for name, value in row.items() if name not in without} for row in found.rows]
    return {**sent, "has_more": found.has_more, "facts": as_json(dict(found.facts)), "rows": rows}


def summarize(found: Result | Answer) -> str:
    """Return in words how many rows there are, and whether something is missing."""
    said: list[str] = []
    if isinstance(found, Result):
        said.append(f"{len(found)} rows" + (", and more follow: do not add them up." if found.has_more else "."))
    if found.is_complete:
        nothing = isinstance(found, Result) and not found.rows
        said.append("Nothing is known to be missing" + (", so nothing matches." if nothing else "."))
    else:
        meaning = (
            "this is no proof that nothing happened"
            if isinstance(found, Result) and not found.rows
            else "totals are lower bounds"
        )
        said.append(f"DATA IS MISSING, so {meaning}: {found.missing}.")
    return " ".join(said)


def as_json(value: Any) -> Any:
    """Return a value as JSON has it. Decimals become strings, as do integers that JavaScript would round."""
    if isinstance(value, Mapping):
        return {str(name): as_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and abs(value) > _MOST_EXACT:
        return str(value)
    return value
