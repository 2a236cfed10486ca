"""Readers of a day of fills that run in processes of their own, and write down what each read saw.

Each reads as the docs say: the Iceberg table, the files of its current snapshot, and the hours by the function of the docs.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import count
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import make_url

from hl_pipeline.lake.store import open_lake
from hl_pipeline.stages.lake_tables import files_as_of
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.documents import DOCS, blocks_of

_PAUSE_SECONDS = 0.2
_context = multiprocessing.get_context("spawn")

State = tuple[int, Decimal]
"""What a version of a day is known by: the number of its fills, and the exact sum of their notional."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a read saw: a state, or why it failed. `how`: the reader, and the engine."""

    how: str
    state: State | None
    failure: str


@dataclass(frozen=True, slots=True)
class Source:
    """The lake's directory, the database and the day that are read."""

    lake: str
    database_url: str
    day: date


Look = Callable[[Source], State]


def state_of(products: Iterable[Decimal]) -> State:
    """Return the state of fills by their notional."""
    each = [*products]
    return len(each), sum(each, Decimal(0))


def _table(source: Source) -> Any:
    """Open the table as docs/guides/engines.md does."""
    uri = make_url(source.database_url).set(drivername="postgresql+psycopg")
    uri = uri.update_query_dict({"options": "-csearch_path=hl_iceberg"})
    catalog = SqlCatalog("hl", uri=uri.render_as_string(hide_password=False), init_catalog_tables="false")
    return catalog.load_table("hl.fills")


def _files(source: Source) -> list[str]:
    return [task.file.file_path.removeprefix("file://") for task in _table(source).scan().plan_files()]


def _listed(source: Source) -> list[str]:
    """Return what `hl lake files` prints."""
    with connect(source.database_url, "reader") as connection:
        return files_as_of(connection, open_lake(source.lake), None, ["fills"])["fills"]


def _ask_duckdb(columns: str, files: Sequence[str]) -> list[tuple[Any, ...]]:
    with duckdb.connect(config={"threads": 1}) as engine:
        return engine.execute(f"SELECT {columns} FROM read_parquet($1)", [files]).fetchall()


def _by_iceberg(source: Source) -> State:
    return state_of(_table(source).scan(selected_fields=("notional",)).to_arrow()["notional"].to_pylist())


def _by_polars_iceberg(source: Source) -> State:
    return state_of(pl.scan_iceberg(_table(source)).select("notional").collect()["notional"])


def _files_by_duckdb(source: Source) -> State:
    return state_of(value for (value,) in _ask_duckdb("notional", _files(source)))


def _files_by_polars(source: Source) -> State:
    return state_of(pl.scan_parquet(_listed(source)).select("notional").collect()["notional"])


def _products(rows: Iterable[tuple[Decimal, Decimal]]) -> State:
    return state_of(px * sz for px, sz in rows)


def _hours(source: Source, query: Callable[[list[str]], list[tuple[Any, ...]]]) -> State:
    [code] = [block.text for block in blocks_of(DOCS / "concepts/lake-at-rest.md") if block.language == "python"]
    names: dict[str, Any] = {}
    exec(code, names)
    return _products(names["read_day"](Path(source.lake), f"date={source.day}", query))


def _hours_by_duckdb(source: Source) -> State:
    return _hours(source, lambda files: _ask_duckdb("px, sz", files))


def _hours_by_polars(source: Source) -> State:
    return _hours(source, lambda files: pl.scan_parquet(files).select("px", "sz").collect().rows())


READERS: dict[str, tuple[Look, ...]] = {
    "iceberg": (_by_iceberg, _by_polars_iceberg),
    "files": (_files_by_duckdb, _files_by_polars),
    "hours": (_hours_by_duckdb, _hours_by_polars),
}


def _read(name: str, source: Source, found: Path, done: Event, ready: Event) -> None:
    with found.open("w", encoding="utf-8") as file:
        for number in count():
            look = READERS[name][number % len(READERS[name])]
            try:
                rows, notional = look(source)
                seen = [f"{name} {look.__name__}", [rows, str(notional)], ""]
            except Exception as error:  # noqa: BLE001 - whatever a reader meets is a failure
                seen = [f"{name} {look.__name__}", None, repr(error)]
            file.write(json.dumps(seen) + "\n")
            file.flush()
            if number >= len(READERS[name]):
                ready.set()
            if done.wait(_PAUSE_SECONDS):
                return


@contextmanager
def reading(source: Source, directory: Path) -> Generator[Callable[[], dict[str, list[Seen]]]]:
    """Run the readers, each in its own process. The function yielded stops them and returns what each saw, in order."""
    done = _context.Event()
    ready = {name: _context.Event() for name in READERS}
    paths = {name: directory / f"{name}.jsonl" for name in READERS}
    readers = [_context.Process(target=_read, args=(name, source, paths[name], done, ready[name])) for name in READERS]
    for reader in readers:
        reader.start()

    def stop() -> dict[str, list[Seen]]:
        done.set()
        for reader in readers:
            reader.join(60)
        assert [reader.exitcode for reader in readers] == [0] * len(readers)
        return {name: [_seen(line) for line in path.read_text().splitlines()] for name, path in paths.items()}

    try:
        for event in ready.values():
            assert event.wait(60), "a reader has not begun"
        yield stop
    finally:
        done.set()
        for reader in readers:
            reader.join(60)
            reader.kill()


def _seen(line: str) -> Seen:
    how, state, failure = json.loads(line)
    return Seen(how, None if state is None else (state[0], Decimal(state[1])), failure)
