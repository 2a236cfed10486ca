"""Connections to the database: where it is, and what to do when it is not there. No SQL of tables."""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.embedded import embedded_url, running_url

OLDEST_POSTGRES = 16


class NoDatabaseError(RuntimeError):
    """There is no database to connect to. The message says what to do."""


def find_database_url(settings: Settings) -> str:
    """The URL of the data's database. Raises NoDatabaseError when none is set and none is running."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    if (url := running_url(settings.home)) is None:
        raise NoDatabaseError(
            f"no PostgreSQL is running in HL_HOME ({settings.home.absolute()}) and HL_DATABASE_URL is not set: "
            "run `hl up` and leave it running, or set HL_DATABASE_URL"
        )
    return url


def find_dagster_url(settings: Settings) -> str:
    """The URL of Dagster's own database. Raises NoDatabaseError as find_database_url does."""
    if settings.dagster_database_url is not None:
        return settings.dagster_database_url.get_secret_value()
    if settings.database_url is None:
        find_database_url(settings)
        return embedded_url(settings.home, "hl_dagster")
    parts = urlsplit(settings.database_url.get_secret_value())
    return parts._replace(path=f"{parts.path or '/postgres'}_dagster").geturl()


def connect(url: str, application: str = "hl") -> psycopg.Connection:
    """A connection in autocommit mode, in UTC. Raises NoDatabaseError when the server does not answer or is too old."""
    try:
        connection = psycopg.connect(
            url, autocommit=True, application_name=application, connect_timeout=10, options="-c timezone=UTC"
        )
    except psycopg.OperationalError as error:
        raise NoDatabaseError(f"cannot connect to {hide_password(url)}: {str(error).strip()}") from error
    if connection.info.server_version < OLDEST_POSTGRES * 10000:
        version = connection.info.parameter_status("server_version")
        connection.close()
        raise NoDatabaseError(f"{hide_password(url)} is PostgreSQL {version}; {OLDEST_POSTGRES} or newer is needed")
    return connection


def ensure_database(url: str) -> None:
    """Create the database that `url` names if the server lacks it. Raises NoDatabaseError when that may not be."""
    parts = urlsplit(url)
    name = parts.path.removeprefix("/")
    try:
        psycopg.connect(url, connect_timeout=10).close()
        return
    except psycopg.OperationalError as error:
        if f'database "{name}" does not exist' not in str(error):
            raise NoDatabaseError(f"cannot connect to {hide_password(url)}: {str(error).strip()}") from error
    try:
        with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.errors.DuplicateDatabase:
        return
    except psycopg.Error as error:
        raise NoDatabaseError(
            f"the database {name} is not there and could not be made ({str(error).strip()}): run CREATE DATABASE {name}, or set "
            "HL_DAGSTER_DATABASE_URL to one that is there"
        ) from error


def hide_password(url: str) -> str:
    """`url` fit to be shown."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@", 1) if password else url
