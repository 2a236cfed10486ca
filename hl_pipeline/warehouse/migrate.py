"""Schema migrations, by Alembic: `migrations/versions/`. One process at a time, under an advisory lock."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from hl_pipeline.warehouse.connect import pin_session
from hl_pipeline.warehouse.locks import Lock
from hl_pipeline.warehouse.urls import url_for_sqlalchemy


def migrate(url: str, revision: str = "head", *, down: bool = False) -> None:
    """Bring the schema `hl` at `url` up (or `down`) to `revision` (`base`: nothing is left). Does nothing when it is there."""
    engine = create_engine(url_for_sqlalchemy(url, "psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        pin_session(cast(psycopg.Connection, connection.connection.driver_connection))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": Lock.MIGRATION.value})
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS hl"))
        config = _make_config()
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)
        connection.commit()


def list_revisions() -> list[str]:
    """The revisions of the schema that this version knows, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_make_config()).walk_revisions()][::-1]


def _make_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
