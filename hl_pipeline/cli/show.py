"""`hl show`: prints tables of the database. `warehouse.show_queries` has the queries."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, LiteralString

import typer

from hl_pipeline.cli.empty_lists import explain_nothing
from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.output import AsCsv, AsJson, Output, Wide, choose_output, print_rows
from hl_pipeline.cli.terminal import (
    Demo,
    FirstDay,
    LastDay,
    check_order,
    check_wallet,
    connect,
    fail,
    load_settings,
    open_existing,
    parse_day,
)
from hl_pipeline.warehouse.show_queries import CHECKPOINTS, DAILY_STATS, FILLS, TWAPS, USER_STATS, read_rows

show_app = typer.Typer(no_args_is_help=True, help="Show rows of the database.")

# The default range before the last loaded day: adding up a year of every wallet takes a while.
_DAYS_BACK = {"day": 6, "week": 27, "month": 91, "year": 730}
_PERIODS = ("day", "week", "month", "year", "all")
_VERDICTS = (
    *("match", "missing_fills", "excess_fills", "hole", "failed", "running", "waiting"),
    *("status_missing", "unreported", "conflict"),
)

# The most important columns of tables that are too wide for a terminal. Other tables show their first columns.
_FIRST: dict[str, tuple[str, ...]] = {
    FILLS: ("time", "coin", "side", "px", "sz", "wallet"),
    USER_STATS: ("period_start", "wallet", "maker_notional", "taker_notional", "fills"),
    TWAPS: ("twap_id", "begins_at", "coin", "side", "verdict", "slices", "slippage_bps", "vwap", "status"),
    CHECKPOINTS: ("object_key", "rows", "error", "bad_lines", "missing_blocks"),
}


@show_app.command("fills")
def show_fills(
    demo: Demo = False,
    day: Annotated[date | None, typer.Option(parser=parse_day, metavar="DAY", help="Only this day (UTC).")] = None,
    wallet: Annotated[str | None, typer.Option(help="Only this address.")] = None,
    coin: Annotated[str | None, typer.Option(help="Only this coin, like BTC, @107 or xyz:TSLA.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of rows.")] = 20,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    is_wide: Wide = False,
) -> None:
    """Show the newest fills, also of days that are only in the lake."""
    from hl_pipeline.cli.history import read_newest_fills

    output = choose_output(as_json, as_csv, is_wide)
    parameters = {"day": day, "wallet": check_wallet(wallet), "coin": coin, "limit": limit}
    settings = load_settings(demo)
    with open_existing(settings) as url, connect(url, "hl show") as connection:
        result = read_newest_fills(connection, settings, parameters)
        if not result.rows:
            explain_nothing(connection, "fills", day, day, coin=coin, wallet=wallet)
    print_rows(result, output, _FIRST[FILLS])


@show_app.command("daily-stats")
def show_daily_stats(
    demo: Demo = False,
    period: Annotated[str, typer.Option(help="day, week, month, year or all.")] = "day",
    first: FirstDay = None,
    last: LastDay = None,
    coin: Annotated[str | None, typer.Option(help="Only this coin, like BTC, @107 or xyz:TSLA.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of rows.")] = 20,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    is_wide: Wide = False,
) -> None:
    """Show volume and trades per coin: newest period first, then by notional."""
    _check_period(period)
    check_order(first, last)
    back = None if last or coin else _DAYS_BACK.get(period)
    parameters = {"period": period, "first": first, "last": last, "back": back, "coin": coin, "limit": limit}
    _show(demo, DAILY_STATS, parameters, choose_output(as_json, as_csv, is_wide), "daily_stats", (first, last))


@show_app.command("user-stats")
def show_user_stats(
    demo: Demo = False,
    period: Annotated[str, typer.Option(help="day, week, month, year or all.")] = "day",
    first: FirstDay = None,
    last: LastDay = None,
    wallet: Annotated[str | None, typer.Option(help="Only this address.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of rows.")] = 20,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    is_wide: Wide = False,
) -> None:
    """Show volume, pnl and fees per wallet: newest period first, then by notional."""
    _check_period(period)
    check_order(first, last)
    back = None if last or check_wallet(wallet) else _DAYS_BACK.get(period)
    parameters = {"period": period, "first": first, "last": last, "back": back, "wallet": wallet, "limit": limit}
    _show(demo, USER_STATS, parameters, choose_output(as_json, as_csv, is_wide), "user_stats", (first, last))


@show_app.command("twaps")
def show_twaps(
    demo: Demo = False,
    first: FirstDay = None,
    last: LastDay = None,
    wallet: Annotated[str | None, typer.Option(help="Only this address.")] = None,
    coin: Annotated[str | None, typer.Option(help="Only this coin, like BTC, @107 or xyz:TSLA.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only this verdict: match, missing_fills, running, failed, …")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of rows.")] = 20,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    is_wide: Wide = False,
) -> None:
    """Show TWAPs that begin in a range of days, newest first: requested, reported and observed sizes, and slippage."""
    check_order(first, last)
    if verdict is not None and verdict not in _VERDICTS:
        fail(f"--verdict is {verdict!r}; it must be one of {', '.join(_VERDICTS)}", code=ExitCode.USAGE)
    parameters = {"first": first, "last": last, "wallet": check_wallet(wallet), "coin": coin, "verdict": verdict, "limit": limit}
    _show(demo, TWAPS, parameters, choose_output(as_json, as_csv, is_wide), "twaps", (first, last))


@show_app.command("checkpoints")
def show_checkpoints(
    demo: Demo = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    is_wide: Wide = False,
) -> None:
    """Show the object ledger, newest first: contents, fetch and load times, and errors."""
    _show(demo, CHECKPOINTS, {"limit": limit}, choose_output(as_json, as_csv, is_wide), "fills")


def _show(
    demo: bool,
    query: LiteralString,
    parameters: dict[str, Any],
    output: Output,
    of: str,
    span: tuple[date | None, date | None] = (None, None),
) -> None:
    """Print the rows of a query, or the reason why there are none."""
    with open_existing(load_settings(demo)) as url, connect(url, "hl show") as connection:
        result = read_rows(connection, query, parameters)
        if not result.rows:
            explain_nothing(connection, of, *span, coin=parameters.get("coin"), wallet=parameters.get("wallet"))
    print_rows(result, output, _FIRST.get(query, ()))


def _check_period(period: str) -> None:
    if period not in _PERIODS:
        fail(f"--period is {period!r}; it must be one of {', '.join(_PERIODS)}", code=ExitCode.USAGE)
