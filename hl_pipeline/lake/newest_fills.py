"""Finds the newest fills in files of the lake: compacted days, or hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow.dataset as ds
from pyarrow import fs as pa_fs

from hl_pipeline.lake.compacted_fills import SCHEMA
from hl_pipeline.lake.store import Lake

_MEMORY = "1GB"
_FILTERS = ("wallet", "coin")


def read_newest_fills(
    lake: Lake, paths: Sequence[str], columns: Sequence[str], equal_to: Mapping[str, str | None], limit: int
) -> list[tuple[Any, ...]]:
    """Return `columns` of the newest fills in `paths` (relative to the lake), in the order of `show_queries.FILLS`.

    `equal_to`: wallet and coin that the fills must have; None: any. Raises OSError with DuckDB's message.
    """
    wanted = {name: value for name, value in equal_to.items() if name in _FILTERS and value is not None}
    where = " AND ".join(f"{name} = ${name}" for name in wanted) or "true"
    with duckdb.connect(config={"memory_limit": _MEMORY, "autoinstall_known_extensions": "false"}) as engine:
        engine.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        # Columns that an earlier version did not write are NULL.
        engine.register("none", SCHEMA.empty_table())
        if lake.is_local:
            source = "read_parquet($files, union_by_name = true, hive_partitioning = false)"
            parameters = {**wanted, "files": [f"{lake.root}/{path}" for path in paths]}
        else:
            # DuckDB's wheel reads no S3, and extensions are never downloaded.
            assert isinstance(lake.filesystem, pa_fs.FileSystem)
            files = [f"{lake.root}/{path}" for path in paths]
            engine.register("files", ds.dataset(files, SCHEMA, format="parquet", filesystem=lake.filesystem))
            source, parameters = "files", wanted
        query = (
            f"SELECT {', '.join(columns)} FROM (SELECT * FROM none UNION ALL BY NAME SELECT * FROM {source}) WHERE {where} "
            "ORDER BY time DESC, tid NULLS LAST, coin, wallet, side, oid NULLS LAST, object, ordinal "
            f"LIMIT {limit}"
        )
        try:
            return engine.execute(query, parameters).fetchall()
        except duckdb.Error as error:
            raise OSError(str(error)) from error
