"""`hl backfill`: shards of wallets materialized in this process, with a progress bar; a line for each shard when it is done."""

from __future__ import annotations

import logging
import re
import sys
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster import DagsterInstance
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from hl_pipeline.cli.terminal import program
from hl_pipeline.definitions import build_defs
from hl_pipeline.domain.shards import SHARDS, shard_of
from hl_pipeline.events import is_event
from hl_pipeline.ops.instance import tags_of_own_run
from hl_pipeline.ops.run_days import QUIET, Outcome, explain_failure, metadata_of, raise_if_interrupted
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.backfill_progress import (
    Tally,
    Window,
    add_wallets,
    discover_wallets,
    read_tally,
    undone_wallets,
    wallets_without_history,
)
from hl_pipeline.warehouse.connect import connect

_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")
_DIRTY = "SELECT count(*), min(date), max(date) FROM hl.dirty_days"


class BadWalletsError(ValueError):
    """Wallets or shards that are none, by name and line."""


def choose_shards(named: Sequence[str], worker: int | None, of: int | None) -> list[str]:
    """The shards that were asked for: those that are named, a worker's part (`worker` counts from 1), or all.

    Raises BadWalletsError.
    """
    if named and (worker or of):
        raise BadWalletsError("--shard and --worker were given: one of them chooses the shards")
    if (worker is None) != (of is None):
        raise BadWalletsError("--worker I and --of N belong together")
    if bad := [name for name in named if name.lower() not in SHARDS]:
        raise BadWalletsError(f"--shard is {bad[0]!r}, must be two hex digits, 00 to ff")
    if named:
        return sorted({name.lower() for name in named})
    if worker is None or of is None:
        return list(SHARDS)
    if worker > of:
        raise BadWalletsError(f"--worker is {worker}, must be 1 to {of}, as --of says")
    return list(SHARDS[worker - 1 :: of])


def read_wallets(named: Sequence[str], file: str | None) -> list[str] | None:
    """The wallets that were asked for, lower case, each once; None: all that are known. Raises BadWalletsError."""
    if not named and file is None:
        return None
    if bad := [name for name in named if not _ADDRESS.fullmatch(name)]:
        raise BadWalletsError(f"--wallet is {bad[0]!r}, must be 0x and 40 hex digits")
    found = [*named]
    if file is not None:
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadWalletsError(f"--wallets {file}: {error}") from error
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if wrong := [(number, line) for number, line in lines if not _ADDRESS.fullmatch(line)]:
            shown = "; ".join(f"line {number} is {line[:60]!r}" for number, line in wrong[:3])
            more = f" and {len(wrong) - 3} more lines" if len(wrong) > 3 else ""
            raise BadWalletsError(f"--wallets {file}: {shown}{more}: must be 0x and 40 hex digits. Nothing was asked or noted")
        found += [line for _, line in lines]
        if not found:
            raise BadWalletsError(f"--wallets {file}: has no wallet")
    return sorted({wallet.lower() for wallet in found})


