"""Connects to the database: its URL, session settings, and errors with advice. No queries on tables."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache
from typing import TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import TupleRow

from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.embedded import embedded_url, running_url
from hl_pipeline.warehouse.urls import BadUrlError, database_of, hide_password, parse_url, read_only_url, with_database

OLDEST_POSTGRES = 16

SESSION = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    # Our statements name their schema, and PostgreSQL's own names must not be shadowed by others.
    "search_path": "pg_catalog, pg_temp",
}
"""Session settings that our statements and the driver rely on. They override those of server, database, role and URL."""


_KEEPALIVES = {"tcp_keepalives_idle": "15", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
# By default the server keeps the session of a machine that is cut off, and its locks, for two hours. A socket ignores them.


class NoDatabaseError(RuntimeError):
    """There is no database to connect to. The message says what to do."""


_Result = TypeVar("_Result")
_LOOK_SECONDS = 0.1
_CONNECT_SECONDS = 10
_PIN = sql.SQL("SELECT {}").format(
    sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, false)").format(name, setting) for name, setting in {**SESSION, **_KEEPALIVES}.items()
    )
)
_PROBES, _ROUNDS = 3, 3
_READER = "hl_reader"
_MAY_READ_ONLY = "SELECT pg_has_role(rolname, 'SET') FROM pg_roles WHERE rolname = 'hl_reader'"
_COPYING = {ExecStatus.COPY_IN, ExecStatus.COPY_OUT}  # psycopg ends a running COPY


class _Connection(psycopg.Connection[TupleRow]):
    """A connection that ends its current command on any interruption. psycopg does so only for KeyboardInterrupt, but Dagster
    raises another exception. Without this, the next command fails, and its error hides the interruption.
    """

    def wait(self, gen: PQGen[_Result], interval: float = _LOOK_SECONDS, timeout: float | None = None) -> _Result:
        try:
            return super().wait(gen, interval, timeout)
        except Exception:
            raise
        except BaseException:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self._end_command()
            raise

    def _end_command(self) -> None:
        try:
            self.cancel_safe(timeout=5)
        except psycopg.Error:
            # The server cannot be reached. This error must not hide the interruption either.
            self.close()
            return
        # Not through the awaited generator: it is finished if the interruption was raised inside it.
        while (result := self.pgconn.get_result()) is not None and result.status not in _COPYING:
            pass


def find_database_url(settings: Settings) -> str:
    """Return the URL of the data's database. Raises NoDatabaseError if none is set and none is running."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    if (url := running_url(settings.home)) is None:
        raise NoDatabaseError(
            f"no PostgreSQL is running in HL_HOME ({settings.home.absolute()}) and HL_DATABASE_URL is not set: "
            "run `hl up` and leave it running, or set HL_DATABASE_URL"
        )
    return url


def find_read_only_url(settings: Settings) -> str:
    """Return the URL of the data's database for read-only sessions, with the role hl_reader if it can be used.

    Raises NoDatabaseError.
    """
    url = find_database_url(settings)
    with connect(url, "hl url") as connection:
        row = connection.execute(_MAY_READ_ONLY).fetchone()
    return read_only_url(url, _READER if row == (True,) else None)


def find_dagster_url(settings: Settings) -> str:
    """Return the URL of Dagster's database. Raises NoDatabaseError like find_database_url."""
    if settings.dagster_database_url is not None:
        return settings.dagster_database_url.get_secret_value()
    if settings.database_url is None:
        find_database_url(settings)
        return embedded_url(settings.home, "hl_dagster")
    url = settings.database_url.get_secret_value()
    try:
        return with_database(url, f"{database_of(url)}_dagster")
    except BadUrlError as error:
        raise _cannot_connect(url, error) from error


