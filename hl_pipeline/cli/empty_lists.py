"""Explains an empty result: a coin that was never seen, or days that are not loaded. The REST API gives the same reasons."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import errors, fail, program

if TYPE_CHECKING:
    import psycopg

_ANY_DAY = "SELECT min(date), max(date), count(*) FROM hl.fills_days"


def explain_nothing(
    connection: psycopg.Connection, of: str, first: date | None, last: date | None, *, coin: str | None, wallet: str | None
) -> None:
    """Print on standard error which days are not loaded. End the command if the coin was never seen.

    `of`: the kind of rows requested, as in api.range_coverage.
    """
    # Imported here because most commands find rows.
    from api.coins import ALL_SEEN, IS_SEEN, SeenCoin, UnknownCoinError, likely_coins
    from api.database import read_sql

    if coin is not None and connection.execute(IS_SEEN, {"coin": coin, "wallet": wallet and wallet.lower()}).fetchone() != (
        True,
    ):
        seen = [SeenCoin(name, tokens) for name, tokens in connection.execute(ALL_SEEN).fetchall()]
        fail(str(UnknownCoinError(coin, likely_coins(coin, seen))), code=ExitCode.USAGE)
    loaded_first, loaded_last, days = connection.execute(_ANY_DAY).fetchall()[0]
    if not days:
        errors.print(f"no day is loaded yet: run `{program()} ingest`")
        return
    if first is None and last is None:
        return
    span = {"first": first or min(loaded_first, last or loaded_first), "last": last or max(loaded_last, first or loaded_last)}
    runs: list[dict[str, Any]] = connection.execute(read_sql("coverage"), {**span, "what": of, "lake_fault": None}).fetchall()[0][
        0
    ]
    for run in runs:
        if run["state"] in ("absent", "partial"):
            days_of_run = run["from"] if run["from"] == run["to"] else f"{run['from']} to {run['to']}"
            errors.print(f"{days_of_run}: {run['state']}{': ' + run['note'] if run.get('note') else ''}", markup=False)
