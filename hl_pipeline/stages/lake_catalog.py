"""Opens the catalog of the lake's Iceberg tables, which is in the warehouse."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from hl_pipeline.lake.store import Lake
from hl_pipeline.warehouse.catalog_engine import catalog_engine

if TYPE_CHECKING:
    from hl_pipeline.lake.iceberg import Catalog


@contextmanager
def opened_catalog(connection: psycopg.Connection, lake: Lake) -> Generator[Catalog]:
    """Yield the catalog of the lake's tables, in the database of `connection`."""
    # Imported here: pyiceberg takes a second, and most processes do not need it.
    from hl_pipeline.lake.iceberg import open_catalog

    engine = catalog_engine(connection)
    try:
        yield open_catalog(engine, lake)
    finally:
        engine.dispose()
