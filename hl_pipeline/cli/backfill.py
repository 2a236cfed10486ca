"""`hl backfill`: chooses the wallets to fetch from the info API and prints one line per shard, then the totals."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.progress import showing_wallets
from hl_pipeline.cli.terminal import Demo, connect, console, fail, load_settings, open_installation, program, serving_info
from hl_pipeline.domain.shards import SHARDS

if TYPE_CHECKING:
    from hl_pipeline.ops.run_shards import RunShard
    from hl_pipeline.settings import Settings

_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")


class BadWalletsError(ValueError):
    """A wallet or shard is not valid; the message names it, and its line in a file."""


def backfill(
    shard: Annotated[list[str] | None, typer.Option(metavar="XX", help="Shard of wallets, 00 to ff. Repeatable.")] = None,
    worker: Annotated[
        int | None, typer.Option(min=1, help="Number of this machine, from 1. With --of, it takes its part of the shards.")
    ] = None,
    of: Annotated[int | None, typer.Option(min=1, max=256, help="Number of machines that share the shards.")] = None,
    wallet: Annotated[list[str] | None, typer.Option(metavar="0x...", help="Only this wallet. Repeatable.")] = None,
    wallets: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Only the wallets in this file, one address per line; - reads standard input."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every known wallet.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of wallets.")] = None,
    demo: Demo = False,
) -> None:
    """Fetch fills from before the buckets from the info API, wallet by wallet. Finished wallets are not fetched again.

    Exit code 0: all wallets are complete. 3: some have more history than the API returns, or are not fetched yet. 1: a wallet
    or a shard failed.
    """
    from hl_pipeline.ops.run_in_process import RunInterruptedError

    if not (shard or worker or of or wallet or wallets or everything):
        fail("choose wallets: --all, --shard XX, --worker I --of N, --wallet 0x... or --wallets FILE", code=ExitCode.USAGE)
    try:
        shards = choose_shards(shard or [], worker, of)
        chosen = read_wallets(wallet or [], wallets)
    except BadWalletsError as error:
        fail(str(error), code=ExitCode.USAGE)
    with serving_info(load_settings(demo)) as settings, open_installation(settings) as url:
        try:
            raise typer.Exit(_run(shards, chosen, limit, url, settings, is_named=bool(shard)))
        except (RunInterruptedError, KeyboardInterrupt):
            fail("interrupted; run the same command to continue", code=ExitCode.INTERRUPTED)


def choose_shards(named: Sequence[str], worker: int | None, of: int | None) -> list[str]:
    """Return the chosen shards: the named ones, a worker's part (`worker` counts from 1), or all.

    Raises BadWalletsError.
    """
    if named and (worker or of):
        raise BadWalletsError("--shard and --worker exclude each other: each chooses the shards")
    if (worker is None) != (of is None):
        raise BadWalletsError("--worker I and --of N must be given together")
    if bad := [name for name in named if name.lower() not in SHARDS]:
        raise BadWalletsError(f"--shard is {bad[0]!r}; it must be two hex digits, 00 to ff")
    if named:
        return sorted({name.lower() for name in named})
    if worker is None or of is None:
        return list(SHARDS)
    if worker > of:
        raise BadWalletsError(f"--worker is {worker}; it must be 1 to {of}, the value of --of")
    return list(SHARDS[worker - 1 :: of])


def read_wallets(named: Sequence[str], file: str | None) -> list[str] | None:
    """Return the chosen wallets, in lower case, each once. None means all known wallets. Raises BadWalletsError."""
    if not named and file is None:
        return None
    if bad := [name for name in named if not _ADDRESS.fullmatch(name)]:
        raise BadWalletsError(f"--wallet is {bad[0]!r}; it must be 0x and 40 hex digits")
    chosen = [*named]
    if file is not None:
        try:
            text = sys.stdin.read().removeprefix("\ufeff") if file == "-" else Path(file).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise BadWalletsError(f"--wallets {file}: {error}") from error
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if wrong := [(number, line) for number, line in lines if not _ADDRESS.fullmatch(line)]:
            shown = "; ".join(f"line {number} is {line[:60]!r}" for number, line in wrong[:3])
            more = f" and {len(wrong) - 3} more lines" if len(wrong) > 3 else ""
            raise BadWalletsError(
                f"--wallets {file}: {shown}{more}: must be 0x and 40 hex digits. Nothing was fetched or changed"
            )
        chosen += [line for _, line in lines]
        if not chosen:
            raise BadWalletsError(f"--wallets {file}: no wallet in it")
    return sorted({wallet.lower() for wallet in chosen})


def _run(
    shards: Sequence[str], wallets: list[str] | None, limit: int | None, url: str, settings: Settings, *, is_named: bool
) -> ExitCode:
    """Run the shards, print the result of each, then the state of all chosen wallets."""
    from hl_pipeline.ops.run_shards import judge_wallets, plan_shards, run_shards
    from hl_pipeline.warehouse.backfill_progress import read_tally
    from hl_pipeline.warehouse.dirty_days import read_dirty_span

    with connect(url, "hl backfill") as connection:
        plan = plan_shards(connection, shards, wallets, limit, settings, is_named=is_named)
    has_failed = False
    waiting = (
        f"waiting for {settings.info_url} ({settings.info_attempts} attempts, {settings.info_timeout_seconds:g} s each at most)"
    )
    with showing_wallets(plan.unfinished, waiting) as bar:
        for run in run_shards(plan, settings, bar.begin):
            has_failed |= run.has_failed
            console.print(_line(run), highlight=False)
    with connect(url, "hl backfill") as connection:
        tally = read_tally(connection, shards, wallets)
        dirty = read_dirty_span(connection)
    console.print(
        f"{tally.wallets:,} wallets: {tally.complete:,} complete, {tally.truncated:,} truncated, {tally.failed:,} failed, "
        f"{tally.unasked:,} not fetched yet; {tally.fills:,} fills",
        highlight=False,
    )
    if dirty:
        days, first, last = dirty
        console.print(f"hl.dirty_days has {days} days to load, {first} to {last} (`{program()} ingest --dirty`)", highlight=False)
    return ExitCode.FAILED if has_failed else ExitCode.of(judge_wallets(tally))


def _line(run: RunShard) -> str:
    if run.fetched is None:
        return f"{run.shard}  [red]failed[/]      {escape(str(run.failure))}"
    now, tally = run.fetched.now, run.fetched.tally
    colour, state = ("red", "failed") if tally.failed else ("yellow", "truncated") if tally.truncated else ("green", "complete")
    if state == "complete" and tally.unasked:
        colour, state = "yellow", "unfinished"
    wallets = f"{now.wallets:>7,} of {tally.wallets:,} wallets fetched"
    of_them = f", {tally.failed:,} failed, {tally.truncated:,} truncated" if tally.failed or tally.truncated else ""
    return (
        f"{run.shard}  [{colour}]{state:<11}[/]{wallets}{of_them}  {now.rows:>9,} fills  "
        f"{now.weight:>7,} weight  {now.seconds:>7.1f} s"
    )
