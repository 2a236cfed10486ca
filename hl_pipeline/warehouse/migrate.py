"""Schema migrations, by Alembic: `migrations/versions/`. One process at a time, under an advisory lock."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

_LOCK = 7_281_001


def migrate(url: str, revision: str = "head", *, down: bool = False) -> None:
    """Bring the schema `hl` at `url` up (or `down`) to `revision` (`base`: nothing is left). Does nothing when it is there."""
    _, _, address = url.partition("://")
    engine = create_engine(f"postgresql+psycopg://{address}", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS hl"))
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)
        connection.commit()
