"""`hl show`: tables of what is in the database."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hl_pipeline.cli.terminal import (
    Demo,
    FirstDay,
    LastDay,
    check_order,
    console,
    fail,
    load_settings,
    parse_day,
    program,
    reading,
    wide,
)
from hl_pipeline.warehouse.connect import connect

show_app = typer.Typer(no_args_is_help=True, help="Look at what is in the database.")

# So far back from the last day it looks unless it is told: a year of every wallet takes a while to add up.
_DAYS_BACK = {"day": 6, "week": 27, "month": 91, "year": 730}
_PERIODS = ("day", "week", "month", "year", "all")
_VERDICTS = (
    *("match", "missing_fills", "excess_fills", "hole", "failed", "running", "waiting"),
    *("status_missing", "unreported", "conflict"),
)


@show_app.command("fills")
def show_fills(
    demo: Demo = False,
    day: Annotated[date | None, typer.Option(parser=parse_day, metavar="DAY", help="Only this day (UTC).")] = None,
    wallet: Annotated[str | None, typer.Option(help="Only this address.")] = None,
    coin: Annotated[str | None, typer.Option(help="Only this coin, like BTC, @107 or xyz:TSLA.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
) -> None:
    """The newest fills."""
    query = """
        SELECT time, coin, wallet, side, crossed, px, sz, dir, fee, fee_token, closed_pnl, twap_id, tid FROM hl.fills_readable
        WHERE (%(day)s::date IS NULL OR (time >= %(day)s::date::timestamp AT TIME ZONE 'UTC'
                                         AND time < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'))
          AND (%(wallet)s::text IS NULL OR wallet = lower(%(wallet)s))
          AND (%(coin)s::text IS NULL OR coin = %(coin)s)
        ORDER BY time DESC, tid LIMIT %(limit)s
    """
    if _show(demo, query, {"day": day, "wallet": _check_wallet(wallet), "coin": coin, "limit": limit}) == limit:
        return
    with reading(load_settings(demo)) as url, connect(url, "hl show") as connection:
        thinned = connection.execute(
            "SELECT date FROM hl.fills_days WHERE thinned_at IS NOT NULL AND date = coalesce(%s, date) ORDER BY date", [day]
        ).fetchall()
    if thinned:
        console.print(
            f"[yellow]{len(thinned)} days are in the lake alone[/] ({thinned[0][0]} …): `{program()} rebuild` brings them back"
        )


@show_app.command("daily-stats")
def show_daily_stats(
    demo: Demo = False,
    period: Annotated[str, typer.Option(help="day, week, month, year or all.")] = "day",
    first: FirstDay = None,
    last: LastDay = None,
    coin: Annotated[str | None, typer.Option(help="Only this coin, like BTC, @107 or xyz:TSLA.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
) -> None:
    """What was traded in each coin: the newest periods first, in each the coins with the most notional."""
    query = """
        SELECT period_start, days, coin, kind, trades, trim_scale(volume) AS volume, round(notional, 2) AS notional,
               buys, sells, open, high, low, close, vwap, liquidations, round(twap_notional, 2) AS twap_notional,
               round(builder_notional, 2) AS builder_notional, fills, non_market_rows,
               round(fees_in_quote, 2) AS fees_in_quote, is_complete
        FROM hl.daily_stats_by(
            %(period)s, coalesce(%(first)s::date, (SELECT max(date) FROM hl.daily_stats) - %(back)s::int, '-infinity'),
            coalesce(%(last)s::date, 'infinity'))
        WHERE %(coin)s::text IS NULL OR coin = %(coin)s
        ORDER BY period_start DESC, notional DESC NULLS LAST, coin LIMIT %(limit)s
    """
    _check_period(period)
    check_order(first, last)
    back = None if last or coin else _DAYS_BACK.get(period)
    _show(demo, query, {"period": period, "first": first, "last": last, "back": back, "coin": coin, "limit": limit})


@show_app.command("user-stats")
def show_user_stats(
    demo: Demo = False,
    period: Annotated[str, typer.Option(help="day, week, month, year or all.")] = "day",
    first: FirstDay = None,
    last: LastDay = None,
    wallet: Annotated[str | None, typer.Option(help="Only this address.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
) -> None:
    """What each wallet did: the newest periods first, in each the wallets with the most notional."""
    _check_period(period)
    query = """
        SELECT period_start, days, wallet, fills, round(maker_notional, 2) AS maker_notional,
               round(taker_notional, 2) AS taker_notional, round(closed_pnl, 2) AS closed_pnl, closed_pnl_known,
               round((fees ->> 'USDC')::numeric, 2) AS usdc_fees, fees_known, first_fill, last_fill, is_complete
        FROM hl.user_stats_by(
            %(period)s, coalesce(%(first)s::date, (SELECT max(date) FROM hl.user_stats) - %(back)s::int, '-infinity'),
            coalesce(%(last)s::date, 'infinity'), %(wallet)s)
        ORDER BY period_start DESC, maker_notional + taker_notional DESC NULLS LAST, wallet LIMIT %(limit)s
    """
    check_order(first, last)
    back = None if last or _check_wallet(wallet) else _DAYS_BACK.get(period)
    _show(demo, query, {"period": period, "first": first, "last": last, "back": back, "wallet": wallet, "limit": limit})


@show_app.command("twaps")
def show_twaps(
    demo: Demo = False,
    first: FirstDay = None,
    last: LastDay = None,
    wallet: Annotated[str | None, typer.Option(help="Only this address.")] = None,
    coin: Annotated[str | None, typer.Option(help="Only this coin, like BTC, @107 or xyz:TSLA.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only these: match, missing_fills, running, failed, …")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
) -> None:
    """TWAPs that begin in a span of days, the newest first: asked, reported and seen, and how they did against the market."""
    query = """
        SELECT twap_id, begins_at, wallet, coin, side, duration_minutes AS minutes, status, verdict,
               size_requested, size_reported, size_observed, slices, slices_due, vwap, market_vwap, slippage_bps,
               slippage_arrival_bps, participation, schedule_deviation, fees, error
        FROM hl.twaps
        WHERE (%(first)s::date IS NULL OR begins_at >= %(first)s::date::timestamp AT TIME ZONE 'UTC')
          AND (%(last)s::date IS NULL OR begins_at < (%(last)s::date + 1)::timestamp AT TIME ZONE 'UTC')
          AND (%(wallet)s::text IS NULL OR wallet = lower(%(wallet)s)) AND (%(coin)s::text IS NULL OR coin = %(coin)s)
          AND (%(verdict)s::text IS NULL OR verdict = %(verdict)s)
        ORDER BY begins_at DESC, twap_id DESC LIMIT %(limit)s
    """
    check_order(first, last)
    if verdict is not None and verdict not in _VERDICTS:
        fail(f"--verdict is {verdict!r}, must be one of {', '.join(_VERDICTS)}", code=2)
    asked = {"first": first, "last": last, "wallet": _check_wallet(wallet), "coin": coin, "verdict": verdict, "limit": limit}
    _show(demo, query, asked)


@show_app.command("checkpoints")
def show_checkpoints(demo: Demo = False, limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50) -> None:
    """The ledger: the newest objects, what they held, when they were fetched and loaded, and errors."""
    query = """
        SELECT object_key, size_bytes, rows, bad_lines, first_block, last_block, missing_blocks, fetched_at, loaded_at, error
        FROM hl.s3_ingest_log ORDER BY object_date DESC, object_hour DESC NULLS LAST, object_key LIMIT %(limit)s
    """
    _show(demo, query, {"limit": limit})


def _show(demo: bool, query: str, parameters: dict[str, object]) -> int:
    """Print what the query gives; how many rows that is."""
    with reading(load_settings(demo)) as url, connect(url, "hl show") as connection:
        cursor = connection.execute(query.encode(), parameters)
        names = [column.name for column in cursor.description or []]
        table = Table(*names, box=None, header_style="bold")
        for row in cursor:
            table.add_row(*("" if value is None else _cell(value) for value in row))
    (wide if table.row_count else console).print(table if table.row_count else "nothing there", highlight=False)
    return table.row_count


def _check_period(period: str) -> None:
    if period not in _PERIODS:
        fail(f"--period is {period!r}, must be one of {', '.join(_PERIODS)}", code=2)


def _check_wallet(wallet: str | None) -> str | None:
    if wallet is not None and not re.fullmatch(r"0x[0-9a-fA-F]{40}", wallet):
        fail(f"--wallet is {wallet!r}, must be 0x and 40 hex digits", code=2)
    return wallet


def _cell(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if value else "0"
    if isinstance(value, dict):
        return escape(", ".join(f"{amount} {token}" for token, amount in value.items()))
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")[:-6]
    return escape(str(value))
