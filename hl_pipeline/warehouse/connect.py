"""Connections to the database: where it is, what a session is set to, and what to do when it is not there. No SQL of tables."""

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
    # Every name of ours has its schema; those of PostgreSQL are its own, whatever else is called so.
    "search_path": "pg_catalog, pg_temp",
}
"""What our statements and the driver rely on, whatever server, database, role and URL say. Their other settings are heeded."""


class NoDatabaseError(RuntimeError):
    """There is no database to connect to. The message says what to do."""


_Result = TypeVar("_Result")
_LOOK_SECONDS = 0.1
_CONNECT_SECONDS = 10
_PIN = sql.SQL("SELECT {}").format(
    sql.SQL(", ").join(sql.SQL("set_config({}, {}, false)").format(name, setting) for name, setting in SESSION.items())
)
_PROBES, _ROUNDS = 3, 3
_READER = "hl_reader"
_MAY_READ_ONLY = "SELECT pg_has_role(rolname, 'SET') FROM pg_roles WHERE rolname = 'hl_reader'"
_COPYING = {ExecStatus.COPY_IN, ExecStatus.COPY_OUT}  # what is being copied is ended by psycopg


class _Connection(psycopg.Connection[TupleRow]):
    """Ends the command in whose midst it is interrupted, as psycopg does at KeyboardInterrupt, and not always: Dagster's
    interruption is another. Else the next command fails, and its error hides that there was an interruption.
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
            # The server is out of reach; that is not to hide the interruption either.
            self.close()
            return
        # Not by the generator that was waited for: it is at its end where the interruption met its own code.
        while (result := self.pgconn.get_result()) is not None and result.status not in _COPYING:
            pass


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


def find_read_only_url(settings: Settings) -> str:
    """As `find_database_url`, of sessions that only read: with the role hl_reader, which may nothing else, where it can be taken.

    Raises NoDatabaseError.
    """
    url = find_database_url(settings)
    with connect(url, "hl url") as connection:
        row = connection.execute(_MAY_READ_ONLY).fetchone()
    return read_only_url(url, _READER if row == (True,) else None)


def find_dagster_url(settings: Settings) -> str:
    """The URL of Dagster's own database. Raises NoDatabaseError as find_database_url does."""
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
    """A connection in autocommit mode, set to SESSION. Raises NoDatabaseError when the server does not answer, is too old or a
    replica, or is a pooler that shares its sessions.
    """
    try:
        parse_url(url)
        connection = _Connection.connect(url, autocommit=True, application_name=application, connect_timeout=_CONNECT_SECONDS)
    except (BadUrlError, psycopg.Error) as error:
        raise _cannot_connect(url, error) from error
    try:
        if connection.info.server_version < OLDEST_POSTGRES * 10000:
            version = connection.info.parameter_status("server_version")
            raise NoDatabaseError(f"{hide_password(url)} is PostgreSQL {version}; {OLDEST_POSTGRES} or newer is needed")
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
    """Set a session to SESSION. By a statement: not every pooler takes settings when it is connected to."""
    connection.execute(_PIN)


def ensure_database(url: str) -> None:
    """Create the database that `url` names if the server lacks it. Raises NoDatabaseError when that may not be, or as connect."""
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
    """Create the database if it is not there. The text of `refused`, why nobody could connect to it, is in the server's language,
    and libpq gives no SQLSTATE of it: so the catalogue is asked. Raises NoDatabaseError, with `refused` where that is the cause.
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
        # Two at once meet in the catalogue's index.
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return
        except psycopg.Error as error:
            raise NoDatabaseError(
                f"the database {name} is not there and could not be made ({str(error).strip()}): run CREATE DATABASE {name}, or "
                "set HL_DAGSTER_DATABASE_URL to one that is there"
            ) from error


def _refuse_shared_sessions(connection: psycopg.Connection, url: str) -> None:
    """Raises NoDatabaseError when the connection leads to a pooler in transaction mode."""
    [(session,)] = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchall()
    # PostgreSQL itself says the same number when it is connected to; a pooler makes one up.
    if session != connection.info.backend_pid and _shares_sessions(url):
        raise NoDatabaseError(
            f"{hide_password(url)} is a pooler in transaction mode: each transaction may get another session of PostgreSQL. The "
            "pipeline and Dagster need a session of their own for locks, settings, prepared statements and LISTEN: set "
            "HL_DATABASE_URL (and HL_DAGSTER_DATABASE_URL) to PostgreSQL itself, or to a pooler in session mode. The API works "
            "through this one (HL_API_DATABASE_URL)"
        )


def _refuse_standby(connection: psycopg.Connection, url: str) -> None:
    """Raises NoDatabaseError when the server is a replica, which takes no writes."""
    if connection.info.parameter_status("in_hot_standby") == "on":
        raise NoDatabaseError(
            f"{hide_password(url)} is a replica, which can only be read, and hl writes: set HL_DATABASE_URL (and "
            "HL_DAGSTER_DATABASE_URL) to its primary. The API can read the replica (HL_API_DATABASE_URL)"
        )


@cache
def _shares_sessions(url: str) -> bool:
    """Whether clients of a pooler that stay connected meet in one session, or one of them is moved to another."""
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
