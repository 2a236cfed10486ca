"""Schema migrations with Alembic (`migrations/versions/`): one process at a time, by an advisory lock, all in one transaction.

Alembic and SQLAlchemy are imported only if there is something to migrate, which saves half a second otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from hl_pipeline.events import emit
from hl_pipeline.warehouse.connect import connect, pin_session
from hl_pipeline.warehouse.locks import Lock
from hl_pipeline.warehouse.urls import hide_password, url_for_sqlalchemy

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

_log = logging.getLogger(__name__)
_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK_SECONDS = 30
_EXISTS = "SELECT to_regclass('hl.alembic_version') IS NOT NULL"
_REVISION = """
SELECT (SELECT version_num FROM hl.alembic_version), obj_description('hl.alembic_version'::regclass, 'pg_class')
"""
_HAS_ROWS = "SELECT EXISTS (SELECT FROM {})"


class SchemaError(RuntimeError):
    """This program cannot use the current schema. The message names both versions and says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration of `migrations/versions`: a summary, and the large tables whose rows it rewrites."""

    revision: str
    summary: str
    rewrites: tuple[str, ...]


@cache
def list_revisions() -> list[str]:
    """Return the revisions of all migrations of this version, oldest first: the four digits that begin each file name."""
    return sorted(path.name[:4] for path in (_SCRIPTS / "versions").glob("[0-9]*.py"))


@cache
def list_migrations() -> list[Migration]:
    """Return all migrations of this version, oldest first."""
    from alembic.script import ScriptDirectory

    scripts = reversed(list(ScriptDirectory.from_config(_config()).walk_revisions()))
    return [Migration(one.revision, one.doc, getattr(one.module, "REWRITES", ())) for one in scripts]


def newest_revision() -> str:
    """Return the revision that this version needs."""
    return list_revisions()[-1]


def read_revision(connection: psycopg.Connection[TupleRow]) -> str | None:
    """Return the schema's revision, or None without a schema. Raises SchemaError if a newer version created it."""
    [(exists,)] = connection.execute(_EXISTS).fetchall()
    if not exists:
        return None
    [(revision, made_by)] = connection.execute(_REVISION).fetchall()
    _refuse_newer(revision, made_by, connection.info.dbname)
    return revision


def pending(revision: str | None, target: str | None = None) -> list[Migration]:
    """Return the migrations after `revision` up to `target` (default: newest), in order. All revisions have four digits."""
    last = target or newest_revision()
    return [one for one in list_migrations() if (revision or "") < one.revision <= last] if (revision or "") < last else []


def ensure_schema(url: str) -> None:
    """Migrate the schema at `url` if that is quick.

    Raises SchemaError if a newer version created it, or if a large table would be rewritten, which only `hl upgrade` does.
    """
    with connect(url, "hl migrate") as connection:
        revision = read_revision(connection)
        steps = pending(revision)
        if not steps:
            return
        slow = {one.revision: table for one in steps for table in one.rewrites if _has_rows(connection, table)}
    if slow:
        found = ", ".join(f"{number} rewrites every row of {table}" for number, table in slow.items())
        raise SchemaError(
            f"the schema of {hide_password(url)} (migration {revision}) is older than hl-pipeline {version('hl-pipeline')}, "
            f"which needs {newest_revision()}; the migration takes a while ({found}): run `hl upgrade`, which estimates the time"
        )
    for number in migrate(url):
        emit(_log, "schema_migrated", migration=number)


def migrate(url: str, revision: str = "head", *, down: bool = False, done: Callable[[str], None] = lambda _: None) -> list[str]:
    """Migrate the schema `hl` at `url` up (or `down`) to `revision` (`base`: remove everything). Returns the revisions of the
    migrations in order. All succeed or nothing is changed. `done` is called with each.

    Raises SchemaError.
    """
    from alembic import command
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    engine = create_engine(url_for_sqlalchemy(url, "psycopg"), poolclass=NullPool)
    taken: list[str] = []

    def note(*, step: Any, **_: object) -> None:
        taken.append(step.up_revision_id)
        done(step.up_revision_id)

    with engine.connect() as connection:
        driver = cast("psycopg.Connection[TupleRow]", connection.connection.driver_connection)
        pin_session(driver)
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": Lock.MIGRATION.value})
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS hl"))
        read_revision(driver)
        # A session that waits for a table lock blocks all later sessions.
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
        try:
            (command.downgrade if down else command.upgrade)(_config(connection, note), revision)
        except DBAPIError as error:
            if isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise SchemaError(
                    f"a table of {hide_password(url)} was in use for {_LOCK_SECONDS} s ({error.orig}): end the runs and queries "
                    "that use it (see pg_stat_activity), then run the same command again. Nothing was changed"
                ) from error
            raise
        if taken:
            mark = f"Migrated by hl-pipeline {version('hl-pipeline')}"
            driver.execute(sql.SQL("COMMENT ON TABLE hl.alembic_version IS {}").format(mark))
        connection.commit()
    return taken


def _config(connection: Connection | None = None, note: Callable[..., None] | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes.update(connection=connection, note=note)
    return config


def _has_rows(connection: psycopg.Connection[TupleRow], table: str) -> bool:
    [(exists,)] = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchall()
    return exists and connection.execute(_HAS_ROWS.format(table).encode()).fetchall() == [(True,)]


def _refuse_newer(revision: str | None, made_by: str | None, database: str) -> None:
    """Raise SchemaError if this version does not know the schema's revision."""
    if revision is None or revision in list_revisions():
        return
    maker = (made_by or "").removeprefix("Migrated by ") or "a newer hl-pipeline"
    raise SchemaError(
        f"the schema hl of the database {database} is at migration {revision}, made by {maker}; this is hl-pipeline "
        f"{version('hl-pipeline')}, which supports migrations up to {newest_revision()}. Use the newer version, or use it to "
        f"undo its migrations: `hl upgrade --to {newest_revision()}`"
    )
