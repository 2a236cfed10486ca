"""The output of the services of `hl up`: everything goes to one file, and important lines also to the terminal."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict, deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TextIO

from hl_pipeline.ops.json_lines import as_json_line, is_json_warning

# Lines with a run ID are log lines of runs; `run_lines` reports runs.
_OF_RUN = re.compile(r" - [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} - ")
_WARNING = re.compile(r" - (WARNING|ERROR|CRITICAL) - |^(WARNING|ERROR|CRITICAL):")
# Harmless: a message at the daemon's first start, and connection attempts that are retried.
_ATTEMPT = "Retrying failed database connection"
_HARMLESS = re.compile(rf"No cursor for event type \S+, ignoring older events|{_ATTEMPT}")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LAST_WORDS = 3
_US = "hl"
_LINES_IN_OUTAGE = 100


class ServiceLog:
    """Writes to the log file of `hl up` and its terminal; without a file, only to the terminal. Thread-safe."""

    def __init__(self, file: TextIO | None = None, path: Path | None = None, *, as_json: bool = False) -> None:
        self.path = path
        self._as_json = as_json
        self._file = file
        self._last_words: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_LAST_WORDS))
        self._lock = Lock()
        self._in_outage = False
        self._lines = Counter[str]()

    def say(self, text: str) -> None:
        """Write to the terminal and the file."""
        self.show(text)
        self.note(text)

    def show(self, text: str) -> None:
        """Write only to the terminal."""
        print(self._format(_US, text), flush=True)  # noqa: T201 - this is what `hl up` shows

    def note(self, text: str) -> None:
        """Write only to the file."""
        self._write(self._format(_US, text))

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def _format(self, service: str, line: str) -> str:
        if self._as_json:
            return as_json_line(service, line.strip())
        return line if service == _US else f"{service:<9} | {line}"

    def forward(self, name: str, lines: Iterable[str]) -> None:
        """Forward the lines of a service until it ends. While the database is unreachable, only the first lines are written."""
        for line in lines:
            plain = _COLOUR.sub("", line.rstrip())
            self._last_words[name].append(plain)
            if self._in_outage:
                self._lines[name] += 1
                if self._lines[name] <= _LINES_IN_OUTAGE:
                    self._write(self._format(name, plain))
                continue
            written = self._format(name, plain)
            if is_warning(plain) or is_json_warning(plain):
                print(written, flush=True)  # noqa: T201 - as above
            self._write(written)

    def say_last_words(self, name: str) -> None:
        """Print the last lines of a service, which are already in the file, to the terminal."""
        words = [self._format(name, line) if self._as_json else f"  {line}" for line in self._last_words[name]]
        print(*words, sep="\n", flush=True)  # noqa: T201 - as above

    def begin_outage(self) -> None:
        """Limit the output from now on: services without a database must not flood the terminal or the disk."""
        self._in_outage = True

    def end_outage(self) -> None:
        """End the limit when the database is back, and report how many lines were omitted."""
        self._in_outage = False
        lines_of, self._lines = self._lines, Counter[str]()
        for name, lines in lines_of.items():
            if (left := lines - _LINES_IN_OUTAGE) > 0:
                self.note(f"{name:<9} | {left:,} more lines omitted while the database did not answer")


@contextmanager
def open_log(home: Path, *, as_json: bool = False) -> Generator[ServiceLog]:
    """Open `hl.log` in `home` for appending."""
    path = home / "hl.log"
    with path.open("a") as file:
        yield ServiceLog(file, path, as_json=as_json)


def hush_attempts() -> None:
    """Suppress Dagster's messages about each connection attempt in this process: DatabaseWatch reports an unreachable database
    once.
    """
    logging.getLogger().addFilter(lambda record: not record.getMessage().startswith(_ATTEMPT))


def is_warning(line: str) -> bool:
    """Return whether a line of a service also goes to the terminal: a warning or an error that is not from a run."""
    return bool(_WARNING.search(line)) and not _OF_RUN.search(line) and not _HARMLESS.search(line)
