"""Runs SQL of the user on files of the lake, in DuckDB. It can read these files, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow.dataset as ds
from pyarrow import fs as pa_fs

from hl_pipeline.lake.store import Lake

_MEMORY = "2GB"


class QueryError(ValueError):
    """DuckDB refuses the query. The message is DuckDB's."""


class UnreadableFileError(RuntimeError):
    """A file of the lake is missing or damaged. The message names it."""


def run_query(lake: Lake, query: str, views: Mapping[str, Sequence[str]]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one query with a view for each list of Parquet files. Returns its columns and rows.

    Raises QueryError for a wrong query, and UnreadableFileError if it met a file that cannot be read.
    """
    with duckdb.connect(config={"memory_limit": _MEMORY, "autoinstall_known_extensions": "false"}) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        if lake.is_local:
            connection.execute("SET allowed_paths = $paths", {"paths": [path for files in views.values() for path in files]})
        try:
            for name, files in views.items():
                _add_view(connection, lake, name, files)
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            found = connection.execute(query)
            return [column[0] for column in found.description or []], found.fetchall()
        except (duckdb.Error, OSError) as error:
            message = str(error)
            files = sorted((path for of_view in views.values() for path in of_view), key=lambda path: path not in message)
            if _may_be_of_file(error, files):
                _require_readable(lake, files)
            raise QueryError(message) from error


def _may_be_of_file(error: Exception, files: Sequence[str]) -> bool:
    """Return whether a file may be at fault. A wrong query has errors of other types, or messages without a word of files."""
    if isinstance(error, OSError | duckdb.IOException) or type(error) is duckdb.Error:
        return True
    return isinstance(error, duckdb.InvalidInputException) and (
        "arquet" in str(error) or any(path in str(error) for path in files)
    )


def _require_readable(lake: Lake, files: Sequence[str]) -> None:
    """Read files whole, one after the other. Raises UnreadableFileError, and QueryError if that needs too much memory."""
    for path in files:
        with duckdb.connect(config={"memory_limit": _MEMORY, "autoinstall_known_extensions": "false"}) as connection:
            try:
                _add_view(connection, lake, "file", [path])
                connection.execute("SELECT bit_xor(hash(file)) FROM file").fetchall()
            except duckdb.OutOfMemoryException as error:
                raise QueryError(str(error)) from error
            except (duckdb.Error, OSError) as error:
                raise UnreadableFileError(f"{path} is missing or damaged: {' '.join(str(error).split())}") from error


def _add_view(connection: duckdb.DuckDBPyConnection, lake: Lake, name: str, files: Sequence[str]) -> None:
    if lake.is_local:
        paths = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
        connection.execute(f'CREATE VIEW "{name}" AS SELECT * FROM read_parquet([{paths}], hive_partitioning = false)')
        return
    # DuckDB's wheel reads no S3, and extensions are never downloaded.
    assert isinstance(lake.filesystem, pa_fs.FileSystem)
    connection.register(name, ds.dataset([*files], format="parquet", filesystem=lake.filesystem))