def connect(url: str, application: str = "hl") -> psycopg.Connection:
    """Open a connection in autocommit mode with the settings of SESSION. Raises NoDatabaseError if the server does not answer, is
    too old, is a replica, or is a pooler that shares sessions.
    """
    try:
        parse_url(url)
        connection = _Connection.connect(url, autocommit=True, application_name=application, connect_timeout=_CONNECT_SECONDS)
    except (BadUrlError, psycopg.Error) as error:
        raise _cannot_connect(url, error) from error
    try:
        if connection.info.server_version < OLDEST_POSTGRES * 10000:
            version = connection.info.parameter_status("server_version")
            raise NoDatabaseError(f"{hide_password(url)} is PostgreSQL {version}; hl-pipeline needs {OLDEST_POSTGRES} or newer")
        _refuse_shared_sessions(connection, url)
        _refuse_standby(connection, url)
        pin_session(connection)
    except psycopg.Error as error:
        connection.close()
        raise _cannot_connect(url, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def pin_session(connection: psycopg.Connection) -> None:
    """Apply SESSION to a session. By a statement, because not every pooler accepts settings in the connection URL."""
    connection.execute(_PIN)


def ensure_database(url: str) -> None:
    """Create the database that `url` names if it does not exist. Raises NoDatabaseError if it may not, or like connect."""
    try:
        name = database_of(url)
    except BadUrlError as error:
        raise _cannot_connect(url, error) from error
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=_CONNECT_SECONDS) as connection:
            _refuse_shared_sessions(connection, url)
            _refuse_standby(connection, url)
    except psycopg.Error as error:
        _create_database(url, name, error)


def _create_database(url: str, name: str, refused: psycopg.Error) -> None:
    """Create the database if the catalogue does not have it. `refused`, the error of connecting to it, is in the server's
    language and has no SQLSTATE, so it does not show the reason. Raises NoDatabaseError, with `refused` if the database exists.
    """
    try:
        connection = psycopg.connect(with_database(url, "postgres"), autocommit=True, connect_timeout=_CONNECT_SECONDS)
    except psycopg.Error:
        raise _cannot_connect(url, refused) from refused
    with connection:
        try:
            if connection.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", [name]).fetchone() is not None:
                raise _cannot_connect(url, refused) from refused
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        # Two processes at once conflict in the catalogue's index.
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return
        except psycopg.Error as error:
            raise NoDatabaseError(
                f"the database {name} does not exist and could not be created ({str(error).strip()}): run CREATE DATABASE {name} "
                "or set HL_DAGSTER_DATABASE_URL to an existing one"
            ) from error


def _refuse_shared_sessions(connection: psycopg.Connection, url: str) -> None:
    """Raise NoDatabaseError if the connection leads to a pooler in transaction mode."""
    [(session,)] = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchall()
    # PostgreSQL itself sends the same number at connection; a pooler makes one up.
    if session != connection.info.backend_pid and _shares_sessions(url):
        raise NoDatabaseError(
            f"{hide_password(url)} is a pooler in transaction mode: each transaction may get another session of PostgreSQL. The "
            "pipeline and Dagster need a permanent session for locks, settings, prepared statements and LISTEN: set "
            "HL_DATABASE_URL (and HL_DAGSTER_DATABASE_URL) to PostgreSQL itself, or to a pooler in session mode. The API can use "
            "this pooler (HL_API_DATABASE_URL)"
        )


def _refuse_standby(connection: psycopg.Connection, url: str) -> None:
    """Raise NoDatabaseError if the server is a replica, which accepts no writes."""
    if connection.info.parameter_status("in_hot_standby") == "on":
        raise NoDatabaseError(
            f"{hide_password(url)} is a read-only replica, but hl writes: set HL_DATABASE_URL (and "
            "HL_DAGSTER_DATABASE_URL) to its primary. The API can read the replica (HL_API_DATABASE_URL)"
        )


@cache
def _shares_sessions(url: str) -> bool:
    """Return whether two connected clients of a pooler share a session, or one is moved to another session."""
    with ExitStack() as opened:
        clients = [
            opened.enter_context(psycopg.connect(url, autocommit=True, connect_timeout=_CONNECT_SECONDS)) for _ in range(_PROBES)
        ]
        sessions: list[set[int]] = [set() for _ in clients]
        for _ in range(_ROUNDS):
            for client, own in zip(clients, sessions, strict=True):
                own.update(pid for (pid,) in client.execute("SELECT pg_catalog.pg_backend_pid()"))
    return sum(map(len, sessions)) > _PROBES or len(set.union(*sessions)) < _PROBES


def _cannot_connect(url: str, error: Exception) -> NoDatabaseError:
    return NoDatabaseError(f"cannot connect to {hide_password(url)}: {str(error).strip()}")