def backfill_shards(
    shards: Sequence[str],
    wallets: list[str] | None,
    limit: int | None,
    url: str,
    settings: Settings,
    console: Console,
    *,
    is_named: bool,
) -> Outcome:
    """Ask for the wallets (None: all that are known) of these shards, one shard after the other; those without one to be asked
    are passed over unless they were named. How all of these wallets stand in the end.

    Raises InterruptedIngestError.
    """
    window = Window(settings.backfill_from, settings.backfill_to)
    with connect(url, "hl backfill") as connection:
        if wallets is None:
            discover_wallets(connection)
        else:
            add_wallets(connection, wallets)
        undone = undone_wallets(connection, shards, window, wallets)
        busy = {shard_of(wallet) for wallet in [*undone, *wallets_without_history(connection, shards, wallets)]}
    left = total = min(len(undone), limit or sys.maxsize)
    chosen: defaultdict[str, list[str]] = defaultdict(list)
    for wallet in wallets or []:
        chosen[shard_of(wallet)].append(wallet)
    has_failed = False
    with DagsterInstance.get() as instance, _progress(console, total) as progress:
        # Here, since Dagster asks the instance that it met last.
        job = build_defs(settings).resolve_job_def("backfill_shards")
        for shard in [shard for shard in shards if shard in busy or (is_named and wallets is None)]:
            if limit and total and not left:
                break
            progress.begin(shard)
            config = {"config": {"limit": left if limit else 0, "discover": False, "wallets": chosen[shard]}}
            result = job.execute_in_process(
                partition_key=shard,
                instance=instance,
                run_config=QUIET | {"ops": {"raw_api_fills": config, "raw_api_twap_history": config}},
                raise_on_error=False,
                tags={"hl/started_by": "hl backfill", **tags_of_own_run(settings)},
            )
            raise_if_interrupted(result)
            if not result.success:
                console.print(f"{shard}  [red]failed[/]      {escape(explain_failure(result))}", highlight=False)
                has_failed = True
                break
            figures = metadata_of(result, "raw_api_fills")
            left -= figures["wallets_asked_now"]
            has_failed |= bool(metadata_of(result, "raw_api_twap_history")["wallets_failed"])
            console.print(_line(shard, figures), highlight=False)
    with connect(url, "hl backfill") as connection:
        tally = read_tally(connection, shards, wallets)
        [(dirty, first, last)] = connection.execute(_DIRTY).fetchall()
    console.print(
        f"{tally.wallets:,} wallets: {tally.complete:,} complete, {tally.truncated:,} truncated, {tally.failed:,} failed, "
        f"{tally.unasked:,} not asked yet; {tally.fills:,} fills",
        highlight=False,
    )
    if dirty:
        console.print(
            f"hl.dirty_days has {dirty} days to be loaded, {first} to {last} (`{program()} ingest --dirty`)", highlight=False
        )
    return Outcome.FAILED if has_failed else _judge(tally)


def _judge(tally: Tally) -> Outcome:
    if tally.failed:
        return Outcome.FAILED
    return Outcome.WHOLE if tally.complete == tally.wallets else Outcome.INCOMPLETE


def _line(shard: str, figures: dict[str, Any]) -> str:
    failed, truncated, unasked = (figures[f"wallets_{name}"] for name in ("failed", "truncated", "not_asked"))
    colour, said = ("red", "failed") if failed else ("yellow", "truncated") if truncated else ("green", "complete")
    if said == "complete" and unasked:
        colour, said = "yellow", "unfinished"
    wallets = f"{figures['wallets_asked_now']:>7,} of {figures['wallets']:,} wallets asked"
    of_them = f", {failed:,} failed, {truncated:,} truncated" if failed or truncated else ""
    return (
        f"{shard}  [{colour}]{said:<11}[/]{wallets}{of_them}  {figures['fills_now']:>9,} fills  "
        f"{figures['weight']:>7,} weight  {figures['seconds']:>7.1f} s"
    )


class _ProgressHandler(logging.Handler):
    """Turns the events of wallets into the movement of a bar."""

    def __init__(self, progress: Progress, wallets: int) -> None:
        super().__init__(logging.INFO)
        self._progress = progress
        self._task = progress.add_task("", total=wallets, said="")
        self._fills = self._weight = 0

    def begin(self, shard: str) -> None:
        self._progress.update(self._task, description=f"shard {shard}")

    def emit(self, record: logging.LogRecord) -> None:
        if not is_event(record):
            return
        fields: dict[str, Any] = record.fields
        if record.event in ("wallet_done", "wallet_failed"):
            self._fills += fields.get("fills", 0)
            self._weight += fields["weight"]
            self._progress.advance(self._task)
        elif record.event == "histories_written":
            self._weight += fields["weight"]
        elif record.event == "info_call_failed":
            self._progress.update(
                self._task, said=f"asked again in {fields['wait_seconds']:.0f} s: {escape(str(fields['call']))}"
            )
            return
        elapsed = self._progress.tasks[0].elapsed or 0
        rate = f", {self._weight / elapsed * 60:,.0f} a minute" if elapsed > 1 else ""
        self._progress.update(self._task, said=f"wallets, {self._fills:,} fills, weight {self._weight:,}{rate}")


@contextmanager
def _progress(console: Console, wallets: int) -> Generator[_ProgressHandler]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    logger = logging.getLogger("hl_pipeline")
    level = logger.level
    logger.setLevel(logging.INFO)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        handler = _ProgressHandler(progress, wallets)
        logger.addHandler(handler)
        try:
            yield handler
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
