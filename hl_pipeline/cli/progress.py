"""Shows the progress of a command on a terminal: turns the pipeline's log events into a bar or a status line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import date
from typing import Any

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from hl_pipeline.cli.terminal import console
from hl_pipeline.events import is_event

_SHARE_OF_RAW, _SHARE_OF_LOAD, _SHARE_OF_TABLE = (
    0.42,
    0.33,
    0.05,
)  # shares of a day's duration: decoding, loading, each derived table
_SECONDS_BETWEEN_LINES = 15.0
Show = Callable[[str, dict[str, Any]], None]


@contextmanager
def showing_listings() -> Generator[None]:
    """Show the progress of listing buckets and the lake."""
    with console.status("listing") as status:

        def show(event: str, fields: dict[str, Any]) -> None:
            if event == "page_listed":
                status.update(escape(f"listing {fields['prefix']}: {fields['objects']:,} objects"))
            elif event == "lake_day_read":
                status.update(f"reading the lake: {fields['day']}")

        with _following(show, logging.DEBUG):
            yield


@contextmanager
def showing_days(total: int) -> Generator[DaysBar]:
    """Show a bar for `total` days."""
    with _progress(TaskProgressColumn(), TimeRemainingColumn(), _message()) as progress:
        bar = DaysBar(progress, total)
        with _following(bar.show, logging.INFO):
            yield bar


@contextmanager
def showing_wallets(total: int, message: str) -> Generator[WalletsBar]:
    """Show a bar for `total` wallets. `message` is the first message: which API is called, and how long it may take."""
    with _progress(MofNCompleteColumn(), _message(), TimeRemainingColumn()) as progress:
        bar = WalletsBar(progress, total, message)
        with _following(bar.show, logging.INFO):
            yield bar


class DaysBar:
    """A bar in days; bytes and rows move it within a day."""

    def __init__(self, progress: Progress, days: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=days, message="")
        self._finished = 0
        self._reset()

    def _reset(self) -> None:
        self._bytes = self._wanted = self._rows = self._loaded = self._tables = 0

    def begin(self, day: date) -> None:
        self._reset()
        self._progress.update(self._task, description=str(day), message="listing")

    def finish(self) -> None:
        self._finished += 1
        self._progress.update(self._task, completed=self._finished)

    def show(self, event: str, fields: dict[str, Any]) -> None:
        if event == "objects_wanted":
            self._wanted += fields["bytes"]
        elif event in ("object_done", "object_known", "object_failed"):
            self._bytes += fields["bytes"]
            self._rows += fields.get("rows", 0)
            self._update(f"decoded {self._rows:,} fills, {self._bytes / 1e6:,.0f} of {self._wanted / 1e6:,.0f} MB")
        elif event == "hour_copied":
            self._loaded = fields["rows"]
            self._update(f"loaded {self._loaded:,} of about {self._rows:,} fills")
        elif event == "table_loaded":
            self._tables += 1
            self._update(f"{fields['table']}: {fields['rows']:,} rows")
        elif event in ("indexes_building", "day_in_use"):
            self._update(event.replace("_", " "))

    def _update(self, message: str) -> None:
        raw = _SHARE_OF_RAW * self._bytes / max(self._wanted, 1)
        load = _SHARE_OF_LOAD * min(self._loaded / max(self._rows, 1), 1) + _SHARE_OF_TABLE * self._tables
        elapsed = self._progress.tasks[0].elapsed or 0
        rate = f", {(self._loaded or self._rows) / elapsed:,.0f}/s" if elapsed > 1 and not self._finished else ""
        self._progress.update(self._task, completed=self._finished + raw + load, message=message + rate)


class WalletsBar:
    """A bar in wallets, with the fills and weight so far.

    Failed calls are also printed as lines, at most one each 15 seconds, because a file or a pipe shows no bar.
    """

    def __init__(self, progress: Progress, wallets: int, message: str) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=wallets, message=escape(message))
        self._fills = self._weight = 0
        self._printed_at = -_SECONDS_BETWEEN_LINES

    def begin(self, shard: str) -> None:
        self._progress.update(self._task, description=f"shard {shard}")

    def show(self, event: str, fields: dict[str, Any]) -> None:
        if event in ("wallet_done", "wallet_failed"):
            self._fills += fields.get("fills", 0)
            self._weight += fields["weight"]
            self._progress.advance(self._task)
        elif event == "histories_written":
            self._weight += fields["weight"]
        elif event == "info_call_failed":
            attempt = (
                f"attempt {fields['attempt']} of {fields['attempts']} failed, next attempt in {fields['wait_seconds']:.0f} s"
            )
            self._progress.update(self._task, message=escape(f"{attempt}: {fields['call']}"))
            if time.monotonic() - self._printed_at >= _SECONDS_BETWEEN_LINES:
                self._printed_at = time.monotonic()
                console.print(
                    f"[yellow]{attempt}:[/] {escape(str(fields['call']))}: {escape(str(fields['error']))}", highlight=False
                )
            return
        elapsed = self._progress.tasks[0].elapsed or 0
        rate = f", {self._weight / elapsed * 60:,.0f} a minute" if elapsed > 1 else ""
        self._progress.update(self._task, message=f"wallets, {self._fills:,} fills, weight {self._weight:,}{rate}")


@contextmanager
def _progress(*columns: ProgressColumn) -> Generator[Progress]:
    first = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(30))
    with Progress(*first, *columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def _message() -> TextColumn:
    return TextColumn("{task.fields[message]}")


class _EventHandler(logging.Handler):
    """Passes log events, and no other log lines, to a function."""

    def __init__(self, show: Show) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        if is_event(record):
            self._show(record.event, record.fields)


@contextmanager
def _following(show: Show, level: int) -> Generator[None]:
    logger = logging.getLogger("hl_pipeline")
    before = logger.level
    handler = _EventHandler(show)
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
