"""Connects SQLAlchemy to the schema hl_iceberg, where pyiceberg keeps the catalog of the lake's tables. No queries here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.urls import build_url

if TYPE_CHECKING:
    from sqlalchemy import Engine


def catalog_engine(connection: psycopg.Connection) -> Engine:
    """Return an engine on the database of `connection`, with hl_iceberg as its only schema. It holds one connection at most.

    Its connections are made like all others: a pooler in transaction mode is refused.
    """
    # Imported here: it takes half a second.
    from sqlalchemy import create_engine
    from sqlalchemy.pool import QueuePool

    url = build_url(connection.info.get_parameters() | {"password": connection.info.password})

    def open_session() -> psycopg.Connection:
        session = connect(url, "hl catalog")
        # By a statement, because not every pooler accepts settings in the URL.
        session.execute("SELECT set_config('search_path', 'hl_iceberg, pg_catalog, pg_temp', false)")
        session.autocommit = False
        return session

    return create_engine("postgresql+psycopg://", creator=open_session, poolclass=QueuePool, pool_size=1, max_overflow=0)
