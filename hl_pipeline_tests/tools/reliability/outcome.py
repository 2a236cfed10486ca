"""What a check of reliability returns, and what all of them need. No check belongs here."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from hl_pipeline_tests.tools.compare_database import compare_databases
from hl_pipeline_tests.tools.compare_lake import compare_lakes

NewDatabase = Callable[[], str]


@dataclass(slots=True)
class Outcome:
    """The result of a check. `measured`: figures in words. `wrong`: a line for each case that ended wrong."""

    what: str
    cases: int = 0
    measured: str = ""
    wrong: list[str] = field(default_factory=list[str])
    seconds: float = 0.0


@contextmanager
def timed(what: str) -> Generator[Outcome]:
    """Yield the outcome of a check to be filled in. Its seconds are those of the block."""
    outcome, started = Outcome(what), time.monotonic()
    yield outcome
    outcome.seconds = time.monotonic() - started


@dataclass(frozen=True, slots=True)
class Installed:
    """A database and the directory of its lake."""

    database_url: str
    lake: Path


def find_differences(left: Installed, right: Installed) -> list[str]:
    """Compare every table of schema hl and every file of the lake. Returns a line for each kind of difference."""
    compared = [*compare_databases(left.database_url, right.database_url, 1), *compare_lakes(left.lake, right.lake, 1)]
    lines = [f"{item.place}: {of.what}: {of.count} {of.examples[:1]}" for item in compared for of in item.differences]
    return [*lines, *(f"left behind: {path}" for path in right.lake.rglob(".*") if path.is_file())]


def drop_database(url: str) -> None:
    """Drop a database that is no longer needed: hundreds of them would fill the disk."""
    name = str(conninfo_to_dict(url)["dbname"])
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
