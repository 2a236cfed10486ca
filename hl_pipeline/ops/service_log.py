"""What the services of `hl up` print: all of it in one file, and on the terminal what a person should know."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict, deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TextIO

# Of a run, its line tells; its own lines have its id.
_OF_RUN = re.compile(r" - [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} - ")
_WARNING = re.compile(r" - (WARNING|ERROR|CRITICAL) - |^(WARNING|ERROR|CRITICAL):")
# The daemon's first start is no reason to warn anybody, nor an attempt after which another one follows.
_ATTEMPT = "Retrying failed database connection"
_HARMLESS = re.compile(rf"No cursor for event type \S+, ignoring older events|{_ATTEMPT}")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LAST_WORDS = 3
_LINES_IN_OUTAGE = 100


class ServiceLog:
    """The log file of `hl up` and its terminal; without a file the terminal alone. Several threads write to it."""

    def __init__(self, file: TextIO | None = None, path: Path | None = None) -> None:
        self.path = path
        self._file = file
        self._last_words: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_LAST_WORDS))
        self._lock = Lock()
        self._in_outage = False
        self._lines = Counter[str]()

    def say(self, text: str) -> None:
        """To the terminal and the file."""
        print(text, flush=True)  # noqa: T201 - this is what `hl up` shows
        self.note(text)

    def note(self, text: str) -> None:
        """To the file alone."""
        if self._file is None:
            return
        with self._lock:
            self._file.write(text + "\n")
            self._file.flush()

    def forward(self, name: str, lines: Iterable[str]) -> None:
        """The lines of a service, until it has no more. While the database is away, the file gets the first ones alone."""
        for line in lines:
            plain = _COLOUR.sub("", line.rstrip())
            self._last_words[name].append(plain)
            if self._in_outage:
                self._lines[name] += 1
                if self._lines[name] <= _LINES_IN_OUTAGE:
                    self.note(f"{name:<9} | {plain}")
                continue
            tell = self.say if is_warning(plain) else self.note
            tell(f"{name:<9} | {plain}")

    def say_last_words(self, name: str) -> None:
        """The last lines of a service, which the file has already, to the terminal."""
        print(*(f"  {line}" for line in self._last_words[name]), sep="\n", flush=True)  # noqa: T201 - as above

    def begin_outage(self) -> None:
        """From now on services that cannot reach the database fill neither terminal nor disk with it."""
        self._in_outage = True

    def end_outage(self) -> None:
        """The database is back: everything is told again, and how much was not."""
        self._in_outage = False
        lines_of, self._lines = self._lines, Counter[str]()
        for name, lines in lines_of.items():
            if (left := lines - _LINES_IN_OUTAGE) > 0:
                self.note(f"{name:<9} | {left:,} more lines while the database did not answer are left out")


@contextmanager
def open_log(home: Path) -> Generator[ServiceLog]:
    """`hl.log` in `home`, which is added to."""
    path = home / "hl.log"
    with path.open("a") as file:
        yield ServiceLog(file, path)


def hush_attempts() -> None:
    """Keep off the terminal what Dagster's library says of each attempt to connect, in this process: that the database is away is
    said once, by who watches it.
    """
    logging.getLogger().addFilter(lambda record: not record.getMessage().startswith(_ATTEMPT))


def is_warning(line: str) -> bool:
    """Whether a line of a service is for the terminal too: a warning or an error that is not of a run."""
    return bool(_WARNING.search(line)) and not _OF_RUN.search(line) and not _HARMLESS.search(line)
