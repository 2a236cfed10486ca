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


def run_query(lake: Lake, query: str, views: Mapping[str, Sequence[str]]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one query with a view for each list of Parquet files. Returns its columns and rows."""
    with duckdb.connect(config={"memory_limit": _MEMORY, "autoinstall_known_extensions": "false"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        if lake.is_local:
            connection.execute("SET allowed_paths = $paths", {"paths": [path for files in views.values() for path in files]})
        for name, files in views.items():
            _add_view(connection, lake, name, files)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            found = connection.execute(query)
            return [column[0] for column in found.description or []], found.fetchall()
        except duckdb.Error as error:
            raise QueryError(str(error)) from error


def _add_view(connection: duckdb.DuckDBPyConnection, lake: Lake, name: str, files: Sequence[str]) -> None:
    if lake.is_local:
        paths = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
        connection.execute(f'CREATE VIEW "{name}" AS SELECT * FROM read_parquet([{paths}], hive_partitioning = false)')
        return
    # DuckDB's wheel reads no S3, and extensions are never downloaded.
    assert isinstance(lake.filesystem, pa_fs.FileSystem)
    connection.register(name, ds.dataset([*files], format="parquet", filesystem=lake.filesystem))
